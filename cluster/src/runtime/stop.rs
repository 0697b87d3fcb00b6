//! Stopping a node.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use cardea_storage::{
    Fault,
    engine::{Claim, Engine},
};
use futures::future::join_all;

use super::{ClusterNode, lead};
use crate::member::Member;

/// How long hand-overs may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);
/// How long tasks may take to notice that the node stops.
const TASKS_MAX: Duration = Duration::from_secs(5);
/// How long reads and writes that were begun may hold what the disk has open.
const LET_GO_MAX: Duration = Duration::from_secs(5);
/// Between two looks at that.
const LOOK_EVERY: Duration = Duration::from_millis(1);

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
    let claims = claims(&member);
    let mut outcome = member.host.close().await;
    let replicas = std::mem::take(&mut *member.replicas.write());
    member.offices.write().clear();
    if gracefully {
        let flushed = cardea_raft::blocking::spawn(move || {
            replicas.values().map(|replica| replica.flush()).fold(Ok(()), Result::and)
        });
        let flushed = flushed.await.map_err(|error| Fault::caused("flush the tablets", error));
        outcome = outcome.and(flushed.and_then(|flushed| flushed));
    } else {
        drop(replicas);
    }
    drop(member);
    if !let_go(claims).await {
        tracing::warn!("something still reads the data directory of the node that stopped");
    }
    outcome
}

/// What the node has open: its log, and its tablets.
fn claims(member: &Member) -> Vec<Weak<Claim>> {
    let tablets = member.replicas().into_iter();
    let tablets = tablets.map(|replica| replica.machine().engine().claim());
    tablets.chain([member.host.log_claim()]).collect()
}

/// Waits until none of these is open; whether that is so. A task that ended a moment ago may
/// still have somebody on a thread of its own read a tablet for it; whoever opens the data
/// directory when this node has stopped must not be told that it is in use, and whoever
/// removes a tablet is not to have it fail who still writes to it.
async fn let_go(claims: Vec<Weak<Claim>>) -> bool {
    until(|| claims.iter().all(|claim| claim.strong_count() == 0)).await
}

/// Closes an engine that nobody is to use any more, as soon as all others have let it go;
/// whether they did. Closing may write and wait, so it is done where that holds nobody up: who
/// drops the last handle closes it, and that could be anybody.
pub(super) async fn close(engine: Arc<dyn Engine>) -> bool {
    let claim = engine.claim();
    until(|| Arc::strong_count(&engine) == 1).await;
    let closed = cardea_raft::blocking::spawn(move || drop(engine)).await;
    closed.is_ok() && let_go(vec![claim]).await
}

async fn until(done: impl Fn() -> bool) -> bool {
    let waited = tokio::time::timeout(LET_GO_MAX, async {
        while !done() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
    waited.await.is_ok()
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use cardea_storage::engine::{Disk, EngineOptions, Purpose, memory::MemoryDisk};

    use super::*;

    /// A node that was opened again right after it had stopped found its log or a
    /// tablet in use, by a read that somebody else's thread had not brought to its end.
    #[tokio::test]
    async fn a_node_has_stopped_when_its_data_can_be_opened_again() {
        let disk = MemoryDisk::new(1);
        let at = Path::new("/data/log");
        let options = || EngineOptions { purpose: Purpose::Log, retention: None };
        let engine = disk.open(at, options()).unwrap();
        let held = engine.claim();
        assert!(disk.open(at, options()).is_err());
        let (read, reading) = std::sync::mpsc::channel::<()>();
        let reader = std::thread::spawn(move || {
            let _ = reading.recv();
            drop(engine);
        });
        let stopped = tokio::spawn(let_go(vec![held]));
        tokio::task::yield_now().await;
        assert!(!stopped.is_finished());
        drop(read);
        assert!(stopped.await.unwrap());
        disk.open(at, options()).unwrap();
        reader.join().unwrap();
    }
}
