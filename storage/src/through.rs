//! A store in front of another: everything goes through to it, but for what the one in
//! front does in its own way. So nothing of a store is forgotten that has a default.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    clock::{Clock, Entropy},
    error::StoreError,
    key::KeyRange,
    protocol::pin::Pinned,
    row::Revision,
    slot::{Slot, SlotRange, Space},
    store::{Consistency, Draft, ReadAnswer, ReadRequest, Store, Verdict, Watch},
    tag::Tag,
};

/// What stands in front of a store. Each method is that of [`Store`], whose it is by that.
#[async_trait]
pub trait Through: Send + Sync + 'static {
    /// The store behind.
    fn inner(&self) -> &Arc<dyn Store>;

    /// See [`Store::read`].
    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        self.inner().read(request).await
    }

    /// See [`Store::pin`].
    async fn pin(
        &self,
        slot: Slot,
        consistency: &Consistency,
    ) -> Result<Option<Pinned>, StoreError> {
        self.inner().pin(slot, consistency).await
    }

    /// See [`Store::commit`].
    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        self.inner().commit(draft).await
    }

    /// See [`Store::clock`].
    fn clock(&self) -> &Arc<dyn Clock> {
        self.inner().clock()
    }
}

#[async_trait]
impl<T: Through> Store for T {
    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        Through::read(self, request).await
    }

    async fn pin(
        &self,
        slot: Slot,
        consistency: &Consistency,
    ) -> Result<Option<Pinned>, StoreError> {
        Through::pin(self, slot, consistency).await
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        Through::commit(self, draft).await
    }

    async fn watch(&self, range: KeyRange, after: Revision) -> Result<Box<dyn Watch>, StoreError> {
        self.inner().watch(range, after).await
    }

    fn local_home(&self) -> Vec<SlotRange> {
        self.inner().local_home()
    }

    fn shards(&self, space: Space) -> Vec<SlotRange> {
        self.inner().shards(space)
    }

    fn version(&self) -> u32 {
        self.inner().version()
    }

    fn lacking(&self) -> Vec<Tag> {
        self.inner().lacking()
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        Through::clock(self)
    }

    fn entropy(&self) -> &Arc<dyn Entropy> {
        self.inner().entropy()
    }
}
