//! Proposals: here if this node leads, else at the leader's node, in one hop.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_raft::{Admission as RaftAdmission, GroupId, NodeId, ProposeError};
use cardea_storage::{
    StoreError, Timestamp,
    protocol::shards::{Admission, Terms},
    txn::{
        Command, Outcome, Txn,
        command::{Action, Time},
    },
};
use prost::Message;

use super::leader::{successor, superseded};
use crate::{clocks::AHEAD_MAX, member::Member, replica::Replica, service::client};

/// Nodes that are asked in turn, at most, before the caller is told that nobody
/// leads; he comes back.
const ASKED_MAX: usize = 3;
/// How far log time may lie behind the leader's before a `Time` entry goes first:
/// well below what an ordinary stamp may move.
const BEHIND_MAX: Duration = Duration::from_secs(5 * 60);
/// How far ahead of the leader's time a transaction may lapse, at most: for as long
/// may what it locks be held by a coordinator that is gone.
const LAPSES_AFTER_MAX: Duration = Duration::from_secs(10);
/// How far ahead of the leader's time a fence may lapse, at most: twice that of a backup,
/// so that one whose clock is ahead stops nobody for long.
const FENCED_MAX: Duration = Duration::from_secs(60);
/// When it makes sense to come back after a refusal for load.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// The same, after a refusal for want of room.
const RETRY_WHEN_FULL_AFTER: Duration = Duration::from_secs(5);

/// What a node answers to a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Applied.
    Outcome(Outcome),
    /// Not proposed: another node leads, as far as known.
    NotLeader(Option<NodeId>),
    /// Not proposed, for load.
    Overloaded(Duration),
    /// Not proposed.
    Unavailable(String),
    /// Not proposed: the node was not reached. Never another node's answer.
    Unreached(String),
    /// Perhaps proposed.
    Unknown,
}

/// Proposes to whoever leads.
pub(crate) async fn propose(
    member: &Arc<Member>,
    group: GroupId,
    action: Action,
    terms: Terms,
) -> Result<Outcome, StoreError> {
    let term = || member.office(group).map_or(0, |office| office.term);
    let (mut hint, mut asked, mut asked_in) = (None, Vec::new(), term());
    let mut last = None;
    for _ in 0..ASKED_MAX {
        let known = hint.take().or_else(|| member.leader_of(group));
        let node = match known.filter(|node| !asked.contains(node)) {
            Some(node) => node,
            None => match successor(member, group, asked_in, &asked).await {
                Some(node) => node,
                None => break,
            },
        };
        asked.push(node);
        asked_in = term();
        let answer = if node == member.node {
            propose_here(member, group, action.clone(), terms).await
        } else {
            tokio::select! {
                answer = client::propose(member, node, group, &action, terms) => answer,
                () = superseded(member, group, node) => Answer::Unknown,
            }
        };
        match answer {
            Answer::Outcome(outcome) => return Ok(outcome),
            Answer::Overloaded(retry_after) => return Err(StoreError::Overloaded { retry_after }),
            Answer::Unknown => return Err(StoreError::Unknown),
            Answer::Unavailable(reason) => return Err(StoreError::Unavailable { reason }),
            Answer::Unreached(reason) => {
                member.forget_leader(group, node);
                last = Some(StoreError::Unavailable { reason });
            }
            Answer::NotLeader(other) => {
                member.forget_leader(group, node);
                if let Some(other) = other {
                    member.note_leader(group, other);
                }
                hint = other;
            }
        }
    }
    Err(last.unwrap_or_else(|| StoreError::unavailable(format!("no leader of {group} is known"))))
}

/// Stamps and proposes, if this node leads. A proposal that came from another
/// node ends here, too.
pub(crate) async fn propose_here(
    member: &Arc<Member>,
    group: GroupId,
    action: Action,
    terms: Terms,
) -> Answer {
    let Some(replica) = member.replica(group) else { return Answer::NotLeader(None) };
    let Terms { admission, claimant } = terms;
    if admission == Admission::Ordinary && is_led_here(member, group) {
        replica.claims.pass(claimant, &action).await;
    }
    if claimant == 0 {
        return propose_at(member, &replica, action, admission).await;
    }
    let answer = propose_at(member, &replica, action.clone(), admission).await;
    match &answer {
        // What he lost to is over by the time that he is told.
        Answer::Outcome(Outcome::Conflict { .. } | Outcome::Locked(_)) => {
            replica.claims.take(claimant, &action).await;
        }
        // What it locks, others lose to: they wait until it is finished.
        Answer::Outcome(Outcome::Prepared { .. }) => {}
        Answer::Outcome(_) => replica.claims.end(claimant),
        _ => {}
    }
    answer
}

fn is_led_here(member: &Member, group: GroupId) -> bool {
    member.office(group).is_some_and(|office| office.leads)
}

