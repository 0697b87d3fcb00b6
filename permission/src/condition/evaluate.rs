//! Evaluation of what makes sense. Where a value is missing or cannot be worked out,
//! the whole is in trouble, unless the rest decides: `true || …` and `false && …` do,
//! on either side, as in CEL.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Value,
    syntax::{Function, Node, NodeKind, Sign},
    value::{address, duration, in_network, timestamp},
};

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Parameters without a value.
    Missing(BTreeSet<String>),
    /// Something else, in words.
    Failed(String),
}

type Evaluated = Result<Value, Trouble>;

/// Evaluates an expression. Recursive, as deep as expressions are nested.
///
/// # Errors
/// See [`Trouble`].
pub fn evaluate(node: &Node, values: &BTreeMap<&str, Value>) -> Evaluated {
    let value = |node: &Node| evaluate(node, values);
    match &node.kind {
        NodeKind::Literal(value) => Ok(value.clone()),
        NodeKind::Parameter(name) => {
            let missing = || Trouble::Missing(BTreeSet::from([name.clone()]));
            values.get(name.as_str()).cloned().ok_or_else(missing)
        }
        NodeKind::List(parts) => parts.iter().map(value).collect::<Result<_, _>>().map(Value::List),
        NodeKind::Not(inner) => match value(inner)? {
            Value::Bool(holds) => Ok(Value::Bool(!holds)),
            _ => Err(strange()),
        },
        NodeKind::Negative(inner) => match value(inner)? {
            Value::Int(n) => n.checked_neg().map(Value::Int).ok_or_else(too_large),
            Value::Duration(n) => n.checked_neg().map(Value::Duration).ok_or_else(too_large),
            _ => Err(strange()),
        },
        NodeKind::Choice(first, yes, no) => match value(first)? {
            Value::Bool(true) => value(yes),
            Value::Bool(false) => value(no),
            _ => Err(strange()),
        },
        NodeKind::Between(Sign::Or, left, right) => either(value(left), || value(right), true),
        NodeKind::Between(Sign::And, left, right) => either(value(left), || value(right), false),
        NodeKind::Between(sign, left, right) => {
            let (left, right) = both(value(left), value(right))?;
            between(*sign, left, right)
        }
        NodeKind::Call(function, parts) => {
            let mut parts = parts.iter().map(value).collect::<Result<Vec<_>, _>>()?.into_iter();
            call(*function, parts.next(), parts.next())
        }
    }
}

/// One of two decides alone if it is `decisive`.
fn either(left: Evaluated, right: impl FnOnce() -> Evaluated, decisive: bool) -> Evaluated {
    if left == Ok(Value::Bool(decisive)) {
        return left;
    }
    let right = right();
    if right == Ok(Value::Bool(decisive)) {
        return right;
    }
    both(left, right).map(|_| Value::Bool(!decisive))
}

/// Both values; what is missing of either.
fn both(left: Evaluated, right: Evaluated) -> Result<(Value, Value), Trouble> {
    match (left, right) {
        (Ok(left), Ok(right)) => Ok((left, right)),
        (Err(Trouble::Missing(mut left)), Err(Trouble::Missing(right))) => {
            left.extend(right);
            Err(Trouble::Missing(left))
        }
        (Err(failed @ Trouble::Failed(_)), _) | (_, Err(failed @ Trouble::Failed(_))) => {
            Err(failed)
        }
        (Err(missing), _) | (_, Err(missing)) => Err(missing),
    }
}

fn strange() -> Trouble {
    Trouble::Failed("the condition was not checked before it was evaluated".to_owned())
}

fn too_large() -> Trouble {
    Trouble::Failed("a number is too large".to_owned())
}

