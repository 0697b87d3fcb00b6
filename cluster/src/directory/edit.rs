//! Changes of the directory: ordinary transactions, from any node.
//!
//! A shard's row says what should be. Whoever leads the group makes it so, one
//! step at a time, and notes here what came of it; so a change that was broken
//! off half way is taken up by the next leader.

use std::sync::Arc;

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId, ReplicaId};
use cardea_storage::{
    Revision, Slot, Store, StoreError, Table, Tenant, Timestamp, Transacted, Transaction,
    engine::Order,
    planted::{self, Bug},
    store::SCAN_ROWS_MAX,
};

use super::{
    records::{
        ClusterKeyRecord, ClusterRecord, IndexRecord, NodeRecord, NodeState, ReplicaRecord,
        ReplicaRole, ShardRecord, TombstoneRecord,
    },
    tables::{
        ClusterKeyKey, ClusterKeys, Clusters, IndexKey, Indexes, NodeKey, Nodes, ShardKey,
        ShardRows, TheCluster, TombstoneKey, Tombstones,
    },
};
use crate::DIRECTORY;

/// Why the directory was not changed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EditError {
    /// What was named does not exist.
    #[error("{0} does not exist")]
    NotFound(String),
    /// It makes no sense as things stand.
    #[error("{0}")]
    Conflict(String),
    /// A node does not know the cluster's version.
    #[error(
        "the cluster is at version {cluster}, the node's binary knows versions up to {node}: start a newer one"
    )]
    TooOld {
        /// The cluster's version.
        cluster: u32,
        /// The newest that the node knows.
        node: u32,
    },
    /// The store could not answer.
    #[error("the directory was not changed")]
    Store(#[from] StoreError),
}

/// A node that was taken in.
#[derive(Debug, Clone, PartialEq)]
pub struct Admitted {
    /// Its id.
    pub node: NodeId,
    /// The replica of the directory that it starts.
    pub replica: ReplicaId,
    /// Facts of the cluster.
    pub cluster: ClusterRecord,
    /// Every node and its address.
    pub addresses: Vec<(NodeId, String)>,
}

/// What a new cluster consists of.
pub(crate) struct FirstRows {
    pub(crate) cluster: ClusterRecord,
    pub(crate) node: (NodeId, NodeRecord),
    pub(crate) shards: Vec<(GroupId, ShardRecord)>,
    pub(crate) keys: Vec<(ClusterKeyKey, ClusterKeyRecord)>,
    pub(crate) indexes: Vec<(IndexKey, IndexRecord)>,
}

/// Writes the first rows of a cluster, once.
///
/// # Errors
/// [`EditError::Conflict`] if there is a cluster already.
pub(crate) async fn create_cluster(
    store: &Arc<dyn Store>,
    rows: FirstRows,
) -> Result<(), EditError> {
    let rows = Arc::new(rows);
    let done = store.transact(|t| {
        let rows = rows.clone();
        async move {
            let FirstRows { cluster, node, shards, keys, indexes } = rows.as_ref();
            if t.get::<Clusters>(&TheCluster).await?.is_some() {
                return Err(EditError::Conflict("the cluster is initialised already".to_owned()));
            }
            t.put::<Clusters>(&TheCluster, cluster, None).await?;
            t.put::<Nodes>(&NodeKey(node.0), &node.1, None).await?;
            for (group, shard) in shards {
                t.put::<ShardRows>(&ShardKey(*group), shard, None).await?;
            }
            for (key, record) in keys {
                t.put::<ClusterKeys>(key, record, None).await?;
            }
            for (key, record) in indexes {
                t.put::<Indexes>(key, record, None).await?;
            }
            Ok(())
        }
    });
    done.await.map(|_| ())
}

