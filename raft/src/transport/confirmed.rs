//! What replicas have confirmed to leaders here.
//!
//! A replica that confirmed a position keeps it for as long as it knows of no higher
//! vote. One that says afterwards that its log does not hold it has lost what it called
//! durable: its disk gave back less than it took. openraft takes that for impossible; so
//! it is not told. The replica is told instead, at the beginning of the next stream, and
//! its node stops.
//!
//! What was confirmed to a leader on another node is not known here: under a new leader
//! such a replica is sent again what it lost, like one that was never sent it.

use std::{collections::HashMap, sync::Arc};

use openraft::raft::{StreamAppendError, StreamAppendResult};
use parking_lot::Mutex;

use super::ending::Ending;
use crate::{
    ids::{GroupId, ReplicaId},
    types::{LeaderId, LogId, TypeConfig, Vote},
};

/// What every replica has confirmed.
#[derive(Default)]
pub(super) struct Confirmed(Mutex<HashMap<(GroupId, ReplicaId), Account>>);

impl Confirmed {
    /// The account of one replica.
    pub(super) fn of(&self, group: GroupId, replica: ReplicaId) -> Account {
        self.0.lock().entry((group, replica)).or_default().clone()
    }
}

/// What one replica has confirmed to the last leader that asked it from here.
#[derive(Clone, Default)]
pub(super) struct Account(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    vote: Option<Vote>,
    matched: Option<LogId>,
    lost: bool,
    /// What it said when it voted, until it is sent an append.
    ending: Option<Ending>,
    /// The last leader that sent it one.
    sender: Option<LeaderId>,
}

impl Account {
    /// Takes an answer in that was given to the leader with `vote`; says what was lost,
    /// if it says that its log does not hold what it had confirmed.
    pub(super) fn answered(
        &self,
        vote: &Vote,
        answer: &StreamAppendResult<TypeConfig>,
    ) -> Result<(), String> {
        let mut state = self.0.lock();
        if state.vote != Some(*vote) {
            let State { ending, sender, .. } = *state;
            *state = State { vote: Some(*vote), ending, sender, ..State::default() };
        }
        match answer {
            Ok(matched) => {
                state.lost = false;
                state.matched = state.matched.max(*matched);
                Ok(())
            }
            Err(StreamAppendError::Conflict(at))
                if state.matched.is_some_and(|matched| at.index <= matched.index) =>
            {
                state.lost = true;
                Err(format!("the replica confirmed more than {at}, and does not hold it any more"))
            }
            Err(_) => Ok(()),
        }
    }

    /// The replica gave a candidate here its vote, and said this of its log. An answer that
    /// comes when the candidate leads already, and has sent it something, is too late.
    pub(super) fn voted(&self, ending: Ending) {
        let mut state = self.0.lock();
        if state.sender != Some(ending.leader()) {
            state.ending = Some(ending);
        }
    }

    /// A leader here is about to send the replica an append, or a snapshot.
    pub(super) fn sends(&self, leader: Option<LeaderId>) {
        let mut state = self.0.lock();
        state.sender = leader;
        state.ending = None;
    }

    /// What it said when it voted, if it was sent no append since.
    pub(super) fn ending(&self) -> Option<Ending> {
        self.0.lock().ending
    }

    /// What the replica lost of what it confirmed to the leader with `vote`.
    pub(super) fn lost(&self, vote: &Vote) -> Option<LogId> {
        let state = self.0.lock();
        state.matched.filter(|_| state.lost && state.vote == Some(*vote))
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(LeaderId::new(1, ReplicaId(1)), index)
    }

    fn vote(term: u64) -> Vote {
        Vote::new_committed(term, ReplicaId(1))
    }

    fn conflict(index: u64) -> StreamAppendResult<TypeConfig> {
        Err(StreamAppendError::Conflict(id(index)))
    }

    #[test]
    fn a_replica_may_lack_what_it_never_confirmed() {
        let account = Confirmed::default().of(GroupId(3), ReplicaId(7));
        account.answered(&vote(1), &conflict(9)).unwrap();
        account.answered(&vote(1), &Ok(Some(id(5)))).unwrap();
        account.answered(&vote(1), &conflict(6)).unwrap();
        assert_eq!(account.lost(&vote(1)), None);
    }

    #[test]
    fn a_replica_that_lacks_what_it_confirmed_has_lost_it() {
        let accounts = Confirmed::default();
        let account = accounts.of(GroupId(3), ReplicaId(7));
        account.answered(&vote(1), &Ok(Some(id(5)))).unwrap();
        // An older answer says less, and takes nothing back.
        account.answered(&vote(1), &Ok(Some(id(3)))).unwrap();
        account.answered(&vote(1), &conflict(5)).unwrap_err();
        assert_eq!(accounts.of(GroupId(3), ReplicaId(7)).lost(&vote(1)), Some(id(5)));
        assert_eq!(accounts.of(GroupId(3), ReplicaId(8)).lost(&vote(1)), None);
        assert_eq!(account.lost(&vote(2)), None);
        // It holds it after all.
        account.answered(&vote(1), &Ok(Some(id(5)))).unwrap();
        assert_eq!(account.lost(&vote(1)), None);
    }

    #[test]
    fn what_was_confirmed_to_a_former_leader_may_be_cut_off() {
        let account = Confirmed::default().of(GroupId(3), ReplicaId(7));
        account.answered(&vote(1), &Ok(Some(id(5)))).unwrap();
        account.answered(&vote(2), &conflict(5)).unwrap();
        assert_eq!(account.lost(&vote(2)), None);
    }
}
