//! Nodes in one process, over real sockets on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs, unreachable_pub, dead_code)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use cardea_cluster::{
    ClusterNode, ClusterOptions, InitPlan, NodeProfile, OpenError, Security, life::Indexing,
    runtime::VERSION_MAX,
};
use cardea_raft::Settings;
use cardea_storage::{
    Clock, Key, KeyId, Keyring, Secret, SeededEntropy, Slot, Space, Store, StoreError, Tag, Tenant,
    Timestamp,
    engine::{Disk, memory::MemoryDisk},
    key::KeyWriter,
    store::{Consistency, Draft, ReadRequest, Verdict},
    txn::{Condition, Effect, Put},
};
use tokio::net::TcpListener;

pub struct WallClock(Instant);

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp(u64::try_from(since.as_millis()).unwrap())
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Below this many free bytes nodes refuse writes.
pub const RESERVE_BYTES: u64 = 1 << 20;
/// What every node says that it takes.
pub const MEMORY_BYTES: u64 = 7 << 20;

/// What is needed to open a node again.
#[derive(Clone)]
pub struct Site {
    pub disk: Arc<dyn Disk>,
    pub data_dir: PathBuf,
    pub number: u64,
    pub region: String,
    /// Where it listened first; 0 before.
    pub port: Arc<AtomicU16>,
    /// The newest cluster version that it claims to know.
    pub version_max: u32,
    /// What its layers know of their indexes.
    pub indexing: Indexing,
}

impl Site {
    pub fn in_memory(number: u64) -> Self {
        Self {
            disk: Arc::new(MemoryDisk::new(number)),
            data_dir: PathBuf::from("/data"),
            number,
            region: "here".to_owned(),
            port: Arc::default(),
            version_max: VERSION_MAX,
            indexing: Indexing::default(),
        }
    }

    /// The same node with a binary that knows versions up to this one.
    pub fn knowing(&self, version_max: u32) -> Self {
        Self { version_max, ..self.clone() }
    }

    /// The same node at another address.
    pub fn moved(&self) -> Self {
        Self { port: Arc::default(), ..self.clone() }
    }

    pub fn on(disk: Arc<dyn Disk>, data_dir: PathBuf, number: u64) -> Self {
        Self { disk, data_dir, ..Self::in_memory(number) }
    }

    pub fn port(&self) -> u16 {
        self.port.load(Ordering::SeqCst)
    }

    pub async fn open(&self) -> Result<Arc<ClusterNode>, OpenError> {
        self.open_with(Security::LoopbackPlain).await
    }

    pub async fn open_with(&self, security: Security) -> Result<Arc<ClusterNode>, OpenError> {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // Another test of this process may have been first.
        drop(tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init());
        let port = self.port.load(Ordering::SeqCst);
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        self.port.store(listener.local_addr().unwrap().port(), Ordering::SeqCst);
        let address = listener.local_addr().unwrap().to_string();
        // No two processes draw the same.
        static OPENED: AtomicU64 = AtomicU64::new(1);
        let seed = OPENED.fetch_add(1, Ordering::SeqCst);
        ClusterNode::open(ClusterOptions {
            profile: NodeProfile {
                name: format!("node-{}", self.number),
                region: self.region.clone(),
                zone: String::new(),
                address,
                public_url: String::new(),
                admin_url: String::new(),
                binary_version: "test".to_owned(),
            },
            listener: listener.into(),
            security,
            disk: self.disk.clone(),
            data_dir: self.data_dir.clone(),
            reserve_bytes: RESERVE_BYTES,
            master: Keyring::new(vec![(KeyId(1), Secret::new([7; 32]))]).unwrap(),
            indexing: self.indexing.clone(),
            dial: Default::default(),
            version_max: self.version_max,
            raft: Settings::default(),
            flush: Default::default(),
            raft_runtime: tokio::runtime::Handle::current(),
            memory: || Some(MEMORY_BYTES),
            clock: Arc::new(WallClock(Instant::now())),
            entropy: Arc::new(SeededEntropy::new(seed)),
        })
        .await
    }
}

