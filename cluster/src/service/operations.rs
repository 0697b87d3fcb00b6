//! Operators' actions that have to happen on a particular node.

use cardea_raft::NodeId;

/// Why an action was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// What it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things stand.
    #[error("{0}")]
    Conflict(String),
    /// It makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// Not now; nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// Nobody knows whether it was done.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
    /// Another node leads, and it has to happen there.
    #[error("another node leads")]
    NotLeader(Option<NodeId>),
}

impl OperationError {
    /// The number on the wire; 0 for a refusal that is not a decline.
    pub(crate) fn kind(&self) -> u32 {
        match self {
            Self::NotFound(_) => 1,
            Self::Conflict(_) => 2,
            Self::Malformed(_) => 3,
            Self::Unavailable(_) => 4,
            Self::Unknown(_) => 5,
            Self::NotLeader(_) => 0,
        }
    }

    pub(crate) fn of_kind(kind: u32, reason: String) -> Self {
        match kind {
            1 => Self::NotFound(reason),
            2 => Self::Conflict(reason),
            3 => Self::Malformed(reason),
            4 => Self::Unavailable(reason),
            _ => Self::Unknown(reason),
        }
    }
}
