//! `cardea cert`: the authority of a cluster, and the certificates by which
//! its nodes know each other. Key files are made readable for their owner
//! alone; nothing that exists is overwritten.

use std::{
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use cardea_raft::{
    ClusterId,
    tls::{Authority, Subject, Validity},
};
use cardea_storage::{Clock, Entropy};
use serde_json::json;

use super::{exit::Outcome, output::Printer};
use crate::{clock::SystemClock, config::value::parse_lifespan, entropy::SystemEntropy};

/// The authority's certificate in its directory.
pub const AUTHORITY_FILE: &str = "authority.pem";
/// The authority's key in its directory.
pub const AUTHORITY_KEY_FILE: &str = "authority.key";

/// The longest host name (RFC 1035 § 2.3.4), in bytes.
const HOST_BYTES_MAX: usize = 253;
/// The longest part of one.
const LABEL_BYTES_MAX: usize = 63;

/// What may be made.
#[derive(Debug, clap::Subcommand)]
pub enum CertCommand {
    /// Make the authority of a new cluster; its id is drawn here
    #[command(
        after_help = "Example:\n  cardea cert authority --out certs\n\nKeep authority.key away from the nodes: whoever has it can make one."
    )]
    Authority {
        /// The directory for authority.pem and authority.key
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long it holds
        #[arg(long, default_value = "3650d", value_parser = parse_lifespan, value_name = "DURATION")]
        lifespan: Duration,
    },
    /// Make a node's certificate
    #[command(
        after_help = "Example:\n  cardea cert node --authority certs --name eu-1 --host eu-1.internal --host 10.0.0.1 --out certs"
    )]
    Node {
        /// The directory with authority.pem and authority.key
        #[arg(long, value_name = "DIR")]
        authority: PathBuf,
        /// The node's name: letters, digits, `.`, `_`, `-`
        #[arg(long)]
        name: String,
        /// A host name or address at which other nodes reach it; may be repeated
        #[arg(long = "host", required = true, value_parser = parse_host, value_name = "HOST")]
        hosts: Vec<String>,
        /// The directory for `<name>.pem` and `<name>.key`
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// How long it holds
        #[arg(long, default_value = "825d", value_parser = parse_lifespan, value_name = "DURATION")]
        lifespan: Duration,
    },
}

pub(super) fn run(command: CertCommand, printer: Printer) -> Outcome {
    let made = match command {
        CertCommand::Authority { out, lifespan } => make_authority(&out, lifespan)?,
        CertCommand::Node { authority, name, hosts, out, lifespan } => {
            make_node(&authority, &Subject { node: name, hosts }, &out, lifespan)?
        }
    };
    printer.print(&json!({ "certificate": made.0, "key": made.1 }), |_, _| {
        format!("{}\n{}\n", made.0.display(), made.1.display())
    })
}

/// Makes an authority in `out`; the paths of its certificate and key.
pub fn make_authority(out: &Path, lifespan: Duration) -> anyhow::Result<(PathBuf, PathBuf)> {
    let entropy: &dyn Entropy = &SystemEntropy;
    let cluster = ClusterId(entropy.uuid().into_bytes());
    let authority = Authority::create(cluster, validity(lifespan))?;
    write_pair(
        out,
        AUTHORITY_FILE,
        authority.certificate_pem(),
        AUTHORITY_KEY_FILE,
        &authority.key_pem(),
    )
}

/// Makes a node's certificate in `out`; the paths of it and its key.
pub fn make_node(
    authority: &Path,
    subject: &Subject,
    out: &Path,
    lifespan: Duration,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    let read = |name: &str| {
        let path = authority.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let authority = Authority::from_pem(&read(AUTHORITY_FILE)?, &read(AUTHORITY_KEY_FILE)?)?;
    let issued = authority.issue(subject, validity(lifespan))?;
    let (certificate, key) = (format!("{}.pem", subject.node), format!("{}.key", subject.node));
    write_pair(out, &certificate, &issued.certificate_pem, &key, &issued.key_pem)
}

/// A host name (RFC 1123) or an address, as certificates have it: without a port.
fn parse_host(text: &str) -> Result<String, String> {
    let refused = |why: &str| {
        Err(format!(
            "{why}: expected a host name or an IP address, such as eu-1.internal or 10.0.0.1"
        ))
    };
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if text.parse::<std::net::SocketAddr>().is_ok() {
        return refused("a certificate names no port");
    }
    if text.starts_with('[') {
        return refused("an IPv6 address stands without brackets here");
    }
    if text.len() > HOST_BYTES_MAX {
        return refused("it is longer than 253 bytes");
    }
    if text.contains(':') {
        return refused("a certificate names no port and no scheme");
    }
    let labels = || text.split('.');
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let edges = label.starts_with('-') || label.ends_with('-');
        (1..=LABEL_BYTES_MAX).contains(&label.len()) && !edges && label.bytes().all(known)
    };
    if !labels().all(is_label) {
        return refused("it is no host name");
    }
    // 10.0.0.256 is neither.
    if labels().next_back().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return refused("it is no address");
    }
    Ok(text.to_owned())
}