async fn propose_at(
    member: &Arc<Member>,
    replica: &Arc<Replica>,
    action: Action,
    admission: Admission,
) -> Answer {
    let group = replica.group();
    let Some(office) = member.office(group) else { return Answer::NotLeader(None) };
    if !office.leads {
        return Answer::NotLeader(office.leader);
    }
    if replica.is_divided() {
        return Answer::Unavailable("the replicas' digests differ without a majority".to_owned());
    }
    if admission == Admission::Ordinary && member.lacks_room(group) {
        // Not a matter of moments: who waits only holds a connection.
        return Answer::Overloaded(RETRY_WHEN_FULL_AFTER);
    }
    let stamp = match stamp(replica, office.term, &action) {
        Ok(stamp) => stamp,
        Err(reason) => return Answer::Unavailable(reason.to_owned()),
    };
    let is_time = matches!(action, Action::Time(_));
    if !is_time && stamp.since(replica.log_time()) > BEHIND_MAX {
        // An ordinary stamp would be ignored, so time goes first.
        let ahead = Command::new(stamp.0, Action::Time(Time {}));
        match commit(member, group, ahead, Admission::Bypass).await {
            Answer::Outcome(_) => {}
            Answer::Unknown => return Answer::Unavailable("log time did not move".to_owned()),
            refusal => return refusal,
        }
    }
    let version = member.directory.view().version();
    let command = Command { stamp: stamp.0, version, action: Some(action) };
    commit(member, group, command, admission).await
}

async fn commit(member: &Member, group: GroupId, command: Command, admission: Admission) -> Answer {
    let admission = match admission {
        Admission::Ordinary => RaftAdmission::Ordinary,
        Admission::Bypass => RaftAdmission::Bypass,
    };
    let payload = Bytes::from(command.encode_to_vec());
    match member.host.propose(group, payload, admission).await {
        Ok(proposed) => match Outcome::decode(&proposed.answer) {
            Ok(outcome) => Answer::Outcome(outcome),
            Err(fault) => {
                tracing::error!(?fault, %group, "the machine gave no outcome");
                Answer::Unknown
            }
        },
        Err(ProposeError::NotLeader { leader }) => Answer::NotLeader(leader),
        Err(ProposeError::Overloaded) => Answer::Overloaded(RETRY_AFTER),
        Err(ProposeError::NoGroup) => Answer::NotLeader(None),
        Err(ProposeError::Stopped) => Answer::Unavailable("the replica has stopped".to_owned()),
        Err(ProposeError::Unknown) => Answer::Unknown,
    }
}

/// The leader's time, at least that of the transaction's reads.
fn stamp(replica: &Replica, term: u64, action: &Action) -> Result<Timestamp, &'static str> {
    stamp_at(replica.leader_clock.stamp(term)?, action)
}

fn stamp_at(now: Timestamp, action: &Action) -> Result<Timestamp, &'static str> {
    if let Action::Fence(fence) = action
        && Timestamp(fence.until).since(now) > FENCED_MAX
    {
        return Err("the fence would lapse too late by the leader's clock");
    }
    let Some(txn) = transaction(action) else { return Ok(now) };
    let read_time = Timestamp(txn.read_time);
    if read_time.since(now) > AHEAD_MAX {
        // A stamp in effect, of a node whose clock is off.
        return Err("the transaction's reads were made ahead of the leader's clock");
    }
    if Timestamp(txn.not_after).since(now) > LAPSES_AFTER_MAX {
        return Err("the transaction would lapse too late by the leader's clock");
    }
    Ok(now.max(read_time))
}

fn transaction(action: &Action) -> Option<&Txn> {
    match action {
        Action::Commit(txn) => Some(txn),
        Action::Prepare(prepare) => prepare.txn.as_ref(),
        Action::Decide(decide) => decide.txn.as_ref(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(read_time: u64, not_after: u64) -> Action {
        Action::Commit(Txn { read_time, not_after, ..Txn::default() })
    }

    #[test]
    fn a_coordinator_whose_clock_is_off_is_told_so() {
        let now = Timestamp(100_000);
        assert_eq!(stamp_at(now, &commit(99_000, 106_000)), Ok(now));
        assert_eq!(stamp_at(now, &commit(100_900, 106_900)), Ok(Timestamp(100_900)));
        assert!(stamp_at(now, &commit(101_001, 107_001)).is_err());
        // It read before its clock jumped, and would lapse in an hour.
        assert!(stamp_at(now, &commit(99_000, 3_700_000)).is_err());
    }

    /// Found by simulation, seed 1: a backup was made by a node whose clock was a quarter
    /// of an hour ahead, and died; for as long nothing could be written over two shards.
    #[test]
    fn a_fence_that_would_last_too_long_is_refused() {
        let now = Timestamp(100_000);
        let fence = |until| Action::Fence(cardea_storage::txn::command::Fence { until });
        assert_eq!(stamp_at(now, &fence(130_000)), Ok(now));
        assert_eq!(stamp_at(now, &fence(160_000)), Ok(now));
        assert!(stamp_at(now, &fence(160_001)).is_err());
        // It is lifted by one that lapsed long ago.
        assert_eq!(stamp_at(now, &fence(0)), Ok(now));
    }
}
