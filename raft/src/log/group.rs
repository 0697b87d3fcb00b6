//! The log of one group: what is in memory, and what it asks of the writer.
//!
//! Everything is readable when the call that changes it returns; durable when
//! the writer says so. Entries that the writer has not written are only in the
//! tail. A truncation starts a new *epoch*, so that the completion of an append
//! from before cannot claim that its successor is written.

use std::{
    ops::{Bound, ControlFlow, Range},
    sync::Arc,
};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Batch, Engine, Order},
    planted::{self, Bug},
};
use openraft::{EntryPayload, storage::IOFlushed};
use parking_lot::Mutex;
use prost::Message;

use super::{
    holds::Holds,
    key,
    tail::Tail,
    writer::{Urgency, Writer},
};
use crate::{
    encoding::{self, EntryRecord, LogIdRecord, VoteRecord, entry_len},
    ids::{GroupId, ReplicaId},
    types::{LogEntry, LogId, StoredMembership, TypeConfig, Vote},
};

/// Truncations of at most this many entries delete one by one; range deletions
/// make later reads slower.
const SINGLE_DELETES_MAX: u64 = 64;

/// The log of one group.
pub(super) struct GroupLog {
    group: GroupId,
    replica: ReplicaId,
    engine: Arc<dyn Engine>,
    writer: Arc<Writer>,
    holds: Arc<Holds>,
    state: Mutex<State>,
}

struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    /// The highest index that anybody was told is committed.
    told: Option<u64>,
    purged: Option<LogId>,
    last: Option<LogId>,
    /// The newest membership that was appended since the log was opened.
    membership: Option<StoredMembership>,
    /// No entry before this index exists.
    first_index: u64,
    tail: Tail,
    epoch: u64,
    /// Its replica has stopped here: its rows may go, and be another's.
    closed: bool,
}

impl State {
    fn next_index(&self) -> u64 {
        self.last.map_or(self.first_index, |last| last.index + 1)
    }
}

/// What a group's log says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogExtent {
    /// The last vote.
    pub(crate) vote: Option<Vote>,
    /// The last purged position.
    pub(crate) purged: Option<LogId>,
    /// The last position, or the last purged one.
    pub(crate) last: Option<LogId>,
}

impl GroupLog {
    /// Reads the state of a group's log. Blocks.
    pub(super) fn load(
        group: GroupId,
        replica: ReplicaId,
        engine: Arc<dyn Engine>,
        writer: Arc<Writer>,
        tail_bytes_max: usize,
    ) -> Result<Self, Fault> {
        let vote = record::<VoteRecord>(engine.as_ref(), "vote", &key::vote(group))?;
        let purged = record::<LogIdRecord>(engine.as_ref(), "purge point", &key::purged(group))?;
        let committed =
            record::<LogIdRecord>(engine.as_ref(), "commit position", &key::committed(group))?;
        let purged: Option<LogId> = purged.map(LogId::from);
        // Bounded below by the purge point: what lies before are tombstones.
        let start = purged.map_or(0, |purged| purged.index + 1);
        let first = outermost(engine.as_ref(), group, start, Order::Forward)?;
        let last = outermost(engine.as_ref(), group, start, Order::Reverse)?;
        let first_index = first.map_or(start, |first| first.index);
        if purged.is_some() && first_index != start {
            return Err(Fault::new(format!("the log of {group} has a hole at {start}")));
        }
        let next = last.map_or(start, |last| last.index + 1);
        Ok(Self {
            group,
            replica,
            engine,
            writer,
            holds: Arc::default(),
            state: Mutex::new(State {
                vote: vote.map(Vote::from),
                committed: committed.map(LogId::from),
                told: None,
                purged,
                last,
                membership: None,
                first_index,
                tail: Tail::new(next, tail_bytes_max),
                epoch: 0,
                closed: false,
            }),
        })
    }

    /// For whom it keeps what a snapshot holds already.
    pub(super) fn holds(&self) -> &Arc<Holds> {
        &self.holds
    }

    /// The replica whose log this is.
    pub(super) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The replica has stopped. What it queued is still written; whoever still holds
    /// the log reads and writes nothing more.
    pub(super) fn close(&self) {
        if planted::is(Bug::StragglersHeard) {
            return;
        }
        self.state.lock().closed = true;
    }

    /// Whether the replica has stopped.
    pub(super) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    fn refusal(&self) -> Fault {
        Fault::new(format!("the log of replica {} of {} is closed", self.replica, self.group))
    }

    /// Vote, purge point and last position.
    pub(super) fn extent(&self) -> LogExtent {
        let state = self.state.lock();
        LogExtent { vote: state.vote, purged: state.purged, last: state.last.or(state.purged) }
    }

    /// The last vote, as soon as it is asked to be saved.
    pub(super) fn vote(&self) -> Option<Vote> {
        self.state.lock().vote
    }

    /// The newest membership that was appended since the log was opened, and not cut
    /// off again.
    pub(super) fn appended_membership(&self) -> Option<StoredMembership> {
        self.state.lock().membership.clone()
    }

