//! The replicas on this node are those that the directory names: new ones are
//! started, dropped ones removed with their log and tablet, and the founder of
//! a group that was never formed forms it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use cardea_raft::{GroupId, ReplicaId, StartError};
use cardea_storage::Fault;

use super::{open::start_replica, stop::close};
use crate::{
    DIRECTORY,
    directory::TombstoneKey,
    member::{Member, tablet_name},
};

const PERIOD: Duration = Duration::from_secs(1);

/// Looks again whenever the directory changes, and now and then.
pub(super) async fn run(member: Arc<Member>) {
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut views = member.directory.watch();
    let mut gone = BTreeSet::new();
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
            () = member.wake.notified() => {}
            _ = period.tick() => {}
        }
        views.mark_unchanged();
        remove_dropped(&member, &mut gone).await;
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

/// Removes replicas that have a tombstone, and what a crash left of one that was being
/// removed. `gone` are those of which nothing is left.
async fn remove_dropped(member: &Arc<Member>, gone: &mut BTreeSet<TombstoneKey>) {
    let view = member.directory.view();
    let own = |dropped: &&TombstoneKey| dropped.node == member.node && dropped.group != DIRECTORY;
    let left = view.tombstones.iter().filter(own).filter(|dropped| !gone.contains(*dropped));
    let dropped: Vec<TombstoneKey> = left.copied().collect();
    if dropped.is_empty() {
        return;
    }
    let found = match found(member).await {
        Ok(found) => found,
        Err(fault) => return tracing::error!(?fault, "dropped replicas cannot be looked for"),
    };
    for tombstone in dropped {
        let (group, replica) = (tombstone.group, tombstone.replica);
        match remove(member, group, replica, &found).await {
            Ok(()) => drop(gone.insert(tombstone)),
            Err(error) => {
                tracing::error!(%group, %replica, ?error, "a dropped replica cannot be removed");
            }
        }
    }
}

/// What there is of replicas on the disk.
struct Found {
    logs: BTreeMap<GroupId, ReplicaId>,
    /// By [their names](tablet_name).
    tablets: BTreeSet<String>,
}

async fn found(member: &Arc<Member>) -> Result<Found, Fault> {
    let logs = member.host.stored_groups().await?;
    let (disk, at) = (member.disk.clone(), member.tablets());
    let tablets = cardea_raft::blocking::spawn(move || disk.list(&at)).await;
    let tablets = tablets.map_err(|error| Fault::caused("list the tablets", error))??;
    Ok(Found { logs, tablets: tablets.into_iter().collect() })
}

/// Removes what there is of a replica: its log, then its tablet. Another one of its group may
/// be here by now.
async fn remove(
    member: &Arc<Member>,
    group: GroupId,
    replica: ReplicaId,
    found: &Found,
) -> Result<(), StartError> {
    let running = member.replica(group).filter(|running| running.id() == replica);
    if running.is_some() {
        member.replicas.write().remove(&group);
        member.offices.write().remove(&group);
    }
    let has_log = found.logs.get(&group) == Some(&replica);
    let has_tablet = found.tablets.contains(&tablet_name(group, replica));
    if running.is_some() || has_log {
        member.host.remove_group(group, replica).await?;
    }
    // From now on it is replaced by no other.
    let engine = running.map(|running| running.machine().engine());
    if !has_tablet {
        return Ok(());
    }
    // Who still writes it would fail, and a node whose disk fails stops.
    if let Some(engine) = engine
        && !close(engine).await
    {
        tracing::warn!(%group, %replica, "something still reads a replica that is removed");
    }
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
