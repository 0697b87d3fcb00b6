//! Ways of messages in a configuration: `[[courier.channels]]`, as Kratos has them. What
//! they mean is checked where they are made ([`crate::courier`]).

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::tables::anchor;

/// What of `[courier]` there is many of.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct CourierTables {
    /// Gateways by HTTP.
    #[serde(default)]
    pub channels: Vec<ChannelTable>,
}

/// A gateway.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelTable {
    /// What goes this way: `sms` or `email`.
    pub id: String,
    /// Its kind: `http`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// How it is asked: `POST` by default, `GET`, `PUT`, `PATCH`, `DELETE`.
    pub verb: Option<String>,
    /// Jsonnet that makes its body: `base64://…`, or a file; by default an included one.
    pub body: Option<String>,
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
}

impl ChannelTable {
    /// Relative paths start at the file.
    pub(super) fn anchor(&mut self, file: &Path) {
        let files = [&mut self.basic_password_file, &mut self.api_key_file];
        anchor(file, files, &mut self.body);
    }
}
