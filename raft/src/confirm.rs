//! Confirming a read index; [`read`](crate::read) says why it is one.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_storage::planted::{self, Bug};
use futures::{StreamExt, stream::FuturesUnordered};
use openraft::async_runtime::WatchReceiver as _;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use crate::{
    encoding::{LogIdRecord, VoteRecord},
    group::Group,
    ids::{NodeId, ReplicaId},
    machine::Position,
    read::{Leads, Question, ReadError, ReadIndexAnswer, Testimony},
    types::StoredMembership,
};

/// Bounds of how long the voters asked first may take before others are asked, too.
const HEDGE_MIN: Duration = Duration::from_millis(2);
const HEDGE_MAX: Duration = Duration::from_millis(50);
/// Of so many confirmations one asks all voters, to learn who is quick.
const TRIED_EVERY: u64 = 32;

/// The node that answered last: the first to be asked again, by every group, so that
/// the questions of many groups go together.
pub(crate) type Brisk = Arc<Mutex<Option<NodeId>>>;

/// What earlier confirmations of a group taught.
#[derive(Debug, Default)]
pub(crate) struct Confirmations {
    brisk: Brisk,
    /// How long a confirmation takes, smoothed, in microseconds.
    took_us: AtomicU64,
    /// How many there were.
    made: AtomicU64,
}

impl Confirmations {
    pub(crate) fn new(brisk: Brisk) -> Self {
        Self { brisk, took_us: AtomicU64::new(0), made: AtomicU64::new(0) }
    }

    fn hedge(&self) -> Duration {
        let took = Duration::from_micros(self.took_us.load(Ordering::Relaxed));
        (3 * took).clamp(HEDGE_MIN, HEDGE_MAX)
    }

    /// Whether this one asks all voters. Who answered last is asked first for ever, as long as
    /// it answers, though another may be nearer.
    fn tries_all(&self) -> bool {
        self.made.fetch_add(1, Ordering::Relaxed).is_multiple_of(TRIED_EVERY)
    }

    fn took(&self, time: Duration) {
        let sample = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let before = self.took_us.load(Ordering::Relaxed);
        // Lost updates do no harm.
        self.took_us.store(before - before / 8 + sample / 8, Ordering::Relaxed);
    }
}

/// Whom a replica follows, by its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) term: u64,
    pub(crate) leader: ReplicaId,
}

/// Voters that spoke for a leader.
#[derive(Debug)]
struct Tally {
    configurations: Vec<BTreeSet<ReplicaId>>,
    agreed: BTreeSet<ReplicaId>,
}

impl Tally {
    fn new(configurations: Vec<BTreeSet<ReplicaId>>) -> Self {
        Self { configurations, agreed: BTreeSet::new() }
    }

    /// A majority of each configuration.
    fn is_quorum(&self) -> bool {
        !self.configurations.is_empty()
            && self.configurations.iter().all(|voters| {
                2 * voters.iter().filter(|voter| self.agreed.contains(voter)).count() > voters.len()
            })
    }

    /// Whether `more` would make it a quorum.
    fn is_quorum_with(&self, more: &[ReplicaId]) -> bool {
        let mut agreed = self.agreed.clone();
        agreed.extend(more);
        Self { configurations: self.configurations.clone(), agreed }.is_quorum()
    }
}

impl Group {
    /// Whom this replica follows now; `None` while it votes. Its vote says so, which
    /// is noted before anybody hears of it.
    pub(crate) fn followed(&self) -> Option<Followed> {
        let vote = VoteRecord::from(&self.log.vote()?);
        let followed = Followed { term: vote.term, leader: ReplicaId(vote.replica) };
        vote.committed.then_some(followed)
    }

    /// Where a replica runs.
    pub(crate) fn node_of(&self, replica: ReplicaId) -> Option<NodeId> {
        self.membership().get_node(&replica).map(|member| member.node)
    }

    /// The newest membership in this replica's log. What openraft tells may lag
    /// behind by as much as it does in one turn.
    fn membership(&self) -> StoredMembership {
        let metrics = self.raft.metrics();
        let told = (*metrics.borrow_watched().membership_config).clone();
        match self.log.appended_membership() {
            Some(appended) if appended.log_id() > told.log_id() => appended,
            _ => told,
        }
    }

    /// Answers a question about a leader.
    pub(crate) fn testify(&self, question: &Question) -> Testimony {
        let asked = Followed { term: question.term, leader: question.leader };
        let knows = self.log.vote().map(|vote| {
            let vote = VoteRecord::from(&vote);
            Followed { term: vote.term, leader: ReplicaId(vote.replica) }
        });
        if question.replica != self.replica || knows != Some(asked) {
            Testimony::Differs
        } else if asked.leader != self.replica {
            Testimony::Follows
        } else {
            self.leads(asked.term).map_or(Testimony::Differs, Testimony::Leads)
        }
    }

