//! Messages by SMTP, over TLS unless it is switched off in writing.
//!
//! `smtps://` begins with TLS (port 465), `smtp://` asks for it (STARTTLS, port 587)
//! and refuses a server that has none; `smtp://…?disable_starttls=true` speaks in the
//! clear. A user in the URL logs in with the password of `secrets.smtp_password_file`; its
//! `%40` is an `@`, as in every URL.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_trait::async_trait;
use cardea_identity::courier::{Carrier, Mail, Undelivered};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor,
    message::{Mailbox, MultiPart},
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, Tls, TlsParameters},
    },
};

use crate::config::secret::SecretText;

/// How long a server may take for one command.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Whom messages are from.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The address.
    pub address: String,
    /// The name beside it.
    pub name: Option<String>,
}

/// What a connection needs.
#[derive(Debug)]
pub struct SmtpOptions {
    /// Where the server is; see the [module](self).
    pub url: String,
    /// The password of the user in the URL.
    pub password: Option<SecretText>,
    /// An authority to trust beside the system's (PEM).
    pub authority: Option<Vec<u8>>,
    /// Whom messages are from.
    pub sender: Sender,
}

/// A mail server.
pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl std::fmt::Debug for Smtp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from).finish_non_exhaustive()
    }
}

/// A URL taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    encryption: Encryption,
    user: Option<String>,
    host: &'a str,
    port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    FromTheStart,
    AskedFor,
    Off,
}

impl Smtp {
    /// A server; nothing is sent to it yet.
    pub fn new(options: SmtpOptions) -> anyhow::Result<Self> {
        let place = Place::of(&options.url)?;
        let mut tls = TlsParameters::builder(place.host.to_owned());
        if let Some(pem) = &options.authority {
            let authority = Certificate::from_pem(pem).context("the authority is no PEM")?;
            tls = tls.add_root_certificate(authority);
        }
        let tls = || tls.build_rustls().context("TLS");
        let encryption = match place.encryption {
            Encryption::FromTheStart => Tls::Wrapper(tls()?),
            Encryption::AskedFor => Tls::Required(tls()?),
            Encryption::Off => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(place.host)
            .port(place.port)
            .tls(encryption)
            .timeout(Some(TIMEOUT));
        match (place.user, options.password) {
            (Some(user), Some(password)) => {
                let password = password.expose().to_string();
                builder = builder.credentials(Credentials::new(user, password));
            }
            (Some(_), None) => bail!(
                "names a user, and there is no password: name secrets.smtp_password_file, or set \
                 CARDEA_SECRET_SMTP_PASSWORD"
            ),
            (None, _) => {}
        }
        let address: Address = options
            .sender
            .address
            .parse()
            .with_context(|| format!("courier.from_address {:?}", options.sender.address))?;
        let from = Mailbox::new(options.sender.name, address);
        Ok(Self { transport: builder.build(), from })
    }

    fn message(&self, mail: &Mail) -> Result<Message, String> {
        let to: Address = mail.recipient.parse().map_err(|_| "no address".to_owned())?;
        // The same each time: a second sending is recognised by who receives it.
        let id = format!("<{}@{}>", mail.id, self.from.email.domain());
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(mail.subject.clone())
            .message_id(Some(id))
            .multipart(MultiPart::alternative_plain_html(mail.text.clone(), mail.html.clone()))
            .map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Carrier for Smtp {
    async fn carry(&self, mail: &Mail) -> Result<(), Undelivered> {
        let message = self.message(mail).map_err(Undelivered::Refused)?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            // A refused login or missing TLS is ours to mend, not the address's fault.
            Err(error) if error.is_permanent() && !is_about_us(&error) => {
                Err(Undelivered::Refused(error.to_string()))
            }
            Err(error) if error.status().is_none() => {
                Err(Undelivered::Unreachable(error.to_string()))
            }
            Err(error) => Err(Undelivered::Failed(error.to_string())),
        }
    }
}

/// Replies 530 to 538 are about authentication and encryption.
fn is_about_us(error: &lettre::transport::smtp::Error) -> bool {
    error.status().is_some_and(|code| code.to_string().starts_with("53"))
}

impl<'a> Place<'a> {
    fn of(url: &'a str) -> anyhow::Result<Self> {
        let (scheme, rest) = url.split_once("://").context("expected smtp:// or smtps://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let rest = rest.trim_end_matches('/');
        let encryption = match (scheme, query) {
            ("smtps", "") => Encryption::FromTheStart,
            ("smtp", "") => Encryption::AskedFor,
            ("smtp", "disable_starttls=true") => Encryption::Off,
            ("smtp" | "smtps", _) => bail!("\"{query}\" is not understood"),
            _ => bail!("expected smtp:// or smtps://"),
        };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                bail!("a password does not belong here; name secrets.smtp_password_file")
            }
            Some((user, place)) => (Some(decoded(user)?), place),
            None => (None, rest),
        };
        let bracketed = place.strip_prefix('[').and_then(|address| address.split_once(']'));
        let (host, port) = match (bracketed, place.split_once(':')) {
            (Some((address, "")), _) => (address, None),
            (Some((address, rest)), _) => {
                (address, Some(rest.strip_prefix(':').context("the port is no number")?))
            }
            (None, Some((host, port))) => (host, Some(port)),
            (None, None) => (place, None),
        };
        let port = match port {
            Some(port) => port.parse().context("the port is no number")?,
            None if encryption == Encryption::FromTheStart => 465,
            None => 587,
        };
        if host.is_empty() {
            bail!("names no host");
        }
        Ok(Self { encryption, user, host, port })
    }
}

/// The text of a part of a URL.
fn decoded(part: &str) -> anyhow::Result<String> {
    let mut pieces = part.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let escape = piece.split_at_checked(2);
        let escape = escape.filter(|(hex, _)| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let (hex, rest) = escape.context("the user has a % that stands for nothing: write %25")?;
        bytes.push(u8::from_str_radix(hex, 16)?);
        bytes.extend(rest.as_bytes());
    }
    String::from_utf8(bytes).context("the user is no UTF-8")
}

#[cfg(test)]
mod tests;
