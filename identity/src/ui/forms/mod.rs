//! The forms of flows, with nodes named and ordered as in Kratos. Each method adds the
//! nodes of its own group; they are put in the order of groups here.

mod captcha;
mod code;
mod lookup_secret;
mod passkey;
mod password;
mod profile;
mod totp;
mod webauthn;

use serde_json::{Value, json};

use super::{
    container::{Container, field_of_pointer},
    node::{Autocomplete, Group, InputAttributes, InputType, Node},
    text::Text,
};
use crate::{
    factor::totp::Seed,
    schema::{Channel, IdentitySchema, Violation},
};

pub use captcha::ask_for_work;
pub use code::{address, code, link, login_code, registration_code};
pub use lookup_secret::LookupSecrets;
pub use webauthn::{ListedKey, Script, script};

/// What a login asks for: the methods that are offered.
#[derive(Debug, Clone, Default)]
pub struct Login {
    /// Whether somebody who is logged in proves it again.
    pub refresh: bool,
    /// Whether the identifier is asked for.
    pub identifier: bool,
    /// What the schema calls it; `None`: Kratos's word for any.
    pub identifier_label: Option<Text>,
    /// A password.
    pub password: bool,
    /// A code that is sent to an address.
    pub code: bool,
    /// A passkey, by these options.
    pub passkey: Option<Value>,
    /// A security key, of whoever names itself first.
    pub security_key: bool,
    /// A second factor, and nothing else.
    pub second_factor: bool,
    /// A code that is sent to one of these, as they are shown.
    pub second_codes: Vec<(Channel, String)>,
    /// A time-based code.
    pub totp: bool,
    /// A backup code.
    pub lookup_secret: bool,
    /// A security key, by these options.
    pub webauthn: Option<Value>,
    /// What passkeys and security keys call.
    pub script: Option<Script>,
}

/// What a registration asks for, beside traits and password.
#[derive(Debug, Clone, Default)]
pub struct Registration {
    /// A code that is sent to an address.
    pub code: bool,
    /// A passkey, by these options, named after that field.
    pub passkey: Option<(Value, String)>,
    /// A security key, by these options.
    pub webauthn: Option<Value>,
    /// What passkeys and security keys call.
    pub script: Option<Script>,
}

/// What settings offer, beside traits and password.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Time-based codes.
    pub totp: Option<Totp>,
    /// Backup codes.
    pub lookup_secret: Option<LookupSecrets>,
    /// Security keys: those there are, each with whether it may be removed, and options for
    /// another.
    pub webauthn: Option<(Vec<(ListedKey, bool)>, Value)>,
    /// Passkeys: those there are, whether they may be removed, and options for another.
    pub passkey: Option<(Vec<ListedKey>, bool, Value)>,
    /// What passkeys and security keys call.
    pub script: Option<Script>,
}

/// What settings offer of time-based codes.
#[derive(Debug, Clone)]
pub enum Totp {
    /// There is an app.
    Linked,
    /// There is none, and one may share this seed.
    Offered {
        /// The seed.
        seed: Seed,
        /// Who asks for codes.
        issuer: String,
        /// Whose codes they are.
        account: String,
    },
}

/// The form that logs somebody in.
pub fn login(action: &str, login: &Login) -> Container {
    let mut form = begin(action);
    if login.identifier {
        let finds_passkeys = login.passkey.is_some() && !login.refresh;
        form.nodes.push(identifier(finds_passkeys, login.identifier_label.clone()));
    }
    if login.password {
        form.nodes.extend(password::login());
    }
    if let Some(options) = &login.passkey {
        let refresh = login.refresh;
        form.nodes.extend(if refresh {
            passkey::refresh(options)
        } else {
            passkey::login(options)
        });
    }
    if login.code {
        form.nodes.push(code::send(Text::send_login_code()));
    }
    form.nodes.extend(login.second_codes.iter().map(|(via, shown)| code::send_to(*via, shown)));
    if login.totp {
        form.nodes.extend(totp::login());
    }
    if login.lookup_secret {
        form.nodes.extend(lookup_secret::login());
    }
    if login.security_key {
        form.nodes.push(webauthn::choose());
    }
    if let Some(options) = &login.webauthn {
        form.nodes.extend(webauthn::login(options));
    }
    form.nodes.extend(login.script.as_ref().map(webauthn::script));
    if login.refresh {
        form.messages.push(Text::confirm_that_it_is_you());
    }
    if login.second_factor {
        form.messages.push(Text::second_factor_needed());
    }
    arranged(form)
}

