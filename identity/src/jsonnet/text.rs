//! The functions of the library that are about strings.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::{
    Failed,
    library::Given,
    machine::{Machine, Val, wrong},
    operators::{position, whole},
};

impl Machine {
    /// A string's characters.
    pub(super) fn chars(&mut self, text: &str) -> Result<Val, Failed> {
        let mut items = Vec::new();
        for c in text.chars() {
            self.step()?;
            items.push(self.text(c.encode_utf8(&mut [0; 4]))?);
        }
        self.array_of(items)
    }

    fn texts(&mut self, parts: Vec<&str>) -> Result<Val, Failed> {
        let mut items = Vec::with_capacity(parts.len());
        for part in parts {
            self.step()?;
            items.push(self.text(part)?);
        }
        self.array_of(items)
    }

    /// A function about strings; `None` if it is about something else.
    pub(super) fn text_function(&mut self, given: &Given) -> Result<Option<Val>, Failed> {
        let done = match given.name {
            "length" => {
                let value = self.value(given, 0)?;
                let length = match &value {
                    Val::Text(text) => text.chars().count(),
                    Val::Array(items) => items.len(),
                    Val::Object(object) => self.names(*object, false)?.len(),
                    other => return wrong(format!("{} has no length", other.kind())),
                };
                Val::Number(length as f64)
            }
            "toString" => {
                let value = self.value(given, 0)?;
                let shown = self.show(&value)?;
                self.text(&shown)?
            }
            "format" => {
                let (text, values) = (self.value(given, 0)?, self.value(given, 1)?);
                self.format(&text, &values)?
            }
            "escapeStringJson" => {
                let value = self.value(given, 0)?;
                let shown = self.show(&value)?;
                self.text(&serde_json::Value::String(shown).to_string())?
            }
            "asciiLower" => {
                let text = self.text_of(given, 0)?;
                self.text(&text.to_ascii_lowercase())?
            }
            "asciiUpper" => {
                let text = self.text_of(given, 0)?;
                self.text(&text.to_ascii_uppercase())?
            }
            "trim" => {
                let text = self.text_of(given, 0)?;
                self.text(text.trim())?
            }
            "isEmpty" => Val::Bool(self.text_of(given, 0)?.is_empty()),
            "equalsIgnoreCase" => {
                let (a, b) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                Val::Bool(a.eq_ignore_ascii_case(&b))
            }
            "startsWith" | "endsWith" => {
                let (text, part) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                let starts = given.name == "startsWith";
                Val::Bool(if starts { text.starts_with(&*part) } else { text.ends_with(&*part) })
            }
            "stripChars" | "lstripChars" | "rstripChars" => {
                let (text, chars) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                let is_in = |c: char| chars.contains(c);
                let stripped = match given.name {
                    "lstripChars" => text.trim_start_matches(is_in),
                    "rstripChars" => text.trim_end_matches(is_in),
                    _ => text.trim_matches(is_in),
                };
                self.text(stripped)?
            }
            "substr" => {
                let text = self.text_of(given, 0)?;
                let from = position(self.number_of(given, 1)?)?;
                let length = position(self.number_of(given, 2)?)?;
                let cut: String = text.chars().skip(from).take(length).collect();
                self.text(&cut)?
            }
            "slice" => {
                let target = self.value(given, 0)?;
                let mut parts = [None; 3];
                for (at, part) in parts.iter_mut().enumerate() {
                    *part = match self.value(given, at + 1)? {
                        Val::Number(number) => Some(whole(number)?),
                        _ => None,
                    };
                }
                self.cut(&target, parts)?
            }
            "split" | "splitLimit" => {
                let (text, at) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                if at.is_empty() {
                    return wrong("std.split splits at something");
                }
                let most = match given.name {
                    "split" => -1,
                    _ => whole(self.number_of(given, 2)?)?,
                };
                let parts = match usize::try_from(most) {
                    Ok(most) => text.splitn(most.saturating_add(1), &*at).collect(),
                    Err(_) => text.split(&*at).collect(),
                };
                self.texts(parts)?
            }
            "findSubstr" => {
                let (part, text) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                if part.is_empty() {
                    return Ok(Some(self.array_of(Vec::new())?));
                }
                let mut found = Vec::new();
                for (at, (byte, _)) in text.char_indices().enumerate() {
                    self.step()?;
                    if text[byte..].starts_with(&*part) {
                        found.push(Val::Number(at as f64));
                    }
                }
                self.array_of(found)?
            }
            "strReplace" => {
                let (text, from) = (self.text_of(given, 0)?, self.text_of(given, 1)?);
                let to = self.text_of(given, 2)?;
                if from.is_empty() {
                    return wrong("std.strReplace replaces something");
                }
                self.spend(text.matches(&*from).count() * to.len())?;
                self.text(&text.replace(&*from, &to))?
            }
            "stringChars" => {
                let text = self.text_of(given, 0)?;
                self.chars(&text)?
            }
            "char" => {
                let code = whole(self.number_of(given, 0)?)?;
                match u32::try_from(code).ok().and_then(char::from_u32) {
                    Some(c) => self.text(c.encode_utf8(&mut [0; 4]))?,
                    None => return wrong(format!("{code} is no character")),
                }
            }
            "codepoint" => {
                let text = self.text_of(given, 0)?;
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(c), None) => Val::Number(f64::from(u32::from(c))),
                    _ => return wrong("std.codepoint takes one character"),
                }
            }
            "parseInt" => {
                let text = self.text_of(given, 0)?;
                match text.parse::<i64>() {
                    Ok(number) => Val::Number(number as f64),
                    Err(_) => return wrong(format!("{text:?} is no whole number")),
                }
            }
            "base64Decode" => {
                let text = self.text_of(given, 0)?;
                let decoded = STANDARD.decode(text.as_bytes()).ok();
                match decoded.and_then(|bytes| String::from_utf8(bytes).ok()) {
                    Some(text) => self.text(&text)?,
                    None => return wrong("std.base64Decode takes text in base64"),
                }
            }
            "sha256" => {
                let text = self.text_of(given, 0)?;
                let digest = Sha256::digest(text.as_bytes());
                let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                self.text(&hex)?
            }
            "repeat" => {
                let what = self.value(given, 0)?;
                let count = position(self.number_of(given, 1)?)?;
                match what {
                    Val::Text(text) => {
                        self.spend(text.len().saturating_mul(count))?;
                        self.text(&text.repeat(count))?
                    }
                    Val::Array(items) => {
                        self.spend(items.len().saturating_mul(count).saturating_mul(4))?;
                        self.array(items.repeat(count))?
                    }
                    other => return wrong(format!("{} cannot be repeated", other.kind())),
                }
            }
            "join" => return self.join(given).map(Some),
            "lines" => {
                let mut out = String::new();
                for item in &*self.items_of(given, 0)? {
                    if let Val::Text(line) = self.force(*item)? {
                        self.spend(line.len() + 1)?;
                        out.push_str(&line);
                        out.push('\n');
                    }
                }
                self.text(&out)?
            }
            _ => return Ok(None),
        };
        Ok(Some(done))
    }

    /// Nulls are left out.
    fn join(&mut self, given: &Given) -> Result<Val, Failed> {
        let between = self.value(given, 0)?;
        let items = self.items_of(given, 1)?;
        let mut kept = Vec::new();
        for item in &*items {
            match self.force(*item)? {
                Val::Null => {}
                item => kept.push(item),
            }
        }
        match between {
            Val::Text(between) => {
                let mut out = String::new();
                for (at, item) in kept.iter().enumerate() {
                    let Val::Text(text) = item else {
                        return wrong(format!("std.join joins strings, not {}", item.kind()));
                    };
                    self.spend(text.len() + between.len())?;
                    if at > 0 {
                        out.push_str(&between);
                    }
                    out.push_str(text);
                }
                self.text(&out)
            }
            Val::Array(between) => {
                let mut out = Vec::new();
                for (at, item) in kept.iter().enumerate() {
                    let Val::Array(inner) = item else {
                        return wrong(format!("std.join joins arrays, not {}", item.kind()));
                    };
                    if at > 0 {
                        out.extend(between.iter().copied());
                    }
                    out.extend(inner.iter().copied());
                    self.spend(4 * (between.len() + inner.len()))?;
                }
                self.array(out)
            }
            other => wrong(format!("std.join puts no {} between", other.kind())),
        }
    }
}
