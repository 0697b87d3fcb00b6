//! What makes sense: every name is declared, every part is of a kind that its place
//! takes, and the whole is true or false.

use std::collections::BTreeMap;

use super::{
    ConditionRefused, Kind, Value,
    syntax::{Function, Node, NodeKind, Sign},
    value::{address, duration, in_network, timestamp},
};

/// Checks an expression. Recursive, as deep as expressions are nested.
///
/// # Errors
/// What makes no sense, and where.
pub fn check(root: &Node, parameters: &BTreeMap<String, Kind>) -> Result<(), ConditionRefused> {
    wanted(root, &Kind::Bool, parameters)
}

fn wanted(
    node: &Node,
    kind: &Kind,
    parameters: &BTreeMap<String, Kind>,
) -> Result<(), ConditionRefused> {
    let found = kind_of(node, parameters)?;
    if alike(&found, kind) {
        return Ok(());
    }
    let message = format!("this is a {}, and a {} is wanted", found.name(), kind.name());
    Err(ConditionRefused::new(node.at, message))
}

fn alike(a: &Kind, b: &Kind) -> bool {
    match (a, b) {
        (Kind::List(Some(a)), Kind::List(Some(b))) => a == b,
        (Kind::List(_), Kind::List(_)) => true,
        (a, b) => a == b,
    }
}

fn kind_of(node: &Node, parameters: &BTreeMap<String, Kind>) -> Result<Kind, ConditionRefused> {
    let kind = |node: &Node| kind_of(node, parameters);
    let want = |node: &Node, of: &Kind| wanted(node, of, parameters);
    match &node.kind {
        NodeKind::Literal(value) => Ok(match value {
            Value::Bool(_) => Kind::Bool,
            Value::Int(_) => Kind::Int,
            _ => Kind::Text,
        }),
        NodeKind::Parameter(name) => parameters.get(name).cloned().ok_or_else(|| {
            ConditionRefused::new(node.at, format!("{name} is not among the parameters"))
        }),
        NodeKind::List(parts) => {
            let Some((first, rest)) = parts.split_first() else { return Ok(Kind::List(None)) };
            let of = kind(first)?;
            if matches!(of, Kind::List(_)) {
                return Err(ConditionRefused::new(first.at, "lists hold no lists"));
            }
            rest.iter().try_for_each(|part| want(part, &of))?;
            Ok(Kind::List(Some(Box::new(of))))
        }
        NodeKind::Not(inner) => want(inner, &Kind::Bool).map(|()| Kind::Bool),
        NodeKind::Negative(inner) => match kind(inner)? {
            of @ (Kind::Int | Kind::Duration) => Ok(of),
            of => Err(ConditionRefused::new(node.at, format!("a {} has no sign", of.name()))),
        },
        NodeKind::Choice(first, yes, no) => {
            want(first, &Kind::Bool)?;
            let of = kind(yes)?;
            want(no, &of)?;
            Ok(of)
        }
        NodeKind::Between(sign, left, right) => between(*sign, left, right, parameters),
        NodeKind::Call(function, parts) => call(node, *function, parts, parameters),
    }
}

fn between(
    sign: Sign,
    left: &Node,
    right: &Node,
    parameters: &BTreeMap<String, Kind>,
) -> Result<Kind, ConditionRefused> {
    let of = kind_of(left, parameters)?;
    let other = kind_of(right, parameters)?;
    let refused = || {
        let message = format!("a {} and a {} do not go together here", of.name(), other.name());
        Err(ConditionRefused::new(left.at, message))
    };
    let ordered = matches!(of, Kind::Int | Kind::Text | Kind::Timestamp | Kind::Duration);
    match sign {
        Sign::Or | Sign::And if of == Kind::Bool && other == Kind::Bool => Ok(Kind::Bool),
        Sign::Equal | Sign::Unequal if alike(&of, &other) => Ok(Kind::Bool),
        Sign::Less | Sign::LessOrEqual | Sign::Greater | Sign::GreaterOrEqual
            if of == other && ordered =>
        {
            Ok(Kind::Bool)
        }
        Sign::In => match &other {
            Kind::List(None) => Ok(Kind::Bool),
            Kind::List(Some(item)) if **item == of => Ok(Kind::Bool),
            _ => refused(),
        },
        Sign::Plus | Sign::Minus => match (&of, &other, sign) {
            (Kind::Int, Kind::Int, _) => Ok(Kind::Int),
            (Kind::Duration, Kind::Duration, _) => Ok(Kind::Duration),
            (Kind::Timestamp, Kind::Duration, _) => Ok(Kind::Timestamp),
            (Kind::Timestamp, Kind::Timestamp, Sign::Minus) => Ok(Kind::Duration),
            (Kind::Text, Kind::Text, Sign::Plus) => Ok(Kind::Text),
            _ => refused(),
        },
        _ => refused(),
    }
}

fn call(
    node: &Node,
    function: Function,
    parts: &[Node],
    parameters: &BTreeMap<String, Kind>,
) -> Result<Kind, ConditionRefused> {
    let (takes, gives): (&[Kind], Kind) = match function {
        Function::Timestamp => (&[Kind::Text], Kind::Timestamp),
        Function::Duration => (&[Kind::Text], Kind::Duration),
        Function::Address => (&[Kind::Text], Kind::Address),
        Function::InCidr => (&[Kind::Address, Kind::Text], Kind::Bool),
        Function::StartsWith | Function::EndsWith | Function::Contains => {
            (&[Kind::Text, Kind::Text], Kind::Bool)
        }
        Function::Hours | Function::Minutes | Function::DayOfWeek => {
            (&[Kind::Timestamp], Kind::Int)
        }
        Function::Size => {
            let of = match parts {
                [part] => Some(kind_of(part, parameters)?),
                _ => None,
            };
            return match of {
                Some(Kind::Text | Kind::List(_)) => Ok(Kind::Int),
                _ => Err(ConditionRefused::new(node.at, "a size is that of a list or a text")),
            };
        }
    };
    if parts.len() != takes.len() {
        let message = format!("{} values are given, {} are taken", parts.len(), takes.len());
        return Err(ConditionRefused::new(node.at, message));
    }
    for (part, kind) in parts.iter().zip(takes) {
        wanted(part, kind, parameters)?;
    }
    // What is written out can be judged now.
    if let Some(Node { kind: NodeKind::Literal(Value::Text(text)), at }) = parts.last() {
        let makes_sense = match function {
            Function::Timestamp => timestamp(text).is_some(),
            Function::Duration => duration(text).is_some(),
            Function::Address => address(text).is_some(),
            Function::InCidr => in_network([0, 0, 0, 0].into(), text).is_some(),
            _ => true,
        };
        if !makes_sense {
            let message = match function {
                Function::Timestamp => format!("{text:?} is no time of RFC 3339"),
                Function::Duration => format!("{text:?} is no span such as 1h30m"),
                Function::Address => format!("{text:?} is no IP address"),
                _ => format!("{text:?} is no network such as 10.0.0.0/8"),
            };
            return Err(ConditionRefused::new(*at, message));
        }
    }
    Ok(gives)
}
