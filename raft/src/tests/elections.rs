//! Who leads, and how long nobody does.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn proposals_from_every_node_reach_every_machine() {
    let cluster = Cluster::formed(Settings::default()).await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    for (number, node) in nodes.iter().cycle().take(30).enumerate() {
        let proposed = cluster.put(*node, "k", &number.to_string()).await;
        let before = number.checked_sub(1).map(|n| n.to_string()).unwrap_or_default();
        assert_eq!(proposed.answer, before);
    }
    cluster.converged(&nodes).await;
    for node in nodes {
        assert_eq!(cluster.ledger(node).get("k").unwrap().unwrap(), "29");
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    for node in cluster.others(leader) {
        let host = cluster.host(node);
        let refused = host.propose(GROUP, Bytes::from_static(b"x"), Admission::Ordinary).await;
        assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(leader) }));
    }
    let nowhere = cluster.host(leader);
    let refused = nowhere.propose(GroupId(99), Bytes::new(), Admission::Ordinary).await;
    assert_eq!(refused, Err(ProposeError::NoGroup));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_go_on_soon_after_the_leader_is_lost() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    let mut gaps = Vec::new();
    for round in 0..4 {
        let leader = cluster.leader(GROUP).await;
        cluster.put(leader, "before", &round.to_string()).await;
        let lost_at = Instant::now();
        cluster.crash(leader).await;
        let survivor = cluster.others(leader)[0];
        cluster.put(survivor, "after", &round.to_string()).await;
        gaps.push(lost_at.elapsed());
        cluster.restart(leader).await;
        let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
        cluster.converged(&nodes).await;
    }
    gaps.sort();
    println!("write gaps after the loss of a leader: {gaps:?}");
    assert!(gaps[gaps.len() / 2] < Duration::from_secs(4), "{gaps:?}");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_isolated_node_does_not_unseat_the_leader_when_it_comes_back() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    let term = cluster.status(leader).term;
    let isolated = cluster.others(leader)[0];
    cluster.network.isolate(isolated);
    let waits = Duration::from_millis(3 * cluster.settings.timing.election_ms_max);
    // Nothing may happen: long enough for it to have stood several times.
    tokio::time::sleep(waits).await;
    cluster.network.heal();
    cluster.put(leader, "k", "v").await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    assert_eq!(cluster.leader(GROUP).await, leader);
    assert_eq!(cluster.status(leader).term, term, "pre-vote keeps the term");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_is_handed_over_on_request() {
    let cluster = Cluster::formed(Settings::default()).await;
    for _ in 0..3 {
        let leader = cluster.leader(GROUP).await;
        let next = cluster.others(leader)[1];
        cluster.host(leader).transfer_leader(GROUP, replica_of(next)).await.unwrap();
        assert_eq!(cluster.leader(GROUP).await, next);
        cluster.put(leader, "k", "v").await;
    }
    cluster.close().await;
}
