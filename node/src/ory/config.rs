//! Kratos's configuration, as far as it has a counterpart here. What has none is named,
//! so that nobody believes it to be in force.

use std::{collections::BTreeSet, fmt::Write as _, path::Path};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;
use serde_json::{Map, Value};

/// Settings whose values are carried over as they are: Kratos's path, ours, and how it
/// is written.
const CARRIED: &[(&str, &str, Form)] = &[
    ("serve.public.base_url", "public.url", Form::Text),
    ("serve.admin.base_url", "admin.url", Form::Text),
    ("session.lifespan", "sessions.lifespan", Form::Duration),
    ("session.earliest_possible_extend", "sessions.earliest_extend", Form::Duration),
    ("session.cookie.name", "sessions.cookie_name", Form::Text),
    ("session.cookie.domain", "sessions.cookie_domain", Form::Text),
    ("session.cookie.same_site", "sessions.cookie_same_site", Form::Lower),
    ("session.cookie.persistent", "sessions.cookie_persistent", Form::Flag),
    ("cookies.domain", "sessions.cookie_domain", Form::Text),
    ("cookies.same_site", "sessions.cookie_same_site", Form::Lower),
    ("selfservice.default_browser_return_url", "pages.default_return_url", Form::Text),
    ("selfservice.allowed_return_urls", "pages.allowed_return_urls", Form::Places),
    ("selfservice.flows.login.ui_url", "pages.login_url", Form::Text),
    ("selfservice.flows.registration.ui_url", "pages.registration_url", Form::Text),
    ("selfservice.flows.settings.ui_url", "pages.settings_url", Form::Text),
    ("selfservice.flows.recovery.ui_url", "pages.recovery_url", Form::Text),
    ("selfservice.flows.verification.ui_url", "pages.verification_url", Form::Text),
    ("selfservice.flows.error.ui_url", "pages.error_url", Form::Text),
    ("selfservice.flows.login.lifespan", "flows.lifespan", Form::Duration),
    (
        "selfservice.flows.settings.privileged_session_max_age",
        "flows.privileged_session_max_age",
        Form::Duration,
    ),
    ("selfservice.flows.recovery.enabled", "flows.recovery", Form::Flag),
    ("selfservice.flows.verification.enabled", "flows.verification", Form::Flag),
    (
        "selfservice.methods.password.config.min_password_length",
        "passwords.min_length",
        Form::Number,
    ),
    (
        "selfservice.methods.password.config.min_password_length",
        "passwords.min_length_with_second_factor",
        Form::Number,
    ),
    (
        "selfservice.methods.password.config.identifier_similarity_check_enabled",
        "passwords.similarity_check",
        Form::Flag,
    ),
    (
        "selfservice.methods.password.config.haveibeenpwned_enabled",
        "passwords.breaches",
        Form::Flag,
    ),
    (
        "selfservice.methods.password.config.haveibeenpwned_host",
        "passwords.breaches_url",
        Form::Host,
    ),
    ("selfservice.methods.password.config.max_breaches", "passwords.breaches_max", Form::Number),
    (
        "selfservice.methods.password.config.ignore_network_errors",
        "passwords.breaches_ignore_network_errors",
        Form::Flag,
    ),
    ("selfservice.methods.code.config.lifespan", "flows.code_lifespan", Form::Duration),
    ("selfservice.methods.code.passwordless_enabled", "flows.code_login", Form::Flag),
    ("selfservice.methods.code.mfa_enabled", "factors.code", Form::Flag),
    ("selfservice.methods.totp.enabled", "factors.totp", Form::Flag),
    ("selfservice.methods.totp.config.issuer", "factors.totp_issuer", Form::Text),
    ("selfservice.methods.lookup_secret.enabled", "factors.lookup_secrets", Form::Flag),
    ("selfservice.methods.passkey.enabled", "factors.passkeys", Form::Flag),
    ("selfservice.methods.passkey.config.rp.id", "factors.rp_id", Form::Text),
    ("selfservice.methods.passkey.config.rp.origins", "factors.rp_origins", Form::Texts),
    ("selfservice.methods.webauthn.enabled", "factors.security_keys", Form::Flag),
    (
        "selfservice.methods.webauthn.config.passwordless",
        "factors.security_keys_passwordless",
        Form::Flag,
    ),
    ("selfservice.methods.webauthn.config.rp.id", "factors.rp_id", Form::Text),
    ("selfservice.methods.webauthn.config.rp.origins", "factors.rp_origins", Form::Texts),
    ("selfservice.methods.link.config.lifespan", "flows.link_lifespan", Form::Duration),
    ("selfservice.flows.recovery.use", "flows.recovery_use", Form::Text),
    ("selfservice.flows.verification.use", "flows.verification_use", Form::Text),
    ("courier.smtp.from_address", "courier.from_address", Form::Text),
    ("courier.smtp.from_name", "courier.from_name", Form::Text),
    ("courier.template_override_path", "courier.templates_dir", Form::Text),
    ("hashers.argon2.memory", "argon2.memory", Form::Size),
    ("hashers.argon2.iterations", "argon2.iterations", Form::Number),
    ("hashers.argon2.parallelism", "argon2.parallelism", Form::Number),
    ("log.format", "log.format", Form::LogFormat),
];

