//! The called side.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId, transport::Refusal};
use cardea_storage::{
    KeyRange, Revision, StoreError,
    protocol::shards::Terms,
    txn::{Command, command::Action},
};
use futures::{FutureExt, Stream, StreamExt, stream::FuturesUnordered};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    MESSAGE_BYTES_MAX,
    operations::OperationError,
    proto::{
        self,
        cluster_server::{self, ClusterServer},
    },
};
use crate::{
    directory::records::NodeState,
    life::departure,
    member::Member,
    runtime::{heartbeat, join},
    shards::{propose, read, watch, wire},
};

/// How long the first message of a stream is awaited.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// Proposals of one node that are under way; more wait unread.
const PROPOSALS: usize = 8_192;
/// Answers in one message, and messages under way to the connection.
const ANSWERS_TOGETHER: usize = 256;
const ANSWERS: usize = 16;

/// The service of a member.
pub(crate) fn service(member: &Arc<Member>) -> ClusterServer<impl cluster_server::Cluster> {
    // Connections may outlive the node for a moment, and must not hold its disk.
    ClusterServer::new(Service(Arc::downgrade(member)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

struct Service(Weak<Member>);

impl Service {
    fn member(&self) -> Result<Arc<Member>, Status> {
        self.0.upgrade().ok_or_else(|| Refusal::Stopped.status("the node has stopped"))
    }

    /// Refuses other clusters, and calls meant for another node.
    fn addressed(
        &self,
        caller: Option<proto::Caller>,
    ) -> Result<(Arc<Member>, proto::Caller), Status> {
        let member = self.member()?;
        let caller = caller.ok_or_else(|| Refusal::Malformed.status("caller is missing"))?;
        if caller.cluster != member.cluster.0.as_slice() {
            return Err(Refusal::WrongCluster.status(format!("this is cluster {}", member.cluster)));
        }
        if caller.to_node != member.node.0 {
            return Err(Refusal::WrongNode
                .status(format!("this is node {}, not n{}", member.node, caller.to_node)));
        }
        Ok((member, caller))
    }

    /// Refuses strangers: also nodes that the directory does not know or has let go.
    fn check(&self, caller: Option<proto::Caller>) -> Result<Arc<Member>, Status> {
        let (member, caller) = self.addressed(caller)?;
        let view = member.directory.view();
        if view.cluster.is_none() {
            // Joining: nobody is known yet.
            return Ok(member);
        }
        match view.nodes.get(&NodeId(caller.from_node)) {
            Some(record) if record.state() != NodeState::Decommissioned => Ok(member),
            Some(_) => {
                Err(Refusal::Stopped
                    .status(format!("node n{} was decommissioned", caller.from_node)))
            }
            None => {
                Err(Refusal::WrongNode.status(format!("no node n{} is known", caller.from_node)))
            }
        }
    }
}

impl Service {
    /// Proposes what comes in a stream, and answers as answers come.
    async fn proposals(
        &self,
        first: proto::ProposeBatch,
        mut incoming: impl Stream<Item = Result<proto::ProposeBatch, Status>> + Unpin + Send,
        caller: &Option<proto::Caller>,
        answers: &mpsc::Sender<Result<proto::ProposeAnswers, Status>>,
    ) {
        let mut under_way = FuturesUnordered::new();
        let mut next = Some(first);
        let mut open = true;
        loop {
            if let Some(batch) = next.take() {
                // The caller may have been let go since, or this node stopped.
                let member = match self.check(caller.clone()) {
                    Ok(member) => member,
                    Err(refusal) => {
                        open = false;
                        // Of those before, each is unknown to the caller by this.
                        drop(answers.send(Err(refusal)).await);
                        continue;
                    }
                };
                under_way.extend(batch.proposals.into_iter().map(|p| propose_one(&member, p)));
            }
            tokio::select! {
                message = incoming.next(), if open && under_way.len() < PROPOSALS => {
                    match message {
                        Some(Ok(batch)) => next = Some(batch),
                        // What was begun is brought to its end.
                        Some(Err(_)) | None => open = false,
                    }
                }
                Some(answer) = under_way.next(), if !under_way.is_empty() => {
                    let mut ready = vec![answer];
                    while ready.len() < ANSWERS_TOGETHER
                        && let Some(Some(answer)) = under_way.next().now_or_never()
                    {
                        ready.push(answer);
                    }
                    // A caller that went away hears nothing.
                    drop(answers.send(Ok(proto::ProposeAnswers { answers: ready })).await);
                }
                else => return,
            }
        }
    }
}

fn propose_one(
    member: &Arc<Member>,
    proposal: proto::Proposal,
) -> impl Future<Output = proto::ProposeAnswer> + Send + use<> {
    let member = member.clone();
    async move {
        let proto::Proposal { sequence, group, command, bypass, claimant } = proposal;
        let answer = match understood(command) {
            Some(action) => {
                let terms = terms(bypass, claimant);
                propose::propose_here(&member, GroupId(group), action, terms).await
            }
            None => propose::Answer::Unavailable("the command is not understood".to_owned()),
        };
        proto::ProposeAnswer { sequence, response: Some(propose_response(answer)) }
    }
}

fn understood(command: Bytes) -> Option<Action> {
    Command::decode(command).ok()?.action
}

fn terms(bypass: bool, claimant: u64) -> Terms {
    let terms = if bypass { Terms::BYPASS } else { Terms::ORDINARY };
    terms.of(claimant)
}

fn propose_response(answer: propose::Answer) -> proto::ProposeResponse {
    use propose::Answer;
    use proto::propose_response::Result as Of;
    let result = match answer {
        Answer::Outcome(outcome) => Of::Outcome(outcome.encode()),
        Answer::NotLeader(leader) => {
            Of::NotLeader(proto::NotLeader { leader: leader.map(|node| node.0) })
        }
        Answer::Overloaded(after) => Of::Overloaded(proto::Overloaded {
            retry_after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        }),
        Answer::Unavailable(reason) | Answer::Unreached(reason) => {
            Of::Unavailable(proto::Unavailable { reason })
        }
        Answer::Unknown => Of::Unknown(proto::Unknown {}),
    };
    proto::ProposeResponse { result: Some(result) }
}

#[async_trait]
impl cluster_server::Cluster for Service {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let member = self.check(request.caller)?;
        let group = GroupId(request.group);
        let Some(replica) = member.replica(group).filter(|replica| replica.owns_slots()) else {
            return Err(Refusal::UnknownGroup.status(format!("no replica of {group} is here")));
        };
        let range = KeyRange { start: request.start, end: request.end };
        let feed = replica.machine().feed();
        // What is sent holds the feed, and not the replica; nor does it keep a node from
        // stopping.
        let messages = watch::messages(feed.subscribe(range, Revision(request.after)));
        let stopping = member.stopping.clone().cancelled_owned();
        Ok(Response::new(Box::pin(messages.take_until(stopping))))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeResponse>, Status> {
        let request = request.into_inner();
        let member = self.check(request.caller)?;
        let malformed = || Refusal::Malformed.status("the command is not understood");
        let action = understood(request.command).ok_or_else(malformed)?;
        let terms = terms(request.bypass, request.claimant);
        // On a task of its own: what was begun goes on if the caller goes away.
        let group = GroupId(request.group);
        let proposed =
            tokio::spawn(async move { propose::propose_here(&member, group, action, terms).await });
        let answer = proposed.await.unwrap_or(propose::Answer::Unknown);
        Ok(Response::new(propose_response(answer)))
    }

    type ProposeManyStream = ReceiverStream<Result<proto::ProposeAnswers, Status>>;

    async fn propose_many(
        &self,
        request: Request<Streaming<proto::ProposeBatch>>,
    ) -> Result<Response<Self::ProposeManyStream>, Status> {
        let mut incoming = request.into_inner();
        let first = tokio::time::timeout(FIRST_MAX, incoming.message())
            .await
            .map_err(|_| Refusal::Stalled.status("the stream does not begin"))??
            .ok_or_else(|| Refusal::Malformed.status("an empty stream"))?;
        let caller = first.caller.clone();
        // Before anything is proposed.
        let stopping = self.check(caller.clone())?.stopping.clone();
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        let service = Self(self.0.clone());
        // On a task of its own: what was begun goes on if the caller goes away.
        tokio::spawn(async move {
            let incoming = incoming.take_until(stopping.cancelled_owned());
            service.proposals(first, Box::pin(incoming), &caller, &answers).await;
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn read(
        &self,
        request: Request<proto::ReadRequest>,
    ) -> Result<Response<proto::ReadResponse>, Status> {
        use proto::read_response::Result as Of;
        let mut request = request.into_inner();
        let member = self.check(request.caller.take())?;
        let group = GroupId(request.group);
        let wanted = wire::shard_read(request)
            .ok_or_else(|| Refusal::Malformed.status("the read is not understood"))?;
        let Some(replica) = member.replica(group).filter(|replica| replica.owns_slots()) else {
            return Err(Refusal::UnknownGroup.status(format!("no replica of {group} reads here")));
        };
        let result = match read::read_here(&member, &replica, wanted).await {
            Ok(Some(seen)) => Of::Seen(wire::seen_message(seen)),
            Ok(None) => Of::Moved(proto::Moved {}),
            Err(StoreError::Fault(_)) => {
                let reason = "the node failed".to_owned();
                Of::Unavailable(proto::Unavailable { reason })
            }
            Err(error) => Of::Unavailable(proto::Unavailable { reason: error.to_string() }),
        };
        Ok(Response::new(proto::ReadResponse { result: Some(result) }))
    }

    async fn join(
        &self,
        request: Request<proto::JoinRequest>,
    ) -> Result<Response<proto::JoinResponse>, Status> {
        let (request, member) = (request.into_inner(), self.member()?);
        if !request.cluster.is_empty() && request.cluster != member.cluster.0.as_slice() {
            return Err(Refusal::WrongCluster.status(format!("this is cluster {}", member.cluster)));
        }
        let result = join::admit(&member, request).await;
        Ok(Response::new(proto::JoinResponse { result: Some(result) }))
    }

    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        let mut request = request.into_inner();
        if let Some(caller) = request.caller.as_mut().filter(|caller| caller.to_node == 0) {
            // Who looks for nodes that moved does not know whom he found.
            caller.to_node = self.member()?.node.0;
        }
        let from = request.caller.as_ref().map_or(0, |caller| caller.from_node);
        let member = self.check(request.caller)?;
        if from != member.node.0 && request.process != 0 {
            member.comparison.met(NodeId(from), request.process);
        }
        if from != member.node.0 && !request.address.is_empty() {
            member.book.moved(NodeId(from), request.process, request.address);
        }
        Ok(Response::new(heartbeat::report(&member)))
    }

    async fn operate(
        &self,
        request: Request<proto::OperateRequest>,
    ) -> Result<Response<proto::OperateResponse>, Status> {
        use proto::operate_response::Result as Of;
        let request = request.into_inner();
        let member = match request.action.as_str() {
            // Who has left may ask whether it has.
            departure::WAIT => self.addressed(request.caller)?.0,
            _ => self.check(request.caller)?,
        };
        let done = tokio::spawn(async move {
            crate::runtime::operate::operate_here(&member, &request.action, request.body).await
        });
        let result = match done.await {
            Ok(Ok(body)) => Of::Body(body),
            Ok(Err(OperationError::NotLeader(leader))) => {
                Of::NotLeader(proto::NotLeader { leader: leader.map(|node| node.0) })
            }
            Ok(Err(error)) => {
                Of::Declined(proto::Declined { kind: error.kind(), reason: error.to_string() })
            }
            Err(_) => {
                let reason = "the action was broken off".to_owned();
                Of::Declined(proto::Declined { kind: 5, reason })
            }
        };
        Ok(Response::new(proto::OperateResponse { result: Some(result) }))
    }
}
