//! Between values and JSON, and values as texts.

use serde_json::{Map, Number, Value};

use super::{
    Failed,
    machine::{Machine, Val, wrong},
};

impl Val {
    /// What `std.type` says.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Array(_) => "array",
            Self::Object(_) => "object",
            Self::Function(_) => "function",
        }
    }
}

impl Machine {
    /// A value of JSON.
    pub(super) fn read(&mut self, value: &Value) -> Result<Val, Failed> {
        self.step()?;
        match value {
            Value::Null => Ok(Val::Null),
            Value::Bool(value) => Ok(Val::Bool(*value)),
            Value::Number(number) => Ok(Val::Number(number.as_f64().unwrap_or(0.0))),
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let mut made = Vec::with_capacity(items.len());
                for item in items {
                    let item = self.deeper(|m| m.read(item))?;
                    made.push(self.made(item)?);
                }
                self.array(made)
            }
            Value::Object(members) => {
                let mut made = Vec::with_capacity(members.len());
                for (name, member) in members {
                    let member = self.deeper(|m| m.read(member))?;
                    self.spend(name.len())?;
                    made.push((name.as_str().into(), self.made(member)?));
                }
                self.given_object(made)
            }
        }
    }

    /// The whole value as JSON.
    pub(super) fn manifest(&mut self, value: &Val) -> Result<Value, Failed> {
        let mut room = self.output_bytes_max();
        self.manifest_within(value, &mut room)
    }

    fn manifest_within(&mut self, value: &Val, room: &mut usize) -> Result<Value, Failed> {
        self.step()?;
        let mut take = |bytes: usize| {
            *room = room.checked_sub(bytes)?;
            Some(())
        };
        let most = self.output_bytes_max();
        let full = Failed::Output(most);
        match value {
            Val::Null => take(4).ok_or(full).map(|()| Value::Null),
            Val::Bool(value) => take(5).ok_or(full).map(|()| Value::Bool(*value)),
            Val::Number(number) => take(8).ok_or(full).map(|()| json_number(*number)),
            Val::Text(text) => {
                take(text.len() + 2).ok_or(full)?;
                Ok(Value::String(text.to_string()))
            }
            Val::Array(items) => {
                take(2 + items.len()).ok_or(full)?;
                let mut made = Vec::with_capacity(items.len());
                for item in &**items {
                    let item = self.force(*item)?;
                    made.push(self.deeper(|m| m.manifest_within(&item, room))?);
                }
                Ok(Value::Array(made))
            }
            Val::Object(object) => {
                take(2).ok_or(full.clone())?;
                let mut made = Map::new();
                for name in self.names(*object, false)? {
                    *room = room.checked_sub(name.len() + 4).ok_or(full.clone())?;
                    let member = self.field(*object, &name)?;
                    let member = self.deeper(|m| m.manifest_within(&member, room))?;
                    made.insert(name.to_string(), member);
                }
                Ok(Value::Object(made))
            }
            Val::Function(_) => wrong("a function has no form in JSON"),
        }
    }

    /// As `std.toString` has it: a string is itself, all else is JSON on one line.
    pub(super) fn show(&mut self, value: &Val) -> Result<String, Failed> {
        if let Val::Text(text) = value {
            self.spend(text.len())?;
            return Ok(text.to_string());
        }
        let value = self.manifest(value)?;
        let shown = lines(&value, &Style { indent: None, newline: " ", colon: ": " });
        self.spend(shown.len())?;
        Ok(shown)
    }
}

/// How JSON is written.
pub(super) struct Style<'a> {
    /// Per level; `None`: all on one line.
    pub(super) indent: Option<&'a str>,
    pub(super) newline: &'a str,
    pub(super) colon: &'a str,
}

/// A value as text.
pub(super) fn lines(value: &Value, style: &Style<'_>) -> String {
    let mut out = String::new();
    write(value, style, 0, &mut out);
    out
}

fn write(value: &Value, style: &Style<'_>, depth: usize, out: &mut String) {
    let (open, close, count) = match value {
        Value::Array(items) => ('[', ']', items.len()),
        Value::Object(members) => ('{', '}', members.len()),
        Value::Number(number) => return out.push_str(&show_number(number.as_f64().unwrap_or(0.0))),
        other => return out.push_str(&other.to_string()),
    };
    out.push(open);
    if count == 0 {
        if style.indent.is_none() && style.newline == " " || style.indent.is_some() {
            out.push(' ');
        }
        return out.push(close);
    }
    let line = |depth: usize, out: &mut String| {
        if let Some(indent) = style.indent {
            out.push_str(style.newline);
            out.push_str(&indent.repeat(depth));
        }
    };
    let separate = |at: usize, out: &mut String| {
        if at > 0 {
            out.push(',');
            if style.indent.is_none() {
                out.push_str(style.newline);
            }
        }
        line(depth + 1, out);
    };
    match value {
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                separate(at, out);
                write(item, style, depth + 1, out);
            }
        }
        Value::Object(members) => {
            for (at, (name, member)) in members.iter().enumerate() {
                separate(at, out);
                out.push_str(&Value::String(name.clone()).to_string());
                out.push_str(style.colon);
                write(member, style, depth + 1, out);
            }
        }
        _ => {}
    }
    line(depth, out);
    out.push(close);
}

/// Whole numbers without a fraction.
fn json_number(number: f64) -> Value {
    if number.trunc() == number && number.abs() < 9_007_199_254_740_992.0 {
        return Value::from(number as i64);
    }
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// A number as Jsonnet writes it.
pub(super) fn show_number(number: f64) -> String {
    if number.trunc() == number && number.abs() < 1e17 {
        return format!("{}", number as i64);
    }
    format!("{number}")
}
