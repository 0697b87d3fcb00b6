//! Takes the planner's steps, at the node that leads the directory.
//!
//! 1. The directory is confirmed: this node led it less than two seconds ago.
//! 2. What the nodes last said of themselves and the directory's rows make the
//!    picture; the planner names steps.
//! 3. Each step is one transaction that names the generation of the row that it
//!    was decided on, or a request to a leader to hand over. A driver that was
//!    overtaken is refused, and looks again.
//!
//! Beside it, on every node: what its own row says of it is done here.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cardea_raft::{GroupId, NodeId, ReplicaId};
use futures::future::join_all;

use super::{changes, version};
use crate::{
    DIRECTORY,
    directory::{
        ClusterKeyKey,
        edit::{self, EditError},
        records::NodeState,
    },
    member::Member,
    placement::{Observed, Step, picture, plan},
    runtime::{heartbeat, operate},
};

const PERIOD: Duration = Duration::from_millis(500);
/// How long a rotation is left to whoever began it.
const STAGED_MAX: Duration = Duration::from_secs(10);
/// A change of leader this long after a hand-over was asked for is none of its doing.
const HAND_OVER_MAX: Duration = Duration::from_secs(10);

/// What a driver remembers between rounds, while it leads.
#[derive(Debug, Default)]
struct Office {
    since: Option<Duration>,
    known: BTreeMap<NodeId, Duration>,
    leads: Leads,
    missing: BTreeMap<(GroupId, ReplicaId), Duration>,
    staged: BTreeMap<ClusterKeyKey, Duration>,
}

/// Who leads what since when, and who lost a leadership.
#[derive(Debug, Default)]
struct Leads {
    held: BTreeMap<GroupId, (NodeId, Duration)>,
    /// To whom a leader was asked last to hand over, and when.
    asked: BTreeMap<GroupId, (NodeId, Duration)>,
    deposed: BTreeMap<NodeId, Duration>,
}

impl Leads {
    /// Leaders are being asked to hand over.
    fn ask(&mut self, steps: &[Step], now: Duration) {
        let moves = steps.iter().filter_map(|step| match step {
            Step::MoveLeader { group, to, .. } => Some((*group, (*to, now))),
            _ => None,
        });
        self.asked.extend(moves);
    }

    /// Sees who leads a group; since when. `hands_over` says of a node that it hands over
    /// all it leads, by itself.
    fn see(
        &mut self,
        group: GroupId,
        leader: NodeId,
        hands_over: impl Fn(NodeId) -> bool,
        now: Duration,
    ) -> Duration {
        let held = self.held.entry(group).or_insert((leader, now));
        let (before, _) = *held;
        if before != leader {
            *held = (leader, now);
            let was_asked = self
                .asked
                .remove(&group)
                .is_some_and(|(to, at)| to == leader && now.saturating_sub(at) < HAND_OVER_MAX);
            if !was_asked && !hands_over(before) {
                self.deposed.insert(before, now);
            }
        }
        held.1
    }
}

/// Runs on every node until it stops.
pub(crate) async fn run(member: Arc<Member>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut views = member.directory.watch();
    let mut office = Office::default();
    let mut drains = false;
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            _ = period.tick() => {}
        }
        views.mark_unchanged();
        follow_own_row(&member, &mut drains);
        let leads = member.host.status(DIRECTORY).is_some_and(|status| status.leads());
        if !leads {
            office = Office::default();
            continue;
        }
        if !member.directory.is_confirmed() {
            continue;
        }
        let rules = *member.rules.read();
        let view = member.directory.view();
        let turn = async {
            activate(&member, office.left_staged(&member)).await;
            version::raise_if_known(&member, &view).await;
            let steps = plan(&picture(&view, &office.observe(&member)), &rules);
            office.leads.ask(&steps, member.clock.monotonic());
            take(&member, steps).await;
        };
        tokio::select! {
            () = member.stopping.cancelled() => return,
            () = turn => {}
        }
    }
}

/// A node whose row says that it drains or goes hands its leads over.
fn follow_own_row(member: &Member, drains: &mut bool) {
    let view = member.directory.view();
    let Some(record) = view.nodes.get(&member.node) else { return };
    let should = matches!(
        record.state(),
        NodeState::Draining | NodeState::Decommissioning | NodeState::Decommissioned
    );
    if should != *drains {
        *drains = should;
        tracing::info!(state = ?record.state(), "this node's row says what it does now");
        // A stop that has begun is not taken back.
        if should || !member.stopping.is_cancelled() {
            member.draining.store(should, Ordering::Release);
        }
    }
}

/// Makes the keys current whose rotation was broken off.
async fn activate(member: &Arc<Member>, keys: Vec<ClusterKeyKey>) {
    for key in keys {
        match edit::activate_key(&member.store, key).await {
            Ok(_) => tracing::info!(key = key.id, "a rotation that was broken off is finished"),
            Err(error) => tracing::info!(key = key.id, ?error, "a rotation is finished later"),
        }
    }
}

impl Office {
    /// Keys that were staged for so long that every node has them, or has ceased
    /// to serve.
    fn left_staged(&mut self, member: &Member) -> Vec<ClusterKeyKey> {
        let now = member.clock.monotonic();
        let view = member.directory.view();
        self.staged.retain(|key, _| view.keys.get(key).is_some_and(|row| row.staged));
        let staged = view.keys.iter().filter(|(_, row)| row.staged).map(|(key, _)| *key);
        let seen = staged.map(|key| (key, *self.staged.entry(key).or_insert(now)));
        seen.filter(|(_, since)| now.saturating_sub(*since) > STAGED_MAX)
            .map(|(key, _)| key)
            .collect()
    }

