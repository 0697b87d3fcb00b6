//! The called side: each call is checked to be meant for this cluster, node and
//! replica, and handed to openraft. What cannot be understood ends the call or
//! the stream with an error; nothing is dropped in silence.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use cardea_storage::{
    engine::Disk,
    planted::{self, Bug},
};
use futures::{FutureExt, Stream, StreamExt, TryStreamExt, stream, stream::FuturesUnordered};
use openraft::{
    errors::{Fatal, RaftError},
    raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult},
};
use parking_lot::Mutex;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, service::Routes};

use super::{
    MESSAGE_BYTES_MAX, TransportSettings,
    proto::{
        self,
        raft_server::{self, RaftServer},
    },
    refusal::Refusal,
    room::Room,
    wire::{self, required},
};
use crate::{
    ids::{ClusterId, GroupId, NodeId, ReplicaId},
    peers::{Groups, Replica},
    types::TypeConfig,
};

/// Heartbeats of one node that are being answered; more wait unread.
const BEATS_UNDER_WAY: usize = 8_192;
/// Answers in one message.
const ANSWERS: usize = 512;

/// The service for `groups`, to be [`serve`](super::serve)d. Snapshots are
/// received onto `disk`; streams end when `stopping`.
pub fn routes(
    cluster: ClusterId,
    groups: Arc<dyn Groups>,
    disk: Arc<dyn Disk>,
    settings: TransportSettings,
    stopping: CancellationToken,
) -> Routes {
    let room = Room::default();
    let service = Service(Arc::new(Inner { cluster, groups, disk, room, settings, stopping }));
    Routes::new(
        RaftServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX),
    )
}

struct Service(Arc<Inner>);

