//! The forms of codes that are sent to an address.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{begin, button};
use crate::{
    schema::Channel,
    ui::{Container, Group, InputAttributes, InputType, Node, Text, node::Autocomplete},
};

/// The form that asks for an address, to send a code to.
pub fn address(action: &str, asked: &BTreeSet<Channel>) -> Container {
    let mut form = begin(action);
    form.nodes.extend([
        address_field(Group::Code, asked, None),
        button(Group::Code, "code", Text::label_continue()),
    ]);
    form
}

/// The form that asks for an address, to send a link to; with the one that it was sent to.
pub fn link(action: &str, asked: &BTreeSet<Channel>, address: &str) -> Container {
    let mut form = begin(action);
    form.nodes.extend([
        address_field(Group::Link, asked, Some(address).filter(|address| !address.is_empty())),
        button(Group::Link, "link", Text::label_continue()),
    ]);
    form
}

/// The field of an address, which is called `email` whatever it takes.
fn address_field(group: Group, asked: &BTreeSet<Channel>, value: Option<&str>) -> Node {
    let (mail, phone) = (asked.contains(&Channel::Email), asked.contains(&Channel::Sms));
    let (kind, fills, label) = match (mail, phone) {
        (_, false) => (InputType::Email, Some(Autocomplete::Email), Text::label_email()),
        (false, true) => (InputType::Tel, Some(Autocomplete::Tel), Text::label_phone()),
        (true, true) => (InputType::Text, None, Text::label_email_or_phone()),
    };
    let mut field = InputAttributes::new("email", kind);
    field.required = true;
    field.autocomplete = fills;
    field.value = value.map(|value| json!(value));
    Node::input(group, field, Some(label))
}

/// The button that has a code sent, to log in or to sign up.
pub(super) fn send(label: Text) -> Node {
    button(Group::Code, "code", label)
}

/// The button that has a code sent to an address, as a second factor.
pub(super) fn send_to(via: Channel, shown: &str) -> Node {
    let mut address = InputAttributes::new("address", InputType::Submit);
    address.value = Some(json!(shown));
    Node::input(Group::Code, address, Some(Text::send_code_to(via, shown)))
}

/// The form that asks for the code that was sent to somebody who logs in.
pub fn login_code(action: &str, address: &str) -> Container {
    let mut identifier = InputAttributes::new("identifier", InputType::Hidden);
    identifier.required = true;
    identifier.value = Some(json!(address));
    let mut form = begin(action);
    form.nodes.push(Node::input(Group::Default, identifier, None));
    form.nodes.extend(typed(Text::label_login_code()));
    form
}

/// The form that asks for the code that was sent to somebody who signs up, with what it
/// says of itself.
pub fn registration_code(action: &str, traits: &Value) -> Container {
    fn hidden(form: &mut Container, name: &str, value: &Value) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    hidden(form, &format!("{name}.{}", key.replace('.', "\\.")), value);
                }
            }
            Value::Null => {}
            leaf => {
                let mut input = InputAttributes::new(name, InputType::Hidden);
                input.value = Some(leaf.clone());
                form.nodes.push(Node::input(Group::Default, input, None));
            }
        }
    }
    let mut form = begin(action);
    hidden(&mut form, "traits", traits);
    form.nodes.extend(typed(Text::label_registration_code()));
    form
}

/// The field of a code, the button that sends it in, and the one that asks for another.
fn typed(label: Text) -> [Node; 3] {
    let mut code = InputAttributes::new("code", InputType::Text);
    code.required = true;
    code.autocomplete = Some(Autocomplete::OneTimeCode);
    let mut again = InputAttributes::new("resend", InputType::Submit);
    again.value = Some(json!("code"));
    [
        Node::input(Group::Code, code, Some(label)),
        button(Group::Code, "code", Text::label_continue()),
        Node::input(Group::Code, again, Some(Text::label_send_again())),
    ]
}

/// The form that asks for the code that was sent to an address.
pub fn code(action: &str, label: Text, address: &str) -> Container {
    let mut code = InputAttributes::new("code", InputType::Text);
    code.required = true;
    code.autocomplete = Some(Autocomplete::OneTimeCode);
    let mut again = InputAttributes::new("email", InputType::Submit);
    again.value = Some(json!(address));
    let mut form = begin(action);
    form.nodes.extend([
        Node::input(Group::Code, code, Some(label)),
        button(Group::Code, "code", Text::label_continue()),
        Node::input(Group::Code, again, Some(Text::label_send_again())),
    ]);
    form
}
