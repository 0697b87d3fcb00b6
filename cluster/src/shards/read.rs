//! Reads: from the replica here if there is one, else from a node that has one.
//!
//! - strong: a read index confirmed by the leader's quorum after the read began,
//!   reached here; expiry is judged by the leader's time, which comes with it
//! - at least: that revision applied here
//! - bounded: a confirmed read index that was asked for at most that long ago, by
//!   this node's monotonic clock, was reached here; heartbeats prove nothing
//! - eventual: as it is
//!
//! Handle and engine snapshot are taken after the wait.

use std::{future::Future, sync::Arc, time::Duration};

use cardea_raft::{GroupId, NodeId, ReadError};
use cardea_storage::{
    StoreError, Timestamp,
    planted::{self, Bug},
    protocol::{
        pin::Pinned,
        shards::{Freshness, ShardId, ShardRead, ShardSeen, read_view},
    },
    store::Read,
};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;

use crate::{
    directory::records::NodeState,
    member::Member,
    replica::{ConfirmedRead, Replica},
    service::client,
};

/// Nodes that are asked in turn, at most.
const ASKED_MAX: usize = 3;
/// How long an answer may take before the next node is asked, too: longer than a strong
/// read takes from the farthest region. Of a region that is cut off nobody says that it is.
const HEDGE_AFTER: Duration = Duration::from_millis(400);

/// Reads a shard, here or elsewhere.
pub(crate) async fn read(
    member: &Arc<Member>,
    group: GroupId,
    read: ShardRead,
) -> Result<Option<ShardSeen>, StoreError> {
    let here = member.replica(group).filter(|replica| replica.owns_slots());
    if let Some(replica) = here {
        // A replica that its leader does not reach cannot become fresh; others can.
        if read.freshness == Freshness::Eventual || !is_cut_off(member, group) {
            let answer = read_here(member, &replica, read.clone()).await;
            if !was_removed(member, &replica, &answer) {
                return answer;
            }
        }
    }
    let nodes = nodes_with(member, group).into_iter().take(ASKED_MAX);
    let unknown = StoreError::unavailable(format!("no replica of {group} is known"));
    first_answer(nodes, unknown, |node| client::read(member, node, group, &read)).await
}

/// Asks one after the other, the next when one does not answer for long or cannot, and
/// gives the first answer. Reads change nothing, so one too many does no harm.
async fn first_answer<T, F: Future<Output = Result<T, StoreError>>>(
    nodes: impl IntoIterator<Item = NodeId>,
    mut last: StoreError,
    ask: impl Fn(NodeId) -> F,
) -> Result<T, StoreError> {
    let mut nodes = nodes.into_iter();
    let mut asked = FuturesUnordered::new();
    loop {
        let next = nodes.next();
        let more = next.is_some();
        asked.extend(next.map(&ask));
        let answer = match more {
            true => timeout(HEDGE_AFTER, asked.next()).await,
            false => Ok(asked.next().await),
        };
        match answer {
            Ok(Some(Err(error @ StoreError::Unavailable { .. }))) => last = error,
            Ok(Some(answer)) => return answer,
            Ok(None) => return Err(last),
            // Others may know.
            Err(_) => {}
        }
    }
}

/// Reads the replica here. A read that came from another node ends here, too. Where the
/// machine fails, the node stops.
pub(crate) async fn read_here(
    member: &Arc<Member>,
    replica: &Arc<Replica>,
    read: ShardRead,
) -> Result<Option<ShardSeen>, StoreError> {
    look(member, replica, read).await.inspect_err(|error| {
        if let StoreError::Fault(fault) = error {
            member.raise_for(replica, fault.clone());
        }
    })
}

async fn look(
    member: &Arc<Member>,
    replica: &Arc<Replica>,
    read: ShardRead,
) -> Result<Option<ShardSeen>, StoreError> {
    let now = wait(member, replica, read.freshness).await?;
    if planted::is(Bug::LocksOfAnotherInstant) {
        return of_two_instants(replica, &read, now).await;
    }
    if read.reads.iter().all(|read| matches!(read, Read::Get(_))) {
        // A few microseconds: handing it to another thread would cost more.
        return replica.machine().look(|view| read_view(view, &read, now));
    }
    let replica = replica.clone();
    let seen = cardea_raft::blocking::spawn(move || {
        let view = replica.machine().view()?;
        read_view(&view, &read, now)
    });
    // It ends early only with its runtime.
    seen.await.map_err(|_| StoreError::unavailable("the node is stopping"))?
}

/// The planted bug: rows now, and their locks a moment later.
async fn of_two_instants(
    replica: &Replica,
    read: &ShardRead,
    now: Timestamp,
) -> Result<Option<ShardSeen>, StoreError> {
    let rows = read_view(&replica.machine().view()?, read, now)?;
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    let locks = read_view(&replica.machine().view()?, read, now)?;
    Ok(rows.zip(locks).map(|(mut rows, locks)| {
        rows.seen.pending = locks.seen.pending;
        rows
    }))
}

/// Pins the replica here; `None` if there is none, or if none here can be fresh.
pub(crate) async fn pin(
    member: &Arc<Member>,
    group: GroupId,
    freshness: Freshness,
) -> Result<Option<Pinned>, StoreError> {
    let Some(replica) = member.replica(group).filter(|replica| replica.owns_slots()) else {
        return Ok(None);
    };
    if freshness != Freshness::Eventual && is_cut_off(member, group) {
        return Ok(None);
    }
    let waited = wait(member, &replica, freshness).await;
    if was_removed(member, &replica, &waited) {
        return Ok(None);
    }
    let now = waited?;
    let pinned = Pinned::new(replica.machine().view()?, ShardId(group.0), now)?;
    Ok(Some(pinned.of_incarnation(member.directory.view().incarnation())))
}

