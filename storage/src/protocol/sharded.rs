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
    store::{Consistency, Draft, Read, ReadAnswer, ReadRequest, Snaptoken, Store, Verdict, Watch},
    tag::Tag,
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
        let lacking = if request.partial { Vec::new() } else { self.shards.lacking() };
        if lacking.is_empty() {
            return self.reader.read(request).await;
        }
        let whole = |index: &Tag| !lacking.contains(index);
        // A row that is there is right; that one is not there may be wrong.
        let mut hoped = Vec::new();
        for (at, read) in request.reads.iter().enumerate() {
            match (read.tag(), read) {
                (None, _) => {}
                (Some(index), _) if whole(&index) => {}
                (Some(index), Read::Get(_)) => hoped.push((at, index)),
                (Some(index), Read::Scan(_)) => return Err(StoreError::IndexNotWhole { index }),
            }
        }
        let answer = self.reader.read(request).await?;
        match hoped.iter().find(|(at, _)| answer.results[*at].rows.is_empty()) {
            Some((_, index)) => Err(StoreError::IndexNotWhole { index: *index }),
            None => Ok(answer),
        }
    }

    async fn pin(
        &self,
        slot: Slot,
        consistency: &Consistency,
    ) -> Result<Option<Pinned>, StoreError> {
        let shard = self.shards.locate(slot)?;
        let freshness = freshness(shard, consistency, &Snaptoken::default());
        let pinned = self.shards.pin(shard, freshness).await?;
        Ok(pinned.map(|pinned| pinned.lacking(self.shards.lacking())))
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

    fn lacking(&self) -> Vec<Tag> {
        self.shards.lacking()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }
}
