//! Hooks in a configuration: `[[hooks]]`, in the order in which they run. What they mean is
//! checked where they are made ([`crate::hooks`]).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::tables::anchor;

/// A hook.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HookTable {
    /// Of which flows: `login`, `registration`, `settings`, `recovery`, `verification`.
    pub flow: String,
    /// `before` they begin, or `after` they complete, which is the default.
    pub when: Option<String>,
    /// After which method; by default after all that have no hooks of their own.
    pub method: Option<String>,
    /// What it is: `web_hook`, `session`, …
    pub hook: String,
    /// What calls, logs and secrets name a web hook by.
    pub id: Option<String>,
    /// Where a web hook is.
    pub url: Option<String>,
    /// How it is asked: `POST` by default, `GET`, `PUT`, `PATCH`, `DELETE`.
    pub verb: Option<String>,
    /// Jsonnet that makes its body: `base64://…`, or a file; by default an included one.
    pub body: Option<String>,
    /// What becomes of its answer: `await` by default, `ignore`, `parse`.
    pub response: Option<String>,
    /// Whether its refusal is shown in the form.
    pub can_interrupt: bool,
    /// How long it may take; by default `outbound.timeout`.
    pub timeout: Option<String>,
    /// Headers beside those that are always sent.
    pub headers: BTreeMap<String, String>,
    /// The user, where it asks for one.
    pub basic_user: Option<String>,
    /// A file with that user's password.
    pub basic_password_file: Option<PathBuf>,
    /// The name of the header or cookie with our key, where it asks for one.
    pub api_key_name: Option<String>,
    /// `header` by default, or `cookie`.
    pub api_key_in: Option<String>,
    /// A file with that key.
    pub api_key_file: Option<PathBuf>,
    /// Whether calls are signed; the key is in the environment, or in a file.
    pub signed: bool,
    /// A file with the key of signatures: `whsec_…`, or a text of 24 bytes or more.
    pub signing_key_file: Option<PathBuf>,
}

impl HookTable {
    /// Relative paths start at the file.
    pub(super) fn anchor(&mut self, file: &Path) {
        let files =
            [&mut self.basic_password_file, &mut self.api_key_file, &mut self.signing_key_file];
        anchor(file, files, &mut self.body);
    }
}
