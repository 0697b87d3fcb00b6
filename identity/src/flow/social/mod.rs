//! Logging in, signing up and linking by accounts at other providers.
//!
//! 1. [`depart`]: the flow keeps, sealed, what must come back, and the browser is sent
//!    to the provider. For a native client that is its user's browser; the client gets
//!    the session afterwards, for two codes of which it had one from the start. It may be
//!    somebody else's browser, too: what comes back by it is nothing to who began the flow.
//! 2. [`arrive`]: what comes back must be of the flow, of the same browser, of the same
//!    provider and issuer, and comes once: the state is spent before anything is asked.
//! 3. The provider says who it is ([`social`](crate::social)).
//! 4. [`known`]: an account that is linked logs its identity in. [`newcomer`]: an unknown
//!    one is mapped and signed up, where it is complete and nobody has its identifiers.
//!    What is missing is asked for in the form of a registration; the provider's word is
//!    kept, sealed, with the flow.
//! 5. [`link`]: where somebody has the identifiers, both are linked at once only if the
//!    provider speaks for the address's domain and verified it, and the identity has
//!    verified it too. Otherwise that identity must log in first, in that flow; the
//!    account is linked in the transaction that logs it in.
//!
//! Nothing is decided by an address that the provider did not verify, nor by one that
//! the identity did not.

pub mod arrive;
pub(super) mod depart;
pub mod dry_run;
mod exchange;
pub mod fedcm;
mod form;
mod known;
mod link;
mod newcomer;
mod rehearsal;
#[cfg(test)]
mod tests;
mod unlink;

use cardea_storage::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use arrive::{Arrival, ArrivalRejection, Arrived, Brought};
pub use dry_run::{DryRun, DryRunDeparture, DryRunRejection};
pub use exchange::{ExchangeRejection, ReturnCode};
pub use fedcm::{FedcmProvider, FedcmRejection, FedcmSubmission};
pub(in crate::flow) use known::Renewal;

use crate::social::{
    claims::{Stranger, Upstream},
    exchange::Tokens,
    mapping::Mapped,
};

/// What somebody sent to come by a provider.
#[derive(Debug, Clone, Default)]
pub struct SocialSubmission {
    /// The provider's id; `None` if missing.
    pub provider: Option<String>,
    /// An ID token that an application got by itself.
    pub id_token: Option<Secret<String>>,
    /// The nonce that it was got with.
    pub id_token_nonce: Option<String>,
    /// What it says of itself; null if nothing.
    pub traits: Value,
    /// What is passed on to the provider.
    pub upstream_parameters: Map<String, Value>,
    /// What is passed along to webhooks; null for nothing.
    pub transient_payload: Value,
}

/// Somebody whom a provider named, until it is signed up or linked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::flow) struct Pending {
    pub(super) provider: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) label: String,
    pub(super) tokens: Tokens,
    /// How it was authenticated there.
    #[serde(default)]
    pub(super) upstream: Upstream,
    /// What the provider's claims were mapped to.
    #[serde(default)]
    pub(super) traits: Value,
    #[serde(default)]
    pub(super) metadata_public: Option<Value>,
    #[serde(default)]
    pub(super) metadata_admin: Option<Value>,
    /// E-mail addresses that the provider verified.
    #[serde(default)]
    pub(super) verified_emails: Vec<String>,
    /// The identity that it is to be linked to; empty for none.
    #[serde(default)]
    pub(super) identity: String,
    /// An address that the provider verified and speaks for. Where it is to be linked by
    /// that alone, the identity must have verified it as well.
    #[serde(default)]
    pub(super) asserted_email: Option<String>,
}

impl Pending {
    /// Whether it is to be linked to that identity.
    pub(super) fn is_for(&self, identity: Uuid) -> bool {
        self.identity == identity.to_string()
    }

    pub(super) fn of(provider: &str, stranger: &Stranger, tokens: Tokens, mapped: Mapped) -> Self {
        let verified = mapped.verified.into_iter();
        let verified = verified.filter(|(via, _)| *via == crate::schema::Channel::Email);
        Self {
            provider: provider.to_owned(),
            issuer: stranger.issuer.clone(),
            subject: stranger.subject.clone(),
            label: label(stranger),
            tokens,
            upstream: stranger.upstream.clone(),
            traits: mapped.traits,
            metadata_public: mapped.metadata_public,
            metadata_admin: mapped.metadata_admin,
            verified_emails: verified.map(|(_, value)| value).collect(),
            identity: String::new(),
            asserted_email: None,
        }
    }
}

/// The longest label, in characters.
const LABEL_CHARS_MAX: usize = 100;

/// What people call an account.
fn label(stranger: &Stranger) -> String {
    let names = ["email", "preferred_username", "name"];
    let named = names.iter().find_map(|name| stranger.claims.get(*name)?.as_str());
    named.unwrap_or_default().chars().take(LABEL_CHARS_MAX).collect()
}