/// What says nothing that would have to be carried, and why.
const NEEDLESS: &[(&str, &str)] = &[
    ("version", ""),
    ("dsn", "there is no database beneath"),
    ("dev", "`cardea dev` is what that was for"),
    ("secrets.cookie", "write it to secrets.imported_cookies_file for browsers to stay signed in"),
    ("secrets", "the cluster draws its own keys"),
    ("serve.public.host", "see public.listen"),
    ("serve.public.port", "see public.listen"),
    ("serve.admin.host", "see admin.listen"),
    ("serve.admin.port", "see admin.listen"),
    ("selfservice.methods.password.enabled", ""),
    ("selfservice.methods.code.enabled", ""),
    ("selfservice.methods.link.enabled", ""),
    ("selfservice.methods.profile.enabled", ""),
    ("courier.message_retries", "a message is tried 12 times, over about two hours"),
    ("courier.worker", "every node sends as it can"),
    ("hashers.algorithm", "new passwords are hashed with argon2id"),
    ("identity.schemas", "put them in force by `cardea import ory --config`"),
    ("identity.default_schema_id", "put it in force by `cardea import ory --config`"),
];

#[derive(Debug, Clone, Copy)]
enum Form {
    Text,
    /// The host of an `https` URL.
    Host,
    Lower,
    Texts,
    /// URLs, without those that are patterns.
    Places,
    Flag,
    Number,
    Duration,
    Size,
    LogFormat,
}

/// A translated configuration.
#[derive(Debug, Default, Serialize)]
pub struct Translated {
    /// Our configuration, in TOML.
    pub toml: String,
    /// What has no counterpart, and why if that can be said.
    pub left: Vec<Left>,
}

/// A setting that was left.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub struct Left {
    /// Its path.
    pub setting: String,
    /// Why.
    pub why: String,
}

/// An identity schema that a configuration names.
#[derive(Debug, PartialEq)]
pub struct NamedSchema {
    /// Its name.
    pub id: String,
    /// Its document.
    pub document: Value,
    /// Whether it stands for an empty name.
    pub is_default: bool,
}

/// Reads a configuration of Kratos.
///
/// # Errors
/// If it is no YAML.
pub fn read(text: &str) -> anyhow::Result<Value> {
    serde_yaml_ng::from_str(text).context("the file is no YAML")
}

