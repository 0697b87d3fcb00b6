//! The [`Shards`] of a cluster: where slots are, proposals to leaders, reads and
//! changes from the nearest replica.
//!
//! A proposal goes to the group's leader in at most one hop between nodes: who
//! receives it from another node proposes it or says who leads, and never sends
//! it on. `Unavailable` and `Overloaded` are answered only if it certainly was
//! not proposed.

pub(crate) mod claims;
mod leader;
pub(crate) mod propose;
pub(crate) mod read;
pub(crate) mod watch;
pub(crate) mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use cardea_raft::GroupId;
use cardea_storage::{
    KeyRange, Revision, Slot, SlotRange, Space, StoreError, Tag,
    protocol::{
        pin::Pinned,
        shards::{Freshness, ShardId, ShardRead, ShardSeen, Shards, Terms},
    },
    store::Watch,
    txn::{Outcome, command::Action},
};
use parking_lot::RwLock;

use crate::member::Member;

/// The shards, as a node sees them; answers `Unavailable` until the node belongs
/// to a cluster.
#[derive(Default)]
pub struct ClusterShards {
    member: RwLock<Option<Arc<Member>>>,
}

impl ClusterShards {
    /// The node belongs to a cluster from now on.
    pub(crate) fn admit(&self, member: Arc<Member>) {
        *self.member.write() = Some(member);
    }

    /// The node has stopped: everything it held is let go.
    pub(crate) fn release(&self) {
        drop(self.member.write().take());
    }

    pub(crate) fn member(&self) -> Result<Arc<Member>, StoreError> {
        let member = self.member.read().clone();
        member.ok_or_else(|| StoreError::unavailable("this node is not a member of a cluster now"))
    }
}

#[async_trait]
impl Shards for ClusterShards {
    fn locate(&self, slot: Slot) -> Result<ShardId, StoreError> {
        if slot == Slot::DIRECTORY {
            return Ok(ShardId(crate::DIRECTORY.0));
        }
        let found = self.member()?.directory.view().locate(slot);
        found
            .map(|group| ShardId(group.0))
            .ok_or_else(|| StoreError::unavailable("no shard is known to have the slot"))
    }

    fn ranges(&self, space: Space) -> Vec<SlotRange> {
        if space == Space::Directory {
            return vec![SlotRange::whole(space)];
        }
        self.member().map(|member| member.directory.view().ranges(space)).unwrap_or_default()
    }

    fn local_home(&self) -> Vec<SlotRange> {
        let ranges = self
            .member()
            .map(|member| member.directory.view().home_ranges(&member.region))
            .unwrap_or_default();
        if ranges.is_empty() { vec![SlotRange::whole(Space::Home)] } else { ranges }
    }

    fn version(&self) -> u32 {
        self.member().map_or(1, |member| member.directory.view().version())
    }

    fn incarnation(&self) -> u64 {
        self.member().map_or(0, |member| member.directory.view().incarnation())
    }

    fn lacking(&self) -> Vec<Tag> {
        self.member().map(|member| member.directory.view().lacking().to_vec()).unwrap_or_default()
    }

    async fn refresh(&self) {
        if let Ok(member) = self.member() {
            member.refresh_directory().await;
        }
    }

    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        terms: Terms,
    ) -> Result<Outcome, StoreError> {
        propose::propose(&self.member()?, GroupId(shard.0), action, terms).await
    }

    async fn read(&self, shard: ShardId, read: ShardRead) -> Result<Option<ShardSeen>, StoreError> {
        read::read(&self.member()?, GroupId(shard.0), read).await
    }

    async fn pin(
        &self,
        shard: ShardId,
        freshness: Freshness,
    ) -> Result<Option<Pinned>, StoreError> {
        read::pin(&self.member()?, GroupId(shard.0), freshness).await
    }

    async fn watch(
        &self,
        shard: ShardId,
        range: KeyRange,
        after: Revision,
    ) -> Result<Box<dyn Watch>, StoreError> {
        watch::watch(&self.member()?, GroupId(shard.0), range, after).await
    }
}
