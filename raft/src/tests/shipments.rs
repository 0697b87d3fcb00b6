//! Snapshots on their way, while the group goes on.

use super::*;
use crate::keeper;

/// A cluster whose log is cut close behind each snapshot, with a replica that needs one.
async fn with_a_parked_shipment(settings: Settings) -> (Cluster, NodeId, NodeId) {
    let mut cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let lagging = cluster.others(leader)[0];
    cluster.crash(lagging).await;
    write(&cluster, leader, 100).await;
    snapshot_and_purge(&cluster, leader).await;
    eventually("nothing was purged", || cluster.status(leader).purged > Some(60)).await;
    cluster.network.park(lagging);
    cluster.restart(lagging).await;
    eventually("no snapshot left", || cluster.network.shipped(lagging) == 1).await;
    (cluster, leader, lagging)
}

async fn write(cluster: &Cluster, leader: NodeId, entries: u64) {
    for number in 0..entries {
        cluster.put(leader, "k", &format!("{number:0128}")).await;
    }
}

/// Has the leader's log cut behind a snapshot of everything.
async fn snapshot_and_purge(cluster: &Cluster, leader: NodeId) {
    let group = cluster.host(leader).group(GROUP).unwrap();
    let applied = cluster.status(leader).applied;
    keeper::begin_snapshot(&group).await.unwrap();
    eventually("no new snapshot", || cluster.status(leader).snapshot >= applied).await;
    keeper::purge_if_long(&group).await;
    // Nor does anybody else cut it, or more than a snapshot holds.
    cluster.host(leader).purge(GROUP, u64::MAX).await.unwrap();
}

/// Under enough writes a large replica could never be filled: when its snapshot had come, the
/// entries behind that were gone, and it was sent another, and so on for ever.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_behind_a_snapshot_on_its_way_is_kept_until_it_has_been_taken() {
    let settings = Settings { snapshot_entries: 50, entries_kept: 5, ..Settings::default() };
    let (cluster, leader, lagging) = with_a_parked_shipment(settings).await;
    let sent = cluster.status(leader).snapshot;
    write(&cluster, leader, 200).await;
    snapshot_and_purge(&cluster, leader).await;
    cluster.put(leader, "k", "last").await;
    let status = cluster.status(leader);
    assert!(status.snapshot > sent.map(|sent| sent + 190), "{status:?}");
    assert!(status.purged <= sent, "{:?} of {sent:?}", status.purged);

    cluster.network.unpark(lagging);
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    assert_eq!(cluster.network.shipped(lagging), 1, "it was sent another");
    // Then the log is as short as ever.
    eventually("the log stays", || {
        let status = cluster.status(leader);
        status.purged.map(|purged| purged + 5) >= status.snapshot
    })
    .await;
    cluster.close().await;
}

/// The other side of it: a replica that never takes its snapshot must not fill the disk.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_behind_a_snapshot_that_is_never_taken_is_bounded() {
    let settings = Settings {
        snapshot_entries: 50,
        entries_kept: 5,
        bytes_kept: 1 << 10,
        ..Settings::default()
    };
    let (cluster, leader, _) = with_a_parked_shipment(settings).await;
    let sent = cluster.status(leader).snapshot;
    // An eighth of a kibibyte each, and sixteen kibibytes are held.
    write(&cluster, leader, 40).await;
    snapshot_and_purge(&cluster, leader).await;
    cluster.put(leader, "k", "more").await;
    assert!(cluster.status(leader).purged <= sent);
    write(&cluster, leader, 200).await;
    snapshot_and_purge(&cluster, leader).await;
    eventually("the log grows", || cluster.status(leader).purged > sent).await;
    cluster.close().await;
}

/// Nor must one whose leader has no room left.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_holds_no_log_for_who_is_sent_a_snapshot() {
    let settings = Settings { snapshot_entries: 50, entries_kept: 5, ..Settings::default() };
    let (cluster, leader, _) = with_a_parked_shipment(settings).await;
    let sent = cluster.status(leader).snapshot;
    cluster.ledger(leader).leave_room(0);
    write(&cluster, leader, 60).await;
    snapshot_and_purge(&cluster, leader).await;
    eventually("the log is kept", || cluster.status(leader).purged > sent).await;
    cluster.close().await;
}
