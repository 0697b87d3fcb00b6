//! The rows of the scoreboard, by what they harm.

pub mod clock;
pub mod consensus;
mod control;
pub mod corruption;
pub mod cut_off;
pub mod disk;
pub mod life;
pub mod load;
pub mod region;
pub mod security;
pub mod simulated;

use std::{pin::Pin, sync::Arc, time::Duration};

use self::control::{Bug, control};
use crate::{
    campaign::{self, Campaign, Report},
    dice::Dice,
    judgement::{Findings, judge},
    lab::{Lab, LabPlan},
    nemesis::Nemesis,
    scoreboard::{Bar, Bench, Line, Row},
    workload::{
        crowd::{Crowd, Size},
        pulse::{self, Pulses},
    },
};

/// What a row answers.
pub type Lines = anyhow::Result<Vec<Line>>;
/// Runs a row.
pub type Runner = fn(Bench) -> Pin<Box<dyn Future<Output = Lines> + Send>>;

/// A row by its function.
macro_rules! row {
    ($name:literal, $title:literal, $run:path) => {
        Row { name: $name, title: $title, run: |bench| Box::pin(async move { $run(&bench).await }) }
    };
}

/// All of them.
pub const ROWS: &[Row] = &[
    row!("R1", "kill -9 under load", consensus::kills),
    row!("R2", "power cuts of all nodes at once", disk::power_cuts),
    row!("R3", "linearizability under everything", consensus::everything),
    row!("R4", "simulated worlds", simulated::worlds),
    row!("R5", "planted bugs", simulated::hunt),
    row!("R6", "writes after a leader's death, LAN", consensus::failover_lan),
    row!("R7", "writes after a leader's death, three regions", consensus::failover_regions),
    row!("R8", "writes while a leader stops gracefully", consensus::graceful),
    row!("R9", "paused, deaf, mute and isolated leaders", consensus::undead),
    row!("R10", "flapping and clogged links", consensus::flapping),
    row!("R11", "slow and stalled disks", disk::slow),
    row!("R12", "failing disks", disk::failing),
    row!("R13", "full disks", disk::full),
    row!("R14", "flipped bits, cut and stale files", corruption::corruption),
    row!("R15", "a node that lost everything", life::total_loss),
    row!("R16", "wrong clocks", clock::wrong),
    row!("R17", "restarts with a million identities", load::restart),
    row!("R18", "one node after the other is restarted", life::rolling),
    row!("R19", "a node joins under load", life::join),
    row!("R20", "backup and restore", life::restore),
    row!("R21", "three times as much load as can be served", load::overload),
    row!("R22", "one load through seven bad minutes", load::phases),
    row!("R23", "single use and throttling over dying leaders", security::security),
    row!("region-loss", "a region dies and comes back", region::loss),
    row!("cut-off", "a region that is cut off, seen from within", cut_off::cut_off),
];

/// The longest that a row's load runs, so that all of it ends within ten minutes.
const LENGTH_MAX: Duration = Duration::from_secs(480);

/// How long load alone is measured, before what is then compared with it.
const BASELINE: Duration = Duration::from_secs(10);

/// Those who work during most rows.
const SIZE: Size = Size { people: 2, registers: 3, contests: true };

/// A crowd at work on a laboratory, for rows that do something by hand meanwhile.
struct Load {
    crowd: Crowd,
    pulses: Arc<Pulses>,
}

impl Load {
    async fn begin(lab: &Lab, size: Size) -> anyhow::Result<Self> {
        let homes = pulse::find_homes(&lab.run, &lab.cluster.status(0).await?).await?;
        let mut dice = Dice::new(lab.plan.seed ^ 0x10ad);
        let crowd = Crowd::gather(&lab.stands, &homes, size, &mut dice);
        let pulses = Arc::clone(&crowd.pulses);
        Ok(Self { crowd, pulses })
    }

    /// Ends it and judges what the clients saw; keeps the nodes' files if something
    /// was broken.
    async fn end(self, lab: &mut Lab, bench: &Bench) -> anyhow::Result<Findings> {
        lab.run.stop();
        self.crowd.disperse().await?;
        lab.settle().await?;
        let findings = judge(&lab.run).await?;
        (bench.say)(&findings.to_string());
        for violation in findings.violations.iter().take(20) {
            (bench.say)(&format!("  broken: {violation}"));
        }
        if !findings.violations.is_empty() {
            lab.cluster.keep();
            (bench.say)(&lab.cluster.tails(25));
        }
        Ok(findings)
    }
}

