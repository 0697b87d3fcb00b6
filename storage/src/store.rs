//! The `Store` port: what layers hold. They read at a named consistency, commit
//! transactions, and watch changes; where rows live and how they are agreed is
//! not theirs to know.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;

use crate::{
    clock::{Clock, Entropy, Timestamp},
    engine::Order,
    error::StoreError,
    key::{Key, KeyRange},
    protocol::pin::Pinned,
    row::{Revision, Row},
    slot::{Slot, SlotRange},
    tag::Tag,
    txn::{Check, Op},
    version::Feature,
};

/// Most rows that one scan returns.
pub const SCAN_ROWS_MAX: u32 = 10_000;

/// How fresh a read must be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Consistency {
    /// Linearizable: it sees every transaction acknowledged before it began.
    #[default]
    Strong,
    /// It sees at least what the token's giver saw, on the shards the token names.
    AtLeast(Snaptoken),
    /// It sees every transaction acknowledged this long before it began.
    Bounded(Duration),
    /// Whatever the nearest replica has.
    Eventual,
}

/// Where a read or a transaction stood: per shard, a revision. Opaque to clients.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Snaptoken {
    /// The cluster's incarnation: a restored cluster is another.
    #[prost(uint64, tag = "1")]
    pub incarnation: u64,
    /// The shards, each once, by id.
    #[prost(message, repeated, tag = "2")]
    pub positions: Vec<Position>,
}

/// See [`Snaptoken::positions`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Position {
    /// The shard.
    #[prost(uint64, tag = "1")]
    pub shard: u64,
    /// A revision of it.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}

impl Snaptoken {
    /// The revision of a shard, if the token names it.
    pub fn revision(&self, shard: u64) -> Option<Revision> {
        self.positions.iter().find(|p| p.shard == shard).map(|p| Revision(p.revision))
    }

    /// Notes that a shard was seen at `revision` or later.
    pub fn note(&mut self, shard: u64, revision: Revision) {
        match self.positions.iter_mut().find(|p| p.shard == shard) {
            Some(position) => position.revision = position.revision.max(revision.0),
            None => {
                self.positions.push(Position { shard, revision: revision.0 });
                self.positions.sort_by_key(|p| p.shard);
            }
        }
    }

    /// Takes over what another token names.
    pub fn merge(&mut self, other: &Self) {
        self.incarnation = self.incarnation.max(other.incarnation);
        other.positions.iter().for_each(|p| self.note(p.shard, Revision(p.revision)));
    }
}

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// The row of a key.
    Get(Key),
    /// Rows of a range that lies within one slot.
    Scan(Scan),
}

/// Rows of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// The range; within one slot.
    pub range: KeyRange,
    /// Most rows to return, at most [`SCAN_ROWS_MAX`].
    pub limit: u32,
    /// From which end.
    pub order: Order,
}

/// Reads to be made together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadRequest {
    /// What to read. Those of one shard see one snapshot of it.
    pub reads: Vec<Read>,
    /// How fresh.
    pub consistency: Consistency,
    /// Shards that an earlier read of the same request has seen this fresh
    /// already: reading them again may see them as they were then, or later.
    pub seen: Snaptoken,
    /// Whether the rows are to become checks, and so must have revisions: locks of
    /// committed transactions are then finished, not read through.
    pub tracked: bool,
    /// Whether indexes that are not whole are read as they are: for upkeep, which
    /// makes them whole. Else such a read is refused.
    pub partial: bool,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadAnswer {
    /// One for each read, in order; for a get, no row or one.
    pub results: Vec<Rows>,
    /// Where the shards stood.
    pub snaptoken: Snaptoken,
    /// The time by which expiry was judged.
    pub time: Timestamp,
}

/// Rows read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rows {
    /// In the order asked for.
    pub rows: Vec<Row>,
    /// Whether the limit cut the range short.
    pub more: bool,
}

