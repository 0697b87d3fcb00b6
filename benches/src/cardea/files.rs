//! What three nodes need on disk: configuration, certificates, the master key. Made
//! once in a directory and kept, so that a later run finds its data again.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::process::free_ports;

/// The ports of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    /// Applications.
    pub public: u16,
    /// Operators.
    pub admin: u16,
    /// Other nodes.
    pub cluster: u16,
}

/// What is written down to be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    ports: [Ports; 3],
    tls: bool,
}

/// The files of a cluster.
#[derive(Debug, Clone)]
pub struct Files {
    root: PathBuf,
    /// The ports, by node.
    pub ports: [Ports; 3],
    tls: bool,
}

impl Files {
    /// Those under `root`, made if they are not there.
    ///
    /// # Errors
    /// If they cannot be made, or were made with another choice of TLS.
    pub async fn prepare(program: &Path, root: &Path, tls: bool) -> anyhow::Result<Self> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let root = root.canonicalize()?;
        let kept_file = root.join("cluster.json");
        let kept = match fs::read(&kept_file) {
            Ok(bytes) => serde_json::from_slice::<Kept>(&bytes)?,
            Err(_) => {
                let p = free_ports::<9>()?;
                let of = |n: usize| Ports { public: p[n], admin: p[n + 3], cluster: p[n + 6] };
                Kept { ports: [of(0), of(1), of(2)], tls }
            }
        };
        anyhow::ensure!(
            kept.tls == tls,
            "{} holds a cluster made {} TLS between its nodes",
            root.display(),
            if kept.tls { "with" } else { "without" }
        );
        let files = Self { root, ports: kept.ports, tls };
        files.make_secrets(program).await?;
        for index in 0..files.ports.len() {
            fs::create_dir_all(files.node(index))?;
            fs::write(files.node(index).join("cardea.toml"), files.config(index))?;
        }
        fs::write(&kept_file, serde_json::to_vec_pretty(&kept)?)?;
        Ok(files)
    }

    /// The directory of a node.
    pub fn node(&self, index: usize) -> PathBuf {
        self.root.join(format!("node-{}", index + 1))
    }

    /// The directory of the certificates.
    pub fn certificates(&self) -> PathBuf {
        self.root.join("certs")
    }

    async fn make_secrets(&self, program: &Path) -> anyhow::Result<()> {
        let key = self.root.join("master.key");
        if !key.exists() {
            let random = fs::File::open("/dev/urandom").and_then(|mut file| {
                let mut bytes = [0_u8; 32];
                std::io::Read::read_exact(&mut file, &mut bytes)?;
                Ok(bytes)
            })?;
            let hex: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            options.open(&key)?.write_all(hex.as_bytes())?;
        }
        if self.tls {
            make_certificates(program, &self.certificates()).await?;
        }
        Ok(())
    }

    /// A node's configuration. Beside addresses and paths it has what ships, but for
    /// one thing: no line is logged for each request (etcd logs none either).
    fn config(&self, index: usize) -> String {
        let ports = self.ports[index];
        let others: Vec<String> = (0..self.ports.len())
            .filter(|other| *other != index)
            .map(|other| format!("\"127.0.0.1:{}\"", self.ports[other].cluster))
            .collect();
        let certs = self.certificates();
        let tls = if self.tls {
            let name = format!("node-{}", index + 1);
            format!(
                "authority_file = \"{0}/authority.pem\"\ncertificate_file = \"{0}/{name}.pem\"\n\
                 key_file = \"{0}/{name}.key\"\n",
                certs.display()
            )
        } else {
            "tls = \"off\"\n".to_owned()
        };
        format!(
            "[node]\ndata_dir = \"{}\"\n\n\
             [cluster]\nname = \"bench\"\nlisten = \"127.0.0.1:{}\"\njoin = [{}]\n{tls}\n\
             [public]\nlisten = \"127.0.0.1:{}\"\n\n\
             [admin]\nlisten = \"127.0.0.1:{}\"\n\n\
             [sessions]\ncookie_secure = false\n\n\
             [log]\nformat = \"json\"\naccess = false\n\n\
             [secrets]\nmaster_key_file = \"{}\"\n",
            self.node(index).join("data").display(),
            ports.cluster,
            others.join(", "),
            ports.public,
            ports.admin,
            self.root.join("master.key").display(),
        )
    }
}

/// Makes an authority and three certificates with `cardea cert`, unless they are
/// there.
///
/// # Errors
/// If the binary refuses.
pub async fn make_certificates(program: &Path, certs: &Path) -> anyhow::Result<()> {
    let out = certs.display().to_string();
    if !certs.join("authority.key").exists() {
        run(program, &["cert", "authority", "--out", &out]).await?;
    }
    for name in ["node-1", "node-2", "node-3"] {
        if !certs.join(format!("{name}.key")).exists() {
            let hosts = ["--host", "127.0.0.1", "--host", "localhost"];
            let mut arguments = vec!["cert", "node", "--authority", &out, "--name", name];
            arguments.extend(hosts);
            arguments.extend(["--out", &out]);
            run(program, &arguments).await?;
        }
    }
    Ok(())
}

async fn run(program: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let output = tokio::process::Command::new(program).args(arguments).output().await?;
    anyhow::ensure!(
        output.status.success(),
        "cardea {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let nothing = Path::new("/bin/false");
        let made = Files::prepare(nothing, dir.path(), false).await.unwrap();
        let key = fs::read(dir.path().join("master.key")).unwrap();
        assert_eq!(key.len(), 64);
        let found = Files::prepare(nothing, dir.path(), false).await.unwrap();
        assert_eq!(made.ports, found.ports);
        assert_eq!(fs::read(dir.path().join("master.key")).unwrap(), key);
        let config = fs::read_to_string(found.node(1).join("cardea.toml")).unwrap();
        for part in [
            format!("listen = \"127.0.0.1:{}\"", made.ports[1].cluster),
            format!(
                "\"127.0.0.1:{}\", \"127.0.0.1:{}\"",
                made.ports[0].cluster, made.ports[2].cluster
            ),
            "tls = \"off\"".to_owned(),
        ] {
            assert!(config.contains(&part), "{part}\n{config}");
        }
        let other = Files::prepare(nothing, dir.path(), true).await.unwrap_err();
        assert!(other.to_string().contains("without TLS"), "{other}");
    }

    #[test]
    fn with_tls_the_files_of_the_node_are_named() {
        let ports = Ports { public: 1, admin: 2, cluster: 3 };
        let files = Files { root: "/r".into(), ports: [ports; 3], tls: true };
        let config = files.config(2);
        assert!(config.contains("key_file = \"/r/certs/node-3.key\""), "{config}");
        assert!(!config.contains("tls = "), "{config}");
    }
}
