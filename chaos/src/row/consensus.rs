//! Rows about agreement: deaths, pauses and networks.

use std::time::Duration;

use super::{
    Bug, Lines, SIZE, baseline, campaign, campaign_from_baseline, campaign_of, control, disk, kept,
};
use crate::{
    nemesis::Nemesis,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
    workload::crowd::Size,
};

/// Registers of R3, so that it sees as many operations as it must.
const REGISTERS: usize = 32;

/// R1: a hundred kills of leaders, others, and all at once.
pub async fn kills(bench: &Bench) -> Lines {
    let nemeses = [
        Nemesis::KillLeader,
        Nemesis::KillFollower,
        Nemesis::KillLeader,
        Nemesis::KillFollower,
        Nemesis::KillAll,
    ];
    let hold = Duration::from_millis(600);
    let plan = bench.lab(Profile::Lan);
    let report = campaign(plan, bench, nemeses.to_vec(), 100, hold).await?;
    let mut lines = kept("R1", &report, &nemeses);
    lines.push(Line::count(
        "R1.kills",
        report.hit(),
        "kills",
        Bar::AtLeast(bench.part(100) as f64),
    ));
    // What was acknowledged too early is mostly written by the time of a kill. Where the
    // power is cut while disks are slow it is on none of them, and clients must see that.
    let early = vec![Nemesis::PowerCutWhileSlow, Nemesis::KillAll];
    let bug = Bug::ANSWERED_BEFORE_QUORUM;
    lines.extend(control("R1", bench, disk::lab(bench), bug, early, 6, hold).await?);
    Ok(lines)
}

/// R3: everything that may be done to processes, networks and clocks.
pub async fn everything(bench: &Bench) -> Lines {
    let nemeses = [
        Nemesis::KillLeader,
        Nemesis::IsolateLeader,
        Nemesis::PauseLeader,
        Nemesis::DeafLeader,
        Nemesis::Mess,
        Nemesis::MuteLeader,
        Nemesis::ClockJump(400),
        Nemesis::PartLeader,
        Nemesis::KillAll,
        Nemesis::Swizzle,
        Nemesis::StopLeader,
    ];
    let mut plan = bench.lab(Profile::Lan);
    plan.clocks = true;
    let hold = Duration::from_millis(2500);
    let size = Size { registers: REGISTERS, ..SIZE };
    let report = campaign_of(size, plan.clone(), bench, nemeses.to_vec(), 55, hold).await?;
    let mut lines = kept("R3", &report, &nemeses);
    let hits = report.hits();
    let least = nemeses.iter().map(|nemesis| hits.get(nemesis).map_or(0, |hit| hit.0)).min();
    let bar = Bar::AtLeast(bench.part(5) as f64);
    lines.push(Line::count("R3.hits-of-each", least.unwrap_or_default(), "hits", bar));
    lines.push(Line::count(
        "R3.operations",
        report.findings.registers.1,
        "operations",
        Bar::AtLeast(bench.part(200_000) as f64),
    ));
    plan.clocks = false;
    let stale = vec![Nemesis::IsolateLeader, Nemesis::PauseLeader];
    let bug = Bug::READ_WITHOUT_QUORUM;
    lines.extend(control("R3", bench, plan, bug, stale, 6, hold).await?);
    Ok(lines)
}

/// R6: on a local network.
pub async fn failover_lan(bench: &Bench) -> Lines {
    failover("R6", bench, Profile::Lan, (1000.0, 2000.0)).await
}

/// R7: over three regions.
pub async fn failover_regions(bench: &Bench) -> Lines {
    failover("R7", bench, Profile::Three, (1500.0, 2500.0)).await
}

async fn failover(row: &str, bench: &Bench, profile: Profile, bars: (f64, f64)) -> Lines {
    let nemeses = vec![Nemesis::KillLeader];
    let hold = Duration::from_millis(1500);
    let report = campaign(bench.lab(profile), bench, nemeses.clone(), 20, hold).await?;
    let mut lines = kept(row, &report, &nemeses);
    let (median, worst) = report.gap().unwrap_or((Duration::MAX, Duration::MAX));
    lines.push(Line::ms(&format!("{row}.median"), median, Bar::Below(bars.0)));
    lines.push(Line::ms(&format!("{row}.worst"), worst, Bar::Below(bars.1)));
    Ok(lines)
}

/// R8: SIGTERM.
pub async fn graceful(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::StopLeader];
    let hold = Duration::from_millis(1500);
    let report = campaign(bench.lab(Profile::Lan), bench, nemeses.clone(), 10, hold).await?;
    let mut lines = kept("R8", &report, &nemeses);
    let (median, worst) = report.gap().unwrap_or((Duration::MAX, Duration::MAX));
    lines.push(Line::ms("R8.median", median, Bar::Below(250.0)));
    lines.push(Line::ms("R8.worst", worst, Bar::Below(250.0)));
    Ok(lines)
}

/// R9: leaders that are not dead.
pub async fn undead(bench: &Bench) -> Lines {
    let nemeses = vec![
        Nemesis::PauseLeader,
        Nemesis::DeafLeader,
        Nemesis::MuteLeader,
        Nemesis::IsolateLeader,
    ];
    let plan = bench.lab(Profile::Lan);
    let hold = Duration::from_secs(15);
    let report = campaign(plan.clone(), bench, nemeses.clone(), 12, hold).await?;
    let mut lines = kept("R9", &report, &nemeses);
    let (median, worst) = report.gap().unwrap_or((Duration::MAX, Duration::MAX));
    lines.push(Line::ms("R9.median", median, Bar::Below(1000.0)));
    lines.push(Line::ms("R9.worst", worst, Bar::Below(2000.0)));
    let hold = Duration::from_secs(4);
    let bug = Bug::READ_WITHOUT_QUORUM;
    lines.extend(control("R9", bench, plan, bug, nemeses, 8, hold).await?);
    Ok(lines)
}

/// R10: links that come and go.
pub async fn flapping(bench: &Bench) -> Lines {
    let mut lines = Vec::new();
    for (nemesis, name) in [(Nemesis::Flap, "flap"), (Nemesis::Swizzle, "swizzle")] {
        let hold = Duration::from_secs(120) * u32::try_from(bench.percent)? / 100;
        let plan = bench.lab(Profile::Lan);
        let report = campaign_from_baseline(plan, bench, vec![nemesis], 1, hold).await?;
        lines.extend(kept(&format!("R10.{name}"), &report, &[nemesis]));
        lines.push(baseline(&format!("R10.{name}"), &report));
        let Some(blow) = report.blows.first() else { continue };
        let minutes = blow.lasted.as_secs_f64() / 60.0;
        let groups = blow.groups.max(1) as f64;
        let elections = blow.elections as f64 / minutes / groups;
        let bar = Bar::Below(3.01);
        lines.push(Line::new(&format!("R10.{name}.elections"), elections, "/min/shard", bar));
        if nemesis == Nemesis::Swizzle {
            // A leader that it cuts off for longer than followers wait is, and ought to be,
            // followed by another; these are the others.
            let needless = (elections - blow.due / minutes).max(0.0);
            lines.push(Line::new("R10.swizzle.needless", needless, "/min/shard", bar));
        }
        // A swizzle takes the majority away now and then, and nobody can write then.
        let bar = Bar::AtLeast(if nemesis == Nemesis::Flap { 70.0 } else { 20.0 });
        let goodput = report.share(nemesis);
        lines.push(Line::new(&format!("R10.{name}.goodput"), goodput, "%", bar));
    }
    Ok(lines)
}
