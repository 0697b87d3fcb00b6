//! Why something is not answered, or not done.

use cardea_storage::{Fault, StoreError};
use thiserror::Error;

use crate::{
    engine::Unanswered,
    model::{SubjectSet, TupleRefused},
    opl::SourceError,
    page::BadPageToken,
};

/// Why a question about permissions is not answered.
#[derive(Debug, Clone, Error)]
pub enum ReadRejection {
    /// There is no such namespace.
    #[error("Unknown namespace with name {0:?}.")]
    UnknownNamespace(String),
    /// The namespace declares relations, and not this one.
    #[error("The namespace {namespace:?} has no relation or permission {relation:?}.")]
    UnknownRelation {
        /// The namespace.
        namespace: String,
        /// What was asked for.
        relation: String,
    },
    /// A limit was met, or the language contradicts itself: neither yes nor no.
    #[error("The check could not be completed: {0}")]
    Unanswered(#[from] Unanswered),
    /// Everybody who is not excluded has the permission, and nobody lists those.
    #[error("{0} admits everybody whom it does not exclude, and those cannot be listed.")]
    Everybody(SubjectSet),
    /// More is found than is given in one answer.
    #[error("More than {limit} {what} were found.")]
    TooMany {
        /// What was found.
        what: &'static str,
        /// How much is given.
        limit: usize,
    },
    /// A part of what was asked is no tuple.
    #[error(transparent)]
    Refused(#[from] TupleRefused),
    /// The page token is not of this list.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for ReadRejection {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

/// Why tuples are not changed.
#[derive(Debug, Clone, Error)]
pub enum WriteRejection {
    /// What was given is no tuple.
    #[error(transparent)]
    Refused(#[from] TupleRefused),
    /// More than one transaction holds.
    #[error("{given} changes were given, at most {limit} are made together.")]
    TooMany {
        /// How many were given.
        given: usize,
        /// How many are taken.
        limit: usize,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a language is not put in force.
#[derive(Debug, Clone, Error)]
pub enum LanguageRejection {
    /// It makes no sense.
    #[error("The permission language has {} errors.", .0.len())]
    Malformed(Vec<SourceError>),
    /// Tuples name what it no longer declares.
    #[error("Relation tuples name what the new language does not declare: {}", .0.join(", "))]
    Strands(Vec<String>),
    /// Somebody else changed it since the version that the caller had seen.
    #[error("The permission language is at version {version}.")]
    Outdated {
        /// The version in force.
        version: u64,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Fault> for LanguageRejection {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}
