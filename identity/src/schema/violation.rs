//! What a schema refuses, as data: where, which rule, and with which numbers.

use jsonschema::{ValidationError, error::TypeKind, error::ValidationErrorKind};
use serde_json::{Value, json};

use super::Channel;
use crate::ui::Text;

/// One broken rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Violation {
    /// The place in the body, such as `#/traits/email`.
    pub pointer: String,
    /// The rule.
    pub rule: Rule,
}

/// A rule and the parameters of its message.
#[derive(Debug, Clone, PartialEq)]
pub enum Rule {
    /// A property must be there.
    Required {
        /// The property's name.
        property: String,
    },
    /// A string is too short; characters.
    MinLength {
        /// The bound.
        limit: u64,
        /// What it was.
        actual: u64,
    },
    /// A string is too long; characters.
    MaxLength {
        /// The bound.
        limit: u64,
        /// What it was.
        actual: u64,
    },
    /// A string does not match.
    Pattern {
        /// The regular expression.
        pattern: String,
    },
    /// Not an e-mail address.
    Email {
        /// What it was.
        value: String,
    },
    /// Not a telephone number.
    Phone {
        /// What it was.
        value: String,
    },
    /// A number is out of bounds.
    Bound {
        /// Which bound.
        bound: Bound,
        /// The bound's value.
        limit: Value,
        /// What it was.
        actual: Value,
    },
    /// An array has too many items.
    MaxItems {
        /// The bound.
        limit: u64,
        /// What it was.
        actual: usize,
    },
    /// An array has too few items.
    MinItems {
        /// The bound.
        limit: u64,
        /// What it was.
        actual: usize,
    },
    /// Two items of an array are equal.
    UniqueItems {
        /// The one.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A value of the wrong type.
    WrongType {
        /// The types that may stand there.
        allowed: Vec<String>,
        /// The type that stands there.
        actual: &'static str,
    },
    /// A value must be this one.
    Const {
        /// The value.
        expected: Value,
    },
    /// Any other rule.
    Other {
        /// What is wrong.
        reason: String,
    },
}

/// A bound of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// At least.
    Minimum,
    /// More than.
    ExclusiveMinimum,
    /// At most.
    Maximum,
    /// Less than.
    ExclusiveMaximum,
    /// A multiple of.
    MultipleOf,
}

impl Violation {
    /// A violation at a place.
    pub fn new(pointer: impl Into<String>, rule: Rule) -> Self {
        Self { pointer: pointer.into(), rule }
    }

    /// A missing property: the pointer is the property's own.
    pub fn required(parent: &str, property: &str) -> Self {
        let escaped = property.replace('~', "~0").replace('/', "~1");
        let parent = parent.trim_end_matches('/');
        Self::new(format!("{parent}/{escaped}"), Rule::Required { property: property.to_owned() })
    }

    /// The message that an interface shows.
    pub fn text(&self) -> Text {
        self.rule.text()
    }
}

impl Rule {
    /// That something is an address of a channel.
    pub(crate) fn address(via: Channel, value: &str) -> Self {
        let value = value.to_owned();
        match via {
            Channel::Email => Self::Email { value },
            Channel::Sms => Self::Phone { value },
        }
    }

    /// The message that an interface shows, with the id Kratos gives it.
    pub fn text(&self) -> Text {
        match self {
            Self::Required { property } => Text::property_missing(property),
            Self::MinLength { limit, actual } => {
                Text::error(4_000_003, format!("length must be >= {limit}, but got {actual}"))
                    .with(json!({"min_length": limit, "actual_length": actual}))
            }
            Self::MaxLength { limit, actual } => {
                Text::error(4_000_017, format!("length must be <= {limit}, but got {actual}"))
                    .with(json!({"max_length": limit, "actual_length": actual}))
            }
            Self::Pattern { pattern } => {
                Text::error(4_000_004, format!("does not match pattern {pattern:?}"))
                    .with(json!({"pattern": pattern}))
            }
            Self::Email { value } => {
                Text::error(4_000_040, format!("{value} is not a valid email address"))
                    .with(json!({"value": value}))
            }
            Self::Phone { value } => {
                Text::error(4_000_041, format!("{value} is not a valid phone number"))
                    .with(json!({"value": value}))
            }
            Self::Bound { bound, limit, actual } => bound_text(*bound, limit, actual),
            Self::MaxItems { limit, actual } => Text::error(
                4_000_023,
                format!("maximum {limit} items allowed, but found {actual} items"),
            )
            .with(json!({"max_items": limit, "actual_items": actual})),
            Self::MinItems { limit, actual } => Text::error(
                4_000_024,
                format!("minimum {limit} items allowed, but found {actual} items"),
            )
            .with(json!({"min_items": limit, "actual_items": actual})),
            Self::UniqueItems { first, second } => {
                Text::error(4_000_025, format!("items at index {first} and {second} are equal"))
                    .with(json!({"index_a": first, "index_b": second}))
            }
            Self::WrongType { allowed, actual } => Text::error(
                4_000_026,
                format!("expected {}, but got {actual}", allowed.join(" or ")),
            )
            .with(json!({"allowed_types": allowed, "actual_type": actual})),
            Self::Const { expected } => {
                Text::error(4_000_029, format!("must be equal to constant {expected}"))
                    .with(json!({"expected": expected}))
            }
            Self::Other { reason } => Text::generic(reason),
        }
    }
}

