//! The nodes of backup codes.

use cardea_storage::Timestamp;
use serde_json::json;

use super::button;
use crate::ui::{Group, InputAttributes, InputType, Node, Text};

/// What is shown of backup codes; a code that was used is `None`, with when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupSecrets {
    /// There are none.
    None,
    /// There are some.
    Kept,
    /// There are these.
    Revealed(Vec<(Option<String>, Timestamp)>),
    /// These are new, and not kept yet.
    Proposed(Vec<(Option<String>, Timestamp)>),
}

pub(super) fn login() -> [Node; 2] {
    let mut code = InputAttributes::new("lookup_secret", InputType::Text);
    code.required = true;
    code.value = Some(json!(""));
    [
        Node::input(Group::LookupSecret, code, Some(Text::label_lookup_secret())),
        button(Group::LookupSecret, "lookup_secret", Text::use_lookup_secret()),
    ]
}

pub(super) fn settings(secrets: &LookupSecrets) -> Vec<Node> {
    let reveal = || choice("lookup_secret_reveal", Text::reveal_lookup_secrets());
    let regenerate = || choice("lookup_secret_regenerate", Text::regenerate_lookup_secrets());
    let confirm = || choice("lookup_secret_confirm", Text::confirm_lookup_secrets());
    let disable = || choice("lookup_secret_disable", Text::disable_lookup_secrets());
    match secrets {
        LookupSecrets::None => vec![regenerate()],
        LookupSecrets::Kept => vec![reveal(), disable()],
        LookupSecrets::Revealed(all) => vec![regenerate(), codes(all), disable()],
        LookupSecrets::Proposed(all) => vec![codes(all), confirm()],
    }
}

fn codes(codes: &[(Option<String>, Timestamp)]) -> Node {
    let text = Text::lookup_secrets(codes);
    Node::text(Group::LookupSecret, "lookup_secret_codes", text, Text::label_lookup_secrets())
}

fn choice(name: &str, label: Text) -> Node {
    let mut choice = InputAttributes::new(name, InputType::Submit);
    choice.value = Some(json!("true"));
    Node::input(Group::LookupSecret, choice, Some(label))
}
