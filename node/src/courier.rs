//! The courier of a node: it looks for messages that are due, and hands them to a mail
//! server or a gateway. Every node that has one does; the store decides who sends what.

pub mod smtp;

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use cardea_identity::{
    courier::{
        Carrier, Gateway, Mail, Template, Templates, Undelivered, gateway::default_body,
        template::Part,
    },
    language::Language,
    outbound::Outbound,
    schema::Channel,
};

use crate::{
    config::{
        Config,
        channels::ChannelTable,
        secret::{SecretText, read_text},
    },
    layers::Layers,
    request::{described, request},
};

/// How often a node looks for what others left, or what is due again.
const EVERY: Duration = Duration::from_secs(1);
/// The longest that a gateway may take: a claim of a message outlives it.
const GATEWAY_WITHIN_MAX: Duration = Duration::from_secs(30);

/// Who carries what.
#[derive(Default)]
pub struct Carriers {
    mails: Option<Box<dyn Carrier>>,
    texts: Option<Box<dyn Carrier>>,
}

impl std::fmt::Debug for Carriers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carriers")
            .field("mails", &self.mails.is_some())
            .field("texts", &self.texts.is_some())
            .finish()
    }
}

#[async_trait]
impl Carrier for Carriers {
    async fn carry(&self, mail: &Mail) -> Result<(), Undelivered> {
        let (carrier, lacks) = match mail.via {
            Channel::Email => (&self.mails, "neither a mail server nor a channel \"email\""),
            Channel::Sms => (&self.texts, "no channel \"sms\""),
        };
        match carrier {
            Some(carrier) => carrier.carry(mail).await,
            None => Err(Undelivered::Unreachable(format!("the configuration names {lacks}"))),
        }
    }
}

/// Whether a configuration says how mails go.
pub fn sends_mails(config: &Config) -> bool {
    config.courier.smtp_url.is_some() || has_channel(config, Channel::Email)
}

/// Whether a configuration says how text messages go.
pub fn sends_texts(config: &Config) -> bool {
    has_channel(config, Channel::Sms)
}

fn has_channel(config: &Config, channel: Channel) -> bool {
    config.tables.courier.channels.iter().any(|table| table.id == channel.name())
}

/// The carriers that a configuration names; `None` if it names none.
///
/// # Errors
/// If one of them is not what it may be, or its secrets or program cannot be read.
pub fn carriers(config: &Config, outbound: &Arc<dyn Outbound>) -> anyhow::Result<Option<Carriers>> {
    let mut carriers = Carriers::default();
    if let Some(smtp) = smtp(config)? {
        carriers.mails = Some(Box::new(smtp));
    }
    for (at, table) in config.tables.courier.channels.iter().enumerate() {
        let name = || format!("courier.channels[{at}] ({})", table.id);
        let place = match table.id.as_str() {
            "email" => &mut carriers.mails,
            "sms" => &mut carriers.texts,
            other => bail!("{}: id: expected \"email\" or \"sms\", found \"{other}\"", name()),
        };
        ensure!(
            place.is_none(),
            "{}: there is a way of these messages already; a message goes one way",
            name()
        );
        *place = Some(Box::new(gateway(config, table, outbound).with_context(name)?));
    }
    let has_one = carriers.mails.is_some() || carriers.texts.is_some();
    Ok(has_one.then_some(carriers))
}

fn smtp(config: &Config) -> anyhow::Result<Option<smtp::Smtp>> {
    let Some(url) = &config.courier.smtp_url else { return Ok(None) };
    let file = config.secrets.smtp_password_file.as_deref();
    let password: Option<SecretText> =
        read_text("smtp_password", file, |name| std::env::var(name).ok())?;
    let authority = config.courier.smtp_authority_file.as_ref().map(std::fs::read).transpose();
    let authority = authority.context("courier.smtp_authority_file cannot be read")?;
    let sender = smtp::Sender {
        address: config.courier.from_address.clone(),
        name: config.courier.from_name.clone(),
    };
    let options = smtp::SmtpOptions { url: url.clone(), password, authority, sender };
    smtp::Smtp::new(options).context("courier.smtp_url").map(Some)
}

fn gateway(
    config: &Config,
    table: &ChannelTable,
    outbound: &Arc<dyn Outbound>,
) -> anyhow::Result<Gateway> {
    if let Some(kind) = &table.kind {
        ensure!(
            kind == "http",
            "type: expected \"http\", found \"{kind}\"; a mail server is courier.smtp_url"
        );
    }
    let described = described!(table, &table.headers);
    let owner = format!("channel_{}", table.id);
    let request = request(config, &owner, &described, || Ok(default_body()?))?;
    ensure!(
        request.within <= GATEWAY_WITHIN_MAX,
        "timeout: at most {} s",
        GATEWAY_WITHIN_MAX.as_secs()
    );
    Ok(Gateway::new(request, outbound.clone()))
}

