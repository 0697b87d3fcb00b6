//! What the leader of a group owes it:
//!
//! - its first entries: the time, then what it owns
//! - a `Time` entry when log time has fallen behind, so that expiry goes on in an
//!   idle shard
//! - the cluster version, so that its tablet says who may open it
//! - the membership that the directory asks for, one step at a time
//! - the end of transactions that somebody else left
//! - to hand over when its node drains, or its clock is off

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_raft::{ChangeError, GroupId, GroupStatus, NodeId, ReplicaId};
use cardea_storage::{
    SlotRange, Tag, Tenant,
    key::KeyWriter,
    machine::{state::range_bits, view::Outstanding},
    protocol::{
        coordinate::NOT_AFTER,
        settle::sweep,
        shards::{ShardId, Terms},
    },
    txn::{
        Outcome,
        command::{Action, Own, Raise, Time},
    },
};
use tokio::task::{AbortHandle, JoinSet};

use crate::{
    clocks::ClockVerdict,
    directory::{DirectoryView, edit, records::ReplicaRole},
    member::Member,
    replica::Replica,
    shards::propose::{Answer, propose_here},
};

const PERIOD: Duration = Duration::from_millis(200);
/// Of so many looks at a group, one is for transactions that were left.
const SWEEP_EVERY: u64 = 5;
/// How old log time may be in an idle shard.
const LOG_TIME_AGE_MAX: Duration = Duration::from_secs(3 * 60);
/// Transactions looked at in one sweep.
const SWEEP_MAX: usize = 256;
/// How long a decision is left to its coordinator.
const COORDINATOR_TIME: Duration = Duration::from_secs(2);
/// Entries that a learner may lack when it is made a voter.
const CATCH_UP_MAX: u64 = 1_000;

/// Looks after the groups that this node leads, again and again; each on a task
/// of its own, so that none waits for another's voters.
pub(super) async fn run(member: Arc<Member>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut views = member.directory.watch();
    let mut tasks = JoinSet::new();
    let mut tended = BTreeMap::<GroupId, AbortHandle>::new();
    for tick in 0_u64.. {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        while tasks.try_join_next().is_some() {}
        tended.retain(|_, task| !task.is_finished());
        let sweeps = tick.is_multiple_of(SWEEP_EVERY);
        // In a group at rest nothing happens by itself.
        let all = sweeps || views.has_changed().unwrap_or(true) || hands_over(&member);
        views.mark_unchanged();
        for replica in member.replicas() {
            let group = replica.group();
            let leads = member.office(group).is_some_and(|office| office.leads);
            if !leads || tended.contains_key(&group) || !all && member.host.rests(group) {
                continue;
            }
            let member = member.clone();
            let task = tasks.spawn(async move {
                if let Some(status) = member.host.status(group).filter(GroupStatus::leads) {
                    tend(&member, &replica, &status, sweeps).await;
                }
            });
            tended.insert(group, task);
        }
    }
}

/// Whether this node is to lead nothing: it drains, or its clock is off.
fn hands_over(member: &Member) -> bool {
    member.is_draining() || matches!(member.comparison.verdict(), ClockVerdict::Off(_))
}

async fn tend(member: &Arc<Member>, replica: &Arc<Replica>, status: &GroupStatus, sweeps: bool) {
    let group = replica.group();
    if hands_over(member)
        && let Some(successor) = successor(member, status)
    {
        if let Err(error) = member.host.transfer_leader(group, successor).await {
            tracing::debug!(%group, ?error, "the lead was not handed over");
        }
        return;
    }
    let view = member.directory.view();
    if let Some(shard) = view.shards.get(&group) {
        if !replica.owns_slots() {
            begin(member, group, &shard.slot_ranges(), shard.base).await;
            return;
        }
        if !shard.formed {
            let formed = edit::change_shard(&member.store, group, |shard| {
                shard.formed = true;
                Ok(())
            });
            if let Err(error) = formed.await {
                tracing::debug!(%group, ?error, "the group is not noted as formed yet");
            }
            return;
        }
    }
    if member.clock.now().since(replica.log_time()) > LOG_TIME_AGE_MAX {
        propose_here(member, group, Action::Time(Time {}), Terms::BYPASS).await;
    }
    if replica.machine().state().version < view.version() {
        let raise = Action::Raise(Raise { version: view.version() });
        propose_here(member, group, raise, Terms::BYPASS).await;
    }
    if sweeps {
        settle_left(member, replica).await;
    }
    if member.directory.is_confirmed() {
        step(member, &view, group, status).await;
    }
}

