//! `cardea backup` and `cardea restore`.

use std::time::Duration;

use super::{
    exit::Outcome,
    output::{Printer, show_bytes},
};
use crate::operator::{
    client::OperatorClient,
    wire::{Archive, ArchiveReport},
};

/// A day: a large cluster's data takes its time.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Where a backup goes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  cardea backup /mnt/backups/2030-01-31")]
pub struct BackupArgs {
    /// A new directory that every node can write to
    pub directory: String,
}

/// Where a backup is.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, on a cluster that was just made by `cardea init`:\n  cardea restore /mnt/backups/2030-01-31"
)]
pub struct RestoreArgs {
    /// The backup's directory, which every node can read
    pub directory: String,
    /// Keep sessions made before the cut, although revocations after it are unknown
    #[arg(long)]
    pub keep_sessions: bool,
    /// Keep the backup's API keys, although revocations after the cut are unknown
    #[arg(long = "keep-api-keys")]
    pub keep_keys: bool,
}

pub(super) async fn backup(args: BackupArgs, client: &OperatorClient, printer: Printer) -> Outcome {
    let archive = Archive { directory: args.directory, keep_sessions: false, keep_api_keys: false };
    let report: ArchiveReport = client.post("/cluster/backup", &archive, PATIENCE).await?;
    printer.print(&report, |report, _| show("Backed up", report))
}

pub(super) async fn restore(
    args: RestoreArgs,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    let archive = Archive {
        directory: args.directory,
        keep_sessions: args.keep_sessions,
        keep_api_keys: args.keep_keys,
    };
    let report: ArchiveReport = client.post("/cluster/restore", &archive, PATIENCE).await?;
    printer.print(&report, |report, _| show("Restored", report))
}

fn show(verb: &str, report: &ArchiveReport) -> String {
    let ArchiveReport { directory, cut_at, shards, bytes, rows, api_keys_revoked } = report;
    let bytes = if *bytes == 0 { String::new() } else { format!(", {}", show_bytes(*bytes)) };
    let keys = match api_keys_revoked {
        0 => String::new(),
        1 => "1 API key of the backup holds no more: `cardea apikey create` makes another.\n"
            .to_owned(),
        many => format!(
            "{many} API keys of the backup hold no more: `cardea apikey create` makes others.\n"
        ),
    };
    format!("{verb} {shards} shards, {rows} rows{bytes}, as of {cut_at}: {directory}\n{keys}")
}
