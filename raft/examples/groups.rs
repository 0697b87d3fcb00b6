//! Measures groups of three nodes in one process, over a network and disks in
//! memory: what they cost idle, what one and many writers get, and how long a
//! group does not write when its leader is lost.
//!
//!     cargo run -p cardea-raft --features testing --example groups -- [groups]

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measurement prints, and stops where it fails"
)]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cardea_raft::{
    Admission, ClusterId, GroupId, Groups, Host, HostOptions, NodeId, ProposeError, ReplicaId,
    Settings,
    testing::{Ledger, MemoryNetwork},
};
use cardea_storage::engine::memory::MemoryDisk;
use tokio::runtime::Handle;

const NODES: u64 = 3;

struct Node {
    host: Arc<Host>,
    disk: MemoryDisk,
}

/// CPU time of this process so far, from the clock ticks of `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

async fn leader_of(nodes: &BTreeMap<NodeId, Node>, group: GroupId) -> NodeId {
    loop {
        for (id, node) in nodes {
            if node.host.read_index(group).await.is_ok() {
                return *id;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn open(network: &MemoryNetwork, node: NodeId) -> Node {
    let disk = MemoryDisk::new(node.0);
    let options = HostOptions {
        cluster: ClusterId([1; 16]),
        node,
        disk: Arc::new(disk.clone()),
        log_directory: PathBuf::from("/log"),
        settings: Settings::default(),
        runtime: Handle::current(),
    };
    let host = Host::open(options, network.transport(node)).await.unwrap();
    let groups: Arc<dyn Groups> = host.clone();
    network.attach(node, &groups, Arc::new(disk.clone()));
    Node { host, disk }
}

async fn form(nodes: &BTreeMap<NodeId, Node>, group: GroupId) {
    let members: BTreeMap<_, _> = nodes.keys().map(|node| (ReplicaId(node.0), *node)).collect();
    for (id, node) in nodes {
        let at = Path::new("/machines").join(group.0.to_string());
        let ledger = Ledger::open(Arc::new(node.disk.clone()), &at).unwrap();
        node.host.start_group(group, ReplicaId(id.0), ledger).await.unwrap();
    }
    // The first to be initialized is likely to lead: spread the leaders.
    let first = NodeId(1 + group.0 % NODES);
    nodes[&first].host.initialize(group, members).await.unwrap();
}

async fn writers(nodes: &BTreeMap<NodeId, Node>, groups: u64, each: u64, writers: u64) {
    let mut tasks = Vec::new();
    let started = Instant::now();
    for writer in 0..writers {
        let group = GroupId(1 + writer % groups);
        let mut leader = leader_of(nodes, group).await;
        let hosts: BTreeMap<_, _> =
            nodes.iter().map(|(id, node)| (*id, node.host.clone())).collect();
        tasks.push(tokio::spawn(async move {
            for number in 0..each {
                let payload = Bytes::from(format!("w{writer}={number:0>100}"));
                while let Err(error) =
                    hosts[&leader].propose(group, payload.clone(), Admission::Ordinary).await
                {
                    if let ProposeError::NotLeader { leader: Some(named) } = error {
                        leader = named;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let took = started.elapsed();
    let rate = (writers * each) as f64 / took.as_secs_f64();
    let syncs: u64 = nodes.values().map(|node| node.host.log_counts().syncs).sum();
    println!("{writers} writers to {groups} groups: {rate:.0} writes/s ({syncs} syncs so far)");
}

#[tokio::main]
async fn main() {
    let groups: u64 = std::env::args().nth(1).map_or(200, |text| text.parse().unwrap());
    let network = MemoryNetwork::new();
    let mut nodes = BTreeMap::new();
    for node in (1..=NODES).map(NodeId) {
        nodes.insert(node, open(&network, node).await);
    }
    for group in (1..=groups).map(GroupId) {
        form(&nodes, group).await;
    }
    for group in (1..=groups).map(GroupId) {
        leader_of(&nodes, group).await;
    }
    println!("{groups} groups of {NODES} replicas have leaders");

    let span = Duration::from_secs(10);
    let before = cpu_time();
    tokio::time::sleep(span).await;
    let used = (cpu_time() - before).as_secs_f64() / span.as_secs_f64();
    println!("idle: {used:.3} cores for {NODES} nodes, {:.3} each", used / NODES as f64);

    writers(&nodes, 1, 500, 1).await;
    writers(&nodes, 1, 100, 64).await;
    writers(&nodes, groups.min(16), 100, 64).await;

    let mut gaps = Vec::new();
    for round in 0..10 {
        let group = GroupId(1 + round % groups);
        let lost = leader_of(&nodes, group).await;
        let since = Instant::now();
        network.isolate(lost);
        'gap: loop {
            for (id, node) in &nodes {
                let payload = Bytes::from_static(b"k=v");
                if *id != lost
                    && node.host.propose(group, payload, Admission::Ordinary).await.is_ok()
                {
                    break 'gap;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        gaps.push(since.elapsed().as_millis());
        network.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    gaps.sort_unstable();
    println!("write gap after losing a leader, ms: {gaps:?}");
}
