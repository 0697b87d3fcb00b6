//! The port beneath: whoever holds shards lets commands be proposed to them, and
//! reads be made on them.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{
    clock::Timestamp,
    error::StoreError,
    key::KeyRange,
    machine::view::{Seen, TabletView},
    protocol::pin::Pinned,
    row::Revision,
    slot::{Slot, SlotRange, Space},
    store::{Read, Watch},
    tag::Tag,
    txn::{Outcome, RequestId, command::Action},
};

/// Names a shard: the group that replicates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u64);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// Whether a proposal may be turned away for load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// May be refused early.
    Ordinary,
    /// Must go on, lest others wait: decide, settle, finish, acknowledge, time.
    Bypass,
}

/// On what terms an action is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Whether it may be turned away for load.
    pub admission: Admission,
    /// Names one who lost often over his attempts; 0: nobody. If he loses again, the leader
    /// may hold others back until he has come once more.
    pub claimant: u64,
}

impl Terms {
    /// It may be turned away.
    pub const ORDINARY: Self = Self { admission: Admission::Ordinary, claimant: 0 };
    /// It must go on.
    pub const BYPASS: Self = Self { admission: Admission::Bypass, claimant: 0 };

    /// The same, for one who claims.
    #[must_use]
    pub fn of(self, claimant: u64) -> Self {
        Self { claimant, ..self }
    }
}

/// How fresh a read of one shard must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Linearizable.
    Strong,
    /// Applied at least this far.
    AtLeast(Revision),
    /// As of a confirmed read index requested at most this long ago.
    Bounded(Duration),
    /// As it is.
    Eventual,
}

/// A read of one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardRead {
    /// The rows to read.
    pub reads: Vec<Read>,
    /// Transactions whose fate this shard decides, each with its `not_after`.
    pub fates: Vec<(RequestId, Timestamp)>,
    /// How fresh.
    pub freshness: Freshness,
}

/// What a read of one shard saw, all of one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSeen {
    /// Rows, and what prepared transactions hold among them.
    pub seen: Seen,
    /// What is known of each transaction asked about.
    pub fates: Vec<Outcome>,
    /// Where the shard stood.
    pub revision: Revision,
    /// The time by which expiry was judged.
    pub time: Timestamp,
}

/// Those who hold the shards.
#[async_trait]
pub trait Shards: Send + Sync + 'static {
    /// The shard of a slot.
    ///
    /// # Errors
    /// Unavailable if the map is not known now.
    fn locate(&self, slot: Slot) -> Result<ShardId, StoreError>;

    /// The slot ranges of the shards of a space, in order.
    fn ranges(&self, space: Space) -> Vec<SlotRange>;

    /// The home slots of this node's region.
    fn local_home(&self) -> Vec<SlotRange>;

    /// The cluster version, at least 1.
    fn version(&self) -> u32;

    /// Names the cluster's incarnation in snaptokens.
    fn incarnation(&self) -> u64;

    /// Indexes that are not whole, and are refused to readers until they are.
    fn lacking(&self) -> Vec<Tag> {
        Vec::new()
    }

    /// Learns where slots are again, after a shard answered that they moved.
    async fn refresh(&self);

    /// Has a shard's leader stamp, replicate and apply an action.
    ///
    /// # Errors
    /// `Unavailable` and `Overloaded` mean that it was certainly not proposed;
    /// `Unknown` that it may be applied, now or later.
    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        terms: Terms,
    ) -> Result<Outcome, StoreError>;

    /// Reads a shard; `None` if it does not own a slot that was asked for.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn read(&self, shard: ShardId, read: ShardRead) -> Result<Option<ShardSeen>, StoreError>;

    /// Pins a shard where it has a replica on this node; `None` where it has none.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn pin(
        &self,
        _shard: ShardId,
        _freshness: Freshness,
    ) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    /// Follows the changes of a range.
    ///
    /// # Errors
    /// See [`Store::watch`](crate::store::Store::watch).
    async fn watch(
        &self,
        shard: ShardId,
        range: KeyRange,
        after: Revision,
    ) -> Result<Box<dyn Watch>, StoreError>;
}

/// Makes a read on a tablet's view, at the reader's clock.
///
/// # Errors
/// A fault if the engine fails or holds what it should not.
pub fn read_view(
    view: &TabletView,
    read: &ShardRead,
    now: Timestamp,
) -> Result<Option<ShardSeen>, StoreError> {
    let time = now.max(view.state().time());
    let Some(seen) = view.read(&read.reads, time)? else { return Ok(None) };
    let fates = read
        .fates
        .iter()
        .map(|(id, not_after)| view.fate(*id, *not_after))
        .collect::<Result<_, _>>()?;
    Ok(Some(ShardSeen { seen, fates, revision: view.state().revision(), time }))
}