    /// What this replica says as the leader of a term; `None` if it does not lead.
    fn leads(&self, term: u64) -> Option<Leads> {
        // Before all else: if a quorum agrees later, this replica led at this time.
        let leaders_now = self.machine.leader_now();
        // What is being applied shows before it counts as applied.
        let applied = self.progress.applied().max(self.machine.shown());
        let log_end = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            // After a restart the vote is still that of a leader.
            if !metrics.state.is_leader() || metrics.current_term != term {
                return None;
            }
            let own =
                metrics.last_applied.as_ref().map(LogIdRecord::from).is_some_and(|last| {
                    last.term == term && ReplicaId(last.replica) == self.replica
                });
            if own { None } else { metrics.last_log_index }
        };
        // Followers may have applied what this leader has not yet, and shown it.
        let told = self.log.told_committed();
        let index = applied.max(told).max(log_end)?;
        let membership = self.membership().log_id().as_ref().map(Position::from);
        Some(Leads { index, leaders_now, membership })
    }

    /// One round: asks the leader, and as many voters as make a quorum.
    pub(crate) async fn confirm(&self) -> Result<ReadIndexAnswer, ReadError> {
        let started = Instant::now();
        let unconfirmed = |what: &str| ReadError::Unconfirmed(what.to_owned());
        let Some(Followed { term, leader }) = self.followed() else {
            return Err(ReadError::NotLeader { leader: None });
        };
        let mut told = None;
        if leader == self.replica {
            told = Some(self.leads(term).ok_or(ReadError::NotLeader { leader: None })?);
        }
        let membership = self.membership();
        let membership_at = membership.log_id().as_ref().map(Position::from);
        let mut tally = Tally::new(membership.get_joint_config().clone());
        let votes = membership.voter_ids().any(|voter| voter == self.replica);
        if votes {
            tally.agreed.insert(self.replica);
        }
        // The leader first, then who was quick the last time.
        let brisk = *self.confirmations.brisk.lock();
        let node_of = |voter: &ReplicaId| membership.get_node(voter).map(|member| member.node);
        let mut others: Vec<ReplicaId> = membership
            .voter_ids()
            .chain([leader])
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|voter| *voter != self.replica)
            .collect();
        others.sort_by_key(|voter| {
            let is_brisk = brisk.is_some() && node_of(voter) == brisk;
            (*voter != leader, !is_brisk, *voter)
        });
        let mut first = 0;
        while first < others.len()
            && (!tally.is_quorum_with(&others[..first]) || first == 0 && told.is_none())
        {
            first += 1;
        }
        // Where the leader is not enough.
        if others[..first].iter().any(|voter| *voter != leader) && self.confirmations.tries_all() {
            first = others.len();
        }
        let mut rest = others.split_off(first).into_iter();
        let ask = |voter: ReplicaId| {
            let question = Question { group: self.id, replica: voter, term, leader };
            let node = node_of(&voter);
            async move {
                let answer = match node {
                    Some(node) => self.peers.ask(node, question).await,
                    None => Err(unconfirmed("a voter without a node")),
                };
                (voter, answer)
            }
        };
        let mut asked: FuturesUnordered<_> = others.into_iter().map(ask).collect();
        let mut hedge = std::pin::pin!(sleep(self.confirmations.hedge()));
        let mut news = self.status.subscribe();
        let mut failure = unconfirmed("too few voters answer");
        loop {
            if let Some(Leads { index, leaders_now, membership }) = told
                && (tally.is_quorum() || planted::is(Bug::ReadWithoutQuorum))
            {
                if membership != membership_at {
                    return Err(unconfirmed("this replica does not know who votes"));
                }
                if self.followed() != Some(Followed { term, leader }) {
                    return Err(unconfirmed("the leader changed"));
                }
                self.confirmations.took(started.elapsed());
                return Ok(ReadIndexAnswer { index, term, leaders_now });
            }
            let (voter, answer) = tokio::select! {
                // A leader that hangs is not waited for once there is another.
                // With nobody left to answer there is nothing to wait for.
                Ok(()) = news.changed(), if !asked.is_empty() || rest.len() > 0 => {
                    if self.followed() != Some(Followed { term, leader }) {
                        return Err(unconfirmed("the leader changed"));
                    }
                    continue;
                }
                Some(answered) = asked.next(), if !asked.is_empty() => answered,
                () = &mut hedge, if rest.len() > 0 => {
                    asked.extend(rest.by_ref().map(ask));
                    continue;
                }
                else => return Err(failure),
            };
            match answer {
                Ok(Testimony::Follows) => {
                    tally.agreed.insert(voter);
                    *self.confirmations.brisk.lock() = node_of(&voter);
                }
                Ok(Testimony::Leads(leads)) => {
                    tally.agreed.insert(voter);
                    told = Some(leads);
                }
                refused => {
                    if let Err(error) = refused {
                        failure = error;
                    }
                    if voter == leader {
                        return Err(failure);
                    }
                    asked.extend(rest.by_ref().map(ask));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    #[test]
    fn a_quorum_is_a_majority_of_each_configuration() {
        let mut tally = Tally::new(vec![voters(&[1, 2, 3]), voters(&[3, 4, 5])]);
        tally.agreed = voters(&[1, 2]);
        assert!(!tally.is_quorum());
        assert!(!tally.is_quorum_with(&[ReplicaId(4)]));
        assert!(tally.is_quorum_with(&[ReplicaId(3), ReplicaId(4)]));
        tally.agreed = voters(&[1, 3, 5]);
        assert!(tally.is_quorum());
        // Learners do not count, and nobody is no quorum.
        tally.agreed = voters(&[7, 8, 9]);
        assert!(!tally.is_quorum());
        assert!(!Tally::new(Vec::new()).is_quorum());
    }

    #[test]
    fn others_are_asked_in_proportion_to_what_a_confirmation_takes() {
        let confirmations = Confirmations::default();
        assert_eq!(confirmations.hedge(), HEDGE_MIN);
        (0..100).for_each(|_| confirmations.took(Duration::from_millis(5)));
        let hedge = confirmations.hedge();
        assert!((10..=15).contains(&hedge.as_millis()), "{hedge:?}");
        (0..100).for_each(|_| confirmations.took(Duration::from_secs(1)));
        assert_eq!(confirmations.hedge(), HEDGE_MAX);
    }
}
