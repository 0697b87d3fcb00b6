//! The nodes of a proof of work: what is to be answered, and the answer, which the script of
//! the pages fills in.

use serde_json::json;

use crate::ui::{Container, Group, InputAttributes, InputType, Node, Text};

/// Asks for work.
pub fn ask_for_work(form: &mut Container, flow: &str, bits: u32) {
    let mut challenge = InputAttributes::new("captcha_challenge", InputType::Hidden);
    challenge.value = Some(json!(format!("sha-256.{bits}.{flow}")));
    form.nodes.push(Node::input(Group::Captcha, challenge, None));
    let mut proof = InputAttributes::new("captcha_proof", InputType::Hidden);
    proof.required = true;
    proof.value = Some(json!(""));
    form.nodes.push(Node::input(Group::Captcha, proof, Some(Text::captcha_needed())));
}
