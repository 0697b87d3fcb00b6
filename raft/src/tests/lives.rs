//! Restarts, snapshots, purges, and what refuses to start.

use openraft::{
    EntryPayload,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
    vote::RaftLeaderId,
};

use super::*;
use crate::{
    Entry, LogSettings, Loss, Machine, Payload, StartError,
    alarm::Alarm,
    log::Log,
    types::{Command, LeaderId, LogEntry, LogId, TypeConfig},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_power_goes_on_where_it_was() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    for number in 0..100 {
        cluster.put(NodeId(1), &format!("k{number}"), "v").await;
    }
    for node in (1..=3).map(NodeId) {
        cluster.crash(node).await;
    }
    for node in (1..=3).map(NodeId) {
        cluster.restart(node).await;
    }
    let leader = cluster.leader(GROUP).await;
    cluster.host(leader).read_barrier(GROUP).await.unwrap();
    for number in 0..100 {
        let value = cluster.ledger(leader).get(&format!("k{number}")).unwrap();
        assert_eq!(value.unwrap(), "v", "k{number} was acknowledged");
    }
    cluster.put(leader, "k", "v").await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_behind_the_purge_point_gets_a_snapshot() {
    let settings = Settings { snapshot_entries: 50, entries_kept: 5, ..Settings::default() };
    let mut cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let lagging = cluster.others(leader)[0];
    cluster.crash(lagging).await;
    for number in 0..200 {
        cluster.put(leader, &format!("k{number}"), "v").await;
    }
    let behind = cluster.nodes[&lagging].disk.clone();
    drop(behind);
    eventually("nothing was purged", || {
        let leader = cluster.host(leader).status(GROUP).unwrap();
        leader.purged > Some(60) && leader.snapshot >= leader.purged
    })
    .await;
    cluster.restart(lagging).await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    assert!(cluster.ledger(lagging).applied_entries() < 200, "it did not replay everything");
    assert_eq!(cluster.ledger(lagging).get("k0").unwrap().unwrap(), "v");
    // What was installed survives, too.
    cluster.crash(lagging).await;
    cluster.restart(lagging).await;
    cluster.put(leader, "k", "v").await;
    cluster.converged(&nodes).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_lost_its_state_refuses_to_start() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    let node = NodeId(2);
    cluster.host(node).stop_group(GROUP).await.unwrap();
    cluster.nodes.get_mut(&node).unwrap().ledgers.clear();
    let disk = cluster.nodes[&node].disk.clone();
    disk.remove(Path::new("/node/machines/1")).unwrap();

    let ledger = open_ledger(&disk, GROUP);
    let refused = cluster.host(node).start_group(GROUP, replica_of(node), ledger).await;
    assert!(matches!(refused, Err(StartError::StateLost)), "{refused:?}");
    cluster.close().await;
}

/// Writes into the log of a node that does not run.
async fn write_log(disk: &MemoryDisk, node: NodeId, entries: Vec<LogEntry>) {
    let (at, alarm) = (Path::new("/node/log"), Arc::new(Alarm::new()));
    let log = Log::open(disk, at, LogSettings::default(), alarm).unwrap();
    let mut store = log.group(GROUP, replica_of(node)).unwrap();
    let (flushed, synced) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(flushed)).await.unwrap();
    synced.await.unwrap().unwrap();
    log.close();
}