/// Makes the first entries of a group that this node leads: the time, then what
/// it owns. Whether they are applied.
pub(super) async fn begin(
    member: &Arc<Member>,
    group: GroupId,
    ranges: &[SlotRange],
    base: u64,
) -> bool {
    if member.replica(group).is_some_and(|replica| replica.owns_slots()) {
        return true;
    }
    let time = propose_here(member, group, Action::Time(Time {}), Terms::BYPASS).await;
    if !matches!(time, Answer::Outcome(Outcome::Committed { .. })) {
        tracing::debug!(%group, ?time, "the group has not begun yet");
        return false;
    }
    let own = Action::Own(Own { ranges: range_bits(ranges), base });
    let owned = propose_here(member, group, own, Terms::BYPASS).await;
    matches!(owned, Answer::Outcome(Outcome::Committed { .. }))
}

/// The voter that should lead next: one that was heard of lately, whose disk has room if there
/// is such a one, and that lacks least.
pub(super) fn successor(member: &Member, status: &GroupStatus) -> Option<ReplicaId> {
    let heard = member.heard.lock();
    let may_lead =
        |node: &NodeId| heard.get(node).is_some_and(|heard| heard.may_lead(member.clock.as_ref()));
    status
        .voters
        .iter()
        .filter(|(id, node)| **id != status.replica && may_lead(node))
        .max_by_key(|(id, node)| {
            let has_room = heard.get(node).is_some_and(|heard| !heard.report.disk_full);
            (has_room, status.matched.get(id).copied().flatten())
        })
        .map(|(id, _)| *id)
}

/// Ends what is outstanding at a group and was left by its coordinator.
async fn settle_left(member: &Arc<Member>, replica: &Arc<Replica>) {
    let group = replica.group();
    if replica.is_settled() {
        return;
    }
    let machine = replica.clone();
    let looked = cardea_raft::blocking::spawn(move || {
        let view = machine.machine().view()?;
        let place = view.state().slot_ranges().first().map(|range| range.first());
        let outstanding = view.outstanding(SWEEP_MAX)?;
        if outstanding.is_empty() {
            machine.note_settled(view.state());
        }
        Ok::<_, cardea_storage::Fault>((outstanding, place))
    });
    let (outstanding, slot) = match looked.await {
        Ok(Ok((outstanding, Some(slot)))) => (outstanding, slot),
        Ok(Ok(_)) | Err(_) => return,
        Ok(Err(fault)) => return member.raise_for(replica, fault),
    };
    let now = member.clock.now();
    let left: Vec<Outstanding> = outstanding
        .into_iter()
        .filter(|item| match item {
            Outstanding::Prepared { not_after, .. } => now > *not_after,
            Outstanding::Decided { not_after, .. } => {
                now.after(NOT_AFTER).since(*not_after) > COORDINATOR_TIME
            }
        })
        .collect();
    if left.is_empty() {
        return;
    }
    let place: Bytes =
        KeyWriter::new(slot, Tag::MOVED, Tenant::default()).finish().as_bytes().clone();
    let shards = member.shards.clone();
    match sweep(&shards, ShardId(group.0), &place, left, now).await {
        Ok(0) => {}
        Ok(ended) => tracing::info!(%group, ended, "ended transactions that were left"),
        Err(error) => tracing::debug!(%group, %error, "the sweep goes on later"),
    }
}

/// One step from the membership that is towards the one that should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    AddLearner(ReplicaId, NodeId),
    ChangeVoters(Vec<ReplicaId>),
    RemoveLearners(Vec<ReplicaId>),
    HandOver(ReplicaId),
    Drop(ReplicaId),
}

/// For the log.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |replicas: &[ReplicaId]| {
            replicas.iter().map(ReplicaId::to_string).collect::<Vec<_>>().join(" ")
        };
        match self {
            Self::AddLearner(replica, node) => write!(f, "{replica} on {node} follows"),
            Self::ChangeVoters(voters) => write!(f, "the voters are {}", list(voters)),
            Self::RemoveLearners(learners) => write!(f, "{} is let go", list(learners)),
            Self::HandOver(replica) => write!(f, "{replica} is to lead"),
            Self::Drop(replica) => write!(f, "{replica} is gone"),
        }
    }
}