    /// Notes that another replica is being told that all up to `index` is committed.
    pub(super) fn tell_committed(&self, index: u64) {
        let mut state = self.state.lock();
        state.told = state.told.max(Some(index));
    }

    /// How far others were told, while this log was open, that entries are committed.
    pub(super) fn told_committed(&self) -> Option<u64> {
        self.state.lock().told
    }

    /// The last saved commit position, never past the last entry.
    pub(super) fn committed(&self) -> Option<LogId> {
        let state = self.state.lock();
        state.committed.min(state.last.or(state.purged))
    }

    /// Queues a vote; `done` hears when it is durable.
    pub(super) fn save_vote(
        &self,
        vote: Vote,
        done: impl FnOnce(Result<(), Fault>) + Send + 'static,
    ) {
        let mut state = self.state.lock();
        if state.closed {
            drop(state);
            return done(Err(self.refusal()));
        }
        state.vote = Some(vote);
        if planted::is(Bug::VoteLost) {
            return done(Ok(()));
        }
        let mut batch = Batch::new();
        batch.put(key::vote(self.group), encoding::encode(&VoteRecord::from(&vote)));
        // Under the lock, so that queue order is the order of the calls.
        self.writer.submit(batch, Urgency::Synced(Box::new(done)));
    }

    /// Notes a commit position; it is written some time soon.
    pub(super) fn save_committed(&self, committed: Option<LogId>) {
        let mut state = self.state.lock();
        if state.closed {
            return;
        }
        state.committed = committed;
        if let Some(committed) = &committed {
            let value = encoding::encode(&LogIdRecord::from(committed));
            self.writer.put_newest(key::committed(self.group), value);
        }
    }

