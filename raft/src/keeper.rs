//! What a host does for its groups now and then: it asks for snapshots when
//! enough was applied since the last, lets go of what is too long behind them, and
//! notices replicas that stopped by themselves.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use cardea_storage::Fault;
use openraft::async_runtime::WatchReceiver as _;

use crate::{blocking, group::Group, host::Host, settings::Settings};

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
            // One that was removed meanwhile has lost its files, and no disk has failed.
            let stays = || host.group(group.id).is_some_and(|now| Arc::ptr_eq(&now, &group));
            if !stays() {
                continue;
            }
            if let Err(fault) = snapshot_if_due(&group).await
                && stays()
            {
                host.alarm.raise(fault);
            }
            purge_if_long(&group).await;
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

/// What the log may be of the machine, at least, before a snapshot lets go of it.
const LOG_PARTS: u64 = 4;
/// What may stay of it behind the snapshot.
const KEPT_PARTS: u64 = 16;
/// How many times that may stay while a snapshot is on its way to somebody who needs what is
/// behind it: of a large machine as much as the machine itself. More than this, and a new
/// snapshot is less to send than the log behind the old one; and the disk of a leader must not
/// fill for a follower that never takes it. Not so much may be written while a snapshot is sent,
/// unless it is written faster than snapshots are sent.
const HELD_TIMES: u64 = KEPT_PARTS;

async fn snapshot_if_due(group: &Arc<Group>) -> Result<(), Fault> {
    let since = group.progress.since_snapshot();
    if is_due(&group.settings, since, || group.machine.size_bytes()) {
        begin_snapshot(group).await?;
    }
    Ok(())
}

/// Has a snapshot taken soon. Applying waits while it is, so what can be done before is.
pub(crate) async fn begin_snapshot(group: &Arc<Group>) -> Result<(), Fault> {
    let machine = group.machine.clone();
    let flushed = blocking::spawn(move || machine.flush_ahead()).await;
    flushed.map_err(|error| Fault::caused("flush a machine", error))??;
    // A replica that is stopping needs no snapshot.
    if group.raft.trigger().snapshot().await.is_err() {
        tracing::debug!(group = %group.id, "no snapshot: the replica is stopping");
    }
    Ok(())
}

/// Lets go of what the log holds behind the snapshot beyond what may stay: a number of entries,
/// and so many bytes. Ten thousand that people write one by one are little, but as many that
/// bring batches are more than the machine itself, and who follows from the beginning would be
/// given them all instead of a snapshot. openraft could count the entries, but would by this
/// take back what was to go by bytes and had to wait for its readers.
pub(crate) async fn purge_if_long(group: &Arc<Group>) {
    let (snapshot, purged) = {
        let metrics = group.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.snapshot.map(|id| id.index), metrics.purged.map(|id| id.index))
    };
    if let Some(purged) = purged {
        group.progress.forget(purged);
    }
    let Some(snapshot) = snapshot else { return };
    let many = snapshot.checked_sub(group.settings.entries_kept);
    let beyond = |bytes| group.progress.before(snapshot, bytes).filter(|at| Some(*at) > purged);
    let least = group.settings.bytes_kept;
    let long =
        beyond(least).and_then(|_| beyond(least.max(group.machine.size_bytes() / KEPT_PARTS)));
    if let Some(index) = many.max(long).filter(|at| Some(*at) > purged)
        && !let_go(group, index).await
    {
        tracing::debug!(group = %group.id, "no purge: the replica is stopping");
    }
}

/// Lets go of what the log holds up to `upto`, but for what must stay for those who are sent a
/// snapshot. False if the replica is stopping.
pub(crate) async fn let_go(group: &Arc<Group>, upto: u64) -> bool {
    let snapshot = group.raft.metrics().borrow_watched().snapshot.map(|id| id.index);
    let Some(upto) = snapshot.map(|snapshot| upto.min(snapshot)) else { return true };
    let upto = match group.log.holds() {
        Some(holds) => {
            let bound = if holds.is_empty() { None } else { held_after(group).await };
            holds.give_up(upto, bound, &group.status().matched)
        }
        None => upto,
    };
    group.raft.trigger().purge_log(upto).await.is_ok()
}

/// The index up to which nothing is held for anybody, as far as it is known in this life.
async fn held_after(group: &Arc<Group>) -> Option<u64> {
    let machine = group.machine.clone();
    let room =
        blocking::spawn(move || Ok::<_, Fault>((machine.size_bytes(), machine.room_bytes()?)));
    match room.await {
        Ok(Ok((size_bytes, 1..))) => {
            let kept = group.settings.bytes_kept.max(size_bytes / KEPT_PARTS);
            group.progress.before(group.progress.applied()?, kept.saturating_mul(HELD_TIMES))
        }
        // The disk is full, or nobody knows.
        _ => Some(u64::MAX),
    }
}

/// Whether enough was applied since the last snapshot. Who is sent one needs the entries behind
/// it when it has come. Were they gone by then, it would be sent another, and so on for ever:
/// so the larger the machine is, the longer its log is kept.
fn is_due(settings: &Settings, since: (u64, u64), size_bytes: impl Fn() -> u64) -> bool {
    let (entries, bytes) = since;
    let exceeds = |times: u64| {
        entries >= settings.snapshot_entries.saturating_mul(times)
            || bytes >= settings.snapshot_bytes.saturating_mul(times)
    };
    exceeds(1) && exceeds((size_bytes() / LOG_PARTS / settings.snapshot_bytes.max(1)).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of many gigabytes was still on its way when the log behind it was purged; who
    /// joined such a group under load was sent one snapshot after the other.
    #[test]
    fn the_log_of_a_large_machine_is_kept_for_longer() {
        let settings =
            Settings { snapshot_entries: 1_000, snapshot_bytes: 64, ..Settings::default() };
        let due = |since, size_bytes| is_due(&settings, since, || size_bytes);
        for small in [0, 64, 4 * 64] {
            assert!(!due((999, 63), small));
            assert!(due((1_000, 0), small) && due((0, 64), small));
        }
        let large = 4 * 64 * 10;
        assert!(!due((9_999, 639), large));
        assert!(due((10_000, 0), large) && due((0, 640), large));
    }
}
