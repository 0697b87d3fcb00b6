//! `cardea shard`: shows shards, moves their leaders.

use std::time::Duration;

use serde_json::{Value, json};

use super::{exit::Outcome, output::Printer, status::shard_table};
use crate::operator::{
    client::OperatorClient,
    wire::{ClusterStatus, MoveLeader},
};

/// What may be done with shards.
#[derive(Debug, clap::Subcommand)]
pub enum ShardCommand {
    /// List the shards with their leaders and replicas
    List,
    /// Hand a shard's leadership to another of its voters
    #[command(after_help = "Example:\n  cardea shard move-leader 4 --to 2")]
    MoveLeader {
        /// The shard's group, as `list` shows it
        group: u64,
        /// The node that should lead
        #[arg(long, value_name = "NODE")]
        to: u64,
    },
}

pub(super) async fn run(
    command: ShardCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    match command {
        ShardCommand::List => {
            let status: ClusterStatus = client.get("/cluster/status").await?;
            printer.print(&status.shards, |shards, colour| shard_table(shards).render(colour))
        }
        ShardCommand::MoveLeader { group, to } => {
            let path = format!("/cluster/shards/{group}/leader");
            let _: Value =
                client.post(&path, &MoveLeader { to_node: to }, Duration::from_secs(30)).await?;
            printer.print(&json!({ "group": group, "leader": to }), |_, _| {
                format!("Shard {group} is led by node {to}.\n")
            })
        }
    }
}