/// Takes a node in: gives it an id, a row and a replica of the directory. A
/// request with a ticket that was seen gets what the first got.
///
/// # Errors
/// [`EditError::NotFound`] before the cluster is initialised, and
/// [`EditError::TooOld`].
pub async fn admit_node(store: &Arc<dyn Store>, record: NodeRecord) -> Result<Admitted, EditError> {
    let done = store.transact(|t| {
        let mut record = record.clone();
        async move {
            let mut cluster = the_cluster(&t).await?;
            must_know(&record, &cluster)?;
            let mut shard = shard_row(&t, DIRECTORY).await?;
            let range = Nodes::slot_range(Slot::DIRECTORY, Tenant::default());
            let (nodes, _) = t.peek_range::<Nodes>(range, SCAN_ROWS_MAX, Order::Forward).await?;
            let mut addresses: Vec<(NodeId, String)> =
                nodes.iter().map(|node| (node.key.0, node.record.address.clone())).collect();
            let seen = nodes.iter().find(|node| node.record.ticket == record.ticket);
            if let Some(seen) = seen {
                let node = seen.key.0;
                let replica =
                    shard.replica_on(node).map(ReplicaRecord::replica).ok_or_else(|| {
                        EditError::Conflict(format!("node {node} was taken out of the cluster"))
                    })?;
                return Ok(Admitted { node, replica, cluster, addresses });
            }
            let node = NodeId(cluster.next_node);
            let replica = ReplicaId(cluster.next_replica);
            cluster.next_node += 1;
            cluster.next_replica += 1;
            record.set_state(NodeState::Joining);
            addresses.push((node, record.address.clone()));
            shard.replicas.push(ReplicaRecord {
                id: replica.0,
                node: node.0,
                role: ReplicaRole::Learner.into(),
            });
            shard.generation += 1;
            t.put::<Clusters>(&TheCluster, &cluster, None).await?;
            t.put::<ShardRows>(&ShardKey(DIRECTORY), &shard, None).await?;
            t.put::<Nodes>(&NodeKey(node), &record, None).await?;
            Ok(Admitted { node, replica, cluster, addresses })
        }
    });
    done.await.map(|admitted: Transacted<Admitted>| admitted.value)
}

/// Writes what a node says of itself when it starts.
///
/// # Errors
/// [`EditError::NotFound`] if there is no such node, and [`EditError::TooOld`]: a
/// version that was raised while it was away counts, and one that is raised at the
/// same time meets its row.
pub async fn announce_node(
    store: &Arc<dyn Store>,
    node: NodeId,
    say: impl Fn(&mut NodeRecord) + Send + Sync,
) -> Result<(), EditError> {
    let say = &say;
    let done = store.transact(|t| async move {
        let cluster = the_cluster(&t).await?;
        let Some(mut found) = t.get::<Nodes>(&NodeKey(node)).await? else {
            return Err(EditError::NotFound(format!("node {}", node.0)));
        };
        say(&mut found.record);
        must_know(&found.record, &cluster)?;
        t.put::<Nodes>(&NodeKey(node), &found.record, None).await.map_err(EditError::from)
    });
    done.await.map(|_| ())
}

/// Raises the cluster version to the newest that every node knows and nobody
/// holds back. Gives what it is then. A node that comes, or says something else of
/// itself, at the same time makes it decide again.
///
/// # Errors
/// [`EditError::NotFound`] before the cluster is initialised.
pub async fn raise_version(store: &Arc<dyn Store>) -> Result<u32, EditError> {
    let done = store.transact(|t| async move {
        let mut cluster = the_cluster(&t).await?;
        let range = Nodes::slot_range(Slot::DIRECTORY, Tenant::default());
        let (nodes, _) = t.scan::<Nodes>(range, SCAN_ROWS_MAX, Order::Forward).await?;
        let known = version_known(nodes.iter().map(|node| &node.record));
        let next = match cluster.version_held {
            0 => known,
            held => known.min(held),
        };
        if next > cluster.version {
            cluster.version = next;
            t.put::<Clusters>(&TheCluster, &cluster, None).await?;
        }
        Ok::<_, EditError>(cluster.version)
    });
    done.await.map(|done| done.value)
}

/// The newest cluster version that all of these nodes know; those that have left
/// do not count.
pub fn version_known<'a>(nodes: impl Iterator<Item = &'a NodeRecord>) -> u32 {
    let there = nodes.filter(|node| node.state() != NodeState::Decommissioned);
    there.map(|node| node.version_max).min().unwrap_or(1)
}

fn must_know(node: &NodeRecord, cluster: &ClusterRecord) -> Result<(), EditError> {
    let (cluster, node) = (cluster.version, node.version_max);
    if cluster > node { Err(EditError::TooOld { cluster, node }) } else { Ok(()) }
}

/// Changes a node's row.
///
/// # Errors
/// [`EditError::NotFound`] if there is no such node, and what `change` says.
pub async fn change_node(
    store: &Arc<dyn Store>,
    node: NodeId,
    change: impl Fn(&mut NodeRecord) -> Result<(), EditError> + Send + Sync,
) -> Result<NodeRecord, EditError> {
    let change = &change;
    let done = store.transact(|t| async move {
        let Some(mut found) = t.get::<Nodes>(&NodeKey(node)).await? else {
            return Err(EditError::NotFound(format!("node {}", node.0)));
        };
        let before = found.record.clone();
        change(&mut found.record)?;
        if found.record != before {
            t.put::<Nodes>(&NodeKey(node), &found.record, None).await?;
        }
        Ok(found.record)
    });
    done.await.map(|done| done.value)
}

