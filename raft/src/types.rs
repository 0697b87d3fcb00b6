//! The types with which openraft is instantiated, and short names for those it
//! derives. Nothing outside this crate names openraft.
//!
//! Leader ids are openraft's `leader_id_adv`: totally ordered by (term,
//! replica), so that two candidates of one term do not block each other. It is
//! the variant its own fuzzer and its main user run.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::{
    clockwork::Clockwork,
    ids::{NodeId, ReplicaId},
    replica::StateMachine,
};

/// What a command entry carries; its meaning belongs to the machine.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Command(pub Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// What the machine answered to a command; empty for other entries.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Answer(pub Bytes);

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}

/// What a membership says about a replica: where it runs. Addresses are not in
/// it; they are resolved through [`Peers`](crate::Peers), so that a node can move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Member {
    /// The node that hosts the replica.
    pub node: NodeId,
}

openraft::declare_raft_types!(
    /// openraft, instantiated for Cardea.
    pub TypeConfig:
        D = Command,
        R = Answer,
        NodeId = ReplicaId,
        Node = Member,
        AsyncRuntime = Clockwork,
);

/// A running replica of a group, as openraft hands it out.
pub type Raft = openraft::Raft<TypeConfig, StateMachine>;
/// The position of an entry: who led, in which term, at which index.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// Who leads, in which term.
pub type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
/// A vote, granted or committed.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A log entry.
pub type LogEntry = openraft::Entry<LeaderId, LogPayload>;
/// What a leader tells a replica that has all of its log.
pub type Beat = openraft::raft::AppendEntriesRequest<TypeConfig>;
/// What a log entry carries.
pub type LogPayload = openraft::EntryPayload<Command, ReplicaId, Member>;
/// Voters and learners.
pub type Membership = openraft::Membership<ReplicaId, Member>;
/// Voters and learners, with the position of the entry that said so.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot holds.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot to be sent or installed.
pub type RaftSnapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// The files of a snapshot, at the sender or at the receiver.
#[derive(Clone)]
pub struct SnapshotData {
    /// All files below it belong to the snapshot, by relative path.
    pub directory: PathBuf,
    /// Keeps the directory while it is being sent; `None` for received files,
    /// which [`Machine::install`](crate::Machine::install) takes over.
    pub guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl SnapshotData {
    /// Files that were received into `directory`, complete and durable.
    pub fn received(directory: PathBuf) -> Self {
        Self { directory, guard: None }
    }
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotData")
            .field("directory", &self.directory)
            .field("held", &self.guard.is_some())
            .finish()
    }
}
