//! The cluster as one node sees it; answered without a quorum too.

use cardea_raft::{GroupId, NodeId};
use cardea_storage::Tag;
use serde::{Deserialize, Serialize};

use super::ClusterNode;
use crate::{
    DIRECTORY,
    clocks::OFFSET_MS_MAX,
    directory::{
        DirectoryView, edit, index,
        records::{IndexState, NodeRecord, NodeState, ReplicaRole},
    },
    member::{HEARD_MAX, Member},
    placement::{leader, voters_wanted},
    service::proto,
};

/// A cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClusterStatus {
    /// Its name; empty before the node belongs to one.
    pub name: String,
    /// Its id, in hexadecimal; absent before the node belongs to one.
    pub cluster_id: Option<String>,
    /// The cluster version.
    pub version: u32,
    /// The newest cluster version that every node knows.
    pub version_known: u32,
    /// The version beyond which an operator does not want it raised.
    pub version_held: Option<u32>,
    /// How often it was restored.
    pub incarnation: u64,
    /// The node that answers.
    pub answered_by: u64,
    /// Milliseconds since this node's directory was last confirmed.
    pub confirmed_ms_ago: Option<u64>,
    /// The regions of its nodes.
    pub regions: Vec<String>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its shards, the directory among them.
    pub shards: Vec<ShardStatus>,
    /// The indexes that it knows or has a row of.
    pub indexes: Vec<IndexStatus>,
    /// What is not as it should be, in words.
    pub problems: Vec<String>,
}

/// What a node is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// It has an id and is on its way.
    Joining,
    /// It serves.
    Live,
    /// Nothing was heard of it lately.
    Dead,
    /// It hands its leaderships over and takes none.
    Draining,
    /// Its replicas are being moved away.
    Decommissioning,
    /// It has left for good.
    Decommissioned,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where other nodes reach it.
    pub address: String,
    /// The base URL of its public listener.
    pub public_url: String,
    /// The base URL of its admin listener.
    pub admin_url: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: String,
    /// What it is doing.
    pub health: NodeHealth,
    /// The version of its binary.
    pub binary_version: String,
    /// The newest cluster version that it knows.
    pub version_max: u32,
    /// When it started, in milliseconds since the Unix epoch.
    pub started_at: u64,
    /// Shards that it should have a replica of.
    pub replicas: u32,
    /// Shards that it leads.
    pub leaders: u32,
    /// Milliseconds that its clock is ahead of the median.
    pub clock_ahead_ms: Option<i64>,
    /// Bytes that its tablets take, with what of them is only in memory and the log yet.
    pub disk_used_bytes: Option<u64>,
    /// Bytes that its disk has left.
    pub disk_free_bytes: Option<u64>,
    /// Whether its disk hangs, or did lately, by its own word: it is not given
    /// leaderships then.
    pub disk_hangs: bool,
    /// Bytes of memory that its process takes, by its own word.
    pub memory_bytes: Option<u64>,
    /// Milliseconds since something was heard of it; 0 for the node that answers.
    pub silent_ms: Option<u64>,
}

/// How far an index is built; on the wire of operators, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexProgress {
    /// Slots that were gone through while it is built, of [`slots_all`](Self::slots_all).
    pub slots_done: u32,
    /// Slots that are to be gone through, each twice; 0 before it is begun.
    pub slots_all: u32,
    /// Records that were looked at.
    pub records: u64,
    /// Rows that were written.
    pub filled: u64,
    /// Rows that were deleted, since no record expected them.
    pub stripped: u64,
    /// Rows that a record could not have, because another record has them.
    pub taken: u64,
}

/// How far an index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IndexStatus {
    /// The kind of its rows.
    pub name: String,
    /// Whether every record has its rows in it, and every row its record.
    pub whole: bool,
    /// How far it is built.
    #[serde(flatten)]
    pub progress: IndexProgress,
    /// Since when it is to be built or, if it is, whole, in milliseconds since the Unix
    /// epoch; absent if it was whole before anybody noted it, or waits for the cluster
    /// version.
    pub since: Option<u64>,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShardStatus {
    /// Its group.
    pub group: u64,
    /// Its space.
    pub space: &'static str,
    /// Its first slot.
    pub first_slot: u16,
    /// Its last slot.
    pub last_slot: u16,
    /// The region where its leader should be; empty for anywhere.
    pub home_region: String,
    /// The generation of its row.
    pub generation: u64,
    /// The node that leads it.
    pub leader: Option<u64>,
    /// The newest term heard of.
    pub term: u64,
    /// The last index known committed.
    pub committed: u64,
    /// How many voters it should have with the nodes that there are.
    pub voters_wanted: u32,
    /// Its replicas as they should be.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica of a shard.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplicaStatus {
    /// Its id.
    pub replica: u64,
    /// The node that holds it.
    pub node: u64,
    /// Whether it votes, by the word of the replica that leads, or of who knows the
    /// newest term. What is only meant to vote does not count, and while voters change
    /// nobody does.
    pub voter: bool,
    /// Whether it is meant to leave.
    pub leaving: bool,
    /// Whether its node reports it as running.
    pub running: bool,
    /// The last index that it applied, if heard of.
    pub applied: Option<u64>,
    /// Entries that it lacks, as far as known.
    pub lag: Option<u64>,
}

