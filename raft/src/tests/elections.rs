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
        // One that voted for nobody hears of the leader by its first heartbeat.
        let knows = || cluster.status(node).leader.is_some_and(|(_, at)| at == leader);
        eventually("a follower does not hear of the leader", knows).await;
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

/// Timings by which nobody stands while a test lasts.
fn patient() -> Settings {
    let timing = Timing { election_ms_min: 60_000, election_ms_max: 90_000, ..Timing::DEFAULT };
    Settings { timing, ..Settings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_process_is_gone_is_succeeded_before_its_lease_passes() {
    let mut cluster = Cluster::formed(patient()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "before").await;
    cluster.crash(leader).await;
    let others = cluster.others(leader);
    for node in &others {
        cluster.host(*node).hung_up(leader);
    }
    let next = cluster.leader_among(GROUP, &others).await;
    assert_eq!(cluster.put(next, "k", "after").await.answer, "before");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_answers_calls_keeps_its_office_when_streams_end() {
    let cluster = Cluster::formed(patient()).await;
    let leader = cluster.leader(GROUP).await;
    let before = cluster.status(leader);
    for node in cluster.others(leader) {
        cluster.host(node).hung_up(leader);
    }
    // Nothing may happen: longer than it is called and campaigns would take.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.put(leader, "k", "v").await;
    assert_eq!(cluster.leader(GROUP).await, leader);
    assert_eq!(cluster.status(leader).term, before.term);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_alone_takes_a_leader_for_dead_deposes_nobody() {
    let cluster = Cluster::formed(patient()).await;
    let leader = cluster.leader(GROUP).await;
    let before = cluster.status(leader);
    let misled = cluster.others(leader)[1];
    cluster.network.refuse(leader, misled);
    cluster.host(misled).hung_up(leader);
    // Nothing may happen: longer than campaigns would take.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.put(leader, "k", "v").await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    cluster.converged(&nodes).await;
    assert_eq!(cluster.leader(GROUP).await, leader);
    assert_eq!(cluster.status(leader).term, before.term);
    cluster.close().await;
}
