//! Identity schemas: JSON Schema (draft 7) for traits, with the `ory.sh/kratos`
//! keyword. A schema is compiled once; nothing is ever fetched over a network,
//! so a schema refers only to itself.

pub mod change;
mod extension;
mod field;
mod phone;
pub mod preset;
#[cfg(test)]
mod tests;
mod violation;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::{Value, json};
use thiserror::Error;

pub use change::{NewSchema, SchemaChangeRejection};
pub use extension::{Address, Channel, Extracted, normalize_identifier};
pub(crate) use extension::{is_email, read_address};
pub use field::Field;
pub(crate) use phone::{country_of, normalize_phone};
pub use violation::{Bound, Rule, Violation};

use extension::{Extension, channels};

/// The largest schema document, in bytes of JSON.
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// The largest traits, in bytes of JSON.
pub const TRAITS_BYTES_MAX: usize = 64 * 1024;
/// How deep a schema's places may be nested, references included.
const DEPTH_MAX: usize = 32;
/// How many identifiers, or addresses of one kind, somebody may have.
const EXTRACTED_MAX: usize = 64;

/// The name of a schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub String);

impl fmt::Display for SchemaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a document is no identity schema.
#[derive(Debug, Error)]
pub enum SchemaRefused {
    /// It is larger than [`DOCUMENT_BYTES_MAX`].
    #[error("the schema is larger than {DOCUMENT_BYTES_MAX} bytes")]
    TooLarge,
    /// It is nested deeper than is walked.
    #[error("the schema is nested deeper than {DEPTH_MAX} places")]
    TooDeep,
    /// It has no `properties.traits`.
    #[error("the schema has no properties.traits of type object")]
    NoTraits,
    /// It is no valid JSON Schema, or refers to another document.
    #[error("the schema is not valid: {0}")]
    Invalid(String),
    /// The `ory.sh/kratos` keyword says something that is not understood.
    #[error("the keyword ory.sh/kratos at {pointer} is not valid: {reason}")]
    Keyword {
        /// The place in the schema.
        pointer: String,
        /// What is wrong.
        reason: String,
    },
}

/// A compiled identity schema.
pub struct IdentitySchema {
    id: SchemaId,
    document: Value,
    validator: Validator,
    /// Validators of the branches of `anyOf` and `oneOf`, by their pointer.
    branches: BTreeMap<String, Validator>,
    fields: Vec<Field>,
    verifies: BTreeSet<Channel>,
    recovers: BTreeSet<Channel>,
    sends_codes: bool,
}

impl fmt::Debug for IdentitySchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentitySchema").field("id", &self.id).finish_non_exhaustive()
    }
}

impl IdentitySchema {
    /// Compiles a document.
    ///
    /// # Errors
    /// If the document is no identity schema, and why.
    pub fn parse(id: SchemaId, document: Value) -> Result<Self, SchemaRefused> {
        if document.to_string().len() > DOCUMENT_BYTES_MAX {
            return Err(SchemaRefused::TooLarge);
        }
        if !document["properties"]["traits"].is_object() {
            return Err(SchemaRefused::NoTraits);
        }
        let validator = compile(&document)?;
        let mut branches = BTreeMap::new();
        survey(&document, &document, "#", 0, &mut branches)?;
        let fields = field::list(&document);
        let verifies = channels(&document, |found| found.verification);
        let recovers = channels(&document, |found| found.recovery);
        let sends_codes = !channels(&document, |found| found.code_via).is_empty();
        Ok(Self { id, document, validator, branches, fields, verifies, recovers, sends_codes })
    }

    /// Its name.
    pub fn id(&self) -> &SchemaId {
        &self.id
    }

    /// The document as it was given.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The leaves of the traits, in the order of the schema: what a form asks for.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The one trait that identifies, by whose title a login calls its identifier.
    pub fn identifying_field(&self) -> Option<&Field> {
        let mut fields = self.fields.iter().filter(|field| field.identifies);
        fields.next().filter(|_| fields.next().is_none())
    }

    /// How the addresses are reached that it has verified.
    pub fn verifies(&self) -> &BTreeSet<Channel> {
        &self.verifies
    }

