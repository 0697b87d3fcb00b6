//! The newest entries of a group, in memory: those that the writer has not
//! written yet, always, and older ones as far as a bound of bytes allows, so
//! that replication and apply seldom read the engine.

use std::{collections::VecDeque, ops::Range};

use crate::{encoding::entry_len, types::LogEntry};

/// Consecutive entries up to the last of the log.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<LogEntry>,
    bytes: usize,
    bytes_max: usize,
    /// Entries before this index are in the engine.
    written: u64,
}

impl Tail {
    /// An empty tail behind `next`, all before which is in the engine.
    pub(super) fn new(next: u64, bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max, written: next }
    }

    /// The bound of bytes.
    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The first index held, if any is.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    /// Adds the entry behind the last.
    pub(super) fn push(&mut self, entry: LogEntry) {
        self.bytes += entry_len(&entry);
        self.entries.push_back(entry);
        self.evict();
    }

    /// Notes that everything before `next` is in the engine.
    pub(super) fn wrote(&mut self, next: u64) {
        self.written = self.written.max(next);
        self.evict();
    }

    /// Drops entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        while self.entries.back().is_some_and(|entry| entry.log_id.index >= next) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= entry_len(&entry);
            }
        }
        self.written = self.written.min(next);
    }

    /// Drops entries before `next`.
    pub(super) fn purge(&mut self, next: u64) {
        while self.first().is_some_and(|first| first < next) {
            self.pop();
        }
        self.written = self.written.max(next);
    }

    /// The held entries of `range`, from its first held one, up to `bytes_max`
    /// but at least one.
    pub(super) fn read(&self, range: Range<u64>, bytes_max: usize) -> Vec<LogEntry> {
        let Some(first) = self.first() else { return Vec::new() };
        let skipped = usize::try_from(range.start.saturating_sub(first)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(skipped)
            .take_while(|entry| {
                let within = entry.log_id.index < range.end && bytes < bytes_max;
                bytes += entry_len(entry);
                within
            })
            .cloned()
            .collect()
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max && self.first().is_some_and(|first| first < self.written)
        {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes -= entry_len(&entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, vote::RaftLeaderId};

    use super::*;
    use crate::{
        ids::ReplicaId,
        types::{Command, LeaderId, LogId},
    };

    fn entry(index: u64) -> LogEntry {
        LogEntry {
            log_id: LogId::new(LeaderId::new(1, ReplicaId(1)), index),
            payload: EntryPayload::Normal(Command(vec![0; 100].into())),
        }
    }

    fn held(tail: &Tail) -> Vec<u64> {
        tail.read(0..u64::MAX, usize::MAX).iter().map(|entry| entry.log_id.index).collect()
    }

    #[test]
    fn what_is_not_written_is_never_evicted() {
        let mut tail = Tail::new(0, 1);
        (0..4).for_each(|index| tail.push(entry(index)));
        assert_eq!(held(&tail), [0, 1, 2, 3]);
        tail.wrote(2);
        assert_eq!(held(&tail), [2, 3]);
        tail.wrote(4);
        assert!(held(&tail).is_empty());
        assert_eq!(tail.bytes, 0);
    }

    #[test]
    fn an_overwritten_entry_counts_as_unwritten() {
        let mut tail = Tail::new(0, 1);
        (0..4).for_each(|index| tail.push(entry(index)));
        tail.wrote(4);
        tail.truncate(2);
        tail.push(entry(2));
        assert_eq!(held(&tail), [2]);
        tail.wrote(3);
        assert!(held(&tail).is_empty());
    }

    #[test]
    fn reading_stops_at_the_bound_but_gives_at_least_one() {
        let mut tail = Tail::new(0, usize::MAX);
        (0..8).for_each(|index| tail.push(entry(index)));
        let indexes = |entries: Vec<LogEntry>| {
            entries.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>()
        };
        assert_eq!(indexes(tail.read(3..6, 1)), [3]);
        assert_eq!(indexes(tail.read(3..6, 140)), [3, 4]);
        assert_eq!(indexes(tail.read(6..100, usize::MAX)), [6, 7]);
        tail.purge(5);
        assert_eq!(indexes(tail.read(0..7, usize::MAX)), [5, 6]);
    }
}