/// Translates a configuration.
pub fn translate(kratos: &Value) -> Translated {
    let mut settings: Vec<(String, String)> = Vec::new();
    let mut taken = BTreeSet::new();
    let mut left = Vec::new();
    for (path, ours, form) in CARRIED {
        let Some(value) = at(kratos, path) else { continue };
        taken.insert((*path).to_owned());
        if matches!(form, Form::Places) {
            let all = value.as_array().into_iter().flatten().filter_map(Value::as_str);
            let patterns = all.filter(|url| is_pattern(url));
            let why = |url| format!("{url} is a pattern: name each place whole");
            left.extend(patterns.map(|url| Left::new(path, why(url))));
        }
        match written(value, *form) {
            Ok(written) if settings.iter().all(|(known, _)| known != ours) => {
                settings.push(((*ours).to_owned(), written));
            }
            Ok(written) if settings.iter().any(|(known, set)| known == ours && *set == written) => {
            }
            Ok(_) => left.push(Left::new(path, format!("{ours} was set by another"))),
            Err(why) => left.push(Left::new(path, why)),
        }
    }
    // What Kratos does unless it is told otherwise, and we do not.
    if settings.iter().all(|(known, _)| known != "passwords.breaches") {
        settings.push(("passwords.breaches".to_owned(), true.to_string()));
    }
    let courier = super::courier::translate(kratos);
    if let Some(uri) = at(kratos, "courier.smtp.connection_uri").and_then(Value::as_str) {
        let path = "courier.smtp.connection_uri";
        taken.insert(path.to_owned());
        match mail_server(uri) {
            _ if courier.mails_by_http => left.push(Left::new(path, "mails go by HTTP")),
            Some(server) => {
                settings.push(("courier.smtp_url".to_owned(), quoted(&server.url)));
                if server.has_password {
                    let why = "its password belongs into the file secrets.smtp_password_file";
                    left.push(Left::new(path, why));
                }
                for wish in server.wishes {
                    let instead = match wish.starts_with("skip_ssl_verify") {
                        true => "; name its authority in courier.smtp_authority_file",
                        false => "",
                    };
                    left.push(Left::new(path, format!("{wish} is not carried{instead}")));
                }
            }
            None => left.push(Left::new(path, "it is no URL of a mail server")),
        }
    }
    taken.extend(courier.taken);
    left.extend(courier.left);
    let cors = super::cors::translate(kratos);
    taken.extend(cors.taken);
    left.extend(cors.left);
    settings.extend(cors.origins.map(|origins| ("public.cors_origins".to_owned(), origins)));
    let hooks = super::hooks::translate(kratos);
    taken.extend(hooks.taken);
    left.extend(hooks.left);
    if hooks.no_session {
        let setting = "flows.session_after_registration".to_owned();
        settings.push((setting, "false".to_owned()));
    }
    let selectable = selectable(kratos);
    if !selectable.is_empty() {
        let names = format!("[{}]", selectable.join(", "));
        settings.push(("flows.registration_schemas".to_owned(), names));
    }
    let tokenizers = super::tokenizers::translate(kratos);
    taken.extend(tokenizers.taken);
    left.extend(tokenizers.left);
    let providers = super::providers::translate(kratos);
    taken.extend(providers.taken);
    left.extend(providers.left);
    let mut migration = String::new();
    let hook = "selfservice.methods.password.config.migrate_hook";
    if let Some(found) = at(kratos, hook) {
        taken.insert(hook.to_owned());
        let config = &found["config"];
        let path = format!("{hook}.config");
        if found["enabled"] == true {
            match super::request::translate(&path, config, "password_migration", &mut left) {
                Ok(text) if config["headers"].as_object().is_none_or(Map::is_empty) => {
                    migration = format!("\n[password_migration]\n{text}");
                }
                Ok(_) => left.push(Left::new(hook, "it has headers of its own")),
                Err(why) => left.push(Left::new(hook, why)),
            }
        }
    }
    let mut paths = Vec::new();
    leaves(kratos, String::new(), &mut paths);
    for path in paths {
        let below = |known: &str| path == known || path.starts_with(&format!("{known}."));
        if taken.iter().any(|known| below(known)) {
            continue;
        }
        match NEEDLESS.iter().find(|(known, _)| below(known)) {
            Some((_, "")) => {}
            Some((_, why)) => left.push(Left::new(&path, *why)),
            None => left.push(Left::new(&path, "it has no counterpart")),
        }
    }
    left.sort_by(|a, b| a.setting.cmp(&b.setting));
    left.dedup();
    let toml = toml(&settings)
        + &migration
        + &courier.toml
        + &providers.toml
        + &tokenizers.toml
        + &hooks.toml;
    Translated { toml, left }
}

