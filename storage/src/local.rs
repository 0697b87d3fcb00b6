//! A store in one process, without a network and without a log: each shard is a
//! machine over an engine of its own. For the tests of every layer.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use parking_lot::Mutex;
use prost::Message;

use crate::{
    clock::{Clock, Entropy, Timestamp},
    engine::{Disk, EngineOptions, Purpose, Retention},
    error::StoreError,
    fault::Fault,
    key::KeyRange,
    machine::{
        Answered, LogEntry, Machine, Payload, area,
        feed::Subscription,
        state::{Position, STAMP_AHEAD_MS_MAX, range_bits},
    },
    protocol::{
        pin::Pinned,
        sharded::ShardedStore,
        shards::{Freshness, ShardId, ShardRead, ShardSeen, Shards, Terms, read_view},
    },
    row::Revision,
    slot::{Slot, SlotRange, Space},
    store::{Change, Store, Watch},
    tag::Tag,
    txn::{
        Command, Outcome,
        command::{Action, Own, Time},
    },
    version::VERSION_MAX,
};

/// Shards in this process.
pub struct LocalShards {
    shards: Vec<LocalShard>,
    clock: Arc<dyn Clock>,
    version: AtomicU32,
    lacking: Mutex<Vec<Tag>>,
}

struct LocalShard {
    range: SlotRange,
    machine: Machine,
    /// The index of the next entry; held while it is applied.
    next: Mutex<u64>,
}

impl LocalShards {
    /// Opens, creating if absent, shards in directories below `root`: `parts` for
    /// each space, one for the directory.
    ///
    /// # Errors
    /// A fault if the disk fails.
    pub fn open(
        disk: &dyn Disk,
        root: &Path,
        parts: u16,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, Fault> {
        let mut shards = Vec::new();
        for space in Space::ALL {
            let parts = if space == Space::Directory { 1 } else { parts };
            for part in 0..parts {
                let range = if space == Space::Directory {
                    Some(SlotRange::whole(space))
                } else {
                    SlotRange::part(space, part, parts)
                };
                let Some(range) = range else { continue };
                let at = root.join(format!("{}-{part}", space.name()));
                let options = EngineOptions {
                    purpose: Purpose::Tablet,
                    retention: Some(Retention::new(area::expiry)),
                };
                let machine = Machine::open(disk.open(&at, options)?)?;
                let next = machine.state().position.map_or(0, |position| position.index + 1);
                shards.push(LocalShard { range, machine, next: Mutex::new(next) });
            }
        }
        let version = AtomicU32::new(VERSION_MAX);
        let shards = Arc::new(Self { shards, clock, version, lacking: Mutex::default() });
        shards.begin()?;
        Ok(shards)
    }

    /// A store over these shards.
    pub fn store(self: &Arc<Self>, entropy: Arc<dyn Entropy>) -> Arc<dyn Store> {
        ShardedStore::new(self.clone(), self.clock.clone(), entropy)
    }

    /// Makes the store say that its cluster is of another version.
    pub fn set_version(&self, version: u32) {
        self.version.store(version, Ordering::Release);
    }

    /// Makes the store say that these indexes are not whole, and all others are.
    pub fn set_lacking(&self, indexes: &[Tag]) {
        *self.lacking.lock() = indexes.to_vec();
    }

    /// The machine of a shard.
    pub fn machine(&self, shard: ShardId) -> Option<&Machine> {
        self.shards.get(usize::try_from(shard.0).ok()?).map(|shard| &shard.machine)
    }

    /// Applies an action with a stamp of its own, as a leader with another clock
    /// would.
    ///
    /// # Errors
    /// A fault if the machine fails.
    pub fn apply(
        &self,
        shard: ShardId,
        action: Action,
        stamp: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let at = usize::try_from(shard.0).unwrap_or(usize::MAX);
        let shard = self.shards.get(at).ok_or_else(|| StoreError::unavailable("no such shard"))?;
        Ok(shard.apply(action, stamp)?)
    }

    /// A new shard begins, as every log does, with the time and what it owns.
    fn begin(&self) -> Result<(), Fault> {
        let now = self.clock.now();
        for shard in &self.shards {
            if *shard.next.lock() == 0 {
                shard.apply(Action::Time(Time {}), now)?;
                let own = Own { ranges: range_bits(&[shard.range]), base: 0 };
                shard.apply(Action::Own(own), now)?;
            }
        }
        Ok(())
    }
}

impl LocalShard {
    fn apply(&self, action: Action, stamp: Timestamp) -> Result<Outcome, Fault> {
        let mut next = self.next.lock();
        let entry = LogEntry {
            position: Position { term: 1, replica: 1, index: *next },
            payload: Payload::Command(Command::new(stamp.0, action).encode_to_vec().into()),
        };
        *next += 1;
        let Some(Answered::One(outcome)) = self.machine.apply(&[entry])?.pop() else {
            return Err(Fault::new("a command without an outcome"));
        };
        Ok(outcome)
    }
}

#[async_trait]
impl Shards for LocalShards {
    fn locate(&self, slot: Slot) -> Result<ShardId, StoreError> {
        let found = self.shards.iter().position(|shard| shard.range.contains(slot));
        found
            .and_then(|at| u64::try_from(at).ok())
            .map(ShardId)
            .ok_or_else(|| StoreError::unavailable("no shard has the slot"))
    }

    fn ranges(&self, space: Space) -> Vec<SlotRange> {
        let ranges = self.shards.iter().map(|shard| shard.range);
        ranges.filter(|range| range.space() == space).collect()
    }

    fn local_home(&self) -> Vec<SlotRange> {
        vec![SlotRange::whole(Space::Home)]
    }

    fn version(&self) -> u32 {
        self.version.load(Ordering::Acquire)
    }

    fn incarnation(&self) -> u64 {
        0
    }

    fn lacking(&self) -> Vec<Tag> {
        self.lacking.lock().clone()
    }

    async fn refresh(&self) {}

    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        _terms: Terms,
    ) -> Result<Outcome, StoreError> {
        // Log time follows no stamp far ahead of it; a leader tells it the time first.
        let now = self.clock.now();
        let behind = self.machine(shard).map(|machine| machine.state().time());
        if behind.is_some_and(|time| now.0 > time.0.saturating_add(STAMP_AHEAD_MS_MAX)) {
            self.apply(shard, Action::Time(Time {}), now)?;
        }
        self.apply(shard, action, now)
    }

    async fn read(&self, shard: ShardId, read: ShardRead) -> Result<Option<ShardSeen>, StoreError> {
        let machine =
            self.machine(shard).ok_or_else(|| StoreError::unavailable("no such shard"))?;
        let now = self.clock.now();
        machine.look(|view| read_view(view, &read, now))
    }

    async fn pin(
        &self,
        shard: ShardId,
        _freshness: Freshness,
    ) -> Result<Option<Pinned>, StoreError> {
        let machine =
            self.machine(shard).ok_or_else(|| StoreError::unavailable("no such shard"))?;
        Ok(Some(Pinned::new(machine.view()?, shard, self.clock.now())?))
    }

    async fn watch(
        &self,
        shard: ShardId,
        range: KeyRange,
        after: Revision,
    ) -> Result<Box<dyn Watch>, StoreError> {
        let machine =
            self.machine(shard).ok_or_else(|| StoreError::unavailable("no such shard"))?;
        Ok(Box::new(machine.feed().subscribe(range, after)?))
    }
}

#[async_trait]
impl Watch for Subscription {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        Self::next(self).await
    }

    async fn next_until(&mut self, until: Revision) -> Result<Vec<Change>, StoreError> {
        Self::next_until(self, until).await
    }
}