    /// Where codes go, by traits that were judged when they were written: they are looked
    /// through, and not judged again.
    pub fn code_addresses(&self, traits: &Value) -> Vec<Address> {
        let (mut found, mut violations) = (Extracted::default(), Vec::new());
        if self.sends_codes {
            let schema = &self.document["properties"]["traits"];
            let (place, pointer) = ("#/properties/traits", "#/traits");
            self.extract(schema, place, traits, pointer, 1, &mut found, &mut violations);
        }
        found.code_addresses
    }

    /// Whether it has codes go anywhere.
    pub const fn sends_codes(&self) -> bool {
        self.sends_codes
    }

    /// How the addresses are reached that accounts are recovered by.
    pub fn recovers(&self) -> &BTreeSet<Channel> {
        &self.recovers
    }

    /// Checks traits, and finds identifiers and addresses in them.
    ///
    /// # Errors
    /// Every broken rule, with the pointer into a body that has a member `traits`.
    pub fn check(&self, traits: &Value) -> Result<Extracted, Vec<Violation>> {
        let instance = json!({ "traits": traits });
        if instance.to_string().len() > TRAITS_BYTES_MAX {
            let reason = format!("traits are larger than {TRAITS_BYTES_MAX} bytes");
            return Err(vec![Violation::new("#/traits", Rule::Other { reason })]);
        }
        let mut violations = Vec::new();
        for error in self.validator.iter_errors(&instance) {
            violation::collect(&error, &mut violations);
        }
        if !violations.is_empty() {
            return Err(violations);
        }
        let mut found = Extracted::default();
        self.extract(&self.document, "#", &instance, "#", 0, &mut found, &mut violations);
        let most = [
            found.password_identifiers.len(),
            found.code_addresses.len(),
            found.verifiable.len(),
            found.recovery.len(),
        ];
        if most.iter().any(|&count| count > EXTRACTED_MAX) {
            let reason = format!("there are more than {EXTRACTED_MAX} identifiers or addresses");
            violations.push(Violation::new("#/traits", Rule::Other { reason }));
        }
        if violations.is_empty() { Ok(found) } else { Err(violations) }
    }

    /// Walks schema and instance side by side.
    #[expect(clippy::too_many_arguments, reason = "a recursion over two trees with two results")]
    fn extract(
        &self,
        schema: &Value,
        place: &str,
        instance: &Value,
        pointer: &str,
        depth: usize,
        found: &mut Extracted,
        violations: &mut Vec<Violation>,
    ) {
        if depth > DEPTH_MAX {
            return;
        }
        if let Some((target, target_place)) = resolve(&self.document, schema) {
            self.extract(target, target_place, instance, pointer, depth + 1, found, violations);
            return;
        }
        if let Some(keyword) = schema.get("ory.sh/kratos")
            && let Ok(extension) = Extension::parse(keyword)
            && let Err(violation) = found.add(&extension, pointer, instance)
        {
            violations.push(*violation);
        }
        if let (Some(properties), Some(object)) =
            (schema.get("properties").and_then(Value::as_object), instance.as_object())
        {
            for (name, schema) in properties {
                if let Some(value) = object.get(name) {
                    let name = escape(name);
                    let place = format!("{place}/properties/{name}");
                    let pointer = format!("{pointer}/{name}");
                    self.extract(schema, &place, value, &pointer, depth + 1, found, violations);
                }
            }
        }
        if let (Some(items), Some(array)) = (schema.get("items"), instance.as_array()) {
            for (at, value) in array.iter().enumerate() {
                let (schema, place) = match items {
                    Value::Array(items) => match items.get(at) {
                        Some(schema) => (schema, format!("{place}/items/{at}")),
                        None => break,
                    },
                    schema => (schema, format!("{place}/items")),
                };
                let pointer = format!("{pointer}/{at}");
                self.extract(schema, &place, value, &pointer, depth + 1, found, violations);
            }
        }
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (at, schema) in
                schema.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate()
            {
                let place = format!("{place}/{keyword}/{at}");
                let holds =
                    self.branches.get(&place).is_none_or(|branch| branch.is_valid(instance));
                if holds {
                    self.extract(schema, &place, instance, pointer, depth + 1, found, violations);
                }
            }
        }
    }
}

