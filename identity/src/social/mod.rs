//! Social sign-in: this layer as a relying party of other providers (OpenID Connect
//! Core 1.0, OAuth 2.0 with RFC 7636 and RFC 9207).
//!
//! 1. A [`Provider`] is configured: by a [`preset`], or by its issuer, whose
//!    [`metadata`] is looked up.
//! 2. [`authorize`] makes the URL that a browser is sent to. What must come back is
//!    sealed in the flow: a state of 256 bits, a nonce, the verifier of PKCE.
//! 3. [`exchange`] makes claims of the code that came back, by the provider's token and
//!    userinfo endpoints; ID tokens are verified by [`jws`] and [`claims`].
//! 4. [`mapping`] makes traits of the claims, by a program of the operator's.
//!
//! What becomes of somebody who is known by then is the flows' business
//! ([`flow::social`](crate::flow::social)).
//!
//! An account at a provider is its provider's id, issuer and subject together. So a
//! provider whose issuer is changed leads to nobody's account but new ones: no issuer
//! speaks for another's subjects.

pub mod authorize;
pub mod claims;
pub mod exchange;
pub mod jws;
pub mod mapping;
pub mod metadata;
pub mod organization;
pub mod preset;
pub mod provider;
#[cfg(test)]
mod tests;

use thiserror::Error;

pub use metadata::Cache;
pub use provider::{ClaimsSource, ClientSecret, Pkce, Provider, Providers, SignsAssertions};

use crate::{jsonnet, outbound::Unanswered};

/// Why a provider's word was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// It could not be asked.
    #[error("the provider could not be asked: {0}")]
    Unanswered(#[from] Unanswered),
    /// It answered with an error.
    #[error("the provider's {endpoint} answered {status}")]
    Refused {
        /// Which endpoint.
        endpoint: &'static str,
        /// The status.
        status: u16,
    },
    /// What it says of itself is not what was configured, or is malformed.
    #[error("the provider's metadata: {0}")]
    Metadata(&'static str),
    /// What it answered is malformed.
    #[error("the provider's answer: {0}")]
    Malformed(&'static str),
    /// Its ID token is not to be trusted.
    #[error("the ID token: {0}")]
    Token(&'static str),
    /// The mapping of its claims failed.
    #[error("the claims could not be mapped: {0}")]
    Mapping(#[from] jsonnet::Failed),
    /// The mapping gave something else than is understood.
    #[error("the mapping gave {0}")]
    Mapped(&'static str),
}
