//! What openraft says, as messages of `proto/raft.proto`, and back.

use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tonic::Status;

use super::{proto, refusal::Refusal};
use crate::{
    encoding::{self, EntryRecord, LogIdRecord, VoteRecord},
    ids::{ClusterId, GroupId, NodeId, ReplicaId},
    machine::Position,
    peers::Loss,
    read::{Leads, Question, Testimony},
    types::{LogEntry, LogId, TypeConfig, Vote},
};

/// Who speaks to whom about which group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) cluster: ClusterId,
    pub(super) group: GroupId,
    pub(super) from: (NodeId, ReplicaId),
    pub(super) to: (NodeId, ReplicaId),
}

impl From<Route> for proto::Route {
    fn from(route: Route) -> Self {
        Self {
            caller: Some(caller(route.cluster, route.from.0, route.to.0)),
            group: route.group.0,
            from_replica: route.from.1.0,
            to_replica: route.to.1.0,
        }
    }
}

/// Who speaks to whom.
pub(super) fn caller(cluster: ClusterId, from: NodeId, to: NodeId) -> proto::Caller {
    proto::Caller { cluster: cluster.to_string(), from_node: from.0, to_node: to.0 }
}

impl From<&Vote> for proto::Ballot {
    fn from(vote: &Vote) -> Self {
        let VoteRecord { term, replica, committed } = vote.into();
        Self { term, replica, committed }
    }
}

impl From<proto::Ballot> for Vote {
    fn from(ballot: proto::Ballot) -> Self {
        let proto::Ballot { term, replica, committed } = ballot;
        VoteRecord { term, replica, committed }.into()
    }
}

impl From<&LogId> for proto::Position {
    fn from(id: &LogId) -> Self {
        let LogIdRecord { term, replica, index } = id.into();
        Self { term, replica, index }
    }
}

impl From<proto::Position> for LogId {
    fn from(position: proto::Position) -> Self {
        let proto::Position { term, replica, index } = position;
        LogIdRecord { term, replica, index }.into()
    }
}

fn position(id: Option<&LogId>) -> Option<proto::Position> {
    id.map(proto::Position::from)
}

/// The field that proto3 cannot require, but the protocol does.
pub(super) fn required<T>(field: Option<T>, name: &'static str) -> Result<T, Status> {
    field.ok_or_else(|| Refusal::Malformed.status(format!("{name} is missing")))
}

/// One part of an append; the first of a stream carries the route, and what the replica
/// lost of what it had confirmed.
pub(super) fn append_request(
    route: Option<Route>,
    lost: Option<LogId>,
    sequence: u64,
    request: &AppendEntriesRequest<TypeConfig>,
) -> proto::AppendRequest {
    proto::AppendRequest {
        route: route.map(proto::Route::from),
        sequence,
        vote: Some((&request.vote).into()),
        previous: position(request.prev_log_id.as_ref()),
        committed: position(request.leader_commit.as_ref()),
        entries: request
            .entries
            .iter()
            .map(|entry| encoding::encode(&EntryRecord::from(entry)))
            .collect(),
        lost: position(lost.as_ref()),
    }
}

/// What a leader says that its replica lost.
pub(super) fn loss(group: GroupId, vote: &proto::Ballot, lost: &proto::Position) -> Loss {
    Loss { group, term: vote.term, leader: ReplicaId(vote.replica), index: lost.index }
}

