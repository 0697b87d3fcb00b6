//! A node's life: opening what is on the disk, making or joining a cluster,
//! serving the other nodes, stopping.
//!
//! Tasks of a member, each with its own file:
//! - [`heartbeat`]: how the other nodes are, and whose clock is right
//! - [`reconcile`]: the replicas on this node are those of the directory
//! - [`lead`]: what the leader of a group owes it
//! - [`crate::life::driver`]: replicas and leaders are where they should be
//! - [`crate::life::index`]: indexes that an upgrade brought are built
//! - [`seeds`]: finding nodes that moved
//! - the directory's follower and the flusher
//!
//! What an operator asks of a node is in `operator`.

pub(crate) mod bootstrap;
mod error;
pub(crate) mod heartbeat;
pub(crate) mod identity;
pub(crate) mod join;
pub(crate) mod lead;
pub mod obstacle;
mod open;
pub(crate) mod operate;
mod operator;
pub(crate) mod reconcile;
pub(crate) mod seeds;
pub mod status;
mod stop;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use cardea_raft::{
    ClusterId, NodeId,
    tls::Credentials,
    transport::{Listener, Network},
};
use cardea_storage::{
    Clock, Entropy, Fault, Keyring, Store, engine::Disk, protocol::sharded::ShardedStore,
    slot::SLOTS,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use self::error::OpenError;
use self::{identity::Identity, obstacle::Obstacle, status::ClusterStatus};
use crate::{
    clocks::{ClockComparison, CorrectedClock},
    directory::{
        Directory, KeyRows,
        records::{PlacementRecord, Survive},
    },
    keys::{KeyError, Keyrings},
    life::Indexing,
    member::Member,
    replica::flusher::FlushSettings,
    shards::ClusterShards,
};

/// The newest cluster version that this binary understands.
pub const VERSION_MAX: u32 = cardea_storage::version::VERSION_MAX;

/// How a node presents itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeProfile {
    /// Its name, for people.
    pub name: String,
    /// The region it stands in.
    pub region: String,
    /// The failure zone within the region; may be empty.
    pub zone: String,
    /// Where other nodes reach it, as `host:port`.
    pub address: String,
    /// The base URL of its public listener.
    pub public_url: String,
    /// The base URL of its admin listener.
    pub admin_url: String,
    /// The version of its binary.
    pub binary_version: String,
}

/// How nodes prove themselves to each other.
#[derive(Debug)]
pub enum Security {
    /// Certificates of the cluster's authority, which name the cluster.
    Mutual(Credentials),
    /// In the clear, on loopback only.
    LoopbackPlain,
}

/// What a node is opened with.
pub struct ClusterOptions {
    /// How it presents itself.
    pub profile: NodeProfile,
    /// Where it listens to other nodes, and how it calls them.
    pub listener: Listener,
    /// How nodes prove themselves.
    pub security: Security,
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// Where the node's data is on it.
    pub data_dir: PathBuf,
    /// Below this many free bytes ordinary writes are refused.
    pub reserve_bytes: u64,
    /// The operator's master keys, the current one first.
    pub master: Keyring,
    /// What its layers know of their indexes, and how it builds them.
    pub indexing: Indexing,
    /// Rewritten addresses: advertised to dialled.
    pub dial: BTreeMap<String, String>,
    /// The newest cluster version that the node claims to know, [`VERSION_MAX`]
    /// but in rehearsals of an upgrade.
    pub version_max: u32,
    /// Bounds and timings of Raft.
    pub raft: cardea_raft::Settings,
    /// Bounds of what may stay unflushed.
    pub flush: FlushSettings,
    /// Where Raft and the listener run: a runtime of its own.
    pub raft_runtime: Handle,
    /// How much memory its process takes, in bytes, where that can be told.
    pub memory: fn() -> Option<u64>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
}

/// What a new cluster consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct InitPlan {
    /// Its name, for people.
    pub name: String,
    /// Shards of the home space, 1 to 4096.
    pub home_shards: u16,
    /// Shards of the index space.
    pub index_shards: u16,
    /// Shards of the graph space.
    pub graph_shards: u16,
    /// Where the replicas of every shard should be.
    pub placement: PlacementRecord,
}

