//! Hooks as a configuration names them: checked, with secrets and programs read. And the
//! calls of web hooks of which nobody waits for the answer: every node looks for those that
//! are due; the store decides who makes which.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use cardea_identity::{
    flow::Purpose,
    hook::{Action, Hook, Hooks, Moment, Response, WebHook, call::default_body},
};
use cardea_storage::Secret;

use crate::{
    config::{Config, hooks::HookTable},
    layers::Layers,
    request::{described, request, secret},
};

/// How often a node looks for what others left, or what is due again.
const EVERY: Duration = Duration::from_secs(1);
/// The most hooks that a configuration may name.
const HOOKS_MAX: usize = 64;
/// The shortest key of signatures, in bytes (Standard Webhooks).
const SIGNING_KEY_BYTES_MIN: usize = 24;
/// The hooks of a configuration.
///
/// # Errors
/// If one of them is not what it may be, or its secrets or program cannot be read.
pub fn hooks(config: &Config) -> anyhow::Result<Hooks> {
    let tables = &config.tables.hooks;
    ensure!(tables.len() <= HOOKS_MAX, "there are more than {HOOKS_MAX} hooks");
    let mut made = Vec::new();
    let mut ids = BTreeSet::new();
    for (at, table) in tables.iter().enumerate() {
        let name = || format!("hooks[{at}] ({} of {})", table.hook, table.flow);
        let hook = hook(config, table).with_context(name)?;
        if let Action::WebHook(web_hook) = &hook.action {
            let is_new = ids.insert(web_hook.id.clone());
            ensure!(is_new, "{}: the id \"{}\" is there twice", name(), web_hook.id);
        }
        made.push(hook);
    }
    Ok(Hooks::new(made))
}

fn hook(config: &Config, table: &HookTable) -> anyhow::Result<Hook> {
    let purpose = Purpose::ALL.into_iter().find(|purpose| purpose.name() == table.flow);
    let purpose = purpose
        .context("flow: expected login, registration, settings, recovery or verification")?;
    let moment = Moment::parse(table.when.as_deref().unwrap_or("after"));
    let moment = moment.context("when: expected before or after")?;
    if let Some(method) = &table.method {
        ensure!(moment == Moment::After, "method: a flow that begins has none yet");
        let known = methods(purpose);
        ensure!(
            known.contains(&method.as_str()),
            "method: expected one of {}, found \"{method}\"",
            known.join(", ")
        );
    }
    let (action, where_to): (Action, &[Purpose]) = match table.hook.as_str() {
        "web_hook" => {
            (Action::WebHook(Arc::new(web_hook(config, table, (purpose, moment))?)), &Purpose::ALL)
        }
        "session" => (Action::Session, &[Purpose::Registration]),
        "revoke_active_sessions" => {
            (Action::RevokeActiveSessions, &[Purpose::Login, Purpose::Settings, Purpose::Recovery])
        }
        "require_verified_address" => (Action::RequireVerifiedAddress, &[Purpose::Login]),
        "show_verification_ui" => (
            Action::ShowVerificationUi,
            &[Purpose::Login, Purpose::Registration, Purpose::Settings],
        ),
        "verification" => (Action::Verification, &[Purpose::Registration, Purpose::Settings]),
        "verify_new_address" => (Action::VerifyNewAddress, &[Purpose::Settings]),
        "notify_previous_addresses" => (Action::NotifyPreviousAddresses, &[Purpose::Settings]),
        "b2b_sso" => (Action::BindToOrganization, &[Purpose::Login, Purpose::Registration]),
        other => bail!("hook: there is no hook \"{other}\""),
    };
    let is_ours = !matches!(action, Action::WebHook(_));
    ensure!(where_to.contains(&purpose), "a hook of this kind does not run on this flow");
    ensure!(!is_ours || moment == Moment::After, "a hook of this kind runs after a flow");
    if is_ours {
        let bare = HookTable {
            flow: table.flow.clone(),
            when: table.when.clone(),
            method: table.method.clone(),
            hook: table.hook.clone(),
            ..HookTable::default()
        };
        ensure!(bare == *table, "a hook of this kind has no other settings");
    }
    Ok(Hook { purpose, moment, method: table.method.clone(), action })
}