/// The names of the schemas that somebody who signs up may choose, as TOML has them.
fn selectable(kratos: &Value) -> Vec<String> {
    let schemas = at(kratos, "identity.schemas").and_then(Value::as_array).into_iter().flatten();
    let chosen = schemas.filter(|schema| schema["selfservice_selectable"] == true);
    chosen.filter_map(|schema| schema["id"].as_str()).map(quoted).collect()
}

/// The schemas that a configuration names; files are read beside it.
///
/// # Errors
/// If one of them is elsewhere than in a file or in the configuration itself, or is no
/// JSON.
pub fn schemas(kratos: &Value, beside: &Path) -> anyhow::Result<Vec<NamedSchema>> {
    let default = at(kratos, "identity.default_schema_id").and_then(Value::as_str);
    let mut named = Vec::new();
    for entry in at(kratos, "identity.schemas").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let (id, url) = (text("id"), text("url"));
        let bytes = match (url.strip_prefix("base64://"), url.strip_prefix("file://")) {
            (Some(encoded), _) => STANDARD.decode(encoded).context("the schema is no base64")?,
            (_, Some(file)) => {
                let file = beside.join(file);
                std::fs::read(&file).with_context(|| file.display().to_string())?
            }
            // Presets of Kratos are files of its own.
            _ => anyhow::bail!("the schema \"{id}\" is at {url}: put it in force by hand"),
        };
        let document = serde_json::from_slice(&bytes)
            .with_context(|| format!("the schema \"{id}\" is no JSON"))?;
        named.push(NamedSchema { id: id.to_owned(), document, is_default: default == Some(id) });
    }
    Ok(named)
}

impl Left {
    pub(super) fn new(setting: &str, why: impl Into<String>) -> Self {
        Self { setting: setting.to_owned(), why: why.into() }
    }
}

pub(super) fn at<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, name| value.get(name)).filter(|v| !v.is_null())
}

/// Every path that leads to something that is no object.
fn leaves(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() || path.is_empty() => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, path, paths);
            }
        }
        _ => paths.push(path),
    }
}

/// Whether a place is many: a target is matched whole here.
fn is_pattern(url: &str) -> bool {
    url.contains('*')
}

fn written(value: &Value, form: Form) -> Result<String, String> {
    let text = || value.as_str().ok_or_else(|| format!("{value} is no text"));
    match form {
        Form::Text => Ok(quoted(text()?)),
        Form::Host => Ok(quoted(&format!("https://{}", text()?))),
        Form::Lower => Ok(quoted(&text()?.to_lowercase())),
        Form::Texts => {
            let items = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
            let items = items.iter().map(|item| item.as_str().map(quoted));
            let items: Option<Vec<_>> = items.collect();
            Ok(format!("[{}]", items.ok_or("not all of it are texts")?.join(", ")))
        }
        Form::Places => {
            let items = value.as_array().ok_or_else(|| format!("{value} is no list"))?;
            let items = items.iter().filter_map(Value::as_str).filter(|url| !is_pattern(url));
            Ok(format!("[{}]", items.map(quoted).collect::<Vec<_>>().join(", ")))
        }
        Form::Flag => {
            value.as_bool().map(|flag| flag.to_string()).ok_or(format!("{value} is no flag"))
        }
        Form::Number => {
            value.as_u64().map(|number| number.to_string()).ok_or(format!("{value} is no number"))
        }
        Form::Duration => {
            let text = text()?;
            // Fractions and units below a millisecond are none of ours.
            let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"hms".contains(&byte));
            plain.then(|| quoted(text)).ok_or(format!("{text} is no duration here"))
        }
        Form::Size => {
            let written = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let upper = written.to_uppercase();
            let (digits, unit) =
                upper.split_at(upper.find(|c: char| !c.is_ascii_digit()).unwrap_or(upper.len()));
            // Kratos counts in powers of two, whatever it calls them.
            let unit = match unit.trim() {
                "B" | "" => "B",
                "KB" | "KIB" => "KiB",
                "MB" | "MIB" => "MiB",
                "GB" | "GIB" => "GiB",
                _ => return Err(format!("{written} is no size")),
            };
            Ok(quoted(&format!("{digits}{unit}")))
        }
        Form::LogFormat => Ok(quoted(if text()? == "json" { "json" } else { "human" })),
    }
}

