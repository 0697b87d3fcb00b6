//! What `cardea dev` runs: three nodes, their regions, ports and files.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use crate::{
    cli::cert::{AUTHORITY_FILE, AUTHORITY_KEY_FILE, make_authority, make_node, write_new},
    config::value::{parse_duration, show_duration},
};

/// The three regions, in the order of the nodes.
pub const REGIONS: [&str; 3] = ["eu-central", "us-east", "ap-south"];

/// The first node's public port, unless another is chosen; all others are counted from it.
pub const PORT: u16 = 4433;
/// The highest that leaves room for the others.
pub const PORT_MAX: u16 = 62_000;

const CERTIFICATE_LIFESPAN: Duration = Duration::from_secs(3650 * 86_400);

/// One-way delays between the regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delays([[Duration; 3]; 3]);

impl Delays {
    /// The delay of what travels between two nodes (0 to 2).
    pub fn between(self, from: usize, to: usize) -> Duration {
        self.0.get(from).and_then(|row| row.get(to)).copied().unwrap_or_default()
    }
}

impl FromStr for Delays {
    type Err = String;

    /// One delay for all (`40ms`), or a profile: `world` (as the public
    /// clouds' regions stand), `continent`.
    fn from_str(text: &str) -> Result<Self, String> {
        let ms = Duration::from_millis;
        let three = |eu_us, eu_ap, us_ap| {
            Self([
                [ms(0), ms(eu_us), ms(eu_ap)],
                [ms(eu_us), ms(0), ms(us_ap)],
                [ms(eu_ap), ms(us_ap), ms(0)],
            ])
        };
        match text {
            "world" => Ok(three(45, 65, 100)),
            "continent" => Ok(three(8, 12, 10)),
            _ => {
                let delay = parse_duration(text)
                    .map_err(|why| format!("{why}, or a profile: world, continent"))?;
                let mut all = [[delay; 3]; 3];
                for (node, row) in all.iter_mut().enumerate() {
                    row[node] = Duration::ZERO;
                }
                Ok(Self(all))
            }
        }
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = Vec::new();
        for (from, to) in [(0, 1), (0, 2), (1, 2)] {
            let delay = show_duration(self.between(from, to));
            pairs.push(format!("{} ↔ {} {delay}", REGIONS[from], REGIONS[to]));
        }
        f.write_str(&pairs.join(", "))
    }
}

/// One of the three nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevNode {
    /// 0 to 2.
    pub index: usize,
    /// Its region.
    pub region: &'static str,
    /// Its directory: configuration, data, log.
    pub directory: PathBuf,
    /// Its public port.
    pub public: u16,
    /// Its admin port.
    pub admin: u16,
    /// Its node-to-node port.
    pub cluster: u16,
    /// Its ports for Keto's clients: read, write, language.
    pub keto: [u16; 3],
}

impl DevNode {
    /// The three nodes under `root`, with the ports of Kratos and Keto in steps of 100 where
    /// the first is [`PORT`], and as far apart elsewhere. `port` is at most [`PORT_MAX`].
    pub fn all(root: &Path, port: u16) -> [DevNode; 3] {
        [0_u16, 1, 2].map(|index| {
            let first = port + 100 * index;
            DevNode {
                index: usize::from(index),
                region: REGIONS[usize::from(index)],
                directory: root.join(format!("node-{}", index + 1)),
                public: first,
                admin: first + 1,
                cluster: first + 3000,
                keto: [33, 34, 36].map(|beyond| first + beyond),
            }
        })
    }

    /// Whether it has run before: it belongs to a cluster then, and need not wait to join.
    pub fn has_run(&self) -> bool {
        self.directory.join("data").exists()
    }

