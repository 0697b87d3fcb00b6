//! The standard library, as far as it is here: [`FUNCTIONS`] lists it.

use std::rc::Rc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    Failed,
    machine::{Callable, Machine, ObjectId, ThunkId, Val, wrong},
    object::Layer,
    operators::finite,
    shape::{Style, lines},
    syntax::Text,
};

/// What `std` has, each with the names of its parameters; those after a `|` may be
/// left out.
pub const FUNCTIONS: &[(&str, &str)] = &[
    ("abs", "n"),
    ("all", "arr"),
    ("any", "arr"),
    ("asciiLower", "str"),
    ("asciiUpper", "str"),
    ("base64", "input"),
    ("base64Decode", "str"),
    ("ceil", "x"),
    ("char", "n"),
    ("clamp", "x,minVal,maxVal"),
    ("codepoint", "str"),
    ("contains", "arr,elem"),
    ("count", "arr,x"),
    ("endsWith", "a,b"),
    ("equals", "a,b"),
    ("equalsIgnoreCase", "str1,str2"),
    ("escapeStringJson", "str"),
    ("exp", "x"),
    ("extVar", "x"),
    ("filter", "func,arr"),
    ("filterMap", "filter_func,map_func,arr"),
    ("find", "value,arr"),
    ("findSubstr", "pat,str"),
    ("flatMap", "func,arr"),
    ("flattenArrays", "arrs"),
    ("floor", "x"),
    ("foldl", "func,arr,init"),
    ("foldr", "func,arr,init"),
    ("format", "str,vals"),
    ("get", "o,f|default,inc_hidden"),
    ("isArray", "v"),
    ("isBoolean", "v"),
    ("isEmpty", "str"),
    ("isFunction", "v"),
    ("isNumber", "v"),
    ("isObject", "v"),
    ("isString", "v"),
    ("join", "sep,arr"),
    ("length", "x"),
    ("lines", "arr"),
    ("lstripChars", "str,chars"),
    ("makeArray", "sz,func"),
    ("manifestJson", "value"),
    ("manifestJsonEx", "value,indent|newline,key_val_sep"),
    ("manifestJsonMinified", "value"),
    ("map", "func,arr"),
    ("mapWithIndex", "func,arr"),
    ("mapWithKey", "func,obj"),
    ("max", "a,b"),
    ("member", "arr,x"),
    ("mergePatch", "target,patch"),
    ("min", "a,b"),
    ("mod", "a,b"),
    ("objectFields", "o"),
    ("objectFieldsAll", "o"),
    ("objectHas", "o,f"),
    ("objectHasAll", "o,f"),
    ("objectKeysValues", "o"),
    ("objectRemoveKey", "obj,key"),
    ("objectValues", "o"),
    ("parseInt", "str"),
    ("parseJson", "str"),
    ("pow", "x,n"),
    ("prune", "a"),
    ("range", "from,to"),
    ("repeat", "what,count"),
    ("reverse", "arr"),
    ("round", "x"),
    ("rstripChars", "str,chars"),
    ("set", "arr|keyF"),
    ("setMember", "x,arr|keyF"),
    ("sha256", "str"),
    ("sign", "n"),
    ("slice", "indexable,index,end,step"),
    ("sort", "arr|keyF"),
    ("split", "str,c"),
    ("splitLimit", "str,c,maxsplits"),
    ("sqrt", "x"),
    ("startsWith", "a,b"),
    ("strReplace", "str,from,to"),
    ("stringChars", "str"),
    ("stripChars", "str,chars"),
    ("substr", "str,from,len"),
    ("sum", "arr"),
    ("toString", "a"),
    ("trace", "str,rest"),
    ("trim", "str"),
    ("type", "x"),
    ("uniq", "arr|keyF"),
];

/// The values that a function was given, in the order of its parameters.
pub(super) struct Given {
    pub(super) name: &'static str,
    values: Vec<Option<ThunkId>>,
}

impl Given {
    /// The value at a place; a mistake of this file if it may be missing.
    pub(super) fn thunk(&self, at: usize) -> Result<ThunkId, Failed> {
        match self.values.get(at).copied().flatten() {
            Some(thunk) => Ok(thunk),
            None => wrong(format!("std.{} is given too little", self.name)),
        }
    }

    pub(super) fn optional(&self, at: usize) -> Option<ThunkId> {
        self.values.get(at).copied().flatten()
    }

    pub(super) fn mistaken<T>(&self, wanted: &str, found: &Val) -> Result<T, Failed> {
        wrong(format!("std.{} takes {wanted}, not {}", self.name, found.kind()))
    }
}