impl InitPlan {
    /// A small cluster: four shards of home, one of index, one of graph, with up
    /// to three voters each.
    pub fn small(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            home_shards: 4,
            index_shards: 1,
            graph_shards: 1,
            placement: PlacementRecord {
                survive: Survive::Node.into(),
                within_region: String::new(),
                voters: 3,
            },
        }
    }

    /// # Errors
    /// [`OpenError::Plan`] if no cluster can be made by it.
    pub fn check(&self) -> Result<(), OpenError> {
        let parts = [self.home_shards, self.index_shards, self.graph_shards];
        if parts.iter().any(|parts| *parts == 0 || *parts > SLOTS) {
            return Err(OpenError::Plan("each space has 1 to 4096 shards"));
        }
        if !matches!(self.placement.voters, 1 | 3 | 5) {
            return Err(OpenError::Plan("a shard has 1, 3 or 5 voters"));
        }
        Ok(())
    }
}

/// A node, in a cluster or on the way into one.
pub struct ClusterNode {
    options: Opened,
    directory: Arc<Directory>,
    comparison: Arc<ClockComparison>,
    shards: Arc<ClusterShards>,
    store: Arc<dyn Store>,
    member: watch::Sender<Option<Arc<Member>>>,
    listener: Mutex<Option<Listener>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    stopping: CancellationToken,
    /// Making, joining and stopping are serial.
    changing: tokio::sync::Mutex<()>,
}

/// [`ClusterOptions`] without what is used up.
struct Opened {
    profile: NodeProfile,
    security: Security,
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    reserve_bytes: u64,
    master: Keyring,
    indexing: Indexing,
    dial: BTreeMap<String, String>,
    network: Network,
    version_max: u32,
    raft: cardea_raft::Settings,
    flush: FlushSettings,
    raft_runtime: Handle,
    memory: fn() -> Option<u64>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    process: u64,
}

