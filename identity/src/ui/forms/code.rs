//! The forms of codes that are sent to an address.

use serde_json::json;

use super::{begin, button};
use crate::ui::{Container, Group, InputAttributes, InputType, Node, Text, node::Autocomplete};

/// The form that asks for an address, to send a code to.
pub fn address(action: &str) -> Container {
    let mut email = InputAttributes::new("email", InputType::Email);
    email.required = true;
    email.autocomplete = Some(Autocomplete::Email);
    let mut form = begin(action);
    form.nodes.extend([
        Node::input(Group::Code, email, Some(Text::label_email())),
        button(Group::Code, "code", Text::label_continue()),
    ]);
    form
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
