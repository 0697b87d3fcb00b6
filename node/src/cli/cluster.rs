//! `cardea cluster`: what holds for all nodes together.

use std::time::Duration;

use super::{exit::Outcome, output::Printer};
use crate::operator::{
    client::OperatorClient,
    wire::{ClusterStatus, HoldVersion, VersionReport},
};

/// What may be asked of a cluster.
#[derive(Debug, clap::Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster version, hold it during an upgrade, or let it be raised
    #[command(
        after_help = "The cluster version is what every node understands. It is raised by itself once all nodes\nknow the next, after which none can go back to an older binary. To keep that way open:\n\n  cardea cluster version --hold       before the first node is upgraded\n  cardea cluster version --finalize   once the new binary has proved itself"
    )]
    Version {
        /// Hold the version where it is, although nodes know a newer one
        #[arg(long, conflicts_with = "finalize")]
        hold: bool,
        /// Hold it no longer, and raise it as far as every node goes: no way back
        #[arg(long)]
        finalize: bool,
    },
}

pub(super) async fn run(
    command: ClusterCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    let ClusterCommand::Version { hold, finalize } = command;
    if hold || finalize {
        let asked = HoldVersion { held: hold };
        let done: VersionReport =
            client.post("/cluster/version", &asked, Duration::from_secs(30)).await?;
        return printer.print(&done, |done, _| {
            let how = if done.held { "is held at" } else { "is" };
            format!("The cluster version {how} {}.\n", done.version)
        });
    }
    let status: ClusterStatus = client.get("/cluster/status").await?;
    let versions = serde_json::json!({
        "version": status.version,
        "known": status.version_known,
        "held": status.version_held,
        "nodes": status.nodes.iter().map(|node| serde_json::json!({
            "node": node.id, "version_max": node.version_max, "binary": node.version,
        })).collect::<Vec<_>>(),
    });
    printer.print(&versions, |_, _| show(&status))
}

fn show(status: &ClusterStatus) -> String {
    let held = status.version_held.map_or("", |_| ", and an operator holds it there");
    let mut text = format!("The cluster version is {}{held}.\n", status.version);
    for node in &status.nodes {
        text.push_str(&format!(
            "  node {}: binary {}, knows versions up to {}\n",
            node.id, node.version, node.version_max
        ));
    }
    if let Some(pending) = pending(status) {
        text.push_str(&format!("{pending}.\n"));
    }
    text
}

/// What keeps the cluster version from being the newest that some node knows.
pub(super) fn pending(status: &ClusterStatus) -> Option<String> {
    use crate::operator::wire::NodeState;
    let there = || status.nodes.iter().filter(|node| node.state != NodeState::Decommissioned);
    let newest = there().map(|node| node.version_max).max().unwrap_or(0);
    if newest <= status.version {
        return None;
    }
    if status.version_known > status.version && status.version_held.is_some() {
        return Some(format!(
            "Every node knows version {}, and an operator holds the cluster at {}: `cardea cluster version --finalize` raises it",
            status.version_known, status.version
        ));
    }
    let old: Vec<String> =
        there().filter(|node| node.version_max < newest).map(|node| node.id.to_string()).collect();
    (!old.is_empty()).then(|| {
        format!("Version {newest} waits for nodes that do not know it: {}", old.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::wire::{NodeState, NodeStatus};

    fn status(version: u32, nodes: &[u32]) -> ClusterStatus {
        let node = |(id, version_max): (u64, &u32)| NodeStatus {
            id,
            address: String::new(),
            region: String::new(),
            zone: None,
            state: NodeState::Live,
            version: "0.1.0".to_owned(),
            version_max: *version_max,
            replicas: 0,
            leaders: 0,
            clock_offset_ms: None,
            disk_used_bytes: None,
            disk_free_bytes: None,
            disk_hangs: false,
            memory_bytes: None,
            silent_ms: None,
        };
        ClusterStatus {
            name: "cardea".to_owned(),
            cluster_id: None,
            version,
            version_known: nodes.iter().copied().min().unwrap_or(1),
            version_held: None,
            answered_by: 1,
            nodes: (1..).zip(nodes).map(node).collect(),
            shards: Vec::new(),
            indexes: Vec::new(),
        }
    }

    #[test]
    fn what_an_upgrade_waits_for_is_said() {
        assert_eq!(pending(&status(2, &[2, 2, 2])), None);
        let waits = pending(&status(1, &[2, 1, 1])).unwrap();
        assert!(waits.ends_with("2, 3"), "{waits}");
        let held = ClusterStatus { version_held: Some(1), ..status(1, &[2, 2]) };
        assert!(pending(&held).unwrap().contains("--finalize"));
        let mut gone = status(2, &[2, 1]);
        gone.nodes[1].state = NodeState::Decommissioned;
        assert_eq!(pending(&gone), None);
        assert!(show(&status(1, &[2, 1])).contains("node 2: binary 0.1.0, knows versions up to 1"));
    }
}
