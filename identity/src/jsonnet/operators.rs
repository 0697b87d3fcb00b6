//! What operators, indexes and slices do.

use std::{cmp::Ordering, rc::Rc};

use super::{
    Failed,
    machine::{Machine, ScopeId, Val, wrong},
    syntax::{Binary, Node, Unary},
};

impl Machine {
    pub(super) fn binary(
        &mut self,
        operator: Binary,
        left: Val,
        right: Val,
    ) -> Result<Val, Failed> {
        use Binary::*;
        self.step()?;
        match operator {
            Add => return self.add(left, right),
            Equal => return Ok(Val::Bool(self.equal(&left, &right)?)),
            Unequal => return Ok(Val::Bool(!self.equal(&left, &right)?)),
            Less | Greater | LessEqual | GreaterEqual => {
                let order = self.compare(&left, &right)?;
                return Ok(Val::Bool(match operator {
                    Less => order.is_lt(),
                    Greater => order.is_gt(),
                    LessEqual => order.is_le(),
                    _ => order.is_ge(),
                }));
            }
            In => {
                return match (left, right) {
                    (Val::Text(name), Val::Object(object)) => {
                        Ok(Val::Bool(self.has_field(object, &name, true)))
                    }
                    _ => wrong("\"in\" asks whether a string names a field of an object"),
                };
            }
            Remainder if matches!(left, Val::Text(_)) => return self.format(&left, &right),
            _ => {}
        }
        let (Val::Number(a), Val::Number(b)) = (&left, &right) else {
            return wrong(format!("{operator:?} is not of {} and {}", left.kind(), right.kind()));
        };
        let (a, b) = (*a, *b);
        let number = match operator {
            Subtract => a - b,
            Multiply => a * b,
            Divide | Remainder if b == 0.0 => return wrong("division by zero"),
            Divide => a / b,
            Remainder => a % b,
            BitAnd => (whole(a)? & whole(b)?) as f64,
            BitOr => (whole(a)? | whole(b)?) as f64,
            BitXor => (whole(a)? ^ whole(b)?) as f64,
            ShiftLeft | ShiftRight => {
                let (value, by) = (whole(a)?, whole(b)?);
                if !(0..64).contains(&by) {
                    return wrong("a shift is by 0 to 63 bits");
                }
                let by = u32::try_from(by).unwrap_or(0);
                let shifted = if operator == ShiftLeft { value << by } else { value >> by };
                shifted as f64
            }
            _ => return wrong(format!("{operator:?} is not of numbers")),
        };
        finite(number)
    }

    pub(super) fn unary(&mut self, operator: Unary, value: &Val) -> Result<Val, Failed> {
        match (operator, value) {
            (Unary::Not, Val::Bool(value)) => Ok(Val::Bool(!value)),
            (Unary::Minus, Val::Number(number)) => Ok(Val::Number(-number)),
            (Unary::Plus, Val::Number(number)) => Ok(Val::Number(*number)),
            (Unary::BitNot, Val::Number(number)) => Ok(Val::Number(!whole(*number)? as f64)),
            _ => wrong(format!("{operator:?} is not of {}", value.kind())),
        }
    }

    fn add(&mut self, left: Val, right: Val) -> Result<Val, Failed> {
        match (left, right) {
            (Val::Number(a), Val::Number(b)) => finite(a + b),
            (Val::Array(a), Val::Array(b)) => {
                let joined: Vec<_> = a.iter().chain(b.iter()).copied().collect();
                self.array(joined)
            }
            (Val::Object(below), Val::Object(above)) => self.extend(below, above),
            (left @ Val::Text(_), right) | (left, right @ Val::Text(_)) => {
                let (left, right) = (self.show(&left)?, self.show(&right)?);
                self.spend(left.len() + right.len())?;
                self.text(&(left + &right))
            }
            (left, right) => wrong(format!("{} and {} cannot be added", left.kind(), right.kind())),
        }
    }

