//! The types with which openraft is instantiated, and short names for those it
//! derives. Nothing outside this crate names openraft.
//!
//! Leader ids are openraft's `leader_id_adv`: totally ordered by (term,
//! replica), so that two candidates of one term do not block each other. It is
//! the variant its own fuzzer and its main user run.

use std::{
    any::Any,
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use cardea_storage::engine::Disk;
use tokio::runtime::Handle;

use crate::{
    blocking,
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
    /// Keeps the directory while it is being sent. Of received files it removes the directory
    /// when it is dropped, unless [`Machine::install`](crate::Machine::install) took them over.
    pub guard: Option<Arc<dyn Any + Send + Sync>>,
}

impl SnapshotData {
    /// Files that were received into `directory`, complete and durable. openraft does not
    /// install everything that it is given: what it drops is removed.
    pub fn received(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        let taken_over = AtomicBool::new(false);
        let received = Received { disk, directory: directory.clone(), taken_over };
        Self { directory, guard: Some(Arc::new(received)) }
    }

    /// The directory, which is the caller's from now on if it was received.
    pub(crate) fn take_over(self) -> PathBuf {
        let guard = self.guard.as_deref();
        if let Some(received) = guard.and_then(|guard| guard.downcast_ref::<Received>()) {
            received.taken_over.store(true, Ordering::Release);
        }
        self.directory
    }
}

/// Received files, which belong to nobody until a machine takes them over.
struct Received {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    taken_over: AtomicBool,
}

impl Drop for Received {
    fn drop(&mut self) {
        if self.taken_over.load(Ordering::Acquire) {
            return;
        }
        let (disk, directory) = (self.disk.clone(), std::mem::take(&mut self.directory));
        let remove = move || {
            if let Err(fault) = disk.remove(&directory) {
                // The next opening of the machine cleans it away.
                tracing::warn!(?fault, "cannot remove a snapshot that was not installed");
            }
        };
        // openraft drops it where nothing may block.
        match Handle::try_current() {
            Ok(runtime) => drop(blocking::spawn_on(&runtime, remove)),
            Err(_) => remove(),
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cardea_storage::engine::memory::MemoryDisk;

    use super::*;

    #[test]
    fn what_was_received_is_removed_unless_it_is_taken_over() {
        let disk = MemoryDisk::new(1);
        let receive = |name: &str| {
            let at = Path::new("/received").join(name);
            disk.create_directory(&at).unwrap();
            disk.write_stream(&at.join("rows.sst")).unwrap().finish().unwrap();
            SnapshotData::received(Arc::new(disk.clone()), at)
        };
        let (superseded, installed) = (receive("superseded"), receive("installed"));
        let names = || disk.list(Path::new("/received")).unwrap();
        let clone = superseded.clone();
        drop(superseded);
        assert_eq!(names(), ["installed", "superseded"]);
        drop(clone);
        assert_eq!(names(), ["installed"]);
        let other = installed.clone();
        assert_eq!(installed.take_over(), Path::new("/received/installed"));
        drop(other);
        assert_eq!(names(), ["installed"]);
    }
}
