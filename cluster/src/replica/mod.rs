//! A replica's state: the storage machine over a tablet directory, as Raft
//! drives it.
//!
//! The tablet has no WAL. What no flush made durable is replayed from the log,
//! so the retention horizon, up to which compactions drop what expired, moves
//! only when a flush has completed, and to the log time from before it.
//!
//! A snapshot is a checkpoint. Beside the tablet a small file, `SNAPSHOT`, says
//! which one is current and where it stands; it is written after the checkpoint
//! is whole, and older ones are removed after it.

pub mod flusher;
mod snapshot;

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::{Applied, Entry, GroupId, Payload, Position, ReplicaId, Snapshot};
use cardea_storage::{
    Clock, Fault, Feature, Revision, Timestamp,
    engine::{Disk, Retention, Usage},
    machine::{self, Answered, LogEntry, Machine, area, state},
    planted::{self, Bug},
    tablet::TabletDirectory,
    txn::pack,
};
use parking_lot::Mutex;

use self::snapshot::Snapshots;
use crate::{
    clocks::{ClockComparison, LeaderClock},
    directory::Directory,
    shards::claims::Claims,
};

/// Digests are compared at multiples of this index.
pub const DIGEST_EVERY: u64 = 1_024;
/// Digests remembered.
const MARKS_MAX: usize = 16;

/// What a replica is made of.
pub struct ReplicaParts {
    /// The group.
    pub group: GroupId,
    /// The replica.
    pub replica: ReplicaId,
    /// Where the tablet is.
    pub disk: Arc<dyn Disk>,
    /// The directory of the tablet.
    pub at: PathBuf,
    /// Bytes that must stay free on the disk for a snapshot that can wait.
    pub reserve_bytes: u64,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Whether this node's time may be stamped with.
    pub comparison: Arc<ClockComparison>,
    /// What the cluster's nodes know.
    pub directory: Arc<Directory>,
}

/// The state of a replica.
pub struct Replica {
    group: GroupId,
    id: ReplicaId,
    is_new: bool,
    machine: Machine,
    tablet: Arc<TabletDirectory>,
    retention: Arc<Retention>,
    snapshots: Snapshots,
    pub(crate) leader_clock: LeaderClock,
    log_time: AtomicU64,
    owning: AtomicBool,
    marks: Mutex<VecDeque<(u64, Bytes)>>,
    flushed: Mutex<Flushed>,
    pub(crate) confirmed: Mutex<Option<ConfirmedRead>>,
    /// Who goes first, while this replica leads.
    pub(crate) claims: Claims,
    /// The last revision at which no transaction was outstanding.
    settled: Mutex<Option<Revision>>,
    size: Mutex<Option<Size>>,
    /// Digests differ and no majority agrees: nothing more may be written.
    divided: AtomicBool,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
}

/// How far the tablet is durable.
#[derive(Debug, Clone, Copy)]
struct Flushed {
    revision: Revision,
    at: Duration,
}

/// How large a tablet was.
#[derive(Debug, Clone, Copy)]
struct Size {
    revision: Revision,
    at: Duration,
    disk_bytes: u64,
    unflushed_bytes: u64,
}

/// The last confirmed read index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConfirmedRead {
    /// Monotonic time at which it was asked for.
    pub(crate) sent: Duration,
}

/// What a tablet has that no flush made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unflushed {
    /// Entries, and commands of packs.
    pub entries: u64,
    /// Bytes in memory.
    pub bytes: u64,
    /// How long ago the last flush was.
    pub since: Duration,
}

impl Replica {
    /// Opens the tablet, creating it if there is none. Blocks.
    ///
    /// # Errors
    /// A fault if the disk fails or holds what it should not.
    pub fn open(parts: ReplicaParts) -> Result<Arc<Self>, Fault> {
        let ReplicaParts { group, replica, disk, at, reserve_bytes, clock, comparison, directory } =
            parts;
        let retention = Retention::new(area::expiry);
        let tablet = TabletDirectory::open(disk.clone(), &at, Some(retention.clone()))?;
        let is_new = tablet.live().is_none();
        let machine = Machine::open(tablet.open_live()?)?;
        let tablet = Arc::new(tablet);
        let snapshots = Snapshots::open(disk, tablet.clone(), at, reserve_bytes)?;
        let state = machine.state();
        // What was read from the disk is durable.
        retention.advance(state.now);
        let flushed = Flushed { revision: state.revision(), at: clock.monotonic() };
        let this = Self {
            group,
            id: replica,
            is_new,
            leader_clock: LeaderClock::new(clock.clone(), comparison),
            log_time: AtomicU64::new(state.now),
            owning: AtomicBool::new(!state.ranges.is_empty()),
            marks: Mutex::default(),
            flushed: Mutex::new(flushed),
            confirmed: Mutex::default(),
            claims: Claims::default(),
            settled: Mutex::default(),
            size: Mutex::default(),
            divided: AtomicBool::new(false),
            directory,
            machine,
            tablet,
            retention,
            snapshots,
            clock,
        };
        Ok(Arc::new(this))
    }