/// Whether a replica could not answer because it left this node meanwhile: others can.
fn was_removed<T>(member: &Member, replica: &Arc<Replica>, answer: &Result<T, StoreError>) -> bool {
    let stays = |now: Arc<Replica>| Arc::ptr_eq(&now, replica);
    matches!(answer, Err(StoreError::Unavailable { .. }))
        && !member.replica(replica.group()).is_some_and(stays)
}

/// Whether this node's replica does not hear from a leader that others hear.
fn is_cut_off(member: &Member, group: GroupId) -> bool {
    member.office(group).is_none_or(|office| office.leader.is_none())
        && member.leader_of(group).is_some_and(|leader| member.is_heard(leader))
}

/// Waits until the replica is as fresh as asked, and gives the time by which
/// expiry is to be judged, at least.
async fn wait(
    member: &Member,
    replica: &Replica,
    freshness: Freshness,
) -> Result<Timestamp, StoreError> {
    let clock = &member.clock;
    match freshness {
        Freshness::Eventual => Ok(member.reader_now()),
        Freshness::Strong => barrier(member, replica).await,
        Freshness::Bounded(age) => {
            let confirmed = *replica.confirmed.lock();
            let led = member.office(replica.group()).is_some_and(|office| office.leader.is_some());
            let fresh = planted::is(Bug::BoundedByHeartbeats) && led
                || confirmed.is_some_and(|read| clock.monotonic().saturating_sub(read.sent) <= age);
            if fresh { Ok(member.reader_now()) } else { barrier(member, replica).await }
        }
        Freshness::AtLeast(_) if !replica.owns_slots() => barrier(member, replica).await,
        Freshness::AtLeast(revision) => {
            let ahead = || replica.index_before(revision);
            let reached = member.host.reached_all(replica.group(), ahead).await;
            reached.map(|()| member.reader_now()).map_err(|error| unavailable(&error))
        }
    }
}

/// Waits for a read index asked for after the call, and gives the leader's time.
async fn barrier(member: &Member, replica: &Replica) -> Result<Timestamp, StoreError> {
    let sent = member.clock.monotonic();
    let answer =
        member.host.read_barrier(replica.group()).await.map_err(|error| unavailable(&error))?;
    let mut confirmed = replica.confirmed.lock();
    if confirmed.is_none_or(|read| read.sent < sent) {
        *confirmed = Some(ConfirmedRead { sent });
    }
    Ok(Timestamp(answer.leaders_now))
}

fn unavailable(error: &ReadError) -> StoreError {
    StoreError::unavailable(format!("no linearizable read now: {error}"))
}

/// Nodes that hold a replica: the leader's first, then those of this region.
pub(crate) fn nodes_with(member: &Member, group: GroupId) -> Vec<NodeId> {
    let view = member.directory.view();
    let Some(shard) = view.shards.get(&group) else { return Vec::new() };
    let leader = member.leader_of(group);
    let mut nodes: Vec<NodeId> = shard
        .replicas
        .iter()
        .map(|replica| replica.on())
        .filter(|node| *node != member.node)
        .collect();
    nodes.sort_by_key(|node| {
        let record = view.nodes.get(node);
        let gone = record.is_none_or(|record| record.state() == NodeState::Decommissioned);
        let near = record.is_some_and(|record| record.region == member.region);
        (gone, Some(*node) != leader, !member.is_heard(*node), !near, *node)
    });
    nodes
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    /// Which node answers, and after how many virtual milliseconds; each of them takes so
    /// long, and says whether it can.
    async fn asked(nodes: &[(u64, bool)]) -> (Result<NodeId, StoreError>, u128) {
        let began = Instant::now();
        let ids = (0..nodes.len() as u64).map(NodeId);
        let answer = first_answer(ids, StoreError::unavailable("nobody"), |node| async move {
            let (takes_ms, can) = nodes[usize::try_from(node.0).unwrap()];
            // On a paused clock: that it takes so long is what this is about.
            sleep(Duration::from_millis(takes_ms)).await;
            can.then_some(node).ok_or_else(|| StoreError::unavailable(node.to_string()))
        });
        (answer.await, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_answer_for_long_is_not_waited_for() {
        assert!(matches!(asked(&[(10, true), (1, true)]).await, (Ok(NodeId(0)), 10)));
        // Cut off: the second is asked, and answers first.
        assert!(matches!(asked(&[(6_000, true), (30, true)]).await, (Ok(NodeId(1)), 430)));
        // Slow, and the second slower.
        assert!(matches!(asked(&[(500, true), (200, true)]).await, (Ok(NodeId(0)), 500)));
        // Who cannot answer is no reason to wait for.
        assert!(matches!(asked(&[(10, false), (20, true)]).await, (Ok(NodeId(1)), 30)));
        assert!(matches!(
            asked(&[(6_000, true), (10, false), (5, true)]).await,
            (Ok(NodeId(2)), 415)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_can_answer_the_last_one_says_why() {
        let (answer, _) = asked(&[(10, false), (20, false)]).await;
        assert!(answer.unwrap_err().to_string().contains(&NodeId(1).to_string()));
        let (answer, _) = asked(&[]).await;
        assert!(answer.unwrap_err().to_string().contains("nobody"));
    }
}