    pub(super) fn equal(&mut self, left: &Val, right: &Val) -> Result<bool, Failed> {
        self.step()?;
        Ok(match (left, right) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Number(a), Val::Number(b)) => a == b,
            (Val::Text(a), Val::Text(b)) => a == b,
            (Val::Array(a), Val::Array(b)) => {
                if a.len() != b.len() {
                    return Ok(false);
                }
                for (a, b) in a.iter().zip(b.iter()) {
                    let (a, b) = (self.force(*a)?, self.force(*b)?);
                    if !self.deeper(|m| m.equal(&a, &b))? {
                        return Ok(false);
                    }
                }
                true
            }
            (Val::Object(a), Val::Object(b)) => {
                let names = self.names(*a, false)?;
                if names != self.names(*b, false)? {
                    return Ok(false);
                }
                for name in names {
                    let (a, b) = (self.field(*a, &name)?, self.field(*b, &name)?);
                    if !self.deeper(|m| m.equal(&a, &b))? {
                        return Ok(false);
                    }
                }
                true
            }
            (Val::Function(_), Val::Function(_)) => return wrong("functions are not compared"),
            _ => false,
        })
    }

    pub(super) fn compare(&mut self, left: &Val, right: &Val) -> Result<Ordering, Failed> {
        self.step()?;
        match (left, right) {
            (Val::Number(a), Val::Number(b)) => Ok(a.partial_cmp(b).unwrap_or(Ordering::Equal)),
            (Val::Text(a), Val::Text(b)) => Ok(a.chars().cmp(b.chars())),
            (Val::Array(a), Val::Array(b)) => {
                for (a, b) in a.iter().zip(b.iter()) {
                    let (a, b) = (self.force(*a)?, self.force(*b)?);
                    let order = self.deeper(|m| m.compare(&a, &b))?;
                    if order.is_ne() {
                        return Ok(order);
                    }
                }
                Ok(a.len().cmp(&b.len()))
            }
            _ => wrong(format!("{} and {} have no order", left.kind(), right.kind())),
        }
    }

    pub(super) fn index(&mut self, target: &Val, index: &Val) -> Result<Val, Failed> {
        match (target, index) {
            (Val::Object(object), Val::Text(name)) => self.field(*object, name),
            (Val::Array(items), Val::Number(number)) => {
                let at = position(*number)?;
                match items.get(at) {
                    Some(item) => self.force(*item),
                    None => wrong(format!("{at} is not within an array of {}", items.len())),
                }
            }
            (Val::Text(text), Val::Number(number)) => {
                let at = position(*number)?;
                match text.chars().nth(at) {
                    Some(c) => self.text(c.encode_utf8(&mut [0; 4])),
                    None => wrong(format!("{at} is not within a string")),
                }
            }
            _ => wrong(format!("{} has no index of {}", target.kind(), index.kind())),
        }
    }

    pub(super) fn slice(
        &mut self,
        target: &Node,
        parts: &[Option<Node>; 3],
        scope: ScopeId,
    ) -> Result<Val, Failed> {
        let target = self.evaluate(target, scope)?;
        let mut numbers = [None; 3];
        for (number, part) in numbers.iter_mut().zip(parts) {
            let Some(part) = part else { continue };
            *number = match self.evaluate(part, scope)? {
                Val::Number(number) => Some(whole(number)?),
                Val::Null => None,
                other => return wrong(format!("a slice is of numbers, not {}", other.kind())),
            };
        }
        self.cut(&target, numbers)
    }

    pub(super) fn cut(&mut self, target: &Val, parts: [Option<i64>; 3]) -> Result<Val, Failed> {
        let length = match target {
            Val::Array(items) => items.len(),
            Val::Text(text) => text.chars().count(),
            other => return wrong(format!("{} cannot be sliced", other.kind())),
        };
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let from_end = |at: i64| if at < 0 { (length + at).max(0) } else { at.min(length) };
        let [start, end, step] = parts;
        let (start, end) = (from_end(start.unwrap_or(0)), from_end(end.unwrap_or(length)));
        let step = step.unwrap_or(1);
        if step < 1 {
            return wrong("the step of a slice is at least 1");
        }
        let wanted = |at: usize| {
            let at = i64::try_from(at).unwrap_or(i64::MAX);
            at >= start && at < end && (at - start) % step == 0
        };
        match target {
            Val::Array(items) => {
                let items = items.iter().enumerate().filter(|(at, _)| wanted(*at));
                let items: Vec<_> = items.map(|(_, item)| *item).collect();
                self.array(items)
            }
            Val::Text(text) => {
                let chars = text.chars().enumerate().filter(|(at, _)| wanted(*at));
                let cut: String = chars.map(|(_, c)| c).collect();
                self.text(&cut)
            }
            _ => Ok(Val::Array(Rc::new(Vec::new()))),
        }
    }
}

/// A number that is one, as Jsonnet has it.
pub(super) fn finite(number: f64) -> Result<Val, Failed> {
    if number.is_finite() { Ok(Val::Number(number)) } else { wrong("a number is too large") }
}

/// A whole number.
pub(super) fn whole(number: f64) -> Result<i64, Failed> {
    let exact = number.trunc();
    if exact != number || exact.abs() > 9_007_199_254_740_992.0 {
        return wrong(format!("{number} is no whole number"));
    }
    Ok(exact as i64)
}

pub(super) fn position(number: f64) -> Result<usize, Failed> {
    match usize::try_from(whole(number)?) {
        Ok(at) => Ok(at),
        Err(_) => wrong("an index is not negative"),
    }
}
