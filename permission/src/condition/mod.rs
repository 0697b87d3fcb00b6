//! Conditions on tuples: a tuple that bears one is there only where it holds.
//!
//! The language is a small, typed part of CEL, in the manner of SpiceDB's caveats and
//! OpenFGA's conditions: parameters are declared with their kinds, and an expression
//! over them is true or false. There are no loops and no calls but a fixed few, so an
//! evaluation costs no more than the expression's length times that of the longest
//! value in it; both are bounded. (The crate `cel` was looked at: it checks no types
//! before it evaluates, and bounds neither the work of its comprehensions nor the depth
//! of its parser.)
//!
//! ```text
//! address.in_cidr("10.0.0.0/8") && now < until && plan in ["pro", "team"]
//! ```
//!
//! Values come from the tuple's own context first, then from the request's; `now` is
//! the time by which the store judges expiry, unless one of them gives it. Where a value
//! is missing and the rest does not decide without it, the condition neither holds nor
//! fails, and neither does what rests on it: that is never a grant, under `!` neither.
//!
//! Reading order: [`syntax`] (what is parsed), [`types`] (what makes sense),
//! [`evaluate`].

pub mod evaluate;
pub mod syntax;
pub mod types;
mod value;

use std::{collections::BTreeMap, fmt};

use cardea_storage::Timestamp;
use serde_json::Value as Json;
use thiserror::Error;

pub use self::value::{Kind, Value};
use self::{
    evaluate::Trouble,
    syntax::{Node, parse},
};

/// Longest expression, in bytes.
pub const EXPRESSION_BYTES_MAX: usize = 1_024;
/// Most parameters.
pub const PARAMETERS_MAX: usize = 32;
/// Longest context of a tuple, and of a request, written as JSON, in bytes.
pub const CONTEXT_BYTES_MAX: usize = 8 * 1024;
/// The parameter that the store fills in where nobody else does.
pub const NOW: &str = "now";

/// Values by the names of parameters.
pub type Context = BTreeMap<String, Json>;

/// A condition as a tuple bears it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// What must be true.
    pub expression: String,
    /// The kinds of the names in it.
    pub parameters: BTreeMap<String, String>,
    /// Values that are fixed with the tuple; a request cannot give others.
    pub context: Context,
}

/// A condition that makes sense, ready to be evaluated.
#[derive(Debug, Clone)]
pub struct Compiled {
    root: Node,
    parameters: BTreeMap<String, Kind>,
}

/// What a condition came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Holds,
    /// It does not hold.
    Fails,
    /// It cannot be said without the values of these parameters.
    Missing(Vec<String>),
    /// It cannot be said: a value is not of its parameter's kind, or a sum too large.
    Failed(String),
}

/// Why something is no condition.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the condition is refused at character {at}: {message}")]
pub struct ConditionRefused {
    /// The character of the expression, from 1; 0 where no one is at fault.
    pub at: usize,
    /// What is wrong.
    pub message: String,
}

impl ConditionRefused {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl Condition {
    /// Makes it ready.
    ///
    /// # Errors
    /// If it makes no sense, or a value of its context is not of its parameter's kind.
    pub fn compile(&self) -> Result<Compiled, ConditionRefused> {
        let refused = |message: String| Err(ConditionRefused::new(0, message));
        if self.parameters.len() > PARAMETERS_MAX {
            return refused(format!("more than {PARAMETERS_MAX} parameters"));
        }
        let mut parameters = BTreeMap::new();
        for (name, kind) in &self.parameters {
            if !syntax::is_name(name) {
                return refused(format!("{name:?} is no name of a parameter"));
            }
            let Some(kind) = Kind::read(kind) else {
                return refused(format!(
                    "{kind:?} is no kind: bool, int, string, timestamp, duration, ipaddress, \
                     or a list<…> of one of them"
                ));
            };
            parameters.insert(name.clone(), kind);
        }
        let root = parse(&self.expression)?;
        types::check(&root, &parameters)?;
        if json_bytes(&self.context) > CONTEXT_BYTES_MAX {
            return refused(format!("the context is longer than {CONTEXT_BYTES_MAX} bytes"));
        }
        for (name, value) in &self.context {
            let Some(kind) = parameters.get(name) else {
                return refused(format!("the context names {name:?}, which is no parameter"));
            };
            if let Err(message) = kind.value(value) {
                return refused(format!("{name}: {message}"));
            }
        }
        Ok(Compiled { root, parameters })
    }

    /// Evaluates it for a request at a time.
    pub fn verdict(&self, given: &Context, now: Timestamp) -> Verdict {
        match self.compile() {
            Ok(compiled) => compiled.verdict(&self.context, given, now),
            // Only what compiles is kept, so this is a newer version's.
            Err(refused) => Verdict::Failed(refused.to_string()),
        }
    }
}

impl Compiled {
    /// Evaluates it with a tuple's context and a request's.
    pub fn verdict(&self, fixed: &Context, given: &Context, now: Timestamp) -> Verdict {
        let mut values = BTreeMap::new();
        for (name, kind) in &self.parameters {
            let value = match fixed.get(name).or_else(|| given.get(name)) {
                Some(json) => match kind.value(json) {
                    Ok(value) => value,
                    Err(message) => return Verdict::Failed(format!("{name}: {message}")),
                },
                None if name == NOW && *kind == Kind::Timestamp => Value::of_time(now),
                None => continue,
            };
            values.insert(name.as_str(), value);
        }
        match evaluate::evaluate(&self.root, &values) {
            Ok(Value::Bool(true)) => Verdict::Holds,
            Ok(Value::Bool(false)) => Verdict::Fails,
            Ok(_) => Verdict::Failed("the condition is neither true nor false".to_owned()),
            Err(Trouble::Missing(names)) => Verdict::Missing(names.into_iter().collect()),
            Err(Trouble::Failed(message)) => Verdict::Failed(message),
        }
    }
}

/// Whether the context of a request is short enough to be looked at.
///
/// # Errors
/// If it is not.
pub fn bounded(context: &Context) -> Result<(), ConditionRefused> {
    if json_bytes(context) > CONTEXT_BYTES_MAX {
        let message = format!("the context is longer than {CONTEXT_BYTES_MAX} bytes");
        return Err(ConditionRefused::new(0, message));
    }
    Ok(())
}

fn json_bytes(context: &Context) -> usize {
    context.iter().map(|(name, value)| name.len() + value.to_string().len() + 4).sum()
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expression)?;
        let mut before = " with ";
        for (name, value) in &self.context {
            write!(f, "{before}{name} = {value}")?;
            before = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
