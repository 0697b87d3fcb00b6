//! Requests as a configuration describes them, of web hooks and of gateways of messages:
//! checked, with secrets and programs read.

use std::{collections::BTreeMap, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_identity::{
    jsonnet::Program,
    outbound::{
        Verb,
        request::{Auth, Request, program},
    },
};
use cardea_storage::Secret;
use http::{HeaderName, HeaderValue};

use crate::config::{
    Config,
    secret::read_text,
    value::{FromRaw as _, Raw},
};

/// Headers that are ours to set.
const OURS: [&str; 9] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "idempotency-key",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "ory-webhook-trigger-id",
];

/// The part of a table that describes a request.
#[derive(Debug, Clone, Copy)]
pub struct RequestTable<'a> {
    /// Where it goes.
    pub url: Option<&'a str>,
    /// How it is asked; `POST` by default.
    pub verb: Option<&'a str>,
    /// Jsonnet that makes its body: `base64://…`, or a file.
    pub body: Option<&'a str>,
    /// How long it may take; by default `outbound.timeout`.
    pub timeout: Option<&'a str>,
    /// Headers beside those that are always sent.
    pub headers: &'a BTreeMap<String, String>,
    /// The user, where it asks for one.
    pub basic_user: Option<&'a str>,
    /// A file with that user's password.
    pub basic_password_file: Option<&'a Path>,
    /// The name of the header or cookie with our key.
    pub api_key_name: Option<&'a str>,
    /// `header` by default, or `cookie`.
    pub api_key_in: Option<&'a str>,
    /// A file with that key.
    pub api_key_file: Option<&'a Path>,
}

/// The part of a table that describes a request. Each kind of table has these fields of
/// its own: what is flattened into a table cannot refuse what it does not know.
macro_rules! described {
    ($table:expr, $headers:expr) => {
        $crate::request::RequestTable {
            url: $table.url.as_deref(),
            verb: $table.verb.as_deref(),
            body: $table.body.as_deref(),
            timeout: $table.timeout.as_deref(),
            headers: $headers,
            basic_user: $table.basic_user.as_deref(),
            basic_password_file: $table.basic_password_file.as_deref(),
            api_key_name: $table.api_key_name.as_deref(),
            api_key_in: $table.api_key_in.as_deref(),
            api_key_file: $table.api_key_file.as_deref(),
        }
    };
}
pub(crate) use described;

/// Reads a request; its secrets are called `<owner>_password` and `<owner>_api_key`.
pub fn request(
    config: &Config,
    owner: &str,
    table: &RequestTable<'_>,
    default_body: impl FnOnce() -> anyhow::Result<Program>,
) -> anyhow::Result<Request> {
    let url = table.url.context("url is missing")?;
    let uri: http::Uri = url.parse().context("url")?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if config.outbound.plain_http => {}
        Some("http") => bail!("url: plain HTTP needs outbound.plain_http = true"),
        _ => bail!("url: expected a web address"),
    }
    let verb = Verb::parse(table.verb.unwrap_or("POST"));
    let verb = verb.context("verb: expected GET, POST, PUT, PATCH or DELETE")?;
    let within = match table.timeout {
        None => config.outbound.timeout,
        Some(text) => Duration::from_raw(&Raw::Loose(text.to_owned()))
            .map_err(|why| anyhow::anyhow!("timeout: {why}"))?,
    };
    ensure!(!within.is_zero(), "timeout: must be longer than nothing");
    for (name, value) in table.headers {
        let is_name = HeaderName::try_from(name.as_str()).is_ok();
        ensure!(is_name && HeaderValue::from_str(value).is_ok(), "headers: {name} is none");
        let ours = OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name));
        ensure!(!ours, "headers: {name} is not to be set");
    }
    let body = match table.body {
        Some(source) => named_program(source).context("body")?,
        None => default_body()?,
    };
    Ok(Request {
        url: url.to_owned(),
        verb,
        body,
        headers: table.headers.clone().into_iter().collect(),
        auth: auth(owner, table)?,
        within,
    })
}

/// A secret of a table: in a file, or in the environment.
pub fn secret(
    owner: &str,
    what: &str,
    file: Option<&Path>,
) -> anyhow::Result<Option<Secret<String>>> {
    let name = format!("{}_{what}", owner.replace('-', "_"));
    let text = read_text(&name, file, |name| std::env::var(name).ok())?;
    Ok(text.map(|text| Secret::new(text.expose().to_string())))
}

fn auth(owner: &str, table: &RequestTable<'_>) -> anyhow::Result<Auth> {
    match (table.basic_user, table.api_key_name) {
        (Some(_), Some(_)) => bail!("basic_user and api_key_name: one of them is enough"),
        (None, None) => {
            ensure!(table.basic_password_file.is_none(), "basic_password_file needs basic_user");
            ensure!(
                table.api_key_file.is_none() && table.api_key_in.is_none(),
                "api_key_file and api_key_in need api_key_name"
            );
            Ok(Auth::None)
        }
        (Some(user), None) => {
            let password = secret(owner, "password", table.basic_password_file)?;
            let password = password.context("basic_user needs a password: basic_password_file")?;
            Ok(Auth::Basic { user: user.to_owned(), password })
        }
        (None, Some(name)) => {
            let value = secret(owner, "api_key", table.api_key_file)?;
            let value = value.context("api_key_name needs a key: api_key_file")?;
            ensure!(HeaderValue::from_str(value.expose()).is_ok(), "the API key is no header");
            ensure!(HeaderName::try_from(name).is_ok(), "api_key_name is no name");
            let name = name.to_owned();
            match table.api_key_in.unwrap_or("header") {
                "header" => Ok(Auth::Header { name, value }),
                "cookie" => Ok(Auth::Cookie { name, value }),
                _ => bail!("api_key_in: expected header or cookie"),
            }
        }
    }
}

fn named_program(source: &str) -> anyhow::Result<Program> {
    let text = match source.strip_prefix("base64://") {
        Some(encoded) => String::from_utf8(STANDARD.decode(encoded).context("no base64")?)?,
        None => {
            let path = source.strip_prefix("file://").unwrap_or(source);
            std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?
        }
    };
    Ok(program(&text)?)
}
