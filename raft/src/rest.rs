//! Replicas at rest.
//!
//! What a group costs that nobody writes to are the ticks of its replicas, and what its
//! heartbeats wake: of hundreds of groups most are such. So a replica stops its clock
//! when nothing has been new for a while:
//!
//! - A *follower* that has applied all that its leader has. Heartbeats that tell it
//!   nothing new are answered here, and openraft does not see them. They renew the lease
//!   of the leader all the same: who asks for a vote meanwhile is refused, as openraft
//!   would refuse it. When they stay away for as long as openraft would wait, the clock
//!   goes on, and openraft finds that it has heard of nobody for too long.
//! - A *leader* whose replicas have all of its log. The host says so to them, for all such
//!   leaders at once: see [`pulse`](crate::pulse).
//!
//! What changes a replica's leader, term or role starts its clock, and so does whatever
//! is new. Nothing is agreed between nodes, and no message says that somebody rests; a
//! node that knows nothing of this sees heartbeats and answers.
//!
//! No read and no write rests on clocks or leases, so a replica that rested when it should
//! not would cost time, and one that wakes needlessly costs a tick.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::join_all;
use openraft::{
    Instant as _,
    async_runtime::WatchReceiver as _,
    raft::{VoteRequest, VoteResponse},
};
use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::{
    host::Host,
    ids::{GroupId, NodeId, ReplicaId},
    log::Glance,
    pulse::Pulse,
    replica::Progress,
    settings::{Settings, Timing},
    types::{Beat, LogId, Raft, TypeConfig, Vote},
};

/// Pulses are sent at each so many ticks, somewhat less often than openraft's heartbeats:
/// half of a lease is left when the next one is due.
const PULSE_TICKS: u64 = 6;
/// openraft's own heartbeats are asked for at each so many, which the answers to pulses
/// stand for. Nobody else hears of them: they keep openraft's lease, of which a third is
/// left when the next one is due.
const BEAT_TICKS: u64 = 8;
/// A yes to a pulse counts for so many: the next one may be late, and is not to be missed.
const ASSENT_TICKS: u32 = 9;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spans {
    /// Nothing was new for so long: it rests. Never, if there is none.
    quiet: Option<Duration>,
    /// How long a leader is trusted that was heard.
    lease: Duration,
    /// How long a follower at rest hears nobody before it wakes.
    silence: Duration,
    /// How long a yes to a pulse counts.
    assent: Duration,
}

impl Spans {
    fn of(settings: &Settings, group: GroupId, replica: ReplicaId) -> Self {
        let Timing { heartbeat_ms, election_ms_min, election_ms_max, .. } = settings.timing;
        let quiet = heartbeat_ms * settings.rest_beats;
        // Followers of one leader are not to stand at the same time; openraft draws.
        let spread = (election_ms_max - election_ms_min).max(1);
        let drawn =
            (group.0.wrapping_mul(31) ^ replica.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let silence = election_ms_max + election_ms_min + drawn % spread;
        Self {
            quiet: (quiet > 0).then(|| Duration::from_millis(quiet)),
            lease: Duration::from_millis(election_ms_max),
            silence: Duration::from_millis(silence),
            assent: settings.timing.tick() * ASSENT_TICKS,
        }
    }
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The clock ticks. Since when nothing is new, and the index then.
    Awake { quiet: Option<(u64, Instant)> },
    /// It follows; when its leader was heard last.
    Follows { heard: Instant },
    /// It leads; the end of its log.
    Leads { index: u64 },
}

impl State {
    const AWAKE: Self = Self::Awake { quiet: None };
}

/// Whether a replica rests.
pub(crate) struct Rest {
    group: GroupId,
    replica: ReplicaId,
    raft: Raft,
    log: Glance,
    progress: Arc<Progress>,
    spans: Spans,
    state: Mutex<State>,
}

impl Rest {
    pub(crate) fn new(
        raft: &Raft,
        log: &Glance,
        progress: &Arc<Progress>,
        settings: &Settings,
        (group, replica): (GroupId, ReplicaId),
    ) -> Self {
        Self {
            group,
            replica,
            raft: raft.clone(),
            log: log.clone(),
            progress: progress.clone(),
            spans: Spans::of(settings, group, replica),
            state: Mutex::new(State::AWAKE),
        }
    }