pub(super) struct Inner {
    cluster: ClusterId,
    groups: Arc<dyn Groups>,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) room: Room,
    pub(super) settings: TransportSettings,
    stopping: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Inner {
    fn check_caller(&self, caller: Option<proto::Caller>) -> Result<(), Status> {
        let caller = required(caller, "caller")?;
        if caller.cluster != self.cluster.to_string() {
            return Err(Refusal::WrongCluster
                .status(format!("this is cluster {}, not {}", self.cluster, caller.cluster)));
        }
        let here = self.groups.node();
        if caller.to_node != here.0 {
            return Err(
                Refusal::WrongNode.status(format!("this is node {here}, not n{}", caller.to_node))
            );
        }
        Ok(())
    }

    fn find(&self, group: u64, replica: u64) -> Result<Replica, (Refusal, String)> {
        let (group, wanted) = (GroupId(group), ReplicaId(replica));
        let replica = self.groups.replica(group).ok_or_else(|| {
            (Refusal::UnknownGroup, format!("no replica of {group} accepts calls here"))
        })?;
        if replica.id == wanted {
            Ok(replica)
        } else {
            let detail = format!("replica {} of {group} runs here, not {wanted}", replica.id);
            Err((Refusal::WrongReplica, detail))
        }
    }

    pub(super) fn replica(&self, route: Option<proto::Route>) -> Result<Replica, Status> {
        let route = required(route, "route")?;
        self.check_caller(route.caller)?;
        self.find(route.group, route.to_replica).map_err(|(refusal, detail)| refusal.status(detail))
    }

    /// The first message of a stream, which a caller owes us soon.
    pub(super) async fn first<T>(&self, incoming: &mut Streaming<T>) -> Result<T, Status> {
        let patience = Duration::from_millis(self.settings.chunk_ms_max);
        timeout(patience, incoming.message())
            .await
            .map_err(|_| Refusal::Stalled.status("the stream does not begin"))??
            .ok_or_else(|| Refusal::Malformed.status("an empty stream"))
    }

    /// Answers the appends of one stream in order.
    async fn append(
        self: Arc<Self>,
        mut incoming: Streaming<proto::AppendRequest>,
    ) -> Result<Answers<proto::AppendResponse>, Status> {
        let mut first = self.first(&mut incoming).await?;
        let route = first.route.take();
        let group = route.as_ref().map_or(GroupId(0), |route| GroupId(route.group));
        let replica = self.replica(route)?;
        if let (Some(lost), Some(vote)) = (first.lost, first.vote)
            && self.groups.has_lost(&wire::loss(group, &vote, &lost))
        {
            return Err(Refusal::Stopped.status("the log lost what it had confirmed"));
        }
        let pace = Arc::new(Mutex::new(Pace::default()));
        let input = appends(first, incoming, pace.clone());
        let pace_of_early = pace.clone();
        let (answered, ended) = (pace.clone(), pace);
        if planted::is(Bug::AnsweredBeforeQuorum) {
            return Ok(answered_early(replica, input, pace_of_early));
        }
        let answers = replica.raft.stream_append(input).map(move |result| {
            let sequence = answered.lock().sequences.pop_front();
            match (result, sequence) {
                (Ok(result), Some(sequence)) => Ok(wire::append_response(sequence, &result)),
                (Ok(_), None) => Err(Status::internal("an answer without a request")),
                (Err(fatal), _) => Err(stopped(&fatal)),
            }
        });
        // What could not be understood is said after what was understood.
        let end = stream::once(async move { ended.lock().malformed.take() })
            .filter_map(|malformed| async move { malformed.map(Err) });
        let stopping = self.stopping.clone().cancelled_owned();
        Ok(Box::pin(answers.chain(end).take_until(stopping)))
    }

    /// The answer to a heartbeat that tells a replica at rest nothing.
    fn heard(&self, beat: &proto::Beat) -> Option<proto::BeatAnswer> {
        let append = wire::beat_append(beat)?;
        let (group, replica) = (GroupId(beat.group), ReplicaId(beat.to_replica));
        let is_heard = self.groups.hears(group, replica, &append);
        is_heard.then(|| answer(beat.sequence, &Ok(Ok(append.prev_log_id))))
    }

    async fn beat(&self, beat: proto::Beat) -> proto::BeatAnswer {
        answer(beat.sequence, &self.beat_result(beat).await)
    }

    async fn beat_result(
        &self,
        beat: proto::Beat,
    ) -> Result<StreamAppendResult<TypeConfig>, Refusal> {
        let replica = self.find(beat.group, beat.to_replica).map_err(|(refusal, _)| refusal)?;
        let append = wire::beat_append(&beat).ok_or(Refusal::Malformed)?;
        let previous = append.prev_log_id;
        let patience = Duration::from_millis(self.settings.beat_ms_max);
        let answer = timeout(patience, replica.raft.append_entries(append))
            .await
            .map_err(|_| Refusal::Stalled)?
            .map_err(|_| Refusal::Stopped)?;
        Ok(match answer {
            AppendEntriesResponse::Success => Ok(previous),
            AppendEntriesResponse::PartialSuccess(matched) => Ok(matched),
            AppendEntriesResponse::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
            AppendEntriesResponse::Conflict => {
                Err(StreamAppendError::Conflict(previous.ok_or(Refusal::Malformed)?))
            }
        })
    }

    fn testify(&self, question: &proto::Question) -> proto::Testimony {
        wire::testimony(question.sequence, self.groups.testify(&wire::asked(question)))
    }

    /// Answers the heartbeats of one node as they are done, and its questions at once.
    async fn beats(
        self: Arc<Self>,
        incoming: Streaming<proto::BeatRequest>,
        answers: mpsc::Sender<Result<proto::BeatResponse, Status>>,
    ) {
        let mut caller = None;
        self.answer_beats(incoming, answers, &mut caller).await;
        if let Some(node) = caller
            && !self.stopping.is_cancelled()
        {
            self.groups.hung_up(node);
        }
    }

    async fn answer_beats(
        &self,
        mut incoming: Streaming<proto::BeatRequest>,
        answers: mpsc::Sender<Result<proto::BeatResponse, Status>>,
        from: &mut Option<NodeId>,
    ) {
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                () = self.stopping.cancelled() => {
                    let _ = answers.send(Err(Refusal::Stopped.status("the node stops"))).await;
                    return;
                }
                () = answers.closed() => return,
                message = incoming.message(), if open && under_way.len() < BEATS_UNDER_WAY => {
                    let accepted = match message {
                        Ok(Some(message)) if from.is_some() => Ok(Some(message)),
                        Ok(Some(mut message)) => {
                            let caller = message.caller.take();
                            let node = caller.as_ref().map(|caller| NodeId(caller.from_node));
                            self.check_caller(caller).map(|()| {
                                *from = node;
                                Some(message)
                            })
                        }
                        Ok(None) => Ok(None),
                        Err(status) => Err(status),
                    };
                    let proto::BeatRequest { beats, questions, .. } = match accepted {
                        Ok(Some(message)) => message,
                        Ok(None) => { open = false; continue; }
                        Err(status) => {
                            let _ = answers.send(Err(status)).await;
                            return;
                        }
                    };
                    let mut heard = Vec::new();
                    for beat in beats {
                        match self.heard(&beat) {
                            Some(answer) => heard.push(answer),
                            None => under_way.push(self.beat(beat)),
                        }
                    }
                    // Readers wait for these, and neither costs anything.
                    let testimonies: Vec<_> = questions.iter().map(|q| self.testify(q)).collect();
                    if !heard.is_empty() || !testimonies.is_empty() {
                        let message = proto::BeatResponse { answers: heard, testimonies };
                        if answers.send(Ok(message)).await.is_err() {
                            return;
                        }
                    }
                }
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    let mut done = vec![answer];
                    while done.len() < ANSWERS
                        && let Some(Some(answer)) = under_way.next().now_or_never()
                    {
                        done.push(answer);
                    }
                    let message =
                        proto::BeatResponse { answers: done, testimonies: Vec::new() };
                    if answers.send(Ok(message)).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn answer(
    sequence: u64,
    result: &Result<StreamAppendResult<TypeConfig>, Refusal>,
) -> proto::BeatAnswer {
    proto::BeatAnswer { sequence, outcome: Some(wire::beat_outcome(result)) }
}

/// What the two directions of an append stream share.
#[derive(Default)]
struct Pace {
    sequences: VecDeque<u64>,
    malformed: Option<Status>,
}

/// The appends of a stream, until its end or the first that is malformed.
fn appends(
    first: proto::AppendRequest,
    incoming: Streaming<proto::AppendRequest>,
    pace: Arc<Mutex<Pace>>,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static {
    stream::once(async move { Ok(first) }).chain(incoming).scan((), move |(), message| {
        let understood = message.and_then(|message| {
            if message.route.is_some() {
                return Err(Refusal::Malformed.status("a second route in one stream"));
            }
            let sequence = message.sequence;
            wire::append(message).map(|append| (sequence, append))
        });
        let mut pace = pace.lock();
        let next = match understood {
            Ok((sequence, append)) => {
                pace.sequences.push_back(sequence);
                Some(append)
            }
            Err(status) => {
                pace.malformed = Some(status);
                None
            }
        };
        futures::future::ready(next)
    })
}

/// The planted bug: says yes to each append, and looks at it afterwards.
fn answered_early(
    replica: Replica,
    input: impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + 'static,
    pace: Arc<Mutex<Pace>>,
) -> Answers<proto::AppendResponse> {
    let (requests, late) = mpsc::channel(64);
    tokio::spawn(async move {
        let mut results = Box::pin(replica.raft.stream_append(ReceiverStream::new(late)));
        while results.next().await.is_some() {}
    });
    let answers = Box::pin(input).filter_map(move |request: AppendEntriesRequest<TypeConfig>| {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let sequence = pace.lock().sequences.pop_front();
        drop(requests.try_send(request));
        let answer = sequence.map(|sequence| Ok(wire::append_response(sequence, &Ok(last))));
        futures::future::ready(answer)
    });
    Box::pin(answers)
}

pub(super) fn stopped(fatal: &Fatal<TypeConfig>) -> Status {
    Refusal::Stopped.status(fatal.to_string())
}

fn failed(error: &RaftError<TypeConfig>) -> Status {
    Refusal::Stopped.status(error.to_string())
}

#[tonic::async_trait]
impl raft_server::Raft for Service {
    type AppendStream = Answers<proto::AppendResponse>;
    type BeatStream = ReceiverStream<Result<proto::BeatResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<proto::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        // Answered at once, so that the caller begins to send.
        let answers = stream::once(self.0.clone().append(request.into_inner())).try_flatten();
        Ok(Response::new(Box::pin(answers)))
    }

    async fn beat(
        &self,
        request: Request<Streaming<proto::BeatRequest>>,
    ) -> Result<Response<Self::BeatStream>, Status> {
        let (answers, outgoing) = mpsc::channel(16);
        let inner = self.0.clone();
        tokio::spawn(inner.beats(request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        let mut message = request.into_inner();
        let replica = self.0.replica(message.route.take())?;
        let answer = replica.vote(wire::vote(message)?).await.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::vote_response(&answer)))
    }

    async fn pre_vote(
        &self,
        request: Request<proto::VoteRequest>,
    ) -> Result<Response<proto::VoteResponse>, Status> {
        let mut message = request.into_inner();
        let replica = self.0.replica(message.route.take())?;
        let answer =
            replica.pre_vote(wire::vote(message)?).await.map_err(|error| failed(&error))?;
        Ok(Response::new(wire::vote_response(&answer)))
    }

    async fn transfer_leader(
        &self,
        request: Request<proto::TransferLeaderRequest>,
    ) -> Result<Response<proto::TransferLeaderResponse>, Status> {
        let mut message = request.into_inner();
        let replica = self.0.replica(message.route.take())?;
        let told = replica.hand_over(wire::transfer(message)?).await;
        let answer = told.map_err(|fatal| stopped(&fatal))?;
        Ok(Response::new(wire::transfer_response(&answer)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<proto::SnapshotChunk>>,
    ) -> Result<Response<proto::SnapshotResponse>, Status> {
        // A task of its own: a caller that goes away ends the stream, and what
        // it sent is removed; an installation that began runs to its end.
        let receiving = tokio::spawn(self.0.clone().snapshot(request.into_inner()));
        let answer = receiving.await.map_err(|error| Status::internal(error.to_string()))??;
        Ok(Response::new(answer))
    }
}