/// Changes a shard's row, and raises its generation.
///
/// # Errors
/// [`EditError::NotFound`] if there is no such shard, and what `change` says.
pub async fn change_shard(
    store: &Arc<dyn Store>,
    group: GroupId,
    change: impl Fn(&mut ShardRecord) -> Result<(), EditError> + Send + Sync,
) -> Result<ShardRecord, EditError> {
    let change = &change;
    let done = store.transact(|t| async move {
        let mut shard = shard_row(&t, group).await?;
        let before = shard.clone();
        change(&mut shard)?;
        if shard != before {
            shard.generation = before.generation + 1;
            t.put::<ShardRows>(&ShardKey(group), &shard, None).await?;
        }
        Ok::<_, EditError>(shard)
    });
    done.await.map(|done| done.value)
}

/// Changes the row about the cluster. Gives the revision at which it is changed.
///
/// # Errors
/// [`EditError::NotFound`] before the cluster is initialised, and what `change`
/// says.
pub async fn change_cluster(
    store: &Arc<dyn Store>,
    change: impl Fn(&mut ClusterRecord) -> Result<(), EditError> + Send + Sync,
) -> Result<Revision, EditError> {
    let change = &change;
    let done = store.transact(|t| async move {
        let mut cluster = the_cluster(&t).await?;
        change(&mut cluster)?;
        t.put::<Clusters>(&TheCluster, &cluster, None).await?;
        Ok::<_, EditError>(())
    });
    done.await.map(|done| revision_of(&done))
}

/// Gives a shard one more replica, on a node that has none of it. The group's
/// leader takes it in; it votes once it has caught up.
///
/// # Errors
/// [`EditError::Conflict`] if the node has a replica of the shard, or is leaving.
pub async fn add_replica(
    store: &Arc<dyn Store>,
    group: GroupId,
    node: NodeId,
    role: ReplicaRole,
) -> Result<ReplicaId, EditError> {
    let done = store.transact(|t| async move {
        let mut cluster = the_cluster(&t).await?;
        let mut shard = shard_row(&t, group).await?;
        let Some(on) = t.get::<Nodes>(&NodeKey(node)).await? else {
            return Err(EditError::NotFound(format!("node {}", node.0)));
        };
        if !matches!(on.record.state(), NodeState::Joining | NodeState::Live | NodeState::Draining)
        {
            return Err(EditError::Conflict(format!("node {node} is leaving")));
        }
        if shard.replica_on(node).is_some() {
            return Err(EditError::Conflict(format!("node {node} has a replica of {group}")));
        }
        let replica = ReplicaId(cluster.next_replica);
        if !planted::is(Bug::ReplicaIdReused) {
            cluster.next_replica += 1;
        }
        let record = ReplicaRecord { id: replica.0, node: node.0, role: role.into() };
        shard.replicas.push(record);
        shard.generation += 1;
        t.put::<Clusters>(&TheCluster, &cluster, None).await?;
        t.put::<ShardRows>(&ShardKey(group), &shard, None).await?;
        Ok(replica)
    });
    done.await.map(|done| done.value)
}

/// Says what a replica is meant to be from now on.
///
/// # Errors
/// [`EditError::NotFound`] if the shard has no such replica;
/// [`EditError::Conflict`] if nobody would be left to vote.
pub async fn set_role(
    store: &Arc<dyn Store>,
    group: GroupId,
    replica: ReplicaId,
    role: ReplicaRole,
) -> Result<ShardRecord, EditError> {
    change_shard(store, group, |shard| {
        let found = shard.replicas.iter_mut().find(|record| record.id == replica.0);
        let Some(found) = found else {
            return Err(EditError::NotFound(format!("replica {replica} of {group}")));
        };
        found.set_role(role);
        if shard.voters().next().is_none() {
            return Err(EditError::Conflict(format!("{group} would be left without a voter")));
        }
        Ok(())
    })
    .await
}

