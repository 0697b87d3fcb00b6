//! What a group replicates: the seam between consensus and state.
//!
//! The host drives a [`Machine`] from blocking threads. Calls that change it
//! are serial; [`Machine::leader_now`], [`Machine::shown`], [`Machine::begin_receive`],
//! [`Machine::size_bytes`] and [`Machine::room_bytes`] may come at any time from any thread.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use cardea_storage::Fault;

use crate::ids::ReplicaId;

/// Where an entry stands in the log of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The term in which it was proposed.
    pub term: u64,
    /// The replica that led and proposed it.
    pub replica: ReplicaId,
    /// Its index; the first entry of a log has index 0.
    pub index: u64,
}

/// How far a machine has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The last applied entry; `None` before the first.
    pub position: Option<Position>,
    /// The membership bytes last given to the machine, by an entry or a snapshot.
    pub membership: Option<Bytes>,
}

/// An entry to apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing; the first entry of each leader.
    Blank,
    /// A membership, in this crate's encoding: to be stored and returned as is.
    Membership(Bytes),
    /// What somebody proposed.
    Command(Bytes),
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str("Blank"),
            Self::Membership(bytes) => write!(f, "Membership({} bytes)", bytes.len()),
            Self::Command(bytes) => write!(f, "Command({} bytes)", bytes.len()),
        }
    }
}

/// A complete, immutable copy of a machine on disk.
#[derive(Clone)]
pub struct Snapshot {
    /// The last entry it contains.
    pub position: Position,
    /// The membership as of that entry.
    pub membership: Bytes,
    /// The files to stream: everything below it.
    pub directory: PathBuf,
    /// Removes the directory when the last clone is dropped, unless the
    /// snapshot is still the newest.
    pub guard: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("position", &self.position)
            .field("directory", &self.directory)
            .finish_non_exhaustive()
    }
}

/// What a group replicates, on one node; implemented over a storage tablet.
///
/// Every error is a [`Fault`] and stops the group, and with it the process.
pub trait Machine: Send + Sync + 'static {
    /// Whether this process made the machine: nothing of it was on the disk
    /// when it was opened. A group whose log has a vote or a purge point but
    /// whose machine is new has lost its state, and refuses to start.
    fn is_new(&self) -> bool;

    /// How far the machine has come; read at start.
    fn applied(&self) -> Result<Applied, Fault>;

    /// The index of the last entry whose effects readers may see by now, or an earlier one where
    /// [`apply`](Self::apply) has returned for all later ones; `None` before the first. It is
    /// asked from any thread, at any time, also while entries are being applied.
    fn shown(&self) -> Option<u64>;

    /// Applies entries in order; position and membership go into the same batch
    /// as the effects. One answer per entry, empty for `Blank` and `Membership`.
    fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Bytes>, Fault>;

    /// The command that does what these do, one after another, where the machine and
    /// those on the other nodes know such; else they go one by one. Its answer is
    /// [taken apart](Self::unpack) by whoever proposed it.
    fn pack(&self, _commands: &[Bytes]) -> Option<Bytes> {
        None
    }

    /// The answers to each command of a pack, from the one to the pack.
    fn unpack(&self, answer: Bytes) -> Vec<Bytes> {
        vec![answer]
    }

    /// Makes what was applied durable, beside applies, so that a snapshot that is begun next
    /// has little to wait for.
    fn flush_ahead(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Makes everything applied so far durable, and keeps a consistent copy of
    /// it as the current snapshot in place of the older one. Called between
    /// applies, so it must be quick (a checkpoint). `None` if nothing was
    /// applied yet, or if the copy must wait (no room on the disk) and
    /// `required` is false.
    fn begin_snapshot(&self, required: bool) -> Result<Option<Snapshot>, Fault>;

    /// The newest complete snapshot on disk, if any.
    fn current_snapshot(&self) -> Result<Option<Snapshot>, Fault>;

    /// Forgets the stored snapshot: the machine was found ahead of its log, so
    /// entries between snapshot and log are nowhere any more.
    fn discard_snapshot(&self) -> Result<(), Fault>;

    /// A fresh directory into which the files of a snapshot are received.
    fn begin_receive(&self) -> Result<PathBuf, Fault>;

    /// Swaps, surviving a crash at any moment, to the state in `received`; it
    /// becomes the current snapshot too. Serial with `apply`.
    fn install(
        &self,
        received: PathBuf,
        position: Position,
        membership: Bytes,
    ) -> Result<(), Fault>;

    /// Bytes that a snapshot of the machine would need, roughly; 0 if unknown.
    fn size_bytes(&self) -> u64 {
        0
    }

    /// Bytes that may still come to the disk before it reaches into its reserve, of which
    /// nothing but what must go on may take. Blocks.
    fn room_bytes(&self) -> Result<u64, Fault> {
        Ok(u64::MAX)
    }

    /// The time, in milliseconds since the Unix epoch, that a leader hands out
    /// with a read index; opaque to this crate.
    fn leader_now(&self) -> u64 {
        0
    }
}