/// The methods after which hooks of a flow may run.
pub(crate) const fn methods(purpose: Purpose) -> &'static [&'static str] {
    match purpose {
        Purpose::Registration => &["password", "oidc", "passkey", "webauthn", "code"],
        Purpose::Login => {
            &["password", "oidc", "passkey", "code", "totp", "lookup_secret", "webauthn"]
        }
        Purpose::Settings => {
            &["profile", "password", "oidc", "passkey", "totp", "lookup_secret", "webauthn"]
        }
        Purpose::Recovery => &["code", "link"],
        Purpose::Verification => &["code", "link"],
    }
}

fn web_hook(
    config: &Config,
    table: &HookTable,
    (purpose, moment): (Purpose, Moment),
) -> anyhow::Result<WebHook> {
    let id = match &table.id {
        Some(id) => id.clone(),
        None => derived_id(table, table.url.as_deref().unwrap_or_default()),
    };
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    ensure!(
        (1..=63).contains(&id.len()) && id.bytes().all(plain),
        "id: expected lower-case letters, digits, \"-\" and \"_\", at most 63"
    );
    let response = match table.response.as_deref().unwrap_or("await") {
        "await" => Response::Awaited,
        "ignore" => Response::Ignored,
        "parse" => Response::Parsed,
        _ => bail!("response: expected await, ignore or parse"),
    };
    ensure!(
        response != Response::Ignored || !table.can_interrupt,
        "can_interrupt: nobody waits for an answer that is ignored"
    );
    let changes = matches!(purpose, Purpose::Registration | Purpose::Login | Purpose::Settings);
    ensure!(
        response != Response::Parsed || (changes && moment == Moment::After),
        "response: there is nothing to change here that an answer could say"
    );
    let described = described!(table, &table.headers);
    let owner = format!("hook_{id}");
    let request = request(config, &owner, &described, || Ok(default_body()?))?;
    ensure!(
        response == Response::Ignored || request.within < config.limits.request_timeout,
        "timeout: somebody waits for it, and is given up after limits.request_timeout"
    );
    Ok(WebHook {
        request,
        signing: signing_key(&owner, table)?,
        id,
        response,
        can_interrupt: table.can_interrupt,
    })
}

/// An id that stays as long as the hook stays what it is.
fn derived_id(table: &HookTable, url: &str) -> String {
    let when = table.when.as_deref().unwrap_or("after");
    let place = [Some(table.flow.as_str()), Some(when), table.method.as_deref()];
    let place: Vec<_> = place.into_iter().flatten().collect();
    let digest = blake3::hash(url.as_bytes()).to_hex();
    format!("{}_{}", place.join("_"), &digest.as_str()[..8])
}

fn signing_key(owner: &str, table: &HookTable) -> anyhow::Result<Option<Secret<Vec<u8>>>> {
    if !table.signed && table.signing_key_file.is_none() {
        return Ok(None);
    }
    let text = secret(owner, "signing_key", table.signing_key_file.as_deref())?;
    let text = text.context("signed needs a key: signing_key_file")?;
    let key = match text.expose().strip_prefix("whsec_") {
        Some(encoded) => STANDARD.decode(encoded).context("the signing key is no base64")?,
        None => text.expose().as_bytes().to_vec(),
    };
    ensure!(
        key.len() >= SIGNING_KEY_BYTES_MIN,
        "the signing key has fewer than {SIGNING_KEY_BYTES_MIN} bytes"
    );
    Ok(Some(Secret::new(key)))
}

/// Makes calls that are due, until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        let Some(service) = layers.service() else {
            tokio::time::sleep(EVERY).await;
            continue;
        };
        if let Err(error) = service.make_calls().await {
            // Nobody waits for an answer: the next round tries again.
            tracing::debug!(%error, "calls of web hooks could not be looked for");
        }
        let _ = tokio::time::timeout(EVERY, service.wait_for_calls()).await;
    }
}

#[cfg(test)]
mod tests {
    use cardea_identity::outbound::request::Auth;

    use super::*;
    use crate::config::{Sources, load};

