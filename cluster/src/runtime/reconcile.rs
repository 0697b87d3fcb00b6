//! The replicas on this node are those that the directory names: new ones are
//! started, dropped ones removed with their log and tablet, and the founder of
//! a group that was never formed forms it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cardea_raft::{GroupId, ReplicaId, StartError};
use cardea_storage::Fault;

use super::open::start_replica;
use crate::{DIRECTORY, member::Member};

const PERIOD: Duration = Duration::from_secs(1);

/// Looks again whenever the directory changes, and now and then.
pub(super) async fn run(member: Arc<Member>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut views = member.directory.watch();
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            () = member.wake.notified() => {}
            _ = period.tick() => {}
        }
        views.mark_unchanged();
        remove_dropped(&member).await;
        start_missing(&member).await;
        form(&member).await;
        if let Some(fault) = superseded(&member) {
            member.raise(fault);
        }
    }
}

/// Another process has announced itself under this node's id: two must not run.
fn superseded(member: &Member) -> Option<Fault> {
    let view = member.directory.view();
    let record = view.nodes.get(&member.node)?;
    if record.process == 0 || record.process == member.process {
        return None;
    }
    // The row of this process's predecessor is older than this process.
    let seen = member.announced.load(std::sync::atomic::Ordering::Acquire);
    seen.then(|| {
        Fault::new(format!(
            "another process runs as node {} at {}: its data directory was copied",
            member.node, record.address
        ))
    })
}

async fn start_missing(member: &Arc<Member>) {
    let view = member.directory.view();
    let wanted: Vec<(GroupId, ReplicaId)> = view
        .replicas_on(member.node)
        .filter(|(group, replica)| {
            // Only the founder starts before the group is formed.
            let shard = view.shards.get(group);
            shard.is_some_and(|shard| shard.formed || shard.founder == replica.0)
        })
        .filter(|(group, _)| member.replica(*group).is_none())
        .collect();
    for (group, replica) in wanted {
        match start_replica(member, group, replica).await {
            Ok(()) | Err(StartError::Running | StartError::Closing) => {}
            Err(StartError::StateLost) => {
                tracing::error!(%group, %replica, "the state of this replica is lost: it has to be replaced");
            }
            Err(StartError::Log(error)) => {
                tracing::warn!(%group, %replica, ?error, "a replica cannot start yet");
            }
            Err(StartError::Fault(fault)) => member.raise(fault),
        }
    }
}

/// Removes replicas that have a tombstone.
async fn remove_dropped(member: &Arc<Member>) {
    let view = member.directory.view();
    let stored = member.host.stored_groups().await.unwrap_or_default();
    let running: BTreeMap<GroupId, ReplicaId> =
        member.replicas().iter().map(|replica| (replica.group(), replica.id())).collect();
    for tombstone in view.tombstones.iter().filter(|tombstone| tombstone.node == member.node) {
        let (group, replica) = (tombstone.group, tombstone.replica);
        let here = stored.get(&group) == Some(&replica) || running.get(&group) == Some(&replica);
        if !here || group == DIRECTORY {
            continue;
        }
        if let Err(error) = remove(member, group, replica).await {
            tracing::error!(%group, %replica, ?error, "a dropped replica cannot be removed");
        }
    }
}

async fn remove(
    member: &Arc<Member>,
    group: GroupId,
    replica: ReplicaId,
) -> Result<(), StartError> {
    member.replicas.write().remove(&group);
    member.offices.write().remove(&group);
    member.host.remove_group(group, replica).await?;
    let (disk, at) = (member.disk.clone(), member.tablet_at(group, replica));
    let removed = cardea_raft::blocking::spawn(move || disk.remove(&at)).await;
    removed.map_err(|error| Fault::caused("remove a tablet", error))??;
    tracing::info!(%group, %replica, "a replica was removed");
    Ok(())
}

/// Forms the groups that this node is to found: alone, before others are added.
async fn form(member: &Arc<Member>) {
    let view = member.directory.view();
    for (group, shard) in &view.shards {
        let Some(replica) = member.replica(*group) else { continue };
        if shard.formed || shard.founder != replica.id().0 {
            continue;
        }
        let fresh = member.host.status(*group).is_some_and(|status| status.voters.is_empty());
        if !fresh {
            continue;
        }
        let founders = BTreeMap::from([(replica.id(), member.node)]);
        if let Err(error) = member.host.initialize(*group, founders).await {
            tracing::warn!(%group, ?error, "a group cannot be formed yet");
        }
    }
}
