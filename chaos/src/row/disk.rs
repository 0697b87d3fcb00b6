//! Rows about disks.

use std::time::Duration;

use super::{Bug, Lines, baseline, campaign, campaign_from_baseline, control, kept};
use crate::{
    lab::LabPlan,
    nemesis::Nemesis,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
};

/// Room for a node, and its reserve.
const MIB: u64 = 320;
const RESERVE: &str = "reserve = \"64MiB\"";

pub(super) fn lab(bench: &Bench) -> LabPlan {
    let mut plan = bench.lab(Profile::Lan);
    plan.disk_mib = Some(MIB);
    plan.plan = plan.plan.with("disk", RESERVE);
    plan
}

/// R2: all nodes lose what was not synced, at once.
pub async fn power_cuts(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::PowerCut];
    let hold = Duration::from_millis(300);
    let report = campaign(lab(bench), bench, nemeses.clone(), 20, hold).await?;
    let mut lines = kept("R2", &report, &nemeses);
    let cuts = Bar::AtLeast(bench.part(20) as f64);
    lines.push(Line::count("R2.cuts", report.hit(), "cuts", cuts));
    // At a mere power cut whoever never synced anything loses so much that a node ended by
    // itself, before a client saw what was gone.
    let late = vec![Nemesis::PowerCutWhileSlow];
    lines.extend(control("R2", bench, lab(bench), Bug::SYNC_SKIPPED, late, 5, hold).await?);
    Ok(lines)
}

/// R11: a leader's disk is slow, another node's hardly moves.
pub async fn slow(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::SlowDisk, Nemesis::StalledDisk];
    let hold = Duration::from_secs(20);
    let report = campaign_from_baseline(lab(bench), bench, nemeses.clone(), 6, hold).await?;
    let mut lines = kept("R11", &report, &nemeses);
    lines.push(baseline("R11", &report));
    for (nemesis, name, bar) in
        [(Nemesis::SlowDisk, "leader", 50.0), (Nemesis::StalledDisk, "follower", 95.0)]
    {
        lines.push(Line::new(
            &format!("R11.{name}"),
            report.share(nemesis),
            "% of writes",
            Bar::AtLeast(bar),
        ));
    }
    Ok(lines)
}

/// R12: every write of a leader's disk fails.
pub async fn failing(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::FailedDisk];
    let hold = Duration::from_secs(2);
    let report = campaign(lab(bench), bench, nemeses.clone(), 6, hold).await?;
    let mut lines = kept("R12", &report, &nemeses);
    let (_, worst) = report.gap().unwrap_or((Duration::MAX, Duration::MAX));
    lines.push(Line::ms("R12.worst", worst, Bar::Below(2000.0)));
    Ok(lines)
}

/// R13: no room on any disk, then room again; nothing is restarted.
pub async fn full(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::FullDisks];
    let hold = Duration::from_secs(10);
    let report = campaign(lab(bench), bench, nemeses.clone(), 3, hold).await?;
    let mut lines = kept("R13", &report, &nemeses);
    lines.push(Line::ms("R13.recovery", report.recovery(), Bar::Below(15_000.0)));
    Ok(lines)
}
