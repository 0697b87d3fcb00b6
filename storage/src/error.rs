//! What a caller of the [`Store`](crate::store::Store) may be told beyond the
//! outcomes of its transaction.

use std::time::Duration;

use thiserror::Error;

use crate::{fault::Fault, tag::Tag};

/// The store could not answer. Nothing here is a refusal by a business rule.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// Nothing was done; the same call may succeed later.
    #[error("the cluster cannot answer now: {reason}")]
    Unavailable {
        /// Why, for an operator.
        reason: String,
    },
    /// Refused early, and nothing was done: too much is under way.
    #[error("the cluster is overloaded, retry after {retry_after:?}")]
    Overloaded {
        /// When it makes sense to come back.
        retry_after: Duration,
    },
    /// The outcome was not seen: it may have been done, now or later. Never to be
    /// reported as a failure.
    #[error("the outcome is unknown")]
    Unknown,
    /// Others changed what was read, more often than a transaction is tried.
    #[error("gave up after {attempts} attempts that met concurrent changes")]
    Contended {
        /// How often the transaction was tried.
        attempts: u32,
    },
    /// The transaction or read is larger than the store takes.
    #[error("{what} is {size}, at most {limit} is allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The bound.
        limit: usize,
    },
    /// The caller asked for what no store can do: a fault of the program above.
    #[error("not a legal request: {0}")]
    Illegal(&'static str),
    /// A snaptoken or cursor that this cluster did not give.
    #[error("the token is not of this cluster or not a token")]
    BadToken,
    /// The subscriber is too far behind; it loads its view again.
    #[error("the feed no longer holds that revision")]
    TooOld,
    /// The index does not have every row yet: an upgrade brought it, and it is being
    /// built. Nothing was done; the same call succeeds once it is whole.
    #[error("the index {index} is not whole yet")]
    IndexNotWhole {
        /// The tag of its rows.
        index: Tag,
    },
    /// The machine failed; this node is stopping.
    #[error("the node failed")]
    Fault(#[from] Fault),
}

impl StoreError {
    /// Unavailable for this reason.
    pub fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable { reason: reason.into() }
    }
}
