//! Where a voter's log ends, as it said when it gave its vote.
//!
//! A new leader does not know how far each follower's log agrees with its own. openraft
//! finds out by halving, a round trip for each guess: ten of them for ten thousand
//! entries, more than a second between distant regions, in which the group commits
//! nothing. Yet whoever votes says where its log ends. So guesses are answered here, at
//! once, as the voter would answer them, until the first append that it has to see.
//!
//! - *It has this.* Its log ends with an entry of the leader that made the last entry of
//!   the candidate's, at the same index or before: then the two logs are the same up to
//!   there (log matching). What it had then it keeps while it knows of no higher vote, and
//!   it has it durably: a vote is answered once it is written, behind all that came before.
//! - *It lacks this.* Its log ended before, and nobody else adds to it.
//!
//! Nothing is committed by such an answer: it concerns entries of earlier terms alone, and
//! those are committed with the first of the leader's own, which the follower has to take.
//! It counts for the leader's lease as if the follower had been heard now and not half a
//! round trip ago; no read rests on leases.

use futures::{Stream, StreamExt, stream};
use openraft::{
    base::BoxStream,
    errors::RPCError,
    raft::{
        AppendEntriesRequest, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
    },
};

use super::{append::Answer, confirmed::Account};
use crate::types::{LeaderId, LogId, TypeConfig};

/// What a voter said to the candidate that it voted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// Whom it voted for.
    leader: LeaderId,
    /// Where its log ended.
    last: Option<LogId>,
}

impl Ending {
    /// What a vote says; `None` if it was not given, or if how the two logs agree cannot
    /// be told from their ends.
    pub(super) fn of(
        request: &VoteRequest<TypeConfig>,
        response: &VoteResponse<TypeConfig>,
    ) -> Option<Self> {
        let leader = request.vote.leader_id;
        if !response.vote_granted || response.vote.leader_id != leader {
            return None;
        }
        let agrees = match (&request.last_log_id, &response.last_log_id) {
            (Some(own), Some(last)) => own.leader_id == last.leader_id && own.index >= last.index,
            (_, None) => true,
            (None, Some(_)) => false,
        };
        agrees.then_some(Self { leader, last: response.last_log_id })
    }

    /// Whom the voter voted for.
    pub(super) fn leader(&self) -> LeaderId {
        self.leader
    }

    /// What the voter would answer; `None` if it has to be asked.
    fn answer(
        &self,
        request: &AppendEntriesRequest<TypeConfig>,
    ) -> Option<StreamAppendResult<TypeConfig>> {
        if request.vote.leader_id != self.leader {
            return None;
        }
        let end = self.last.map(|last| last.index);
        let previous = request.prev_log_id;
        let upto = request.entries.last().map(|entry| entry.log_id).or(previous)?;
        if Some(upto.index) <= end {
            return Some(Ok(Some(upto)));
        }
        let lacking = previous.filter(|previous| Some(previous.index) > end)?;
        Some(Err(StreamAppendError::Conflict(lacking)))
    }
}