/// See [`ClusterNode::status`].
pub(super) fn of(node: &ClusterNode) -> ClusterStatus {
    let view = node.directory.view();
    let confirmed_ms_ago = node.directory.confirmed_ago().map(millis);
    let cluster = view.cluster.clone().unwrap_or_default();
    let mut status = ClusterStatus {
        name: cluster.name,
        cluster_id: None,
        version: cluster.version,
        version_known: edit::version_known(view.nodes.values()),
        version_held: (cluster.version_held != 0).then_some(cluster.version_held),
        incarnation: cluster.incarnation,
        answered_by: 0,
        confirmed_ms_ago,
        regions: view.nodes.values().map(|record| record.region.clone()).collect(),
        nodes: Vec::new(),
        shards: Vec::new(),
        indexes: Vec::new(),
        problems: Vec::new(),
    };
    status.regions.sort();
    status.regions.dedup();
    let Some(member) = node.member() else {
        status.problems.push("this node does not belong to a cluster yet".to_owned());
        return status;
    };
    status.cluster_id = Some(member.cluster.to_string());
    status.answered_by = member.node.0;
    let reports = reports(&member);
    status.shards = view.shards.keys().map(|group| shard(&view, *group, &reports)).collect();
    let offsets = member.comparison.offsets((member.node, member.process));
    status.nodes = view
        .nodes
        .iter()
        .map(|(id, record)| {
            // A figure from before a node restarted says nothing of it now.
            let process = if *id == member.node { member.process } else { record.process };
            let ahead = offsets.get(&(*id, process)).copied();
            node_status(&member, &view, *id, record, ahead, &reports, &status.shards)
        })
        .collect();
    status.indexes = indexes(&member, &view);
    status.problems = problems(&status, node.directory.is_confirmed());
    status
}

fn indexes(member: &Member, view: &DirectoryView) -> Vec<IndexStatus> {
    let known = member.indexing.rules.indexes();
    let unknown = view.indexes.keys().filter(|tag| known.iter().all(|index| index.tag != **tag));
    let whole = known.iter().map(|of| (of.tag, index::is_whole(of, view.indexes.get(&of.tag))));
    let row_says = |tag: &Tag| {
        let row = view.indexes.get(tag);
        (*tag, row.is_some_and(|row| row.state() == IndexState::Whole))
    };
    let all = whole.chain(unknown.map(row_says));
    all.map(|(tag, whole)| {
        let row = view.indexes.get(&tag);
        let (slots_done, slots_all) = row.map(index::progress).unwrap_or_default();
        let since = row.map(|row| if whole { row.whole_at } else { row.declared_at });
        let row = row.cloned().unwrap_or_default();
        IndexStatus {
            name: tag.to_string(),
            whole,
            progress: IndexProgress {
                slots_done,
                slots_all,
                records: row.records,
                filled: row.filled,
                stripped: row.stripped,
                taken: row.taken,
            },
            since,
        }
    })
    .collect()
}

/// What each node said of itself last, this one now.
fn reports(member: &Member) -> Vec<proto::StatusResponse> {
    let mut reports: Vec<_> =
        member.heard.lock().values().map(|heard| heard.report.clone()).collect();
    reports.push(super::heartbeat::report(member));
    reports
}

fn node_status(
    member: &Member,
    view: &DirectoryView,
    id: NodeId,
    record: &NodeRecord,
    clock_ahead_ms: Option<i64>,
    reports: &[proto::StatusResponse],
    shards: &[ShardStatus],
) -> NodeStatus {
    let silent = if id == member.node { Some(Default::default()) } else { member.silent(id) };
    let heard = silent.is_some_and(|silent| silent <= HEARD_MAX);
    let report = reports.iter().find(|report| report.node == id.0);
    let draining = report.is_some_and(|report| report.draining);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    NodeStatus {
        id: id.0,
        name: record.name.clone(),
        address: record.address.clone(),
        public_url: record.public_url.clone(),
        admin_url: record.admin_url.clone(),
        region: record.region.clone(),
        zone: record.zone.clone(),
        health: match record.state() {
            NodeState::Decommissioned => NodeHealth::Decommissioned,
            _ if !heard => NodeHealth::Dead,
            NodeState::Decommissioning => NodeHealth::Decommissioning,
            NodeState::Draining => NodeHealth::Draining,
            _ if draining => NodeHealth::Draining,
            NodeState::Joining | NodeState::Unspecified => NodeHealth::Joining,
            NodeState::Live => NodeHealth::Live,
        },
        binary_version: record.binary_version.clone(),
        version_max: record.version_max,
        started_at: record.started_at,
        replicas: count(view.replicas_on(id).count()),
        leaders: count(shards.iter().filter(|shard| shard.leader == Some(id.0)).count()),
        clock_ahead_ms,
        disk_used_bytes: report.map(|report| report.disk_used),
        disk_free_bytes: report.map(|report| report.disk_free),
        disk_hangs: heard && report.is_some_and(|report| report.disk_hangs),
        memory_bytes: report.map(|report| report.memory_bytes).filter(|bytes| *bytes != 0),
        silent_ms: silent.map(millis),
    }
}