    /// What is known of the nodes now.
    fn observe(&mut self, member: &Member) -> Observed {
        let now = member.clock.monotonic();
        let since = *self.since.get_or_insert(now);
        let mut observed = observe(member);
        observed.observing_ms = millis(now.saturating_sub(since));
        let view = member.directory.view();
        self.known.retain(|node, _| view.nodes.contains_key(node));
        for (node, _) in view.members() {
            let since = *self.known.entry(node).or_insert(now);
            observed.known_ms.insert(node, millis(now.saturating_sub(since)));
        }
        let mut missing = BTreeMap::new();
        for (group, shard) in &view.shards {
            for replica in &shard.replicas {
                let (id, node) = (replica.replica(), replica.on());
                if member.is_heard(node) && observed.lacks(*group, id, node) {
                    let since = self.missing.get(&(*group, id)).copied().unwrap_or(now);
                    missing.insert((*group, id), since);
                    observed.missing_ms.insert((*group, id), millis(now.saturating_sub(since)));
                }
            }
        }
        self.missing = missing;
        for group in view.shards.keys() {
            // While they vote, the last one counts.
            if let Some(leader) = observed.leader(*group) {
                let drains =
                    |node| observed.reports.get(&node).is_some_and(|report| report.draining);
                let since = self.leads.see(*group, leader, drains, now);
                observed.led_ms.insert(*group, millis(now.saturating_sub(since)));
            }
        }
        self.leads.held.retain(|group, _| view.shards.contains_key(group));
        self.leads.deposed.retain(|node, _| view.nodes.contains_key(node));
        let deposed = self.leads.deposed.iter();
        observed.deposed_ms =
            deposed.map(|(node, at)| (*node, millis(now.saturating_sub(*at)))).collect();
        observed
    }
}

/// What the nodes last said of themselves, this one now.
pub(super) fn observe(member: &Member) -> Observed {
    let now = member.clock.monotonic();
    let mut observed = Observed::default();
    for (node, heard) in member.heard.lock().iter() {
        observed.silent_ms.insert(*node, millis(now.saturating_sub(heard.at)));
        observed.reports.insert(*node, heard.report.clone());
    }
    observed.silent_ms.insert(member.node, 0);
    observed.reports.insert(member.node, heartbeat::report(member));
    observed
}

async fn take(member: &Arc<Member>, steps: Vec<Step>) {
    // Additions meet at the counter of replica ids; all else is apart.
    let (additions, others): (Vec<Step>, Vec<Step>) =
        steps.into_iter().partition(|step| matches!(step, Step::AddReplica { .. }));
    let additions = async {
        for step in additions {
            take_one(member, step).await;
        }
    };
    futures::future::join(
        additions,
        join_all(others.into_iter().map(|step| take_one(member, step))),
    )
    .await;
}

async fn take_one(member: &Arc<Member>, step: Step) {
    let store = &member.store;
    tracing::info!(%step, "the cluster changes");
    let done = match &step {
        Step::AddReplica { group, generation, node } => {
            changes::add_learner(store, *group, *generation, *node).await.map(|_| ())
        }
        Step::SetRoles { group, generation, changes } => {
            changes::set_roles(store, *group, *generation, changes).await.map(|_| ())
        }
        Step::Leave { node } => changes::leave(store, *node).await,
        Step::MoveLeader { group, to, .. } => {
            let moved = operate::move_leader(member, *group, *to).await;
            moved.map_err(|error| EditError::Conflict(error.to_string()))
        }
    };
    match done {
        Ok(()) => {}
        // Another step of the same round was first; the next round looks again.
        Err(EditError::Conflict(why)) => tracing::debug!(%step, why, "a step has to wait"),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::info!(%step, error, "a step of the plan has to wait");
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(1);

    /// Who is seen to lead, one after the other, and who counts as deposed at the end.
    fn deposed(asked: &[u64], seen: &[u64], drains: u64) -> Vec<u64> {
        let mut leads = Leads::default();
        let steps: Vec<Step> = asked
            .iter()
            .map(|to| Step::MoveLeader { group: GROUP, from: NodeId(0), to: NodeId(*to) })
            .collect();
        for (at, leader) in (0..).zip(seen) {
            let now = Duration::from_secs(at);
            let since = leads.see(GROUP, NodeId(*leader), |node| node.0 == drains, now);
            assert!(since <= now);
            if at == 0 {
                leads.ask(&steps, now);
            }
        }
        leads.deposed.keys().map(|node| node.0).collect()
    }

    #[test]
    fn who_loses_a_leadership_that_it_was_not_asked_for_is_deposed() {
        assert_eq!(deposed(&[], &[1, 1, 1], 9), [0; 0]);
        assert_eq!(deposed(&[], &[1, 2, 2], 9), [1]);
        assert_eq!(deposed(&[], &[1, 2, 3, 1], 9), [1, 2, 3]);
        assert_eq!(deposed(&[2], &[1, 2, 2], 9), [0; 0]);
        // Asked for one, and another took it.
        assert_eq!(deposed(&[3], &[1, 2, 2], 9), [1]);
        assert_eq!(deposed(&[], &[1, 2, 2], 1), [0; 0]);
        // Asked for long ago, to no effect.
        assert_eq!(deposed(&[2], &[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2], 9), [1]);
    }
}