impl Machine {
    /// The object `std`.
    pub(super) fn library(&mut self) -> Result<ObjectId, Failed> {
        let mut functions = Vec::with_capacity(FUNCTIONS.len());
        for (name, _) in FUNCTIONS {
            let function = self.made(Val::Function(Callable::Library(name)))?;
            functions.push((Text::from(*name), function));
        }
        match self.new_object(vec![Rc::new(Layer::given(functions, true))])? {
            Val::Object(library) => Ok(library),
            _ => wrong("std is no object"),
        }
    }

    pub(super) fn call_library(
        &mut self,
        name: &'static str,
        given: Vec<ThunkId>,
        named: Vec<(Text, ThunkId)>,
    ) -> Result<Val, Failed> {
        let declared = FUNCTIONS.iter().find(|(known, _)| *known == name);
        let (needed, optional) = declared.map_or(("", ""), |(_, parameters)| {
            parameters.split_once('|').unwrap_or((parameters, ""))
        });
        let needed: Vec<_> = needed.split(',').collect();
        let optional = optional.split(',').filter(|parameter| !parameter.is_empty());
        let parameters: Vec<_> = needed.iter().copied().chain(optional).collect();
        if given.len() > parameters.len() {
            return wrong(format!("std.{name} is given too much"));
        }
        let mut values: Vec<Option<ThunkId>> = given.into_iter().map(Some).collect();
        values.resize(parameters.len(), None);
        for (known, value) in named {
            match parameters.iter().position(|parameter| *parameter == &*known) {
                Some(at) if values[at].is_none() => values[at] = Some(value),
                _ => return wrong(format!("std.{name} does not take {known}")),
            }
        }
        if values[..needed.len()].iter().any(Option::is_none) {
            return wrong(format!("std.{name} is given too little"));
        }
        let given = Given { name, values };
        if let Some(done) = self.text_function(&given)? {
            return Ok(done);
        }
        if let Some(done) = self.array_function(&given)? {
            return Ok(done);
        }
        self.other_function(&given)
    }

    pub(super) fn value(&mut self, given: &Given, at: usize) -> Result<Val, Failed> {
        self.force(given.thunk(at)?)
    }

    pub(super) fn text_of(&mut self, given: &Given, at: usize) -> Result<Text, Failed> {
        match self.value(given, at)? {
            Val::Text(text) => Ok(text),
            other => given.mistaken("a string", &other),
        }
    }

    pub(super) fn number_of(&mut self, given: &Given, at: usize) -> Result<f64, Failed> {
        match self.value(given, at)? {
            Val::Number(number) => Ok(number),
            other => given.mistaken("a number", &other),
        }
    }

    /// The elements of an array, or the characters of a string.
    pub(super) fn items_of(
        &mut self,
        given: &Given,
        at: usize,
    ) -> Result<Rc<Vec<ThunkId>>, Failed> {
        match self.value(given, at)? {
            Val::Array(items) => Ok(items),
            Val::Text(text) => match self.chars(&text)? {
                Val::Array(items) => Ok(items),
                other => given.mistaken("an array", &other),
            },
            other => given.mistaken("an array", &other),
        }
    }

    pub(super) fn object_of(&mut self, given: &Given, at: usize) -> Result<ObjectId, Failed> {
        match self.value(given, at)? {
            Val::Object(object) => Ok(object),
            other => given.mistaken("an object", &other),
        }
    }

    pub(super) fn function_of(&mut self, given: &Given, at: usize) -> Result<Callable, Failed> {
        match self.value(given, at)? {
            Val::Function(function) => Ok(function),
            other => given.mistaken("a function", &other),
        }
    }

