//! A way to the shards on which proposals come again and answers are lost: what a
//! caller that gave up, a proxy or a second attempt does to a server. The sender
//! sees nothing of a proposal that comes again; it is the same, byte for byte.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_storage::{
    KeyRange, Revision, Slot, SlotRange, Space, Store, StoreError, Tag,
    protocol::{
        pin::Pinned,
        sharded::ShardedStore,
        shards::{Freshness, ShardId, ShardRead, ShardSeen, Shards, Terms},
    },
    store::Watch,
    txn::{Outcome, command::Action},
};
use parking_lot::Mutex;

use crate::dice::Dice;

/// How often what happens, of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chances {
    /// Proposals that come again.
    pub replayed: usize,
    /// Answers that are lost.
    pub unheard: usize,
}

/// A store like `store`, over shards that are reached on such a way.
pub fn over(
    store: &Arc<dyn Store>,
    shards: &Arc<dyn Shards>,
    dice: Dice,
    chances: Chances,
) -> Arc<dyn Store> {
    let way = Arc::new(Replaying { shards: shards.clone(), dice: Mutex::new(dice), chances });
    ShardedStore::new(way, store.clock().clone(), store.entropy().clone())
}

struct Replaying {
    shards: Arc<dyn Shards>,
    dice: Mutex<Dice>,
    chances: Chances,
}

impl Replaying {
    /// After what time a proposal comes again, if it does.
    fn comes_again(&self) -> Option<Duration> {
        let mut dice = self.dice.lock();
        if !dice.percent(self.chances.replayed) {
            return None;
        }
        let most = match dice.below(4) {
            0 => 5,
            1 => 200,
            2 => 2_000,
            _ => 10_000,
        };
        Some(dice.pause_ms(0, most))
    }
}

#[async_trait]
impl Shards for Replaying {
    fn locate(&self, slot: Slot) -> Result<ShardId, StoreError> {
        self.shards.locate(slot)
    }

    fn ranges(&self, space: Space) -> Vec<SlotRange> {
        self.shards.ranges(space)
    }

    fn local_home(&self) -> Vec<SlotRange> {
        self.shards.local_home()
    }

    fn version(&self) -> u32 {
        self.shards.version()
    }

    fn incarnation(&self) -> u64 {
        self.shards.incarnation()
    }

    fn lacking(&self) -> Vec<Tag> {
        self.shards.lacking()
    }

    async fn refresh(&self) {
        self.shards.refresh().await;
    }

    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        terms: Terms,
    ) -> Result<Outcome, StoreError> {
        if let Some(later) = self.comes_again() {
            let (shards, again) = (self.shards.clone(), action.clone());
            tokio::spawn(async move {
                tokio::time::sleep(later).await;
                // Whoever sent it has had his answer.
                shards.propose(shard, again, terms).await.ok();
            });
        }
        let outcome = self.shards.propose(shard, action, terms).await;
        if outcome.is_ok() && self.dice.lock().percent(self.chances.unheard) {
            return Err(StoreError::Unknown);
        }
        outcome
    }

    async fn read(&self, shard: ShardId, read: ShardRead) -> Result<Option<ShardSeen>, StoreError> {
        self.shards.read(shard, read).await
    }

    async fn pin(
        &self,
        shard: ShardId,
        freshness: Freshness,
    ) -> Result<Option<Pinned>, StoreError> {
        self.shards.pin(shard, freshness).await
    }

    async fn watch(
        &self,
        shard: ShardId,
        range: KeyRange,
        after: Revision,
    ) -> Result<Box<dyn Watch>, StoreError> {
        self.shards.watch(shard, range, after).await
    }
}