/// Answers appends from where the voter's log ends as long as that can be done, and then
/// opens the stream to it for what follows.
pub(super) fn answered<'s, S, O, F>(account: Account, input: S, open: O) -> BoxStream<'s, Answer>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 's,
    O: FnOnce(stream::Chain<stream::Iter<std::array::IntoIter<S::Item, 1>>, S>) -> F + Send + 's,
    F: Future<Output = Result<BoxStream<'s, Answer>, RPCError<TypeConfig>>> + Send + 's,
{
    enum Stage<'s, S, O> {
        Here(S, O),
        There(BoxStream<'s, Answer>),
    }
    let begin = Some(Stage::Here(input, open));
    stream::unfold((begin, account), |(stage, account)| async move {
        let mut answers = match stage? {
            Stage::There(answers) => answers,
            Stage::Here(mut input, open) => {
                let request = input.next().await?;
                let ending = account.ending();
                if let Some(answer) = ending.and_then(|ending| ending.answer(&request)) {
                    // What it says that it has counts like what it confirms.
                    if let Err(lost) = account.answered(&request.vote, &answer) {
                        tracing::debug!(lost, "a voter's word is void");
                    }
                    // Nothing may follow an error.
                    let next = answer.is_ok().then_some(Stage::Here(input, open));
                    return Some((Ok(answer), (next, account)));
                }
                account.sends(Some(request.vote.leader_id));
                match open(stream::iter([request]).chain(input)).await {
                    Ok(answers) => answers,
                    Err(error) => return Some((Err(error), (None, account))),
                }
            }
        };
        let answer = answers.next().await?;
        Some((answer, (Some(Stage::There(answers)), account)))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use openraft::{EntryPayload, vote::RaftLeaderId};

    use super::*;
    use crate::{
        ids::ReplicaId,
        types::{LogEntry, Vote},
    };

    const CANDIDATE: ReplicaId = ReplicaId(11);

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, ReplicaId(22)), index)
    }

    /// What a voter says to the candidate of term 5, whose log and whose own end like this.
    fn ending(own: Option<LogId>, last: Option<LogId>) -> Option<Ending> {
        let vote = Vote::new(5, CANDIDATE);
        Ending::of(&VoteRequest::new(vote, own), &VoteResponse::new(vote, last, true))
    }

    /// An append of the leader of term 5: the entries from behind one to another.
    fn append(previous: Option<LogId>, last: Option<LogId>) -> AppendEntriesRequest<TypeConfig> {
        let from = previous.map_or(0, |previous| previous.index + 1);
        let entries = last.map_or(from..from, |last| from..last.index + 1).map(|index| LogEntry {
            log_id: id(last.map_or(0, |last| last.leader_id.term), index),
            payload: EntryPayload::Blank,
        });
        AppendEntriesRequest {
            vote: Vote::new_committed(5, CANDIDATE),
            prev_log_id: previous,
            entries: entries.collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn a_voter_has_what_lies_before_the_end_of_its_log_and_lacks_what_lies_behind() {
        let ending = ending(Some(id(3, 90)), Some(id(3, 40))).unwrap();
        let has = |upto| Some(Ok(Some(upto)));
        let lacks = |at| Some(Err(StreamAppendError::Conflict(at)));
        assert_eq!(ending.answer(&append(Some(id(2, 20)), None)), has(id(2, 20)));
        assert_eq!(ending.answer(&append(Some(id(3, 20)), Some(id(3, 40)))), has(id(3, 40)));
        assert_eq!(ending.answer(&append(None, Some(id(1, 8)))), has(id(1, 8)));
        assert_eq!(ending.answer(&append(Some(id(3, 41)), None)), lacks(id(3, 41)));
        assert_eq!(ending.answer(&append(Some(id(3, 60)), Some(id(3, 64)))), lacks(id(3, 60)));
        // What it has to see.
        assert_eq!(ending.answer(&append(Some(id(3, 40)), Some(id(3, 41)))), None);
        assert_eq!(ending.answer(&append(Some(id(3, 30)), Some(id(3, 41)))), None);
        assert_eq!(ending.answer(&append(None, None)), None);
    }

    #[test]
    fn a_voter_with_an_empty_log_lacks_everything() {
        let ending = ending(Some(id(3, 90)), None).unwrap();
        let lacks = Some(Err(StreamAppendError::Conflict(id(3, 0))));
        assert_eq!(ending.answer(&append(Some(id(3, 0)), None)), lacks);
        assert_eq!(ending.answer(&append(None, Some(id(3, 0)))), None);
    }

    #[test]
    fn another_leader_is_not_answered_from_it() {
        let ending = ending(Some(id(3, 90)), Some(id(3, 40))).unwrap();
        let mut request = append(Some(id(2, 20)), None);
        request.vote = Vote::new_committed(6, CANDIDATE);
        assert_eq!(ending.answer(&request), None);
        request.vote = Vote::new_committed(5, ReplicaId(12));
        assert_eq!(ending.answer(&request), None);
    }

    #[test]
    fn ends_that_say_nothing_and_votes_that_were_not_given_count_for_nothing() {
        // Entries of term 2 that the candidate may lack: it has some of term 3 there.
        assert_eq!(ending(Some(id(3, 90)), Some(id(2, 40))), None);
        assert_eq!(ending(None, Some(id(2, 40))), None);
        assert_eq!(ending(Some(id(3, 90)), Some(id(3, 91))), None);
        let vote = Vote::new(5, CANDIDATE);
        let request = VoteRequest::new(vote, Some(id(3, 90)));
        let refused = VoteResponse::new(vote, Some(id(3, 40)), false);
        assert_eq!(Ending::of(&request, &refused), None);
        let of_another = VoteResponse::new(Vote::new(6, CANDIDATE), Some(id(3, 40)), true);
        assert_eq!(Ending::of(&request, &of_another), None);
    }

    #[tokio::test]
    async fn from_the_first_append_that_the_voter_has_to_see_it_sees_all() {
        let account = Account::default();
        account.voted(ending(Some(id(3, 90)), Some(id(3, 40))).unwrap());
        let requests = [
            append(Some(id(3, 20)), Some(id(3, 28))),
            append(Some(id(3, 39)), Some(id(3, 42))),
            append(Some(id(3, 20)), Some(id(3, 28))),
        ];
        let open = |input: stream::Chain<_, _>| async move {
            let answers = input.map(|request: AppendEntriesRequest<TypeConfig>| {
                Ok(Ok(request
                    .entries
                    .last()
                    .map(|entry| LogId { index: entry.log_id.index + 1_000, ..entry.log_id })))
            });
            Ok(answers.boxed())
        };
        let answers = answered(account.clone(), stream::iter(requests), open);
        let matched = answers.map(|answer| answer.unwrap().unwrap().unwrap().index);
        assert_eq!(matched.collect::<Vec<_>>().await, [28, 1_042, 1_028]);
        assert_eq!(account.ending(), None);
        // What it said that it has it may not lack.
        let vote = Vote::new_committed(5, CANDIDATE);
        account.answered(&vote, &Err(StreamAppendError::Conflict(id(3, 28)))).unwrap_err();
        assert_eq!(account.lost(&vote), Some(id(3, 28)));
        // The answer to another vote request, or the same, comes late.
        account.voted(ending(Some(id(3, 90)), Some(id(3, 40))).unwrap());
        assert_eq!(account.ending(), None);
    }

    #[tokio::test]
    async fn what_the_voter_lacks_ends_the_stream_and_not_what_is_known() {
        let account = Account::default();
        account.voted(ending(Some(id(3, 90)), Some(id(3, 40))).unwrap());
        let requests = [append(Some(id(3, 60)), None), append(Some(id(3, 20)), None)];
        let open = |_: stream::Chain<_, _>| async { panic!("it is asked") };
        let answers: Vec<Answer> =
            answered(account.clone(), stream::iter(requests), open).collect().await;
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0], Ok(Err(StreamAppendError::Conflict(id(3, 60)))));
        assert!(account.ending().is_some());
    }
}
