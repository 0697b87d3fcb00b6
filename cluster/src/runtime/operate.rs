//! Operators' actions on particular nodes. The cluster's own begin with
//! `cluster.`; the others go to whoever registered.

use std::sync::Arc;

use bytes::Bytes;
use cardea_raft::{ChangeError, GroupId, NodeId};
use prost::Message;

use crate::{
    life::departure,
    member::Member,
    service::{client, operations::OperationError},
};

const MOVE_LEADER: &str = "cluster.move-leader";

/// The body of [`MOVE_LEADER`].
#[derive(Clone, PartialEq, Message)]
struct MoveLeader {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(uint64, tag = "2")]
    to_node: u64,
}

/// Has a node do an action; this one does it itself.
pub(crate) async fn operate(
    member: &Arc<Member>,
    node: NodeId,
    action: &str,
    body: Bytes,
) -> Result<Bytes, OperationError> {
    if node == member.node {
        operate_here(member, action, body).await
    } else {
        client::operate(member, node, action, body).await
    }
}

/// Does an action here.
pub(crate) async fn operate_here(
    member: &Arc<Member>,
    action: &str,
    body: Bytes,
) -> Result<Bytes, OperationError> {
    if action == MOVE_LEADER {
        let asked = MoveLeader::decode(body)
            .map_err(|_| OperationError::Malformed("the body is not understood".to_owned()))?;
        move_here(member, GroupId(asked.group), NodeId(asked.to_node)).await?;
        return Ok(Bytes::new());
    }
    if action == departure::WAIT {
        departure::wait_for(member, body).await?;
        return Ok(Bytes::new());
    }
    if let Some(done) = crate::life::backup::cut::operate(member, action, &body).await {
        return done;
    }
    Err(OperationError::Unavailable(format!("this node does not know {action}")))
}

/// Hands the lead of a group to the replica on a node, wherever it lies now.
pub(crate) async fn move_leader(
    member: &Arc<Member>,
    group: GroupId,
    to: NodeId,
) -> Result<(), OperationError> {
    if !member.directory.view().shards.contains_key(&group) {
        return Err(OperationError::NotFound(format!("there is no shard {}", group.0)));
    }
    let body = Bytes::from(MoveLeader { group: group.0, to_node: to.0 }.encode_to_vec());
    let mut at = member.leader_of(group);
    // The leader, and whom it names if it just lost its office.
    for _ in 0..3 {
        let Some(node) = at else { break };
        match operate(member, node, MOVE_LEADER, body.clone()).await {
            Ok(_) => return Ok(()),
            Err(OperationError::NotLeader(leader)) => at = leader,
            Err(error) => return Err(error),
        }
    }
    Err(OperationError::Unavailable(format!("no leader of shard {} is known", group.0)))
}

async fn move_here(member: &Arc<Member>, group: GroupId, to: NodeId) -> Result<(), OperationError> {
    let Some(status) = member.host.status(group) else {
        return Err(OperationError::NotLeader(None));
    };
    if !status.leads() {
        return Err(OperationError::NotLeader(status.leader.map(|(_, node)| node)));
    }
    if to == member.node {
        return Ok(());
    }
    let Some((successor, _)) = status.voters.iter().find(|(_, node)| **node == to) else {
        return Err(OperationError::Conflict(format!(
            "node {} does not vote in shard {}",
            to.0, group.0
        )));
    };
    member.host.transfer_leader(group, *successor).await.map_err(|error| match error {
        ChangeError::NotLeader { leader } => OperationError::NotLeader(leader),
        ChangeError::Unknown => OperationError::Unknown("the hand-over was not seen".to_owned()),
        other => OperationError::Conflict(other.to_string()),
    })
}
