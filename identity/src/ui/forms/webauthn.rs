//! The nodes of security keys, and the script that passkeys call as well.

use cardea_storage::Timestamp;
use serde_json::{Value, json};

use crate::ui::{Group, InputAttributes, InputType, Node, Text, node::Trigger};

/// A key as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedKey {
    /// Its id.
    pub id: Vec<u8>,
    /// What its owner calls it; empty for nothing.
    pub name: String,
    /// When it was added.
    pub added_at: Timestamp,
}

/// Where the script is, and its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// A URL.
    pub url: String,
    /// As in the `integrity` of HTML.
    pub integrity: String,
}

impl ListedKey {
    /// The id as it is sent back.
    pub(super) fn hex(&self) -> String {
        self.id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn shown_name(&self) -> &str {
        if self.name.is_empty() { "unnamed" } else { &self.name }
    }
}

/// The script that the nodes of keys call, and that does the work a form asks for.
pub fn script(script: &Script) -> Node {
    Node::script(
        Group::Webauthn,
        "webauthn_script",
        &script.url,
        &script.integrity,
        // Whoever sets a policy of its own draws its own nonce.
        String::new(),
    )
}

/// Offers to log in by a key alone, to whoever says who it is.
pub(super) fn choose() -> Node {
    let mut method = InputAttributes::new("method", InputType::Submit);
    method.value = Some(json!("webauthn"));
    Node::input(Group::Webauthn, method, Some(Text::use_security_key()))
}

/// Offers to sign up by a key.
pub(super) fn registration(options: &Value) -> [Node; 3] {
    let trigger =
        button("webauthn_register_trigger", Trigger::OryWebAuthnRegistration, Some(options));
    [
        key_name(),
        hidden(Group::Webauthn, "webauthn_register", None),
        Node::input(Group::Webauthn, trigger, Some(Text::sign_up_with_security_key())),
    ]
}

fn key_name() -> Node {
    let mut name = InputAttributes::new("webauthn_register_displayname", InputType::Text);
    name.value = Some(json!(""));
    Node::input(Group::Webauthn, name, Some(Text::label_security_key_name()))
}

/// Asks to use one of the keys that the options name.
pub(super) fn login(options: &Value) -> [Node; 2] {
    let trigger = button("webauthn_login_trigger", Trigger::OryWebAuthnLogin, Some(options));
    [
        hidden(Group::Webauthn, "webauthn_login", None),
        Node::input(Group::Webauthn, trigger, Some(Text::use_security_key())),
    ]
}

/// Offers to remove keys, but for the last way to log in, and to add one by these options.
pub(super) fn settings(keys: &[(ListedKey, bool)], options: &Value) -> Vec<Node> {
    let mut nodes: Vec<Node> = keys
        .iter()
        .map(|(key, may_remove)| {
            let mut remove = InputAttributes::new("webauthn_remove", InputType::Submit);
            remove.value = Some(json!(key.hex()));
            remove.disabled = !may_remove;
            let label = Text::remove_security_key(key.shown_name(), key.added_at);
            Node::input(Group::Webauthn, remove, Some(label))
        })
        .collect();
    nodes.push(key_name());
    let trigger =
        button("webauthn_register_trigger", Trigger::OryWebAuthnRegistration, Some(options));
    nodes.push(Node::input(Group::Webauthn, trigger, Some(Text::add_security_key())));
    nodes.push(hidden(Group::Webauthn, "webauthn_register", None));
    nodes
}

/// A button that calls the script, with options or without.
pub(super) fn button(name: &str, trigger: Trigger, options: Option<&Value>) -> InputAttributes {
    let mut button = InputAttributes::new(name, InputType::Button);
    let options = options.map(Value::to_string);
    let arguments = options.clone().unwrap_or_default();
    button.onclick = Some(format!("window.{}({arguments})", trigger.name()));
    button.onclick_trigger = Some(trigger);
    button.value = Some(json!(options.unwrap_or_default()));
    button
}

/// A field that the script reads or fills in.
pub(super) fn hidden(group: Group, name: &str, value: Option<&Value>) -> Node {
    let mut field = InputAttributes::new(name, InputType::Hidden);
    field.value = Some(json!(value.map(Value::to_string).unwrap_or_default()));
    Node::input(group, field, None)
}
