//! The layers a value may come from: defaults, then the TOML file, then the
//! environment, then flags; a later one wins. Each value remembers its origin,
//! so that errors and `config check` can name it.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use toml::de::{DeTable, DeValue};

use super::{
    refusal::{Refusal, nearest},
    settings::{Setting, settings},
    tables::{self, Tables},
    value::{FromRaw, Raw},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => write!(f, "{name}"),
            Origin::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// Values by name (`section.key`), the winning one of each.
#[derive(Debug, Default, Clone)]
pub struct Layers {
    values: BTreeMap<String, (Raw, Origin)>,
    /// `config check` shows what each setting came to.
    shown: BTreeMap<String, String>,
    /// What there is many of.
    pub(super) tables: Tables,
}

/// Variables that begin with `CARDEA_` but configure the command line, not the
/// node.
pub const COMMAND_VARIABLES: [&str; 7] = [
    "CARDEA_CONFIG",
    "CARDEA_OUTPUT",
    "CARDEA_ADMIN_URL",
    "CARDEA_API_KEY_FILE",
    "CARDEA_ADMIN_CA_FILE",
    "CARDEA_ADMIN_CERT_FILE",
    "CARDEA_ADMIN_CERT_KEY_FILE",
];

/// Variables under this prefix carry secrets; see [`super::secret`].
pub const SECRET_PREFIX: &str = "CARDEA_SECRET_";

impl Layers {
    /// Adds the file's values.
    ///
    /// # Errors
    /// If it is no TOML: then nothing of it is known, and nothing else is worth telling.
    pub fn add_file(
        &mut self,
        path: PathBuf,
        text: &str,
        refusals: &mut Vec<Refusal>,
    ) -> Result<(), Refusal> {
        let line_of = |offset: usize| 1 + text[..offset.min(text.len())].matches('\n').count();
        let origin = |offset: usize| Origin::File { path: path.clone(), line: line_of(offset) };
        let table = match DeTable::parse(text) {
            Ok(table) => table,
            Err(error) => {
                let offset = error.span().map_or(0, |span| span.start);
                return Err(Refusal {
                    origin: Some(origin(offset)),
                    message: error.message().to_owned(),
                });
            }
        };
        self.tables = tables::read(&path, text, refusals);
        for (section, value) in table.get_ref() {
            if tables::NAMES.contains(&section.get_ref().as_ref()) {
                continue;
            }
            let DeValue::Table(keys) = value.get_ref() else {
                let name = section.get_ref();
                refusals.push(Refusal {
                    origin: Some(origin(section.span().start)),
                    message: unknown(name),
                });
                continue;
            };
            if !settings().any(|setting| setting.section == section.get_ref()) {
                let near = nearest(section.get_ref(), settings().map(|setting| setting.section));
                let hint =
                    near.map_or_else(String::new, |near| format!("; did you mean [{near}]?"));
                refusals.push(Refusal {
                    origin: Some(origin(section.span().start)),
                    message: format!("unknown section [{}]{hint}", section.get_ref()),
                });
                continue;
            }
            for (key, value) in keys {
                let name = format!("{}.{}", section.get_ref(), key.get_ref());
                let at = origin(key.span().start);
                if tables::WITHIN.contains(&name.as_str()) {
                    continue;
                }
                if Setting::find(&name).is_none() {
                    refusals.push(Refusal { origin: Some(at), message: unknown(&name) });
                    continue;
                }
                match raw(value.get_ref()) {
                    Ok(raw) => {
                        self.values.insert(name, (raw, at));
                    }
                    Err(why) => refusals
                        .push(Refusal { origin: Some(at), message: format!("{name}: {why}") }),
                }
            }
        }
        Ok(())
    }

    /// Adds the `CARDEA_…` variables among `variables`.
    pub fn add_environment(
        &mut self,
        variables: impl IntoIterator<Item = (String, String)>,
        refusals: &mut Vec<Refusal>,
    ) {
        for (variable, value) in variables {
            if !variable.starts_with("CARDEA_")
                || variable.starts_with(SECRET_PREFIX)
                || COMMAND_VARIABLES.contains(&variable.as_str())
                || is_orchestrators(&variable)
            {
                continue;
            }
            let found = settings().find(|setting| setting.variable() == variable);
            match found {
                Some(setting) => {
                    self.values
                        .insert(setting.name(), (Raw::Loose(value), Origin::Environment(variable)));
                }
                None => {
                    let names: Vec<String> = settings().map(|setting| setting.variable()).collect();
                    let near = nearest(&variable, names.iter().map(String::as_str));
                    let hint =
                        near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                    refusals.push(Refusal {
                        origin: None,
                        message: format!("unknown environment variable {variable}{hint}"),
                    });
                }
            }
        }
    }

    /// Adds a flag's value for the setting `name`.
    pub fn add_flag(
        &mut self,
        name: &str,
        value: String,
        flag: String,
        refusals: &mut Vec<Refusal>,
    ) {
        if Setting::find(name).is_none() {
            refusals.push(Refusal { origin: Some(Origin::Flag(flag)), message: unknown(name) });
            return;
        }
        self.values.insert(name.to_owned(), (Raw::Loose(value), Origin::Flag(flag)));
    }

    /// The value of a setting; a refusal is noted and `None` returned if it
    /// cannot be read.
    pub(super) fn read<T: FromRaw>(
        &mut self,
        setting: &Setting,
        refusals: &mut Vec<Refusal>,
    ) -> Option<T> {
        let name = setting.name();
        let (raw, origin) = self
            .values
            .get(&name)
            .cloned()
            .unwrap_or_else(|| (Raw::Loose(setting.default.to_owned()), Origin::Default));
        match T::from_raw(&raw) {
            Ok(value) => {
                self.shown.insert(name, value.show());
                Some(value)
            }
            Err(why) => {
                refusals.push(Refusal { origin: Some(origin), message: format!("{name}: {why}") });
                None
            }
        }
    }

    /// Where the value of `name` came from.
    pub fn origin(&self, name: &str) -> Origin {
        self.values.get(name).map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// Every setting with its effective value and origin, in the order of the
    /// documentation.
    pub fn explain(&self) -> Vec<Explained> {
        settings()
            .map(|setting| Explained {
                setting,
                value: self.shown.get(&setting.name()).cloned().unwrap_or_default(),
                origin: self.origin(&setting.name()),
            })
            .collect()
    }
}

/// A setting with what it came to.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The setting.
    pub setting: &'static Setting,
    /// Its effective value.
    pub value: String,
    /// Where that came from.
    pub origin: Origin,
}

fn unknown(name: &str) -> String {
    if let Some((section, key)) = name.split_once('.') {
        let file_key = format!("{name}_file");
        if section == "secrets" && Setting::find(&file_key).is_some() {
            return format!(
                "{name}: a secret does not belong in the configuration; write it to a file named by \
                 {file_key}, or set {SECRET_PREFIX}{}",
                key.to_uppercase()
            );
        }
    }
    let names: Vec<String> = settings().map(Setting::name).collect();
    match nearest(name, names.iter().map(String::as_str)) {
        Some(near) => format!("unknown setting {name}; did you mean {near}?"),
        None => format!("unknown setting {name}"),
    }
}

/// Kubernetes sets variables for every service beside a pod; a service called
/// `cardea` or `cardea-public` would otherwise look like a mistyped setting.
fn is_orchestrators(variable: &str) -> bool {
    variable.ends_with("_SERVICE_HOST")
        || variable.contains("_SERVICE_PORT")
        || variable.ends_with("_PORT")
        || variable.contains("_TCP")
        || variable.contains("_UDP")
}

fn raw(value: &DeValue<'_>) -> Result<Raw, String> {
    match value {
        DeValue::String(text) => Ok(Raw::Text(text.to_string())),
        DeValue::Boolean(value) => Ok(Raw::Bool(*value)),
        DeValue::Integer(integer) => i64::from_str_radix(integer.as_str(), integer.radix())
            .map(Raw::Integer)
            .map_err(|_| "the number is too large".to_owned()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.to_string()),
                _ => Err("expected a list of strings".to_owned()),
            })
            .collect::<Result<_, _>>()
            .map(Raw::List),
        DeValue::Float(_) => Err("no setting is a fraction".to_owned()),
        DeValue::Datetime(_) => Err("no setting is a date".to_owned()),
        DeValue::Table(_) => Err("no setting is a table".to_owned()),
    }
}