/// The included texts, with an operator's own in their place.
pub fn templates(config: &Config) -> anyhow::Result<Templates> {
    let mut templates = Templates::default();
    let Some(folder) = &config.courier.templates_dir else { return Ok(templates) };
    for template in Template::ALL {
        let languages = Language::ALL.map(Some).into_iter().chain([None]);
        for (part, language) in
            Part::ALL.into_iter().flat_map(|part| languages.clone().map(move |l| (part, l)))
        {
            let file = folder.join(template.folder()).join(part.file(language));
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).context(file.display().to_string()),
            };
            templates
                .replace(template, (part, language), text)
                .context(file.display().to_string())?;
        }
    }
    Ok(templates)
}

/// Sends what is due, until it is dropped.
pub async fn run(layers: Arc<Layers>, carriers: Carriers) {
    loop {
        let Some(service) = layers.service() else {
            tokio::time::sleep(EVERY).await;
            continue;
        };
        if let Err(error) = service.deliver_due(&carriers).await {
            // Nobody waits for an answer: the next round tries again.
            tracing::debug!(%error, "the courier could not look for messages");
        }
        let _ = tokio::time::timeout(EVERY, service.wait_for_post()).await;
    }
}

#[cfg(test)]
mod tests {
    use cardea_identity::outbound::NoWayOut;

    use super::*;
    use crate::config::{Sources, load};

    fn made(text: &str) -> anyhow::Result<Option<Carriers>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("cardea.toml");
        let least = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n";
        std::fs::write(dir.path().join("key"), "sesame\n")?;
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(dir.path().join("key"), mode)?;
        }
        std::fs::write(&file, format!("{least}\n{text}"))?;
        let loaded = load(Sources { file: Some(file), ..Sources::default() });
        let config = loaded.map_err(|refused| anyhow::anyhow!("{refused}"))?.config;
        let outbound: Arc<dyn Outbound> = Arc::new(NoWayOut);
        let made = carriers(&config, &outbound)?;
        assert_eq!(made.as_ref().is_some_and(|made| made.mails.is_some()), sends_mails(&config));
        assert_eq!(made.as_ref().is_some_and(|made| made.texts.is_some()), sends_texts(&config));
        Ok(made)
    }

    const SMS: &str = "[[courier.channels]]\nid = \"sms\"\nurl = \"https://sms.example/\"\n";

    #[test]
    fn channels_are_made_of_their_tables() {
        assert!(made("").unwrap().is_none());
        let made = made(&format!(
            "[courier]\nsmtp_url = \"smtps://mail.example\"\nfrom_address = \"a@b.example\"\n{SMS}\
             type = \"http\"\napi_key_name = \"authorization\"\napi_key_file = \"key\"\n\
             body = \"base64://ZnVuY3Rpb24oY3R4KSB7IHRvOiBjdHgucmVjaXBpZW50IH0=\"\n\
             headers = {{ content-type = \"application/x-www-form-urlencoded\" }}\n"
        ));
        let made = made.unwrap().unwrap();
        assert!(made.mails.is_some() && made.texts.is_some());
    }

    #[test]
    fn what_is_no_channel_is_refused_with_a_reason() {
        for (text, told) in [
            (SMS.replace("sms\"\n", "fax\"\n"), "expected \"email\" or \"sms\""),
            (format!("{SMS}{SMS}"), "a message goes one way"),
            (
                format!(
                    "[courier]\nsmtp_url = \"smtps://mail.example\"\n{}",
                    SMS.replace("sms\"\n", "email\"\n")
                ),
                "a message goes one way",
            ),
            (format!("{SMS}type = \"smtp\""), "type: expected"),
            (format!("{SMS}timeout = \"31s\""), "at most 30 s"),
            (format!("{SMS}urll = \"x\""), "urll"),
            (SMS.replace("https", "http"), "plain_http"),
            ("[[courier.channels]]\nid = \"sms\"\n".to_owned(), "url is missing"),
            (format!("{SMS}basic_user = \"u\""), "needs a password"),
            (format!("{SMS}headers = {{ idempotency-key = \"1\" }}"), "not to be set"),
            ("[courier]\nchannels = 3\n".to_owned(), "expected a sequence"),
        ] {
            let error = made(&text).expect_err(&text);
            assert!(format!("{error:#}").contains(told), "{text}: {error:#}");
        }
    }

    #[tokio::test]
    async fn what_no_channel_takes_waits_and_says_why() {
        let mail = Mail {
            id: uuid::Uuid::from_u128(1),
            via: Channel::Sms,
            template: Template::LoginCode,
            recipient: "+4930901820".to_owned(),
            subject: String::new(),
            text: "t".to_owned(),
            html: String::new(),
            model: Default::default(),
        };
        let refused = Carriers::default().carry(&mail).await.unwrap_err();
        assert!(matches!(refused, Undelivered::Unreachable(why) if why.contains("channel")));
    }
}
