//! What an operator asks of a node: another key, another leader or home for a
//! shard, another state of a node, an action on a node of their choice.

use std::sync::Arc;

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId};
use cardea_storage::{KeyId, StoreError};

use super::{ClusterNode, operate};
use crate::{
    directory::{
        edit::{self, EditError},
        records::{ClusterKeyRecord, NodeRecord, NodeState, ShardRecord},
    },
    keys::{self, KeyPurpose},
    member::Member,
    service::operations::OperationError,
};

impl ClusterNode {
    /// Makes a new key of a purpose the current one, everywhere when the call
    /// returns; what older ones made is still read. Nothing is made with it before
    /// every node can read that. Takes up a rotation that was broken off.
    ///
    /// # Errors
    /// [`EditError::Conflict`] if another rotation was faster.
    pub async fn rotate_key(&self, purpose: KeyPurpose) -> Result<KeyId, EditError> {
        let Some(member) = self.member() else {
            return Err(StoreError::unavailable("this node belongs to no cluster").into());
        };
        member.refresh_directory().await;
        let view = self.directory.view();
        let (key, staged) = match keys::staged(&view.keys, purpose) {
            Some(key) => (key, view.revision),
            None => {
                let id = keys::next_id(&view.keys, purpose);
                let now = self.store.clock().now();
                let (key, record) =
                    keys::draw(&member.master, member.entropy.as_ref(), purpose, id, now);
                let record = ClusterKeyRecord { staged: true, ..record };
                (key, edit::add_key(&self.store, key, record).await?)
            }
        };
        member.acknowledged_everywhere(staged).await;
        let current = edit::activate_key(&self.store, key).await?;
        member.acknowledged_everywhere(current).await;
        Ok(KeyId(key.id))
    }

    /// Has a node do an operator's action.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn operate(
        &self,
        node: NodeId,
        action: &str,
        body: Bytes,
    ) -> Result<Bytes, OperationError> {
        let member = self.member_or_unavailable()?;
        operate::operate(&member, node, action, body).await
    }

    /// Hands the lead of a group to the replica on a node.
    ///
    /// # Errors
    /// See [`OperationError`].
    pub async fn move_leader(&self, group: GroupId, to: NodeId) -> Result<(), OperationError> {
        operate::move_leader(&self.member_or_unavailable()?, group, to).await
    }

    /// Says in which region the leader of a group should be; empty for anywhere.
    /// Placement moves it there while a voter that may lead stands in that region,
    /// and people who come in a region then get their home in a shard of that region.
    ///
    /// # Errors
    /// [`EditError::NotFound`] if there is no such group, or no node that stays in
    /// the region.
    pub async fn set_home_region(&self, group: GroupId, region: &str) -> Result<(), EditError> {
        let view = self.directory.view();
        let stays = |record: &NodeRecord| {
            record.region == region
                && !matches!(record.state(), NodeState::Decommissioning | NodeState::Decommissioned)
        };
        if !region.is_empty() && !view.nodes.values().any(stays) {
            return Err(EditError::NotFound(format!("a node in the region {region:?}")));
        }
        let change = |shard: &mut ShardRecord| {
            region.clone_into(&mut shard.home_region);
            Ok(())
        };
        edit::change_shard(&self.store, group, change).await.map(|_| ())
    }

    /// Says what a node is doing from now on: its own tasks and the leaders of
    /// its groups act on it.
    ///
    /// # Errors
    /// See [`EditError`].
    pub async fn set_node_state(&self, node: NodeId, state: NodeState) -> Result<(), EditError> {
        let change = |record: &mut NodeRecord| {
            record.set_state(state);
            Ok(())
        };
        edit::change_node(&self.store, node, change).await.map(|_| ())
    }

    fn member_or_unavailable(&self) -> Result<Arc<Member>, OperationError> {
        self.member().ok_or_else(|| {
            OperationError::Unavailable("this node does not belong to a cluster yet".to_owned())
        })
    }
}
