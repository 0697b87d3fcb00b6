//! Gives shards as many voters as their placement asks for and there are nodes
//! for, and the directory a replica everywhere. It only adds; moving and
//! rebalancing are decisions of their own.
//!
//! The node that leads the directory decides. The number of voters is odd: two
//! survive no more than one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cardea_raft::{GroupId, NodeId, ReplicaId};

use crate::{
    DIRECTORY,
    directory::{
        DirectoryView, edit,
        records::{NodeState, PlacementRecord, ReplicaRole, Survive},
    },
    member::Member,
};

const PERIOD: Duration = Duration::from_millis(500);
/// Most voters of the directory.
const DIRECTORY_VOTERS_MAX: usize = 5;

/// A change that brings a shard nearer to its placement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Add(GroupId, NodeId, ReplicaRole),
    Promote(GroupId, ReplicaId),
}

/// Decides while this node leads the directory.
pub(super) async fn run(member: Arc<Member>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        let leads = member.host.status(DIRECTORY).is_some_and(|status| status.leads());
        if !leads || !member.directory.is_confirmed() {
            continue;
        }
        let changes = plan(&member.directory.view(), |node| member.is_heard(node));
        for change in changes {
            let done = match change {
                Change::Add(group, node, role) => {
                    edit::add_replica(&member.store, group, node, role).await.map(|_| ())
                }
                Change::Promote(group, replica) => {
                    edit::set_role(&member.store, group, replica, ReplicaRole::Voter)
                        .await
                        .map(|_| ())
                }
            };
            if let Err(error) = done {
                tracing::debug!(?change, ?error, "a shard waits for more replicas");
            }
        }
    }
}

/// The largest odd number up to `bound`.
fn odd(bound: usize) -> usize {
    bound - usize::from(bound.is_multiple_of(2) && bound > 0)
}

fn plan(view: &DirectoryView, heard: impl Fn(NodeId) -> bool) -> Vec<Change> {
    let live: BTreeSet<NodeId> = view
        .nodes
        .iter()
        .filter(|(node, record)| record.state() == NodeState::Live && heard(**node))
        .map(|(node, _)| *node)
        .collect();
    let mut load: BTreeMap<NodeId, usize> = live.iter().map(|node| (*node, 0)).collect();
    for replica in view.shards.values().flat_map(|shard| &shard.replicas) {
        load.entry(replica.on()).and_modify(|count| *count += 1);
    }
    let mut changes = Vec::new();
    for (group, shard) in &view.shards {
        if !shard.formed || shard.replicas.iter().any(|r| r.role() == ReplicaRole::Leaving) {
            continue;
        }
        let placement = shard.placement.clone().unwrap_or_default();
        let allowed: BTreeSet<NodeId> =
            live.iter().copied().filter(|node| permits(view, &placement, *node)).collect();
        let voters: Vec<NodeId> = shard.voters().map(|replica| replica.on()).collect();
        let room = voters.iter().filter(|node| !allowed.contains(node)).count() + allowed.len();
        let limit = if *group == DIRECTORY {
            DIRECTORY_VOTERS_MAX
        } else {
            usize::try_from(placement.voters.max(1)).unwrap_or(1)
        };
        let wanted = odd(room.min(limit));
        let lacking = wanted.saturating_sub(voters.len());
        // Half a step would leave an even number.
        if lacking == 0 {
            continue;
        }
        let mut candidates: Vec<NodeId> =
            allowed.iter().copied().filter(|node| !voters.contains(node)).collect();
        let mut chosen = voters;
        for _ in 0..lacking {
            let best = candidates.iter().enumerate().min_by_key(|(_, node)| {
                let there = shard.replica_on(**node).is_some();
                let crowd = crowding(view, &placement, &chosen, **node);
                (crowd, !there, load.get(node).copied().unwrap_or(0), **node)
            });
            let Some((at, _)) = best else { break };
            let node = candidates.remove(at);
            chosen.push(node);
            load.entry(node).and_modify(|count| *count += 1);
            changes.push(match shard.replica_on(node) {
                Some(replica) => Change::Promote(*group, replica.replica()),
                None => Change::Add(*group, node, ReplicaRole::Voter),
            });
        }
    }
    changes
}

fn permits(view: &DirectoryView, placement: &PlacementRecord, node: NodeId) -> bool {
    let region = view.nodes.get(&node).map_or("", |record| record.region.as_str());
    placement.within_region.is_empty() || placement.within_region == region
}

/// How many of the chosen would be lost together with a node: in its region, then
/// in its zone.
fn crowding(
    view: &DirectoryView,
    placement: &PlacementRecord,
    chosen: &[NodeId],
    node: NodeId,
) -> (usize, usize) {
    let at = |node: &NodeId| {
        view.nodes.get(node).map_or(("", ""), |n| (n.region.as_str(), n.zone.as_str()))
    };
    let (region, zone) = at(&node);
    let same_region = chosen.iter().filter(|other| at(other).0 == region).count();
    let same_zone = chosen.iter().filter(|other| at(other) == (region, zone)).count();
    if placement.survive() == Survive::Zone {
        (same_zone, same_region)
    } else {
        (same_region, same_zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::records::{NodeRecord, ReplicaRecord, ShardRecord};

    fn view(regions: &[&str], voters: &[u64]) -> DirectoryView {
        let mut view = DirectoryView::default();
        for (node, region) in (1..).zip(regions) {
            let record = NodeRecord {
                region: (*region).to_owned(),
                state: NodeState::Live.into(),
                ..NodeRecord::default()
            };
            view.nodes.insert(NodeId(node), record);
        }
        let replica = |node: &u64| ReplicaRecord {
            id: 10 + node,
            node: *node,
            role: ReplicaRole::Voter.into(),
        };
        let shard = ShardRecord {
            replicas: voters.iter().map(replica).collect(),
            placement: Some(PlacementRecord { voters: 3, ..PlacementRecord::default() }),
            formed: true,
            ..ShardRecord::default()
        };
        view.shards.insert(GroupId(1), shard);
        view
    }

    fn added(changes: Vec<Change>) -> Vec<u64> {
        changes
            .into_iter()
            .map(|change| match change {
                Change::Add(_, node, ReplicaRole::Voter) => node.0,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_shard_grows_with_the_nodes_but_never_to_an_even_number() {
        assert!(plan(&view(&["r"], &[1]), |_| true).is_empty());
        assert!(plan(&view(&["r", "r"], &[1]), |_| true).is_empty());
        assert_eq!(added(plan(&view(&["r", "r", "r"], &[1]), |_| true)), [2, 3]);
        assert!(plan(&view(&["r"; 5], &[1, 2, 3]), |_| true).is_empty());
    }

    #[test]
    fn voters_are_spread_over_regions() {
        let changes = plan(&view(&["a", "a", "b", "b", "c"], &[1]), |_| true);
        assert_eq!(added(changes), [3, 5]);
    }

    #[test]
    fn silent_nodes_get_no_replica() {
        assert!(plan(&view(&["r", "r", "r"], &[1]), |node| node != NodeId(3)).is_empty());
    }

    #[test]
    fn voters_stay_within_their_region() {
        let mut view = view(&["a", "b", "a", "a"], &[1]);
        if let Some(shard) = view.shards.get_mut(&GroupId(1)) {
            shard.placement = Some(PlacementRecord {
                within_region: "a".to_owned(),
                voters: 3,
                ..PlacementRecord::default()
            });
        }
        assert_eq!(added(plan(&view, |_| true)), [3, 4]);
    }
}
