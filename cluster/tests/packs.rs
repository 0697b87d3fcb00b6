//! What is proposed at the same time goes through the log as one entry, once every
//! node knows such entries.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cardea_cluster::{ClusterNode, GroupId, InitPlan, runtime::VERSION_MAX};
use cardea_storage::{
    Feature, Slot, Space, Store,
    store::{Consistency, Snaptoken, Verdict},
};
use town::{Site, Town, absent, eventually, key, put, read, write};

const WRITES: u64 = 200;

fn group(node: &ClusterNode) -> GroupId {
    node.directory().view().locate(Slot::new(Space::Home, 1)).unwrap()
}

/// The last applied index of the shard that is written, at whoever leads it, once somebody
/// does.
async fn applied(nodes: &[Arc<ClusterNode>]) -> u64 {
    let group = group(&nodes[0]);
    let leads = |node: &Arc<ClusterNode>| {
        let status = node.member()?.host().status(group)?;
        status.leads().then_some(status.applied?)
    };
    let found = AtomicU64::new(0);
    eventually("the shard is led", async || {
        let applied = nodes.iter().find_map(leads).unwrap_or_default();
        found.store(applied, Ordering::Relaxed);
        applied > 0
    })
    .await;
    found.into_inner()
}

/// Writes of one shard, all at once, from every node.
async fn burst(nodes: &[Arc<ClusterNode>], first: u64) -> Vec<Snaptoken> {
    let writes = (first..first + WRITES).map(|number| {
        let store = nodes[usize::try_from(number).unwrap() % nodes.len()].store();
        tokio::spawn(async move {
            let row = key(Space::Home, 1, number);
            write(&store, vec![absent(&row)], vec![put(&row, &number.to_string())]).await
        })
    });
    let mut tokens = Vec::new();
    for written in writes.collect::<Vec<_>>() {
        match written.await.unwrap() {
            Verdict::Committed(committed) => tokens.push(committed.snaptoken),
            Verdict::Conflict => panic!("nobody else writes the row"),
        }
    }
    tokens
}

async fn check(nodes: &[Arc<ClusterNode>], first: u64, tokens: &[Snaptoken]) {
    let shard = group(&nodes[0]).0;
    let revisions: BTreeSet<_> = tokens.iter().map(|token| token.revision(shard)).collect();
    assert_eq!(revisions.len(), tokens.len(), "two transactions have one revision");
    for (number, token) in (first..).zip(tokens) {
        for node in nodes {
            let at_least = Consistency::AtLeast(token.clone());
            let seen = read(&node.store(), &key(Space::Home, 1, number), at_least).await.unwrap();
            assert_eq!(seen, Some(number.to_string()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_that_come_together_share_entries_and_each_has_its_own_revision() {
    let town = Town::in_memory().await;
    let before = applied(&town.nodes).await;
    let tokens = burst(&town.nodes, 0).await;
    let entries = applied(&town.nodes).await - before;
    assert!(entries < WRITES / 2, "{WRITES} writes took {entries} entries");
    check(&town.nodes, 0, &tokens).await;

    // Of those that race for a row within a pack one wins.
    let contested = key(Space::Home, 1, 1_000);
    let racers = (0..60).map(|racer: usize| {
        let (store, row): (Arc<dyn Store>, _) = (town.store(racer % 3), contested.clone());
        async move { write(&store, vec![absent(&row)], vec![put(&row, &racer.to_string())]).await }
    });
    let verdicts = futures::future::join_all(racers).await;
    let won: Vec<usize> =
        (0..60).filter(|racer| matches!(verdicts[*racer], Verdict::Committed(_))).collect();
    assert_eq!(won.len(), 1, "{verdicts:?}");
    let holder = read(&town.store(1), &contested, Consistency::Strong).await.unwrap();
    assert_eq!(holder, Some(won[0].to_string()));

    // A node that starts again applies them from its log.
    let mut nodes = town.nodes;
    nodes[2].abandon().await;
    nodes[2] = town.sites[2].open().await.unwrap();
    check(&nodes, 0, &tokens).await;
    eventually("all replicas come to the same state", async || {
        let state =
            |node: &Arc<ClusterNode>| Some(node.member()?.replica(group(node))?.machine().state());
        let states: Vec<_> = nodes.iter().map(state).collect();
        states[0].is_some() && states.iter().all(|state| *state == states[0])
    })
    .await;
    for node in &nodes {
        node.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_packed_before_every_node_knows_packs() {
    let site = Site::in_memory(1);
    let mut node = site.knowing(Feature::Packs.since() - 1).open().await.unwrap();
    node.init(InitPlan::small("test")).await.unwrap();
    eventually("the shard is led", async || {
        let group = node.directory().view().locate(Slot::new(Space::Home, 1));
        let status = group.and_then(|group| node.member()?.host().status(group));
        status.is_some_and(|status| status.leads() && status.applied.is_some())
    })
    .await;
    let nodes = [node.clone()];
    burst(&nodes, 0).await;
    let before = applied(&nodes).await;
    burst(&nodes, WRITES).await;
    assert!(applied(&nodes).await - before >= WRITES);

    node.shutdown().await.unwrap();
    node = site.open().await.unwrap();
    let nodes = [node.clone()];
    eventually("the version is raised", async || node.directory().view().version() == VERSION_MAX)
        .await;
    let before = applied(&nodes).await;
    let tokens = burst(&nodes, 2 * WRITES).await;
    let entries = applied(&nodes).await - before;
    assert!(entries < WRITES / 2, "{WRITES} writes took {entries} entries");
    check(&nodes, 2 * WRITES, &tokens).await;
    node.abandon().await;
}