/// Takes a replica that has left its group out of the row, and marks its id as
/// spent.
///
/// # Errors
/// [`EditError::Conflict`] if it is not meant to leave.
pub async fn drop_replica(
    store: &Arc<dyn Store>,
    group: GroupId,
    replica: ReplicaId,
    now: Timestamp,
) -> Result<(), EditError> {
    let done = store.transact(|t| async move {
        let mut shard = shard_row(&t, group).await?;
        let Some(at) = shard.replicas.iter().position(|record| record.id == replica.0) else {
            return Ok(());
        };
        let dropped = shard.replicas.remove(at);
        if dropped.role() != ReplicaRole::Leaving {
            return Err(EditError::Conflict(format!("replica {replica} of {group} is to stay")));
        }
        shard.generation += 1;
        let key = TombstoneKey { node: dropped.on(), group, replica };
        t.put::<Tombstones>(&key, &TombstoneRecord { dropped_at: now.0 }, None).await?;
        t.put::<ShardRows>(&ShardKey(group), &shard, None).await?;
        Ok(())
    });
    done.await.map(|_| ())
}

/// Adds a shard whose founding replica lies on `founder`; its node forms the
/// group when it sees the row. Gives the new group's id.
///
/// # Errors
/// [`EditError::NotFound`] before the cluster is initialised.
pub async fn create_shard(
    store: &Arc<dyn Store>,
    founder: NodeId,
    shard: ShardRecord,
) -> Result<GroupId, EditError> {
    let done = store.transact(|t| {
        let mut shard = shard.clone();
        async move {
            let mut cluster = the_cluster(&t).await?;
            let (group, replica) = (GroupId(cluster.next_group), cluster.next_replica);
            cluster.next_group += 1;
            cluster.next_replica += 1;
            shard.replicas = vec![ReplicaRecord {
                id: replica,
                node: founder.0,
                role: ReplicaRole::Voter.into(),
            }];
            (shard.founder, shard.formed, shard.generation) = (replica, false, 1);
            t.put::<Clusters>(&TheCluster, &cluster, None).await?;
            t.put::<ShardRows>(&ShardKey(group), &shard, None).await?;
            Ok::<_, EditError>(group)
        }
    });
    done.await.map(|done| done.value)
}

/// Adds a key of the cluster, which must not be there. Gives the revision from
/// which on it is.
///
/// # Errors
/// [`EditError::Conflict`] if another rotation was faster.
pub async fn add_key(
    store: &Arc<dyn Store>,
    key: ClusterKeyKey,
    record: ClusterKeyRecord,
) -> Result<Revision, EditError> {
    let record = &record;
    let done = store.transact(|t| async move {
        if t.get::<ClusterKeys>(&key).await?.is_some() {
            return Err(EditError::Conflict("another rotation was faster".to_owned()));
        }
        t.put::<ClusterKeys>(&key, record, None).await?;
        Ok(())
    });
    done.await.map(|done| revision_of(&done))
}

/// Ends the staging of a key, after which nodes make things with it. Gives the
/// revision from which on it is so; nothing is changed if it was so before.
///
/// # Errors
/// [`EditError::NotFound`] if there is no such key.
pub async fn activate_key(
    store: &Arc<dyn Store>,
    key: ClusterKeyKey,
) -> Result<Revision, EditError> {
    let done = store.transact(|t| async move {
        let Some(mut found) = t.get::<ClusterKeys>(&key).await? else {
            return Err(EditError::NotFound(format!("key {}", key.id)));
        };
        if std::mem::take(&mut found.record.staged) {
            t.put::<ClusterKeys>(&key, &found.record, None).await?;
        }
        Ok(())
    });
    done.await.map(|done| revision_of(&done))
}

/// The directory's revision at which a transaction stood.
fn revision_of<T>(done: &Transacted<T>) -> Revision {
    done.snaptoken.revision(DIRECTORY.0).unwrap_or_default()
}

/// A name and address for a node's row.
pub(crate) fn ticket(bytes: [u8; 16]) -> Bytes {
    Bytes::copy_from_slice(&bytes)
}

async fn the_cluster(t: &Transaction) -> Result<ClusterRecord, EditError> {
    let found = t.get::<Clusters>(&TheCluster).await?;
    found.map(|row| row.record).ok_or_else(|| EditError::NotFound("the cluster".to_owned()))
}

async fn shard_row(t: &Transaction, group: GroupId) -> Result<ShardRecord, EditError> {
    let found = t.get::<ShardRows>(&ShardKey(group)).await?;
    found.map(|row| row.record).ok_or_else(|| EditError::NotFound(format!("shard {group}")))
}
