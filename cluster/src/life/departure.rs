//! Nodes that stop leading, and nodes that go.
//!
//! Both begin with the node's row. *Draining*: the node hands its leads over and
//! takes none, until it starts anew or is told to [`resume`]. *Decommissioning*:
//! the same, and the directory's leader moves its replicas away; once nothing is
//! left on it, the row says that it has left, for good.
//!
//! A decommission that would leave a shard with fewer voters than its placement
//! asks for is refused before anything is changed, unless forced; one that would
//! leave a shard nowhere to be is always refused.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId};
use prost::Message;

use super::driver::observe;
use crate::{
    DIRECTORY,
    directory::{
        DirectoryView,
        edit::{self, EditError},
        records::{NodeRecord, NodeState, ShardRecord},
    },
    member::Member,
    placement::voters_wanted,
    service::{client, operations::OperationError},
};

const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a node that leaves asks another for: to wait until it has left.
pub(crate) const WAIT: &str = "cluster.wait-for-departure";

/// The body of [`WAIT`].
#[derive(Clone, PartialEq, Message)]
struct Waiting {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    patience_ms: u64,
}

impl From<EditError> for OperationError {
    fn from(error: EditError) -> Self {
        match error {
            EditError::NotFound(what) => Self::NotFound(format!("{what} does not exist")),
            EditError::Conflict(reason) => Self::Conflict(reason),
            error @ EditError::TooOld { .. } => Self::Conflict(error.to_string()),
            EditError::Store(cardea_storage::StoreError::Unknown) => {
                Self::Unknown("the directory did not say whether it was changed".to_owned())
            }
            EditError::Store(error) => Self::Unavailable(error.to_string()),
        }
    }
}

/// How far a departure has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departing {
    /// Shards that the node leads.
    pub leads: usize,
    /// Replicas that are on it.
    pub replicas: usize,
}