fn compile(document: &Value) -> Result<Validator, SchemaRefused> {
    jsonschema::options()
        .with_draft(Draft::Draft7)
        .offline()
        .should_validate_formats(true)
        .with_format("email", extension::is_email)
        .with_format("tel", |text: &str| normalize_phone(text).is_some())
        // Linear-time matching: a pattern must not make a sign-up slow.
        .with_pattern_options(PatternOptions::regex())
        .build(document)
        .map_err(|error| SchemaRefused::Invalid(error.to_string()))
}

/// Checks every place of a schema, and compiles branches that hold only sometimes.
fn survey(
    document: &Value,
    schema: &Value,
    place: &str,
    depth: usize,
    branches: &mut BTreeMap<String, Validator>,
) -> Result<(), SchemaRefused> {
    if depth > DEPTH_MAX {
        return Err(SchemaRefused::TooDeep);
    }
    let Some(object) = schema.as_object() else { return Ok(()) };
    if let Some(reference) = object.get("$ref")
        && resolve(document, schema).is_none()
    {
        return Err(SchemaRefused::Invalid(format!(
            "$ref {reference} at {place} does not point into the schema itself"
        )));
    }
    if let Some(keyword) = object.get("ory.sh/kratos") {
        Extension::parse(keyword)
            .map_err(|reason| SchemaRefused::Keyword { pointer: place.to_owned(), reason })?;
    }
    for container in ["properties", "definitions", "$defs"] {
        for (name, schema) in object.get(container).and_then(Value::as_object).into_iter().flatten()
        {
            let place = format!("{place}/{container}/{}", escape(name));
            survey(document, schema, &place, depth + 1, branches)?;
        }
    }
    match object.get("items") {
        Some(Value::Array(items)) => {
            for (at, schema) in items.iter().enumerate() {
                survey(document, schema, &format!("{place}/items/{at}"), depth + 1, branches)?;
            }
        }
        Some(schema) => survey(document, schema, &format!("{place}/items"), depth + 1, branches)?,
        None => {}
    }
    for keyword in ["allOf", "anyOf", "oneOf"] {
        for (at, schema) in
            object.get(keyword).and_then(Value::as_array).into_iter().flatten().enumerate()
        {
            let place = format!("{place}/{keyword}/{at}");
            survey(document, schema, &place, depth + 1, branches)?;
            if keyword != "allOf" {
                let shared = |name: &str| document.get(name).cloned().unwrap_or_else(|| json!({}));
                let alone = json!({
                    "definitions": shared("definitions"),
                    "$defs": shared("$defs"),
                    "allOf": [schema],
                });
                branches.insert(place, compile(&alone)?);
            }
        }
    }
    Ok(())
}

/// The place that a local `$ref` leads to, with its pointer.
fn resolve<'a>(document: &'a Value, schema: &'a Value) -> Option<(&'a Value, &'a str)> {
    let reference = schema.get("$ref")?.as_str()?;
    let target = document.pointer(reference.strip_prefix('#')?)?;
    Some((target, reference))
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The schemas that a node knows.
#[derive(Debug, Clone)]
pub struct Schemas {
    default: SchemaId,
    by_id: BTreeMap<SchemaId, Arc<IdentitySchema>>,
}

impl Schemas {
    /// The e-mail preset under its own id and as `default`.
    ///
    /// # Errors
    /// Never, as long as the preset is valid, which a test holds.
    pub fn preset() -> Result<Self, SchemaRefused> {
        let mut schemas = Self { default: SchemaId("default".to_owned()), by_id: BTreeMap::new() };
        for id in ["default", preset::EMAIL_PRESET_ID] {
            schemas.insert(IdentitySchema::parse(SchemaId(id.to_owned()), preset::email())?);
        }
        Ok(schemas)
    }

    /// Adds or replaces a schema.
    pub fn insert(&mut self, schema: IdentitySchema) {
        self.by_id.insert(schema.id.clone(), Arc::new(schema));
    }

    /// The schema of that name; the default one for an empty name.
    pub fn get(&self, id: &str) -> Option<&Arc<IdentitySchema>> {
        if id.is_empty() {
            return self.by_id.get(&self.default);
        }
        self.by_id.get(&SchemaId(id.to_owned()))
    }

    /// Makes a schema stand for an empty name.
    pub fn set_default(&mut self, id: SchemaId) {
        self.default = id;
    }

    /// Which schema stands for an empty name.
    pub fn default_id(&self) -> &SchemaId {
        &self.default
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<IdentitySchema>> {
        self.by_id.values()
    }
}