/// Three nodes of one cluster, with three voters in each group.
pub struct Town {
    pub sites: Vec<Site>,
    pub nodes: Vec<Arc<ClusterNode>>,
}

impl Town {
    pub async fn of_three(sites: Vec<Site>) -> Self {
        let nodes = together(&sites).await;
        let town = Self { sites, nodes };
        town.settled(3).await;
        town
    }

    pub async fn in_memory() -> Self {
        Self::of_three((1..=3).map(Site::in_memory).collect()).await
    }

    /// Waits until every group has `voters` voters that are in step with it.
    pub async fn settled(&self, voters: usize) {
        eventually("every group has its voters", async || {
            let node = &self.nodes[0];
            let view = node.directory().view();
            let Some(member) = node.member() else { return false };
            view.shards.len() == 7
                && view.shards.keys().all(|group| {
                    let status = member.host().status(*group).unwrap_or_default();
                    status.voters.len() == voters && !status.joint && status.leader.is_some()
                })
        })
        .await;
    }

    pub fn store(&self, at: usize) -> Arc<dyn Store> {
        self.nodes[at].store()
    }

    pub async fn stop(self) {
        for node in &self.nodes {
            node.abandon().await;
        }
    }
}

/// The nodes of a new cluster, all with the binary before this one.
pub async fn of_older_binaries(sites: &[Site]) -> Vec<Arc<ClusterNode>> {
    let older: Vec<Site> = sites.iter().map(|site| site.knowing(VERSION_MAX - 1)).collect();
    together(&older).await
}

async fn together(sites: &[Site]) -> Vec<Arc<ClusterNode>> {
    let first = sites[0].open().await.unwrap();
    first.init(InitPlan::small("test")).await.unwrap();
    let seeds = vec![address_of(&first)];
    let mut nodes = vec![first];
    for site in &sites[1..] {
        let node = site.open().await.unwrap();
        node.join(&seeds).await.unwrap();
        nodes.push(node);
    }
    nodes
}

pub fn address_of(node: &ClusterNode) -> String {
    let status = node.status();
    status.nodes.iter().find(|n| n.id == status.answered_by).unwrap().address.clone()
}

/// Waits until it holds, for at most thirty seconds.
pub async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    // Placement takes its time, and so does a busy machine.
    while started.elapsed() < Duration::from_secs(120) {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what}: did not happen");
}

pub fn key(space: Space, slot: u16, number: u64) -> Key {
    let mut writer = KeyWriter::new(Slot::new(space, slot), Tag::TEST, Tenant(0));
    writer.u64(number);
    writer.finish()
}

pub fn put(key: &Key, value: &str) -> Effect {
    Effect::Put(Put {
        key: key.as_bytes().clone(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        expires_at: 0,
    })
}

pub fn absent(key: &Key) -> Condition {
    Condition::Absent(key.as_bytes().clone())
}

/// Commits blindly, again while the cluster cannot answer.
pub async fn write(store: &Arc<dyn Store>, checks: Vec<Condition>, ops: Vec<Effect>) -> Verdict {
    let draft = Draft {
        checks: checks.into_iter().map(Into::into).collect(),
        ops: ops.into_iter().map(Into::into).collect(),
        read_time: store.clock().now(),
        ..Draft::default()
    };
    store.commit(draft).await.unwrap()
}

pub async fn read(
    store: &Arc<dyn Store>,
    key: &Key,
    consistency: Consistency,
) -> Result<Option<String>, StoreError> {
    let answer = store.read(ReadRequest::new(consistency).get(key.clone())).await?;
    let row = answer.results.into_iter().next().unwrap().into_row();
    Ok(row.map(|row| String::from_utf8(row.value.to_vec()).unwrap()))
}
