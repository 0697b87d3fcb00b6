//! etcd beside it: three members on this machine and this disk, as Debian ships
//! them, asked over gRPC.

pub mod client;
pub mod wire;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use self::wire::Status;
use crate::{
    cost::Process,
    grpc::Channel,
    process::{Server, free_ports},
};

/// Three members.
pub struct Etcd {
    members: Vec<Member>,
}

/// One of them.
pub struct Member {
    /// Its process.
    pub server: Server,
    /// Where clients call it.
    pub address: SocketAddr,
}

/// The certificates that members show each other: a directory as
/// [`make_certificates`](crate::cardea::files::make_certificates) fills it.
pub type PeerTls<'a> = Option<&'a Path>;

/// The binary, if it is installed.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|file| file.is_file())
}

impl Etcd {
    /// Starts three members with new data under `root`.
    ///
    /// # Errors
    /// If there is no leader within a minute.
    pub async fn start(program: &Path, root: &Path, tls: PeerTls<'_>) -> anyhow::Result<Self> {
        std::fs::create_dir_all(root)?;
        let ports = free_ports::<6>()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let peer = |index: usize| format!("{scheme}://127.0.0.1:{}", ports[index]);
        let cluster: Vec<String> = (0..3).map(|n| format!("m{n}={}", peer(n))).collect();
        let mut members = Vec::new();
        for index in 0..3 {
            let client = format!("http://127.0.0.1:{}", ports[index + 3]);
            let (name, data) = (format!("m{index}"), root.join(format!("m{index}")));
            let (data, cluster) = (data.display().to_string(), cluster.join(","));
            let own = peer(index);
            let mut arguments: Vec<String> = [
                ["--name", &name],
                ["--data-dir", &data],
                ["--listen-peer-urls", &own],
                ["--initial-advertise-peer-urls", &own],
                ["--listen-client-urls", &client],
                ["--advertise-client-urls", &client],
                ["--initial-cluster", &cluster],
                ["--initial-cluster-state", "new"],
                ["--log-level", "warn"],
                ["--logger", "zap"],
                ["--log-outputs", "stderr"],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect();
            if let Some(certs) = tls {
                let file = |name: &str| certs.join(name).display().to_string();
                arguments.extend([
                    format!("--peer-cert-file={}", file(&format!("node-{}.pem", index + 1))),
                    format!("--peer-key-file={}", file(&format!("node-{}.key", index + 1))),
                    format!("--peer-trusted-ca-file={}", file("authority.pem")),
                    "--peer-client-cert-auth".to_owned(),
                ]);
            }
            let log = root.join(format!("m{index}.log"));
            let mut server =
                Server::new(&format!("etcd {}", index + 1), program.to_owned(), arguments, log);
            server.start()?;
            members.push(Member { server, address: ([127, 0, 0, 1], ports[index + 3]).into() });
        }
        let mut etcd = Self { members };
        etcd.await_well(Duration::from_secs(60)).await?;
        Ok(etcd)
    }

    /// The members.
    pub fn members(&mut self) -> &mut [Member] {
        &mut self.members
    }

    /// Where clients call.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// The processes that run.
    pub fn processes(&self) -> Vec<Process> {
        self.members.iter().filter_map(|member| member.server.process()).collect()
    }

    /// The index of the member that leads, as the running members agree.
    ///
    /// # Errors
    /// If one does not answer, or they do not agree.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let (mut ids, mut leaders) = (Vec::new(), Vec::new());
        for member in &self.members {
            if member.server.process().is_none() {
                ids.push(0);
                continue;
            }
            let mut channel = Channel::connect(member.address).await?;
            let status: Status = channel.unary(wire::STATUS, &wire::Nothing {}).await?;
            ids.push(status.header.map_or(0, |header| header.member_id));
            leaders.push(status.leader);
        }
        leaders.dedup();
        let leader = match leaders.as_slice() {
            [leader] if *leader != 0 => *leader,
            _ => anyhow::bail!("the members of etcd do not agree who leads"),
        };
        ids.iter().position(|id| *id == leader).context("a stranger leads etcd")
    }

    /// Waits until every member runs, answers and knows one leader.
    ///
    /// # Errors
    /// If that takes longer than `patience`.
    pub async fn await_well(&mut self, patience: Duration) -> anyhow::Result<()> {
        let started = Instant::now();
        loop {
            for member in &mut self.members {
                member.server.check()?;
            }
            match self.leader().await {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > patience => {
                    return Err(error.context("etcd is not ready"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}
