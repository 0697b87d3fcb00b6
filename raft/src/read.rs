//! Linearizable reads without leases.
//!
//! A reader asks the leader for a *read index*: the leader remembers its
//! commit index, confirms with a quorum that it still leads, and answers. Who
//! has applied that index reads locally, and misses nothing that was
//! acknowledged before the question was asked.

use async_trait::async_trait;

use crate::ids::{GroupId, NodeId};

/// What the leader answers to a read-index call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadIndexAnswer {
    /// Apply up to here before reading.
    pub index: u64,
    /// The term in which the answer was confirmed.
    pub term: u64,
    /// The leader's `now` in milliseconds, by [`Machine::leader_now`](crate::Machine::leader_now).
    pub leaders_now: u64,
}

/// Why a read cannot be linearizable now. Retriable, all of them but `NoGroup`
/// and `Stopped`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The asked node does not lead; `leader` does, as far as it knows.
    #[error("this node does not lead the group")]
    NotLeader {
        /// The node of the leader, if known.
        leader: Option<NodeId>,
    },
    /// No quorum confirmed the leader, or no answer came in time.
    #[error("the read index was not confirmed: {0}")]
    Unconfirmed(String),
    /// The index was confirmed but the local machine did not reach it in time.
    #[error("the replica did not catch up in time")]
    Lagging,
    /// This node has no replica of the group.
    #[error("no replica of the group runs on this node")]
    NoGroup,
    /// The replica or the host has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

/// Asks another node for a read index. Implemented by transports.
#[async_trait]
pub trait ReadIndexClient: Send + Sync + 'static {
    /// Calls [`Groups::serve_read_index`](crate::Groups::serve_read_index) on
    /// `node`. A failure of the call is [`ReadError::Unconfirmed`].
    async fn read_index(&self, node: NodeId, group: GroupId) -> Result<ReadIndexAnswer, ReadError>;
}
