//! `cardea init`: makes a cluster of the nodes that were started.

use std::time::Duration;

use super::{exit::Outcome, output::Printer};
use crate::operator::{
    client::OperatorClient,
    wire::{Init, Initialized, SHARDS_MAX},
};

/// Into what it is divided.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Shards are not divided later: take two or three home shards for each node that the cluster may ever have. Four keep three nodes busy."
)]
pub struct InitArgs {
    /// Shards that people live in: how far leaders, and with them writes, are spread
    #[arg(long, value_name = "COUNT", default_value_t = Init::default().home_shards, value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    home_shards: u16,
    /// Shards that say whose an identifier is
    #[arg(long, value_name = "COUNT", default_value_t = Init::default().index_shards, value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    index_shards: u16,
    /// Shards of relation tuples
    #[arg(long, value_name = "COUNT", default_value_t = Init::default().graph_shards, value_parser = clap::value_parser!(u16).range(1..=i64::from(SHARDS_MAX)))]
    graph_shards: u16,
    /// Voters of each shard: 1, 3 or 5; two of five may be lost
    #[arg(long, value_name = "COUNT", default_value_t = Init::default().voters, value_parser = voters)]
    voters: u32,
}

pub(super) async fn run(args: InitArgs, client: &OperatorClient, printer: Printer) -> Outcome {
    let InitArgs { home_shards, index_shards, graph_shards, voters } = args;
    let plan = Init { home_shards, index_shards, graph_shards, voters };
    let done: Initialized =
        client.post("/cluster/init", &serde_json::json!(plan), Duration::from_secs(60)).await?;
    printer.print(&done, |done, _| format!("The cluster {} is made.\n", done.cluster_id))
}

/// An even number would survive no more than the odd one below it.
fn voters(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(voters @ (1 | 3 | 5)) => Ok(voters),
        _ => Err("shards have 1, 3 or 5 voters".to_owned()),
    }
}