impl ClusterNode {
    /// Opens a node. If its data directory belongs to a cluster, the node is a
    /// member of it again when the call returns, with its replicas started;
    /// otherwise [`init`](Self::init) or [`join`](Self::join) makes it one.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: ClusterOptions) -> Result<Arc<Self>, OpenError> {
        let ClusterOptions {
            profile,
            listener,
            security,
            disk,
            data_dir,
            reserve_bytes,
            master,
            indexing,
            dial,
            version_max,
            raft,
            flush,
            raft_runtime,
            memory,
            clock,
            entropy,
        } = options;
        let directory = Directory::new(clock.clone(), indexing.rules.indexes());
        let shards = Arc::new(ClusterShards::default());
        let comparison = ClockComparison::new(clock.clone());
        let corrected = CorrectedClock::new(clock.clone(), comparison.clone());
        let store = ShardedStore::new(shards.clone(), corrected, entropy.clone());
        let process = u64::from_be_bytes(entropy.as_ref().bytes()).max(1);
        let node = Arc::new(Self {
            comparison,
            options: Opened {
                profile,
                security,
                disk,
                data_dir,
                reserve_bytes,
                master,
                indexing,
                dial,
                network: listener.network(),
                version_max,
                raft,
                flush,
                raft_runtime,
                memory,
                clock,
                entropy,
                process,
            },
            directory,
            shards,
            store,
            member: watch::Sender::new(None),
            listener: Mutex::new(Some(listener)),
            tasks: Mutex::default(),
            stopping: CancellationToken::new(),
            changing: tokio::sync::Mutex::new(()),
        });
        let found = node.identity()?;
        if let Some(identity) = &found {
            // Before anything of it is read in a way that may be outdated.
            node.must_know(identity.version)?;
        }
        if let Some(identity) = found.filter(|identity| identity.of_member().is_some()) {
            let _serial = node.changing.lock().await;
            node.become_member(&identity).await?;
            node.announce(&identity).await?;
        }
        Ok(node)
    }

    /// Makes a cluster of this node, once. Others join it.
    ///
    /// # Errors
    /// [`OpenError::AlreadyMember`] if it was made or joined before.
    pub async fn init(&self, plan: InitPlan) -> Result<ClusterId, OpenError> {
        self.init_beside(plan, &[]).await
    }

    /// [`init`](Self::init), unless one of the `seeds` (`host:port`) belongs to a cluster
    /// already.
    ///
    /// # Errors
    /// [`OpenError::MadeElsewhere`] then, and those of [`init`](Self::init).
    pub async fn init_beside(
        &self,
        plan: InitPlan,
        seeds: &[String],
    ) -> Result<ClusterId, OpenError> {
        let _serial = self.changing.lock().await;
        bootstrap::init(self, plan, seeds).await
    }

    /// Joins the cluster that one of the `seeds` (`host:port`) belongs to. Asks
    /// them in turn until one takes the node in, or the node is stopped.
    ///
    /// # Errors
    /// [`OpenError::Refused`], [`OpenError::Stopping`], and faults.
    pub async fn join(&self, seeds: &[String]) -> Result<NodeId, OpenError> {
        join::join(self, seeds).await
    }

    /// Tells a member where to look (`host:port`) for nodes that are not where the
    /// directory says, should all have moved while it was away.
    ///
    /// # Errors
    /// [`OpenError::Tls`] if the certificates cannot be used.
    pub fn look_through(&self, seeds: &[String]) -> Result<(), OpenError> {
        if let Some(member) = self.member() {
            let (_, tls) = self.tls(member.cluster)?;
            *member.seeds.write() = Some(seeds::Seeds::new(seeds, &self.options, tls));
        }
        Ok(())
    }

    /// The cluster this node belongs to, once it does.
    pub fn member(&self) -> Option<Arc<Member>> {
        self.member.borrow().clone()
    }

    /// Waits until the node belongs to an initialised cluster and its directory
    /// has arrived; `None` if it is stopped first.
    pub async fn joined(&self) -> Option<Arc<Member>> {
        let mut members = self.member.subscribe();
        let member = tokio::select! {
            () = self.stopping.cancelled() => return None,
            member = members.wait_for(Option::is_some) => member.ok()?.clone()?,
        };
        let mut views = self.directory.watch();
        tokio::select! {
            () = self.stopping.cancelled() => None,
            view = views.wait_for(|view| view.cluster.is_some()) => view.ok().map(|_| member),
        }
    }

    /// The store over the cluster's shards. Until the node belongs to a cluster
    /// everything it is asked is [`StoreError::Unavailable`](cardea_storage::StoreError::Unavailable).
    pub fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// The directory as this node holds it.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Whether what the node holds of the directory counts for decisions that
    /// staleness would breach (DESIGN § 5).
    pub fn is_confirmed(&self) -> bool {
        self.directory.is_confirmed()
    }

    /// Why this node must not serve what depends on its configuration; `None`
    /// while it may. A few atomic loads.
    pub fn obstacle(&self) -> Option<Obstacle> {
        obstacle::of(&self.directory, &self.comparison)
    }

    /// The cluster's keys as the directory has them now.
    ///
    /// # Errors
    /// [`KeyError::Missing`] before the directory has arrived, and
    /// [`KeyError::NotOpened`] under another master key.
    pub fn keyrings(&self) -> Result<Keyrings, KeyError> {
        self.keyrings_of(&self.directory.view().keys)
    }

    /// The cluster's keys as some view of the directory has them.
    ///
    /// # Errors
    /// See [`keyrings`](Self::keyrings).
    pub fn keyrings_of(&self, keys: &KeyRows) -> Result<Keyrings, KeyError> {
        Keyrings::open(&self.options.master, keys)
    }

    /// The cluster as this node sees it; answered without a quorum too.
    pub fn status(&self) -> ClusterStatus {
        status::of(self)
    }

    /// Waits for a fault. The process must stop then.
    pub async fn faulted(&self) -> Fault {
        let mut members = self.member.subscribe();
        let member = match members.wait_for(Option::is_some).await {
            Ok(member) => member.clone(),
            Err(_) => None,
        };
        let Some(member) = member else { return std::future::pending().await };
        let mut own = member.faulted.subscribe();
        tokio::select! {
            fault = member.host.faulted() => fault,
            fault = own.wait_for(Option::is_some) => match fault {
                Ok(fault) => fault.clone().unwrap_or_else(|| Fault::new("unnamed fault")),
                Err(_) => std::future::pending().await,
            },
        }
    }

    /// Stops: hands leaderships over, stops the replicas, makes what they hold
    /// durable, closes the log. Idempotent.
    ///
    /// # Errors
    /// The first fault; everything is stopped nevertheless.
    pub async fn shutdown(&self) -> Result<(), Fault> {
        stop::shutdown(self).await
    }

    /// Stops at once, without handing over or flushing, as a crash would; what
    /// the disk holds decides how it goes on. For tests and for faults.
    pub async fn abandon(&self) {
        stop::abandon(self).await;
    }

    /// Refuses a cluster version that this node does not know.
    fn must_know(&self, cluster: u32) -> Result<(), OpenError> {
        let binary = self.options.version_max;
        if cluster > binary { Err(OpenError::TooOld { cluster, binary }) } else { Ok(()) }
    }

    fn identity(&self) -> Result<Option<Identity>, Fault> {
        Identity::read(self.options.disk.as_ref(), &self.options.data_dir)
    }
}

impl std::fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterNode")
            .field("profile", &self.options.profile)
            .finish_non_exhaustive()
    }
}
