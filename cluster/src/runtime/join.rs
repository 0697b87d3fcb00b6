//! Joining: a node without an identity asks any member, who writes its row; the
//! node then starts its replica of the directory, which its leader fills.
//!
//! The node draws a ticket first and keeps it. Should the answer be lost, the
//! next request finds the row that the first one wrote.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_raft::{
    ClusterId, NodeId,
    tls::{ClientTls, client_tls},
    transport::{Purpose, Refusal},
};
use futures::future::join_all;

use super::{ClusterNode, OpenError, Security, identity::Identity, seeds::Seeds};
use crate::{
    directory::{edit, records::NodeRecord},
    member::Member,
    service::{client, proto},
};

/// How long one request to join may take.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long a seed may take to say whether it belongs to a cluster.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(200);

type Answer = proto::join_response::Result;

/// See [`ClusterNode::join`].
pub(super) async fn join(node: &ClusterNode, seeds: &[String]) -> Result<NodeId, OpenError> {
    let serial = node.changing.lock().await;
    let identity = identity_without_cluster(node)?;
    drop(serial);
    // It may take for ever, and the node may be told to make a cluster meanwhile.
    let joined = ask(node, &identity, seeds).await?;
    let serial = node.changing.lock().await;
    let mut identity = identity_without_cluster(node)?;
    identity.cluster = joined.cluster.clone();
    identity.node = joined.node;
    identity.directory_replica = joined.directory_replica;
    let Some((cluster, id)) = identity.of_member() else {
        return Err(OpenError::Refused("the answer names no cluster".to_owned()));
    };
    // Certificates of another cluster must not leave an identity behind.
    node.tls(cluster)?;
    identity.write(node.options.disk.as_ref(), &node.options.data_dir)?;
    let member = node.become_member(&identity).await?;
    identity.started = true;
    identity.write(node.options.disk.as_ref(), &node.options.data_dir)?;
    member.book.say(joined.nodes.into_iter().map(|said| (NodeId(said.node), said.address)));
    tracing::info!(%cluster, node = %id, "this node joined");
    drop(serial);
    let mut views = node.directory.watch();
    tokio::select! {
        () = node.stopping.cancelled() => return Err(OpenError::Stopping),
        arrived = views.wait_for(|view| view.nodes.contains_key(&id)) => {
            drop(arrived.map_err(|_| OpenError::Stopping)?);
        }
    }
    node.announce(&identity).await?;
    Ok(id)
}

/// The identity of a node that belongs to no cluster, with its ticket.
fn identity_without_cluster(node: &ClusterNode) -> Result<Identity, OpenError> {
    let Some(identity) = node.identity()? else {
        let ticket = edit::ticket(node.options.entropy.as_ref().bytes());
        let identity = Identity { ticket, ..Identity::default() };
        identity.write(node.options.disk.as_ref(), &node.options.data_dir)?;
        return Ok(identity);
    };
    match identity.of_member() {
        Some((cluster, _)) => Err(OpenError::AlreadyMember(cluster)),
        None => Ok(identity),
    }
}

/// The cluster of the node's certificates, if it has any, and how it calls others.
fn own_tls(node: &ClusterNode) -> Result<(Bytes, ClientTls), OpenError> {
    Ok(match &node.options.security {
        Security::LoopbackPlain => (Bytes::new(), ClientTls::LoopbackPlain),
        Security::Mutual(credentials) => {
            let cluster: ClusterId = credentials.identity().cluster;
            (Bytes::copy_from_slice(&cluster.0), client_tls(credentials, cluster)?)
        }
    })
}

/// A seed that belongs to a cluster already, if one answers.
pub(super) async fn settled(
    node: &ClusterNode,
    seeds: &[String],
) -> Result<Option<String>, OpenError> {
    if seeds.is_empty() {
        return Ok(None);
    }
    let (_, tls) = own_tls(node)?;
    let seeds = Seeds::new(seeds, &node.options, tls);
    let asked = seeds.addresses.iter().map(|(seed, address)| {
        let mut to = client::over(seeds.channels.channel(*seed, Purpose::Cluster));
        async move {
            // Only members answer, and without a ticket they take nobody in.
            let asking = to.join(proto::JoinRequest::default());
            let answered = tokio::time::timeout(LOOK_MAX, asking).await;
            matches!(answered, Ok(Ok(_))).then(|| address.clone())
        }
    });
    Ok(join_all(asked).await.into_iter().flatten().next())
}

