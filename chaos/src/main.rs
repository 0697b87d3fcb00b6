//! `cardea-chaos`: the long forms of what `chaos/tests` does in short.

use std::{
    io::Write as _,
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_chaos::{
    adversity,
    campaign::{self, Campaign},
    cluster::Plan,
    dice::fresh_seed,
    disk, isolation,
    kill::{self, KillOptions},
    lab::{Lab, LabPlan},
    nemesis::Nemesis,
    process::find_binary,
    regions,
    results::{Circumstances, Machine, Results},
    row::ROWS,
    scoreboard::Bench,
    wan::{self, profile::Profile},
    workload::crowd::Size,
};
use clap::{Parser, Subcommand};
use tokio::io::{AsyncBufReadExt as _, BufReader};

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
    /// How long what people do takes, by where they and the leaders are, beside the least possible
    Regions(RegionsArgs),
    /// One load through seven phases: backups, slow disks, partitions, restarts, a zone and a region lost
    Adversity(AdversityArgs),
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
    /// A file that what the rows said is written to; rows that were not run stay as they were
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// A cardea binary that knows an older cluster version, for the row that upgrades it
    #[arg(long, value_name = "FILE", env = "CARDEA_OLDER_BINARY")]
    older: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RegionsArgs {
    /// How often each cheap operation is done at each place; costly ones a quarter as often
    #[arg(long, default_value_t = 60)]
    samples: usize,
    /// Where regions.md and regions.svg are written
    #[arg(long, default_value = "chaos/results", value_name = "DIR")]
    out: PathBuf,
    /// The seed of every choice; by default a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The cardea binary; by default CARDEA_BINARY, or the one beside this
    #[arg(long)]
    binary: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct AdversityArgs {
    /// How long each phase lasts
    #[arg(long, default_value_t = 60)]
    seconds_per_phase: u64,
    /// Where adversity.md and adversity.svg are written
    #[arg(long, default_value = "chaos/results", value_name = "DIR")]
    out: PathBuf,
    /// The seed of every choice; by default a new one, which is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The cardea binary; by default CARDEA_BINARY, or the one beside this
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// What a row may take, building of its cluster included.
const ROW_MAX: Duration = Duration::from_secs(900);

fn main() -> anyhow::Result<ExitCode> {
    let command = Cli::parse().command;
    let needs_isolation = matches!(
        command,
        Command::Harm(_)
            | Command::Regions(_)
            | Command::Adversity(_)
            | Command::Row(_)
            | Command::Check { .. }
    );
    if needs_isolation && let Some(ended) = isolation::enter()? {
        return Ok(ended);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Kill(args) => kill_many(args).await,
            Command::Harm(args) => harm(args).await,
            Command::Scoreboard(args) => scoreboard(&args).await,
            Command::Regions(args) => survey(args).await,
            Command::Adversity(args) => adverse(args).await,
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

async fn survey(args: RegionsArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.samples > 0, "--samples is at least 1");
    let seed = args.seed.unwrap_or_else(fresh_seed);
    tell(&format!("seed {seed}"));
    let binary = binary_or_found(args.binary)?;
    let how = Circumstances::now(100);
    let machine = Machine::here(&std::env::temp_dir());
    let plan = LabPlan::new(&binary, Profile::Three, 3, seed);
    let survey = regions::survey(plan, args.samples, tell).await?;
    let text = survey.markdown(&how.told(&machine));
    std::fs::create_dir_all(&args.out)?;
    std::fs::write(args.out.join("regions.md"), &text)?;
    std::fs::write(args.out.join("regions.svg"), survey.picture().to_string())?;
    say(&text);
    Ok(ExitCode::SUCCESS)
}

async fn adverse(args: AdversityArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.seconds_per_phase >= 10, "--seconds-per-phase is at least 10");
    let seed = args.seed.unwrap_or_else(fresh_seed);
    tell(&format!("seed {seed}"));
    let binary = binary_or_found(args.binary)?;
    let how = Circumstances::now(100);
    let machine = Machine::here(&std::env::temp_dir());
    let length = Duration::from_secs(args.seconds_per_phase);
    let run = adversity::run(adversity::plan(&binary, seed), length, tell).await?;
    let text = run.markdown(&how.told(&machine));
    std::fs::create_dir_all(&args.out)?;
    std::fs::write(args.out.join("adversity.md"), &text)?;
    std::fs::write(args.out.join("adversity.svg"), run.picture().to_string())?;
    say(&text);
    Ok(match run.findings.expect_kept() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
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
        let mut how = Circumstances::now(args.percent);
        let began = Instant::now();
        let lines = row_lines(row.name, command).await?;
        failed += usize::from(lines.iter().any(|line| line.contains(" FAIL")));
        if let Some(file) = &args.write {
            how.seconds = began.elapsed().as_secs();
            let mut results = Results::read(file)?;
            results.note(row.name, &how, &lines);
            std::fs::write(file, results.render(&Machine::here(&std::env::temp_dir())))?;
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs a row and says its lines as they come; a row that does not end well has a line
/// that says so.
async fn row_lines(
    name: &str,
    mut command: tokio::process::Command,
) -> anyhow::Result<Vec<String>> {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let stdout = child.stdout.take().context("the row has no output")?;
    let mut lines = Vec::new();
    let run = async {
        let mut said = BufReader::new(stdout).lines();
        while let Some(line) = said.next_line().await? {
            say(&line);
            lines.push(line);
        }
        anyhow::Ok(child.wait().await?)
    };
    let trouble = match tokio::time::timeout(ROW_MAX, run).await {
        Ok(Ok(status)) if status.success() => None,
        Ok(Ok(status)) if status.code() == Some(i32::from(ROW_FAILED)) => None,
        Ok(Ok(status)) => Some(format!("{status}")),
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(format!("not ended after {ROW_MAX:?}")),
    };
    if let Some(trouble) = trouble {
        child.kill().await.ok();
        let line = format!("{name}.run 0 - =1 FAIL ({trouble})");
        say(&line);
        lines.push(line);
    }
    Ok(lines)
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
