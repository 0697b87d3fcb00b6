//! The nodes of time-based codes.

use serde_json::json;

use super::button;
use crate::{
    factor::{qr, totp::Seed},
    ui::{Group, InputAttributes, InputType, Node, Text},
};

pub(super) fn login() -> [Node; 2] {
    [code(Text::label_totp()), button(Group::Totp, "totp", Text::use_authenticator())]
}

/// Offers to add an app that shares this seed, under these names.
pub(super) fn add(seed: &Seed, issuer: &str, account: &str) -> Vec<Node> {
    let picture = qr::picture(seed.url(issuer, account).expose());
    let picture = picture.map(|picture| {
        let source = (picture.url.as_str(), picture.width);
        Node::image(Group::Totp, "totp_qr", source, Text::label_totp_qr())
    });
    let text = Text::totp_secret(seed.text().expose());
    let secret = Node::text(Group::Totp, "totp_secret_key", text, Text::label_totp_secret());
    let mut nodes = Vec::from_iter(picture);
    nodes.extend([
        secret,
        code(Text::label_verify_totp()),
        button(Group::Totp, "totp", Text::label_save()),
    ]);
    nodes
}

pub(super) fn unlink() -> Node {
    let mut unlink = InputAttributes::new("totp_unlink", InputType::Submit);
    unlink.value = Some(json!("true"));
    unlink.required = true;
    Node::input(Group::Totp, unlink, Some(Text::unlink_totp()))
}

fn code(label: Text) -> Node {
    let mut code = InputAttributes::new("totp_code", InputType::Text);
    code.required = true;
    code.value = Some(json!(""));
    Node::input(Group::Totp, code, Some(label))
}
