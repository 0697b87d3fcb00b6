//! Linearizable reads without leases.
//!
//! A reader needs a *read index*: a position behind everything that was acknowledged,
//! or shown to a reader, before it asked, by whoever led then. It asks the leader for
//! how far it has applied, or told others that they may apply, and a quorum of voters,
//! the leader and itself included, whether they know nobody above that leader. If they
//! do not, no newer leader had been elected when the reader came, for that takes a vote
//! of one of them, and the leader acknowledges nothing that it has not applied. Who has
//! applied the index reads locally, and misses nothing.
//!
//! Of three voters a follower asks the leader alone: they two are a quorum. The
//! answers come from the votes as they are kept, not from openraft, so a round
//! costs a message and wakes nobody but its asker.
//!
//! What this rests on:
//! - a vote is noted before it is answered ([`save_vote`] notes it at once);
//! - an entry is applied before its proposer hears of it;
//! - what a follower has applied and its leader has not, because its own disk is the
//!   slower one, the leader has told that follower to be committed; that is noted before
//!   it is sent, so no reader goes back behind what another has seen;
//! - a leader that has applied nothing of its own term gives the end of its log,
//!   which has everything that was committed before it;
//! - the quorum is one of the leader's membership: a follower that knows another
//!   asks again later.
//!
//! [`save_vote`]: openraft::storage::RaftLogStorage::save_vote

use async_trait::async_trait;

use crate::{
    ids::{GroupId, NodeId, ReplicaId},
    machine::Position,
    pulse::Pulse,
};

/// Asks a replica about a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// The group.
    pub group: GroupId,
    /// The replica that is asked.
    pub replica: ReplicaId,
    /// The term of the leader.
    pub term: u64,
    /// The leader.
    pub leader: ReplicaId,
}

/// What a replica says about a leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Testimony {
    /// It knows nobody above the leader.
    Follows,
    /// It is the leader.
    Leads(Leads),
    /// It knows somebody above the leader, or does not lead.
    Differs,
}

/// What a leader says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leads {
    /// Behind everything that it, or those before it, acknowledged.
    pub index: u64,
    /// Its `now` in milliseconds, by [`Machine::leader_now`](crate::Machine::leader_now).
    pub leaders_now: u64,
    /// The entry that says who votes.
    pub membership: Option<Position>,
}

/// A confirmed read index.
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

/// Puts questions to other nodes, and tells them of leaders at rest. Implemented by
/// transports.
#[async_trait]
pub trait Witnesses: Send + Sync + 'static {
    /// Calls [`Groups::testify`](crate::Groups::testify) on `node`. A failure of the
    /// call is [`ReadError::Unconfirmed`].
    async fn ask(&self, node: NodeId, question: Question) -> Result<Testimony, ReadError>;

    /// Calls `node`, and says whether its machine answers that nobody listens there.
    async fn refuses(&self, node: NodeId) -> bool;

    /// Sends pulses to `node`, which are lost or arrive, and has what comes back stand for
    /// answers to the heartbeats that these leaders send next.
    fn pulse(&self, node: NodeId, pulses: Vec<Pulse>);
}