/// The append that a message asks for.
pub(super) fn append(
    message: proto::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, Status> {
    let vote: Vote = required(message.vote, "vote")?.into();
    let prev_log_id = message.previous.map(LogId::from);
    let mut entries = Vec::with_capacity(message.entries.len());
    let first = prev_log_id.as_ref().map_or(0, |id| id.index + 1);
    for (next, bytes) in (first..).zip(message.entries) {
        let entry = encoding::decode::<EntryRecord>("entry", bytes)
            .and_then(LogEntry::try_from)
            .map_err(|fault| Refusal::Malformed.status(fault.to_string()))?;
        // openraft takes consecutive entries for granted.
        if entry.log_id.index != next {
            return Err(Refusal::Malformed.status("entries are not consecutive"));
        }
        entries.push(entry);
    }
    let leader_commit = message.committed.map(LogId::from);
    let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
    if is_beyond_leader(&request) {
        return Err(Refusal::Malformed.status("entries from beyond their leader"));
    }
    Ok(request)
}

/// Whether an append holds what a later leader wrote than the one that it is from: behind
/// `prev_log_id` that would be another log under the same positions, and whoever does not
/// know the later leader yet would take it.
fn is_beyond_leader(request: &AppendEntriesRequest<TypeConfig>) -> bool {
    let leader = &request.vote.leader_id;
    request.entries.iter().any(|entry| entry.log_id.leader_id > *leader)
}

/// The answer to an append.
pub(super) fn append_response(
    sequence: u64,
    result: &StreamAppendResult<TypeConfig>,
) -> proto::AppendResponse {
    use proto::append_response::Outcome;
    let outcome = match result {
        Ok(matched) => Outcome::Success(proto::Matched { matched: position(matched.as_ref()) }),
        Err(StreamAppendError::Conflict(at)) => Outcome::Conflict(at.into()),
        Err(StreamAppendError::HigherVote(vote)) => Outcome::HigherVote(vote.into()),
    };
    proto::AppendResponse { sequence, outcome: Some(outcome) }
}

/// What an answer to an append says.
pub(super) fn append_result(
    outcome: Option<proto::append_response::Outcome>,
) -> Result<StreamAppendResult<TypeConfig>, Status> {
    use proto::append_response::Outcome;
    Ok(match required(outcome, "outcome")? {
        Outcome::Success(matched) => Ok(matched.matched.map(LogId::from)),
        Outcome::Conflict(at) => Err(StreamAppendError::Conflict(at.into())),
        Outcome::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote.into())),
    })
}

/// The answer to a beat.
pub(super) fn beat_outcome(
    result: &Result<StreamAppendResult<TypeConfig>, Refusal>,
) -> proto::beat_answer::Outcome {
    use proto::beat_answer::Outcome;
    match result {
        Ok(Ok(matched)) => Outcome::Success(proto::Matched { matched: position(matched.as_ref()) }),
        Ok(Err(StreamAppendError::Conflict(at))) => Outcome::Conflict(at.into()),
        Ok(Err(StreamAppendError::HigherVote(vote))) => Outcome::HigherVote(vote.into()),
        Err(refusal) => Outcome::Refused(proto::Refused { refusal: refusal.number() }),
    }
}

/// What an answer to a beat says; the inner error is a refusal's number.
pub(super) fn beat_result(
    outcome: Option<proto::beat_answer::Outcome>,
) -> Result<Result<StreamAppendResult<TypeConfig>, u32>, Status> {
    use proto::beat_answer::Outcome;
    Ok(match required(outcome, "outcome")? {
        Outcome::Success(matched) => Ok(Ok(matched.matched.map(LogId::from))),
        Outcome::Conflict(at) => Ok(Err(StreamAppendError::Conflict(at.into()))),
        Outcome::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote.into()))),
        Outcome::Refused(refused) => Err(refused.refusal),
    })
}

/// The append that a beat stands for.
pub(super) fn beat_append(beat: &proto::Beat) -> Option<AppendEntriesRequest<TypeConfig>> {
    Some(AppendEntriesRequest {
        vote: beat.vote?.into(),
        prev_log_id: beat.previous.map(LogId::from),
        entries: Vec::new(),
        leader_commit: beat.committed.map(LogId::from),
    })
}

/// The beat for an append without entries.
pub(super) fn beat(
    sequence: u64,
    route: Route,
    request: &AppendEntriesRequest<TypeConfig>,
) -> proto::Beat {
    proto::Beat {
        sequence,
        group: route.group.0,
        from_replica: route.from.1.0,
        to_replica: route.to.1.0,
        vote: Some((&request.vote).into()),
        previous: position(request.prev_log_id.as_ref()),
        committed: position(request.leader_commit.as_ref()),
    }
}

/// A question about a leader.
pub(super) fn question(sequence: u64, question: &Question) -> proto::Question {
    proto::Question {
        sequence,
        group: question.group.0,
        to_replica: question.replica.0,
        term: question.term,
        leader: question.leader.0,
    }
}

/// What a question asks.
pub(super) fn asked(message: &proto::Question) -> Question {
    Question {
        group: GroupId(message.group),
        replica: ReplicaId(message.to_replica),
        term: message.term,
        leader: ReplicaId(message.leader),
    }
}

/// The answer to a question; `None` where no replica answers.
pub(super) fn testimony(sequence: u64, told: Option<Testimony>) -> proto::Testimony {
    use proto::testimony::Outcome;
    let outcome = match told {
        Some(Testimony::Follows) => Outcome::Follows(proto::Follows {}),
        Some(Testimony::Leads(Leads { index, leaders_now, membership })) => {
            let membership = membership.map(|at| proto::Position {
                term: at.term,
                replica: at.replica.0,
                index: at.index,
            });
            Outcome::Leads(proto::Leads { index, leaders_now, membership })
        }
        Some(Testimony::Differs) => Outcome::Differs(proto::Differs {}),
        None => Outcome::Refused(proto::Refused { refusal: Refusal::UnknownGroup.number() }),
    };
    proto::Testimony { sequence, outcome: Some(outcome) }
}

