//! openraft's log storage over the log of one group. What is in the tail is
//! read at once; what only the engine has is read where blocking is allowed.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::{Arc, Weak},
};

use cardea_storage::Fault;
use futures::{Stream, stream};
use openraft::{
    OptionalSend,
    storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage},
};

use super::{
    group::{GroupLog, LogExtent},
    holds::Holds,
};
use crate::{
    alarm::Alarm,
    machine::Position,
    types::{LogEntry, LogId, StoredMembership, TypeConfig, Vote},
};

/// Bytes of entries in one append call between nodes, and in one step of apply.
const READ_BYTES_MAX: usize = 1 << 20;

/// The log of one group, as openraft wants it. Clones share the log.
#[derive(Clone)]
pub struct LogStore {
    log: Arc<GroupLog>,
    alarm: Arc<Alarm>,
}

impl LogStore {
    pub(super) fn new(log: Arc<GroupLog>, alarm: Arc<Alarm>) -> Self {
        Self { log, alarm }
    }

    /// Vote, purge point and last position.
    pub(crate) fn extent(&self) -> LogExtent {
        self.log.extent()
    }

    /// Gives up what contradicts the last entry that the machine applied; whether there
    /// was anything. Blocks.
    pub(crate) fn yield_to(&self, applied: Position) -> Result<bool, Fault> {
        self.log.yield_to(applied.into())
    }

    /// What the log says at once, without keeping it open.
    pub(crate) fn glance(&self) -> Glance {
        Glance(Arc::downgrade(&self.log))
    }

    async fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, io::Error> {
        if let Some(entries) = self.log.read_tail(range.clone(), bytes_max) {
            return Ok(entries);
        }
        let log = self.log.clone();
        let read = crate::blocking::spawn(move || log.read(range, bytes_max));
        read.await.map_err(io::Error::other)?.map_err(|fault| self.raised(fault))
    }

    /// Stops the node; but that a replica which was removed finds its rows gone is
    /// no fault of the machine.
    fn raised(&self, fault: Fault) -> io::Error {
        if !self.log.is_closed() {
            self.alarm.raise(fault.clone());
        }
        fault.into()
    }
}

/// What a log says at once, to somebody who may outlive it. The default is of no log.
#[derive(Clone, Default)]
pub struct Glance(Weak<GroupLog>);

impl Glance {
    /// The last vote, as soon as it is asked to be saved; none once the log is closed.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.0.upgrade()?.vote()
    }

    /// Vote, purge point and last position; none once the log is closed.
    pub(crate) fn extent(&self) -> Option<LogExtent> {
        Some(self.0.upgrade()?.extent())
    }

    /// Notes that another replica is being told that all up to `index` is committed.
    pub(crate) fn tell_committed(&self, index: u64) {
        if let Some(log) = self.0.upgrade() {
            log.tell_committed(index);
        }
    }

    /// How far others were told that entries are committed.
    pub(crate) fn told_committed(&self) -> Option<u64> {
        self.0.upgrade()?.told_committed()
    }

    /// For whom the log keeps what a snapshot holds already; none once it is closed.
    pub(crate) fn holds(&self) -> Option<Arc<Holds>> {
        Some(self.0.upgrade()?.holds().clone())
    }

    /// The newest membership that was appended since the log was opened, and not cut
    /// off again.
    pub(crate) fn appended_membership(&self) -> Option<StoredMembership> {
        self.0.upgrade()?.appended_membership()
    }
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<LogEntry>, io::Error> {
        self.read(half_open(&range), usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<LogEntry>, io::Error> {
        let entries = self.read(start..end, READ_BYTES_MAX).await?;
        // A purge was faster. openraft sends what it reads as what follows the entry
        // before `start`, and nothing for nothing.
        let follows = entries.first().is_none_or(|first| first.log_id.index == start);
        Ok(if follows { entries } else { Vec::new() })
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<LogEntry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let steps =
            Steps { store: self.clone(), rest: half_open(&range), read: Vec::new().into_iter() };
        stream::try_unfold(steps, |mut steps| async move {
            Ok(steps.next().await?.map(|entry| (entry, steps)))
        })
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.extent().vote)
    }
}

/// Reads a range step by step, so that a long one is never in memory whole.
struct Steps {
    store: LogStore,
    rest: Range<u64>,
    read: std::vec::IntoIter<LogEntry>,
}

impl Steps {
    async fn next(&mut self) -> Result<Option<LogEntry>, io::Error> {
        if let Some(entry) = self.read.next() {
            return Ok(Some(entry));
        }
        if self.rest.is_empty() {
            return Ok(None);
        }
        let entries = self.store.read(self.rest.clone(), READ_BYTES_MAX).await?;
        match entries.last() {
            Some(last) => self.rest.start = last.log_id.index + 1,
            None => self.rest.start = self.rest.end,
        }
        self.read = entries.into_iter();
        Ok(self.read.next())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let extent = self.log.extent();
        Ok(LogState { last_purged_log_id: extent.purged, last_log_id: extent.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, written) = tokio::sync::oneshot::channel();
        self.log.save_vote(*vote, move |result| drop(done.send(result)));
        match written.await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(self.raised(Fault::new("the log writer dropped a vote"))),
        }
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.save_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.committed())
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = LogEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.log.append(entries, callback).map_err(|fault| self.raised(fault))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log.purge(log_id);
        Ok(())
    }
}