    /// Whether its clock stands.
    pub(crate) fn is_resting(&self) -> bool {
        !matches!(*self.state.lock(), State::Awake { .. })
    }

    /// Starts its clock: something is new, or about to be.
    pub(crate) fn wake(&self) {
        self.enter(&mut self.state.lock(), State::AWAKE);
    }

    /// Takes a heartbeat; whether that is all there is to do, and the answer is that it
    /// succeeded.
    pub(crate) fn hears(&self, beat: &Beat) -> bool {
        if self.spans.quiet.is_none() {
            return false;
        }
        let told = self.told_nothing_new(beat);
        let now = Instant::now();
        let mut state = self.state.lock();
        let next = match (told, *state) {
            (None, _) => State::AWAKE,
            (Some(_), State::Follows { .. }) => State::Follows { heard: now },
            (Some(index), state) if self.is_quiet(state, index, now) => {
                State::Follows { heard: now }
            }
            (Some(index), State::Awake { quiet: Some((at, since)) }) if at == index => {
                State::Awake { quiet: Some((at, since)) }
            }
            (Some(index), _) => State::Awake { quiet: Some((index, now)) },
        };
        self.enter(&mut state, next);
        matches!(next, State::Follows { .. })
    }

    /// The answer to somebody who asks for a vote while the leader is heard, and nobody
    /// else would say so.
    pub(crate) fn refuses(
        &self,
        request: &VoteRequest<TypeConfig>,
    ) -> Option<VoteResponse<TypeConfig>> {
        let State::Follows { heard } = *self.state.lock() else { return None };
        if request.leadership_transfer || heard.elapsed() >= self.spans.lease {
            return None;
        }
        let extent = self.log.extent()?;
        Some(VoteResponse::new(extent.vote?, extent.last, false))
    }

    /// Wakes a follower that has heard nobody for too long.
    fn listen(&self, now: Instant) {
        let mut state = self.state.lock();
        if let State::Follows { heard } = *state
            && now.duration_since(heard) >= self.spans.silence
        {
            self.enter(&mut state, State::AWAKE);
        }
    }

    /// Whether it leads at rest.
    fn leads(&self) -> bool {
        matches!(*self.state.lock(), State::Leads { .. })
    }

    /// Looks whether it leads at rest; then its pulses are added to those for each node.
    /// Whether it has come to rest just now.
    fn pulse(&self, now: Instant, pulses: &mut BTreeMap<NodeId, Vec<Pulse>>) -> bool {
        if matches!(*self.state.lock(), State::Follows { .. }) {
            return false;
        }
        // Not under the lock: who tells of a change holds the metrics, and wakes this.
        let idle = self.leads_with_nothing_to_do();
        let index = idle.as_ref().map(|idle| idle.end.index);
        let mut state = self.state.lock();
        let next = match (*state, index) {
            (State::Follows { .. }, _) | (State::Awake { .. }, None) => return false,
            (State::Leads { index: at }, index) if index == Some(at) => *state,
            (State::Leads { .. }, _) => State::AWAKE,
            (state, Some(index)) if self.is_quiet(state, index, now) => State::Leads { index },
            (State::Awake { quiet: Some((at, _)) }, Some(index)) if at == index => return false,
            (State::Awake { .. }, Some(index)) => State::Awake { quiet: Some((index, now)) },
        };
        let begins = matches!(*state, State::Awake { .. });
        self.enter(&mut state, next);
        let (State::Leads { .. }, Some(Idle { vote, end, followers })) = (next, idle) else {
            return false;
        };
        for (to, node) in followers {
            let (group, from, counts_for) = (self.group, self.replica, self.spans.assent);
            pulses.entry(node).or_default().push(Pulse { group, from, to, vote, end, counts_for });
        }
        begins
    }

    fn enter(&self, state: &mut State, next: State) {
        let ticks = |state: &State| matches!(state, State::Awake { .. });
        if ticks(state) != ticks(&next) {
            self.raft.runtime_config().tick(ticks(&next));
            tracing::debug!(group = %self.group, from = ?state, to = ?next, "a replica rests or wakes");
        }
        *state = next;
    }

    /// Whether it has been awake at this index for long enough.
    fn is_quiet(&self, state: State, index: u64, now: Instant) -> bool {
        match (state, self.spans.quiet) {
            (State::Awake { quiet: Some((at, since)) }, Some(span)) => {
                at == index && now.duration_since(since) >= span
            }
            _ => false,
        }
    }

