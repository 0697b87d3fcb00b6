//! `cardea-chaos`: the long forms of what `chaos/tests` does in short.

use std::{
    io::Write as _,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_chaos::{
    campaign::{self, Campaign},
    cluster::Plan,
    dice::fresh_seed,
    disk, isolation,
    kill::{self, KillOptions},
    lab::{Lab, LabPlan},
    nemesis::Nemesis,
    process::find_binary,
    row::ROWS,
    scoreboard::Bench,
    wan::{self, profile::Profile},
    workload::crowd::Size,
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
    /// Strikes against a cluster in a wide network, under load
    Harm(HarmArgs),
    /// The scoreboard, or some rows of it: `name value unit bar PASS|FAIL`
    Scoreboard(ScoreboardArgs),
    /// One row of the scoreboard
    #[command(hide = true)]
    Row(ScoreboardArgs),
    /// Whether the simulated network and disks are what they say they are
    Check {
        /// How far regions are apart: lan, three or five
        #[arg(long, default_value = "three")]
        profile: Profile,
    },
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

#[derive(Debug, clap::Args)]
struct HarmArgs {
    /// What is done, again and again: kill-leader, flap, power-cut, clock-jump=500, ...
    #[arg(long, value_delimiter = ',', default_value = "kill-leader")]
    nemesis: Vec<String>,
    /// How many strikes
    #[arg(long, default_value_t = 10)]
    strikes: usize,
    /// How long each lasts, in milliseconds
    #[arg(long, default_value_t = 2000)]
    hold: u64,
    /// How far regions are apart: lan, three or five
    #[arg(long, default_value = "lan")]
    profile: Profile,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// People at each place
    #[arg(long, default_value_t = 2)]
    people: usize,
    /// Registers
    #[arg(long, default_value_t = 3)]
    registers: usize,
    /// A bug to be planted, in a binary that was built with --features planted
    #[arg(long)]
    planted: Option<String>,
    /// Settings of every node, such as raft.heartbeat="200ms"
    #[arg(long)]
    set: Vec<String>,
    /// The seed of every choice; by default a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The cardea binary; by default CARDEA_BINARY, or the one beside this
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct ScoreboardArgs {
    /// Rows by name, such as R6; all of them by default
    rows: Vec<String>,
    /// Of a hundred, how much of each row's full length is run
    #[arg(long, default_value_t = 100)]
    percent: usize,
    /// The seed of every choice; by default a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The cardea binary; by default CARDEA_BINARY, or the one beside this
    #[arg(long)]
    binary: Option<PathBuf>,
    /// A cardea binary that was built with --features planted, for the controls
    #[arg(long, env = "CARDEA_PLANTED_BINARY")]
    planted: Option<PathBuf>,
    /// A cardea binary of another version, for rows that mix two
    #[arg(long, env = "CARDEA_OLDER_BINARY")]
    older: Option<PathBuf>,
}

/// What a row may take, building of its cluster included.
const ROW_MAX: Duration = Duration::from_secs(900);

fn main() -> anyhow::Result<ExitCode> {
    let command = Cli::parse().command;
    let needs_isolation =
        matches!(command, Command::Harm(_) | Command::Row(_) | Command::Check { .. });
    if needs_isolation && let Some(ended) = isolation::enter()? {
        return Ok(ended);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Kill(args) => kill_many(args).await,
            Command::Harm(args) => harm(args).await,
            Command::Scoreboard(args) => scoreboard(&args).await,
            Command::Row(args) => row(args).await,
            Command::Check { profile } => check(profile).await,
            Command::Simulate { arguments } => simulate(&arguments),
        }
    })
}

fn binary_or_found(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    named.map_or_else(find_binary, |path| Ok(path.canonicalize()?))
}

async fn harm(args: HarmArgs) -> anyhow::Result<ExitCode> {
    let named = |name: &String| {
        Nemesis::named(name).with_context(|| format!("there is no nemesis named {name}"))
    };
    let nemeses: Vec<Nemesis> = args.nemesis.iter().map(named).collect::<anyhow::Result<_>>()?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    say(&format!("seed {seed}"));
    let binary = binary_or_found(args.binary)?;
    let mut plan = LabPlan::new(&binary, args.profile, args.nodes, seed);
    plan.planted = args.planted;
    plan.clocks = nemeses.iter().any(|nemesis| nemesis.needs_clocks());
    for setting in &args.set {
        let (table, line) = setting.split_once('.').context("--set takes table.key=value")?;
        let table: &'static str = table.to_owned().leak();
        plan.plan = plan.plan.with(table, line);
    }
    if nemeses.iter().any(|nemesis| nemesis.needs_disks()) {
        plan.disk_mib = Some(320);
        plan.plan = plan.plan.with("disk", "reserve = \"64MiB\"");
    }
    let campaign = Campaign {
        nemeses: nemeses.clone(),
        strikes: args.strikes,
        hold: Duration::from_millis(args.hold),
        length_max: Duration::MAX,
        size: Size { people: args.people, registers: args.registers, contests: true },
        say,
    };
    let mut lab = Lab::start(plan).await?;
    let report = campaign::run(&mut lab, &campaign).await?;
    say(&format!("{report}\n  {} s", report.length.as_secs()));
    Ok(match report.expect_good(&nemeses, 1) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            lab.cluster.keep();
            say(&lab.cluster.tails(25));
            say(&format!("FAIL (seed {seed}): {error:#}"));
            ExitCode::FAILURE
        }
    })
}

