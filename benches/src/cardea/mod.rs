//! The cluster under test: three `cardea start` processes on this machine, with
//! configuration files such as an operator would write, and people in it.

pub mod files;
pub mod people;
pub mod requests;
pub mod status;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};

use self::{
    files::{Files, Ports},
    status::Status,
};
use crate::{
    cost::Process,
    http::{Connection, Template},
    process::Server,
};

/// How often something that is awaited is asked for.
const POLL: Duration = Duration::from_millis(20);

/// Three nodes.
pub struct Cluster {
    nodes: Vec<Node>,
}

/// One of them.
pub struct Node {
    /// Its process.
    pub server: Server,
    ports: Ports,
}

impl Node {
    /// Where applications call it.
    pub fn public(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.public).into()
    }

    /// Where operators call it.
    pub fn admin(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.ports.admin).into()
    }

    /// Waits until it says that it is ready; tells how long that took.
    ///
    /// # Errors
    /// If it ends, or is not ready in time.
    pub async fn await_ready(&mut self, patience: Duration) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let ready = Template::new(Method::GET, "/health/ready")?;
        let mut connection = Connection::new(self.admin()).patience(Duration::from_secs(1));
        let mut last = "no answer".to_owned();
        loop {
            match connection.ask(&ready).await {
                Ok(answer) if answer.status.is_success() => return Ok(started.elapsed()),
                Ok(answer) => last = String::from_utf8_lossy(&answer.body).into_owned(),
                Err(_) => {}
            }
            self.server.check()?;
            let name = &self.server.name;
            anyhow::ensure!(
                started.elapsed() < patience,
                "{name} is not ready after {patience:?}: {last}\n{}",
                self.server.log_end()
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Cluster {
    /// Prepares the files under `root` (those of an earlier run are kept, with their
    /// data), starts three nodes, makes them a cluster if they are none, and waits
    /// until all is well.
    ///
    /// # Errors
    /// If that does not succeed within two minutes.
    pub async fn start(program: &Path, root: &Path, tls: bool) -> anyhow::Result<Self> {
        Self::start_with(program, root, tls, &json!({}), Duration::from_secs(120)).await
    }

    /// As [`start`](Self::start), a new cluster made as `plan` says (the body of
    /// `POST /cluster/init`), well within `patience`.
    ///
    /// # Errors
    /// If that does not succeed in time.
    pub async fn start_with(
        program: &Path,
        root: &Path,
        tls: bool,
        plan: &Value,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(program, root, tls).await?;
        for node in &mut cluster.nodes {
            node.server.start()?;
        }
        cluster.make(plan).await?;
        cluster.await_well(patience).await?;
        Ok(cluster)
    }

    async fn prepare(program: &Path, root: &Path, tls: bool) -> anyhow::Result<Self> {
        let files = Files::prepare(program, root, tls).await?;
        let nodes = files.ports.iter().enumerate().map(|(index, ports)| {
            let name = format!("cardea {}", index + 1);
            let directory = files.node(index);
            let config = directory.join("cardea.toml").display().to_string();
            let arguments = ["start", "--stop-with-stdin", "--config", &config];
            let arguments = arguments.map(str::to_owned).to_vec();
            let log = directory.join("log");
            let server = Server::new(&name, program.to_owned(), arguments, log);
            Node { server, ports: *ports }
        });
        Ok(Self { nodes: nodes.collect() })
    }

    /// The nodes.
    pub fn nodes(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// Where applications call.
    pub fn public(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::public).collect()
    }

    /// Where operators call.
    pub fn admin(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(Node::admin).collect()
    }

    /// The processes that run.
    pub fn processes(&self) -> Vec<Process> {
        self.nodes.iter().filter_map(|node| node.server.process()).collect()
    }

    /// The cluster as any node that answers sees it.
    ///
    /// # Errors
    /// If none answers.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let ask = Template::new(Method::GET, "/cluster/status")?;
        let mut last = anyhow::anyhow!("no node runs");
        for node in self.nodes.iter().filter(|node| node.server.process().is_some()) {
            let mut connection = Connection::new(node.admin()).patience(Duration::from_secs(5));
            match connection.ask(&ask).await {
                Ok(answer) => match answer.json() {
                    Ok(status) => return Ok(status),
                    Err(error) => last = error,
                },
                Err(error) => last = error.into(),
            }
        }
        Err(last.context("no node tells the cluster's status"))
    }

    /// The index of the node with an id, which the status knows by its address.
    pub fn index_of(&self, status: &Status, node: u64) -> Option<usize> {
        let address = &status.nodes.iter().find(|known| known.id == node)?.address;
        let port: u16 = address.rsplit_once(':')?.1.parse().ok()?;
        self.nodes.iter().position(|node| node.ports.cluster == port)
    }

    async fn make(&mut self, plan: &Value) -> anyhow::Result<()> {
        let init = Template::new(Method::POST, "/cluster/init")?.json(plan);
        let started = Instant::now();
        loop {
            for node in &mut self.nodes {
                node.server.check()?;
            }
            match self.status().await {
                Ok(status) if status.cluster_id.is_some() => break,
                Ok(_) => {
                    let first = self.nodes.first().context("there are no nodes")?;
                    let patience = Duration::from_secs(60);
                    let mut connection = Connection::new(first.admin()).patience(patience);
                    // A refusal while nodes come up is asked again.
                    if let Ok(answer) = connection.ask(&init).await {
                        let _: Option<Value> = answer.json().ok();
                    }
                }
                Err(_) => {}
            }
            let patience = Duration::from_secs(60);
            anyhow::ensure!(
                started.elapsed() < patience,
                "no cluster is made: {}",
                self.log_ends()
            );
            tokio::time::sleep(POLL * 5).await;
        }
        Ok(())
    }

    /// Waits until every node is ready, every shard is led and has all its voters.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn await_well(&mut self, patience: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        for node in &mut self.nodes {
            node.await_ready(patience).await?;
        }
        loop {
            let wrong = match self.status().await {
                Ok(status) => match status.lacks(self.nodes.len()) {
                    None => return Ok(()),
                    Some(lack) => lack,
                },
                Err(error) => error.to_string(),
            };
            anyhow::ensure!(started.elapsed() < patience, "the cluster is not well: {wrong}");
            tokio::time::sleep(POLL * 5).await;
        }
    }

    /// Stops every node cleanly; how long the slowest took.
    ///
    /// # Errors
    /// If one does not stop well.
    pub async fn stop(&mut self) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let patience = Duration::from_secs(60);
        let stops = self.nodes.iter_mut().map(|node| node.server.stop(patience));
        for stopped in futures::future::join_all(stops).await {
            stopped?;
        }
        Ok(started.elapsed())
    }

    fn log_ends(&self) -> String {
        let ends =
            self.nodes.iter().map(|n| format!("{}:\n{}\n", n.server.name, n.server.log_end()));
        ends.collect()
    }
}

/// The binary under test: the one named, or the release build of this tree.
///
/// # Errors
/// If it is not there.
pub fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("cardea"));
    let path = named.or_else(beside).context("the binary of cardea is not known; see --cardea")?;
    path.canonicalize().with_context(|| {
        format!(
            "{} is not there; `scripts/build` makes one, and `scripts/bench` both",
            path.display()
        )
    })
}