    /// The end of the log, if a heartbeat says that it is the leader's too, and all is
    /// committed, and if it is applied here.
    fn told_nothing_new(&self, beat: &Beat) -> Option<u64> {
        let end = beat.prev_log_id.filter(|_| beat.entries.is_empty())?;
        let extent = self.log.extent()?;
        let is_same = beat.vote.committed
            && extent.vote == Some(beat.vote)
            && extent.last == Some(end)
            && beat.leader_commit == Some(end)
            && self.progress.applied() == Some(end.index);
        is_same.then_some(end.index)
    }

    /// If this replica leads, and every member has all of its log.
    fn leads_with_nothing_to_do(&self) -> Option<Idle> {
        self.spans.quiet?;
        let extent = self.log.extent()?;
        let is_own = |vote: &Vote| vote.committed && vote.leader_id.node_id == self.replica;
        let vote = extent.vote.filter(is_own)?;
        let end = extent.last.filter(|end| self.progress.applied() == Some(end.index))?;
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = &metrics.membership_config;
        let is_settled = metrics.state.is_leader()
            && metrics.vote == vote
            && metrics.last_log_index == Some(end.index)
            && members.get_joint_config().len() == 1
            && metrics.committed_membership_config.log_id() == members.log_id();
        let replication = metrics.replication.as_ref().filter(|_| is_settled)?;
        if !replication.values().all(|matched| *matched == Some(end)) {
            return None;
        }
        let others = members.nodes().filter(|(id, _)| **id != self.replica);
        let followers: Vec<_> = others.map(|(id, member)| (*id, member.node)).collect();
        // One that hears no quorum falls silent, as openraft does, so that others may try.
        let lease = self.spans.lease;
        let hears = metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() < lease);
        (followers.is_empty() || hears).then_some(Idle { vote, end, followers })
    }
}

/// What a leader with nothing to do has to say, and to whom.
struct Idle {
    vote: Vote,
    end: LogId,
    followers: Vec<(ReplicaId, NodeId)>,
}

impl Host {
    /// Whether the replica of a group here is at rest: nothing has been new for a while.
    pub fn rests(&self, group: GroupId) -> bool {
        self.group(group).is_some_and(|group| group.rest.is_resting())
    }
}

/// Looks at every replica of a host, at each tick, until the host is gone.
pub(crate) async fn keep(host: Weak<Host>, tick: Duration) {
    let mut period = interval(tick);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for number in 0_u64.. {
        period.tick().await;
        let Some(host) = host.upgrade() else { return };
        let now = Instant::now();
        host.groups.read().values().for_each(|group| group.rest.listen(now));
        let (pulses_are_due, beats_are_due) =
            (number.is_multiple_of(PULSE_TICKS), number.is_multiple_of(BEAT_TICKS));
        if !pulses_are_due && !beats_are_due {
            continue;
        }
        let mut pulses = BTreeMap::new();
        let beating = host.running_groups().into_iter().filter(|group| {
            let begins = pulses_are_due && group.rest.pulse(now, &mut pulses);
            begins || beats_are_due && group.rest.leads()
        });
        let beating: Vec<_> = beating.collect();
        pulses.into_iter().for_each(|(node, pulses)| host.peers.pulse(node, pulses));
        let beats = beating.into_iter().map(|group| async move {
            // A replica that is stopping needs none.
            drop(group.raft.trigger().heartbeat().await);
        });
        // One that hangs keeps nobody waiting.
        drop(timeout(tick, join_all(beats)).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_hears_nobody_waits_as_long_as_openraft_would_and_not_as_long_as_others() {
        let settings = Settings::default();
        let spans = |replica| Spans::of(&settings, GroupId(7), ReplicaId(replica));
        let Timing { election_ms_min, election_ms_max, .. } = settings.timing;
        for replica in 1..100 {
            let silence = u64::try_from(spans(replica).silence.as_millis()).unwrap();
            assert!((election_ms_max + election_ms_min..2 * election_ms_max).contains(&silence));
        }
        let drawn: std::collections::BTreeSet<_> = (1..100).map(|id| spans(id).silence).collect();
        assert!(drawn.len() > 50, "{drawn:?}");
        let never = Settings { rest_beats: 0, ..settings };
        assert_eq!(Spans::of(&never, GroupId(7), ReplicaId(1)).quiet, None);
    }
}
