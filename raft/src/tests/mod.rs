//! Three hosts in one process, over a network in memory and disks in memory.

mod elections;
mod lives;
mod load;
mod members;
mod reads;
mod rest;
mod shipments;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cardea_storage::engine::{Disk, memory::MemoryDisk};
use tokio::{runtime::Handle, time::Instant};

use crate::{
    Admission, ClusterId, GroupId, GroupStatus, Groups, Host, HostOptions, NodeId, ProposeError,
    Proposed, ReplicaId, Settings, Timing,
    testing::{Ledger, MemoryNetwork},
};

const GROUP: GroupId = GroupId(1);

/// How long a test waits for what must happen, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

struct Node {
    disk: MemoryDisk,
    host: Arc<Host>,
    ledgers: BTreeMap<GroupId, Arc<Ledger>>,
}

/// Nodes 1, 2, 3, …; node n has replica n of every group.
struct Cluster {
    network: MemoryNetwork,
    nodes: BTreeMap<NodeId, Node>,
    settings: Settings,
}

fn replica_of(node: NodeId) -> ReplicaId {
    ReplicaId(node.0)
}

async fn open_host(
    network: &MemoryNetwork,
    node: NodeId,
    disk: &MemoryDisk,
    settings: Settings,
) -> Arc<Host> {
    let options = HostOptions {
        cluster: ClusterId([7; 16]),
        node,
        disk: Arc::new(disk.clone()),
        log_directory: PathBuf::from("/node/log"),
        settings,
        runtime: Handle::current(),
    };
    let host = Host::open(options, network.transport(node)).await.unwrap();
    let groups: Arc<dyn Groups> = host.clone();
    network.attach(node, &groups, Arc::new(disk.clone()));
    host
}

fn open_ledger(disk: &MemoryDisk, group: GroupId) -> Arc<Ledger> {
    let at = Path::new("/node/machines").join(group.0.to_string());
    Ledger::open(Arc::new(disk.clone()), &at).unwrap()
}

impl Cluster {
    async fn new(nodes: u64, settings: Settings) -> Self {
        let network = MemoryNetwork::new();
        let mut cluster = Self { network, nodes: BTreeMap::new(), settings };
        for node in (1..=nodes).map(NodeId) {
            cluster.add_node(node).await;
        }
        cluster
    }

    /// Three nodes and one group of them, with a leader.
    async fn formed(settings: Settings) -> Self {
        let mut cluster = Self::new(3, settings).await;
        cluster.form(GROUP).await;
        cluster.leader(GROUP).await;
        cluster
    }

    async fn add_node(&mut self, node: NodeId) {
        let disk = MemoryDisk::new(node.0);
        let host = open_host(&self.network, node, &disk, self.settings).await;
        self.nodes.insert(node, Node { disk, host, ledgers: BTreeMap::new() });
    }

    /// Starts a group on every node and initializes it.
    async fn form(&mut self, group: GroupId) {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        for node in &nodes {
            self.start(*node, group).await;
        }
        let members = nodes.iter().map(|node| (replica_of(*node), *node)).collect();
        self.host(nodes[0]).initialize(group, members).await.unwrap();
    }

    async fn start(&mut self, node: NodeId, group: GroupId) {
        let station = self.nodes.get_mut(&node).unwrap();
        let ledger = open_ledger(&station.disk, group);
        station.host.start_group(group, replica_of(node), ledger.clone()).await.unwrap();
        station.ledgers.insert(group, ledger);
    }

    fn host(&self, node: NodeId) -> Arc<Host> {
        self.nodes[&node].host.clone()
    }

    fn ledger(&self, node: NodeId) -> Arc<Ledger> {
        self.nodes[&node].ledgers[&GROUP].clone()
    }

    fn status(&self, node: NodeId) -> GroupStatus {
        self.host(node).status(GROUP).unwrap()
    }

    fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.keys().copied().filter(|id| *id != node).collect()
    }

    /// Stops a node; what its disk did not make durable may be gone.
    async fn crash(&mut self, node: NodeId) {
        self.network.detach(node);
        let station = self.nodes.get(&node).unwrap();
        station.disk.crash();
        // It stops badly: its disk is gone.
        drop(station.host.close().await);
    }

    /// Starts a node again on what its disk kept.
    async fn restart(&mut self, node: NodeId) {
        let station = &self.nodes[&node];
        let groups: Vec<_> = station.ledgers.keys().copied().collect();
        let disk = station.disk.clone();
        let host = open_host(&self.network, node, &disk, self.settings).await;
        self.nodes.insert(node, Node { disk, host, ledgers: BTreeMap::new() });
        for group in groups {
            self.start(node, group).await;
        }
    }

    /// The node that leads, once it has the trust of a quorum.
    async fn leader(&self, group: GroupId) -> NodeId {
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        self.leader_among(group, &nodes).await
    }

    async fn leader_among(&self, group: GroupId, nodes: &[NodeId]) -> NodeId {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for node in nodes {
                if self.host(*node).read_index(group).await.is_ok() {
                    return *node;
                }
            }
            assert!(Instant::now() < deadline, "no leader of {group}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Proposes through `node`, following it to whoever leads, until it is
    /// accepted.
    async fn put(&self, node: NodeId, key: &str, value: &str) -> Proposed {
        let payload = Bytes::from(format!("{key}={value}"));
        let deadline = Instant::now() + PATIENCE;
        let mut at = node;
        loop {
            match self.host(at).propose(GROUP, payload.clone(), Admission::Ordinary).await {
                Ok(proposed) => return proposed,
                Err(ProposeError::NotLeader { leader }) => at = leader.unwrap_or(node),
                // The named leader may be gone.
                Err(ProposeError::Unknown | ProposeError::NoGroup | ProposeError::Stopped) => {
                    at = node;
                }
                Err(error @ ProposeError::Overloaded) => panic!("{error}"),
            }
            assert!(Instant::now() < deadline, "not accepted");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until every given node applied the same, to the last entry.
    async fn converged(&self, nodes: &[NodeId]) {
        eventually("the replicas differ", || {
            let chains: Vec<_> =
                nodes.iter().map(|node| self.ledger(*node).chain().unwrap()).collect();
            let statuses: Vec<_> = nodes.iter().map(|node| self.status(*node)).collect();
            chains.windows(2).all(|pair| pair[0] == pair[1])
                && statuses.iter().all(|status| {
                    status.applied == status.last_log && status.applied == statuses[0].applied
                })
        })
        .await;
    }

    async fn close(self) {
        for node in self.nodes.values() {
            node.host.close().await.unwrap();
        }
    }
}

async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