fn bound_text(bound: Bound, limit: &Value, actual: &Value) -> Text {
    let (id, text, name) = match bound {
        Bound::Minimum => (4_000_018, format!("must be >= {limit} but found {actual}"), "minimum"),
        Bound::ExclusiveMinimum => {
            (4_000_019, format!("must be > {limit} but found {actual}"), "minimum")
        }
        Bound::Maximum => (4_000_020, format!("must be <= {limit} but found {actual}"), "maximum"),
        Bound::ExclusiveMaximum => {
            (4_000_021, format!("must be < {limit} but found {actual}"), "maximum")
        }
        Bound::MultipleOf => (4_000_022, format!("{actual} not multipleOf {limit}"), "base"),
    };
    Text::error(id, text).with(json!({name: limit, "actual": actual}))
}

/// Turns what the validator found into violations. Branches of `anyOf` and
/// `oneOf` give their own violations where there is only one branch to blame.
pub(super) fn collect(error: &ValidationError<'_>, out: &mut Vec<Violation>) {
    let pointer = match error.instance_path().to_string() {
        root if root.is_empty() => "#/".to_owned(),
        path => format!("#{path}"),
    };
    let instance = error.instance();
    let bound = |bound, limit: &Value| Rule::Bound {
        bound,
        limit: limit.clone(),
        actual: instance.as_ref().clone(),
    };
    let length = instance.as_str().map_or(0, |text| text.chars().count() as u64);
    let items = instance.as_array().map_or(0, Vec::len);
    let rule = match error.kind() {
        ValidationErrorKind::Required { property } => {
            out.push(Violation::required(&pointer, property.as_str().unwrap_or_default()));
            return;
        }
        ValidationErrorKind::AdditionalProperties { unexpected } => Rule::Other {
            reason: format!(
                "additionalProperties {} not allowed",
                unexpected.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
            ),
        },
        ValidationErrorKind::MinLength { limit } => {
            Rule::MinLength { limit: *limit, actual: length }
        }
        ValidationErrorKind::MaxLength { limit } => {
            Rule::MaxLength { limit: *limit, actual: length }
        }
        ValidationErrorKind::Pattern { pattern } => Rule::Pattern { pattern: pattern.clone() },
        ValidationErrorKind::Format { format } => {
            let value = instance.as_str().unwrap_or_default().to_owned();
            match format.as_str() {
                "email" | "idn-email" => Rule::Email { value },
                "tel" => Rule::Phone { value },
                other => Rule::Other { reason: format!("{value:?} is not valid {other:?}") },
            }
        }
        ValidationErrorKind::Minimum { limit } => bound(Bound::Minimum, limit),
        ValidationErrorKind::ExclusiveMinimum { limit } => bound(Bound::ExclusiveMinimum, limit),
        ValidationErrorKind::Maximum { limit } => bound(Bound::Maximum, limit),
        ValidationErrorKind::ExclusiveMaximum { limit } => bound(Bound::ExclusiveMaximum, limit),
        ValidationErrorKind::MultipleOf { multiple_of } => {
            bound(Bound::MultipleOf, &whole(*multiple_of))
        }
        ValidationErrorKind::MaxItems { limit } => Rule::MaxItems { limit: *limit, actual: items },
        ValidationErrorKind::MinItems { limit } => Rule::MinItems { limit: *limit, actual: items },
        ValidationErrorKind::UniqueItems => match equal_items(instance) {
            Some((first, second)) => Rule::UniqueItems { first, second },
            None => Rule::Other { reason: error.to_string() },
        },
        ValidationErrorKind::Type { kind } => {
            let allowed = match kind {
                TypeKind::Single(kind) => vec![kind.to_string()],
                TypeKind::Multiple(kinds) => kinds.iter().map(|kind| kind.to_string()).collect(),
            };
            Rule::WrongType { allowed, actual: type_of(instance) }
        }
        ValidationErrorKind::Constant { expected_value } => {
            Rule::Const { expected: expected_value.as_ref().clone() }
        }
        ValidationErrorKind::Enum { options } => {
            let options = match options.as_ref() {
                Value::Array(options) => {
                    options.iter().map(Value::to_string).collect::<Vec<_>>().join(", ")
                }
                other => other.to_string(),
            };
            Rule::Other { reason: format!("value must be one of {options}") }
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context }
            if context.len() == 1 =>
        {
            context.iter().flatten().for_each(|error| collect(error, out));
            return;
        }
        _ => Rule::Other { reason: error.masked().to_string() },
    };
    out.push(Violation::new(pointer, rule));
}

/// A number without a fraction that it has not.
fn whole(number: f64) -> Value {
    let text = format!("{number}");
    text.parse::<i64>().map_or_else(|_| json!(number), |whole| json!(whole))
}

fn equal_items(value: &Value) -> Option<(usize, usize)> {
    let items = value.as_array()?;
    items.iter().enumerate().find_map(|(second, item)| {
        items[..second].iter().position(|earlier| earlier == item).map(|first| (first, second))
    })
}

/// The name that JSON Schema has for the type of a value.
fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