/// From an hour ago, since other machines' clocks may be behind.
fn validity(lifespan: Duration) -> Validity {
    let now = SystemClock::new().now();
    Validity {
        not_before_ms: now.before(Duration::from_secs(3600)).as_millis(),
        not_after_ms: now.after(lifespan).as_millis(),
    }
}

fn write_pair(
    directory: &Path,
    certificate: &str,
    certificate_pem: &str,
    key: &str,
    key_pem: &str,
) -> anyhow::Result<(PathBuf, PathBuf)> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let (certificate, key) = (directory.join(certificate), directory.join(key));
    write_new(&key, key_pem, 0o600)?;
    // A key without its certificate is good for nothing, and beside another's, as of an
    // authority whose key is kept elsewhere, worse than none.
    write_new(&certificate, certificate_pem, 0o644).inspect_err(|_| {
        std::fs::remove_file(&key).ok();
    })?;
    Ok((certificate, key))
}

/// Writes a file that must not exist yet; nothing is left of one that cannot be written.
pub fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display())).inspect_err(|_| {
        std::fs::remove_file(path).ok();
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_no_host_is_refused_with_a_reason() {
        for host in ["eu-1.internal", "localhost", "10.0.0.1", "fd00::1", "n1", "1.pool.example"] {
            assert_eq!(parse_host(host).as_deref(), Ok(host));
        }
        let long = format!("{}.example", "a".repeat(64));
        for (host, why) in [
            ("x y", "no host name"),
            ("", "no host name"),
            ("a..b", "no host name"),
            ("-a.example", "no host name"),
            ("*.example", "no host name"),
            ("b\u{fc}cher.example", "no host name"),
            (long.as_str(), "no host name"),
            ("10.0.0.256", "no address"),
            ("10.0.0.1:7433", "no port"),
            ("eu-1.internal:7433", "no port"),
            ("https://eu-1.internal", "no port"),
            ("[fd00::1]", "without brackets"),
        ] {
            let refused = parse_host(host).unwrap_err();
            assert!(refused.contains(why), "{host}: {refused}");
        }
        assert!(parse_host(&"a.".repeat(130)).unwrap_err().contains("253"));
    }

    #[test]
    fn an_authority_and_its_nodes_are_made_once_with_private_keys() {
        let dir = tempfile::tempdir().unwrap();
        let year = Duration::from_secs(365 * 86_400);
        let (certificate, key) = make_authority(dir.path(), year).unwrap();
        let subject = Subject { node: "n1".to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
        let (node, node_key) = make_node(dir.path(), &subject, dir.path(), year).unwrap();
        for key in [&key, &node_key] {
            assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let read = |path: &Path| std::fs::read(path).unwrap();
        let credentials = cardea_raft::tls::Credentials::from_pem(
            &read(&certificate),
            &read(&node),
            &read(&node_key),
        )
        .unwrap();
        assert_eq!(credentials.identity().node, "n1");
        assert!(make_authority(dir.path(), year).is_err(), "an authority is never overwritten");
    }

    #[test]
    fn no_key_is_left_beside_a_certificate_that_is_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let year = Duration::from_secs(365 * 86_400);
        let (_, key) = make_authority(dir.path(), year).unwrap();
        let elsewhere = dir.path().join("elsewhere.key");
        std::fs::rename(&key, &elsewhere).unwrap();
        assert!(make_authority(dir.path(), year).is_err(), "its certificate is there");
        assert!(!key.exists());
        std::fs::rename(&elsewhere, &key).unwrap();
        let subject = Subject { node: "n1".to_owned(), hosts: vec!["127.0.0.1".to_owned()] };
        make_node(dir.path(), &subject, dir.path(), year).unwrap();
    }
}
