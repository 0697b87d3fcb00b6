//! Who votes: how many, where, and how to get there from here.

use std::{cmp::Reverse, collections::BTreeMap};

use cardea_raft::{GroupId, NodeId};

use super::{
    Picture, ReplicaPicture, RoleChange, Rules, ShardPicture, Step, leaders::Leads, spread::spread,
};
use crate::{
    DIRECTORY,
    directory::records::{NodeState, ReplicaRole, Survive},
};

/// Voters of the directory, where there are nodes for them.
const DIRECTORY_VOTERS: usize = 5;
/// By how many replicas two nodes must differ before one is moved.
const LOAD_SLACK: usize = 2;

/// How many voters a shard should have with so many nodes for it: as many as its
/// placement says (the directory up to five), and odd, since an even one more
/// survives nothing more.
pub fn voters_wanted(group: GroupId, placed: u32, nodes: usize) -> usize {
    let placed = usize::try_from(placed).unwrap_or(usize::MAX).clamp(1, 7);
    let placed = if group == DIRECTORY && placed > 1 { DIRECTORY_VOTERS } else { placed };
    let most = placed.min(nodes.max(1));
    if most.is_multiple_of(2) { most - 1 } else { most }
}

/// Replicas on each node, once what is under way has been done.
struct Load {
    replicas: BTreeMap<NodeId, usize>,
    leads: Leads,
    /// What is under way of each shard.
    shifts: BTreeMap<GroupId, Shift>,
}

/// Nodes that get a replica of a shard, and nodes that lose one.
#[derive(Default)]
struct Shift {
    into: Vec<NodeId>,
    out: Vec<NodeId>,
}

impl Load {
    fn of(picture: &Picture) -> Self {
        let mut replicas: BTreeMap<NodeId, usize> =
            picture.nodes.keys().map(|node| (*node, 0)).collect();
        for replica in picture.shards.values().flat_map(|shard| &shard.replicas) {
            if replica.role != ReplicaRole::Leaving {
                *replicas.entry(replica.node).or_default() += 1;
            }
        }
        Self { replicas, leads: Leads::of(picture), shifts: BTreeMap::new() }
    }

    fn begin(&mut self, group: GroupId, shift: Shift) {
        self.count(&shift.into, &shift.out);
        self.shifts.insert(group, shift);
    }

    /// What is under way of a shard does not count any more. It decides by this: by what it
    /// has decided already it would change its mind.
    fn end(&mut self, group: GroupId) {
        let Shift { into, out } = self.shifts.remove(&group).unwrap_or_default();
        self.count(&out, &into);
    }

    fn count(&mut self, more: &[NodeId], fewer: &[NodeId]) {
        for node in more {
            *self.replicas.entry(*node).or_default() += 1;
        }
        for node in fewer {
            let count = self.replicas.entry(*node).or_default();
            *count = count.saturating_sub(1);
        }
    }

    fn on(&self, node: NodeId) -> usize {
        self.replicas.get(&node).copied().unwrap_or(0)
    }
}

pub(super) fn plan(picture: &Picture, rules: &Rules) -> Vec<Step> {
    let mut load = Load::of(picture);
    // Who is being replaced still has his replica. Did it count, he would be relieved of more
    // than he has too many, and some would have to come back.
    for (group, shard) in &picture.shards {
        let planner = Planner { picture, rules, group: *group, shard, load: &load };
        if planner.is_under_way() {
            let shift = planner.shift();
            load.begin(*group, shift);
        }
    }
    let mut steps = Vec::new();
    let mut under_way =
        picture.shards.values().filter(|shard| shard.formed && !is_settled(shard)).count();
    for (group, shard) in &picture.shards {
        if !shard.formed || shard.leader.is_none() {
            continue;
        }
        let is_settled = is_settled(shard);
        if is_settled && under_way >= rules.changes_max {
            continue;
        }
        load.end(*group);
        let planner = Planner { picture, rules, group: *group, shard, load: &load };
        let next = planner.due();
        let begins = next.iter().any(|step| matches!(step, Step::AddReplica { .. }));
        if is_settled && next.iter().any(|step| !matches!(step, Step::MoveLeader { .. })) {
            under_way += 1;
        }
        if begins || planner.is_under_way() {
            let shift = planner.shift();
            load.begin(*group, shift);
        }
        for step in &next {
            if let Step::MoveLeader { from, to, .. } = step {
                load.leads.moved(*from, *to);
            }
        }
        steps.extend(next);
    }
    steps
}

/// Whether everything is as it is meant to be, and no learner is being filled.
fn is_settled(shard: &ShardPicture) -> bool {
    shard.replicas.iter().all(|replica| match replica.role {
        ReplicaRole::Voter => replica.votes,
        ReplicaRole::Learner => replica.caught_up,
        ReplicaRole::Leaving | ReplicaRole::Unspecified => false,
    })
}

