//! The nodes of the password method.

use super::button;
use crate::ui::{Group, InputAttributes, InputType, Node, Text, node::Autocomplete};

pub(super) fn login() -> [Node; 2] {
    [
        password(Autocomplete::CurrentPassword),
        button(Group::Password, "password", Text::sign_in_with_password()),
    ]
}

pub(super) fn registration() -> [Node; 2] {
    [password(Autocomplete::NewPassword), button(Group::Password, "password", Text::sign_up())]
}

pub(super) fn settings() -> [Node; 2] {
    [password(Autocomplete::NewPassword), button(Group::Password, "password", Text::label_save())]
}

fn password(autocomplete: Autocomplete) -> Node {
    let mut attributes = InputAttributes::new("password", InputType::Password);
    attributes.required = true;
    attributes.autocomplete = Some(autocomplete);
    Node::input(Group::Password, attributes, Some(Text::label_password()))
}
