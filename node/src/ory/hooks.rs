//! Kratos's hooks, as `[[hooks]]`. Secrets that stand in its configuration are not carried:
//! they belong into files, which are named.

use std::fmt::Write as _;

use cardea_identity::flow::Purpose;
use serde_json::Value;

use super::{
    config::{Left, at, quoted},
    request,
};
use crate::hooks::methods;

/// Translated hooks.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    /// In TOML.
    pub(super) toml: String,
    /// The paths that were looked at.
    pub(super) taken: Vec<String>,
    /// What was left.
    pub(super) left: Vec<Left>,
    /// Whether nobody is logged in by signing up.
    pub(super) no_session: bool,
}

/// The hooks of a configuration.
pub(super) fn translate(kratos: &Value) -> Hooks {
    let mut hooks = Hooks::default();
    for purpose in Purpose::ALL {
        let flow = format!("selfservice.flows.{}", purpose.name());
        hooks.list(kratos, &format!("{flow}.before.hooks"), (purpose, "before", None));
        hooks.list(kratos, &format!("{flow}.after.hooks"), (purpose, "after", None));
        for method in methods(purpose) {
            let path = format!("{flow}.after.{method}.hooks");
            hooks.list(kratos, &path, (purpose, "after", Some(*method)));
        }
    }
    // There, nobody is logged in without that hook.
    let signs_up = at(kratos, "selfservice.flows.registration").is_some();
    hooks.no_session = signs_up && !hooks.toml.contains("hook = \"session\"");
    hooks
}

impl Hooks {
    fn list(&mut self, kratos: &Value, path: &str, place: (Purpose, &str, Option<&str>)) {
        let Some(found) = at(kratos, path) else { return };
        self.taken.push(path.to_owned());
        for (number, hook) in found.as_array().into_iter().flatten().enumerate() {
            let path = format!("{path}[{number}]");
            let name = hook["hook"].as_str().unwrap_or_default();
            match name {
                "session"
                | "revoke_active_sessions"
                | "require_verified_address"
                | "show_verification_ui"
                | "verification"
                | "verify_new_address"
                | "notify_previous_addresses" => self.write(name, place, ""),
                "web_hook" => match self.web_hook(&path, &hook["config"], place, number) {
                    Ok(text) => self.write(name, place, &text),
                    Err(why) => self.left.push(Left::new(&path, why)),
                },
                "b2b_sso" | "organization"
                    if place.1 == "after"
                        && matches!(place.0, Purpose::Login | Purpose::Registration) =>
                {
                    self.write("b2b_sso", place, "");
                }
                "verifier" => self.write("verification", place, ""),
                other => {
                    self.left.push(Left::new(&path, format!("the hook {other} is not there")));
                }
            }
        }
    }

    fn write(
        &mut self,
        hook: &str,
        (purpose, when, method): (Purpose, &str, Option<&str>),
        rest: &str,
    ) {
        // Writing into a string cannot fail.
        let _ = writeln!(self.toml, "\n[[hooks]]\nflow = \"{}\"", purpose.name());
        if when != "after" {
            let _ = writeln!(self.toml, "when = \"{when}\"");
        }
        if let Some(method) = method {
            let _ = writeln!(self.toml, "method = \"{method}\"");
        }
        let _ = writeln!(self.toml, "hook = \"{hook}\"");
        self.toml.push_str(rest);
    }

    fn web_hook(
        &mut self,
        path: &str,
        config: &Value,
        (purpose, when, method): (Purpose, &str, Option<&str>),
        number: usize,
    ) -> Result<String, String> {
        let place = [Some(purpose.name()), Some(when), method, Some(&number.to_string())]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join("_");
        let id: String = config["id"].as_str().unwrap_or(&place).to_lowercase();
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let id: String = id.chars().map(plain).take(63).collect();
        let request = request::translate(&format!("{path}.config"), config, &id, &mut self.left)?;
        let mut text = format!("id = {}\n{request}", quoted(&id));
        let flag = |value: &Value| value.as_bool().unwrap_or_default();
        let response = &config["response"];
        if flag(&response["ignore"]) {
            text.push_str("response = \"ignore\"\n");
        } else if flag(&response["parse"]) {
            text.push_str("response = \"parse\"\n");
        }
        if flag(&config["can_interrupt"]) {
            text.push_str("can_interrupt = true\n");
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Left, assert_translated};

    const KRATOS: &str = r#"
selfservice:
  flows:
    registration:
      before: {hooks: [{hook: web_hook, config: {url: "https://a.example/", method: GET}}]}
      after:
        password:
          hooks:
            - hook: web_hook
              config:
                id: CRM Hook
                url: https://crm.example/new
                method: POST
                body: base64://e30=
                headers: {X-A: b}
                response: {ignore: true}
                auth: {type: api_key, config: {name: X-Key, value: s3cret, in: header}}
            - {hook: show_verification_ui}
    settings: {after: {hooks: [{hook: b2b_sso, config: {}}]}}
    login:
      after:
        hooks:
          - {hook: require_verified_address}
          - {hook: b2b_sso}
          - hook: web_hook
            config:
              url: https://l.example/
              method: POST
              body: https://elsewhere.example/body.jsonnet
              can_interrupt: true
              auth: {type: basic_auth, config: {user: u, password: s3cret}}
"#;

    #[test]
    fn hooks_are_translated_and_secrets_are_not() {
        let parts = [
            "session_after_registration = false",
            "when = \"before\"\nhook = \"web_hook\"\nid = \"registration_before_0\"",
            "verb = \"GET\"",
            "method = \"password\"\nhook = \"web_hook\"\nid = \"crm-hook\"",
            "headers = { \"X-A\" = \"b\" }\napi_key_name = \"X-Key\"",
            "api_key_file = \"crm-hook.key\"\nresponse = \"ignore\"",
            "hook = \"require_verified_address\"",
            "flow = \"login\"\nhook = \"b2b_sso\"",
            "basic_password_file = \"login_after_2.password\"\ncan_interrupt = true",
        ];
        let left = [
            "selfservice.flows.settings.after.hooks[0]",
            "selfservice.flows.login.after.hooks[2].config.body",
            "selfservice.flows.login.after.hooks[2].config.auth",
            "selfservice.flows.registration.after.password.hooks[0].config.auth",
        ];
        let translated = assert_translated(KRATOS, &parts, &left);
        let whole = |left: &Left| left.setting == "selfservice.flows.login.after.hooks";
        assert!(!translated.left.iter().any(whole), "{:?}", translated.left);
    }
}