    fn other_function(&mut self, given: &Given) -> Result<Val, Failed> {
        match given.name {
            "extVar" => {
                let name = self.text_of(given, 0)?;
                let found = self.variables.iter().find(|(known, _)| *known == *name);
                match found.map(|(_, value)| value.clone()) {
                    Some(value) => self.read(&value),
                    None => wrong(format!("there is no external variable {name}")),
                }
            }
            "type" => {
                let kind = self.value(given, 0)?.kind();
                self.text(kind)
            }
            "isArray" | "isBoolean" | "isFunction" | "isNumber" | "isObject" | "isString" => {
                let kind = self.value(given, 0)?.kind();
                Ok(Val::Bool(given.name[2..].eq_ignore_ascii_case(kind)))
            }
            "equals" => {
                let (a, b) = (self.value(given, 0)?, self.value(given, 1)?);
                Ok(Val::Bool(self.equal(&a, &b)?))
            }
            "trace" => self.value(given, 1),
            "get" => {
                let object = self.object_of(given, 0)?;
                let name = self.text_of(given, 1)?;
                let hidden = match given.optional(3) {
                    Some(thunk) => !matches!(self.force(thunk)?, Val::Bool(false)),
                    None => true,
                };
                if self.has_field(object, &name, hidden) {
                    return self.field(object, &name);
                }
                given.optional(2).map_or(Ok(Val::Null), |default| self.force(default))
            }
            "objectHas" | "objectHasAll" => {
                let object = self.object_of(given, 0)?;
                let name = self.text_of(given, 1)?;
                Ok(Val::Bool(self.has_field(object, &name, given.name == "objectHasAll")))
            }
            "objectFields" | "objectFieldsAll" => {
                let object = self.object_of(given, 0)?;
                let names = self.names(object, given.name == "objectFieldsAll")?;
                self.array_of(names.into_iter().map(Val::Text).collect())
            }
            "objectValues" | "objectKeysValues" => {
                let object = self.object_of(given, 0)?;
                let mut items = Vec::new();
                for name in self.names(object, false)? {
                    let Some(value) = self.field_thunk(object, &name)? else { continue };
                    if given.name == "objectValues" {
                        items.push(value);
                        continue;
                    }
                    let key = self.made(Val::Text(name))?;
                    let pair =
                        self.given_object(vec![("key".into(), key), ("value".into(), value)])?;
                    items.push(self.made(pair)?);
                }
                self.array(items)
            }
            "objectRemoveKey" => {
                let object = self.object_of(given, 0)?;
                let removed = self.text_of(given, 1)?;
                let mut kept = Vec::new();
                for name in self.names(object, false)? {
                    if name != removed
                        && let Some(value) = self.field_thunk(object, &name)?
                    {
                        kept.push((name, value));
                    }
                }
                self.given_object(kept)
            }
            "mapWithKey" => {
                let map = self.function_of(given, 0)?;
                let object = self.object_of(given, 1)?;
                let mut mapped = Vec::new();
                for name in self.names(object, false)? {
                    let Some(value) = self.field_thunk(object, &name)? else { continue };
                    let key = self.made(Val::Text(name.clone()))?;
                    mapped.push((name, self.later(&map, vec![key, value])?));
                }
                self.given_object(mapped)
            }
            "mergePatch" | "prune" => {
                let first = self.value(given, 0)?;
                let mut value = self.manifest(&first)?;
                if given.name == "prune" {
                    prune(&mut value);
                } else {
                    let patch = self.value(given, 1)?;
                    merge(&mut value, self.manifest(&patch)?);
                }
                self.read(&value)
            }
            "manifestJson" | "manifestJsonEx" | "manifestJsonMinified" => {
                let value = self.value(given, 0)?;
                let value = self.manifest(&value)?;
                let option = |m: &mut Self, at: usize, default: &str| match given.optional(at) {
                    Some(_) => m.text_of(given, at),
                    None => Ok(default.into()),
                };
                let indent = option(self, 1, "    ")?;
                let newline = option(self, 2, "\n")?;
                let colon = option(self, 3, ": ")?;
                if indent.len() + newline.len() + colon.len() > 64 {
                    return wrong("std.manifestJsonEx takes short separators");
                }
                let minified = Style { indent: None, newline: "", colon: ":" };
                let style = Style { indent: Some(&indent), newline: &newline, colon: &colon };
                let style = if given.name == "manifestJsonMinified" { minified } else { style };
                self.text(&lines(&value, &style))
            }
            "parseJson" => {
                let text = self.text_of(given, 0)?;
                self.spend(text.len())?;
                match serde_json::from_str::<Value>(&text) {
                    Ok(value) => self.read(&value),
                    Err(error) => wrong(format!("std.parseJson: {error}")),
                }
            }
            "base64" => {
                let text = self.text_of(given, 0)?;
                self.text(&STANDARD.encode(text.as_bytes()))
            }
            _ => self.number_function(given),
        }
    }

    fn number_function(&mut self, given: &Given) -> Result<Val, Failed> {
        if given.name == "mod" && matches!(self.value(given, 0)?, Val::Text(_)) {
            let (text, values) = (self.value(given, 0)?, self.value(given, 1)?);
            return self.format(&text, &values);
        }
        let a = self.number_of(given, 0)?;
        let number = match given.name {
            "abs" => a.abs(),
            "ceil" => a.ceil(),
            "floor" => a.floor(),
            "round" => a.round(),
            "sqrt" => a.sqrt(),
            "exp" => a.exp(),
            "sign" if a == 0.0 => 0.0,
            "sign" => a.signum(),
            "max" => a.max(self.number_of(given, 1)?),
            "min" => a.min(self.number_of(given, 1)?),
            "pow" => a.powf(self.number_of(given, 1)?),
            "mod" => a % self.number_of(given, 1)?,
            "clamp" => a.max(self.number_of(given, 1)?).min(self.number_of(given, 2)?),
            other => return wrong(format!("there is no std.{other}")),
        };
        finite(number)
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// Drops what is null or empty, from the inside out.
fn prune(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => {
            items.iter_mut().for_each(prune);
            items.retain(|item| !is_empty(item));
        }
        Value::Object(members) => {
            members.values_mut().for_each(prune);
            members.retain(|_, member| !is_empty(member));
        }
        _ => {}
    }
}