/// Found by simulation: a follower had applied what a new leader had told it to be
/// committed, and kept it, before its own log had synced that; power was lost, and what
/// the new leader had replaced was in the log again. It could not be started any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_lost_what_was_applied_already_is_continued_behind_it() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "before").await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    let (follower, next) = (cluster.others(leader)[0], cluster.others(leader)[1]);
    let status = cluster.status(follower);
    let end = status.last_log.unwrap();
    let Node { disk, host, ledgers } = cluster.nodes.remove(&follower).unwrap();
    host.close().await.unwrap();
    cluster.network.detach(follower);
    drop((host, ledgers));

    cluster.host(leader).transfer_leader(GROUP, replica_of(next)).await.unwrap();
    assert_eq!(cluster.leader_among(GROUP, &[leader, next]).await, next);
    cluster.put(next, "k", "later").await;
    cluster.converged(&[leader, next]).await;
    let agreed = cluster.host(next).log_positions(GROUP, end + 1).unwrap().unwrap().entries;
    let [blank, put] = agreed[..] else { panic!("{agreed:?}") };

    // Its machine has that. Its log has what only the former leader had.
    let later = Payload::Command(Bytes::from_static(b"k=later"));
    let entries = [(blank, Payload::Blank), (put, later)];
    let entries = entries.map(|(position, payload)| Entry { position, payload });
    open_ledger(&disk, GROUP).apply(entries.to_vec()).unwrap();
    let former = LeaderId::new(status.term, replica_of(leader));
    let lost = |index| LogEntry {
        log_id: LogId::new(former, index),
        payload: EntryPayload::Normal(Command(Bytes::from_static(b"k=never"))),
    };
    write_log(&disk, follower, (end + 1..end + 6).map(lost).collect()).await;

    let host = open_host(&cluster.network, follower, &disk, cluster.settings).await;
    cluster.nodes.insert(follower, Node { disk, host, ledgers: BTreeMap::new() });
    cluster.start(follower, GROUP).await;
    cluster.put(next, "k", "last").await;
    cluster.converged(&nodes).await;
    assert_eq!(cluster.ledger(follower).get("k").unwrap().unwrap(), "last");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_log_lost_what_it_confirmed_stops() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "v").await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;

    let follower = cluster.host(cluster.others(leader)[0]);
    let status = follower.status(GROUP).unwrap();
    let (term, end) = (status.term, status.last_log.unwrap());
    let lost = |index| Loss { group: GROUP, term, leader: replica_of(leader), index };
    // It holds all of it; or a later leader may have had it cut off.
    assert!(!follower.has_lost(&lost(end)));
    assert!(!follower.has_lost(&Loss { term: term - 1, ..lost(end + 9) }));
    assert!(!follower.has_lost(&Loss { group: GroupId(77), ..lost(end + 9) }));
    assert!(follower.fault().is_none());

    assert!(follower.has_lost(&lost(end + 9)));
    let fault = follower.fault().unwrap().to_string();
    assert!(fault.contains("Replace this node"), "{fault}");
    assert!(follower.replica(GROUP).is_none(), "it takes no more calls");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_group_starts_again_in_the_same_process() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    for round in 0..3 {
        let leader = cluster.leader(GROUP).await;
        cluster.host(leader).stop_group(GROUP).await.unwrap();
        let other = cluster.others(leader)[0];
        cluster.put(other, "k", &round.to_string()).await;
        cluster.nodes.get_mut(&leader).unwrap().ledgers.clear();
        cluster.start(leader, GROUP).await;
        let ledger = cluster.ledger(leader);
        let twice = cluster.host(leader).start_group(GROUP, replica_of(leader), ledger).await;
        assert!(matches!(twice, Err(StartError::Running)), "{twice:?}");
        let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
        cluster.converged(&nodes).await;
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_is_a_fault_of_the_host() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.nodes[&leader].disk.fail_after(0);
    let host = cluster.host(leader);
    let outcome = host.propose(GROUP, Bytes::from_static(b"a=b"), Admission::Ordinary).await;
    assert_eq!(outcome, Err(ProposeError::Unknown));
    tokio::time::timeout(PATIENCE, host.faulted()).await.unwrap();
    let outcome = host.propose(GROUP, Bytes::from_static(b"a=b"), Admission::Ordinary).await;
    assert_eq!(outcome, Err(ProposeError::Stopped));
    let others = cluster.others(leader);
    let next = cluster.leader_among(GROUP, &others).await;
    cluster.put(next, "k", "v").await;
}
