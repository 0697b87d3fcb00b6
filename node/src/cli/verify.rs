//! `cardea verify`: compares indexes with homes while the cluster serves.

use std::time::Duration;

use serde_json::json;

use super::{
    exit::{Failure, Outcome},
    output::{Printer, Tone},
};
use crate::operator::{client::OperatorClient, wire::VerifyReport};

pub(super) async fn run(client: &OperatorClient, printer: Printer) -> Outcome {
    let report: VerifyReport =
        client.post("/cluster/verify", &json!({}), Duration::from_secs(24 * 3600)).await?;
    printer.print(&report, |report, colour| {
        let mut text =
            format!("Compared {} index rows with {} homes.\n", report.index_rows, report.homes);
        for problem in &report.problems {
            text.push_str(&format!("  {} {problem}\n", Tone::Bad.paint("✗", colour)));
        }
        if report.problems.is_empty() {
            text.push_str(&format!(
                "{} Everything fits together.\n",
                Tone::Good.paint("✓", colour)
            ));
        }
        text
    })?;
    match report.problems.len() {
        0 => Ok(()),
        count => Err(Failure::Unhealthy(format!("{count} problems were found"))),
    }
}
