//! Kratos's courier: its gateways as `[[courier.channels]]`, and its way of mails.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    config::{Left, at, quoted},
    request,
};

/// A translated courier.
#[derive(Debug, Default)]
pub(super) struct Courier {
    /// In TOML.
    pub(super) toml: String,
    /// The paths that were looked at.
    pub(super) taken: Vec<String>,
    /// What was left.
    pub(super) left: Vec<Left>,
    /// Whether mails go by HTTP, so that a mail server has no use.
    pub(super) mails_by_http: bool,
}

/// The courier of a configuration.
pub(super) fn translate(kratos: &Value) -> Courier {
    let mut courier = Courier::default();
    let strategy = at(kratos, "courier.delivery_strategy").and_then(Value::as_str);
    courier.taken.push("courier.delivery_strategy".to_owned());
    let path = "courier.http.request_config";
    match (strategy, at(kratos, path)) {
        (Some("http"), Some(config)) => {
            courier.taken.push(path.to_owned());
            courier.mails_by_http = courier.channel("email", path, config);
        }
        (Some("http"), None) => {
            let why = "mails are to go by HTTP, and it does not say where to";
            courier.left.push(Left::new("courier.delivery_strategy", why));
        }
        (_, Some(_)) => {
            courier.taken.push(path.to_owned());
            let why = "it is not in force: courier.delivery_strategy is not http";
            courier.left.push(Left::new(path, why));
        }
        _ => {}
    }
    let path = "courier.channels";
    let channels = at(kratos, path).and_then(Value::as_array);
    courier.taken.push(path.to_owned());
    for (number, channel) in channels.into_iter().flatten().enumerate() {
        let path = format!("{path}[{number}]");
        let (id, kind) = (channel["id"].as_str(), channel["type"].as_str().unwrap_or("http"));
        match (id, kind) {
            (Some(id @ ("sms" | "email")), "http") => {
                let path = format!("{path}.request_config");
                let is_mail = id == "email";
                if is_mail && courier.mails_by_http {
                    let why = "there is a way of mails already: courier.http.request_config";
                    courier.left.push(Left::new(&path, why));
                    continue;
                }
                let taken = courier.channel(id, &path, &channel["request_config"]);
                courier.mails_by_http |= is_mail && taken;
            }
            (Some("email"), "smtp") => {
                let why = "the mail server belongs into courier.smtp_url";
                courier.left.push(Left::new(&path, why));
            }
            (id, kind) => {
                let id = id.unwrap_or_default();
                let why = format!("there is no channel \"{id}\" of the kind {kind}");
                courier.left.push(Left::new(&path, why));
            }
        }
    }
    courier
}

impl Courier {
    fn channel(&mut self, id: &str, path: &str, config: &Value) -> bool {
        match request::translate(path, config, &format!("courier-{id}"), &mut self.left) {
            Ok(text) => {
                // Writing into a string cannot fail.
                let _ = write!(self.toml, "\n[[courier.channels]]\nid = {}\n{text}", quoted(id));
                true
            }
            Err(why) => {
                self.left.push(Left::new(path, why));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Translated, assert_translated};

    const KRATOS: &str = r#"
courier:
  delivery_strategy: http
  message_retries: 5
  smtp: {connection_uri: "smtps://mail.example.org", from_address: id@example.org}
  http:
    request_config:
      url: https://mail.example/v1
      body: file:///etc/kratos/mail.jsonnet
      headers: {Content-Type: application/json}
      auth: {type: basic_auth, config: {user: u, password: s3cret}}
  channels:
    - id: sms
      type: http
      request_config:
        url: https://sms.example/send
        method: PUT
        body: base64://e30=
        auth: {type: api_key, config: {name: Authorization, value: s3cret, in: header}}
    - {id: fax, type: http, request_config: {url: "https://fax.example/"}}
"#;

    #[test]
    fn gateways_are_translated_and_secrets_are_not() {
        let parts = [
            "[[courier.channels]]\nid = \"email\"\nurl = \"https://mail.example/v1\"\nbody = \
             \"file:///etc/kratos/mail.jsonnet\"\nheaders = { \"Content-Type\" = \
             \"application/json\" }\nbasic_user = \"u\"\nbasic_password_file = \
             \"courier-email.password\"",
            "[[courier.channels]]\nid = \"sms\"\nurl = \"https://sms.example/send\"\nverb = \
             \"PUT\"\nbody = \"base64://e30=\"\napi_key_name = \"Authorization\"\napi_key_file = \
             \"courier-sms.key\"",
            "from_address = \"id@example.org\"",
        ];
        let Translated { toml, left } = assert_translated(KRATOS, &parts, &[]);
        assert!(!toml.contains("smtp_url"), "{toml}");
        let left: Vec<&str> = left.iter().map(|left| left.setting.as_str()).collect();
        assert_eq!(
            left,
            [
                "courier.channels[0].request_config.auth",
                "courier.channels[1]",
                "courier.http.request_config.auth",
                "courier.message_retries",
                "courier.smtp.connection_uri",
            ]
        );
    }

    #[test]
    fn mails_go_by_a_mail_server_unless_it_says_http() {
        let Translated { toml, left } =
            assert_translated(&KRATOS.replace("strategy: http", "strategy: smtp"), &[], &[]);
        assert!(toml.contains("smtp_url = \"smtps://mail.example.org\""), "{toml}");
        assert!(!toml.contains("id = \"email\""), "{toml}");
        assert!(left.iter().any(|left| left.setting == "courier.http.request_config"));
    }
}
