//! The forms of flows, with nodes named and ordered as in Kratos. Each method adds the
//! nodes of its own group; they are put in the order of groups here.

mod code;
mod password;
mod profile;

use serde_json::{Value, json};

use super::{
    container::{Container, field_of_pointer},
    node::{Group, InputAttributes, InputType, Node},
    text::Text,
};
use crate::schema::{IdentitySchema, Violation};

pub use code::{address, code};

/// The form that logs somebody in.
pub fn login(action: &str, refresh: bool) -> Container {
    let mut form = begin(action);
    form.nodes.push(identifier());
    form.nodes.extend(password::login());
    if refresh {
        form.messages.push(Text::confirm_that_it_is_you());
    }
    arranged(form)
}

/// The form that signs somebody up.
pub fn registration(action: &str, schema: &IdentitySchema) -> Container {
    let mut form = begin(action);
    form.nodes.extend(profile::registration(schema));
    form.nodes.extend(password::registration());
    arranged(form)
}

/// The form that changes what somebody says of itself, and how it logs in.
pub fn settings(action: &str, schema: &IdentitySchema, traits: &Value) -> Container {
    let mut form = begin(action);
    form.nodes.extend(profile::settings(schema));
    form.nodes.extend(password::settings());
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

fn begin(action: &str) -> Container {
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
        Group::Default => 0,
        Group::Profile => 1,
        Group::Password => 2,
        Group::Code => 3,
        Group::Totp => 4,
        Group::LookupSecret => 5,
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

fn identifier() -> Node {
    let mut identifier = InputAttributes::new("identifier", InputType::Text);
    identifier.required = true;
    identifier.value = Some(json!(""));
    Node::input(Group::Default, identifier, Some(Text::label_identifier()))
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
        let form = login("https://id.example/self-service/login?flow=x", false);
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
        let mut form = registration("/", &schema);
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
                "meta": {"label": {"id": 1070002, "text": "E-Mail", "type": "info",
                    "context": {"title": "E-Mail", "name": "traits.email"}}},
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
        let mut form = registration("/", &schema);
        say_violations(&mut form, &schema.check(&json!({"name": {"last": 1}})).unwrap_err());
        assert_eq!(form.find("traits.email").unwrap().messages[0].id, 4_000_002);
        assert_eq!(form.find("traits.name.last").unwrap().messages[0].id, 4_000_026);
    }
}
