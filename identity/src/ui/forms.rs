//! The forms of the password method, with nodes named and ordered as in Kratos.

use serde_json::{Value, json};

use super::{
    container::{Container, field_of_pointer},
    node::{Autocomplete, Group, InputAttributes, InputType, Node},
    text::Text,
};
use crate::schema::{IdentitySchema, Violation};

/// The form that logs somebody in by password.
pub fn login(action: &str, refresh: bool) -> Container {
    let mut identifier = InputAttributes::new("identifier", InputType::Text);
    identifier.required = true;
    identifier.value = Some(json!(""));
    let mut form = Container::new(action);
    form.nodes = vec![
        csrf_token(),
        Node::input(Group::Default, identifier, Some(Text::label_identifier())),
        password(Autocomplete::CurrentPassword),
        method(Text::sign_in_with_password()),
    ];
    if refresh {
        form.messages.push(Text::confirm_that_it_is_you());
    }
    form
}

/// The form that signs somebody up by password.
pub fn registration(action: &str, schema: &IdentitySchema) -> Container {
    let mut form = Container::new(action);
    form.nodes.push(csrf_token());
    form.nodes.extend(schema.fields().iter().map(crate::schema::Field::node));
    form.nodes.push(password(Autocomplete::NewPassword));
    form.nodes.push(method(Text::sign_up()));
    form
}

/// The form that changes what somebody says of itself, and its password.
pub fn settings(action: &str, schema: &IdentitySchema, traits: &Value) -> Container {
    let mut form = Container::new(action);
    form.nodes.push(csrf_token());
    form.nodes.extend(schema.fields().iter().map(|field| {
        let mut node = field.node();
        node.group = Group::Profile;
        node
    }));
    refill_traits(&mut form, traits);
    form.nodes.push(button(Group::Profile, "profile", Text::label_save()));
    form.nodes.push(password(Autocomplete::NewPassword));
    form.nodes.push(button(Group::Password, "password", Text::label_save()));
    form
}

/// The form that asks for an address, to send a code to.
pub fn address(action: &str) -> Container {
    let mut email = InputAttributes::new("email", InputType::Email);
    email.required = true;
    email.autocomplete = Some(Autocomplete::Email);
    let mut form = Container::new(action);
    form.nodes = vec![
        csrf_token(),
        Node::input(Group::Code, email, Some(Text::label_email())),
        button(Group::Code, "code", Text::label_continue()),
    ];
    form
}

/// The form that asks for the code that was sent to an address.
pub fn code(action: &str, label: Text, address: &str) -> Container {
    let mut code = InputAttributes::new("code", InputType::Text);
    code.required = true;
    code.autocomplete = Some(Autocomplete::OneTimeCode);
    let mut again = InputAttributes::new("email", InputType::Submit);
    again.value = Some(json!(address));
    let mut form = Container::new(action);
    form.nodes = vec![
        csrf_token(),
        Node::input(Group::Code, code, Some(label)),
        button(Group::Code, "code", Text::label_continue()),
        Node::input(Group::Code, again, Some(Text::label_send_again())),
    ];
    form
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

/// Hidden and empty in native flows, which have no cookie to guard.
fn csrf_token() -> Node {
    let mut attributes = InputAttributes::new("csrf_token", InputType::Hidden);
    attributes.required = true;
    attributes.value = Some(json!(""));
    Node::input(Group::Default, attributes, None)
}

fn password(autocomplete: Autocomplete) -> Node {
    let mut attributes = InputAttributes::new("password", InputType::Password);
    attributes.required = true;
    attributes.autocomplete = Some(autocomplete);
    Node::input(Group::Password, attributes, Some(Text::label_password()))
}

fn method(label: Text) -> Node {
    button(Group::Password, "password", label)
}

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
