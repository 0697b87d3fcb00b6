//! A setting: what is declared of it, and the names that it goes by.

use super::settings::settings;

/// A setting as declared.
#[derive(Debug)]
pub struct Setting {
    /// The table of the file.
    pub section: &'static str,
    /// The key in that table.
    pub key: &'static str,
    /// The default, in the form of the environment; empty: none.
    pub default: &'static str,
    /// What it accepts.
    pub form: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

impl Setting {
    /// `section.key`.
    pub fn name(&self) -> String {
        format!("{}.{}", self.section, self.key)
    }

    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("CARDEA_{}_{}", self.section.to_uppercase(), self.key.to_uppercase())
    }

    /// The setting called `name`.
    pub fn find(name: &str) -> Option<&'static Setting> {
        let (section, key) = name.split_once('.')?;
        settings().find(|setting| setting.section == section && setting.key == key)
    }
}
