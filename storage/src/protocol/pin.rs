//! Many reads of one shard, all of one instant, without waiting between them: for
//! those who learn from one read what to read next, as who walks a graph does.
//!
//! What is pinned is an engine snapshot of a replica on this node. It knows locks,
//! but asks nobody about them: who meets one gives the pin up and reads through the
//! [`Store`](crate::store::Store), which asks.

use crate::{
    clock::Timestamp,
    fault::Fault,
    key::KeyRange,
    machine::view::TabletView,
    protocol::shards::ShardId,
    row::{Revision, Row},
    store::{Read, Rows, Snaptoken},
    tag::Tag,
};

/// One instant of one shard. Holds an engine snapshot: keep it for a request, not
/// for longer.
pub struct Pinned {
    view: TabletView,
    shard: ShardId,
    incarnation: u64,
    time: Timestamp,
    unlocked: bool,
    lacking: Vec<Tag>,
}

/// What a pinned read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinnedRead {
    /// One for each read, in order.
    Rows(Vec<Rows>),
    /// A transaction that is not settled here holds something of what was asked.
    Locked,
    /// A slot that was asked for does not lie in this shard, or an index is not whole.
    Elsewhere,
}

impl Pinned {
    /// Pins a view; expiry is judged at `now` or the log's time, whichever is later.
    ///
    /// # Errors
    /// A fault if the engine fails.
    pub fn new(view: TabletView, shard: ShardId, now: Timestamp) -> Result<Self, Fault> {
        let time = now.max(view.state().time());
        let unlocked = view.is_unlocked()?;
        Ok(Self { view, shard, incarnation: 0, time, unlocked, lacking: Vec::new() })
    }

    /// Indexes that are not whole: who asks for rows of one is sent to the store, which
    /// refuses.
    pub fn lacking(mut self, lacking: Vec<Tag>) -> Self {
        self.lacking = lacking;
        self
    }

    /// Of a cluster's incarnation.
    pub fn of_incarnation(mut self, incarnation: u64) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// Makes reads. Blocks as long as the engine takes.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn read(&self, reads: &[Read]) -> Result<PinnedRead, Fault> {
        if reads.iter().filter_map(Read::tag).any(|tag| self.lacking.contains(&tag)) {
            return Ok(PinnedRead::Elsewhere);
        }
        let seen = if self.unlocked {
            self.view.read_unlocked(reads, self.time)?
        } else {
            self.view.read(reads, self.time)?
        };
        Ok(match seen {
            None => PinnedRead::Elsewhere,
            Some(seen) if !seen.pending.is_empty() => PinnedRead::Locked,
            Some(seen) => PinnedRead::Rows(seen.results),
        })
    }

    /// The rows of a range where they are few, as
    /// [`View::scan_few`](crate::engine::View::scan_few) has it; `None` too where locks
    /// or the slot want a [`read`](Self::read). Blocks for some microseconds.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn few(&self, range: &KeyRange, most: usize) -> Result<Option<Vec<Row>>, Fault> {
        if !self.unlocked || range.tag().is_some_and(|tag| self.lacking.contains(&tag)) {
            return Ok(None);
        }
        self.view.few_unlocked(range, most, self.time)
    }

    /// Whether no transaction is half done in the whole shard: then no read meets a lock.
    pub fn is_unlocked(&self) -> bool {
        self.unlocked
    }

    /// The revision that is pinned.
    pub fn revision(&self) -> Revision {
        self.view.state().revision()
    }

    /// The time by which expiry is judged.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// The shard.
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// Where it stands.
    pub fn snaptoken(&self) -> Snaptoken {
        let mut token = Snaptoken { incarnation: self.incarnation, ..Snaptoken::default() };
        token.note(self.shard.0, self.revision());
        token
    }
}

impl std::fmt::Debug for Pinned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pinned")
            .field("shard", &self.shard)
            .field("revision", &self.revision())
            .finish_non_exhaustive()
    }
}
