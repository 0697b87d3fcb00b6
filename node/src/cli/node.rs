//! `cardea node`: takes a node out of service, for a while or for good.

use std::time::Duration;

use serde_json::{Value, json};

use super::{exit::Outcome, output::Printer};
use crate::operator::{client::OperatorClient, wire::Decommission};

/// What may be done with a node.
#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Hand the node's leaderships over, before a restart
    #[command(after_help = "Example:\n  cardea node drain 3 && systemctl restart cardea")]
    Drain {
        /// The node's id, as `cardea status` shows it
        node: u64,
    },
    /// Let a node lead again that was drained and not restarted
    Resume {
        /// The node's id, as `cardea status` shows it
        node: u64,
    },
    /// Move the node's replicas away and let it go for good
    #[command(
        after_help = "A node that is dead is let go in the same way: others take its replicas over."
    )]
    Decommission {
        /// The node's id, as `cardea status` shows it
        node: u64,
        /// Although shards are left with fewer voters than they should have
        #[arg(long)]
        force: bool,
    },
}

pub(super) async fn run(
    command: NodeCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    let (node, verb, body, done) = match command {
        NodeCommand::Drain { node } => (node, "drain", json!({}), "drained: it leads nothing"),
        NodeCommand::Resume { node } => (node, "resume", json!({}), "back: it may lead again"),
        NodeCommand::Decommission { node, force } => {
            let body = json!(Decommission { force });
            (node, "decommission", body, "decommissioned: it may be switched off")
        }
    };
    let path = format!("/cluster/nodes/{node}/{verb}");
    let _: Value = client.post(&path, &body, Duration::from_secs(60)).await?;
    printer
        .print(&json!({ "node": node, "done": verb }), |_, _| format!("Node {node} is {done}.\n"))
}
