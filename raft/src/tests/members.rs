//! Replicas come, vote, and go.

use std::collections::BTreeSet;

use super::*;
use crate::{ChangeError, StartError, log::OpenLogError};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_replaced_by_one_on_another_node() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    for number in 0..20 {
        cluster.put(NodeId(1), "k", &number.to_string()).await;
    }
    let newcomer = NodeId(4);
    cluster.add_node(newcomer).await;
    cluster.start(newcomer, GROUP).await;
    let leader = cluster.leader(GROUP).await;
    let host = cluster.host(leader);
    let decided_on = cluster.status(leader).membership_at;
    let learned_at =
        host.add_learner(GROUP, replica_of(newcomer), newcomer, decided_on).await.unwrap();
    let outdated = host.add_learner(GROUP, ReplicaId(77), NodeId(77), decided_on).await;
    assert_eq!(outdated, Err(ChangeError::Outdated));
    assert_eq!(cluster.status(leader).learners, BTreeMap::from([(ReplicaId(4), newcomer)]));

    let leaving = cluster.others(leader)[0];
    let voters: BTreeSet<_> = cluster.others(leaving).into_iter().map(replica_of).collect();
    host.change_voters(GROUP, voters.clone(), Some(learned_at)).await.unwrap();
    let status = cluster.status(leader);
    assert_eq!(status.voters.keys().copied().collect::<BTreeSet<_>>(), voters);
    assert!(!status.joint && status.learners.is_empty());

    cluster.host(leaving).remove_group(GROUP, replica_of(leaving)).await.unwrap();
    assert!(cluster.host(leaving).status(GROUP).is_none());
    cluster.put(leader, "k", "after").await;
    cluster.converged(&cluster.others(leaving)).await;
    let ledger = open_ledger(&MemoryDisk::new(1), GROUP);
    let again = cluster.host(leaving).start_group(GROUP, replica_of(leaving), ledger).await;
    assert!(matches!(again, Err(StartError::Log(OpenLogError::Retired(_)))), "{again:?}");
    cluster.close().await;
}

/// Whoever joined was given the whole log to apply, which took longer than to send it what
/// the log had made.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_a_group_with_a_long_log_begins_with_a_snapshot() {
    let settings = Settings { bytes_kept: 8 << 10, ..Settings::default() };
    let mut cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    for number in 0..64 {
        cluster.put(leader, "k", &format!("{number:01024}")).await;
    }
    assert_eq!(cluster.status(leader).snapshot, None, "none is due");
    let newcomer = NodeId(4);
    cluster.add_node(newcomer).await;
    cluster.start(newcomer, GROUP).await;
    let decided_on = cluster.status(leader).membership_at;
    let host = cluster.host(leader);
    host.add_learner(GROUP, replica_of(newcomer), newcomer, decided_on).await.unwrap();
    cluster.converged(&[leader, newcomer]).await;
    let begins = cluster.status(newcomer).snapshot;
    assert!(begins.is_some_and(|at| at >= 64), "it applied everything: {begins:?}");
    assert!(cluster.status(leader).purged.is_some_and(|at| at <= 60), "all was purged");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_groups_live_on_one_log() {
    let mut cluster = Cluster::new(3, Settings::default()).await;
    for group in 1..=8 {
        cluster.form(GroupId(group)).await;
    }
    for group in (1..=8).map(GroupId) {
        let leader = cluster.leader(group).await;
        let payload = Bytes::from(format!("g={}", group.0));
        cluster.host(leader).propose(group, payload, Admission::Ordinary).await.unwrap();
    }
    let stored = cluster.host(NodeId(1)).stored_groups().await.unwrap();
    assert_eq!(stored.len(), 8);
    for group in (1..=8).map(GroupId) {
        for node in cluster.nodes.values() {
            node.host.read_barrier(group).await.unwrap();
            let value = node.ledgers[&group].get("g").unwrap().unwrap();
            assert_eq!(value, group.0.to_string());
        }
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_made_only_by_the_leader() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.host(cluster.others(leader)[0]);
    let refused = follower.transfer_leader(GROUP, ReplicaId(1)).await;
    assert!(leader == NodeId(1) || matches!(refused, Err(ChangeError::NotLeader { .. })));
    let refused = follower.add_learner(GROUP, ReplicaId(9), NodeId(9), None).await;
    assert_eq!(refused, Err(ChangeError::NotLeader { leader: Some(leader) }));
    let unknown = follower.add_learner(GroupId(9), ReplicaId(9), NodeId(9), None).await;
    assert_eq!(unknown, Err(ChangeError::NoGroup));
    cluster.close().await;
}
