//! A read behind a barrier sees everything acknowledged before it.

use super::*;
use crate::{Machine as _, Question, ReadError, Testimony};

async fn barrier_read(cluster: &Cluster, node: NodeId, key: &str) -> Option<Bytes> {
    cluster.host(node).read_barrier(GROUP).await.unwrap();
    cluster.ledger(node).get(key).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_reads_what_was_just_acknowledged() {
    let cluster = Cluster::formed(Settings::default()).await;
    let nodes: Vec<_> = cluster.nodes.keys().copied().collect();
    for number in 0..50 {
        let value = number.to_string();
        cluster.put(nodes[number % 3], "k", &value).await;
        for node in &nodes {
            assert_eq!(barrier_read(&cluster, *node, "k").await.unwrap(), value);
        }
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_quorum_gives_no_read_index() {
    let settings = Settings { read_ms_max: 1_500, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let old = cluster.leader(GROUP).await;
    cluster.put(old, "k", "old").await;
    cluster.network.isolate(old);
    let others = cluster.others(old);
    let new = cluster.leader_among(GROUP, &others).await;
    cluster.put(new, "k", "new").await;
    // The old one may still believe that it leads; it must not read.
    assert!(cluster.host(old).read_index(GROUP).await.is_err());
    assert!(cluster.host(old).read_barrier(GROUP).await.is_err());
    for node in others {
        assert_eq!(barrier_read(&cluster, node, "k").await.unwrap(), "new");
    }
    cluster.network.heal();
    assert_eq!(barrier_read(&cluster, old, "k").await.unwrap(), "new");
    cluster.close().await;
}

/// Found by simulation: the leader's disk was slow, the followers made a quorum without
/// it, and had applied and shown what it had not when it was read itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_applies_later_than_its_followers_shows_nothing_older() {
    let settings = Settings { read_ms_max: 500, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.others(leader)[0];
    cluster.put(leader, "k", "old").await;
    assert_eq!(barrier_read(&cluster, leader, "k").await.unwrap(), "old");
    let held = cluster.ledger(leader).hold();
    let host = cluster.host(leader);
    let writing = tokio::spawn(async move {
        host.propose(GROUP, Bytes::from_static(b"k=new"), Admission::Ordinary).await
    });
    eventually("the follower has not applied it", || {
        cluster.ledger(follower).get("k").unwrap().is_some_and(|value| value == "new")
    })
    .await;
    let shown = barrier_read(&cluster, follower, "k").await.unwrap();
    let read = cluster.host(leader).read_barrier(GROUP).await;
    drop(held);
    assert_eq!(shown, "new");
    // It waits until it is as far.
    assert!(read.is_err(), "{read:?}");
    writing.await.unwrap().unwrap();
    assert_eq!(barrier_read(&cluster, leader, "k").await.unwrap(), "new");
    cluster.close().await;
}

/// What a leader has written is seen by its own readers before it counts as applied; whoever
/// asks it for a read index afterwards must be given one that covers that.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_index_covers_what_the_leader_shows_already() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    cluster.put(leader, "k", "old").await;
    let question = Question {
        group: GROUP,
        replica: replica_of(leader),
        term: cluster.status(leader).term,
        leader: replica_of(leader),
    };
    let held = cluster.ledger(leader).linger();
    let host = cluster.host(leader);
    let writing = tokio::spawn(async move {
        host.propose(GROUP, Bytes::from_static(b"k=new"), Admission::Ordinary).await
    });
    eventually("the leader does not show it", || {
        cluster.ledger(leader).get("k").unwrap().is_some_and(|value| value == "new")
    })
    .await;
    let shown = cluster.ledger(leader).shown();
    let told = cluster.host(leader).testify(&question);
    drop(held);
    let Some(Testimony::Leads(leads)) = told else { panic!("{told:?}") };
    assert!(Some(leads.index) >= shown, "{leads:?}, but {shown:?} is seen");
    writing.await.unwrap().unwrap();
    cluster.close().await;
}

/// Whoever had been refused by all waited for as long as a read may take, for nobody to answer.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whom_all_have_refused_is_told_so() {
    // Whoever waited would wait for an hour, or until another leads.
    let settings = Settings { read_ms_max: 3_600_000, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    cluster.network.isolate(leader);
    let told = cluster.host(leader).read_index(GROUP).await;
    let Err(ReadError::Unconfirmed(why)) = told else { panic!("{told:?}") };
    assert!(why.contains("is unreachable"), "{why}");
    cluster.network.heal();
    assert!(cluster.host(leader).read_barrier(GROUP).await.is_ok());
    cluster.close().await;
}

/// The schedule that makes openraft's lease reads stale: a voter that restarts
/// forgets the lease it granted, and elects another leader within it.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_voter_cannot_make_a_read_stale() {
    let settings = Settings { read_ms_max: 1_500, ..Settings::default() };
    let mut cluster = Cluster::formed(settings).await;
    let old = cluster.leader(GROUP).await;
    let [next, voter] = cluster.others(old)[..] else { panic!("three nodes") };
    cluster.put(old, "k", "v1").await;
    cluster.network.cut(old, next);
    cluster.network.cut(next, old);
    cluster.network.cut(old, voter);
    cluster.network.cut(voter, old);
    cluster.crash(voter).await;
    cluster.restart(voter).await;
    // Within the lease of the old leader, which the voter forgot.
    cluster.host(next).campaign(GROUP).await.unwrap();
    let new = cluster.leader_among(GROUP, &[next, voter]).await;
    cluster.put(new, "k", "v2").await;
    assert!(cluster.host(old).read_index(GROUP).await.is_err());
    assert_eq!(barrier_read(&cluster, next, "k").await.unwrap(), "v2");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_is_told_why_it_cannot_read() {
    let settings = Settings { read_ms_max: 300, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let follower = cluster.others(leader)[0];
    let told = cluster.host(follower).read_index(GROUP).await;
    assert_eq!(told, Err(ReadError::NotLeader { leader: Some(leader) }));
    assert_eq!(cluster.host(leader).read_index(GroupId(9)).await, Err(ReadError::NoGroup));
    cluster.network.cut(follower, leader);
    let told = cluster.host(follower).read_barrier(GROUP).await;
    assert!(matches!(told, Err(ReadError::Unconfirmed(_))), "{told:?}");
    assert_eq!(
        cluster.host(leader).reached_all(GROUP, || Some(1 << 40)).await,
        Err(ReadError::Lagging)
    );
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_readers_share_rounds() {
    let cluster = Arc::new(Cluster::formed(Settings::default()).await);
    let leader = cluster.leader(GROUP).await;
    for node in [leader, cluster.others(leader)[0]] {
        let readers: Vec<_> = (0..500)
            .map(|_| {
                let host = cluster.host(node);
                tokio::spawn(async move { host.read_barrier(GROUP).await })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap().unwrap();
        }
    }
    let Ok(cluster) = Arc::try_unwrap(cluster) else { panic!("shared") };
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_restarted_does_not_speak_as_one() {
    let mut cluster = Cluster::formed(Settings::default()).await;
    let old = cluster.leader(GROUP).await;
    cluster.put(old, "k", "v").await;
    let question = Question {
        group: GROUP,
        replica: replica_of(old),
        term: cluster.status(old).term,
        leader: replica_of(old),
    };
    let told = cluster.host(old).testify(&question);
    let Some(Testimony::Leads(leads)) = told else { panic!("{told:?}") };
    assert_eq!(Some(leads.index), cluster.status(old).applied);

    // Its vote is that of a leader still, but what it had applied may be lost.
    cluster.network.isolate(old);
    cluster.crash(old).await;
    cluster.restart(old).await;
    assert_eq!(cluster.host(old).testify(&question), Some(Testimony::Differs));
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_missed_a_change_of_voters_does_not_count_by_the_old_ones() {
    let settings = Settings { read_ms_max: 600, ..Settings::default() };
    let mut cluster = Cluster::formed(settings).await;
    let leader = cluster.leader(GROUP).await;
    let [missing, other] = cluster.others(leader)[..] else { panic!("three nodes") };
    let newcomer = NodeId(4);
    // Until what formed the group is committed, it takes no other change.
    cluster.put(leader, "k", "v").await;
    cluster.add_node(newcomer).await;
    cluster.start(newcomer, GROUP).await;
    // It asks, but hears nothing of itself.
    cluster.network.withhold(leader, missing);
    let host = cluster.host(leader);
    let known = cluster.status(leader).membership_at;
    let learned = host.add_learner(GROUP, replica_of(newcomer), newcomer, known).await.unwrap();
    let voters = [leader, other, newcomer].into_iter().map(replica_of).collect();
    host.change_voters(GROUP, voters, Some(learned)).await.unwrap();
    let term = cluster.status(leader).term;
    cluster.network.cut(missing, other);
    // The one who missed the change is no voter, and the leader alone is no quorum.
    let question =
        Question { group: GROUP, replica: replica_of(leader), term, leader: replica_of(leader) };
    let told = cluster.host(leader).testify(&question);
    let Some(Testimony::Leads(leads)) = told else { panic!("{told:?}") };
    assert_ne!(leads.membership, cluster.status(missing).membership_at);
    let read = cluster.host(missing).read_barrier(GROUP).await;
    assert!(matches!(read, Err(ReadError::Unconfirmed(_))), "{read:?}");
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_asks_the_leader_alone_and_a_silent_voter_is_passed_over() {
    let cluster = Cluster::formed(Settings::default()).await;
    let leader = cluster.leader(GROUP).await;
    let [follower, silent] = cluster.others(leader)[..] else { panic!("three nodes") };
    cluster.put(leader, "k", "v").await;
    cluster.network.isolate(silent);
    for _ in 0..20 {
        for node in [leader, follower] {
            assert_eq!(barrier_read(&cluster, node, "k").await.unwrap(), "v");
        }
    }
    cluster.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hangs_is_not_waited_for_once_there_is_another() {
    // Whoever waited for it would wait for an hour.
    let settings = Settings { read_ms_max: 3_600_000, ..Settings::default() };
    let cluster = Cluster::formed(settings).await;
    let old = cluster.leader(GROUP).await;
    cluster.put(old, "k", "old").await;
    let others = cluster.others(old);
    cluster.network.isolate(old);
    others.iter().for_each(|node| cluster.network.hang(*node, old));
    let hosts: Vec<_> = others.iter().map(|node| cluster.host(*node)).collect();
    let reads: Vec<_> = hosts
        .into_iter()
        .map(|host| tokio::spawn(async move { host.read_barrier(GROUP).await }))
        .collect();
    for read in reads {
        read.await.unwrap().unwrap();
    }
    cluster.close().await;
}
