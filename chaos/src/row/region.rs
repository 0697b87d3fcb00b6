//! The loss of a region: five nodes over three regions, a region killed whole under
//! load, then returned. Nobody does anything about it.

use std::time::Duration;

use super::{Lines, campaign, kept};
use crate::{
    nemesis::Nemesis,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
};

/// The row `region-loss`.
pub async fn loss(bench: &Bench) -> Lines {
    let nemeses = vec![Nemesis::KillRegion, Nemesis::CutRegion];
    let mut plan = bench.lab(Profile::Three);
    plan.plan.nodes = 5;
    plan.regions = vec![0, 1, 2, 0, 1];
    let hold = Duration::from_secs(20);
    let report = campaign(plan, bench, nemeses.clone(), 6, hold).await?;
    let mut lines = kept("region-loss", &report, &nemeses);
    let gaps = report.gap();
    let (median, worst) = gaps.unwrap_or((Duration::MAX, Duration::MAX));
    lines.push(Line::ms("region-loss.median", median, Bar::Below(1500.0)));
    lines.push(Line::ms("region-loss.worst", worst, Bar::Below(2500.0)));
    lines.push(Line::ms("region-loss.whole-again", report.recovery(), Bar::Below(60_000.0)));
    Ok(lines)
}
