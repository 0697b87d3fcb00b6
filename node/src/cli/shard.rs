//! `cardea shard`: shows shards, moves their leaders.

use std::time::Duration;

use serde_json::{Value, json};

use super::{exit::Outcome, output::Printer, status::shard_table};
use crate::operator::{
    client::OperatorClient,
    wire::{ClusterStatus, MoveLeader, SetHome},
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
    /// Say in which region a shard's leader should be, and the people who come there get their home
    #[command(
        after_help = "Examples:\n  cardea shard home 4 --region eu-central\n  cardea shard home 4 --anywhere",
        group = clap::ArgGroup::new("where").args(["region", "anywhere"]).required(true)
    )]
    Home {
        /// The shard's group, as `list` shows it
        group: u64,
        /// The region, as nodes name it in `node.region`
        #[arg(long, value_name = "REGION")]
        region: Option<String>,
        /// Leaders may be in any region again
        #[arg(long)]
        anywhere: bool,
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
        ShardCommand::Home { group, region, anywhere: _ } => {
            let path = format!("/cluster/shards/{group}/home");
            let body = SetHome { region: region.clone() };
            let _: Value = client.post(&path, &body, Duration::from_secs(30)).await?;
            printer.print(&json!({ "group": group, "home_region": region }), |_, _| match &region {
                Some(region) => format!(
                    "Shard {group} has its home in {region}; its leader moves there within seconds.\n"
                ),
                None => format!("Shard {group} may be led from anywhere.\n"),
            })
        }
    }
}
