//! Heartbeats of leaders at rest.
//!
//! What a leader at rest has to say does not change. openraft keeps a task a follower to
//! say it, and wakes it and its core several times a heartbeat. So the host says it for
//! all such leaders at once: a *pulse* for each follower, which on the wire is a heartbeat
//! like any other.
//!
//! openraft's leader has to hear that a quorum follows it all the same, or it takes no
//! proposals. Its own heartbeats are answered from memory: whoever said yes to a pulse
//! that said the same, a moment ago, would say so again. Who did not say yes in time is
//! asked by openraft's heartbeat itself, as if there were no pulses.
//!
//! So the lease of a leader at rest ends later by as long as an answer counts. No read
//! rests on leases (see [`read`](crate::read)): such a leader takes proposals for longer
//! that no quorum will answer.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    ids::{GroupId, ReplicaId},
    types::{Beat, LogId, Vote},
};

/// What a leader at rest says to one follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// The group.
    pub group: GroupId,
    /// The leader.
    pub from: ReplicaId,
    /// The follower.
    pub to: ReplicaId,
    /// The vote that the leader has.
    pub vote: Vote,
    /// The end of its log; all of it is committed, and the follower has it.
    pub end: LogId,
    /// How long a yes counts, from when the pulse is sent.
    pub counts_for: Duration,
}

impl Pulse {
    /// The heartbeat that it is.
    pub fn beat(&self) -> Beat {
        Beat {
            vote: self.vote,
            prev_log_id: Some(self.end),
            entries: Vec::new(),
            leader_commit: Some(self.end),
        }
    }
}

/// Who said yes to a pulse. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Assents(Arc<Mutex<HashMap<(GroupId, ReplicaId), Assent>>>);

struct Assent {
    vote: Vote,
    end: LogId,
    until: Instant,
}

impl Assents {
    /// A pulse that was sent at this time was answered with yes, or not at all or otherwise.
    pub(crate) fn answered(&self, pulse: &Pulse, sent: Instant, is_yes: bool) {
        let Pulse { group, to, vote, end, counts_for, .. } = *pulse;
        let mut assents = self.0.lock();
        if is_yes {
            assents.insert((group, to), Assent { vote, end, until: sent + counts_for });
        } else {
            assents.remove(&(group, to));
        }
    }

    /// Whether the replica would say yes to a heartbeat, as it did a moment ago.
    pub(crate) fn cover(&self, group: GroupId, replica: ReplicaId, beat: &Beat) -> bool {
        let mut assents = self.0.lock();
        let Some(assent) = assents.get(&(group, replica)) else { return false };
        if assent.until <= Instant::now() {
            assents.remove(&(group, replica));
            return false;
        }
        beat.entries.is_empty()
            && beat.vote == assent.vote
            && beat.prev_log_id == Some(assent.end)
            && beat.leader_commit == Some(assent.end)
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::types::LeaderId;

    const GROUP: GroupId = GroupId(7);
    const FOLLOWER: ReplicaId = ReplicaId(2);

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, ReplicaId(1)), index)
    }

    fn pulse(term: u64, index: u64) -> Pulse {
        Pulse {
            group: GROUP,
            from: ReplicaId(1),
            to: FOLLOWER,
            vote: Vote::new_committed(term, ReplicaId(1)),
            end: id(term, index),
            counts_for: Duration::from_millis(275),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_yes_counts_for_a_while_for_who_says_the_same() {
        let assents = Assents::default();
        let said = pulse(3, 9);
        let covers = |beat: &Beat| assents.cover(GROUP, FOLLOWER, beat);
        assert!(!covers(&said.beat()));
        assents.answered(&said, Instant::now(), true);
        assert!(covers(&said.beat()));
        assert!(!assents.cover(GROUP, ReplicaId(3), &said.beat()));
        assert!(!assents.cover(GroupId(8), FOLLOWER, &said.beat()));
        // Another term, another end, or not all committed.
        assert!(!covers(&pulse(4, 9).beat()));
        assert!(!covers(&pulse(3, 10).beat()));
        assert!(!covers(&Beat { leader_commit: Some(id(3, 8)), ..said.beat() }));

        tokio::time::advance(Duration::from_millis(274)).await;
        assert!(covers(&said.beat()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!covers(&said.beat()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_and_silence_take_a_yes_back() {
        let assents = Assents::default();
        assents.answered(&pulse(3, 9), Instant::now(), true);
        assents.answered(&pulse(3, 9), Instant::now(), false);
        assert!(!assents.cover(GROUP, FOLLOWER, &pulse(3, 9).beat()));
    }
}
