//! One load that never pauses, through seven phases: what CockroachDB's people call
//! performance under adversity. Five nodes over three regions, each with a disk of its
//! own; clients in every region write to every home shard through the nodes of their
//! region, people register, log in and leave, and permissions change.
//!
//! Clients of a node that is down stay with it and fail, as those of a region that is
//! gone do; so errors count what an application without a second address meets, and
//! throughput what is left.

pub mod report;

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::{
    dice::Dice,
    history::Moment,
    judgement::{Findings, judge},
    lab::{Lab, LabPlan},
    nemesis::{self, Nemesis},
    scoreboard::Bench,
    wan::profile::Profile,
    workload::{
        crowd::{Crowd, Size},
        permission::LANGUAGE,
        pulse::{self, Pulses},
    },
};

/// Those who work beside the pulses.
const SIZE: Size = Size { people: 1, registers: 1, contests: false };
/// A part of the time line.
const STEP: Duration = Duration::from_secs(2);
/// How long the load runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(5);
/// How long a partition lasts, and how long the network is whole after it.
const PARTED: Duration = Duration::from_secs(6);
const WHOLE: Duration = Duration::from_secs(3);

/// What is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing.
    Baseline,
    /// Backups are written, keys rotated, the permission language replaced, leaders sent home.
    Changes,
    /// A leader's disk makes sixty writes a second.
    SlowDisk,
    /// Leaders and others are parted from each other, wholly, in part and one way.
    Partitions,
    /// One node after the other is stopped and started.
    Restarts,
    /// A node of a region with two is dead.
    ZoneLoss,
    /// All nodes of a region are dead.
    RegionLoss,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 7] = [
        Self::Baseline,
        Self::Changes,
        Self::SlowDisk,
        Self::Partitions,
        Self::Restarts,
        Self::ZoneLoss,
        Self::RegionLoss,
    ];
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Baseline => "baseline",
            Phase::Changes => "backup and changes",
            Phase::SlowDisk => "slow disk",
            Phase::Partitions => "partitions",
            Phase::Restarts => "rolling restart",
            Phase::ZoneLoss => "zone loss",
            Phase::RegionLoss => "region loss",
        })
    }
}

/// What happened between two moments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// When it began, in seconds from the first phase.
    pub began_s: f64,
    /// How long it lasted.
    pub seconds: f64,
    /// Writes acknowledged a second.
    pub rate: f64,
    /// What 99 in 100 of them took at most.
    pub p99: Option<Duration>,
    /// Requests that were not acknowledged.
    pub errors: usize,
}

