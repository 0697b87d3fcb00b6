//! `cardea-simulate`: lives through simulated worlds, one a process.
//!
//! Hash maps, openraft's election timers and tokio's fairness draw from the
//! operating system's chance. Before anything else this program puts a seeded
//! source in its place (the interposed `getrandom` of `mad-turmoil`), and then
//! simulates on a thread of its own, whose hash maps are keyed after that. The
//! same library stops the C library's clock, which simulated code does not read;
//! so nothing that measures real time may be linked into this program, and what
//! has to (the hunt for planted bugs) asks the kernel itself.

use std::{
    collections::VecDeque,
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use cardea_chaos::simulation::{self, planted::is_meant};
use cardea_storage::planted::Bug;
use clap::{Args, Parser, Subcommand};
use rand::{SeedableRng as _, rngs::StdRng};

/// Real time in which a world's time must move.
const STUCK_MAX: Duration = Duration::from_secs(120);
/// What a process whose world was not decided exits with.
const UNDECIDED: u8 = 2;
/// For how many seconds a bug is looked for in a round, at least.
const SHARE_MIN: f64 = 10.0;

/// Lives through simulated worlds and says what was broken in them
#[derive(Debug, Parser)]
#[command(name = "cardea-simulate", version)]
struct Cli {
    #[command(flatten)]
    worlds: Worlds,
    /// A bug to be planted; only in a build with the feature `planted`
    #[arg(long)]
    bug: Option<String>,
    /// Where to write what happens, line by line
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Say what nodes log, to standard error
    #[arg(long)]
    log: Option<String>,
    #[command(subcommand)]
    hunt: Option<Hunt>,
}

/// Which worlds
#[derive(Debug, Clone, Args)]
struct Worlds {
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
}

#[derive(Debug, Subcommand)]
enum Hunt {
    /// Plants one bug after the other and looks for it; a line a bug
    Planted {
        #[command(flatten)]
        worlds: Worlds,
        /// Only these
        #[arg(long)]
        bug: Vec<String>,
        /// Minutes after which a bug is given up
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Minutes for all of them: what one does not use is the others'
        #[arg(long)]
        in_all: Option<f64>,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    if let Some(Hunt::Planted { worlds, bug, minutes, in_all }) = &cli.hunt {
        return hunt(worlds, bug, *minutes, *in_all);
    }
    if cli.worlds.seeds > 1 {
        return many(&cli);
    }
    if let Some(bug) = &cli.bug {
        plant(bug)?;
    }
    if let Some(filter) = &cli.log {
        // Here, not on the world's thread, whose hash maps are numbered.
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .without_time()
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    mad_turmoil::rand::set_rng(StdRng::seed_from_u64(cli.worlds.seed));
    let simulated = std::thread::Builder::new()
        .name("world".to_owned())
        .stack_size(64 << 20)
        .spawn(move || one(&cli));
    simulated?.join().map_err(|_| anyhow::anyhow!("the simulation itself panicked"))?
}

fn one(cli: &Cli) -> anyhow::Result<ExitCode> {
    simulation::watch_over(STUCK_MAX, say);
    let copy: Option<Box<dyn std::io::Write>> = match &cli.trace {
        Some(path) => Some(Box::new(BufWriter::new(std::fs::File::create(path)?))),
        None => None,
    };
    let Worlds { seed, steps, .. } = cli.worlds;
    let report = simulation::run(seed, steps, copy);
    say(&report.to_string());
    if report.violation.is_none() && report.undecided.is_none() {
        return Ok(ExitCode::SUCCESS);
    }
    let bug = cli.bug.as_ref().map(|bug| format!(" --bug {bug}")).unwrap_or_default();
    say(&format!("again: cardea-simulate --seed {seed} --steps {steps}{bug}"));
    Ok(if report.violation.is_some() { ExitCode::FAILURE } else { UNDECIDED.into() })
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

/// A world that runs in a process of its own.
struct Running {
    seed: u64,
    child: Child,
}

/// What became of it.
struct Lived {
    seed: u64,
    fate: Fate,
    said: String,
}

enum Fate {
    Good,
    Broken,
    Undecided,
}

impl Running {
    fn start(worlds: &Worlds, seed: u64, bug: Option<&str>) -> anyhow::Result<Self> {
        // A program that runs always has a path here.
        let program = std::env::current_exe().unwrap_or_else(|_| "cardea-simulate".into());
        let mut command = Command::new(program);
        command.args(["--seed", &seed.to_string(), "--steps", &worlds.steps.to_string()]);
        if let Some(bug) = bug {
            command.args(["--bug", bug]).stderr(Stdio::null());
        }
        Ok(Self { seed, child: command.stdout(Stdio::piped()).spawn()? })
    }

    fn end(self) -> anyhow::Result<Lived> {
        let done = self.child.wait_with_output()?;
        let fate = match done.status.code() {
            Some(0) => Fate::Good,
            Some(code) if code == i32::from(UNDECIDED) => Fate::Undecided,
            _ => Fate::Broken,
        };
        let said = String::from_utf8_lossy(&done.stdout).trim_end().to_owned();
        Ok(Lived { seed: self.seed, fate, said })
    }
}

impl Lived {
    /// What was broken, in a few words.
    fn broken(&self) -> String {
        let told = self.said.lines().find_map(|line| line.split_once("BROKEN: "));
        told.map_or("the process died", |(_, what)| what).chars().take(200).collect()
    }
}

/// Lives through one seed after the other, `jobs` at a time, until told to stop.
fn each(
    worlds: &Worlds,
    bug: Option<&str>,
    mut took: impl FnMut(Lived) -> bool,
) -> anyhow::Result<()> {
    let mut running: VecDeque<Running> = VecDeque::new();
    let mut seeds = worlds.seed..worlds.seed.saturating_add(worlds.seeds);
    let mut goes_on = true;
    while goes_on {
        while running.len() < worlds.jobs.max(1)
            && let Some(seed) = seeds.next()
        {
            running.push_back(Running::start(worlds, seed, bug)?);
        }
        let Some(first) = running.pop_front() else { break };
        goes_on = took(first.end()?);
    }
    for mut left in running {
        left.child.kill().ok();
        left.child.wait().ok();
    }
    Ok(())
}

/// Runs each seed in a process of its own.
fn many(cli: &Cli) -> anyhow::Result<ExitCode> {
    let (mut good, mut broken, mut undecided) = (0_u64, 0_u64, 0_u64);
    each(&cli.worlds, cli.bug.as_deref(), |lived| {
        match lived.fate {
            Fate::Good => good += 1,
            Fate::Broken => broken += 1,
            Fate::Undecided => undecided += 1,
        }
        if !matches!(lived.fate, Fate::Good) {
            say(&format!("seed {} is not good:\n{}", lived.seed, lived.said));
        }
        true
    })?;
    say(&format!("{good} seeds good, {broken} broken, {undecided} undecided"));
    Ok(if broken + undecided == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A bug that is looked for.
struct Hunted {
    bug: Bug,
    name: String,
    seeds: u64,
    took: f64,
    /// What was broken first that is not meant to tell of this bug.
    otherwise: Option<(u64, String)>,
}

impl Hunted {
    /// Looks for so many seconds, where it left off; whether it was found, which it says.
    /// A world that is broken without the bug, too, tells nothing of it.
    fn look(&mut self, worlds: &Worlds, seconds: f64) -> anyhow::Result<bool> {
        let began = kernel_seconds();
        let worlds = Worlds { seed: worlds.seed.saturating_add(self.seeds), ..*worlds };
        let mut found = None;
        let mut failed = None;
        each(&worlds, Some(&self.name), |lived| {
            self.seeds += 1;
            if matches!(lived.fate, Fate::Broken) {
                let told = (lived.seed, lived.broken());
                match is_meant(self.bug, &told.1)
                    && is_good_without(&worlds, lived.seed, &mut failed)
                {
                    true => found = Some(told),
                    false => {
                        self.otherwise.get_or_insert(told);
                    }
                }
            }
            found.is_none() && failed.is_none() && kernel_seconds() - began < seconds
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.took += kernel_seconds() - began;
        if let Some((seed, what)) = &found {
            say(&format!("{} found {}: seed {seed}: {what}", self.named(), self.after()));
        }
        Ok(found.is_some())
    }

    fn named(&self) -> String {
        format!("{:<26}", self.name)
    }

    fn after(&self) -> String {
        format!("after {} seeds, {:.0} s", self.seeds, self.took)
    }
}

/// Whether the world of a seed is good without a bug.
fn is_good_without(worlds: &Worlds, seed: u64, failed: &mut Option<anyhow::Error>) -> bool {
    match Running::start(worlds, seed, None).and_then(Running::end) {
        Ok(lived) => matches!(lived.fate, Fate::Good),
        Err(error) => {
            failed.get_or_insert(error);
            false
        }
    }
}

/// Plants one bug after the other and looks for it, for a while each, and in further
/// rounds for those that were not found.
fn hunt(
    worlds: &Worlds,
    bugs: &[String],
    minutes: f64,
    in_all: Option<f64>,
) -> anyhow::Result<ExitCode> {
    for bug in bugs {
        Bug::named(bug).with_context(|| format!("there is no bug named {bug}"))?;
    }
    let worlds = Worlds { seeds: if worlds.seeds > 1 { worlds.seeds } else { 100_000 }, ..*worlds };
    let (most, in_all) = (minutes * 60.0, in_all.map_or(f64::INFINITY, |minutes| minutes * 60.0));
    let began = kernel_seconds();
    let mut missing: Vec<Hunted> = Bug::ALL
        .into_iter()
        .map(|bug| (bug, format!("{bug:?}")))
        .filter(|(_, name)| bugs.is_empty() || bugs.contains(name))
        .map(|(bug, name)| Hunted { bug, name, seeds: 0, took: 0.0, otherwise: None })
        .collect();
    loop {
        // Half of what is left is for the rounds to come.
        let left = in_all - (kernel_seconds() - began);
        let share = (left / (2 * missing.len().max(1)) as f64).max(SHARE_MIN);
        let (mut looked, mut round) = (false, std::mem::take(&mut missing));
        for mut hunted in round.drain(..) {
            let left = in_all - (kernel_seconds() - began);
            let seconds = share.min(most - hunted.took).min(left);
            if seconds <= 0.0 {
                missing.push(hunted);
                continue;
            }
            looked = true;
            if !hunted.look(&worlds, seconds)? {
                missing.push(hunted);
            }
        }
        if !looked {
            break;
        }
    }
    for hunted in &missing {
        let other = hunted.otherwise.as_ref();
        let other = other.map(|(seed, what)| format!("; seed {seed} fails otherwise: {what}"));
        say(&format!(
            "{} NOT FOUND {}{}",
            hunted.named(),
            hunted.after(),
            other.unwrap_or_default()
        ));
    }
    Ok(if missing.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Seconds since the machine started, from a file: the C library's clock stands
/// still in this program.
fn kernel_seconds() -> f64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    uptime.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// Standard output may be closed; the exit code still tells.
fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "{text}").ok();
}