async fn step(member: &Arc<Member>, view: &DirectoryView, group: GroupId, status: &GroupStatus) {
    let Some(next) = next_step(member, view, group, status) else { return };
    let decided_on = status.membership_at;
    tracing::info!(%group, step = %next, "changes the group");
    let host = &member.host;
    let done = match next.clone() {
        Step::AddLearner(replica, node) => {
            host.add_learner(group, replica, node, decided_on).await.map(|_| ())
        }
        Step::ChangeVoters(voters) => {
            host.change_voters(group, voters.into_iter().collect(), decided_on).await.map(|_| ())
        }
        Step::RemoveLearners(learners) => host
            .remove_learners(group, learners.into_iter().collect(), decided_on)
            .await
            .map(|_| ()),
        Step::HandOver(to) => host.transfer_leader(group, to).await,
        Step::Drop(replica) => {
            let dropped =
                edit::drop_replica(&member.store, group, replica, member.clock.now()).await;
            dropped.map_err(|error| ChangeError::Refused(error.to_string()))
        }
    };
    if let Err(error) = done {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(%group, step = %next, error, "a change of the group has to wait");
    }
}

fn next_step(
    member: &Member,
    view: &DirectoryView,
    group: GroupId,
    status: &GroupStatus,
) -> Option<Step> {
    let shard = view.shards.get(&group)?;
    if !status.membership_committed {
        return None;
    }
    let last = status.last_log.unwrap_or(0);
    let ready = |id: &ReplicaId, node: &NodeId| {
        let matched = status.matched.get(id).copied().flatten();
        *id == status.replica
            || member.is_heard(*node) && matched.is_some_and(|at| at + CATCH_UP_MAX >= last)
    };
    let wanted: BTreeMap<ReplicaId, (NodeId, ReplicaRole)> =
        shard.replicas.iter().map(|r| (r.replica(), (r.on(), r.role()))).collect();
    plan(status, &wanted, ready, |node| member.is_heard(*node), || successor(member, status))
}

/// Decides the next step; pure, so that a table of cases can show it.
fn plan(
    status: &GroupStatus,
    wanted: &BTreeMap<ReplicaId, (NodeId, ReplicaRole)>,
    ready: impl Fn(&ReplicaId, &NodeId) -> bool,
    heard: impl Fn(&NodeId) -> bool,
    successor: impl Fn() -> Option<ReplicaId>,
) -> Option<Step> {
    let stays = |role: ReplicaRole| matches!(role, ReplicaRole::Voter | ReplicaRole::Learner);
    if status.joint {
        // Ends the change that was interrupted, towards what should be now.
        let voters: Vec<ReplicaId> = wanted
            .iter()
            .filter(|(id, (_, role))| *role == ReplicaRole::Voter && status.voters.contains_key(id))
            .map(|(id, _)| *id)
            .collect();
        return (!voters.is_empty()).then_some(Step::ChangeVoters(voters));
    }
    let known = |id: &ReplicaId| status.voters.contains_key(id) || status.learners.contains_key(id);
    let missing =
        wanted.iter().find(|(id, (node, role))| stays(*role) && !known(id) && heard(node));
    if let Some((id, (node, _))) = missing {
        return Some(Step::AddLearner(*id, *node));
    }
    if let Some(voters) = next_voters(status, wanted, ready) {
        // A leader that is to go hands over first.
        if !voters.contains(&status.replica) {
            return successor().filter(|to| voters.contains(to)).map(Step::HandOver);
        }
        return Some(Step::ChangeVoters(voters));
    }
    let strays: Vec<ReplicaId> = status
        .learners
        .keys()
        .filter(|id| wanted.get(id).is_none_or(|(_, role)| !stays(*role)))
        .copied()
        .collect();
    if !strays.is_empty() {
        return Some(Step::RemoveLearners(strays));
    }
    wanted
        .iter()
        .find(|(id, (_, role))| *role == ReplicaRole::Leaving && !known(id))
        .map(|(id, _)| Step::Drop(*id))
}

