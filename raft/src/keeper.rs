//! What a host does for its groups now and then: it asks for snapshots when
//! enough was applied since the last, and notices replicas that stopped by
//! themselves.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use cardea_storage::Fault;
use openraft::async_runtime::WatchReceiver as _;

use crate::{group::Group, host::Host};

const PERIOD_MS: u64 = 500;

/// Runs until the host is gone.
pub(crate) async fn keep(host: Weak<Host>) {
    let mut period = tokio::time::interval(Duration::from_millis(PERIOD_MS));
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        let Some(host) = host.upgrade() else { return };
        for group in host.running_groups() {
            if let Some(fault) = stopped_by_itself(&group) {
                host.alarm.raise(fault);
            }
            snapshot_if_due(&group).await;
        }
    }
}

fn stopped_by_itself(group: &Arc<Group>) -> Option<Fault> {
    let state = group.raft.metrics().borrow_watched().running_state.clone();
    match state {
        Ok(()) | Err(openraft::errors::Fatal::Stopped) => None,
        Err(fatal) => Some(Fault::caused(format!("{} stopped", group.id), fatal)),
    }
}

async fn snapshot_if_due(group: &Arc<Group>) {
    let (entries, bytes) = group.progress.since_snapshot();
    let due = entries >= group.settings.snapshot_entries || bytes >= group.settings.snapshot_bytes;
    // A replica that is stopping needs no snapshot.
    if due && group.raft.trigger().snapshot().await.is_err() {
        tracing::debug!(group = %group.id, "no snapshot: the replica is stopping");
    }
}