/// Asks until somebody takes the node in.
async fn ask(
    node: &ClusterNode,
    identity: &Identity,
    seeds: &[String],
) -> Result<proto::Joined, OpenError> {
    let (cluster, tls) = own_tls(node)?;
    let profile = &node.options.profile;
    let request = proto::JoinRequest {
        cluster,
        address: profile.address.clone(),
        name: profile.name.clone(),
        region: profile.region.clone(),
        zone: profile.zone.clone(),
        public_url: profile.public_url.clone(),
        admin_url: profile.admin_url.clone(),
        binary_version: profile.binary_version.clone(),
        version_max: node.options.version_max,
        ticket: identity.ticket.clone(),
    };
    let seeds = Seeds::new(seeds, &node.options, tls);
    loop {
        for (seed, address) in &seeds.addresses {
            let mut to = client::over(seeds.channels.channel(*seed, Purpose::Cluster));
            let answered = tokio::select! {
                () = node.stopping.cancelled() => return Err(OpenError::Stopping),
                answered = tokio::time::timeout(ASK_MAX, to.join(request.clone())) => answered,
            };
            match answered {
                Ok(Ok(response)) => match response.into_inner().result {
                    Some(Answer::Joined(joined)) => return Ok(joined),
                    Some(Answer::Refused(refused)) => {
                        return Err(OpenError::Refused(refused.reason));
                    }
                    Some(Answer::Unavailable(why)) => {
                        tracing::info!(address, reason = why.reason, "cannot join yet");
                    }
                    Some(Answer::Elsewhere(_)) | None => {}
                },
                Ok(Err(status)) if Refusal::of(&status) == Some(Refusal::WrongCluster) => {
                    return Err(OpenError::Refused(status.message().to_owned()));
                }
                Ok(Err(status)) => {
                    tracing::debug!(address, reason = status.message(), "cannot join yet");
                }
                Err(_) => tracing::debug!(address, "no answer to the request to join"),
            }
        }
        tokio::time::sleep(PAUSE).await;
        if let Some(member) = node.member() {
            return Err(OpenError::AlreadyMember(member.cluster));
        }
    }
}

/// Takes a node in, on behalf of the cluster.
pub(crate) async fn admit(member: &Arc<Member>, request: proto::JoinRequest) -> Answer {
    let refused = |reason: &str| Answer::Refused(proto::Refused { reason: reason.to_owned() });
    if request.ticket.len() < 16 {
        return refused("the request has no ticket");
    }
    if request.address.is_empty() || request.region.is_empty() {
        return refused("the request names no address or no region");
    }
    let record = NodeRecord {
        name: request.name,
        region: request.region,
        zone: request.zone,
        address: request.address,
        public_url: request.public_url,
        admin_url: request.admin_url,
        binary_version: request.binary_version,
        version_max: request.version_max,
        ticket: request.ticket,
        ..NodeRecord::default()
    };
    match edit::admit_node(&member.store, record).await {
        Ok(admitted) => {
            member.reconcile_now();
            Answer::Joined(proto::Joined {
                cluster: admitted.cluster.id,
                node: admitted.node.0,
                directory_replica: admitted.replica.0,
                nodes: admitted
                    .addresses
                    .into_iter()
                    .map(|(node, address)| proto::NodeAddress { node: node.0, address })
                    .collect(),
                cluster_name: admitted.cluster.name,
            })
        }
        Err(edit::EditError::Conflict(reason)) => refused(&reason),
        Err(error @ edit::EditError::TooOld { .. }) => refused(&error.to_string()),
        Err(error) => Answer::Unavailable(proto::Unavailable { reason: error.to_string() }),
    }
}
