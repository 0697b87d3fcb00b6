//! The calling side.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use cardea_raft::{
    GroupId, NodeId,
    transport::{Purpose, Refusal},
};
use cardea_storage::{
    KeyRange, Revision, StoreError,
    protocol::shards::{Admission, ShardRead, ShardSeen, Terms},
    txn::{Command, Outcome, command::Action},
};
use prost::Message;
use tokio::time::timeout;
use tonic::{ConnectError, Status, Streaming, transport::Channel};

use super::{
    MESSAGE_BYTES_MAX,
    forward::{Forwarded, Way},
    operations::OperationError,
    proto::{self, cluster_client::ClusterClient},
};
use crate::{
    member::Member,
    shards::{propose::Answer, wire},
};

/// How long the answer to a proposal is awaited before it is unknown.
const PROPOSE_MAX: Duration = Duration::from_secs(6);
/// How long the answer to a read is awaited.
const READ_MAX: Duration = Duration::from_secs(6);
/// How long the answer to a question for the status is awaited.
const STATUS_MAX: Duration = Duration::from_secs(1);
/// How long an operator's action may take.
const OPERATE_MAX: Duration = Duration::from_secs(600);

/// A client over a channel.
pub(crate) fn over(channel: Channel) -> ClusterClient<Channel> {
    ClusterClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

fn client(member: &Member, node: NodeId) -> ClusterClient<Channel> {
    over(member.channels.channel(node, Purpose::Cluster))
}

fn caller(member: &Member, to: NodeId) -> proto::Caller {
    proto::Caller {
        cluster: Bytes::copy_from_slice(&member.cluster.0),
        from_node: member.node.0,
        to_node: to.0,
    }
}

/// Whether a failed call certainly did nothing: it was refused at the door, or
/// there was no connection to send it on.
pub(super) fn certainly_nothing(status: &Status) -> bool {
    if Refusal::of(status).is_some() {
        return true;
    }
    let mut source = status.source();
    while let Some(error) = source {
        if error.downcast_ref::<ConnectError>().is_some() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Has `node` propose.
pub(crate) async fn propose(
    member: &Member,
    node: NodeId,
    group: GroupId,
    action: &Action,
    terms: Terms,
) -> Answer {
    let command = Command { stamp: 0, version: 0, action: Some(action.clone()) };
    let command = Bytes::from(command.encode_to_vec());
    let way =
        Way { channels: &member.channels, cluster: member.cluster, from: member.node, to: node };
    let forwarded =
        member.forwarders.propose(way, group, command.clone(), terms, PROPOSE_MAX).await;
    match forwarded {
        Some(Forwarded::Answered(answer)) => answer,
        Some(Forwarded::Unsupported) => propose_alone(member, node, group, command, terms).await,
        None => Answer::Unknown,
    }
}

/// The same by a call of its own.
async fn propose_alone(
    member: &Member,
    node: NodeId,
    group: GroupId,
    command: Bytes,
    terms: Terms,
) -> Answer {
    let request = proto::ProposeRequest {
        caller: Some(caller(member, node)),
        group: group.0,
        command,
        bypass: terms.admission == Admission::Bypass,
        claimant: terms.claimant,
    };
    match timeout(PROPOSE_MAX, client(member, node).propose(request)).await {
        Ok(Ok(response)) => answer_of(Some(response.into_inner())),
        Ok(Err(status)) if certainly_nothing(&status) => {
            Answer::Unreached(format!("{node} was not reached: {}", status.message()))
        }
        Ok(Err(_)) | Err(_) => Answer::Unknown,
    }
}

/// What a node's answer to a proposal says.
pub(super) fn answer_of(response: Option<proto::ProposeResponse>) -> Answer {
    use proto::propose_response::Result as Of;
    match response.and_then(|response| response.result) {
        Some(Of::Outcome(bytes)) => match Outcome::decode(&bytes) {
            Ok(outcome) => Answer::Outcome(outcome),
            // Of a newer node; it may be anything.
            Err(_) => Answer::Unknown,
        },
        Some(Of::NotLeader(not)) => Answer::NotLeader(not.leader.map(NodeId)),
        Some(Of::Overloaded(overloaded)) => {
            Answer::Overloaded(Duration::from_millis(overloaded.retry_after_ms))
        }
        Some(Of::Unavailable(unavailable)) => Answer::Unavailable(unavailable.reason),
        Some(Of::Unknown(_)) | None => Answer::Unknown,
    }
}

/// Has `node` read.
pub(crate) async fn read(
    member: &Member,
    node: NodeId,
    group: GroupId,
    read: &ShardRead,
) -> Result<Option<ShardSeen>, StoreError> {
    use proto::read_response::Result as Of;
    let request = wire::read_request(caller(member, node), group.0, read);
    let failed = |what: &str| StoreError::unavailable(format!("{node} did not read: {what}"));
    let response = match timeout(READ_MAX, client(member, node).read(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return Err(failed(status.message())),
        Err(_) => return Err(failed("no answer in time")),
    };
    match response.result {
        Some(Of::Seen(seen)) => {
            wire::shard_seen(seen).map(Some).map_err(|fault| failed(&fault.to_string()))
        }
        Some(Of::Moved(_)) => Ok(None),
        Some(Of::Unavailable(unavailable)) => Err(failed(&unavailable.reason)),
        None => Err(failed("the answer says nothing")),
    }
}

/// Has `node` tell what changes in a range, from behind `after`.
pub(crate) async fn watch(
    member: &Member,
    node: NodeId,
    group: GroupId,
    range: &KeyRange,
    after: Revision,
) -> Result<Streaming<proto::WatchResponse>, StoreError> {
    let request = proto::WatchRequest {
        caller: Some(caller(member, node)),
        group: group.0,
        start: range.start.clone(),
        end: range.end.clone(),
        after: after.0,
    };
    let failed = |what: &str| StoreError::unavailable(format!("{node} tells no changes: {what}"));
    match timeout(READ_MAX, client(member, node).watch(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failed(status.message())),
        Err(_) => Err(failed("no answer in time")),
    }
}

/// Asks `node` how it is.
pub(crate) async fn status(member: &Member, node: NodeId) -> Result<proto::StatusResponse, String> {
    status_over(member, member.channels.channel(node, Purpose::Cluster), node).await
}

/// Asks whoever is at the other end of a channel; `node` 0 for whoever that is.
pub(crate) async fn status_over(
    member: &Member,
    channel: Channel,
    node: NodeId,
) -> Result<proto::StatusResponse, String> {
    let request = proto::StatusRequest {
        caller: Some(caller(member, node)),
        address: member.address.clone(),
        process: member.process,
    };
    match timeout(STATUS_MAX, over(channel).status(request)).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

/// Has `node` do an operator's action.
pub(crate) async fn operate(
    member: &Member,
    node: NodeId,
    action: &str,
    body: Bytes,
) -> Result<Bytes, OperationError> {
    use proto::operate_response::Result as Of;
    let request = proto::OperateRequest {
        caller: Some(caller(member, node)),
        action: action.to_owned(),
        body,
    };
    let response = match timeout(OPERATE_MAX, client(member, node).operate(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) if certainly_nothing(&status) => {
            let reason = format!("{node} was not reached: {}", status.message());
            return Err(OperationError::Unavailable(reason));
        }
        Ok(Err(status)) => return Err(OperationError::Unknown(status.message().to_owned())),
        Err(_) => return Err(OperationError::Unknown("no answer in time".to_owned())),
    };
    match response.result {
        Some(Of::Body(body)) => Ok(body),
        Some(Of::Declined(declined)) => {
            Err(OperationError::of_kind(declined.kind, declined.reason))
        }
        Some(Of::NotLeader(not)) => Err(OperationError::NotLeader(not.leader.map(NodeId))),
        None => Err(OperationError::Unknown("the answer says nothing".to_owned())),
    }
}