fn between(sign: Sign, left: Value, right: Value) -> Evaluated {
    let compared = match (&left, &right) {
        (Value::Int(a), Value::Int(b))
        | (Value::Timestamp(a), Value::Timestamp(b))
        | (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => None,
    };
    let ordered = |holds: fn(std::cmp::Ordering) -> bool| {
        compared.map(|order| Value::Bool(holds(order))).ok_or_else(strange)
    };
    match sign {
        Sign::Equal => Ok(Value::Bool(left == right)),
        Sign::Unequal => Ok(Value::Bool(left != right)),
        Sign::Less => ordered(std::cmp::Ordering::is_lt),
        Sign::LessOrEqual => ordered(std::cmp::Ordering::is_le),
        Sign::Greater => ordered(std::cmp::Ordering::is_gt),
        Sign::GreaterOrEqual => ordered(std::cmp::Ordering::is_ge),
        Sign::In => match right {
            Value::List(items) => Ok(Value::Bool(items.contains(&left))),
            _ => Err(strange()),
        },
        Sign::Plus => match (left, right) {
            (Value::Text(a), Value::Text(b)) => Ok(Value::Text(a + &b)),
            (left, right) => sum(left, right, i64::checked_add),
        },
        Sign::Minus => sum(left, right, i64::checked_sub),
        Sign::Or | Sign::And => Err(strange()),
    }
}

fn sum(left: Value, right: Value, of: fn(i64, i64) -> Option<i64>) -> Evaluated {
    let (of, kind): (Option<i64>, fn(i64) -> Value) = match (left, right) {
        (Value::Int(a), Value::Int(b)) => (of(a, b), Value::Int),
        (Value::Duration(a), Value::Duration(b)) => (of(a, b), Value::Duration),
        (Value::Timestamp(a), Value::Duration(b)) => (of(a, b), Value::Timestamp),
        (Value::Timestamp(a), Value::Timestamp(b)) => (of(a, b), Value::Duration),
        _ => return Err(strange()),
    };
    of.map(kind).ok_or_else(too_large)
}

fn call(function: Function, first: Option<Value>, second: Option<Value>) -> Evaluated {
    let read = |what: Option<Value>, text: &str, kind: &str| {
        what.ok_or_else(|| Trouble::Failed(format!("{text:?} is no {kind}")))
    };
    let clock = |ms: i64, of: fn(&jiff::civil::DateTime) -> i64| {
        let at = jiff::Timestamp::from_millisecond(ms).map_err(|_| too_large())?;
        Ok(Value::Int(of(&jiff::tz::TimeZone::UTC.to_datetime(at))))
    };
    match (function, first, second) {
        (Function::Timestamp, Some(Value::Text(text)), None) => {
            read(timestamp(&text).map(Value::Timestamp), &text, "time")
        }
        (Function::Duration, Some(Value::Text(text)), None) => {
            read(duration(&text).map(Value::Duration), &text, "span of time")
        }
        (Function::Address, Some(Value::Text(text)), None) => {
            read(address(&text).map(Value::Address), &text, "IP address")
        }
        (Function::InCidr, Some(Value::Address(address)), Some(Value::Text(network))) => {
            read(in_network(address, &network).map(Value::Bool), &network, "network")
        }
        (Function::StartsWith, Some(Value::Text(text)), Some(Value::Text(part))) => {
            Ok(Value::Bool(text.starts_with(&part)))
        }
        (Function::EndsWith, Some(Value::Text(text)), Some(Value::Text(part))) => {
            Ok(Value::Bool(text.ends_with(&part)))
        }
        (Function::Contains, Some(Value::Text(text)), Some(Value::Text(part))) => {
            Ok(Value::Bool(text.contains(&part)))
        }
        (Function::Hours, Some(Value::Timestamp(ms)), None) => clock(ms, |at| at.hour().into()),
        (Function::Minutes, Some(Value::Timestamp(ms)), None) => clock(ms, |at| at.minute().into()),
        (Function::DayOfWeek, Some(Value::Timestamp(ms)), None) => {
            clock(ms, |at| at.weekday().to_sunday_zero_offset().into())
        }
        (Function::Size, Some(Value::Text(text)), None) => size(text.chars().count()),
        (Function::Size, Some(Value::List(items)), None) => size(items.len()),
        _ => Err(strange()),
    }
}

fn size(of: usize) -> Evaluated {
    i64::try_from(of).map(Value::Int).map_err(|_| too_large())
}