/// Has a node hand its leads over, and waits until it leads nothing.
///
/// # Errors
/// `NotFound` without such a node; `Conflict` if it is leaving, or is the only
/// voter of a shard; `Unavailable` if it still leads after `patience`: it goes
/// on handing over.
pub async fn drain(
    member: &Arc<Member>,
    node: NodeId,
    patience: Duration,
) -> Result<(), OperationError> {
    member.refresh_directory().await;
    let view = member.directory.view();
    if let Some((group, _)) = view.shards.iter().find(|(_, shard)| votes_alone(shard, node)) {
        return Err(OperationError::Conflict(format!(
            "node {} is the only voter of shard {}: nobody could lead it",
            node.0, group.0
        )));
    }
    edit::change_node(&member.store, node, |record| match record.state() {
        NodeState::Live | NodeState::Draining => {
            record.set_state(NodeState::Draining);
            Ok(())
        }
        state => Err(not_now(node, state)),
    })
    .await?;
    let mut left = Vec::new();
    let begun = member.clock.monotonic();
    while member.clock.monotonic().saturating_sub(begun) <= patience {
        left = led_by(member, node);
        if left.is_empty() && (!member.is_heard(node) || says_it_drains(member, node)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let left = names(&left);
    Err(OperationError::Unavailable(format!("node {} still leads shards {left}", node.0)))
}

/// Takes a drain back: the node may lead again.
///
/// # Errors
/// `NotFound` without such a node; `Conflict` if it is leaving.
pub async fn resume(member: &Arc<Member>, node: NodeId) -> Result<(), OperationError> {
    edit::change_node(&member.store, node, |record| match record.state() {
        NodeState::Live | NodeState::Draining => {
            record.set_state(NodeState::Live);
            Ok(())
        }
        state => Err(not_now(node, state)),
    })
    .await?;
    Ok(())
}

/// Moves everything off a node and lets it go for good; returns when it has
/// left. A node that is dead is let go in the same way: others take its place.
/// Called again it goes on waiting.
///
/// # Errors
/// `NotFound` without such a node; `Conflict` if too few nodes would be left
/// (see the module); `Unavailable` if it is not done after `patience`: it goes
/// on nevertheless.
pub async fn decommission(
    member: &Arc<Member>,
    node: NodeId,
    forced: bool,
    patience: Duration,
    progress: impl FnMut(Departing) + Send,
) -> Result<(), OperationError> {
    member.refresh_directory().await;
    let view = member.directory.view();
    let Some(record) = view.nodes.get(&node) else {
        return Err(OperationError::NotFound(format!("node {} does not exist", node.0)));
    };
    if record.state() == NodeState::Decommissioned {
        return Ok(());
    }
    // Never taken back; and a node that has left cannot write it any more.
    if record.state() != NodeState::Decommissioning {
        if let Some(refusal) = refusal(&view, node, forced) {
            return Err(OperationError::Conflict(refusal));
        }
        edit::change_node(&member.store, node, |record| {
            if record.state() != NodeState::Decommissioned {
                record.set_state(NodeState::Decommissioning);
            }
            Ok(())
        })
        .await?;
    }
    tokio::select! {
        left = wait(member, node, patience, progress) => left,
        () = told_by_another(member, node, patience) => Ok(()),
    }
}

/// Waits until a node's row says that it has left.
async fn wait(
    member: &Arc<Member>,
    node: NodeId,
    patience: Duration,
    mut progress: impl FnMut(Departing) + Send,
) -> Result<(), OperationError> {
    let begun = member.clock.monotonic();
    loop {
        let view = member.directory.view();
        let state = view.nodes.get(&node).map(NodeRecord::state);
        if state == Some(NodeState::Decommissioned) {
            return Ok(());
        }
        let (leads, replicas) = (led_by(member, node).len(), view.replicas_on(node).count());
        progress(Departing { leads, replicas });
        if member.stopping.is_cancelled()
            || member.clock.monotonic().saturating_sub(begun) > patience
        {
            return Err(OperationError::Unavailable(format!(
                "node {} still holds {replicas} replicas; they go on moving away",
                node.0
            )));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until another node says that this one has left; for ever if it does not. This one's
/// replica of the directory goes before the row says so.
async fn told_by_another(member: &Arc<Member>, node: NodeId, patience: Duration) {
    if node == member.node
        && let Some(other) = another(member)
    {
        let patience_ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        let body = Waiting { node: node.0, patience_ms }.encode_to_vec();
        match client::operate(member, other, WAIT, body.into()).await {
            Ok(_) => return,
            Err(error) => tracing::debug!(%other, %error, "does not say whether this node left"),
        }
    }
    std::future::pending().await
}

/// A node that stays: rather one that leads the directory, or was heard of lately, as none is
/// by a node that has left.
fn another(member: &Member) -> Option<NodeId> {
    let (view, leader) = (member.directory.view(), member.leader_of(DIRECTORY));
    let stays = view
        .nodes
        .iter()
        .filter(|(_, record)| record.state() == NodeState::Live)
        .map(|(id, _)| *id);
    stays
        .filter(|id| *id != member.node)
        .min_by_key(|id| (Some(*id) != leader, !member.is_heard(*id), *id))
}

/// Waits for a node that is leaving, on its behalf.
pub(crate) async fn wait_for(member: &Arc<Member>, body: Bytes) -> Result<(), OperationError> {
    let asked = Waiting::decode(body)
        .map_err(|_| OperationError::Malformed("the body is not understood".to_owned()))?;
    wait(member, NodeId(asked.node), Duration::from_millis(asked.patience_ms), |_| {}).await
}

/// Why a node may not go, if so.
fn refusal(view: &DirectoryView, node: NodeId, forced: bool) -> Option<String> {
    view.shards.iter().find_map(|(group, shard)| {
        let placement = shard.placement.clone().unwrap_or_default();
        let region = &placement.within_region;
        let counts = |id: NodeId, record: &NodeRecord| {
            let stays = matches!(record.state(), NodeState::Live | NodeState::Draining);
            let within = *group == DIRECTORY || region.is_empty() || record.region == *region;
            within && (stays || id == node)
        };
        let now = view.members().filter(|(id, record)| counts(*id, record)).count();
        let then = view.members().filter(|(id, record)| *id != node && counts(*id, record)).count();
        // Not the directory's luxury of five.
        let wanted = voters_wanted(GroupId(u64::MAX), placement.voters.max(1), now);
        let has = shard.replica_on(node).is_some();
        if !has || then >= wanted || (forced && then > 0) {
            return None;
        }
        let place = if region.is_empty() { String::new() } else { format!(" in region {region}") };
        Some(format!(
            "shard {} wants {wanted} voters, and without node {} only {then} nodes{place} would be \
             left for them: add a node first{}",
            group.0,
            node.0,
            if then > 0 { ", or force it" } else { "" }
        ))
    })
}

fn not_now(node: NodeId, state: NodeState) -> EditError {
    let node = node.0;
    EditError::Conflict(match state {
        NodeState::Joining => format!("node {node} is still joining"),
        NodeState::Decommissioned => format!("node {node} has left the cluster"),
        _ => format!("node {node} is leaving the cluster"),
    })
}

fn votes_alone(shard: &ShardRecord, node: NodeId) -> bool {
    shard.voters().all(|voter| voter.on() == node)
}

fn led_by(member: &Member, node: NodeId) -> Vec<GroupId> {
    let observed = observe(member);
    let view = member.directory.view();
    let own = observed.reports.get(&node);
    let leads = |group: &GroupId| match observed.leader(*group) {
        Some(leader) => leader == node,
        // They vote, and may do so for the one before.
        None => own.is_some_and(|own| own.of_group(*group).iter().any(|replica| replica.leads)),
    };
    view.shards.keys().copied().filter(leads).collect()
}

fn says_it_drains(member: &Member, node: NodeId) -> bool {
    observe(member).reports.get(&node).is_some_and(|report| report.draining)
}

fn names(groups: &[GroupId]) -> String {
    let names: Vec<String> = groups.iter().map(|group| group.0.to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::records::{PlacementRecord, ReplicaRecord, ReplicaRole};

    fn view(regions: &[&str], within: &str) -> DirectoryView {
        let mut view = DirectoryView::default();
        for (id, region) in (1..).zip(regions) {
            let record = NodeRecord {
                region: (*region).to_owned(),
                state: NodeState::Live.into(),
                ..NodeRecord::default()
            };
            view.nodes.insert(NodeId(id), record);
        }
        let replicas =
            (1..=3).map(|id| ReplicaRecord { id, node: id, role: ReplicaRole::Voter.into() });
        let shard = ShardRecord {
            replicas: replicas.collect(),
            placement: Some(PlacementRecord {
                survive: 0,
                within_region: within.to_owned(),
                voters: 3,
            }),
            formed: true,
            ..ShardRecord::default()
        };
        view.shards.insert(GroupId(1), shard);
        view
    }

    #[test]
    fn a_node_that_would_be_missed_is_kept_unless_forced() {
        let three = view(&["a", "b", "c"], "");
        let text = refusal(&three, NodeId(3), false).unwrap();
        assert!(
            text.contains("shard 1 wants 3 voters, and without node")
                && text.contains("only 2 nodes"),
            "{text}"
        );
        assert_eq!(refusal(&three, NodeId(3), true), None);
        assert_eq!(refusal(&view(&["a", "b", "c", "d"], ""), NodeId(3), false), None);
    }

    #[test]
    fn residency_counts_only_the_nodes_of_the_region() {
        let text = refusal(&view(&["a", "a", "a", "b"], "a"), NodeId(3), false).unwrap();
        assert!(text.contains("in region a"), "{text}");
        assert_eq!(refusal(&view(&["a", "a", "a", "a"], "a"), NodeId(3), false), None);
    }

    #[test]
    fn the_last_node_is_kept_even_by_force() {
        assert!(refusal(&view(&["a"], ""), NodeId(1), true).is_some());
    }

    #[test]
    fn a_node_that_holds_nothing_may_go() {
        assert_eq!(refusal(&view(&["a", "b", "c", "d"], ""), NodeId(4), false), None);
    }
}
