//! A cluster of real processes on this machine: configured, started, killed,
//! paused, asked, and cleaned up.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::{
    endpoint::{Endpoint, Side},
    process::{Launch, Process, free_port, read_log},
    scratch::Scratch,
};

/// The ports of a node that has an address to itself.
const PEER: u16 = 7433;
const PUBLIC: u16 = 4433;
const ADMIN: u16 = 4434;

/// What the tests need of `GET /cluster/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The cluster's id; absent until `init`.
    pub cluster_id: Option<String>,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its shards.
    pub shards: Vec<ShardStatus>,
}

/// A node in [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// How far its clock is from the median, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// A shard in [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct ShardStatus {
    /// Its group.
    pub group: u64,
    /// Its space: directory, home, index or graph.
    pub space: String,
    /// Its first slot.
    pub first_slot: u16,
    /// Its last slot.
    pub last_slot: u16,
    /// The id of the node that leads it.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica in [`ShardStatus`].
#[derive(Debug, Clone, Deserialize)]
pub struct ReplicaStatus {
    /// Whether it votes.
    pub voter: bool,
    /// The id of the node that it is on.
    pub node: u64,
}

impl ShardStatus {
    /// Whether an identity's home is here: the first 12 bits of its id are its slot.
    pub fn is_home_of(&self, identity: &str) -> bool {
        let slot = slot_of(identity);
        self.space == "home"
            && slot.is_some_and(|s| (self.first_slot..=self.last_slot).contains(&s))
    }
}

/// The slot of an id: its first 12 bits.
pub fn slot_of(id: &str) -> Option<u16> {
    u16::from_str_radix(id.get(..3)?, 16).ok()
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The `cardea` binary.
    pub binary: PathBuf,
    /// How many nodes; each in a region of its own.
    pub nodes: usize,
    /// Lines of settings by table, on top of what every node needs.
    pub settings: Vec<(&'static str, String)>,
    /// A directory with the authority's certificate and each node's (`node-1.pem`
    /// and so on); without, nodes speak in the clear.
    pub certificates: Option<PathBuf>,
    /// Where the nodes stand, and those that join them later; none: all on the
    /// loopback, each in a region of its own.
    pub sites: Vec<Site>,
}

/// Where a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    /// Its region's name.
    pub region: String,
    /// Its address, on which every port is free.
    pub address: Ipv4Addr,
    /// A command that runs others there, with their arguments behind.
    pub wrapper: Vec<String>,
}

impl Plan {
    /// Nodes as they ship.
    pub fn new(binary: &Path, nodes: usize) -> Self {
        Self {
            binary: binary.to_owned(),
            nodes,
            settings: Vec::new(),
            certificates: None,
            sites: Vec::new(),
        }
    }

    /// With ticks that suit debug builds on a busy machine.
    pub fn with_slow_ticks(self) -> Self {
        self.with("raft", "heartbeat = \"200ms\"")
            .with("raft", "election_min = \"800ms\"")
            .with("raft", "election_max = \"1600ms\"")
    }

    fn port(&self, of_site: u16) -> anyhow::Result<u16> {
        if self.sites.is_empty() { free_port() } else { Ok(of_site) }
    }

    /// Where other nodes reach the node of this position.
    fn peer(&self, index: usize) -> anyhow::Result<SocketAddr> {
        let address = match self.sites.get(index) {
            Some(site) => site.address,
            None if self.sites.is_empty() => Ipv4Addr::LOCALHOST,
            None => bail!("there are {} sites, none for node {}", self.sites.len(), index + 1),
        };
        Ok(SocketAddr::from((address, self.port(PEER)?)))
    }

    /// With one more setting, in TOML.
    pub fn with(mut self, table: &'static str, line: &str) -> Self {
        self.settings.push((table, line.to_owned()));
        self
    }
}

/// A node of the cluster, running or not.
#[derive(Debug)]
pub struct Node {
    /// How it is started.
    pub launch: Launch,
    /// Its data directory.
    pub data: PathBuf,
    /// How clients reach it.
    pub endpoint: Endpoint,
    /// Where other nodes reach it.
    pub peer: SocketAddr,
    process: Option<Process>,
}

/// A cluster in a directory of its own, which goes when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// Its nodes.
    pub nodes: Vec<Node>,
    // After the nodes: their processes end before their files go.
    directory: Scratch,
}

