//! The command line.

use std::{io::Write as _, process::ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::run::{
    checks::{self, ChecksArgs},
    cluster::{self, ClusterArgs},
    figures::{self, FiguresArgs},
    idle::{self, IdleArgs},
    load::{self, LoadArgs},
    newcomers::{self, NewcomersArgs},
    restart::{self, RestartArgs},
};

/// What Cardea costs.
#[derive(Debug, Parser)]
#[command(
    name = "cardea-bench",
    version,
    about = "What Cardea costs: load, latency, memory, recovery, beside etcd",
    after_help = "Examples:\n  cardea-bench figures\n  cardea-bench cluster\n  cardea-bench cluster --only writes --clients 64 --seconds 3\n  cardea-bench load --identities 1000000 --data target/bench/million\n  cardea-bench restart --data target/bench/million\n  cardea-bench load --identities 1000 --to http://127.0.0.1:4434,http://127.0.0.1:4534"
)]
struct Arguments {
    /// Threads of the generator; it shares its cores with the servers
    #[arg(long, global = true, default_value_t = 1)]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Three nodes with fsync on, and etcd beside them: writes, session checks, logins, memory, leaders killed
    Cluster(ClusterArgs),
    /// The tables of the README: `cluster` and `checks` in short, printed in Markdown
    Figures(FiguresArgs),
    /// Three nodes that nobody asks anything, with few shards and with many
    Idle(IdleArgs),
    /// Fill a cluster with identities; goes on where it was cut short
    Load(LoadArgs),
    /// Permission checks by themselves: the layer over a store in this process
    Checks(ChecksArgs),
    /// Three nodes: flows begun, registrations, bytes on disk for each identity and login
    Newcomers(NewcomersArgs),
    /// How long nodes with that data take to be ready
    Restart(RestartArgs),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _closed = writeln!(std::io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(arguments.threads.max(1))
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let command = async {
            match &arguments.command {
                Command::Cluster(args) => cluster::run(args).await.context("cluster"),
                Command::Figures(args) => figures::run(args).await.context("figures"),
                Command::Idle(args) => idle::run(args).await.context("idle"),
                Command::Load(args) => load::run(args).await.context("load"),
                Command::Checks(args) => checks::run(args).await.context("checks"),
                Command::Newcomers(args) => newcomers::run(args).await.context("newcomers"),
                Command::Restart(args) => restart::run(args).await.context("restart"),
            }
        };
        // Dropped, a command takes the servers that it started with it.
        tokio::select! {
            done = command => done,
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
            _ = terminate.recv() => anyhow::bail!("terminated"),
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
        let parsed = Arguments::try_parse_from(["cardea-bench", "cluster"]).unwrap();
        let Command::Cluster(args) = parsed.command else { panic!("not cluster") };
        assert_eq!((args.clients, args.kills), (vec![1, 16, 64, 256], 20));
        let load = ["cardea-bench", "load", "--identities", "5"];
        assert!(Arguments::try_parse_from(load).is_err(), "neither --to nor --data");
    }
}
