//! A cluster of real processes on this machine: configured, started, killed,
//! paused, asked, and cleaned up.

mod plan;
mod status;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

pub use self::{
    plan::{Plan, Site},
    status::{NodeStatus, ReplicaStatus, ShardStatus, Status, slot_of},
};
use crate::{
    endpoint::{Endpoint, Side},
    process::{Launch, Process, read_log},
    scratch::Scratch,
};

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
            nodes.push(plan.prepare(root, index, peers[index], &others)?);
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
        let node = plan.prepare(self.directory.path(), index, peer, &others)?;
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

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    let mut file = std::fs::File::options().create_new(true).write(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

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