/// The voters that there should be next, if others than now. Who is to go stays
/// until those who are to come are ready, and an even number on the way to a
/// larger one is avoided: it survives no more than one fewer.
fn next_voters(
    status: &GroupStatus,
    wanted: &BTreeMap<ReplicaId, (NodeId, ReplicaRole)>,
    ready: impl Fn(&ReplicaId, &NodeId) -> bool,
) -> Option<Vec<ReplicaId>> {
    let desired: Vec<(&ReplicaId, &NodeId)> = wanted
        .iter()
        .filter(|(_, (_, role))| *role == ReplicaRole::Voter)
        .map(|(id, (node, _))| (id, node))
        .collect();
    let mut next: Vec<ReplicaId> = desired
        .iter()
        .filter(|(id, _)| status.voters.contains_key(id))
        .map(|(id, _)| **id)
        .collect();
    let coming: Vec<ReplicaId> = desired
        .iter()
        .filter(|(id, node)| {
            !status.voters.contains_key(id) && status.learners.contains_key(id) && ready(id, node)
        })
        .map(|(id, _)| **id)
        .collect();
    next.extend(&coming);
    if next.len() < desired.len() {
        // Not everybody is ready: nobody goes yet.
        let staying = status.voters.keys().filter(|id| !next.contains(id)).copied();
        let staying: Vec<ReplicaId> = staying.collect();
        next.extend(staying);
        if next.len().is_multiple_of(2)
            && let Some(spare) = next.iter().rposition(|id| coming.contains(id))
        {
            next.remove(spare);
        }
    }
    next.sort();
    let now: Vec<ReplicaId> = status.voters.keys().copied().collect();
    (!next.is_empty() && next != now).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(voters: &[u64], learners: &[u64]) -> GroupStatus {
        let of = |ids: &[u64]| ids.iter().map(|id| (ReplicaId(*id), NodeId(*id))).collect();
        GroupStatus {
            replica: ReplicaId(1),
            voters: of(voters),
            learners: of(learners),
            ..GroupStatus::default()
        }
    }

    fn wanted(voters: &[u64], leaving: &[u64]) -> BTreeMap<ReplicaId, (NodeId, ReplicaRole)> {
        let of = |ids: &[u64], role| {
            ids.iter().map(move |id| (ReplicaId(*id), (NodeId(*id), role))).collect::<Vec<_>>()
        };
        of(voters, ReplicaRole::Voter)
            .into_iter()
            .chain(of(leaving, ReplicaRole::Leaving))
            .collect()
    }

    fn decide(
        status: &GroupStatus,
        wanted: &BTreeMap<ReplicaId, (NodeId, ReplicaRole)>,
        ready: &[u64],
    ) -> Option<Step> {
        let successor = || status.voters.keys().find(|id| **id != status.replica).copied();
        plan(status, wanted, |id, _| ready.contains(&id.0), |_| true, successor)
    }

    fn voters(ids: &[u64]) -> Option<Step> {
        Some(Step::ChangeVoters(ids.iter().map(|id| ReplicaId(*id)).collect()))
    }

    #[test]
    fn a_group_grows_from_one_voter_to_three_at_once() {
        let wanted = wanted(&[1, 2, 3], &[]);
        let add = decide(&status(&[1], &[]), &wanted, &[1]);
        assert_eq!(add, Some(Step::AddLearner(ReplicaId(2), NodeId(2))));
        assert_eq!(decide(&status(&[1], &[2, 3]), &wanted, &[1]), None);
        assert_eq!(decide(&status(&[1], &[2, 3]), &wanted, &[1, 2]), None);
        assert_eq!(decide(&status(&[1], &[2, 3]), &wanted, &[1, 2, 3]), voters(&[1, 2, 3]));
        assert_eq!(decide(&status(&[1, 2, 3], &[]), &wanted, &[1, 2, 3]), None);
    }

    #[test]
    fn who_leaves_stays_until_its_replacement_is_ready() {
        let wanted = wanted(&[1, 2, 4], &[3]);
        assert_eq!(decide(&status(&[1, 2, 3], &[4]), &wanted, &[1, 2]), None);
        assert_eq!(decide(&status(&[1, 2, 3], &[4]), &wanted, &[1, 2, 4]), voters(&[1, 2, 4]));
        let dropped = decide(&status(&[1, 2, 4], &[]), &wanted, &[1, 2, 4]);
        assert_eq!(dropped, Some(Step::Drop(ReplicaId(3))));
    }

    #[test]
    fn a_leader_that_leaves_hands_over_first() {
        let wanted = wanted(&[2, 3, 4], &[1]);
        let step = decide(&status(&[1, 2, 3], &[4]), &wanted, &[1, 2, 3, 4]);
        assert_eq!(step, Some(Step::HandOver(ReplicaId(2))));
    }

    #[test]
    fn a_stray_learner_is_removed() {
        let step = decide(&status(&[1], &[9]), &wanted(&[1], &[]), &[1]);
        assert_eq!(step, Some(Step::RemoveLearners(vec![ReplicaId(9)])));
    }

    #[test]
    fn an_interrupted_change_is_ended_first() {
        let interrupted = GroupStatus { joint: true, ..status(&[1, 2, 3], &[]) };
        let step = decide(&interrupted, &wanted(&[1, 2, 4], &[3]), &[1, 2, 4]);
        assert_eq!(step, voters(&[1, 2]));
    }
}