/// A phase that was gone through.
#[derive(Debug, Clone, PartialEq)]
pub struct Passed {
    /// Which.
    pub phase: Phase,
    /// What was done, in words.
    pub done: String,
    /// The whole of it.
    pub whole: Window,
    /// The longest time without an acknowledged write of a home shard.
    pub gap: Option<Duration>,
    /// How long the cluster took to be whole again after it.
    pub recovery: Duration,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Adversity {
    /// The phases.
    pub phases: Vec<Passed>,
    /// The time line.
    pub line: Vec<Window>,
    /// What the checkers found.
    pub findings: Findings,
}

impl Adversity {
    /// Of a phase's throughput, how much of a hundred of the baseline's it is.
    pub fn share(&self, phase: Phase) -> f64 {
        let rate = |wanted| {
            let mut phases = self.phases.iter();
            phases.find(|passed| passed.phase == wanted).map_or(0.0, |passed| passed.whole.rate)
        };
        100.0 * rate(phase) / f64::max(rate(Phase::Baseline), 1e-9)
    }
}

/// The cluster that it is done to.
pub fn plan(binary: &std::path::Path, seed: u64) -> LabPlan {
    let mut plan = LabPlan::new(binary, Profile::Three, 5, seed);
    plan.regions = vec![0, 1, 2, 0, 1];
    plan.disk_mib = Some(640);
    plan.plan = plan.plan.with("disk", "reserve = \"64MiB\"");
    plan
}

/// The run of the scoreboard.
pub async fn of_bench(bench: &Bench, length: Duration) -> anyhow::Result<Adversity> {
    run(plan(&bench.binary, bench.seed), length, bench.say).await
}

/// Goes through all phases, each of this length.
pub async fn run(plan: LabPlan, length: Duration, say: fn(&str)) -> anyhow::Result<Adversity> {
    let mut dice = Dice::new(plan.seed ^ 0x0ad5);
    let mut lab = Lab::start(plan).await?;
    let homes = pulse::find_homes(&lab.run, &lab.cluster.status(0).await?).await?;
    let crowd = Crowd::gather(&lab.stands, &homes, SIZE, &mut dice);
    let pulses = Arc::clone(&crowd.pulses);
    tokio::time::sleep(WARM_UP).await;
    let first = lab.run.now();
    let mut phases = Vec::new();
    for phase in Phase::ALL {
        let passed = go_through(&mut lab, &pulses, phase, length, first, &mut dice).await;
        let passed = passed.with_context(|| format!("during {phase}"))?;
        say(&report::sentence(&passed));
        phases.push(passed);
    }
    let last = lab.run.now();
    lab.run.stop();
    crowd.disperse().await?;
    lab.settle().await?;
    let findings = judge(&lab.run).await?;
    say(&findings.to_string());
    for violation in findings.violations.iter().take(20) {
        say(&format!("  broken: {violation}"));
    }
    if !findings.violations.is_empty() {
        lab.cluster.keep();
        say(&lab.cluster.tails(25));
    }
    let mut line = Vec::new();
    let mut at = first;
    while at.after(STEP) <= last {
        line.push(window(&pulses, first, at, at.after(STEP)));
        at = at.after(STEP);
    }
    Ok(Adversity { phases, line, findings })
}

fn window(pulses: &Pulses, first: Moment, from: Moment, to: Moment) -> Window {
    Window {
        began_s: first.until(from).as_secs_f64(),
        seconds: from.until(to).as_secs_f64(),
        rate: pulses.rate(from, to),
        p99: pulses.p99(from, to),
        errors: pulses.failures(from, to),
    }
}

async fn go_through(
    lab: &mut Lab,
    pulses: &Pulses,
    phase: Phase,
    length: Duration,
    first: Moment,
    dice: &mut Dice,
) -> anyhow::Result<Passed> {
    let began = lab.run.now();
    let until = Instant::now() + length;
    let done = endure(lab, phase, until, dice).await?;
    tokio::time::sleep(until.saturating_duration_since(Instant::now())).await;
    let ended = lab.run.now();
    // Whatever was done is taken back.
    let healing = Instant::now();
    lab.wan.heal();
    for disk in &lab.disks {
        disk.throttle(None)?;
    }
    lab.cluster.launch_all()?;
    lab.settle().await?;
    let recovery = healing.elapsed();
    // The last write before the phase's end may be long before it.
    let groups = pulses.groups();
    let gap = groups.iter().filter_map(|group| pulses.gap(*group, began, ended)).max();
    let whole = window(pulses, first, began, ended);
    Ok(Passed { phase, done, whole, gap, recovery })
}

/// Does what a phase is about, until it ends or a little longer.
async fn endure(
    lab: &mut Lab,
    phase: Phase,
    until: Instant,
    dice: &mut Dice,
) -> anyhow::Result<String> {
    match phase {
        Phase::Baseline => Ok("nothing".to_owned()),
        Phase::Changes => changes(lab, until).await,
        Phase::SlowDisk => {
            let leaders = lab.cluster.leaders(0).await?;
            let victim = most_leading(&leaders).context("nobody leads")?;
            lab.disks[victim].throttle(Some(60))?;
            Ok(format!("node {} makes 60 writes a second", victim + 1))
        }
        Phase::Partitions => partitions(lab, until, dice).await,
        Phase::Restarts => {
            let mut restarted = 0;
            while Instant::now() < until {
                let node = restarted % lab.cluster.nodes.len();
                lab.cluster.stop(node).await?;
                lab.cluster.launch(node)?;
                lab.settle().await?;
                restarted += 1;
            }
            ensure!(restarted > 0, "nothing was restarted");
            Ok(format!("{restarted} restarts"))
        }
        Phase::ZoneLoss => {
            lab.cluster.kill(0)?;
            Ok("node 1 of region 1 is dead, node 4 lives".to_owned())
        }
        Phase::RegionLoss => {
            let victims = lab.nodes_of(0);
            for victim in &victims {
                lab.cluster.kill(*victim)?;
            }
            Ok(format!("region 1 is dead, {} of {} nodes", victims.len(), lab.cluster.nodes.len()))
        }
    }
}

fn most_leading(leaders: &BTreeMap<u64, usize>) -> Option<usize> {
    let mut leads: BTreeMap<usize, usize> = BTreeMap::new();
    for node in leaders.values() {
        *leads.entry(*node).or_default() += 1;
    }
    leads.into_iter().max_by_key(|(_, count)| *count).map(|(node, _)| node)
}

/// Backups and changes of what the cluster is configured by, one after the other.
async fn changes(lab: &Lab, until: Instant) -> anyhow::Result<String> {
    let operator = lab.cluster.nodes[0].endpoint.patient(Duration::from_secs(60));
    let (mut backups, mut changed) = (0, 0);
    while Instant::now() < until {
        let folder = lab.cluster.directory().join(format!("backup-{backups}"));
        let archive = json!({"directory": folder.display().to_string(), "keep_sessions": true});
        let saved = operator.send("POST", "/cluster/backup", &archive).await;
        ensure!(saved.done().is_some(), "no backup: {saved:?}");
        backups += 1;
        let rotated = operator.send("POST", "/cluster/keys/token/rotate", &Value::Null).await;
        ensure!(rotated.done().is_some(), "no key was rotated: {rotated:?}");
        let text = format!("{LANGUAGE}\n// as changed for the time {changed}\n");
        let language = json!({"files": [{"name": "gates.ts", "text": text}], "force": true});
        let replaced = operator.send("PUT", "/admin/opl", &language).await;
        ensure!(replaced.done().is_some(), "the language was not replaced: {replaced:?}");
        changed += 2;
        let home = json!({"region": format!("region-{}", 1 + changed % 3)});
        let moved = operator.send("POST", "/cluster/shards/1/home", &home).await;
        ensure!(moved.done().is_some(), "no home: {moved:?}");
        changed += 1;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let anywhere = json!({"region": null});
    operator.send("POST", "/cluster/shards/1/home", &anywhere).await;
    ensure!(backups > 0, "nothing was backed up");
    Ok(format!("{backups} backups, {changed} changes"))
}

/// Leaders and others, parted for a while again and again.
async fn partitions(lab: &mut Lab, until: Instant, dice: &mut Dice) -> anyhow::Result<String> {
    let kinds = [
        Nemesis::IsolateLeader,
        Nemesis::PartLeader,
        Nemesis::IsolateFollower,
        Nemesis::DeafLeader,
    ];
    let (mut struck, mut hit) = (0, 0);
    for nemesis in kinds.into_iter().cycle() {
        if Instant::now() >= until {
            break;
        }
        let leaders = lab.cluster.leaders(0).await?;
        let leader = most_leading(&leaders).context("nobody leads")?;
        let strike = nemesis::begin(lab, nemesis, leader, leaders, dice).await?;
        nemesis::hold(lab, &strike, PARTED, dice).await;
        hit += usize::from(nemesis::relent(lab, &strike).await?.hit);
        struck += 1;
        tokio::time::sleep(WHOLE).await;
    }
    ensure!(hit > 0, "no partition hit");
    Ok(format!("{hit} of {struck} partitions hit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_baseline() {
        let passed = |phase, rate| Passed {
            phase,
            done: String::new(),
            whole: Window { began_s: 0.0, seconds: 60.0, rate, p99: None, errors: 0 },
            gap: None,
            recovery: Duration::ZERO,
        };
        let phases = vec![passed(Phase::Baseline, 200.0), passed(Phase::SlowDisk, 150.0)];
        let run = Adversity { phases, line: Vec::new(), findings: Findings::default() };
        assert!((run.share(Phase::SlowDisk) - 75.0).abs() < 1e-9);
        assert!(run.share(Phase::RegionLoss).abs() < 1e-9);
    }

    #[test]
    fn who_leads_most_is_struck() {
        let leaders = BTreeMap::from([(0, 2), (1, 0), (2, 2), (3, 1)]);
        assert_eq!(most_leading(&leaders), Some(2));
        assert_eq!(most_leading(&BTreeMap::new()), None);
    }
}
