//! `cardea node`: takes a node out of service, for a while or for good.

use std::time::Duration;

use serde_json::{Value, json};

use super::{exit::Outcome, output::Printer};
use crate::operator::client::OperatorClient;

/// What may be done with a node.
#[derive(Debug, clap::Subcommand)]
pub enum NodeCommand {
    /// Hand the node's leaderships over, before a restart
    #[command(after_help = "Example:\n  cardea node drain 3 && systemctl restart cardea")]
    Drain {
        /// The node's id, as `cardea status` shows it
        node: u64,
    },
    /// Move the node's replicas away and let it go for good
    Decommission {
        /// The node's id, as `cardea status` shows it
        node: u64,
    },
}

pub(super) async fn run(
    command: NodeCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    let (node, verb, done, patience) = match command {
        NodeCommand::Drain { node } => (node, "drain", "drained: it leads nothing", 60),
        NodeCommand::Decommission { node } => {
            (node, "decommission", "decommissioned: it may be switched off", 24 * 3600)
        }
    };
    let path = format!("/cluster/nodes/{node}/{verb}");
    let _: Value = client.post(&path, &json!({}), Duration::from_secs(patience)).await?;
    printer
        .print(&json!({ "node": node, "done": verb }), |_, _| format!("Node {node} is {done}.\n"))
}
