//! Proposals: what is asked, and what can become of it.

use bytes::Bytes;
use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};

use crate::{ids::NodeId, machine::Position, types::TypeConfig};

/// A proposal that was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Where it stands in the log.
    pub position: Position,
    /// What the machine answered.
    pub answer: Bytes,
}

/// Why a proposal has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not accepted: this replica does not lead.
    #[error("this node does not lead the group")]
    NotLeader {
        /// The node of the leader, if known.
        leader: Option<NodeId>,
    },
    /// Not accepted: too much is under way.
    #[error("the group is overloaded")]
    Overloaded,
    /// Nobody knows yet whether it was or will be applied.
    #[error("the outcome is unknown")]
    Unknown,
    /// Not accepted: no replica of the group runs here.
    #[error("no replica of the group runs on this node")]
    NoGroup,
    /// Not accepted: the replica or the host has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// The node that a refusal names.
pub(crate) fn leader_named(forward: &ForwardToLeader<TypeConfig>) -> Option<NodeId> {
    forward.leader_node.map(|member| member.node)
}

impl From<ClientWriteError<TypeConfig>> for ProposeError {
    fn from(error: ClientWriteError<TypeConfig>) -> Self {
        match error {
            ClientWriteError::ForwardToLeader(forward) => {
                Self::NotLeader { leader: leader_named(&forward) }
            }
            // It was in the log of a leader that lost its office.
            _ => Self::Unknown,
        }
    }
}

impl From<RaftError<TypeConfig, ClientWriteError<TypeConfig>>> for ProposeError {
    fn from(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Self {
        match error {
            RaftError::APIError(error) => error.into(),
            // The replica stopped with the proposal somewhere inside it.
            RaftError::Fatal(_) => Self::Unknown,
        }
    }
}