/// The line that says that nothing was broken.
fn broken(row: &str, findings: &Findings) -> Line {
    Line::count(&format!("{row}.broken"), findings.violations.len(), "promises", Bar::Is(0.0))
}

/// Kinds of promises that nothing was seen of.
fn unproved(row: &str, findings: &Findings) -> Line {
    let lacks = findings.lacks();
    lacks.iter().for_each(|what| tracing::warn!(row, "no {what}"));
    Line::count(&format!("{row}.unproved"), lacks.len(), "kinds", Bar::Is(0.0))
}

/// A campaign against a laboratory of its own. After broken promises the nodes'
/// files are kept, unless they were to be broken.
async fn campaign(
    plan: LabPlan,
    bench: &Bench,
    nemeses: Vec<Nemesis>,
    strikes: usize,
    hold: Duration,
) -> anyhow::Result<Report> {
    campaign_of(SIZE, plan, bench, nemeses, strikes, hold).await
}

/// The same, by a crowd of this size.
async fn campaign_of(
    size: Size,
    plan: LabPlan,
    bench: &Bench,
    nemeses: Vec<Nemesis>,
    strikes: usize,
    hold: Duration,
) -> anyhow::Result<Report> {
    let mut lab = Lab::start(plan).await?;
    let campaign = planned(bench, size, nemeses, strikes, hold);
    campaign_in(&mut lab, bench, &campaign, Duration::ZERO).await
}

/// The same as [`campaign()`], with a baseline before the first strike.
async fn campaign_from_baseline(
    plan: LabPlan,
    bench: &Bench,
    nemeses: Vec<Nemesis>,
    strikes: usize,
    hold: Duration,
) -> anyhow::Result<Report> {
    let mut lab = Lab::start(plan).await?;
    let campaign = planned(bench, SIZE, nemeses, strikes, hold);
    campaign_in(&mut lab, bench, &campaign, BASELINE).await
}

fn planned(
    bench: &Bench,
    size: Size,
    nemeses: Vec<Nemesis>,
    strikes: usize,
    hold: Duration,
) -> Campaign {
    Campaign {
        // However short a part of a run is, each nemesis has its turn.
        strikes: bench.part(strikes).max(nemeses.len()),
        nemeses,
        hold,
        length_max: LENGTH_MAX,
        size,
        say: bench.say,
    }
}

/// The same, in a laboratory that stands.
async fn campaign_in(
    lab: &mut Lab,
    bench: &Bench,
    campaign: &Campaign,
    calm: Duration,
) -> anyhow::Result<Report> {
    let report = campaign::run_after(lab, campaign, calm).await?;
    (bench.say)(&report.to_string());
    for violation in report.findings.violations.iter().take(20) {
        (bench.say)(&format!("  broken: {violation}"));
    }
    if !report.findings.violations.is_empty() && lab.plan.planted.is_none() {
        lab.cluster.keep();
        (bench.say)(&lab.cluster.tails(25));
    }
    Ok(report)
}

/// The lines that every campaign has: nothing was broken, and every nemesis hit.
fn kept(row: &str, report: &Report, nemeses: &[Nemesis]) -> Vec<Line> {
    let hits = report.hits();
    let missed = nemeses.iter().filter(|nemesis| hits.get(nemesis).is_none_or(|hit| hit.0 == 0));
    let proof = report.findings.proof;
    vec![
        Line::count(
            &format!("{row}.broken"),
            report.findings.violations.len(),
            "promises",
            Bar::Is(0.0),
        ),
        Line::count(&format!("{row}.missed"), missed.count(), "nemeses", Bar::Is(0.0)),
        unproved(row, &report.findings),
        Line::new(
            &format!("{row}.acknowledged"),
            proof.acknowledged as f64,
            "writes",
            Bar::AtLeast(1.0),
        ),
    ]
}

/// The line of what shares are of.
fn baseline(row: &str, report: &Report) -> Line {
    let name = format!("{row}.baseline");
    Line::new(&name, report.baseline.unwrap_or_default(), "writes/s", Bar::AtLeast(1.0))
}
