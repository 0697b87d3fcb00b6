//! The node's place in a cluster: what a configuration says, opened.
//!
//! Consensus runs on a runtime of its own, so that no flood of requests keeps a
//! heartbeat waiting.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use cardea_cluster::{
    ClusterNode, ClusterOptions, InitPlan, NodeProfile, OpenError, Security,
    directory::records::PlacementRecord, life::Indexing, replica::flusher::FlushSettings,
};
use cardea_raft::{GroupStatus, Timing, tls::Credentials};
use cardea_storage::{
    Clock, Entropy, KeyId, Keyring, Secret,
    engine::rocks::{RocksDisk, RocksSettings},
};
use futures::future::join_all;
use tokio::{net::TcpListener, runtime::Handle};

use crate::{
    clock::SystemClock,
    config::{
        Config,
        secret::{SecretBytes, read_key, read_key_file, read_private},
        settings::ClusterTls,
        share::memory_here,
    },
    layers::{admin_url, public_url},
    listener::health::VERSION,
    operator::{
        upkeep::LayerRules,
        wire::{Init, SHARDS_MAX},
    },
    telemetry::process::resident_bytes,
};

/// The node in its cluster, or on the way into one.
pub struct Backend {
    node: Arc<ClusterNode>,
    name: String,
    join: Vec<String>,
}

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Backend").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Backend {
    /// Opens the data directory; a node that belonged to a cluster belongs to it
    /// again when the call returns.
    ///
    /// # Errors
    /// What keeps the node from starting, for the operator.
    pub async fn open(
        config: &Config,
        raft_runtime: Handle,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> anyhow::Result<Arc<Self>> {
        let listen = config.cluster.listen;
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("the cluster listener cannot stand on {listen}"))?;
        let rocks = RocksSettings {
            block_cache_bytes: config.memory.block_cache.of(memory_here()).as_usize(),
            write_buffer_bytes: config.memory.write_buffers.as_usize(),
            ..RocksSettings::default()
        };
        let address = config.cluster.advertise.clone().unwrap_or_else(|| listen.to_string());
        let node = ClusterNode::open(ClusterOptions {
            profile: NodeProfile {
                name: address.clone(),
                region: config.node.region.clone(),
                zone: config.node.zone.clone().unwrap_or_default(),
                address,
                public_url: public_url(config),
                admin_url: admin_url(config),
                binary_version: VERSION.to_owned(),
            },
            listener: listener.into(),
            security: security(config)?,
            disk: Arc::new(RocksDisk::new(rocks)?),
            data_dir: config.node.data_dir.clone(),
            reserve_bytes: config.disk.reserve.bytes(),
            master: master_keys(config)?,
            indexing: Indexing { rules: Arc::new(LayerRules), ..Indexing::default() },
            dial: dialled(&config.cluster.dial)?,
            raft: raft_settings(config),
            flush: FlushSettings::default(),
            version_max: cardea_cluster::runtime::VERSION_MAX,
            raft_runtime,
            memory: resident_bytes,
            clock,
            entropy,
        })
        .await
        .with_context(|| format!("cannot open {}", config.node.data_dir.display()))?;
        Ok(Arc::new(Self {
            node,
            name: config.cluster.name.clone(),
            join: config.cluster.join.clone(),
        }))
    }

    /// The node.
    pub fn node(&self) -> &Arc<ClusterNode> {
        &self.node
    }

    /// Goes on asking the configured nodes to be taken in, if this node belongs
    /// to no cluster; later they are where nodes that moved are looked for.
    /// `refused` learns why it never will.
    pub fn seek(self: &Arc<Self>, refused: impl FnOnce(OpenError) + Send + 'static) {
        if self.join.is_empty() {
            return;
        }
        if self.node.member().is_some() {
            return self.look_through_seeds();
        }
        let backend = self.clone();
        // It ends by itself: with the cluster that takes this node in, or the one that is made
        // of it. Cut off, it would leave a node that has an id and does nothing.
        tokio::spawn(async move {
            tracing::info!(through = backend.join.join(","), "asking to join a cluster");
            match backend.node.join(&backend.join).await {
                Ok(_) | Err(OpenError::AlreadyMember(_)) => backend.look_through_seeds(),
                Err(OpenError::Stopping) => {}
                Err(error) => refused(error),
            }
        });
    }

    fn look_through_seeds(&self) {
        if let Err(error) = self.node.look_through(&self.join) {
            tracing::error!(%error, "nodes that moved cannot be looked for");
        }
    }

    /// Hands every leadership to another voter that answers, within `within`.
    /// Does not touch the disk.
    pub async fn hand_over(&self, within: Duration) {
        let Some(member) = self.node.member() else { return };
        let host = member.host();
        let moves = host.groups().into_iter().filter_map(|group| {
            let status = host.status(group).filter(GroupStatus::leads)?;
            let others = status.voters.iter().filter(|(replica, _)| **replica != status.replica);
            let nearest = others
                .filter(|(_, node)| member.is_heard(**node))
                .max_by_key(|(replica, _)| status.matched.get(replica).copied().flatten());
            nearest.map(|(replica, _)| (group, *replica))
        });
        let moves: Vec<_> = moves.collect();
        let transfers = moves.iter().map(|(group, to)| async move {
            if let Err(error) = host.transfer_leader(*group, *to).await {
                tracing::debug!(%group, %error, "a leadership was not handed over");
            }
        });
        if tokio::time::timeout(within, join_all(transfers)).await.is_err() {
            tracing::warn!("some leaderships were not handed over in time");
        }
    }

    /// Makes a cluster of this node, once; what was broken off half-way goes on. Nodes are
    /// started alike, each with the others to join: the one that makes the cluster may still
    /// be looking for it.
    ///
    /// # Errors
    /// [`OpenError::AlreadyMember`] if it belongs to one, [`OpenError::MadeElsewhere`] if
    /// there is one that it is about to join, [`OpenError::Plan`] if the plan is out of bounds.
    pub async fn init(&self, plan: Init) -> Result<cardea_cluster::ClusterId, OpenError> {
        if let Some(member) = self.node.member()
            && self.node.directory().view().cluster.is_some()
        {
            return Err(OpenError::AlreadyMember(member.cluster()));
        }
        let made = self.node.init_beside(self.plan(plan)?, &self.join).await?;
        self.look_through_seeds();
        Ok(made)
    }

    fn plan(&self, asked: Init) -> Result<InitPlan, OpenError> {
        let Init { home_shards, index_shards, graph_shards, voters } = asked;
        let mut spaces = [home_shards, index_shards, graph_shards].into_iter();
        if !spaces.all(|shards| (1..=SHARDS_MAX).contains(&shards)) {
            return Err(OpenError::Plan("each space has 1 to 1024 shards"));
        }
        let small = InitPlan::small(self.name.clone());
        let placement = PlacementRecord { voters, ..small.placement };
        let plan = InitPlan { home_shards, index_shards, graph_shards, placement, ..small };
        plan.check().map(|()| plan)
    }
}