    /// Whether there is a tablet below `at`.
    ///
    /// # Errors
    /// A fault if the disk fails.
    pub fn exists(disk: &dyn Disk, at: &Path) -> Result<bool, Fault> {
        Ok(disk.read_file(&at.join("CURRENT"))?.is_some())
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The replica's id.
    pub fn id(&self) -> ReplicaId {
        self.id
    }

    /// The storage machine, for views and the feed.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The files of the tablet, for backups.
    pub fn tablet(&self) -> &Arc<TabletDirectory> {
        &self.tablet
    }

    /// Log time as of the last applied entry.
    pub fn log_time(&self) -> Timestamp {
        Timestamp(self.log_time.load(Ordering::Acquire))
    }

    /// Whether the group was given slots: its first entries were applied here.
    pub fn owns_slots(&self) -> bool {
        self.owning.load(Ordering::Acquire)
    }

    /// Whether everything up to a revision was applied here; if not, the index at
    /// which to look again. That of the revision itself nobody knows: an entry may have
    /// several.
    pub fn index_before(&self, revision: Revision) -> Option<u64> {
        let state = self.machine.state();
        let next = state.position.map_or(0, |position| position.index + 1);
        (state.revision() < revision).then_some(next)
    }

    /// The digests at the last fixed indexes, oldest first.
    pub fn marks(&self) -> Vec<(u64, Bytes)> {
        self.marks.lock().iter().cloned().collect()
    }

    /// Whether writes are refused because digests differ without a majority.
    pub fn is_divided(&self) -> bool {
        self.divided.load(Ordering::Acquire)
    }

    pub(crate) fn set_divided(&self, divided: bool) {
        self.divided.store(divided, Ordering::Release);
    }

    /// What no flush made durable yet.
    pub fn unflushed(&self) -> Unflushed {
        let revision = self.machine.state().revision();
        let flushed = *self.flushed.lock();
        let entries = revision.0.saturating_sub(flushed.revision.0);
        Unflushed {
            entries,
            bytes: if entries == 0 { 0 } else { self.size().unflushed_bytes },
            since: self.clock.monotonic().saturating_sub(flushed.at),
        }
    }

    /// Makes everything applied so far durable, and lets compactions drop what had
    /// expired by then. Blocks.
    ///
    /// # Errors
    /// A fault if the engine fails.
    pub fn flush(&self) -> Result<(), Fault> {
        let engine = self.machine.engine();
        let state = self.machine.state();
        engine.flush()?;
        // Was a snapshot installed meanwhile, then the state may be of its engine, and nobody
        // flushed that.
        if Arc::ptr_eq(&engine, &self.machine.engine()) {
            self.flushed_at(&state);
        }
        Ok(())
    }

    /// Bytes of the tablet's files.
    pub fn disk_bytes(&self) -> u64 {
        self.machine.engine().usage().disk_bytes
    }

    /// Bytes of its rows: in files, or in memory and the log alone yet.
    pub fn row_bytes(&self) -> u64 {
        let size = self.size();
        size.disk_bytes + size.unflushed_bytes
    }

    /// Of a tablet that nobody writes to the engine is asked now and then: a compaction may
    /// change it.
    fn size(&self) -> Size {
        const ASKED_EVERY: Duration = Duration::from_secs(30);
        let (revision, at) = (self.machine.state().revision(), self.clock.monotonic());
        let mut known = self.size.lock();
        if let Some(size) = *known
            && size.revision == revision
            && at.saturating_sub(size.at) < ASKED_EVERY
        {
            return size;
        }
        let Usage { disk_bytes, unflushed_bytes, .. } = self.machine.engine().usage();
        let size = Size { revision, at, disk_bytes, unflushed_bytes };
        *known = Some(size);
        size
    }

    /// Whether nothing was applied since no transaction was outstanding.
    pub(crate) fn is_settled(&self) -> bool {
        *self.settled.lock() == Some(self.machine.state().revision())
    }

    /// Notes that no transaction was outstanding in this state.
    pub(crate) fn note_settled(&self, state: &state::State) {
        *self.settled.lock() = Some(state.revision());
    }

    fn flushed_at(&self, state: &state::State) {
        self.retention.advance(state.now);
        let mut flushed = self.flushed.lock();
        flushed.revision = flushed.revision.max(state.revision());
        flushed.at = self.clock.monotonic();
    }

    fn published(&self, state: &state::State) {
        if planted::is(Bug::FilterAheadOfFlush) {
            self.retention.advance(state.now);
        }
        self.log_time.store(state.now, Ordering::Release);
        self.owning.store(!state.ranges.is_empty(), Ordering::Release);
    }

    /// Applies entries up to a fixed index, and notes the digest there.
    fn apply_run(&self, run: &[LogEntry], answers: &mut Vec<Bytes>) -> Result<(), Fault> {
        answers.extend(self.machine.apply(run)?.into_iter().map(|answered| match answered {
            Answered::Nothing => Bytes::new(),
            Answered::One(outcome) => outcome.encode(),
            Answered::Pack(outcomes) => pack::answers(&outcomes),
        }));
        let last = run.last().map(|entry| entry.position.index);
        if let Some(index) = last.filter(|index| is_mark(*index)) {
            let mut marks = self.marks.lock();
            marks.push_back((index, self.machine.state().digest));
            if marks.len() > MARKS_MAX {
                marks.pop_front();
            }
        }
        Ok(())
    }
}

impl cardea_raft::Machine for Replica {
    fn is_new(&self) -> bool {
        self.is_new
    }

