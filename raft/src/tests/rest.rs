//! Groups that nobody writes to rest, and lose nothing by it.

use super::*;

fn restful() -> Settings {
    Settings { rest_beats: 2, ..Settings::default() }
}

impl Cluster {
    async fn at_rest(&self, nodes: &[NodeId]) {
        eventually("the group does not rest", || {
            nodes.iter().all(|node| self.status(*node).resting)
        })
        .await;
    }

    fn all(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// Long enough for every follower to have stood, had it heard nobody.
    async fn several_elections(&self) {
        let waits = Duration::from_millis(5 * self.settings.timing.election_ms_max);
        // Nothing may happen.
        tokio::time::sleep(waits).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_rests_when_nothing_is_new_and_keeps_its_leader() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    let term = cluster.status(leader).term;
    for value in ["1", "2", "3"] {
        cluster.put(leader, "k", value).await;
        eventually("the leader sleeps on", || !cluster.status(leader).resting).await;
        cluster.at_rest(&cluster.all()).await;
        cluster.several_elections().await;
        let status = cluster.status(leader);
        assert!(status.leads() && status.term == term, "{status:?}");
        let lease = cluster.settings.timing.election_ms_max;
        assert!(status.quorum_ack_ms_ago.unwrap() < lease, "{status:?}");
    }
    cluster.converged(&cluster.all()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_is_told_not_to_rest_does_not() {
    let cluster = Cluster::formed(Settings { rest_beats: 0, ..restful() }).await;
    cluster.several_elections().await;
    assert!(cluster.all().iter().all(|node| !cluster.status(*node).resting));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_leader_is_succeeded_by_who_rested() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "before").await;
    cluster.at_rest(&cluster.all()).await;
    // No stream ends and nobody refuses anything: it is only silent.
    cluster.network.isolate(leader);
    let others = cluster.others(leader);
    let next = cluster.leader_among(GROUP, &others).await;
    assert_eq!(cluster.put(next, "k", "after").await.answer, "before");
    cluster.network.heal();
    cluster.converged(&cluster.all()).await;
    cluster.at_rest(&cluster.all()).await;
    assert_eq!(cluster.leader(GROUP).await, next);
    cluster.close().await;
}

/// Pulses would keep its followers for ever, and nothing could be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_heard_and_hears_nobody_is_succeeded() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "before").await;
    cluster.at_rest(&cluster.all()).await;
    let others = cluster.others(leader);
    others.iter().for_each(|other| cluster.network.cut(*other, leader));
    let next = cluster.leader_among(GROUP, &others).await;
    assert_eq!(cluster.put(next, "k", "after").await.answer, "before");
    cluster.network.heal();
    cluster.converged(&cluster.all()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rests_gives_no_vote_away_while_its_leader_is_heard() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    let term = cluster.status(leader).term;
    cluster.at_rest(&cluster.all()).await;
    let others = cluster.others(leader);
    let (isolated, resting) = (others[0], others[1]);
    cluster.network.isolate(isolated);
    eventually("it waits for ever", || !cluster.status(isolated).resting).await;
    cluster.several_elections().await;
    assert!(cluster.status(resting).resting);
    // It may ask, but does not hear its leader.
    for node in [leader, resting] {
        cluster.network.cut(leader, isolated);
        cluster.network.mend(isolated, node);
        cluster.network.mend(resting, isolated);
    }
    cluster.several_elections().await;
    let status = cluster.status(leader);
    assert!(status.leads() && status.term == term, "{status:?}");
    cluster.network.heal();
    cluster.at_rest(&cluster.all()).await;
    assert_eq!(cluster.status(leader).term, term);
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_applied_all_does_not_rest() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    let (slow, quick) = (cluster.others(leader)[0], cluster.others(leader)[1]);
    let held = cluster.ledger(slow).hold();
    cluster.put(leader, "k", "v").await;
    cluster.at_rest(&[leader, quick]).await;
    cluster.several_elections().await;
    assert!(!cluster.status(slow).resting);
    drop(held);
    cluster.at_rest(&cluster.all()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_does_not_rest_while_a_member_lacks_something() {
    let cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    let away = cluster.others(leader)[0];
    cluster.at_rest(&cluster.all()).await;
    cluster.network.isolate(away);
    cluster.put(leader, "k", "v").await;
    cluster.several_elections().await;
    assert!(!cluster.status(leader).resting);
    cluster.network.heal();
    cluster.at_rest(&cluster.all()).await;
    cluster.converged(&cluster.all()).await;
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lead_of_a_group_at_rest_is_handed_over() {
    let cluster = Cluster::formed(restful()).await;
    for _ in 0..3 {
        cluster.at_rest(&cluster.all()).await;
        let leader = cluster.leader(GROUP).await;
        let next = cluster.others(leader)[1];
        cluster.host(leader).transfer_leader(GROUP, replica_of(next)).await.unwrap();
        assert_eq!(cluster.leader(GROUP).await, next);
        cluster.put(next, "k", "v").await;
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_restarts_finds_the_leader_of_a_group_at_rest() {
    let mut cluster = Cluster::formed(restful()).await;
    let leader = cluster.leader(GROUP).await;
    let term = cluster.status(leader).term;
    cluster.put(leader, "k", "v").await;
    cluster.at_rest(&cluster.all()).await;
    let other = cluster.others(leader)[0];
    cluster.crash(other).await;
    cluster.restart(other).await;
    cluster.at_rest(&cluster.all()).await;
    let status = cluster.status(leader);
    assert!(status.leads() && status.term == term, "{status:?}");
    cluster.close().await;
}
