//! The nodes of passkeys.

use serde_json::{Value, json};

use super::webauthn::{ListedKey, button, hidden};
use crate::ui::{Group, InputAttributes, InputType, Node, Text, node::Trigger};

/// Offers to use a passkey, by a button or where user names are filled in.
pub(super) fn login(options: &Value) -> [Node; 3] {
    let challenge = hidden(Group::Passkey, "passkey_challenge", Some(options));
    let mut answer = hidden(Group::Passkey, "passkey_login", None);
    if let Some(input) = answer.input_mut() {
        let trigger = Trigger::OryPasskeyLoginAutocompleteInit;
        input.onload = Some(format!("window.{}()", trigger.name()));
        input.onload_trigger = Some(trigger);
    }
    [challenge, answer, login_button()]
}

/// Asks somebody who is signed in to use a passkey again.
pub(super) fn refresh(options: &Value) -> [Node; 3] {
    [
        hidden(Group::Passkey, "passkey_challenge", Some(options)),
        hidden(Group::Passkey, "passkey_login", None),
        login_button(),
    ]
}

fn login_button() -> Node {
    let trigger = button("passkey_login_trigger", Trigger::OryPasskeyLogin, None);
    Node::input(Group::Passkey, trigger, Some(Text::sign_in_with_passkey()))
}

/// Offers to sign up with a passkey, which is named after what stands in a field.
pub(super) fn registration(options: &Value, name_field: &str) -> [Node; 3] {
    let data = json!({"displayNameFieldName": name_field, "credentialOptions": options});
    let trigger = button("passkey_register_trigger", Trigger::OryPasskeyRegistration, None);
    [
        hidden(Group::Passkey, "passkey_create_data", Some(&data)),
        hidden(Group::Passkey, "passkey_register", None),
        Node::input(Group::Passkey, trigger, Some(Text::sign_up_with_passkey())),
    ]
}

/// Offers to remove passkeys, unless one is the last way to log in, and to add one.
pub(super) fn settings(keys: &[ListedKey], may_remove: bool, options: &Value) -> Vec<Node> {
    let mut nodes: Vec<Node> = keys
        .iter()
        .map(|key| {
            let mut remove = InputAttributes::new("passkey_remove", InputType::Submit);
            remove.value = Some(json!(key.hex()));
            remove.disabled = !may_remove;
            let label = Text::remove_passkey(key.shown_name(), key.added_at);
            Node::input(Group::Passkey, remove, Some(label))
        })
        .collect();
    let trigger = button("passkey_register_trigger", Trigger::OryPasskeySettingsRegistration, None);
    nodes.push(Node::input(Group::Passkey, trigger, Some(Text::add_passkey())));
    nodes.push(hidden(Group::Passkey, "passkey_settings_register", None));
    nodes.push(hidden(Group::Passkey, "passkey_create_data", Some(options)));
    nodes
}