    /// The ports that it listens on.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        [self.public, self.admin, self.cluster].into_iter().chain(self.keto)
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("cardea.toml")
    }

    /// The port on which the supervisor stands in for `to` towards this node,
    /// where links are simulated.
    pub fn link_port(&self, to: &DevNode) -> u16 {
        to.cluster + 1 + u16::try_from(self.index).unwrap_or(0)
    }

    /// The text of its configuration.
    fn config_text(&self, nodes: &[DevNode; 3], simulates_links: bool) -> String {
        let others = || nodes.iter().filter(|node| node.index != self.index);
        let join: Vec<String> =
            others().map(|node| format!("\"127.0.0.1:{}\"", node.cluster)).collect();
        let dial: Vec<String> = others()
            .filter(|_| simulates_links)
            .map(|to| format!("\"127.0.0.1:{}=127.0.0.1:{}\"", to.cluster, self.link_port(to)))
            .collect();
        let name = format!("node-{}", self.index + 1);
        format!(
            "# Written anew by `cardea dev` at every start.\n\n\
             [node]\nregion = \"{}\"\ndata_dir = \"data\"\n\n\
             [cluster]\nname = \"dev\"\nlisten = \"127.0.0.1:{}\"\njoin = [{}]\ndial = [{}]\n\
             authority_file = \"../certs/{AUTHORITY_FILE}\"\n\
             certificate_file = \"../certs/{name}.pem\"\nkey_file = \"../certs/{name}.key\"\n\n\
             [public]\nlisten = \"127.0.0.1:{}\"\n\
             # Browsers make passkeys for names, not for addresses.\n\
             url = \"http://localhost:{}\"\n\n\
             [admin]\nlisten = \"127.0.0.1:{}\"\n\n\
             [permission]\nread_listen = \"127.0.0.1:{}\"\nwrite_listen = \"127.0.0.1:{}\"\n\
             opl_listen = \"127.0.0.1:{}\"\n\n\
             [sessions]\n# There is no HTTPS on this machine.\ncookie_secure = false\n\n\
             [flows]\n# Without a mail server, messages are read at the admin listener.\n\
             verification = true\nrecovery = true\n\n\
             [messages]\n# Everybody is at one address here, and nothing is sent.\n\
             max_per_source = 0\nmax_mails = 0\nmax_texts = 0\n\n\
             [memory]\n# Three nodes share this machine with its user.\n\
             block_cache = \"5%\"\n\n\
             [log]\nformat = \"json\"\n\n\
             [secrets]\nmaster_key_file = \"../master.key\"\n",
            self.region,
            self.cluster,
            join.join(", "),
            dial.join(", "),
            self.public,
            self.public,
            self.admin,
            self.keto[0],
            self.keto[1],
            self.keto[2],
        )
    }
}

/// Writes what is missing under `root`: certificates and the master key at the
/// first run, configurations at every one.
pub fn prepare(
    root: &Path,
    nodes: &[DevNode; 3],
    master_key: [u8; 32],
    simulates_links: bool,
) -> anyhow::Result<()> {
    let certs = root.join("certs");
    if !certs.join(AUTHORITY_KEY_FILE).exists() {
        make_authority(&certs, CERTIFICATE_LIFESPAN)?;
    }
    let key = root.join("master.key");
    if !key.exists() {
        let hex: String = master_key.iter().map(|byte| format!("{byte:02x}")).collect();
        write_new(&key, &hex, 0o600)?;
    }
    for node in nodes {
        std::fs::create_dir_all(&node.directory)?;
        let name = format!("node-{}", node.index + 1);
        if !certs.join(format!("{name}.key")).exists() {
            let subject = cardea_raft::tls::Subject {
                node: name,
                hosts: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
            };
            make_node(&certs, &subject, &certs, CERTIFICATE_LIFESPAN)?;
        }
        std::fs::write(node.config_file(), node.config_text(nodes, simulates_links))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    #[test]
    fn what_dev_writes_is_accepted_and_kept_between_runs() {
        let dir = tempfile::tempdir().unwrap();
        let nodes = DevNode::all(dir.path(), PORT);
        prepare(dir.path(), &nodes, [7; 32], true).unwrap();
        let key = std::fs::read(dir.path().join("master.key")).unwrap();
        prepare(dir.path(), &nodes, [8; 32], true).unwrap();
        assert_eq!(std::fs::read(dir.path().join("master.key")).unwrap(), key);
        for node in &nodes {
            let sources = Sources { file: Some(node.config_file()), ..Sources::default() };
            let config = load(sources).unwrap().config;
            assert_eq!(config.node.region, REGIONS[node.index]);
            assert_eq!(config.cluster.dial.len(), 2);
            assert!(config.cluster.key_file.unwrap().exists());
            let url = config.public.url.unwrap();
            assert_eq!(url.as_str(), format!("http://localhost:{}", node.public));
        }
    }

    #[test]
    fn ports_do_not_meet() {
        for first in [PORT, PORT_MAX] {
            let nodes = DevNode::all(Path::new("."), first);
            let mut ports: Vec<u16> = nodes.iter().flat_map(DevNode::ports).collect();
            for from in &nodes {
                ports.extend(
                    nodes.iter().filter(|to| to.index != from.index).map(|to| from.link_port(to)),
                );
            }
            let all = ports.len();
            ports.sort_unstable();
            ports.dedup();
            assert_eq!(ports.len(), all);
        }
    }

    #[test]
    fn delays_are_one_for_all_or_a_profile() {
        let even: Delays = "40ms".parse().unwrap();
        assert_eq!(even.between(0, 2), Duration::from_millis(40));
        assert_eq!(even.between(1, 1), Duration::ZERO);
        let world: Delays = "world".parse().unwrap();
        assert_eq!(world.between(1, 2), world.between(2, 1));
        assert!("far".parse::<Delays>().is_err());
    }
}
