//! `kill -9` of nodes under load: random ones, leaders, now and then all at once;
//! each is started again. Measures how long no write was acknowledged after the
//! death of a leader.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tokio::runtime::Handle;

use crate::{
    cluster::{Cluster, Plan},
    dice::Dice,
    history::{Moment, Violation},
    judgement::{Findings, judge},
    workload::{
        Run,
        crowd::{Crowd, Size, Stand},
        pulse,
    },
};

/// How long after a kill a shard may be without a leader before the run fails.
const LEADERLESS_MAX: Duration = Duration::from_secs(60);
/// How long a node may take to be back.
const RESTART_MAX: Duration = Duration::from_secs(120);

/// How long clients go on after the last kill.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How a run goes.
#[derive(Debug, Clone)]
pub struct KillOptions {
    /// The cluster.
    pub plan: Plan,
    /// How many kills.
    pub kills: usize,
    /// The seed of every choice.
    pub seed: u64,
    /// People at once.
    pub people: usize,
    /// Registers at once.
    pub registers: usize,
    /// Of a hundred kills, how many hit all nodes at once.
    pub all_percent: usize,
    /// The consistency that clients ask for; none asks for the default, strong.
    pub consistency: Option<&'static str>,
    /// Told what happens, line by line.
    pub say: fn(&str),
}

/// What was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// A node that led this group, and perhaps others.
    Leader(u64),
    /// Any node.
    Any,
    /// All nodes.
    All,
}

/// A kill and what followed.
#[derive(Debug, Clone)]
pub struct Kill {
    /// What was killed.
    pub victim: Victim,
    /// Home groups that the victim led, each with the longest time without an
    /// acknowledged write until the node was started again.
    pub gaps: BTreeMap<u64, Duration>,
    /// From the start of the process until it was ready.
    pub restart: Duration,
}

/// What a run showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The kills.
    pub kills: Vec<Kill>,
    /// What the checkers found.
    pub findings: Findings,
}

impl Report {
    /// Gaps after the death of a leader while a majority lived, sorted.
    pub fn leader_gaps(&self) -> Vec<Duration> {
        let single = self.kills.iter().filter(|kill| kill.victim != Victim::All);
        let mut gaps: Vec<Duration> = single.flat_map(|kill| kill.gaps.values().copied()).collect();
        gaps.sort_unstable();
        gaps
    }

    /// The middle and the longest of [`Self::leader_gaps`].
    pub fn leader_gap(&self) -> Option<(Duration, Duration)> {
        let gaps = self.leader_gaps();
        Some((*gaps.get(gaps.len() / 2)?, *gaps.last()?))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kills.iter().filter(|kill| kill.victim == Victim::All).count();
        writeln!(f, "{} kills, {all} of them of all nodes at once", self.kills.len())?;
        if let Some((median, worst)) = self.leader_gap() {
            let gaps = self.leader_gaps().len();
            writeln!(
                f,
                "  without an acknowledged write after a leader's death: median {} ms, worst {} ms \
                 ({gaps} shards)",
                median.as_millis(),
                worst.as_millis()
            )?;
        }
        let restarts: Vec<u128> = self.kills.iter().map(|kill| kill.restart.as_millis()).collect();
        if let Some(worst) = restarts.iter().max() {
            let mean = restarts.iter().sum::<u128>() / restarts.len() as u128;
            writeln!(f, "  restart until ready: mean {mean} ms, worst {worst} ms")?;
        }
        write!(f, "{}", self.findings)
    }
}

/// Starts a cluster and clients, kills, restarts, and judges what the clients saw.
pub async fn run(options: &KillOptions) -> anyhow::Result<Report> {
    let say = options.say;
    say(&format!("seed {}", options.seed));
    let mut cluster = Cluster::start(&options.plan).await?;
    let outcome = run_on(&mut cluster, options).await;
    let report = match outcome {
        Ok(report) => report,
        Err(error) => {
            cluster.keep();
            return Err(error.context(format!("seed {}{}", options.seed, cluster.tails(25))));
        }
    };
    if !report.findings.violations.is_empty() && options.consistency.is_none() {
        cluster.keep();
        say(&cluster.tails(25));
    }
    Ok(report)
}

