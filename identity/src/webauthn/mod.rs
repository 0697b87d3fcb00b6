//! Public keys that an authenticator holds, by the Web Authentication API (W3C, Level 3),
//! without a store: what a browser is asked for, and whether what it brings is right.
//!
//! Attestation is not asked for: who made an authenticator is nobody's business here, so
//! a statement is not looked at. Signatures are ES256, EdDSA and RS256.
//!
//! Reading order: [`options`] (what is asked), [`client_data`] and
//! [`authenticator_data`] (what the browser and the authenticator say), [`cose`] (keys),
//! [`ceremony`] (the rules of registering and of authenticating).

pub mod authenticator_data;
mod cbor;
pub mod ceremony;
pub mod client_data;
pub mod cose;
pub mod options;
pub mod script;
#[cfg(test)]
pub(crate) mod tests;

use thiserror::Error;

pub use ceremony::{Asserted, Registered, assertion, registration};
pub use options::{KnownKey, creation, request};

/// Whom keys are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelyingParty {
    /// The domain that keys are bound to.
    pub id: String,
    /// What people know it by.
    pub name: String,
    /// The origins of pages that may use them, as browsers write them.
    pub origins: Vec<String>,
}

/// Whether the authenticator must have made sure who uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserVerification {
    /// By a fingerprint, a PIN or the like.
    Required,
    /// It need not.
    Discouraged,
}

/// Bytes that a browser signs once: which answer is to which question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Challenge(pub [u8; 32]);

/// Why what a browser brings is not taken. None of it is told to the outside but that
/// something is wrong; logs may say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is not what the standard says.
    #[error("the answer of the authenticator is malformed: {0}")]
    Malformed(&'static str),
    /// It is of the other ceremony.
    #[error("the answer is of another ceremony")]
    Type,
    /// It answers another question.
    #[error("the answer is to another challenge")]
    Challenge,
    /// A page of another origin asked, or one inside another.
    #[error("the answer is from another origin")]
    Origin,
    /// The key is bound to another domain.
    #[error("the key is for another relying party")]
    RelyingParty,
    /// Nobody was there.
    #[error("nobody was present at the authenticator")]
    UserPresence,
    /// The authenticator did not make sure who uses it.
    #[error("the authenticator did not verify its user")]
    UserVerification,
    /// The algorithm was not asked for.
    #[error("the key is of an algorithm that was not asked for")]
    Algorithm,
    /// The key, or whose it is, is not known.
    #[error("the key is not known")]
    UnknownKey,
    /// It was not signed by the key.
    #[error("the signature is wrong")]
    Signature,
    /// The counter went backwards: there may be two of the authenticator.
    #[error("the counter of the authenticator went backwards")]
    Counter,
    /// What the authenticator says of backups cannot be, or has changed.
    #[error("what the authenticator says of backups is impossible")]
    Backup,
}