/// The form that signs somebody up.
pub fn registration(
    action: &str,
    schema: &IdentitySchema,
    registration: &Registration,
) -> Container {
    let mut form = begin(action);
    form.nodes.extend(profile::registration(schema));
    form.nodes.extend(password::registration());
    if let Some((options, field)) = &registration.passkey {
        form.nodes.extend(passkey::registration(options, field));
    }
    if let Some(options) = &registration.webauthn {
        form.nodes.extend(webauthn::registration(options));
    }
    if registration.code {
        form.nodes.push(code::send(Text::send_registration_code()));
    }
    form.nodes.extend(registration.script.as_ref().map(webauthn::script));
    arranged(form)
}

/// The form that changes what somebody says of itself, and how it logs in.
pub fn settings(
    action: &str,
    schema: &IdentitySchema,
    traits: &Value,
    settings: &Settings,
) -> Container {
    let mut form = begin(action);
    form.nodes.extend(profile::settings(schema));
    form.nodes.extend(password::settings());
    match &settings.totp {
        Some(Totp::Linked) => form.nodes.push(totp::unlink()),
        Some(Totp::Offered { seed, issuer, account }) => {
            form.nodes.extend(totp::add(seed, issuer, account));
        }
        None => {}
    }
    if let Some(secrets) = &settings.lookup_secret {
        form.nodes.extend(lookup_secret::settings(secrets));
    }
    if let Some((keys, options)) = &settings.webauthn {
        form.nodes.extend(webauthn::settings(keys, options));
    }
    if let Some((keys, may_remove, options)) = &settings.passkey {
        form.nodes.extend(passkey::settings(keys, *may_remove, options));
    }
    form.nodes.extend(settings.script.as_ref().map(webauthn::script));
    refill_traits(&mut form, traits);
    arranged(form)
}

/// A registration form as it was sent, without the password, with what is wrong.
pub fn refill_traits(form: &mut Container, traits: &Value) {
    fn fill(form: &mut Container, name: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    fill(form, &format!("{name}.{}", key.replace('.', "\\.")), value);
                }
            }
            Value::Array(_) | Value::Null => {}
            leaf => form.fill(name, leaf.clone()),
        }
    }
    fill(form, "traits", traits);
}

/// Tells each violation at its field.
pub fn say_violations(form: &mut Container, violations: &[Violation]) {
    for violation in violations {
        form.say(&field_of_pointer(&violation.pointer), violation.text());
    }
}

/// A form of which nothing is asked yet.
pub fn begin(action: &str) -> Container {
    let mut form = Container::new(action);
    form.nodes.push(csrf_token());
    form
}

/// The form with its groups in their order, and the nodes of each as they were added.
fn arranged(mut form: Container) -> Container {
    form.nodes.sort_by_key(|node| rank(node.group));
    form
}

/// Where a group stands in a form.
const fn rank(group: Group) -> u8 {
    match group {
        Group::Default | Group::Captcha => 0,
        Group::Profile => 1,
        Group::Password => 2,
        Group::Webauthn => 4,
        Group::Passkey => 5,
        Group::Link => 3,
        Group::Code => 6,
        Group::Totp => 7,
        Group::LookupSecret => 8,
        // Last, so that the key for sending a form presses another button.
        Group::Oidc => 9,
    }
}

/// Hidden and empty in native flows, which have no cookie to guard.
fn csrf_token() -> Node {
    let mut attributes = InputAttributes::new("csrf_token", InputType::Hidden);
    attributes.required = true;
    attributes.value = Some(json!(""));
    Node::input(Group::Default, attributes, None)
}

