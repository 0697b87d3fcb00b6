//! A rolling upgrade: the cluster version waits for the last node, is raised once,
//! and shuts the door behind those that do not know it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{sync::Arc, time::Duration};

use cardea_cluster::{ClusterNode, NodeId, OpenError, life, runtime::VERSION_MAX};
use cardea_storage::{
    Feature, Space, StoreError,
    store::{Draft, Verdict},
};
use town::{Site, address_of, key, of_older_binaries, put};

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}: did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn version(node: &ClusterNode) -> u32 {
    node.directory().view().version()
}

async fn write(node: &ClusterNode, number: u64, value: &str) -> Result<Verdict, StoreError> {
    let ops = vec![put(&key(Space::Home, 1, number), value).into()];
    let read_time = node.store().clock().now();
    node.store().commit(Draft { ops, read_time, ..Draft::default() }).await
}

/// What the directory says that a node knows.
fn known(at: &ClusterNode, node: u64) -> u32 {
    at.directory().view().nodes.get(&NodeId(node)).map_or(0, |record| record.version_max)
}

/// Starts a node anew with the binary of this code.
async fn upgrade(nodes: &mut [Arc<ClusterNode>], sites: &[Site], at: usize) {
    nodes[at].shutdown().await.unwrap();
    nodes[at] = sites[at].open().await.unwrap();
    let (node, number) = (nodes[at].clone(), at as u64 + 1);
    eventually("the node says what it knows", || known(&node, number) == VERSION_MAX).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_version_is_raised_once_the_last_node_knows_it_and_older_ones_are_refused() {
    let sites: Vec<Site> = (1..=3).map(Site::in_memory).collect();
    let mut nodes = of_older_binaries(&sites).await;
    assert_eq!(version(&nodes[0]), VERSION_MAX - 1);
    assert!(!nodes[0].store().speaks(Feature::Indexes));

    upgrade(&mut nodes, &sites, 2).await;
    upgrade(&mut nodes, &sites, 1).await;
    // Two of three know it, and one of them may go back.
    nodes[1].shutdown().await.unwrap();
    nodes[1] = sites[1].knowing(VERSION_MAX - 1).open().await.unwrap();
    let node = nodes[1].clone();
    eventually("the node has gone back", || known(&node, 2) == VERSION_MAX - 1).await;
    upgrade(&mut nodes, &sites, 1).await;
    assert_eq!(nodes[2].status().version_known, VERSION_MAX - 1);
    assert_eq!(version(&nodes[2]), VERSION_MAX - 1);
    write(&nodes[1], 1, "before").await.unwrap();

    upgrade(&mut nodes, &sites, 0).await;
    for node in &nodes {
        eventually("the version is raised everywhere", || version(node) == VERSION_MAX).await;
        assert!(node.store().speaks(Feature::Indexes));
    }
    write(&nodes[1], 1, "after").await.unwrap();

    // The older binary starts no more on that data, and joins no more.
    nodes[1].shutdown().await.unwrap();
    let refused = sites[1].knowing(VERSION_MAX - 1).open().await.unwrap_err();
    assert!(
        matches!(refused, OpenError::TooOld { cluster, binary }
            if cluster == VERSION_MAX && binary == VERSION_MAX - 1),
        "{refused}"
    );
    let stranger = Site::in_memory(4).knowing(VERSION_MAX - 1).open().await.unwrap();
    let refused = stranger.join(&[address_of(&nodes[0])]).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Refused(why) if why.contains("version")), "{refused}");
    nodes[1] = sites[1].open().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_missed_the_raising_stops_when_it_hears_of_it() {
    let sites: Vec<Site> = (1..=3).map(Site::in_memory).collect();
    let mut nodes = of_older_binaries(&sites).await;
    for at in 0..3 {
        upgrade(&mut nodes, &sites, at).await;
    }
    eventually("the version is raised", || version(&nodes[0]) == VERSION_MAX).await;
    // Its disk knows nothing of that: the file says less, as after a crash before it was
    // written, and so the cluster itself has to refuse.
    nodes[2].abandon().await;
    let file = sites[2].data_dir.join("IDENTITY");
    let bytes = sites[2].disk.read_file(&file).unwrap().unwrap();
    let without = bytes.strip_suffix(&[0x38, u8::try_from(VERSION_MAX).unwrap()][..]);
    if let Some(without) = without {
        sites[2].disk.replace_file(&file, without).unwrap();
    }
    match sites[2].knowing(VERSION_MAX - 1).open().await {
        Err(OpenError::TooOld { .. } | OpenError::Fault(_)) => {}
        Err(other) => panic!("{other}"),
        Ok(node) => {
            let stopped = tokio::time::timeout(Duration::from_secs(60), node.faulted()).await;
            assert!(stopped.unwrap().to_string().contains("version"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_operator_holds_the_version_and_lets_it_be_raised() {
    let sites: Vec<Site> = (1..=3).map(Site::in_memory).collect();
    let mut nodes = of_older_binaries(&sites).await;
    assert_eq!(life::version::hold(&nodes[0].store()).await.unwrap(), VERSION_MAX - 1);
    for at in 0..3 {
        upgrade(&mut nodes, &sites, at).await;
    }
    eventually("all know the next version", || nodes[0].status().version_known == VERSION_MAX)
        .await;
    // The driver had looked many times before a write of its own would be through.
    for round in 0..20 {
        let written = write(&nodes[0], round, "x").await;
        assert!(matches!(
            written,
            Ok(_) | Err(StoreError::Unknown | StoreError::Unavailable { .. })
        ));
    }
    assert_eq!(version(&nodes[0]), VERSION_MAX - 1);
    assert_eq!(nodes[0].status().version_held, Some(VERSION_MAX - 1));
    assert_eq!(life::version::finalize(&nodes[0].store()).await.unwrap(), VERSION_MAX);
    eventually("the version is raised", || version(&nodes[2]) == VERSION_MAX).await;
    assert_eq!(nodes[0].status().version_held, None);
}
