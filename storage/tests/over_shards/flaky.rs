//! Shards behind a network that loses, repeats and delays.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cardea_storage::{
    Clock, Entropy, ManualClock, Revision, SeededEntropy, Slot, SlotRange, Space, Store,
    StoreError, Tag, Timestamp,
    engine::memory::MemoryDisk,
    key::KeyRange,
    local::LocalShards,
    protocol::{
        pin::Pinned,
        settle,
        sharded::ShardedStore,
        shards::{Freshness, ShardId, ShardRead, ShardSeen, Shards, Terms},
    },
    store::Watch,
    txn::{Outcome, command::Action},
};
use parking_lot::Mutex;

pub(crate) const START: Timestamp = Timestamp(1_000_000);

/// Chances are per thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) lose_request: u64,
    pub(crate) lose_answer: u64,
    pub(crate) repeat_old: u64,
    pub(crate) die: u64,
    /// Most milliseconds that one message takes.
    pub(crate) delay_ms: u64,
    /// Most milliseconds by which a shard's stamps are off.
    pub(crate) skew_ms: u64,
}

pub(crate) struct Flaky {
    pub(crate) local: Arc<LocalShards>,
    pub(crate) clock: Arc<ManualClock>,
    entropy: SeededEntropy,
    faults: Mutex<Faults>,
    sent: Mutex<Vec<(ShardId, Action)>>,
    hold_finishes: AtomicBool,
    pub(crate) proposals: AtomicU64,
}

impl Flaky {
    pub(crate) fn new(seed: u64, parts: u16) -> (Arc<Self>, Arc<dyn Store>) {
        let clock = Arc::new(ManualClock::new(START));
        let disk = MemoryDisk::new(seed);
        let local = LocalShards::open(&disk, Path::new("shards"), parts, clock.clone()).unwrap();
        let flaky = Arc::new(Self {
            local,
            clock: clock.clone(),
            entropy: SeededEntropy::new(seed),
            faults: Mutex::default(),
            sent: Mutex::default(),
            hold_finishes: AtomicBool::new(false),
            proposals: AtomicU64::new(0),
        });
        let entropy = Arc::new(SeededEntropy::new(seed ^ 0xabcd));
        let store = ShardedStore::new(flaky.clone(), clock, entropy);
        (flaky, store)
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.faults.lock() = faults;
    }

    /// Loses every finish from now on: coordinators die after their decision.
    pub(crate) fn lose_finishes(&self, lose: bool) {
        self.hold_finishes.store(lose, Ordering::SeqCst);
    }

    pub(crate) fn draw(&self, per_thousand: u64) -> bool {
        let entropy: &dyn Entropy = &self.entropy;
        entropy.below(1000) < per_thousand
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        let entropy: &dyn Entropy = &self.entropy;
        entropy.below(bound)
    }

    pub(crate) fn all_shards(&self) -> Vec<ShardId> {
        (0..).map(ShardId).take_while(|id| self.local.machine(*id).is_some()).collect()
    }

    /// What leaders do now and then, until nothing is outstanding.
    pub(crate) async fn sweep_all(self: &Arc<Self>) {
        self.set(Faults::default());
        self.lose_finishes(false);
        self.clock.advance(Duration::from_secs(20));
        let shards: Arc<dyn Shards> = self.clone();
        for _ in 0..10 {
            for id in self.all_shards() {
                let place = self.place(id);
                let view = self.local.machine(id).unwrap().view().unwrap();
                let outstanding = view.outstanding(1000).unwrap();
                settle::sweep(&shards, id, &place, outstanding, self.clock.now()).await.unwrap();
            }
        }
        for id in self.all_shards() {
            let view = self.local.machine(id).unwrap().view().unwrap();
            assert_eq!(view.outstanding(10).unwrap(), vec![], "shard {id} has not come to rest");
        }
    }

    fn place(&self, id: ShardId) -> Vec<u8> {
        let range = self.local.machine(id).unwrap().state().slot_ranges()[0];
        range.first().bits().to_be_bytes().to_vec()
    }

    async fn travel(&self) {
        let delay = self.faults.lock().delay_ms;
        if delay > 0 {
            let ms = self.below(delay + 1);
            self.clock.advance(Duration::from_millis(ms / 4));
            // The delay is what is simulated.
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }

    fn stamp(&self) -> Timestamp {
        let skew = self.faults.lock().skew_ms;
        let now = self.clock.now();
        if skew == 0 { now } else { Timestamp(now.0 + self.below(2 * skew) - skew) }
    }
}

#[async_trait]
impl Shards for Flaky {
    fn locate(&self, slot: Slot) -> Result<ShardId, StoreError> {
        self.local.locate(slot)
    }

    fn ranges(&self, space: Space) -> Vec<SlotRange> {
        self.local.ranges(space)
    }

    fn local_home(&self) -> Vec<SlotRange> {
        self.local.local_home()
    }

    fn version(&self) -> u32 {
        self.local.version()
    }

    fn incarnation(&self) -> u64 {
        self.local.incarnation()
    }

    fn lacking(&self) -> Vec<Tag> {
        self.local.lacking()
    }

    async fn refresh(&self) {}

    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        _terms: Terms,
    ) -> Result<Outcome, StoreError> {
        self.proposals.fetch_add(1, Ordering::SeqCst);
        self.travel().await;
        let faults = *self.faults.lock();
        if self.draw(faults.die) {
            // Whoever coordinates is never heard of again.
            std::future::pending::<()>().await;
        }
        if matches!(action, Action::Finish(_)) && self.hold_finishes.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.sent.lock().push((shard, action.clone()));
        if self.draw(faults.lose_request) {
            return Err(StoreError::Unknown);
        }
        let outcome = self.local.apply(shard, action, self.stamp())?;
        if self.draw(faults.repeat_old) {
            let old = {
                let sent = self.sent.lock();
                sent[usize::try_from(self.below(sent.len() as u64)).unwrap()].clone()
            };
            self.local.apply(old.0, old.1, self.stamp())?;
        }
        self.travel().await;
        if self.draw(faults.lose_answer) {
            return Err(StoreError::Unknown);
        }
        Ok(outcome)
    }

    async fn read(&self, shard: ShardId, read: ShardRead) -> Result<Option<ShardSeen>, StoreError> {
        self.travel().await;
        self.local.read(shard, read).await
    }

    async fn pin(
        &self,
        shard: ShardId,
        freshness: Freshness,
    ) -> Result<Option<Pinned>, StoreError> {
        self.travel().await;
        self.local.pin(shard, freshness).await
    }

    async fn watch(
        &self,
        shard: ShardId,
        range: KeyRange,
        after: Revision,
    ) -> Result<Box<dyn Watch>, StoreError> {
        self.local.watch(shard, range, after).await
    }
}