/// A mail server.
struct MailServer<'a> {
    /// Its URL, without the password.
    url: String,
    has_password: bool,
    /// What is asked of its connections, and is not had here.
    wishes: Vec<&'a str>,
}

fn mail_server(uri: &str) -> Option<MailServer<'_>> {
    let (scheme, rest) = uri.split_once("://")?;
    if !matches!(scheme, "smtp" | "smtps") {
        return None;
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let rest = rest.split('/').next()?;
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let (name, has_password) = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((name, password)) => (Some(name), !password.is_empty()),
        None => (None, false),
    };
    let name = name.filter(|name| !name.is_empty()).map_or_else(String::new, |n| format!("{n}@"));
    let mut url = format!("{scheme}://{name}{host}");
    let mut wishes: Vec<&str> =
        query.split('&').filter(|wish| wish.ends_with("=true") || wish.ends_with("=1")).collect();
    // In the clear, as it was; and not at all where a certificate is not looked at.
    let in_clear = |wish: &&str| *wish == "disable_starttls=true" && scheme == "smtp";
    if wishes.iter().any(in_clear) {
        url.push_str("?disable_starttls=true");
        wishes.retain(|wish| !in_clear(wish));
    }
    Some(MailServer { url, has_password, wishes })
}

/// A string of TOML; JSON's escapes are TOML's too.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn toml(settings: &[(String, String)]) -> String {
    let mut text = String::new();
    let mut sections: Vec<&str> =
        settings.iter().filter_map(|(name, _)| Some(name.split_once('.')?.0)).collect();
    sections.sort_unstable();
    sections.dedup();
    for section in sections {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{}[{section}]", if text.is_empty() { "" } else { "\n" });
        for (name, value) in settings {
            if let Some((_, key)) = name.split_once('.').filter(|(s, _)| *s == section) {
                let _ = writeln!(text, "{key} = {value}");
            }
        }
    }
    text
}

/// Translates a configuration, and finds these parts and what was left in what came of it,
/// which a node must take.
#[cfg(test)]
pub(super) fn assert_translated(kratos: &str, parts: &[&str], left: &[&str]) -> Translated {
    let translated = translate(&read(kratos).unwrap());
    let (toml, mut refusals) = (&translated.toml, Vec::new());
    assert!(!toml.contains("s3cret"), "{toml}");
    let mut layers = crate::config::layers::Layers::default();
    layers.add_file("kratos.toml".into(), toml, &mut refusals).unwrap();
    assert!(refusals.is_empty(), "{refusals:?}\n{toml}");
    for part in parts {
        assert!(toml.contains(part), "{part}\n{toml}");
    }
    for setting in left {
        let named = translated.left.iter().any(|left| left.setting == *setting);
        assert!(named, "{setting}: {:?}", translated.left);
    }
    translated
}

#[cfg(test)]
mod tests;