fn shard(view: &DirectoryView, group: GroupId, reports: &[proto::StatusResponse]) -> ShardStatus {
    let record = view.shards.get(&group).cloned().unwrap_or_default();
    let ranges = record.slot_ranges();
    let placement = record.placement.clone().unwrap_or_default();
    let region = &placement.within_region;
    let takes = |node: &NodeRecord| {
        matches!(node.state(), NodeState::Live | NodeState::Draining)
            && (group == DIRECTORY || region.is_empty() || node.region == *region)
    };
    let places = view.members().filter(|(_, node)| takes(node)).count();
    let wanted = voters_wanted(group, placement.voters, places);
    let said: Vec<(u64, &proto::ReplicaReport)> = reports
        .iter()
        .flat_map(|report| report.of_group(group).iter().map(move |said| (report.node, said)))
        .collect();
    let term = said.iter().map(|(_, replica)| replica.term).max().unwrap_or(0);
    let committed = said.iter().filter_map(|(_, replica)| replica.committed).max().unwrap_or(0);
    let leads = said.iter().find(|(_, replica)| replica.leads && replica.term == term);
    let leader = leader(said.iter().map(|(node, replica)| (NodeId(*node), *replica)));
    let newest = said.iter().map(|(_, replica)| *replica).max_by_key(|replica| replica.term);
    let voters = leads.map(|(_, replica)| *replica).or(newest).map(|replica| &replica.voters);
    let replicas = record
        .replicas
        .iter()
        .map(|replica| {
            let found = said.iter().find(|(_, said)| said.replica == replica.id);
            let applied = found.and_then(|(_, said)| said.applied);
            ReplicaStatus {
                replica: replica.id,
                node: replica.node,
                voter: voters.is_some_and(|voters| voters.contains(&replica.id)),
                leaving: replica.role() == ReplicaRole::Leaving,
                running: found.is_some(),
                applied,
                lag: applied.map(|applied| committed.saturating_sub(applied)),
            }
        })
        .collect();
    ShardStatus {
        group: group.0,
        space: ranges.first().map_or("", |range| range.space().name()),
        first_slot: ranges.first().map_or(0, |range| range.first().number()),
        last_slot: ranges.last().map_or(0, |range| range.last().number()),
        home_region: record.home_region,
        generation: record.generation,
        leader: leader.map(|node| node.0),
        term,
        committed,
        voters_wanted: u32::try_from(wanted).unwrap_or(u32::MAX),
        replicas,
    }
}

fn problems(status: &ClusterStatus, confirmed: bool) -> Vec<String> {
    let mut problems = Vec::new();
    if !confirmed {
        problems.push(
            "this node's directory is not confirmed: group 0 has no quorum in reach".to_owned(),
        );
    }
    for node in &status.nodes {
        if node.health == NodeHealth::Dead {
            problems.push(format!("node {} is dead", node.id));
        }
        if node.disk_hangs {
            problems.push(format!("the disk of node {} hangs", node.id));
        }
        if node.clock_ahead_ms.is_some_and(|ahead| ahead.abs() > OFFSET_MS_MAX) {
            problems.push(format!("the clock of node {} is off", node.id));
        }
    }
    for index in status.indexes.iter().filter(|index| index.progress.taken > 0) {
        let IndexStatus { name, progress: IndexProgress { taken, .. }, .. } = index;
        problems.push(format!("{taken} records lack rows of {name}, since others have them"));
    }
    for shard in &status.shards {
        if shard.leader.is_none() {
            problems.push(format!("shard {} has no leader", shard.group));
        }
        let voters = shard.replicas.iter().filter(|replica| replica.voter);
        let missing = voters.filter(|replica| !replica.running).count();
        if missing > 0 {
            problems.push(format!("shard {} lacks {missing} of its voters", shard.group));
        }
    }
    problems
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
