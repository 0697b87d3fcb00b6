//! `cardea init`: makes a cluster of the nodes that were started.

use std::time::Duration;

use super::{exit::Outcome, output::Printer};
use crate::operator::{client::OperatorClient, wire::Initialized};

pub(super) async fn run(client: &OperatorClient, printer: Printer) -> Outcome {
    let done: Initialized =
        client.post("/cluster/init", &serde_json::json!({}), Duration::from_secs(60)).await?;
    printer.print(&done, |done, _| format!("The cluster {} is made.\n", done.cluster_id))
}
