//! What a configuration has many of: providers of social sign-in, one table each
//! (`[oidc.google]`), organizations (`[organizations.<id>]`), templates of tokens
//! (`[tokenizers.<name>]`), hooks of flows, in order (`[[hooks]]`), and gateways of messages
//! (`[[courier.channels]]`).
//!
//! They stand in the file alone; their secrets are files, or variables of the
//! environment: `CARDEA_SECRET_OIDC_<ID>_CLIENT_SECRET`, `CARDEA_SECRET_HOOK_<ID>_…`,
//! `CARDEA_SECRET_CHANNEL_<ID>_…`, `CARDEA_SECRET_TOKENIZER_<NAME>_JWKS`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Origin, channels::CourierTables, hooks::HookTable, refusal::Refusal};

/// The tables of a file.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tables {
    /// Providers, by their ids.
    #[serde(default)]
    pub oidc: BTreeMap<String, ProviderTable>,
    /// Organizations, by their ids.
    #[serde(default)]
    pub organizations: BTreeMap<String, OrganizationTable>,
    /// Templates of tokens of sessions, by their names.
    #[serde(default)]
    pub tokenizers: BTreeMap<String, TokenizerTable>,
    /// Hooks, in order.
    #[serde(default)]
    pub hooks: Vec<HookTable>,
    /// Gateways of messages.
    #[serde(default)]
    pub courier: CourierTables,
}

/// The names of the tables, which are no sections.
pub const NAMES: [&str; 4] = ["oidc", "organizations", "tokenizers", "hooks"];
/// Those that lie within a section.
pub const WITHIN: [&str; 1] = ["courier.channels"];

/// A provider.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderTable {
    /// Its kind: `generic`, `google`, `github`, …; by default that of its id, if there
    /// is one, else generic.
    pub provider: Option<String>,
    /// What people call it; by default its kind's name.
    pub label: Option<String>,
    /// Its issuer; for kinds that know theirs, in place of it.
    pub issuer_url: Option<String>,
    /// Our id there.
    pub client_id: String,
    /// A file with our secret.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for, in place of what its kind says.
    pub scope: Option<Vec<String>>,
    /// In place of what its metadata says.
    pub auth_url: Option<String>,
    /// In place of what its metadata says.
    pub token_url: Option<String>,
    /// In place of what its metadata says.
    pub userinfo_url: Option<String>,
    /// Audiences of ID tokens that applications got by themselves.
    pub additional_id_token_audiences: Vec<String>,
    /// Where it tells browsers that ask it themselves how they do (FedCM).
    pub fedcm_config_url: Option<String>,
    /// `auto`, `force` or `never`.
    pub pkce: Option<String>,
    /// `id_token` or `userinfo`.
    pub claims_source: Option<String>,
    /// The `claims` parameter.
    pub requested_claims: Option<toml::Table>,
    /// Jsonnet: `base64://…`, or a file.
    pub mapper: Option<String>,
    /// `never` or `automatic`: whether an identity becomes what its claims are mapped to
    /// at each login.
    pub update_identity_on_login: Option<String>,
    /// Values of `acr` in ID tokens that stand for two factors.
    pub aal2_acr_values: Vec<String>,
    /// Values of `amr` in ID tokens, one of which stands for two factors.
    pub aal2_amr_values: Vec<String>,
    /// The organization whose people alone come through it.
    pub organization_id: Option<String>,
    /// Domains of e-mail addresses that it speaks for.
    pub authoritative_domains: Vec<String>,
    /// The tenant, for Microsoft.
    pub microsoft_tenant: Option<String>,
    /// The team, for Apple.
    pub apple_team_id: Option<String>,
    /// The key, for Apple.
    pub apple_private_key_id: Option<String>,
    /// A file with that key (PEM).
    pub apple_private_key_file: Option<PathBuf>,
}

/// An organization, whose people sign in through providers of its own.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OrganizationTable {
    /// What people call it; by default its id.
    pub label: Option<String>,
    /// The domains of its e-mail addresses.
    pub domains: Vec<String>,
}

/// A template by which sessions become tokens.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerTable {
    /// How long a token is good; by default a minute.
    pub ttl: Option<String>,
    /// A file with a JSON Web Key Set; its first key, a private one, signs.
    pub jwks_file: Option<PathBuf>,
    /// Jsonnet: `base64://…`, or a file.
    pub claims_mapper: Option<String>,
    /// What `sub` is: `id` or `external_id`.
    pub subject_source: Option<String>,
}

/// Reads the tables of a file; what is wrong is told with its line.
pub(super) fn read(path: &Path, text: &str, refusals: &mut Vec<Refusal>) -> Tables {
    let origin = |offset: usize| Origin::File {
        path: path.to_owned(),
        line: 1 + text[..offset.min(text.len())].matches('\n').count(),
    };
    match toml::from_str::<Tables>(text) {
        Ok(mut tables) => {
            for hook in &mut tables.hooks {
                hook.anchor(path);
            }
            for channel in &mut tables.courier.channels {
                channel.anchor(path);
            }
            for template in tables.tokenizers.values_mut() {
                anchor(path, [&mut template.jwks_file], &mut template.claims_mapper);
            }
            for (id, provider) in &mut tables.oidc {
                let ProviderTable { client_secret_file, apple_private_key_file, mapper, .. } =
                    provider;
                anchor(path, [client_secret_file, apple_private_key_file], mapper);
                if !is_id(id) {
                    let message = format!(
                        "oidc.{id}: a provider's id is of lower-case letters, digits, \"-\" and \
                         \"_\", at most 63"
                    );
                    refusals.push(Refusal { origin: Some(origin(0)), message });
                }
            }
            tables
        }
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            refusals
                .push(Refusal { origin: Some(origin(at)), message: error.message().to_owned() });
            Tables::default()
        }
    }
}

/// It is part of URLs.
fn is_id(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    (1..=63).contains(&id.len()) && id.bytes().all(plain)
}

/// Relative paths start at the file: those of files, and that of a program, which may be
/// written as `file://…`, or be a `base64://…` instead.
pub(super) fn anchor<const N: usize>(
    file: &Path,
    files: [&mut Option<PathBuf>; N],
    program: &mut Option<String>,
) {
    let base = file.parent().unwrap_or(Path::new(""));
    for path in files {
        if let Some(path) = path.as_mut().filter(|path| path.is_relative()) {
            *path = base.join(&*path);
        }
    }
    if let Some(program) = program {
        let path = program.strip_prefix("file://").unwrap_or(program);
        if !path.contains("://") {
            *program = base.join(path).display().to_string();
        }
    }
}
