//! Stopping a node.

use std::{sync::atomic::Ordering, time::Duration};

use cardea_storage::Fault;
use futures::future::join_all;

use super::{ClusterNode, lead};
use crate::member::Member;

/// How long hand-overs may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// How long tasks may take to notice that the node stops.
const TASKS_MAX: Duration = Duration::from_secs(5);

/// See [`ClusterNode::shutdown`].
pub(super) async fn shutdown(node: &ClusterNode) -> Result<(), Fault> {
    if let Some(member) = node.member() {
        member.draining.store(true, Ordering::Release);
        if tokio::time::timeout(HAND_OVER_MAX, hand_over(&member)).await.is_err() {
            tracing::warn!("some leaderships were not handed over");
        }
    }
    end(node, true).await
}

/// See [`ClusterNode::abandon`].
pub(super) async fn abandon(node: &ClusterNode) {
    if let Err(fault) = end(node, false).await {
        tracing::debug!(?fault, "abandoned with a fault");
    }
}

async fn end(node: &ClusterNode, gracefully: bool) -> Result<(), Fault> {
    node.stopping.cancel();
    let tasks: Vec<_> = std::mem::take(&mut *node.tasks.lock());
    let aborts: Vec<_> = tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    if !gracefully {
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
    }
    if tokio::time::timeout(TASKS_MAX, join_all(tasks)).await.is_err() {
        aborts.iter().for_each(tokio::task::AbortHandle::abort);
    }
    drop(node.listener.lock().take());
    let Some(member) = node.member.send_replace(None) else { return Ok(()) };
    node.shards.release();
    let mut outcome = member.host.close().await;
    let replicas = std::mem::take(&mut *member.replicas.write());
    member.offices.write().clear();
    if gracefully {
        let flushed = cardea_raft::blocking::spawn(move || {
            replicas.values().map(|replica| replica.flush()).fold(Ok(()), Result::and)
        });
        let flushed = flushed.await.map_err(|error| Fault::caused("flush the tablets", error));
        outcome = outcome.and(flushed.and_then(|flushed| flushed));
    }
    outcome
}

/// Hands every leadership to another voter, as far as there are others.
async fn hand_over(member: &Member) {
    let led = member.replicas().into_iter().filter_map(|replica| {
        let status = member.host.status(replica.group())?;
        let successor = status.leads().then(|| lead::successor(member, &status))??;
        Some((replica.group(), successor))
    });
    join_all(led.map(|(group, successor)| async move {
        if let Err(error) = member.host.transfer_leader(group, successor).await {
            tracing::debug!(%group, ?error, "the lead was not handed over");
        }
    }))
    .await;
}
