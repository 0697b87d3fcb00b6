//! The leaves of a schema's traits: what a form asks for, one field each.

use serde_json::Value;

use crate::ui::{
    InputAttributes, InputType, Node,
    node::{Autocomplete, Group},
    text::Text,
};

/// A leaf of the traits.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name in a form: `traits.name.first`.
    pub name: String,
    /// Its title in the schema, if it has one.
    pub title: Option<String>,
    /// How it is asked for.
    pub kind: InputType,
    /// What a browser may fill in by itself.
    pub autocomplete: Option<Autocomplete>,
    /// Whether the schema requires it, and everything above it.
    pub required: bool,
    /// A regular expression that the value must match.
    pub pattern: Option<String>,
    /// The longest value, in characters.
    pub length_max: Option<u64>,
    /// Whether a way to log in knows somebody by it, or calls somebody so.
    pub identifies: bool,
}

impl Field {
    /// The node that asks for it.
    pub fn node(&self) -> Node {
        let mut attributes = InputAttributes::new(self.name.clone(), self.kind);
        attributes.required = self.required;
        attributes.autocomplete = self.autocomplete;
        attributes.pattern = self.pattern.clone();
        attributes.maxlength = self.length_max;
        let label = self.title.as_ref().map(|title| Text::label_generated(title, &self.name));
        Node::input(Group::Default, attributes, label)
    }
}

/// The leaves of `properties.traits`, in the order of the schema. Arrays and
/// places without a type are not asked for, as in Kratos.
pub(super) fn list(document: &Value) -> Vec<Field> {
    let mut fields = Vec::new();
    walk(document, &document["properties"]["traits"], "traits", true, 0, &mut fields);
    fields
}

fn walk(
    document: &Value,
    schema: &Value,
    name: &str,
    required: bool,
    depth: usize,
    fields: &mut Vec<Field>,
) {
    if depth > super::DEPTH_MAX {
        return;
    }
    if let Some((target, _)) = super::resolve(document, schema) {
        return walk(document, target, name, required, depth + 1, fields);
    }
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let needed = schema.get("required").and_then(Value::as_array);
        for (child, schema) in properties {
            let needed = needed.is_some_and(|list| list.iter().any(|item| item == child.as_str()));
            let name = format!("{name}.{}", child.replace('.', "\\."));
            walk(document, schema, &name, required && needed, depth + 1, fields);
        }
        return;
    }
    let format = schema.get("format").and_then(Value::as_str);
    let (kind, autocomplete) = match (schema.get("type").and_then(Value::as_str), format) {
        (Some("string"), Some("email")) => (InputType::Email, Some(Autocomplete::Email)),
        (Some("string"), Some("tel")) => (InputType::Tel, Some(Autocomplete::Tel)),
        (Some("string"), Some("uri")) => (InputType::Url, Some(Autocomplete::Url)),
        (Some("string"), Some("date")) => (InputType::Date, None),
        (Some("string"), Some("date-time")) => (InputType::DatetimeLocal, None),
        (Some("string"), _) => (InputType::Text, None),
        (Some("number" | "integer"), _) => (InputType::Number, None),
        (Some("boolean"), _) => (InputType::Checkbox, None),
        _ => return,
    };
    fields.push(Field {
        name: name.to_owned(),
        title: schema.get("title").and_then(Value::as_str).map(str::to_owned),
        kind,
        autocomplete,
        required,
        pattern: schema.get("pattern").and_then(Value::as_str).map(str::to_owned),
        length_max: schema.get("maxLength").and_then(Value::as_u64),
        identifies: super::extension::identifies(&schema["ory.sh/kratos"]),
    });
}
