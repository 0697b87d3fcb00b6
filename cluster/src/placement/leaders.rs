//! Who leads: at the shard's home, off nodes that drain, evenly over nodes.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, NodeId};

use super::{Picture, Rules, ShardPicture, Step};

/// By how many leads two nodes must differ before one is moved.
const LEAD_SLACK: usize = 2;

pub(super) fn plan(picture: &Picture, rules: &Rules, moving: &[GroupId]) -> Vec<Step> {
    let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
    for leader in picture.shards.values().filter_map(|shard| shard.leader) {
        *leads.entry(leader).or_default() += 1;
    }
    let mut steps = Vec::new();
    let mut urgent = Vec::new();
    for (group, shard) in &picture.shards {
        let Some(from) = shard.leader.filter(|_| !moving.contains(group)) else { continue };
        let Some(to) = best(picture, rules, shard, &leads) else { continue };
        if to == from {
            continue;
        }
        let step = Step::MoveLeader { group: *group, from, to };
        if !picture.may_lead(from, rules) {
            // A leader on a node that drains is not a matter of taste.
            if picture.is_alive(from, rules) {
                moved(&mut leads, from, to);
                urgent.push(step);
            }
            continue;
        }
        if steps.len() >= rules.leader_moves_max
            || shard.led_ms < rules.leader_rest_ms
            || !picture.is_trusted(to, rules)
        {
            continue;
        }
        let (now, then) = (at_home(picture, shard, from), at_home(picture, shard, to));
        let count = |node: NodeId| leads.get(&node).copied().unwrap_or(0);
        let evens = now == then && count(from) >= count(to) + LEAD_SLACK;
        if (then && !now) || evens {
            moved(&mut leads, from, to);
            steps.push(step);
        }
    }
    urgent.append(&mut steps);
    urgent
}

/// The node that should lead: one that has not just lost a leadership, then at home if
/// one of the voters is, then the one that leads least; of equals the present one.
fn best(
    picture: &Picture,
    rules: &Rules,
    shard: &ShardPicture,
    leads: &BTreeMap<NodeId, usize>,
) -> Option<NodeId> {
    let count = |node: NodeId| leads.get(&node).copied().unwrap_or(0);
    let voters = shard.replicas.iter().filter(|replica| replica.votes && replica.caught_up);
    voters.map(|replica| replica.node).filter(|node| picture.may_lead(*node, rules)).min_by_key(
        |node| {
            let is_leader = Some(*node) == shard.leader;
            let is_trusted = is_leader || picture.is_trusted(*node, rules);
            (!is_trusted, !at_home(picture, shard, *node), count(*node), !is_leader, *node)
        },
    )
}

fn at_home(picture: &Picture, shard: &ShardPicture, node: NodeId) -> bool {
    !shard.home_region.is_empty()
        && picture.nodes.get(&node).is_some_and(|node| node.region == shard.home_region)
}

fn moved(leads: &mut BTreeMap<NodeId, usize>, from: NodeId, to: NodeId) {
    if let Some(count) = leads.get_mut(&from) {
        *count = count.saturating_sub(1);
    }
    *leads.entry(to).or_default() += 1;
}
