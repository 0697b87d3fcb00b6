//! `cardea verify`: compares indexes with homes while the cluster serves.

use std::time::Duration;

use super::{
    exit::{Failure, Outcome},
    output::{Printer, Tone},
};
use crate::operator::{
    client::OperatorClient,
    wire::{Verify, VerifyReport},
};

/// What is asked of it.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Write index rows that are missing
    #[arg(long)]
    fill: bool,
}

pub(super) async fn run(args: VerifyArgs, client: &OperatorClient, printer: Printer) -> Outcome {
    let asked = Verify { fill: args.fill };
    let report: VerifyReport =
        client.post("/cluster/verify", &asked, Duration::from_secs(24 * 3600)).await?;
    printer.print(&report, |report, colour| {
        let mut text =
            format!("Compared {} index rows with {} homes.\n", report.index_rows, report.homes);
        if report.filled > 0 {
            text.push_str(&format!("Wrote {} index rows that were missing.\n", report.filled));
        }
        if !report.left_out.is_empty() {
            let left_out = report.left_out.join(", ");
            text.push_str(&format!("Left out, since they are being built: {left_out}.\n"));
        }
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