    /// Makes entries readable and queues them; `flushed` hears when they are
    /// durable. A gap or an overlap is refused.
    pub(super) fn append(
        self: &Arc<Self>,
        entries: impl IntoIterator<Item = LogEntry>,
        flushed: IOFlushed<TypeConfig>,
    ) -> Result<(), Fault> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(self.refusal());
        }
        let mut batch = Batch::new();
        for entry in entries {
            let index = entry.log_id.index;
            let expected = state.next_index();
            if state.last.is_none() && state.purged.is_none() {
                // A log may start anywhere; a new one does so at 0.
                state.first_index = index;
                state.tail = Tail::new(index, state.tail.bytes_max());
            } else if index != expected {
                return Err(Fault::new(format!(
                    "append of {index} to the log of {}, which needs {expected}",
                    self.group
                )));
            }
            let value = EntryRecord::from(&entry).encode_to_vec();
            batch.put(key::entry(self.group, index), value);
            state.last = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                state.membership =
                    Some(StoredMembership::new(Some(entry.log_id), membership.clone()));
            }
            state.tail.push(entry);
        }
        let (epoch, next) = (state.epoch, state.next_index());
        let log = Arc::downgrade(self);
        let completion = move |result: Result<(), Fault>| {
            if result.is_ok()
                && let Some(log) = log.upgrade()
            {
                let mut state = log.state.lock();
                if state.epoch == epoch {
                    state.tail.wrote(next);
                }
            }
            flushed.io_completed(result.map_err(Into::into));
        };
        self.writer.submit(batch, Urgency::Synced(Box::new(completion)));
        Ok(())
    }

    /// Drops every entry behind `last`, or all.
    pub(super) fn truncate_after(&self, last: Option<LogId>) {
        let mut state = self.state.lock();
        let kept = last.map_or(state.first_index, |last| last.index + 1).max(state.first_index);
        let end = state.next_index();
        if kept >= end || state.closed {
            return;
        }
        state.last = last.filter(|last| last.index >= state.first_index);
        state.tail.truncate(kept);
        let last = state.last;
        if state.membership.as_ref().is_some_and(|membership| *membership.log_id() > last) {
            state.membership = None;
        }
        state.epoch += 1;
        self.writer.submit(self.deletion(kept..end), Urgency::Rides);
    }

    /// Gives everything up, up to what the machine applied last, if another entry stands
    /// there. A machine may have applied, and kept, what the log had not synced yet; where
    /// power was lost then, what a new leader had replaced is there again. Whether it did.
    /// Blocks.
    pub(super) fn yield_to(&self, applied: LogId) -> Result<bool, Fault> {
        let held = self.read(applied.index..applied.index.saturating_add(1), 1)?;
        if held.first().is_none_or(|entry| entry.log_id == applied) {
            return Ok(false);
        }
        self.truncate_after(None);
        self.purge(applied);
        Ok(true)
    }

    /// Drops every entry up to `upto`, and remembers that, in one batch.
    pub(super) fn purge(&self, upto: LogId) {
        let mut state = self.state.lock();
        if state.closed || state.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        let (start, next) = (state.first_index, upto.index + 1);
        state.purged = Some(upto);
        state.first_index = next;
        state.tail.purge(next);
        if state.last.is_some_and(|last| last.index <= upto.index) {
            state.last = None;
            state.epoch += 1;
        }
        let mut batch = Batch::new();
        batch.put(key::purged(self.group), encoding::encode(&LogIdRecord::from(&upto)));
        batch.append(self.deletion(start..next));
        self.writer.submit(batch, Urgency::Rides);
    }

    fn deletion(&self, range: Range<u64>) -> Batch {
        let mut batch = Batch::new();
        if range.end - range.start <= SINGLE_DELETES_MAX {
            range.for_each(|index| batch.delete(key::entry(self.group, index)));
        } else {
            batch.delete_range(
                key::entry(self.group, range.start),
                key::entry(self.group, range.end),
            );
        }
        batch
    }

    /// The entries of `range` that are all in memory, or `None` if the engine
    /// must be asked; up to `bytes_max`, at least one if any is there.
    pub(super) fn read_tail(&self, range: Range<u64>, bytes_max: usize) -> Option<Vec<LogEntry>> {
        let state = self.state.lock();
        if state.closed {
            return None;
        }
        let start = range.start.max(state.first_index);
        if start >= state.next_index().min(range.end) {
            return Some(Vec::new());
        }
        state
            .tail
            .first()
            .is_some_and(|first| first <= start)
            .then(|| state.tail.read(start..range.end, bytes_max))
    }

    /// The entries of `range`, from memory and engine; up to `bytes_max`, at
    /// least one if any is there. Blocks.
    pub(super) fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, Fault> {
        loop {
            let (stored, rest, epoch) = {
                let state = self.state.lock();
                if state.closed {
                    return Err(self.refusal());
                }
                let start = range.start.max(state.first_index);
                let end = range.end.min(state.next_index());
                if start >= end {
                    return Ok(Vec::new());
                }
                // What the tail does not hold is in the engine.
                let held = state.tail.first().unwrap_or(end).clamp(start, end);
                (start..held, state.tail.read(held..end, bytes_max), state.epoch)
            };
            let result = self.read_engine(stored.clone(), bytes_max);
            {
                // A truncation or a purge meanwhile would mix two states.
                let state = self.state.lock();
                // The rows may have gone with their replica.
                if state.closed {
                    return Err(self.refusal());
                }
                if state.epoch != epoch || state.first_index > stored.start {
                    continue;
                }
            }
            let (mut entries, mut bytes) = result?;
            if (entries.len() as u64) < stored.end - stored.start {
                return Ok(entries);
            }
            for entry in rest {
                if !entries.is_empty() && bytes >= bytes_max {
                    break;
                }
                bytes += entry_len(&entry);
                entries.push(entry);
            }
            return Ok(entries);
        }
    }

    /// Reads consecutive entries, up to `bytes_max` but at least one; a hole is
    /// a fault.
    fn read_engine(
        &self,
        range: Range<u64>,
        bytes_max: usize,
    ) -> Result<(Vec<LogEntry>, usize), Fault> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        if range.is_empty() {
            return Ok((entries, bytes));
        }
        let (start, end) = (key::entry(self.group, range.start), key::entry(self.group, range.end));
        let mut fault = None;
        self.engine.view()?.scan(
            Bound::Included(&start),
            Bound::Excluded(&end),
            Order::Forward,
            &mut |_, value| {
                match decode_entry(value) {
                    Err(undecoded) => fault = Some(undecoded),
                    Ok(entry) if entry.log_id.index != range.start + entries.len() as u64 => {}
                    Ok(entry) => {
                        bytes += entry_len(&entry);
                        entries.push(entry);
                        if bytes < bytes_max {
                            return ControlFlow::Continue(());
                        }
                    }
                }
                ControlFlow::Break(())
            },
        )?;
        let complete = entries.len() as u64 == range.end - range.start || bytes >= bytes_max;
        match fault {
            Some(fault) => Err(fault),
            None if !complete => Err(Fault::new(format!(
                "the log of {} has a hole at {}",
                self.group,
                range.start + entries.len() as u64
            ))),
            None => Ok((entries, bytes)),
        }
    }
}

fn decode_entry(value: &[u8]) -> Result<LogEntry, Fault> {
    encoding::decode::<EntryRecord>("log entry", Bytes::copy_from_slice(value))?.try_into()
}

fn record<R: Message + Default>(
    engine: &dyn Engine,
    what: &str,
    key: &[u8],
) -> Result<Option<R>, Fault> {
    engine.get(key)?.map(|bytes| encoding::decode(what, bytes)).transpose()
}

/// The first or the last entry at or behind `start`.
fn outermost(
    engine: &dyn Engine,
    group: GroupId,
    start: u64,
    order: Order,
) -> Result<Option<LogId>, Fault> {
    let (start, end) = (key::entry(group, start), key::end(group));
    let mut found = None;
    engine.view()?.scan(
        Bound::Included(&start),
        Bound::Excluded(&end),
        order,
        &mut |_, value| {
            found = Some(decode_entry(value));
            ControlFlow::Break(())
        },
    )?;
    Ok(found.transpose()?.map(|entry| entry.log_id))
}