pub(crate) fn security(config: &Config) -> anyhow::Result<Security> {
    let cluster = &config.cluster;
    if cluster.tls == ClusterTls::Off {
        return Ok(Security::LoopbackPlain);
    }
    let (Some(authority), Some(certificate), Some(key)) =
        (&cluster.authority_file, &cluster.certificate_file, &cluster.key_file)
    else {
        anyhow::bail!(
            "nodes need certificates: set cluster.authority_file, cluster.certificate_file and \
             cluster.key_file (`cardea cert` makes them), or cluster.tls = \"off\" on loopback"
        );
    };
    let read = |path: &Path| {
        std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let key = read_private(key)?;
    let credentials = Credentials::from_pem(&read(authority)?, &read(certificate)?, key.as_bytes())
        .and_then(|found| found.check(SystemClock::new().now().as_millis()).map(|()| found))
        .with_context(|| format!("{} cannot be used", certificate.display()))?;
    Ok(Security::Mutual(credentials))
}

/// The master keys, the current one first.
pub(crate) fn master_keys(config: &Config) -> anyhow::Result<Keyring> {
    let secrets = &config.secrets;
    let current = read_key("master_key", secrets.master_key_file.as_deref(), |name| {
        std::env::var(name).ok()
    })?;
    let Some(current) = current else {
        anyhow::bail!(
            "a master key is needed: set secrets.master_key_file to a file with 32 random bytes \
             in hex (openssl rand -hex 32), the same on every node"
        );
    };
    let mut keys = vec![named(&current)?];
    for path in &secrets.former_master_key_files {
        keys.push(named(&read_key_file(path)?)?);
    }
    Keyring::new(keys).context("there is no master key")
}

/// A master key under an id that follows from it, so that it is found again
/// whatever order the files are named in.
fn named(key: &SecretBytes) -> anyhow::Result<(KeyId, Secret<[u8; 32]>)> {
    let bytes: [u8; 32] =
        key.expose().as_slice().try_into().context("a master key has 32 bytes")?;
    let digest = blake3::derive_key("cardea master key id v1", &bytes);
    let id = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
    Ok((KeyId(id), Secret::new(bytes)))
}

fn dialled(rules: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    rules
        .iter()
        .map(|rule| {
            let (advertised, dialled) = rule
                .split_once('=')
                .with_context(|| format!("cluster.dial: \"{rule}\" is not advertised=dialled"))?;
            Ok((advertised.trim().to_owned(), dialled.trim().to_owned()))
        })
        .collect()
}

/// What is sent is read, hashed, encrypted and carried by the cores that people wait for.
fn snapshot_rate_here() -> u64 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores as u64).clamp(1, 8) * (8 << 20)
}

