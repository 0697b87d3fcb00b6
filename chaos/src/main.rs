//! `cardea-chaos`: the long forms of what `chaos/tests` does in short.

use std::{io::Write as _, path::PathBuf, process::ExitCode, time::Instant};

use cardea_chaos::{
    cluster::Plan,
    dice::fresh_seed,
    kill::{self, KillOptions},
    process::find_binary,
};
use clap::{Parser, Subcommand};

/// Harms a cluster of real cardea processes and checks what it promised
#[derive(Debug, Parser)]
#[command(name = "cardea-chaos", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// kill -9 of nodes under load
    Kill(KillArgs),
    /// Simulated worlds, by seed: runs cardea-simulate, see its --help
    Simulate {
        /// What it is given
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct KillArgs {
    /// How many kills
    #[arg(long, default_value_t = 100)]
    kills: usize,
    /// The seed of every choice; by default a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// People at once
    #[arg(long, default_value_t = 8)]
    people: usize,
    /// Registers at once, each with three clients
    #[arg(long, default_value_t = 3)]
    registers: usize,
    /// Of a hundred kills, how many hit all nodes at once
    #[arg(long, default_value_t = 8)]
    all_percent: usize,
    /// Let clients read eventually; such a run must fail
    #[arg(long)]
    eventual: bool,
    /// The cardea binary; by default CARDEA_BINARY, or the one beside this
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let args = match Cli::parse().command {
        Command::Kill(args) => args,
        Command::Simulate { arguments } => return simulate(&arguments),
    };
    let binary = args.binary.map_or_else(find_binary, |path| Ok(path.canonicalize()?))?;
    let options = KillOptions {
        plan: Plan::new(&binary, 3),
        kills: args.kills,
        seed: args.seed.unwrap_or_else(fresh_seed),
        people: args.people,
        registers: args.registers,
        all_percent: args.all_percent,
        consistency: args.eventual.then_some("eventual"),
        say,
    };
    let began = Instant::now();
    let report = kill::run(&options).await?;
    say(&format!("{report}\n  {} s", began.elapsed().as_secs()));
    Ok(match report.findings.expect_good() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("FAIL (seed {}): {error:#}", options.seed));
            ExitCode::FAILURE
        }
    })
}

/// The simulation is a program of its own, beside this one: it replaces chance
/// and clock of its whole process.
fn simulate(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe()?.with_file_name("cardea-simulate");
    let status = std::process::Command::new(program).args(arguments).status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Standard output may be closed; the exit code still tells.
fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
}
