//! The called side.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use cardea_raft::{GroupId, NodeId, transport::Refusal};
use cardea_storage::{KeyRange, Revision, StoreError, protocol::shards::Admission, txn::Command};
use futures::Stream;
use prost::Message;
use tonic::{Request, Response, Status, async_trait};

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
    member::Member,
    runtime::{heartbeat, join},
    shards::{propose, read, watch, wire},
};

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

    /// Refuses strangers: other clusters, calls meant for another node, nodes
    /// that the directory does not know or has let go.
    fn check(&self, caller: Option<proto::Caller>) -> Result<Arc<Member>, Status> {
        let member = self.member()?;
        let caller = caller.ok_or_else(|| Refusal::Malformed.status("caller is missing"))?;
        if caller.cluster != member.cluster.0.as_slice() {
            return Err(Refusal::WrongCluster.status(format!("this is cluster {}", member.cluster)));
        }
        if caller.to_node != member.node.0 {
            return Err(Refusal::WrongNode
                .status(format!("this is node {}, not n{}", member.node, caller.to_node)));
        }
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
        // What is sent holds the feed, and not the replica.
        Ok(Response::new(watch::messages(feed.subscribe(range, Revision(request.after)))))
    }

    async fn propose(
        &self,
        request: Request<proto::ProposeRequest>,
    ) -> Result<Response<proto::ProposeResponse>, Status> {
        use propose::Answer;
        use proto::propose_response::Result as Of;
        let request = request.into_inner();
        let member = self.check(request.caller)?;
        let malformed = || Refusal::Malformed.status("the command is not understood");
        let command = Command::decode(request.command).map_err(|_| malformed())?;
        let action = command.action.ok_or_else(malformed)?;
        let admission = if request.bypass { Admission::Bypass } else { Admission::Ordinary };
        // On a task of its own: what was begun goes on if the caller goes away.
        let group = GroupId(request.group);
        let proposed =
            tokio::spawn(
                async move { propose::propose_here(&member, group, action, admission).await },
            );
        let result = match proposed.await {
            Ok(Answer::Outcome(outcome)) => Of::Outcome(outcome.encode()),
            Ok(Answer::NotLeader(leader)) => {
                Of::NotLeader(proto::NotLeader { leader: leader.map(|node| node.0) })
            }
            Ok(Answer::Overloaded(after)) => Of::Overloaded(proto::Overloaded {
                retry_after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
            }),
            Ok(Answer::Unavailable(reason)) => Of::Unavailable(proto::Unavailable { reason }),
            Ok(Answer::Unknown) | Err(_) => Of::Unknown(proto::Unknown {}),
        };
        Ok(Response::new(proto::ProposeResponse { result: Some(result) }))
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
            Err(StoreError::Fault(fault)) => {
                member.raise(fault);
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
        let member = self.check(request.caller)?;
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
