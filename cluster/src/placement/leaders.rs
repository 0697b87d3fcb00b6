//! Who leads: at the shard's home, off nodes that drain, evenly over nodes.

use std::collections::{BTreeMap, BTreeSet};

use cardea_raft::{GroupId, NodeId};

use super::{Picture, Rules, ShardPicture, Step};
use crate::{DIRECTORY, directory::records::ReplicaRole};

/// By how many leads two nodes must differ before one is moved.
const LEAD_SLACK: usize = 2;

/// The next steps beside those of replicas.
pub(super) fn plan(picture: &Picture, rules: &Rules, replicas: &[Step]) -> Vec<Step> {
    let mut moving: Vec<GroupId> = Vec::new();
    for step in replicas {
        if let Step::MoveLeader { group, .. } | Step::SetRoles { group, .. } = step {
            moving.push(*group);
        }
    }
    let mut leads = Leads::of(picture);
    for step in replicas {
        if let Step::MoveLeader { from, to, .. } = step {
            leads.moved(*from, *to);
        }
    }
    let coming = coming(picture, rules, replicas);
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
                leads.moved(from, to);
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
        // Soon another may lead what would be moved now, and it would be moved twice; or a shard
        // that rests still has a better place.
        let waits = !coming.contains(&to)
            && coming.iter().any(|node| leads.on(*node) <= leads.on(to))
            || gives_another(picture, rules, from, &leads, leads.on(to));
        let evens = now == then && !waits && leads.on(from) >= leads.on(to) + LEAD_SLACK;
        if (then && !now) || evens {
            leads.moved(from, to);
            steps.push(step);
        }
    }
    urgent.append(&mut steps);
    urgent
}

/// The node that should lead: one that has not just lost a leadership, then at home if
/// one of the voters is, then the one that leads least; of equals the present one.
fn best(picture: &Picture, rules: &Rules, shard: &ShardPicture, leads: &Leads) -> Option<NodeId> {
    let voters = shard.replicas.iter().filter(|replica| replica.votes && replica.caught_up);
    voters.map(|replica| replica.node).filter(|node| picture.may_lead(*node, rules)).min_by_key(
        |node| {
            let is_leader = Some(*node) == shard.leader;
            let is_trusted = is_leader || picture.is_trusted(*node, rules);
            (!is_trusted, !at_home(picture, shard, *node), leads.on(*node), !is_leader, *node)
        },
    )
}

fn at_home(picture: &Picture, shard: &ShardPicture, node: NodeId) -> bool {
    !shard.home_region.is_empty()
        && picture.nodes.get(&node).is_some_and(|node| node.region == shard.home_region)
}

/// Whether a node could hand over a shard of its own to one that leads fewer than so many.
fn gives_another(
    picture: &Picture,
    rules: &Rules,
    from: NodeId,
    leads: &Leads,
    fewer: usize,
) -> bool {
    picture.shards.values().filter(|shard| shard.leader == Some(from)).any(|shard| {
        best(picture, rules, shard, leads).is_some_and(|to| {
            let evens = at_home(picture, shard, from) == at_home(picture, shard, to);
            to != from && evens && leads.on(to) < fewer && picture.is_trusted(to, rules)
        })
    })
}

/// Nodes that replicas are on their way to, and that may lead once they are there.
fn coming(picture: &Picture, rules: &Rules, replicas: &[Step]) -> BTreeSet<NodeId> {
    let shards = picture.shards.iter().filter(|(group, _)| **group != DIRECTORY);
    let learners = shards.flat_map(|(_, shard)| &shard.replicas);
    let learners = learners.filter(|replica| replica.role == ReplicaRole::Learner);
    let added = replicas.iter().filter_map(|step| match step {
        Step::AddReplica { group, node, .. } if *group != DIRECTORY => Some(*node),
        _ => None,
    });
    let nodes = learners.map(|replica| replica.node).chain(added);
    nodes.filter(|node| picture.may_lead(*node, rules)).collect()
}

/// How many shards each node leads.
pub(super) struct Leads(BTreeMap<NodeId, usize>);

impl Leads {
    pub(super) fn of(picture: &Picture) -> Self {
        let mut leads = BTreeMap::new();
        for leader in picture.shards.values().filter_map(|shard| shard.leader) {
            *leads.entry(leader).or_default() += 1;
        }
        Self(leads)
    }

    pub(super) fn on(&self, node: NodeId) -> usize {
        self.0.get(&node).copied().unwrap_or(0)
    }

    /// A lead was handed over.
    pub(super) fn moved(&mut self, from: NodeId, to: NodeId) {
        if let Some(count) = self.0.get_mut(&from) {
            *count = count.saturating_sub(1);
        }
        *self.0.entry(to).or_default() += 1;
    }
}