fn identifier(finds_passkeys: bool, label: Option<Text>) -> Node {
    let mut identifier = InputAttributes::new("identifier", InputType::Text);
    identifier.required = true;
    identifier.autocomplete = finds_passkeys.then_some(Autocomplete::UsernameWebauthn);
    identifier.value = Some(json!(""));
    let label = label.unwrap_or_else(Text::label_identifier);
    Node::input(Group::Default, identifier, Some(label))
}

/// The button that chooses a method.
fn button(group: Group, method: &str, label: Text) -> Node {
    let mut attributes = InputAttributes::new("method", InputType::Submit);
    attributes.value = Some(json!(method));
    Node::input(group, attributes, Some(label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{SchemaId, preset};

    #[test]
    fn login_form_is_that_of_kratos() {
        let asked = Login { identifier: true, password: true, ..Login::default() };
        let form = login("https://id.example/self-service/login?flow=x", &asked);
        assert_eq!(
            serde_json::to_value(form).unwrap(),
            json!({
                "action": "https://id.example/self-service/login?flow=x",
                "method": "POST",
                "nodes": [
                    {"type": "input", "group": "default", "messages": [], "meta": {},
                     "attributes": {"name": "csrf_token", "type": "hidden", "value": "",
                        "required": true, "disabled": false, "node_type": "input"}},
                    {"type": "input", "group": "default", "messages": [],
                     "meta": {"label": {"id": 1070004, "text": "ID", "type": "info"}},
                     "attributes": {"name": "identifier", "type": "text", "value": "",
                        "required": true, "disabled": false, "node_type": "input"}},
                    {"type": "input", "group": "password", "messages": [],
                     "meta": {"label": {"id": 1070001, "text": "Password", "type": "info"}},
                     "attributes": {"name": "password", "type": "password", "required": true,
                        "autocomplete": "current-password", "disabled": false,
                        "node_type": "input"}},
                    {"type": "input", "group": "password", "messages": [],
                     "meta": {"label": {"id": 1010022, "text": "Sign in with password",
                        "type": "info"}},
                     "attributes": {"name": "method", "type": "submit", "value": "password",
                        "disabled": false, "node_type": "input"}},
                ]
            })
        );
    }

    #[test]
    fn registration_form_asks_for_traits_in_the_order_of_the_schema() {
        let schema =
            IdentitySchema::parse(SchemaId("default".to_owned()), preset::email()).unwrap();
        let mut form = registration("/", &schema, &Registration::default());
        refill_traits(&mut form, &json!({"email": "a@b.c", "name": {"first": "A"}, "x": [1]}));
        let names: Vec<_> = form.nodes.iter().map(Node::name).collect();
        assert_eq!(
            names,
            [
                "csrf_token",
                "traits.email",
                "traits.name.first",
                "traits.name.last",
                "password",
                "method"
            ]
        );
        let email = serde_json::to_value(form.find("traits.email").unwrap()).unwrap();
        assert_eq!(
            email,
            json!({"type": "input", "group": "default", "messages": [],
                "meta": {"label": {"id": 1070002, "text": "Email", "type": "info",
                    "context": {"title": "Email", "name": "traits.email"}}},
                "attributes": {"name": "traits.email", "type": "email", "value": "a@b.c",
                    "required": true, "autocomplete": "email", "disabled": false,
                    "maxlength": 320, "node_type": "input"}})
        );
        let password = serde_json::to_value(form.find("password").unwrap()).unwrap();
        assert_eq!(password["attributes"]["autocomplete"], "new-password");
        assert_eq!(password["attributes"].get("value"), None);
    }

    #[test]
    fn violations_are_told_at_their_fields() {
        let schema =
            IdentitySchema::parse(SchemaId("default".to_owned()), preset::email()).unwrap();
        let mut form = registration("/", &schema, &Registration::default());
        say_violations(&mut form, &schema.check(&json!({"name": {"last": 1}})).unwrap_err());
        assert_eq!(form.find("traits.email").unwrap().messages[0].id, 4_000_002);
        assert_eq!(form.find("traits.name.last").unwrap().messages[0].id, 4_000_026);
    }
}
