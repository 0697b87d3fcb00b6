//! How a cluster of processes is made: how many nodes, where they stand, and
//! what their configuration says.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::bail;

use super::Node;
use crate::{
    endpoint::Endpoint,
    process::{Launch, free_port},
};

/// The ports of a node that has an address to itself.
const PEER: u16 = 7433;
const PUBLIC: u16 = 4433;
const ADMIN: u16 = 4434;

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
    pub(super) fn peer(&self, index: usize) -> anyhow::Result<SocketAddr> {
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

    /// Writes the configuration of the node of this position; `others` are where the
    /// nodes are that it would join.
    pub(super) fn prepare(
        &self,
        root: &Path,
        index: usize,
        peer: SocketAddr,
        others: &[SocketAddr],
    ) -> anyhow::Result<Node> {
        let directory = root.join(format!("node-{}", index + 1));
        std::fs::create_dir_all(directory.join("data"))?;
        let public = SocketAddr::new(peer.ip(), self.port(PUBLIC)?);
        let admin = SocketAddr::new(peer.ip(), self.port(ADMIN)?);
        let site = self.sites.get(index);
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
        .chain(security(self.certificates.as_deref(), index))
        .chain(self.settings.iter().cloned())
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
                binary: self.binary.clone(),
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
