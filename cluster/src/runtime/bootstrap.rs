//! Making a cluster.
//!
//! 0. Who is to be joined is asked whether there is a cluster: certificates of one
//!    authority name one cluster, and a second one under that name would be taken
//!    for the first.
//! 1. The identity file: cluster id, node 1, replica 1 of the directory. From
//!    here a crash is taken up by calling `init` again.
//! 2. Group 0 is formed of this node alone; its first entries are the time and
//!    what it owns.
//! 3. One transaction writes the rows: cluster, node, shards, keys, indexes.
//! 4. The reconciler finds the shards' rows and forms their groups.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use cardea_raft::{ClusterId, GroupId, NodeId, ReplicaId};
use cardea_storage::{SlotRange, Space, machine::state::range_bits};

use super::{ClusterNode, InitPlan, OpenError, Security, identity::Identity, join, lead};
use crate::{
    DIRECTORY,
    directory::{
        edit::{self, FirstRows},
        index,
        records::{ClusterRecord, NodeRecord, NodeState, ReplicaRecord, ReplicaRole, ShardRecord},
    },
    keys::{self, KeyPurpose},
};

const FIRST_NODE: NodeId = NodeId(1);
const FIRST_REPLICA: ReplicaId = ReplicaId(1);

/// See [`ClusterNode::init`].
pub(super) async fn init(
    node: &ClusterNode,
    plan: InitPlan,
    seeds: &[String],
) -> Result<ClusterId, OpenError> {
    plan.check()?;
    let is_new = node.identity()?.is_none_or(|found| found.of_member().is_none());
    if is_new && let Some(address) = join::settled(node, seeds).await? {
        return Err(OpenError::MadeElsewhere(address));
    }
    let identity = founding_identity(node)?;
    let Some((cluster, _)) = identity.of_member() else {
        return Err(OpenError::Plan("the identity names no cluster"));
    };
    let member = match node.member() {
        Some(member) => member,
        None => node.become_member(&identity).await?,
    };
    let started = Identity { started: true, ..identity.clone() };
    started.write(node.options.disk.as_ref(), &node.options.data_dir)?;
    if node.directory.view().cluster.is_some() {
        return Err(OpenError::AlreadyMember(cluster));
    }
    // Nobody else can be there yet: its own clock is the majority.
    node.comparison.expect(&[]);
    let founders = BTreeMap::from([(FIRST_REPLICA, FIRST_NODE)]);
    member
        .host
        .initialize(DIRECTORY, founders)
        .await
        .map_err(|error| cardea_storage::Fault::caused("form the directory", error))?;
    let owned = vec![SlotRange::whole(Space::Directory)];
    while !lead::begin(&member, DIRECTORY, &owned, 0).await {
        if node.stopping.is_cancelled() {
            return Err(OpenError::Stopping);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    write_rows(node, cluster, &identity, &plan).await?;
    member.refresh_directory().await;
    member.reconcile_now();
    node.announce(&identity).await?;
    tracing::info!(%cluster, name = plan.name, "the cluster is initialised");
    Ok(cluster)
}

/// The identity of the first node: the one there is, or a new one.
fn founding_identity(node: &ClusterNode) -> Result<Identity, OpenError> {
    let found = node.identity()?;
    if let Some(found) = &found
        && let Some((cluster, _)) = found.of_member()
    {
        let finished = node.directory.view().cluster.is_some();
        if !found.founding || finished {
            return Err(OpenError::AlreadyMember(cluster));
        }
        return Ok(found.clone());
    }
    let cluster = match &node.options.security {
        Security::Mutual(credentials) => credentials.identity().cluster,
        Security::LoopbackPlain => ClusterId(node.options.entropy.as_ref().bytes()),
    };
    let ticket = match found {
        Some(found) => found.ticket,
        None => edit::ticket(node.options.entropy.as_ref().bytes()),
    };
    let identity = Identity {
        cluster: Bytes::copy_from_slice(&cluster.0),
        node: FIRST_NODE.0,
        directory_replica: FIRST_REPLICA.0,
        founding: true,
        ticket,
        started: false,
        version: node.options.version_max,
    };
    identity.write(node.options.disk.as_ref(), &node.options.data_dir)?;
    Ok(identity)
}

async fn write_rows(
    node: &ClusterNode,
    cluster: ClusterId,
    identity: &Identity,
    plan: &InitPlan,
) -> Result<(), OpenError> {
    let options = &node.options;
    let (profile, now) = (&options.profile, options.clock.now());
    let mut shards = vec![(DIRECTORY, directory_shard(plan))];
    let spaces = [
        (Space::Home, plan.home_shards),
        (Space::Index, plan.index_shards),
        (Space::Graph, plan.graph_shards),
    ];
    for (space, parts) in spaces {
        for part in 0..parts {
            let number = shards.len() as u64;
            if let Some(range) = SlotRange::part(space, part, parts) {
                let shard = new_shard(range, FIRST_REPLICA.0 + number, plan);
                shards.push((GroupId(number), shard));
            }
        }
    }
    let count = shards.len() as u64;
    let record = ClusterRecord {
        id: Bytes::copy_from_slice(&cluster.0),
        name: plan.name.clone(),
        incarnation: 1,
        version: options.version_max,
        next_node: FIRST_NODE.0 + 1,
        next_replica: FIRST_REPLICA.0 + count,
        next_group: count,
        created_at: now.0,
        restoring: Bytes::new(),
        version_held: 0,
    };
    let own = NodeRecord {
        name: profile.name.clone(),
        region: profile.region.clone(),
        zone: profile.zone.clone(),
        address: profile.address.clone(),
        public_url: profile.public_url.clone(),
        admin_url: profile.admin_url.clone(),
        state: NodeState::Live.into(),
        started_at: now.0,
        binary_version: profile.binary_version.clone(),
        version_max: options.version_max,
        ticket: identity.ticket.clone(),
        process: options.process,
    };
    let keys = KeyPurpose::ALL
        .map(|purpose| keys::draw(&options.master, options.entropy.as_ref(), purpose, 1, now))
        .to_vec();
    let known = options.indexing.rules.indexes();
    let indexes = index::of_a_new_cluster(&known, record.version, now);
    let first = FirstRows { cluster: record, node: (FIRST_NODE, own), shards, keys, indexes };
    edit::create_cluster(&node.store, first).await?;
    Ok(())
}

fn directory_shard(plan: &InitPlan) -> ShardRecord {
    let shard = new_shard(SlotRange::whole(Space::Directory), FIRST_REPLICA.0, plan);
    ShardRecord { formed: true, ..shard }
}

fn new_shard(range: SlotRange, replica: u64, plan: &InitPlan) -> ShardRecord {
    ShardRecord {
        ranges: range_bits(&[range]),
        replicas: vec![ReplicaRecord {
            id: replica,
            node: FIRST_NODE.0,
            role: ReplicaRole::Voter.into(),
        }],
        home_region: String::new(),
        placement: Some(plan.placement.clone()),
        generation: 1,
        base: 0,
        founder: replica,
        formed: false,
    }
}
