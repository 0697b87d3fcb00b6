//! A [`Store`] over any [`Shards`].

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    coordinate::Coordinator,
    pin::Pinned,
    plan::slot,
    read::{Reader, freshness},
    shards::Shards,
};
use crate::{
    clock::{Clock, Entropy},
    error::StoreError,
    key::KeyRange,
    row::Revision,
    slot::{Slot, SlotRange, Space},
    store::{Consistency, Draft, ReadAnswer, ReadRequest, Snaptoken, Store, Verdict, Watch},
};

/// A store whose rows lie on shards.
pub struct ShardedStore {
    shards: Arc<dyn Shards>,
    coordinator: Coordinator,
    reader: Reader,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl ShardedStore {
    /// A store over these shards.
    #[expect(clippy::new_ret_no_self, reason = "layers hold the port, never this type")]
    pub fn new(
        shards: Arc<dyn Shards>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Arc<dyn Store> {
        Arc::new(Self {
            coordinator: Coordinator {
                shards: shards.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            },
            reader: Reader { shards: shards.clone() },
            shards,
            clock,
            entropy,
        })
    }
}

#[async_trait]
impl Store for ShardedStore {
    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        self.reader.read(request).await
    }

    async fn pin(
        &self,
        slot: Slot,
        consistency: &Consistency,
    ) -> Result<Option<Pinned>, StoreError> {
        let shard = self.shards.locate(slot)?;
        let freshness = freshness(shard, consistency, &Snaptoken::default());
        self.shards.pin(shard, freshness).await
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        self.coordinator.commit(draft).await
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        let shard = self.shards.locate(slot(&range.start)?)?;
        self.shards.watch(shard, range, after).await
    }

    fn local_home(&self) -> Vec<SlotRange> {
        self.shards.local_home()
    }

    fn shards(&self, space: Space) -> Vec<SlotRange> {
        self.shards.ranges(space)
    }

    fn version(&self) -> u32 {
        self.shards.version()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }
}