impl Cluster {
    /// Writes configurations for nodes on free ports; starts nothing.
    pub fn prepare(plan: &Plan) -> anyhow::Result<Self> {
        Self::prepare_in(Scratch::make()?, plan)
    }

    /// As [`Self::prepare`], in a directory that was made before.
    pub fn prepare_in(directory: Scratch, plan: &Plan) -> anyhow::Result<Self> {
        let root = directory.path();
        write_private(&root.join("master.key"), &"42".repeat(32))?;
        let peers: Vec<SocketAddr> =
            (0..plan.nodes).map(|index| plan.peer(index)).collect::<anyhow::Result<_>>()?;
        let mut nodes = Vec::new();
        for index in 0..plan.nodes {
            let others: Vec<SocketAddr> =
                peers.iter().copied().filter(|peer| *peer != peers[index]).collect();
            nodes.push(prepare_node(plan, root, index, peers[index], &others)?);
        }
        Ok(Self { nodes, directory })
    }

    /// Prepares, starts and initialises a cluster, and waits until it serves.
    pub async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(plan)?;
        cluster.begin().await?;
        Ok(cluster)
    }

    /// Starts all nodes, makes a cluster of them and waits until it serves.
    pub async fn begin(&mut self) -> anyhow::Result<()> {
        for index in 0..self.nodes.len() {
            self.launch(index)?;
        }
        let outcome = async {
            self.init().await?;
            self.settle(Duration::from_secs(120)).await
        };
        match outcome.await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.keep();
                Err(error.context(self.tails(30)))
            }
        }
    }

    /// One more node that would join, not started.
    pub fn add_node(&mut self, plan: &Plan) -> anyhow::Result<usize> {
        let index = self.nodes.len();
        let peer = plan.peer(index)?;
        let others: Vec<SocketAddr> = self.nodes.iter().map(|node| node.peer).collect();
        let node = prepare_node(plan, self.directory.path(), index, peer, &others)?;
        self.nodes.push(node);
        Ok(index)
    }

    /// The directory of everything.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts a node's process.
    pub fn launch(&mut self, index: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[index];
        ensure!(node.process.is_none(), "node {} runs already", index + 1);
        node.process = Some(Process::start(&node.launch)?);
        Ok(())
    }

    /// A node's process.
    pub fn process(&mut self, index: usize) -> anyhow::Result<&mut Process> {
        self.nodes[index].process.as_mut().with_context(|| format!("node {} is down", index + 1))
    }

    /// SIGKILL.
    pub fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        self.process(index)?.kill()?;
        self.nodes[index].process = None;
        Ok(())
    }

    /// Forgets a process that ended by itself, so that the node can be started again.
    pub fn forget(&mut self, index: usize) {
        self.nodes[index].process = None;
    }

    /// SIGTERM; the node hands over and ends with code 0.
    pub async fn stop(&mut self, index: usize) -> anyhow::Result<()> {
        let status = self.process(index)?.stop(Duration::from_secs(40)).await?;
        self.nodes[index].process = None;
        ensure!(status.success(), "node {} ended with {status}", index + 1);
        Ok(())
    }

    /// Fails if a node that should run has ended.
    pub fn expect_alive(&mut self) -> anyhow::Result<()> {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            if let Some(process) = &mut node.process
                && let Some(status) = process.ended()?
            {
                bail!("node {} ended by itself with {status}", index + 1);
            }
        }
        Ok(())
    }

    /// The endpoints of all nodes.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.nodes.iter().map(|node| node.endpoint.clone()).collect()
    }

    /// The cluster as a node sees it.
    pub async fn status(&self, index: usize) -> anyhow::Result<Status> {
        let reply = self.nodes[index].endpoint.get(Side::Admin, "/cluster/status").await;
        let body = reply
            .done()
            .with_context(|| format!("node {} gives no status: {reply:?}", index + 1))?;
        Ok(serde_json::from_value(body.clone())?)
    }

    /// Makes a cluster of the nodes, through the first.
    pub async fn init(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        let first = self.nodes[0].endpoint.patient(Duration::from_secs(30));
        loop {
            self.expect_alive()?;
            if self.status(0).await.is_ok_and(|status| status.cluster_id.is_some()) {
                return Ok(());
            }
            let reply = first.send("POST", "/cluster/init", &json!({})).await;
            if reply.done().is_some() {
                return Ok(());
            }
            ensure!(Instant::now() < until, "the cluster could not be made: {reply:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Whether a node says that it is ready.
    pub async fn is_ready(&self, index: usize) -> bool {
        self.nodes[index].endpoint.get(Side::Admin, "/health/ready").await.done().is_some()
    }

    /// Waits until every running node is ready, all see all, and every shard has
    /// a leader and a voter on each node.
    pub async fn settle(&mut self, patience: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + patience;
        let mut obstacle = String::new();
        while Instant::now() < until {
            self.expect_alive()?;
            match self.obstacle().await {
                None => return Ok(()),
                Some(what) => obstacle = what,
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the cluster does not settle within {patience:?}: {obstacle}")
    }

    async fn obstacle(&self) -> Option<String> {
        let running = || (0..self.nodes.len()).filter(|index| self.nodes[*index].process.is_some());
        for index in running() {
            if !self.is_ready(index).await {
                return Some(format!("node {} is not ready", index + 1));
            }
        }
        for index in running() {
            let status = match self.status(index).await {
                Ok(status) => status,
                Err(error) => return Some(format!("{error:#}")),
            };
            if status.shards.is_empty() {
                return Some(format!("node {} knows no shards", index + 1));
            }
            for shard in &status.shards {
                if shard.leader.is_none() {
                    return Some(format!(
                        "node {} knows no leader of group {}",
                        index + 1,
                        shard.group
                    ));
                }
                let voters = shard.replicas.iter().filter(|replica| replica.voter).count();
                if voters < self.nodes.len().min(3) {
                    return Some(format!("group {} has {voters} voters", shard.group));
                }
            }
        }
        None
    }

    /// Which process is which node: ids of the cluster to positions here.
    pub fn positions(&self, status: &Status) -> BTreeMap<u64, usize> {
        let position = |node: &NodeStatus| {
            let at = self.nodes.iter().position(|own| own.peer.to_string() == node.address)?;
            Some((node.id, at))
        };
        status.nodes.iter().filter_map(position).collect()
    }

    /// Which process leads each group, as `asked` sees it.
    pub async fn leaders(&self, asked: usize) -> anyhow::Result<BTreeMap<u64, usize>> {
        let status = self.status(asked).await?;
        let positions = self.positions(&status);
        let leader = |shard: &ShardStatus| Some((shard.group, *positions.get(&shard.leader?)?));
        Ok(status.shards.iter().filter_map(leader).collect())
    }

    /// The group that an identity lives in and the process that leads it, as
    /// `asked` sees it; waits for a leader.
    pub async fn home_of(&self, identity: &str, asked: usize) -> anyhow::Result<(u64, usize)> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.status(asked).await?;
            let shard = status.shards.iter().find(|shard| shard.is_home_of(identity));
            let shard = shard.with_context(|| format!("no shard is the home of {identity}"))?;
            let leader = shard.leader.and_then(|id| self.positions(&status).get(&id).copied());
            if let Some(leader) = leader {
                return Ok((shard.group, leader));
            }
            ensure!(Instant::now() < until, "group {} has no leader", shard.group);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Starts every node that is down.
    pub fn launch_all(&mut self) -> anyhow::Result<()> {
        for index in 0..self.nodes.len() {
            if self.nodes[index].process.is_none() {
                self.launch(index)?;
            }
        }
        Ok(())
    }

    /// Everything that a node wrote, over all its runs.
    pub fn log(&self, index: usize) -> String {
        read_log(&self.nodes[index].launch.log)
    }

    /// Keeps the directory with all logs, for somebody to look at.
    pub fn keep(&mut self) {
        self.directory.keep();
    }

    /// The last lines of every node's log, for a failure's report. Consensus
    /// repeats itself about a dead node, and is left out.
    pub fn tails(&self, lines: usize) -> String {
        let mut text = format!("\nthe nodes' files are in {}", self.directory().display());
        for index in 0..self.nodes.len() {
            let log = self.log(index);
            let is_telling = |line: &&str| !line.contains("\"target\":\"openraft::");
            let all: Vec<&str> = log.lines().filter(is_telling).collect();
            text.push_str(&format!("\n--- node {}, its last lines ---\n", index + 1));
            for line in &all[all.len().saturating_sub(lines)..] {
                text.push_str(line);
                text.push('\n');
            }
        }
        text
    }
}

impl Drop for Cluster {
    /// A failing test says what the nodes said.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.keep();
            std::io::Write::write_all(&mut std::io::stderr(), self.tails(40).as_bytes()).ok();
        }
    }
}

fn prepare_node(
    plan: &Plan,
    root: &Path,
    index: usize,
    peer: SocketAddr,
    others: &[SocketAddr],
) -> anyhow::Result<Node> {
    let directory = root.join(format!("node-{}", index + 1));
    std::fs::create_dir_all(directory.join("data"))?;
    let public = SocketAddr::new(peer.ip(), plan.port(PUBLIC)?);
    let admin = SocketAddr::new(peer.ip(), plan.port(ADMIN)?);
    let site = plan.sites.get(index);
    let region = site.map_or(format!("region-{}", index + 1), |site| site.region.clone());
    // An operator's address that is no loopback is guarded, or said to be open.
    let auth = site.map(|_| ("admin", "auth = \"none\"".to_owned()));
    let join: Vec<String> = others.iter().map(|peer| format!("\"{peer}\"")).collect();
    let quoted = |address: SocketAddr| format!("listen = \"{address}\"");
    let mut tables: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (table, line) in [
        ("node", format!("region = \"{region}\"")),
        ("node", "data_dir = \"data\"".to_owned()),
        ("cluster", "name = \"chaos\"".to_owned()),
        ("cluster", quoted(peer)),
        ("cluster", format!("join = [{}]", join.join(", "))),
        ("public", quoted(public)),
        ("admin", quoted(admin)),
        ("sessions", "cookie_secure = false".to_owned()),
        ("log", "format = \"json\"".to_owned()),
        ("log", "access = false".to_owned()),
        ("secrets", "master_key_file = \"../master.key\"".to_owned()),
    ]
    .into_iter()
    .chain(auth)
    .chain(security(plan.certificates.as_deref(), index))
    .chain(plan.settings.iter().cloned())
    {
        tables.entry(table).or_default().push(line);
    }
    let text: String = tables
        .iter()
        .map(|(table, lines)| format!("[{table}]\n{}\n\n", lines.join("\n")))
        .collect();
    let config = directory.join("cardea.toml");
    std::fs::write(&config, text)?;
    Ok(Node {
        launch: Launch {
            binary: plan.binary.clone(),
            config,
            log: directory.join("log"),
            environment: Vec::new(),
            wrapper: site.map(|site| site.wrapper.clone()).unwrap_or_default(),
        },
        data: directory.join("data"),
        endpoint: Endpoint::new(index, public, admin),
        peer,
        process: None,
    })
}

fn security(certificates: Option<&Path>, index: usize) -> Vec<(&'static str, String)> {
    let Some(directory) = certificates else {
        return vec![("cluster", "tls = \"off\"".to_owned())];
    };
    let file = |name: String| directory.join(name).display().to_string();
    [
        ("authority_file", "authority.pem".to_owned()),
        ("certificate_file", format!("node-{}.pem", index + 1)),
        ("key_file", format!("node-{}.key", index + 1)),
    ]
    .map(|(key, name)| ("cluster", format!("{key} = \"{}\"", file(name))))
    .to_vec()
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_the_first_twelve_bits() {
        assert_eq!(slot_of("abc00000-0000-4000-8000-000000000000"), Some(0xabc));
        assert_eq!(slot_of("x"), None);
        let shard = ShardStatus {
            group: 1,
            space: "home".to_owned(),
            first_slot: 0xa00,
            last_slot: 0xaff,
            leader: None,
            term: 1,
            replicas: Vec::new(),
        };
        assert!(shard.is_home_of("abc00000"));
        assert!(!shard.is_home_of("bbc00000"));
    }

    #[test]
    fn every_node_has_a_configuration_with_its_own_ports_and_all_peers() {
        let plan = Plan::new(Path::new("/bin/true"), 3).with("disk", "reserve = \"1MiB\"");
        let cluster = Cluster::prepare(&plan).unwrap();
        for node in &cluster.nodes {
            let text = std::fs::read_to_string(&node.launch.config).unwrap();
            for other in &cluster.nodes {
                assert!(text.contains(&other.peer.to_string()));
            }
            assert!(text.contains("[disk]\nreserve = \"1MiB\""));
            assert!(text.contains(&node.endpoint.public.to_string()));
        }
    }
}