fn raft_settings(config: &Config) -> cardea_raft::Settings {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let raft = &config.raft;
    let heartbeat_ms = ms(raft.heartbeat);
    // The proportion of the default: spared well before the next is missed.
    let heartbeat_spared_ms =
        heartbeat_ms * Timing::DEFAULT.heartbeat_spared_ms / Timing::DEFAULT.heartbeat_ms;
    cardea_raft::Settings {
        timing: Timing {
            heartbeat_ms,
            heartbeat_spared_ms,
            election_ms_min: ms(raft.election_min),
            election_ms_max: ms(raft.election_max),
        },
        rest_beats: if raft.rest { cardea_raft::Settings::REST_BEATS } else { 0 },
        snapshot_entries: u64::from(raft.snapshot_entries),
        snapshot_bytes_per_second: raft
            .snapshot_rate
            .map_or_else(snapshot_rate_here, |rate| rate.bytes()),
        ..cardea_raft::Settings::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Sources, load},
        entropy::SystemEntropy,
    };

    /// A node of its own directory and port, with others to join.
    async fn opened(join: &[String]) -> (tempfile::TempDir, String, Arc<Backend>) {
        let dir = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let (key, file) = (dir.path().join("key"), dir.path().join("cardea.toml"));
        crate::cli::cert::write_new(&key, &"07".repeat(32), 0o600).unwrap();
        let text = format!(
            "[node]\nregion = \"here\"\ndata_dir = {:?}\n[cluster]\nlisten = \"{address}\"\n\
             tls = \"off\"\njoin = {join:?}\n[secrets]\nmaster_key_file = {key:?}\n",
            dir.path().join("data")
        );
        std::fs::write(&file, text).unwrap();
        let config = load(Sources { file: Some(file), ..Sources::default() }).unwrap().config;
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let backend = Backend::open(&config, Handle::current(), clock, entropy).await.unwrap();
        (dir, address, backend)
    }

    /// Whoever asked for it may be gone before the cluster is made, and asks again.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_cluster_that_was_made_half_way_is_made_when_it_is_asked_for_again() {
        let mut broken_off = 0;
        for _ in 0..5 {
            let (_dir, _, backend) = opened(&[]).await;
            let asked = backend.clone();
            let making = tokio::spawn(async move { asked.init(Init::default()).await });
            while backend.node().member().is_none() {
                tokio::task::yield_now().await;
            }
            making.abort();
            let ended = making.await;
            if backend.node().directory().view().cluster.is_none() {
                backend.init(Init::default()).await.unwrap();
                broken_off += 1;
            }
            let again = backend.init(Init::default()).await;
            assert!(matches!(again, Err(OpenError::AlreadyMember(_))), "{again:?} {ended:?}");
            backend.node().abandon().await;
        }
        assert!(broken_off > 0);
    }

    /// A node that is being taken in, and is told to make a cluster just then.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_is_on_its_way_into_a_cluster_arrives_whatever_else_it_is_asked_for() {
        let (_one, address, first) = opened(&[]).await;
        first.init(Init::default()).await.unwrap();
        // Who has come stays: voters that go without leaving take the quorum along.
        let mut came = Vec::new();
        for id in 2..5 {
            let (dir, _, late) = opened(std::slice::from_ref(&address)).await;
            late.seek(|error| panic!("{error}"));
            let identity = dir.path().join("data/IDENTITY");
            let before = loop {
                match std::fs::read(&identity) {
                    Ok(before) => break before,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            // It has an id, and is not there yet.
            while std::fs::read(&identity).is_ok_and(|now| now == before) {
                tokio::task::yield_now().await;
            }
            let asked = late.init(Init::default()).await;
            assert!(matches!(asked, Err(OpenError::AlreadyMember(_))), "{asked:?}");
            let mut views = first.node().directory().watch();
            let lives = views.wait_for(|view| {
                let row = view.nodes.get(&cardea_cluster::NodeId(id));
                row.is_some_and(|row| {
                    row.state() == cardea_cluster::directory::records::NodeState::Live
                })
            });
            tokio::time::timeout(Duration::from_secs(30), lives).await.unwrap().unwrap();
            came.push((dir, late));
        }
        for (_dir, late) in &came {
            late.node().abandon().await;
        }
        first.node().abandon().await;
    }

    /// Certificates of one authority name one cluster: two of them would be taken for one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_second_cluster_is_made_beside_one_that_is_to_be_joined() {
        let (_one, address, first) = opened(&[]).await;
        let (dir, _, late) = opened(&["127.0.0.1:1".to_owned(), address.clone()]).await;
        first.init(Init::default()).await.unwrap();
        let refused = late.init(Init::default()).await;
        assert!(
            matches!(&refused, Err(OpenError::MadeElsewhere(at)) if *at == address),
            "{refused:?}"
        );
        assert!(!dir.path().join("data/IDENTITY").exists(), "nothing is left of it");
        // Nobody was admitted for having asked.
        assert_eq!(first.node().status().nodes.len(), 1);
        late.node().abandon().await;
        first.node().abandon().await;
    }

    #[test]
    fn addresses_are_rewritten_as_configured_and_nothing_else_is_taken() {
        let rules = ["10.0.0.1:7433=127.0.0.1:9000".to_owned()];
        assert_eq!(dialled(&rules).unwrap()["10.0.0.1:7433"], "127.0.0.1:9000");
        assert!(dialled(&["10.0.0.1:7433".to_owned()]).is_err());
    }

    #[test]
    fn a_master_key_keeps_its_id() {
        let (id, _) = named(&SecretBytes::new(vec![7; 32])).unwrap();
        let (again, _) = named(&SecretBytes::new(vec![7; 32])).unwrap();
        let (other, _) = named(&SecretBytes::new(vec![8; 32])).unwrap();
        assert_eq!(id, again);
        assert_ne!(id, other);
    }
}