async fn run_on(cluster: &mut Cluster, options: &KillOptions) -> anyhow::Result<Report> {
    let mut dice = Dice::new(options.seed);
    let mut nodes = cluster.endpoints();
    nodes.iter_mut().for_each(|node| node.consistency = options.consistency.map(Into::into));
    let run = Run::new(nodes, options.seed);
    let homes = pulse::find_homes(&run, &cluster.status(0).await?).await?;
    let stands = [Stand { handle: Handle::current(), run: Arc::clone(&run) }];
    let size = Size { people: options.people, registers: options.registers, contests: true };
    let crowd = Crowd::gather(&stands, &homes, size, &mut dice);
    let pulses = Arc::clone(&crowd.pulses);

    let mut kills = Vec::new();
    let mut outcome = Ok(());
    for number in 0..options.kills {
        match kill_one(cluster, &run, &pulses, &mut dice, options.all_percent, number).await {
            Ok(kill) => {
                let gaps: Vec<String> = kill
                    .gaps
                    .iter()
                    .map(|(group, gap)| format!("group {group} {} ms", gap.as_millis()))
                    .collect();
                (options.say)(&format!(
                    "kill {:>3} of {}: {:?}; {}; back after {} ms",
                    number + 1,
                    options.kills,
                    kill.victim,
                    if gaps.is_empty() { "led nothing".to_owned() } else { gaps.join(", ") },
                    kill.restart.as_millis()
                ));
                kills.push(kill);
            }
            Err(error) => {
                outcome = Err(error.context(format!("kill {}", number + 1)));
                break;
            }
        }
    }
    tokio::time::sleep(AFTERWARDS).await;
    run.stop();
    crowd.disperse().await?;
    // A kill that went wrong may have left stories that say why, and dead nodes.
    cluster.launch_all()?;
    let settled = cluster.settle(RESTART_MAX).await;
    let mut findings = judge(&run).await?;
    for error in [outcome.err(), settled.err()].into_iter().flatten() {
        findings.violations.insert(0, Violation(format!("{error:#}")));
    }
    Ok(Report { kills, findings })
}

async fn kill_one(
    cluster: &mut Cluster,
    run: &Run,
    pulses: &pulse::Pulses,
    dice: &mut Dice,
    all_percent: usize,
    number: usize,
) -> anyhow::Result<Kill> {
    cluster.settle(RESTART_MAX).await.context("before the kill")?;
    // Load at its full before the blow; never in step with anything.
    tokio::time::sleep(dice.pause_ms(300, 900)).await;
    let leaders = cluster.leaders(dice.below(cluster.nodes.len())).await?;
    let beating = pulses.groups();
    let (victim, positions) = if dice.percent(all_percent) {
        (Victim::All, (0..cluster.nodes.len()).collect())
    } else if number.is_multiple_of(2) {
        let group = *dice.pick(&beating).context("no group has a pulse")?;
        let leader =
            *leaders.get(&group).with_context(|| format!("group {group} has no leader"))?;
        (Victim::Leader(group), vec![leader])
    } else {
        (Victim::Any, vec![dice.below(cluster.nodes.len())])
    };
    let killed = run.now();
    for position in &positions {
        cluster.kill(*position)?;
    }
    let led: Vec<u64> = beating
        .into_iter()
        .filter(|group| leaders.get(group).is_some_and(|leader| positions.contains(leader)))
        .collect();
    if victim != Victim::All {
        await_writes(pulses, &led, killed).await?;
        tokio::time::sleep(dice.pause_ms(200, 1500)).await;
    }
    let restarted = run.now();
    let started = Instant::now();
    for position in &positions {
        cluster.launch(*position)?;
    }
    while !is_back(cluster, &positions).await {
        cluster.expect_alive()?;
        anyhow::ensure!(started.elapsed() < RESTART_MAX, "not back after {RESTART_MAX:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let restart = started.elapsed();
    let groups = pulses.groups();
    await_writes(pulses, &groups, restarted).await?;
    let until = if victim == Victim::All { run.now() } else { restarted };
    let gaps =
        led.iter().filter_map(|group| Some((*group, pulses.gap(*group, killed, until)?))).collect();
    Ok(Kill { victim, gaps, restart })
}

async fn is_back(cluster: &Cluster, positions: &[usize]) -> bool {
    for position in positions {
        if !cluster.is_ready(*position).await {
            return false;
        }
    }
    true
}

/// Waits until each group acknowledged a write that ended well after `since`.
async fn await_writes(pulses: &pulse::Pulses, groups: &[u64], since: Moment) -> anyhow::Result<()> {
    let began = Instant::now();
    // What was under way when the node died may be acknowledged just after.
    let since = since.after(Duration::from_millis(20));
    for group in groups {
        while pulses.last(*group).is_none_or(|last| last <= since) {
            anyhow::ensure!(
                began.elapsed() < LEADERLESS_MAX,
                "no write to group {group} was acknowledged for {LEADERLESS_MAX:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}