    fn made(text: &str) -> anyhow::Result<Hooks> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("cardea.toml");
        let least = "[cluster]\nlisten = \"127.0.0.1:7433\"\ntls = \"off\"\n";
        std::fs::write(dir.path().join("key"), "0123456789abcdef01234567\n")?;
        std::fs::write(dir.path().join("short"), "short")?;
        for name in ["key", "short"] {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::Permissions::from_mode(0o600);
            std::fs::set_permissions(dir.path().join(name), mode)?;
        }
        std::fs::write(&file, format!("{least}\n{text}"))?;
        let loaded = load(Sources { file: Some(file), ..Sources::default() });
        hooks(&loaded.map_err(|refused| anyhow::anyhow!("{refused}"))?.config)
    }

    const WEB: &str =
        "[[hooks]]\nflow = \"registration\"\nhook = \"web_hook\"\nurl = \"https://x.example/\"\n";

    #[test]
    fn hooks_are_made_of_their_tables() {
        let hooks = made(&format!(
            "{WEB}id = \"crm\"\nresponse = \"ignore\"\nsigning_key_file = \"key\"\n\
             api_key_name = \"x-key\"\napi_key_file = \"key\"\ntimeout = \"3s\"\n\
             body = \"base64://e30=\"\nheaders = {{ x-own = \"1\" }}\n\
             [[hooks]]\nflow = \"login\"\nmethod = \"password\"\nhook = \"revoke_active_sessions\"\n"
        ))
        .unwrap();
        let crm = hooks.web_hook("crm").unwrap();
        assert!(crm.signing.is_some() && matches!(crm.request.auth, Auth::Header { .. }));
        assert_eq!(crm.request.within, Duration::from_secs(3));
        assert_eq!(hooks.at(Purpose::Login, Moment::After, "password").count(), 1);
        // Without an id it has one all the same.
        let hooks = made(WEB).unwrap();
        let mut actions = hooks.at(Purpose::Registration, Moment::After, "oidc");
        let Some(Action::WebHook(hook)) = actions.next() else { panic!("no web hook") };
        assert!(hook.id.starts_with("registration_after_"), "{}", hook.id);
    }

    #[test]
    fn what_is_no_hook_is_refused_with_a_reason() {
        let ours = |rest: &str| format!("[[hooks]]\n{rest}\n");
        for (text, told) in [
            (ours("flow = \"logout\"\nhook = \"session\""), "flow: expected"),
            (ours("flow = \"login\"\nhook = \"nap\""), "no hook \"nap\""),
            (ours("flow = \"login\"\nhook = \"session\""), "does not run on this flow"),
            (
                ours("flow = \"login\"\nwhen = \"before\"\nhook = \"revoke_active_sessions\""),
                "after a flow",
            ),
            (
                ours("flow = \"login\"\nmethod = \"magic\"\nhook = \"revoke_active_sessions\""),
                "expected one of",
            ),
            (
                ours("flow = \"registration\"\nhook = \"session\"\nurl = \"https://x\""),
                "no other settings",
            ),
            (ours("flow = \"registration\"\nhook = \"session\"\nurll = \"https://x\""), "urll"),
            (format!("{WEB}{WEB}"), "there twice"),
            (WEB.replace("https", "http"), "plain_http"),
            (WEB.replace("https", "ftp"), "web address"),
            (format!("{WEB}id = \"A b\""), "id: expected"),
            (format!("{WEB}verb = \"HEAD\""), "verb"),
            (format!("{WEB}response = \"maybe\""), "response: expected"),
            (format!("{WEB}response = \"ignore\"\ncan_interrupt = true"), "nobody waits"),
            (WEB.replace("registration", "recovery") + "response = \"parse\"", "nothing to change"),
            (format!("{WEB}timeout = \"30s\""), "request_timeout"),
            (format!("{WEB}timeout = \"0ms\""), "longer than nothing"),
            (format!("{WEB}timeout = \"soon\""), "timeout"),
            (format!("{WEB}headers = {{ webhook-id = \"1\" }}"), "not to be set"),
            (format!("{WEB}headers = {{ \"a b\" = \"1\" }}"), "is none"),
            (format!("{WEB}body = \"base64://ew==\""), "body"),
            (format!("{WEB}body = \"no-such-file\""), "cannot read"),
            (format!("{WEB}signed = true"), "needs a key"),
            (format!("{WEB}signing_key_file = \"short\""), "fewer than"),
            (format!("{WEB}basic_user = \"u\""), "needs a password"),
            (format!("{WEB}api_key_file = \"key\""), "need api_key_name"),
            (format!("{WEB}basic_user = \"u\"\napi_key_name = \"k\""), "one of them"),
        ] {
            let error = made(&text).expect_err(&text);
            assert!(format!("{error:#}").contains(told), "{text}: {error:#}");
        }
    }
}