    fn applied(&self) -> Result<Applied, Fault> {
        let state = self.machine.state();
        Ok(Applied { position: state.position.map(raft_position), membership: state.membership })
    }

    fn shown(&self) -> Option<u64> {
        // Of an engine that fails everybody hears soon.
        let position = self.machine.look(|view| Ok::<_, Fault>(view.state().position));
        position.ok().flatten().map(|position| position.index)
    }

    fn apply(&self, entries: Vec<Entry>) -> Result<Vec<Bytes>, Fault> {
        planted::set_wall_ms(self.clock.now().0);
        let entries: Vec<LogEntry> = entries.into_iter().map(log_entry).collect();
        let mut answers = Vec::with_capacity(entries.len());
        for run in entries.split_inclusive(|entry| is_mark(entry.position.index)) {
            self.apply_run(run, &mut answers)?;
        }
        self.published(&self.machine.state());
        Ok(answers)
    }

    fn pack(&self, commands: &[Bytes]) -> Option<Bytes> {
        let known = self.directory.view().version() >= Feature::Packs.since();
        known.then(|| pack::pack(commands))
    }

    fn unpack(&self, answer: Bytes) -> Vec<Bytes> {
        pack::split(&answer)
    }

    fn flush_ahead(&self) -> Result<(), Fault> {
        self.flush()
    }

    fn begin_snapshot(&self, required: bool) -> Result<Option<Snapshot>, Fault> {
        let state = self.machine.state();
        let (Some(position), Some(membership)) = (state.position, state.membership.clone()) else {
            return Ok(None);
        };
        let taken = self.snapshots.take(raft_position(position), membership, required)?;
        if taken.is_some() {
            // A checkpoint flushes first.
            self.flushed_at(&state);
        }
        Ok(taken)
    }

    fn current_snapshot(&self) -> Result<Option<Snapshot>, Fault> {
        Ok(self.snapshots.current())
    }

    fn discard_snapshot(&self) -> Result<(), Fault> {
        self.snapshots.discard()
    }

    fn begin_receive(&self) -> Result<PathBuf, Fault> {
        self.tablet.begin_receive()
    }

    fn install(
        &self,
        received: PathBuf,
        position: Position,
        membership: Bytes,
    ) -> Result<(), Fault> {
        let engine = self.tablet.install(&received)?;
        self.machine.replace(engine)?;
        let state = self.machine.state();
        if state.position.map(raft_position) != Some(position) {
            return Err(Fault::new(format!(
                "{}: the snapshot holds {:?}, not {position:?}",
                self.group, state.position
            )));
        }
        self.published(&state);
        self.marks.lock().clear();
        self.flushed_at(&state);
        self.snapshots.take(position, membership, true)?;
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.row_bytes()
    }

    fn room_bytes(&self) -> Result<u64, Fault> {
        self.snapshots.room_bytes()
    }

    fn leader_now(&self) -> u64 {
        self.leader_clock.now().max(self.log_time()).0
    }
}

fn is_mark(index: u64) -> bool {
    index != 0 && index.is_multiple_of(DIGEST_EVERY)
}

fn raft_position(position: state::Position) -> Position {
    let state::Position { term, replica, index } = position;
    Position { term, replica: ReplicaId(replica), index }
}

fn log_entry(entry: Entry) -> LogEntry {
    let Position { term, replica, index } = entry.position;
    LogEntry {
        position: state::Position { term, replica: replica.0, index },
        payload: match entry.payload {
            Payload::Blank => machine::Payload::Blank,
            Payload::Membership(membership) => machine::Payload::Membership(membership),
            Payload::Command(command) => machine::Payload::Command(command),
        },
    }
}

#[cfg(test)]
mod tests;