/// What a transaction asks of the store.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Draft {
    /// What must still hold.
    pub checks: Vec<Check>,
    /// What to do.
    pub ops: Vec<Op>,
    /// When its reads were made.
    pub read_time: Timestamp,
    /// Names one who lost often over his attempts, so that others wait for him; 0: nobody.
    pub claimant: u64,
}

/// What became of a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Done, and durable.
    Committed(Committed),
    /// Not done: a check failed. Reading again and deciding again may succeed.
    Conflict,
}

/// A committed transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Reads at it see the transaction.
    pub snaptoken: Snaptoken,
    /// The deciding shard's log time.
    pub time: Timestamp,
}

/// A change of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: Key,
    /// The new row; `None` if it was deleted.
    pub row: Option<Row>,
    /// The revision that changed it.
    pub revision: Revision,
}

/// A subscription to changes, in the order of their revisions.
#[async_trait]
pub trait Watch: Send + Sync {
    /// The next changes, all of one revision.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the subscriber fell behind the ring: it loads its
    /// view again and subscribes anew.
    async fn next(&mut self) -> Result<Vec<Change>, StoreError>;

    /// The next changes, all of one revision; none once there are no more up to
    /// `until`. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    async fn next_until(&mut self, until: Revision) -> Result<Vec<Change>, StoreError>;
}

/// The store, as layers hold it.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Reads rows.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError>;

    /// Pins the shard of a slot: reads of it are then of one instant, and wait for
    /// nothing. `None` where this node has no replica of it; who is told so reads
    /// through [`read`](Self::read).
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn pin(
        &self,
        _slot: Slot,
        _consistency: &Consistency,
    ) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    /// Validates and applies a transaction, atomically over all its shards.
    ///
    /// # Errors
    /// See [`StoreError`]; `Unknown` means that it may have been done.
    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError>;

    /// Follows the changes of a range within one slot, from behind `after`.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the ring no longer holds what follows `after`.
    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Box<dyn Watch>, StoreError>;

    /// The home slots of this node's region, never empty: what begins here lives
    /// there.
    fn local_home(&self) -> Vec<SlotRange>;

    /// The slot ranges of all shards of a space, for merges over shards.
    fn shards(&self, space: crate::slot::Space) -> Vec<SlotRange>;

    /// The cluster version: what every node understands, at least 1.
    fn version(&self) -> u32;

    /// Whether every node knows a feature, so that it may be written.
    fn speaks(&self, feature: Feature) -> bool {
        self.version() >= feature.since()
    }

    /// Indexes that are not whole, and are refused to readers until they are.
    fn lacking(&self) -> Vec<Tag> {
        Vec::new()
    }

    /// What time it is.
    fn clock(&self) -> &Arc<dyn Clock>;

    /// Random bytes.
    fn entropy(&self) -> &Arc<dyn Entropy>;
}

impl ReadRequest {
    /// Reads nothing yet.
    pub fn new(consistency: Consistency) -> Self {
        Self {
            reads: Vec::new(),
            consistency,
            seen: Snaptoken::default(),
            tracked: false,
            partial: false,
        }
    }

    /// Reads a key, too.
    pub fn get(mut self, key: Key) -> Self {
        self.reads.push(Read::Get(key));
        self
    }
}

impl Read {
    /// The kind of the rows that are asked for, where they are of one kind.
    pub fn tag(&self) -> Option<Tag> {
        match self {
            Self::Get(key) => Some(key.tag()),
            Self::Scan(scan) => scan.range.tag(),
        }
    }
}

impl Rows {
    /// The only row of a get.
    pub fn into_row(self) -> Option<Row> {
        self.rows.into_iter().next()
    }
}

impl Snaptoken {
    /// The token's bytes.
    pub fn to_bytes(&self) -> Bytes {
        self.encode_to_vec().into()
    }

    /// Reads a token's bytes.
    ///
    /// # Errors
    /// [`StoreError::BadToken`] if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StoreError> {
        Self::decode(bytes).map_err(|_| StoreError::BadToken)
    }
}
