//! Changes of the directory that are made only if the row is still the one that
//! they were decided on.

use std::sync::Arc;

use cardea_raft::{GroupId, NodeId, ReplicaId};
use cardea_storage::{
    Store,
    planted::{self, Bug},
};

use crate::{
    directory::{
        Clusters, NodeKey, Nodes, ShardKey, ShardRows, TheCluster,
        edit::{self, EditError},
        records::{NodeState, ReplicaRecord, ReplicaRole, ShardRecord},
    },
    placement::RoleChange,
};

fn outdated(group: GroupId) -> EditError {
    EditError::Conflict(format!("shard {group} has changed meanwhile"))
}

/// Gives a shard a learner on a node, with an id that was never given.
pub(super) async fn add_learner(
    store: &Arc<dyn Store>,
    group: GroupId,
    generation: u64,
    node: NodeId,
) -> Result<ReplicaId, EditError> {
    let done = store.transact(|t| async move {
        let cluster = t.get::<Clusters>(&TheCluster).await?;
        let shard = t.get::<ShardRows>(&ShardKey(group)).await?;
        let on = t.get::<Nodes>(&NodeKey(node)).await?;
        let (Some(cluster), Some(shard), Some(on)) = (cluster, shard, on) else {
            return Err(EditError::NotFound(format!("shard {group} or node {node}")));
        };
        let (mut cluster, mut shard) = (cluster.record, shard.record);
        if shard.generation != generation || shard.replica_on(node).is_some() {
            return Err(outdated(group));
        }
        if on.record.state() != NodeState::Live {
            return Err(EditError::Conflict(format!("node {node} takes no replicas")));
        }
        let replica = ReplicaId(cluster.next_replica);
        if !planted::is(Bug::ReplicaIdReused) {
            cluster.next_replica += 1;
        }
        shard.replicas.push(ReplicaRecord {
            id: replica.0,
            node: node.0,
            role: ReplicaRole::Learner.into(),
        });
        shard.generation += 1;
        t.put::<Clusters>(&TheCluster, &cluster, None).await?;
        t.put::<ShardRows>(&ShardKey(group), &shard, None).await?;
        Ok(replica)
    });
    done.await.map(|done| done.value)
}

/// Says what replicas are to be, all at once.
pub(super) async fn set_roles(
    store: &Arc<dyn Store>,
    group: GroupId,
    generation: u64,
    changes: &[RoleChange],
) -> Result<ShardRecord, EditError> {
    edit::change_shard(store, group, |shard| {
        if shard.generation != generation {
            return Err(outdated(group));
        }
        for change in changes {
            let mut replicas = shard.replicas.iter_mut();
            let found = replicas.find(|record| record.id == change.replica.0);
            found.ok_or_else(|| outdated(group))?.set_role(change.role);
        }
        if shard.voters().next().is_none() {
            return Err(EditError::Conflict(format!("{group} would be left without a voter")));
        }
        Ok(())
    })
    .await
}

/// Notes that a node has left, if nothing is left on it.
pub(super) async fn leave(store: &Arc<dyn Store>, node: NodeId) -> Result<(), EditError> {
    let done = edit::change_node(store, node, |record| {
        if record.state() != NodeState::Decommissioning {
            return Err(EditError::Conflict(format!("node {node} is to stay")));
        }
        record.set_state(NodeState::Decommissioned);
        Ok(())
    });
    done.await.map(|_| ())
}
