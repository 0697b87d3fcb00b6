//! Leaders whose process is gone.
//!
//! When a process dies, the kernel that it ran on ends its streams, and refuses whoever
//! calls it again. A follower that sees both need not wait for an election timeout: it
//! lets go of the leader's lease and asks for votes. It takes nobody's word but its own,
//! and so do the others, who grant their votes when they have seen the same: one that
//! alone is refused deposes nobody, and a majority of them does not follow that leader
//! any more anyway. A machine that lost its power, or a network that drops what it is
//! given, refuses nobody; there, timeouts decide as ever.
//!
//! openraft lets go of a lease when the leader hands over, so it is told that the leader
//! did. No read and no write rests on leases: a wrong guess costs an election.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join_all;
use openraft::{ServerState, async_runtime::WatchReceiver as _, raft::TransferLeaderRequest};
use parking_lot::Mutex;
use tokio::time::sleep;

use crate::{
    group::Group,
    host::Host,
    ids::{NodeId, ReplicaId},
    read::Witnesses,
    status::GroupStatus,
};

/// When a node is called after a stream of it ended, in milliseconds, each after the one
/// before. A process that dies closes its streams and its listener one after the other.
const KNOCKS_MS: [u64; 4] = [0, 5, 25, 100];
/// Between two followers that seek to succeed the same leader.
const STAGGER: Duration = Duration::from_millis(50);
/// When a follower asks for votes, in milliseconds, each after the one before: others may
/// learn later that the leader is gone. Timeouts decide after that.
const CAMPAIGNS_MS: [u64; 5] = [0, 60, 90, 120, 150];

/// The nodes that are being called to see whether they refuse.
#[derive(Clone, Default)]
pub(crate) struct Knocking(Arc<Mutex<BTreeSet<NodeId>>>);

impl Host {
    /// A stream of `node` ended. Has the groups that it led elect another, if its
    /// process is gone.
    pub(crate) fn lost(&self, node: NodeId) {
        let led: Vec<Weak<Group>> = self
            .running_groups()
            .iter()
            .filter(|group| group.status().leader.is_some_and(|(_, leader)| leader == node))
            .map(Arc::downgrade)
            .collect();
        let knocking = self.knocking.clone();
        if led.is_empty() || !knocking.0.lock().insert(node) {
            return;
        }
        let peers = self.peers.clone();
        drop(self.runtime.spawn(async move {
            let gone = is_gone(peers.as_ref(), node).await;
            knocking.0.lock().remove(&node);
            if gone {
                tracing::info!(%node, groups = led.len(), "the process of a leader is gone");
                join_all(led.iter().map(|group| succeed(group, node))).await;
            }
        }));
    }
}

/// Whether nobody listens any more where a node did.
async fn is_gone(peers: &dyn Witnesses, node: NodeId) -> bool {
    for pause_ms in KNOCKS_MS {
        sleep(Duration::from_millis(pause_ms)).await;
        if peers.refuses(node).await {
            return true;
        }
    }
    false
}

/// Seeks to lead a group in place of a leader that is gone, or to let another.
async fn succeed(group: &Weak<Group>, gone: NodeId) {
    let Some(succession) = group.upgrade().and_then(|group| Succession::of(&group, gone)) else {
        return;
    };
    if !release(group, &succession).await {
        return;
    }
    let Some(rank) = succession.rank else { return };
    sleep(STAGGER * rank).await;
    for pause_ms in CAMPAIGNS_MS {
        sleep(Duration::from_millis(pause_ms)).await;
        let Some(group) = group.upgrade().filter(|group| succession.is_open(group)) else {
            return;
        };
        if group.raft.trigger().elect(true).await.is_err() {
            return;
        }
    }
}

/// Lets go of the leader's lease; whether the replica still runs.
async fn release(group: &Weak<Group>, succession: &Succession) -> bool {
    let Some(group) = group.upgrade() else { return false };
    group.rest.wake();
    let vote = group.raft.metrics().borrow_watched().vote;
    // To somebody else than this replica, which would stand without asking first.
    let handed = TransferLeaderRequest::new(vote, succession.leader, None);
    group.raft.handle_transfer_leader(handed).await.is_ok()
}

/// The office that a leader left.
#[derive(Debug, PartialEq, Eq)]
struct Succession {
    leader: ReplicaId,
    term: u64,
    /// How many go first; `None` if the replica here does not vote.
    rank: Option<u32>,
}

impl Succession {
    /// If the group follows a replica on the node that is gone.
    fn of(group: &Group, gone: NodeId) -> Option<Self> {
        Self::seen(&group.status(), gone)
    }

    fn seen(status: &GroupStatus, gone: NodeId) -> Option<Self> {
        let (leader, _) = status.leader.filter(|(_, node)| *node == gone)?;
        // Of two candidates of one term openraft prefers the one with the greater id.
        let mut heirs = status.voters.keys().rev().filter(|voter| **voter != leader);
        let rank = heirs.position(|voter| *voter == status.replica);
        let rank = rank.and_then(|rank| u32::try_from(rank).ok());
        Some(Self { leader, term: status.term, rank })
    }

    /// Whether nobody took the office, nor stands for it here.
    fn is_open(&self, group: &Group) -> bool {
        let metrics = group.raft.metrics();
        let metrics = metrics.borrow_watched();
        metrics.current_term == self.term && metrics.state != ServerState::Candidate
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::status::Role;

    #[test]
    fn the_greatest_goes_first_and_learners_never() {
        let voters: BTreeMap<_, _> = (1..=4).map(|id| (ReplicaId(id), NodeId(10 * id))).collect();
        let rank = |replica: u64, gone: u64| {
            let status = GroupStatus {
                replica: ReplicaId(replica),
                role: Role::Follower,
                term: 7,
                leader: Some((ReplicaId(3), NodeId(30))),
                voters: voters.clone(),
                ..GroupStatus::default()
            };
            Succession::seen(&status, NodeId(gone)).map(|succession| succession.rank)
        };
        assert_eq!([4, 2, 1].map(|id| rank(id, 30)), [Some(Some(0)), Some(Some(1)), Some(Some(2))]);
        assert_eq!(rank(5, 30), Some(None));
        assert_eq!(rank(1, 20), None);
    }
}
