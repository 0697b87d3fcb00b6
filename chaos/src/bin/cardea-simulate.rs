//! `cardea-simulate`: lives through simulated worlds, one a process.
//!
//! Hash maps, openraft's election timers and tokio's fairness draw from the
//! operating system's chance. Before anything else this program puts a seeded
//! source in its place (the interposed `getrandom` of `mad-turmoil`), and then
//! simulates on a thread of its own, whose hash maps are keyed after that. The
//! same library stops the C library's clock, which simulated code does not read;
//! so nothing that measures real time may be linked into this program.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use cardea_chaos::simulation;
use cardea_storage::planted::Bug;
use clap::Parser;
use rand::{SeedableRng as _, rngs::StdRng};

/// Real time in which a world's time must move.
const STUCK_MAX: Duration = Duration::from_secs(60);

/// Lives through simulated worlds and says what was broken in them
#[derive(Debug, Parser)]
#[command(name = "cardea-simulate", version)]
struct Cli {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other; more than one run in processes of their own
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// How many processes at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// For how long harm comes, in milliseconds of the world
    #[arg(long, default_value_t = 20_000)]
    steps: u64,
    /// Where to write what happens, line by line
    #[arg(long)]
    trace: Option<PathBuf>,
    /// A bug to be planted; only in a build with the feature `planted`
    #[arg(long)]
    bug: Option<String>,
    /// Look for every planted bug, with so many seeds each at most
    #[arg(long)]
    hunt: bool,
    /// Say what nodes log, to standard error
    #[arg(long)]
    log: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if cli.hunt {
        return hunt(&cli);
    }
    if cli.seeds > 1 {
        return many(&cli);
    }
    if let Some(bug) = &cli.bug {
        plant(bug)?;
    }
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(cli.seed));
    let simulated = std::thread::Builder::new()
        .name("world".to_owned())
        .stack_size(64 << 20)
        .spawn(move || one(&cli));
    simulated?.join().map_err(|_| anyhow::anyhow!("the simulation itself panicked"))?
}

fn one(cli: &Cli) -> anyhow::Result<ExitCode> {
    simulation::watch_over(STUCK_MAX, say);
    if let Some(filter) = &cli.log {
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_writer(std::io::stderr)
            .init();
    }
    let copy: Option<Box<dyn std::io::Write>> = match &cli.trace {
        Some(path) => Some(Box::new(BufWriter::new(std::fs::File::create(path)?))),
        None => None,
    };
    let report = simulation::run(cli.seed, cli.steps, copy);
    say(&report.to_string());
    Ok(match report.violation {
        None => ExitCode::SUCCESS,
        Some(_) => {
            say(&format!("again: cardea-simulate --seed {} --steps {}", cli.seed, cli.steps));
            ExitCode::FAILURE
        }
    })
}

fn plant(name: &str) -> anyhow::Result<()> {
    let bug = Bug::named(name).with_context(|| format!("there is no bug named {name}"))?;
    #[cfg(feature = "planted")]
    cardea_storage::planted::plant(bug);
    #[cfg(not(feature = "planted"))]
    anyhow::bail!("{bug:?} needs a build with --features planted");
    #[cfg(feature = "planted")]
    Ok(())
}

/// Plants one bug after the other and looks for it.
fn hunt(cli: &Cli) -> anyhow::Result<ExitCode> {
    let bugs = Bug::ALL.into_iter().map(|bug| format!("{bug:?}"));
    let mut missed = 0;
    for bug in bugs.filter(|bug| cli.bug.as_ref().is_none_or(|named| named == bug)) {
        let found = first_bad(cli, &bug)?;
        match found {
            Some((seed, what)) => say(&format!("found  {bug} by seed {seed}: {what}")),
            None => {
                missed += 1;
                say(&format!("missed {bug} in {} seeds", cli.seeds));
            }
        }
    }
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn first_bad(cli: &Cli, bug: &str) -> anyhow::Result<Option<(u64, String)>> {
    for seed in cli.seed..cli.seed + cli.seeds {
        let done = world(cli, seed).args(["--bug", bug]).stderr(Stdio::null()).output()?;
        if !done.status.success() {
            let said = String::from_utf8_lossy(&done.stdout);
            let what = said.lines().find_map(|line| line.split_once("BROKEN: "));
            let what = what.map_or("the process died", |(_, what)| what);
            return Ok(Some((seed, what.chars().take(300).collect())));
        }
    }
    Ok(None)
}

/// The process of a seed.
fn world(cli: &Cli, seed: u64) -> Command {
    // A program that runs always has a path here.
    let program = std::env::current_exe().unwrap_or_else(|_| "cardea-simulate".into());
    let mut command = Command::new(program);
    command.args(["--seed", &seed.to_string(), "--steps", &cli.steps.to_string()]);
    command
}

/// Runs each seed in a process of its own.
fn many(cli: &Cli) -> anyhow::Result<ExitCode> {
    let mut running: Vec<Child> = Vec::new();
    let (mut good, mut bad) = (0_u64, 0_u64);
    for seed in cli.seed..cli.seed + cli.seeds {
        if running.len() >= cli.jobs.max(1) {
            settle(running.remove(0), &mut good, &mut bad)?;
        }
        let mut command = world(cli, seed);
        if let Some(bug) = &cli.bug {
            command.args(["--bug", bug]);
        }
        running.push(command.stdout(Stdio::piped()).spawn()?);
    }
    for child in running {
        settle(child, &mut good, &mut bad)?;
    }
    say(&format!("{good} seeds good, {bad} broken"));
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn settle(child: Child, good: &mut u64, bad: &mut u64) -> anyhow::Result<()> {
    let done = child.wait_with_output()?;
    if done.status.success() {
        *good += 1;
    } else {
        *bad += 1;
        say(String::from_utf8_lossy(&done.stdout).trim_end());
    }
    Ok(())
}

/// Standard output may be closed; the exit code still tells.
fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
}