#[derive(Clone, Copy)]
struct Planner<'a> {
    picture: &'a Picture,
    rules: &'a Rules,
    group: GroupId,
    shard: &'a ShardPicture,
    load: &'a Load,
}

impl Planner<'_> {
    /// Whether the roles that were given have been taken, but for learners.
    fn is_ready(&self) -> bool {
        self.shard.replicas.iter().all(|replica| match replica.role {
            ReplicaRole::Voter => replica.votes || !self.picture.is_alive(replica.node, self.rules),
            ReplicaRole::Learner => true,
            ReplicaRole::Leaving | ReplicaRole::Unspecified => false,
        })
    }

    /// Replicas that lost their state, or wait on nodes that are gone, will never
    /// be what they are meant to be. Who was to make room for one, and votes still, stays;
    /// else a new one takes its place.
    fn give_up_what_cannot_arrive(&self) -> Option<Step> {
        let lost = self.shard.replicas.iter().filter_map(|replica| {
            let waiting = match replica.role {
                ReplicaRole::Learner => true,
                ReplicaRole::Voter => !replica.votes && self.others_have_quorum(replica),
                _ => false,
            };
            let state_lost = replica.missing_ms > self.rules.dead_after_ms;
            let node_lost = !self.picture.keeps(replica.node, self.rules);
            // What it once had caught up with does not bring it here.
            let arrives =
                replica.caught_up && self.picture.is_alive(replica.node, self.rules) && !state_lost;
            let role =
                if state_lost { ReplicaRole::Leaving } else { self.role_after(replica.node) };
            let is_lost = waiting && !arrives && (state_lost || node_lost);
            (is_lost && role != replica.role).then_some(RoleChange { replica: replica.id, role })
        });
        let mut changes: Vec<_> = lost.collect();
        let given_up = |replica: &&ReplicaPicture| changes.iter().any(|c| c.replica == replica.id);
        let places = self.voters().filter(given_up).count();
        let stays = |replica: &&ReplicaPicture| {
            let is_there = self.picture.keeps(replica.node, self.rules)
                && self.picture.is_alive(replica.node, self.rules);
            !is_voter(replica) && replica.votes && replica.caught_up && is_there
        };
        let stay = self.shard.replicas.iter().filter(stays).take(places);
        changes.extend(
            stay.map(|replica| RoleChange { replica: replica.id, role: ReplicaRole::Voter }),
        );
        (!changes.is_empty()).then(|| self.set_roles(changes))
    }

    /// Whether the voters besides this one are a majority of all, and there.
    fn others_have_quorum(&self, except: &ReplicaPicture) -> bool {
        let there = self.voters().filter(|voter| {
            voter.id != except.id && voter.votes && self.picture.is_alive(voter.node, self.rules)
        });
        2 * there.count() > self.voters().count()
    }

    /// Whether a replica has come to take another's place, and has not yet done so.
    fn is_under_way(&self) -> bool {
        let comes = |replica: &ReplicaPicture| replica.role == ReplicaRole::Learner;
        // On nodes that stay, learners of the directory do so, too.
        self.group != DIRECTORY && self.shard.replicas.iter().any(comes)
    }

    /// What the way to where the voters should be brings to nodes, and takes from them.
    fn shift(&self) -> Shift {
        let target = self.target();
        let lacks = |node: &NodeId| self.replica_on(*node).is_none();
        let goes = |node: &NodeId| self.group != DIRECTORY && !target.contains(node);
        Shift {
            out: self.voters().map(|voter| voter.node).filter(goes).collect(),
            into: target.iter().copied().filter(lacks).collect(),
        }
    }

    /// The steps to take now.
    fn due(&self) -> Vec<Step> {
        if !is_settled(self.shard) {
            if let Some(step) = self.give_up_what_cannot_arrive() {
                return vec![step];
            }
            // A learner that came and caught up is what was waited for.
            if !self.is_ready() {
                return Vec::new();
            }
        }
        self.next()
    }

    /// The next steps of the shard.
    fn next(&self) -> Vec<Step> {
        let target = self.target();
        let missing: Vec<Step> = target
            .iter()
            .filter(|node| self.replica_on(**node).is_none())
            .map(|node| Step::AddReplica {
                group: self.group,
                generation: self.shard.generation,
                node: *node,
            })
            .take(1)
            .collect();
        if !missing.is_empty() {
            return missing;
        }
        let on = |node: &NodeId| self.replica_on(*node);
        let coming: Vec<&ReplicaPicture> =
            target.iter().filter_map(on).filter(|replica| !is_voter(replica)).collect();
        if coming.iter().any(|replica| !replica.caught_up) {
            return Vec::new();
        }
        let going: Vec<&ReplicaPicture> =
            self.voters().filter(|voter| !target.contains(&voter.node)).collect();
        if coming.is_empty() && going.is_empty() {
            return self.surplus_learners();
        }
        self.swap(&coming, &going)
    }

    /// Learners become voters and voters leave, in one joint change.
    fn swap(&self, coming: &[&ReplicaPicture], going: &[&ReplicaPicture]) -> Vec<Step> {
        let leader_goes = going.iter().find(|voter| Some(voter.node) == self.shard.leader);
        let mut going = going.to_vec();
        if let Some(leader) = leader_goes {
            let heirs = self.voters().filter(|voter| {
                !going.contains(voter)
                    && voter.votes
                    && voter.caught_up
                    && self.picture.is_alive(voter.node, self.rules)
            });
            // Another would soon hand it on, for balance.
            if let Some(heir) =
                heirs.min_by_key(|voter| (self.load.leads.on(voter.node), voter.node))
            {
                let (group, from, to) = (self.group, leader.node, heir.node);
                return vec![Step::MoveLeader { group, from, to }];
            }
            // Nobody stays who votes: it leads until the others do.
            let leads = leader.node;
            going.retain(|voter| voter.node != leads);
        }
        let mut changes: Vec<RoleChange> = coming
            .iter()
            .map(|replica| RoleChange { replica: replica.id, role: ReplicaRole::Voter })
            .collect();
        changes.extend(
            going
                .iter()
                .map(|voter| RoleChange { replica: voter.id, role: self.role_after(voter.node) }),
        );
        let after: Vec<NodeId> = self
            .voters()
            .filter(|voter| !going.contains(voter))
            .chain(coming.iter().copied())
            .map(|voter| voter.node)
            .collect();
        let before: Vec<NodeId> = self.voters().map(|voter| voter.node).collect();
        if changes.is_empty() || !self.has_quorum(&before) || !self.has_quorum(&after) {
            return Vec::new();
        }
        vec![self.set_roles(changes)]
    }

    /// A node that stays keeps a replica of the directory, without a vote; also one that is
    /// silent: when it comes back, it learns by that replica of all else.
    fn role_after(&self, node: NodeId) -> ReplicaRole {
        if self.group == DIRECTORY && self.picture.is_expected(node, self.rules) {
            ReplicaRole::Learner
        } else {
            ReplicaRole::Leaving
        }
    }

    fn surplus_learners(&self) -> Vec<Step> {
        let changes: Vec<_> = self
            .shard
            .replicas
            .iter()
            .filter(|replica| replica.role == ReplicaRole::Learner)
            .filter(|replica| self.role_after(replica.node) == ReplicaRole::Leaving)
            .map(|replica| RoleChange { replica: replica.id, role: ReplicaRole::Leaving })
            .collect();
        if changes.is_empty() { Vec::new() } else { vec![self.set_roles(changes)] }
    }

    /// The nodes that should vote.
    fn target(&self) -> Vec<NodeId> {
        let places = self.places();
        let wanted = voters_wanted(self.group, self.shard.placement.voters, places);
        let mut target: Vec<NodeId> = self
            .voters()
            .map(|voter| voter.node)
            .filter(|node| self.picture.keeps(*node, self.rules) && self.is_within(*node))
            .collect();
        let candidates: Vec<NodeId> = self
            .picture
            .nodes
            .keys()
            .copied()
            .filter(|node| self.is_within(*node) && self.may_hold(*node))
            .collect();
        while target.len() < wanted {
            let Some(best) = self.best_addition(&target, &candidates) else { break };
            target.push(best);
        }
        if target.len() < wanted {
            // Without a node to take its place, a voter that is lost or leaves
            // stays, unless there will never be one.
            let lost: Vec<NodeId> = self
                .voters()
                .map(|voter| voter.node)
                .filter(|node| !target.contains(node))
                .take(wanted - target.len())
                .collect();
            target.extend(lost);
            if target.len().is_multiple_of(2) && self.voters().count() < target.len() {
                target.pop();
            }
            return target;
        }
        // One voter of two survives no less, but its disk is then the only one.
        let kept = wanted.max(usize::from(self.shard.placement.voters > 1) + 1);
        while target.len() > kept {
            match self.best_removal(&target) {
                Some(worst) => target.retain(|node| *node != worst),
                None => break,
            }
        }
        self.improve(&mut target, &candidates);
        target
    }

    /// Whether a node may get a replica, or is being given one.
    fn may_hold(&self, node: NodeId) -> bool {
        let is_coming = self
            .replica_on(node)
            .is_some_and(|replica| !is_voter(replica) && replica.role != ReplicaRole::Leaving);
        self.picture.takes(node, self.rules) || is_coming && self.picture.fills(node, self.rules)
    }

    /// Nodes that could hold a voter if all of them were alive.
    fn places(&self) -> usize {
        let stays = |state| matches!(state, NodeState::Live | NodeState::Draining);
        let nodes = self.picture.nodes.iter();
        nodes.filter(|(id, node)| stays(node.state) && self.is_within(**id)).count()
    }

    /// One swap that spreads better, or as well and evens the load.
    fn improve(&self, target: &mut Vec<NodeId>, candidates: &[NodeId]) {
        let now = self.spread(target);
        let mut best: Option<(_, Vec<NodeId>)> = None;
        for out in target.iter() {
            for into in candidates.iter().filter(|node| !target.contains(node)) {
                let mut swapped: Vec<NodeId> =
                    target.iter().copied().filter(|node| node != out).collect();
                swapped.push(*into);
                let then = self.spread(&swapped);
                let evens = self.load(*out) >= self.load(*into) + LOAD_SLACK;
                let arriving = self.replica_on(*into).is_some_and(|r| !is_voter(r));
                // The directory is on every node: moving its votes evens nothing.
                let evens = (evens || arriving) && self.group != DIRECTORY;
                let stays = Some(*out) != self.shard.leader;
                let evens = evens && (stays || arriving || !self.another_gives(*out, *into));
                if then > now || (then == now && evens) {
                    let gain = self.load(*out).saturating_sub(self.load(*into));
                    // A leader that goes hands over, and its clients wait.
                    let worth = (then, arriving, stays, gain, Reverse(*into));
                    if best.as_ref().is_none_or(|(known, _)| worth > *known) {
                        best = Some((worth, swapped));
                    }
                }
            }
        }
        if let Some((_, swapped)) = best {
            *target = swapped;
        }
    }

    /// Whether another shard could even the load of two nodes without handing over its
    /// leadership, for which its clients would wait.
    fn another_gives(&self, out: NodeId, into: NodeId) -> bool {
        let others = self.picture.shards.iter().filter(|(group, shard)| {
            let leads_elsewhere = shard.leader.is_some_and(|leader| leader != out);
            **group != DIRECTORY && **group != self.group && shard.formed && leads_elsewhere
        });
        others.map(|(group, shard)| Planner { group: *group, shard, ..*self }).any(|other| {
            let now: Vec<NodeId> = other.voters().map(|voter| voter.node).collect();
            let then =
                now.iter().map(|node| if *node == out { into } else { *node }).collect::<Vec<_>>();
            now.contains(&out)
                && other.replica_on(into).is_none()
                && other.is_within(into)
                && other.spread(&then) >= other.spread(&now)
        })
    }

    fn best_addition(&self, target: &[NodeId], candidates: &[NodeId]) -> Option<NodeId> {
        candidates.iter().copied().filter(|node| !target.contains(node)).max_by_key(|node| {
            let with: Vec<NodeId> = target.iter().copied().chain([*node]).collect();
            let there = self.replica_on(*node).is_some();
            (self.spread(&with), there, Reverse(self.load(*node)), Reverse(*node))
        })
    }

    fn best_removal(&self, target: &[NodeId]) -> Option<NodeId> {
        target.iter().copied().max_by_key(|node| {
            let without: Vec<NodeId> = target.iter().copied().filter(|n| n != node).collect();
            let gone = !self.picture.is_alive(*node, self.rules);
            let follows = Some(*node) != self.shard.leader;
            (gone, self.spread(&without), follows, self.load(*node), *node)
        })
    }

    fn spread(&self, nodes: &[NodeId]) -> super::spread::Spread {
        let survive = Survive::try_from(self.shard.placement.survive).unwrap_or(Survive::Node);
        spread(self.picture, nodes, survive)
    }

    fn is_within(&self, node: NodeId) -> bool {
        let region = &self.shard.placement.within_region;
        // The directory spans all regions.
        self.group == DIRECTORY
            || region.is_empty()
            || self.picture.nodes.get(&node).is_some_and(|node| node.region == *region)
    }

    fn load(&self, node: NodeId) -> usize {
        self.load.on(node)
    }

    fn has_quorum(&self, voters: &[NodeId]) -> bool {
        let alive = voters.iter().filter(|node| self.picture.is_alive(**node, self.rules)).count();
        2 * alive > voters.len()
    }

    fn voters(&self) -> impl Iterator<Item = &ReplicaPicture> {
        self.shard.replicas.iter().filter(|replica| is_voter(replica))
    }

    fn replica_on(&self, node: NodeId) -> Option<&ReplicaPicture> {
        self.shard.replicas.iter().find(|replica| replica.node == node)
    }

    fn set_roles(&self, changes: Vec<RoleChange>) -> Step {
        Step::SetRoles { group: self.group, generation: self.shard.generation, changes }
    }
}

fn is_voter(replica: &ReplicaPicture) -> bool {
    replica.role == ReplicaRole::Voter
}
