//! `cardea key`: rotates the cluster's keys while it serves.

use std::time::Duration;

use serde_json::json;

use super::{exit::Outcome, output::Printer};
use crate::operator::{client::OperatorClient, wire::RotatedKey};

/// What may be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum KeyCommand {
    /// Make a new key the current one; former ones still open what they sealed
    Rotate {
        /// Which key
        #[arg(value_parser = ["seal", "index", "token"])]
        purpose: String,
    },
}

pub(super) async fn run(command: KeyCommand, client: &OperatorClient, printer: Printer) -> Outcome {
    let KeyCommand::Rotate { purpose } = command;
    let path = format!("/cluster/keys/{purpose}/rotate");
    let rotated: RotatedKey = client.post(&path, &json!({}), Duration::from_secs(60)).await?;
    printer.print(&rotated, |rotated, _| {
        format!("The {} key is now number {}.\n", rotated.purpose, rotated.key_id)
    })
}