/// What the answer to a question says; the inner error is a refusal's number.
pub(super) fn told(
    outcome: Option<proto::testimony::Outcome>,
) -> Result<Result<Testimony, u32>, Status> {
    use proto::testimony::Outcome;
    Ok(match required(outcome, "outcome")? {
        Outcome::Follows(_) => Ok(Testimony::Follows),
        Outcome::Leads(proto::Leads { index, leaders_now, membership }) => {
            let membership = membership.map(|at| Position {
                term: at.term,
                replica: ReplicaId(at.replica),
                index: at.index,
            });
            Ok(Testimony::Leads(Leads { index, leaders_now, membership }))
        }
        Outcome::Differs(_) => Ok(Testimony::Differs),
        Outcome::Refused(refused) => Err(refused.refusal),
    })
}

/// A call for a vote, or for a promise of one.
pub(super) fn vote_request(route: Route, request: &VoteRequest<TypeConfig>) -> proto::VoteRequest {
    proto::VoteRequest {
        route: Some(route.into()),
        vote: Some((&request.vote).into()),
        last: position(request.last_log_id.as_ref()),
        leadership_transfer: request.leadership_transfer,
    }
}

/// What a call for a vote says.
pub(super) fn vote(message: proto::VoteRequest) -> Result<VoteRequest<TypeConfig>, Status> {
    Ok(VoteRequest {
        vote: required(message.vote, "vote")?.into(),
        last_log_id: message.last.map(LogId::from),
        leadership_transfer: message.leadership_transfer,
    })
}

/// The answer to a call for a vote.
pub(super) fn vote_response(response: &VoteResponse<TypeConfig>) -> proto::VoteResponse {
    proto::VoteResponse {
        vote: Some((&response.vote).into()),
        granted: response.vote_granted,
        last: position(response.last_log_id.as_ref()),
    }
}

/// What the answer to a call for a vote says.
pub(super) fn voted(message: proto::VoteResponse) -> Result<VoteResponse<TypeConfig>, Status> {
    Ok(VoteResponse {
        vote: required(message.vote, "vote")?.into(),
        vote_granted: message.granted,
        last_log_id: message.last.map(LogId::from),
    })
}

/// Tells about a hand-over.
pub(super) fn transfer_request(
    route: Route,
    request: &TransferLeaderRequest<TypeConfig>,
) -> proto::TransferLeaderRequest {
    proto::TransferLeaderRequest {
        route: Some(route.into()),
        from_leader: Some(request.from_leader().into()),
        successor: request.to_node_id().0,
        last: position(request.last_log_id()),
    }
}

/// What is told about a hand-over.
pub(super) fn transfer(
    message: proto::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, Status> {
    Ok(TransferLeaderRequest::new(
        required(message.from_leader, "leader")?.into(),
        ReplicaId(message.successor),
        message.last.map(LogId::from),
    ))
}

/// The answer to a hand-over.
pub(super) fn transfer_response(
    response: &TransferLeaderResponse<TypeConfig>,
) -> proto::TransferLeaderResponse {
    use proto::transfer_leader_response::Refusal;
    let refusal = match response {
        Ok(()) => None,
        Err(TransferLeaderError::VoteChanged { expected, actual }) => {
            Some(Refusal::VoteChanged(proto::VoteChanged {
                expected: Some(expected.into()),
                actual: Some(actual.into()),
            }))
        }
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
            Some(Refusal::LogNotFlushed(proto::LogNotFlushed {
                expected: position(expected.as_ref()),
                actual: position(actual.as_ref()),
            }))
        }
    };
    proto::TransferLeaderResponse { refusal }
}

/// What the answer to a hand-over says.
pub(super) fn transferred(
    message: proto::TransferLeaderResponse,
) -> Result<TransferLeaderResponse<TypeConfig>, Status> {
    use proto::transfer_leader_response::Refusal;
    Ok(match message.refusal {
        None => Ok(()),
        Some(Refusal::VoteChanged(changed)) => Err(TransferLeaderError::VoteChanged {
            expected: required(changed.expected, "expected vote")?.into(),
            actual: required(changed.actual, "actual vote")?.into(),
        }),
        Some(Refusal::LogNotFlushed(log)) => Err(TransferLeaderError::LogNotFlushed {
            expected: log.expected.map(LogId::from),
            actual: log.actual.map(LogId::from),
        }),
    })
}
