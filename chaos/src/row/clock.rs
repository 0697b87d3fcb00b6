//! Rows about wall clocks.

use std::time::Duration;

use super::{Bug, Lines, campaign, control, kept};
use crate::{nemesis::Nemesis, scoreboard::Bench, wan::profile::Profile};

/// R16: clocks of leaders and others jump and drift.
pub async fn wrong(bench: &Bench) -> Lines {
    let mut nemeses = vec![Nemesis::ClockDrift];
    for ms in [100, 250, 500, 5_000, 60_000, 3_600_000] {
        nemeses.extend([
            Nemesis::ClockJump(ms),
            Nemesis::ClockJump(-ms),
            Nemesis::FollowerClockJump(ms),
            Nemesis::FollowerClockJump(-ms),
        ]);
    }
    let mut plan = bench.lab(Profile::Lan);
    plan.clocks = true;
    let hold = Duration::from_secs(6);
    let report = campaign(plan.clone(), bench, nemeses.clone(), nemeses.len(), hold).await?;
    let mut lines = kept("R16", &report, &nemeses);
    let hour = vec![Nemesis::ClockJump(3_600_000), Nemesis::FollowerClockJump(-3_600_000)];
    let bug = Bug::EXPIRY_BY_WALL_CLOCK;
    lines.extend(control("R16", bench, plan, bug, hour, 4, hold).await?);
    Ok(lines)
}
