//! A provider as an operator configured it.

use std::{fmt, sync::Arc};

use cardea_storage::Secret;
use serde_json::Value;
use uuid::Uuid;

use super::{claims::Upstream, organization::is_of, preset::Preset};
use crate::jsonnet::Program;

/// When the code is bound to who asked for it (RFC 7636).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pkce {
    /// If the provider says that it can.
    #[default]
    Auto,
    /// Always.
    Force,
    /// Never.
    Never,
}

/// Where claims come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimsSource {
    /// The ID token.
    IdToken,
    /// The userinfo endpoint; the ID token says whose they are.
    Userinfo,
}

/// Signs with an ES256 key.
pub trait SignsAssertions: Send + Sync {
    /// The signature of a message: 64 bytes, as JWS has it; `None` if it cannot be made.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>>;
}

/// How a client proves itself to its provider.
#[derive(Clone)]
pub enum ClientSecret {
    /// Not at all: a public client.
    None,
    /// By a text.
    Text(Secret<String>),
    /// By a token that it signs itself, as Apple wants it.
    Signed {
        /// Who issues the token.
        team_id: String,
        /// Which key signed it.
        key_id: String,
        /// The key.
        key: Arc<dyn SignsAssertions>,
    },
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Text(_) => "Text(…)",
            Self::Signed { .. } => "Signed(…)",
        })
    }
}

/// A provider.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Its id: part of URLs, and of whose account is meant.
    pub id: String,
    /// What people call it.
    pub label: String,
    /// What is known of its kind.
    pub preset: &'static Preset,
    /// The issuer that it is pinned to. For a provider without ID tokens, what stands
    /// for one.
    pub issuer: String,
    /// Our id there.
    pub client_id: String,
    /// How we prove ourselves there.
    pub client_secret: ClientSecret,
    /// What is asked for.
    pub scope: Vec<String>,
    /// In place of what its metadata says.
    pub auth_url: Option<String>,
    /// In place of what its metadata says.
    pub token_url: Option<String>,
    /// In place of what its metadata says.
    pub userinfo_url: Option<String>,
    /// Audiences of ID tokens beside our id: those of native applications.
    pub audiences: Vec<String>,
    /// Where it tells browsers that ask it themselves how they do (FedCM); `None`: they do
    /// not.
    pub fedcm_config_url: Option<String>,
    /// Whether codes are bound.
    pub pkce: Pkce,
    /// Where claims come from.
    pub claims_source: ClaimsSource,
    /// The `claims` parameter (OpenID Connect Core 1.0 § 5.5).
    pub requested_claims: Option<Value>,
    /// Makes traits of claims.
    pub mapper: Program,
    /// Where the operator has that program from; `None` for the included one.
    pub mapper_url: Option<String>,
    /// The organization whose people alone come through it; `None`: anybody may.
    pub organization: Option<Uuid>,
    /// Whether an identity becomes what its claims are mapped to, at each login by it.
    pub renews: bool,
    /// Values of `acr` in its ID tokens that say that two factors were shown there.
    pub aal2_acr: Vec<String>,
    /// The same of `amr`: one of them is enough.
    pub aal2_amr: Vec<String>,
    /// The domains of e-mail addresses that it speaks for: somebody with a verified
    /// address of these is linked to the account that has verified it too.
    pub authoritative_domains: Vec<String>,
}

impl Provider {
    /// Whether it gives ID tokens.
    pub const fn is_openid(&self) -> bool {
        self.preset.is_openid
    }

    /// Whether what it says of an authentication stands for two factors.
    pub fn vouches_for_two(&self, upstream: &Upstream) -> bool {
        let said = |acr: &String| self.aal2_acr.contains(acr);
        upstream.acr.as_ref().is_some_and(said)
            || upstream.amr.iter().any(|said| self.aal2_amr.contains(said))
    }

    /// Whether it speaks for an e-mail address.
    pub fn is_authoritative_for(&self, email: &str) -> bool {
        is_of(email, &self.authoritative_domains)
    }
}

/// All providers, in the order in which they are shown.
#[derive(Debug, Clone, Default)]
pub struct Providers(Arc<Vec<Provider>>);

impl Providers {
    /// These.
    pub fn new(providers: Vec<Provider>) -> Self {
        Self(Arc::new(providers))
    }

    /// The one of that id.
    pub fn get(&self, id: &str) -> Option<&Provider> {
        self.0.iter().find(|provider| provider.id == id)
    }

    /// Those of an organization; for `None` those that are anybody's.
    pub fn of(&self, organization: Option<Uuid>) -> impl Iterator<Item = &Provider> {
        self.0.iter().filter(move |provider| provider.organization == organization)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Provider> {
        self.0.iter()
    }
}