/// Runs each row in a process of its own, in namespaces of its own.
async fn scoreboard(args: &ScoreboardArgs) -> anyhow::Result<ExitCode> {
    let wanted = |name: &str| args.rows.is_empty() || args.rows.iter().any(|row| row == name);
    for row in &args.rows {
        anyhow::ensure!(ROWS.iter().any(|known| known.name == row), "there is no row {row}");
    }
    let mut failed = 0;
    for row in ROWS.iter().filter(|row| wanted(row.name)) {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command.args(["row", row.name, "--percent", &args.percent.to_string()]);
        for (flag, value) in [
            ("--binary", args.binary.as_ref()),
            ("--planted", args.planted.as_ref()),
            ("--older", args.older.as_ref()),
        ] {
            if let Some(value) = value {
                command.arg(flag).arg(value);
            }
        }
        if let Some(seed) = args.seed {
            command.args(["--seed", &seed.to_string()]);
        }
        let mut child = command.kill_on_drop(true).spawn()?;
        let ended = tokio::time::timeout(ROW_MAX, child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => {}
            Ok(Ok(status)) if status.code() == Some(i32::from(ROW_FAILED)) => failed += 1,
            Ok(other) => {
                failed += 1;
                say(&format!("{}.run 0 - =1 FAIL ({other:?})", row.name));
            }
            Err(_) => {
                failed += 1;
                child.kill().await?;
                say(&format!("{}.run 0 - =1 FAIL (not ended after {ROW_MAX:?})", row.name));
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How a row ends of which a line failed.
const ROW_FAILED: u8 = 3;

async fn row(args: ScoreboardArgs) -> anyhow::Result<ExitCode> {
    let name = args.rows.first().context("a row by name")?;
    let row = ROWS.iter().find(|row| row.name == name).context("there is no such row")?;
    let seed = args.seed.unwrap_or_else(fresh_seed);
    let bench = Bench {
        binary: binary_or_found(args.binary)?,
        planted: args.planted,
        older: args.older,
        seed,
        percent: args.percent,
        say: tell,
    };
    tell(&format!("{}: {}; seed {seed}", row.name, row.title));
    let began = Instant::now();
    let lines = (row.run)(bench).await?;
    tell(&format!("{}: {} s", row.name, began.elapsed().as_secs()));
    let mut good = true;
    for line in lines {
        say(&line.to_string());
        good &= line.is_good();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(ROW_FAILED) })
}

async fn check(profile: Profile) -> anyhow::Result<ExitCode> {
    let mut good = true;
    for line in wan::check::check(profile).await? {
        let verdict = if line.good { "good" } else { "BAD" };
        say(&format!("{}: {} {verdict}", line.what, line.seen));
        good &= line.good;
    }
    if rustix::process::geteuid().is_root() {
        let scratch = cardea_chaos::scratch::Scratch::make()?;
        let lost = disk::expect_loss(scratch.path());
        let verdict = lost.as_ref().err().map_or("good".to_owned(), |e| format!("BAD: {e:#}"));
        say(&format!("a power cut takes what was not synced, and nothing else: {verdict}"));
        good &= lost.is_ok();
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// To standard error: what a row tells while its lines are awaited.
fn tell(text: &str) {
    writeln!(std::io::stderr().lock(), "{text}").ok();
}

async fn kill_many(args: KillArgs) -> anyhow::Result<ExitCode> {
    let binary = binary_or_found(args.binary)?;
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
