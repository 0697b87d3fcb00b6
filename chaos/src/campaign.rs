//! One strike after the other against a cluster under load, and the judgement at the
//! end: what was promised and broken, how long nobody could write, and whether every
//! nemesis hit.

use std::{
    collections::BTreeMap,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    dice::Dice,
    history::{Moment, Violation},
    judgement::{Findings, judge},
    lab::Lab,
    nemesis::{self, Evidence, Nemesis},
    workload::{
        crowd::{Crowd, Size},
        pulse,
    },
};

/// How long after a strike a shard whose majority lives may be without writes
/// before the run fails.
const LEADERLESS_MAX: Duration = Duration::from_secs(60);
/// How long clients are at work before a baseline is taken.
const WARMING: Duration = Duration::from_secs(1);
/// How long clients go on after the last strike.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// How a campaign goes.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// What is done, one after the other, again and again.
    pub nemeses: Vec<Nemesis>,
    /// How many strikes.
    pub strikes: usize,
    /// How long each lasts at least.
    pub hold: Duration,
    /// When to end although strikes are left.
    pub length_max: Duration,
    /// Who works meanwhile.
    pub size: Size,
    /// Told what happens, line by line.
    pub say: fn(&str),
}

/// A strike and what followed.
#[derive(Debug, Clone)]
pub struct Blow {
    /// What was done.
    pub nemesis: Nemesis,
    /// Whether it hit.
    pub evidence: Evidence,
    /// Home groups that a victim led, each with the longest time without an acknowledged
    /// write that began before it was relented; `None` where it could not be measured.
    pub gaps: BTreeMap<u64, Option<Duration>>,
    /// The longest such time of any home group; without end if one was not measured.
    pub worst: Option<Duration>,
    /// Writes a second that pulses had acknowledged just before, when an earlier strike may
    /// still show, and meanwhile.
    pub rates: (f64, f64),
    /// Elections meanwhile, of all groups.
    pub elections: u64,
    /// How often [`nemesis::hold`] says that a machine was cut off, for each machine: as
    /// many elections a group had to be.
    pub due: f64,
    /// How many groups there are.
    pub groups: usize,
    /// How long it lasted.
    pub lasted: Duration,
    /// From the end of the strike until the cluster was whole, and every home group had
    /// acknowledged a write, and one through every node that was harmed.
    pub recovery: Duration,
}

/// What a campaign showed.
#[derive(Debug, Clone)]
pub struct Report {
    /// The strikes.
    pub blows: Vec<Blow>,
    /// What the checkers found.
    pub findings: Findings,
    /// Writes a second that pulses had acknowledged before the first strike, when all was
    /// whole; `None` if it was not measured.
    pub baseline: Option<f64>,
    /// Length of the load.
    pub length: Duration,
}

impl Report {
    /// Gaps after a leader was deposed, sorted; one that was not measured has no end.
    pub fn gaps(&self) -> Vec<Duration> {
        let deposed = self.blows.iter().filter(|blow| blow.nemesis.deposes());
        let mut gaps: Vec<Duration> = deposed
            .flat_map(|blow| blow.gaps.values().map(|gap| gap.unwrap_or(Duration::MAX)))
            .collect();
        gaps.sort_unstable();
        gaps
    }

    /// The middle and the longest gap.
    pub fn gap(&self) -> Option<(Duration, Duration)> {
        let gaps = self.gaps();
        Some((*gaps.get(gaps.len() / 2)?, *gaps.last()?))
    }

    /// How many strikes hit.
    pub fn hit(&self) -> usize {
        self.blows.iter().filter(|blow| blow.evidence.hit).count()
    }

    /// Of a hundred writes of the baseline, how many were acknowledged under a nemesis, by
    /// the mean of its strikes. Nothing without a baseline, or without a strike: what was
    /// not compared with anything reaches no bar.
    pub fn share(&self, nemesis: Nemesis) -> f64 {
        let blows = self.blows.iter().filter(|blow| blow.nemesis == nemesis);
        let rates: Vec<f64> = blows.map(|blow| blow.rates.1).collect();
        match self.baseline {
            Some(baseline) if baseline > 0.0 && !rates.is_empty() => {
                100.0 * rates.iter().sum::<f64>() / rates.len() as f64 / baseline
            }
            _ => 0.0,
        }
    }

    /// The longest recovery of a strike; without end if there was none.
    pub fn recovery(&self) -> Duration {
        self.blows.iter().map(|blow| blow.recovery).max().unwrap_or(Duration::MAX)
    }

    /// How often each nemesis hit, and how often it struck.
    pub fn hits(&self) -> BTreeMap<Nemesis, (usize, usize)> {
        let mut hits = BTreeMap::new();
        for blow in &self.blows {
            let (hit, struck) = hits.entry(blow.nemesis).or_insert((0, 0));
            *hit += usize::from(blow.evidence.hit);
            *struck += 1;
        }
        hits
    }

    /// Fails if a promise was broken or a nemesis never hit.
    pub fn expect_good(&self, nemeses: &[Nemesis], hits_min: usize) -> anyhow::Result<()> {
        self.findings.expect_kept()?;
        let hits = self.hits();
        for nemesis in nemeses {
            let (hit, struck) = hits.get(nemesis).copied().unwrap_or_default();
            anyhow::ensure!(
                hit >= hits_min,
                "the run proves too little: {nemesis} hit {hit} times in {struck} strikes"
            );
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nemesis, (hit, struck)) in self.hits() {
            let blows = || self.blows.iter().filter(|blow| blow.nemesis == nemesis);
            let worst = pulse::longest(blows().map(|blow| blow.worst));
            let recovery = blows().map(|blow| blow.recovery).max().unwrap_or_default();
            writeln!(
                f,
                "  {nemesis}: hit {hit} of {struck}; longest without a write {}, whole and written \
                 to again after {} ms at most",
                told(worst),
                recovery.as_millis()
            )?;
        }
        if let Some((median, worst)) = self.gap() {
            writeln!(
                f,
                "  without an acknowledged write after a leader was deposed: median {}, worst {} \
                 ({} shards)",
                told(Some(median)),
                told(Some(worst)),
                self.gaps().len()
            )?;
        }
        if let Some(baseline) = self.baseline {
            writeln!(f, "  {baseline:.0} writes/s before the first strike")?;
        }
        write!(f, "{}", self.findings)
    }
}

/// A gap in words.
fn told(gap: Option<Duration>) -> String {
    match gap {
        None | Some(Duration::MAX) => "not measured".to_owned(),
        Some(gap) => format!("{} ms", gap.as_millis()),
    }
}

/// Sets a crowd to work, strikes, heals, and judges what the clients saw.
pub async fn run(lab: &mut Lab, campaign: &Campaign) -> anyhow::Result<Report> {
    run_after(lab, campaign, Duration::ZERO).await
}

/// The same, with a baseline of this length before the first strike.
pub async fn run_after(
    lab: &mut Lab,
    campaign: &Campaign,
    calm: Duration,
) -> anyhow::Result<Report> {
    let mut dice = Dice::new(lab.plan.seed ^ 0x00ca_37a1);
    let run = Arc::clone(&lab.run);
    let homes = pulse::find_homes(&run, &lab.cluster.status(0).await?).await?;
    let crowd = Crowd::gather(&lab.stands, &homes, campaign.size, &mut dice);
    let pulses = Arc::clone(&crowd.pulses);
    let mut baseline = None;
    if !calm.is_zero() {
        lab.settle().await?;
        tokio::time::sleep(WARMING).await;
        let from = run.now();
        tokio::time::sleep(calm).await;
        baseline = Some(pulses.rate(from, run.now()));
    }
    let began = Instant::now();
    let mut blows = Vec::new();
    let mut outcome = Ok(());
    for (number, nemesis) in (0..campaign.strikes).zip(campaign.nemeses.iter().cycle()) {
        if began.elapsed() > campaign.length_max {
            break;
        }
        match strike(lab, &pulses, *nemesis, campaign.hold, &mut dice).await {
            Ok(blow) => {
                tell(campaign.say, number, campaign.strikes, &blow);
                blows.push(blow);
            }
            Err(error) => {
                outcome = Err(error.context(format!("strike {}: {nemesis}", number + 1)));
                break;
            }
        }
    }
    let length = began.elapsed();
    tokio::time::sleep(AFTERWARDS).await;
    run.stop();
    lab.wan.heal();
    crowd.disperse().await?;
    // A strike that went wrong may have left stories that say why, and dead nodes.
    lab.cluster.launch_all()?;
    let settled = lab.settle().await;
    let mut findings = judge(&run).await?;
    for error in [outcome.err(), settled.err()].into_iter().flatten() {
        findings.violations.insert(0, Violation(format!("{error:#}")));
    }
    Ok(Report { blows, findings, baseline, length })
}

fn tell(say: fn(&str), number: usize, of: usize, blow: &Blow) {
    let gaps: Vec<String> =
        blow.gaps.iter().map(|(group, gap)| format!("group {group} {}", told(*gap))).collect();
    say(&format!(
        "{:>3} of {of}: {} ({}); {}; {:.0} then {:.0} writes/s; {} elections; whole after {} ms",
        number + 1,
        blow.nemesis,
        blow.evidence.shown,
        if gaps.is_empty() { "led nothing".to_owned() } else { gaps.join(", ") },
        blow.rates.0,
        blow.rates.1,
        blow.elections,
        blow.recovery.as_millis()
    ));
}

/// One strike.
pub async fn strike(
    lab: &mut Lab,
    pulses: &pulse::Pulses,
    nemesis: Nemesis,
    hold: Duration,
    dice: &mut Dice,
) -> anyhow::Result<Blow> {
    let run = Arc::clone(&lab.run);
    lab.settle().await.context("before the strike")?;
    // Load at its full before the blow; never in step with anything.
    let calm = run.now();
    tokio::time::sleep(dice.pause_ms(700, 1300)).await;
    let asked = dice.below(lab.cluster.nodes.len());
    let groups = pulses.groups();
    let group = *dice.pick(&groups).context("no group has a pulse")?;
    let (leaders, leader) = leader_of(lab, asked, group).await?;
    let terms = terms(lab, asked).await?;

    let struck = run.now();
    let before = pulses.rate(calm, struck);
    let began = Instant::now();
    let strike = nemesis::begin(lab, nemesis, leader, leaders.clone(), dice).await?;
    let led: Vec<u64> = groups
        .iter()
        .copied()
        .filter(|group| leaders.get(group).is_some_and(|at| strike.victims.contains(at)))
        .collect();
    if nemesis.deposes() && nemesis.spares_a_majority() {
        await_writes(pulses, &led, struck).await?;
    }
    let rest = hold.saturating_sub(began.elapsed());
    let outlasted = nemesis::hold(lab, &strike, rest, dice).await;
    let relented = run.now();
    let evidence = nemesis::relent(lab, &strike).await?;
    let (healing, healed) = (Instant::now(), run.now());
    lab.settle().await.with_context(|| format!("after {nemesis}"))?;
    await_writes(pulses, &groups, healed).await?;
    await_writes_through(pulses, &strike.victims, healed).await?;
    let recovery = healing.elapsed();

    // Written to again, so that there is a write on both sides of every gap.
    let gap = |group: &u64| pulses.gap(*group, struck, relented);
    let elections = terms_since(&terms, &self::terms(lab, asked).await?);
    Ok(Blow {
        nemesis,
        evidence,
        gaps: led.iter().map(|group| (*group, gap(group))).collect(),
        worst: pulse::longest(groups.iter().map(gap)),
        rates: (before, pulses.rate(struck, relented)),
        elections,
        due: outlasted as f64 / lab.cluster.nodes.len() as f64,
        groups: terms.len(),
        lasted: struck.until(relented),
        recovery,
    })
}

/// Who leads what, once somebody leads this group: it may just be electing.
async fn leader_of(
    lab: &Lab,
    asked: usize,
    group: u64,
) -> anyhow::Result<(BTreeMap<u64, usize>, usize)> {
    let began = Instant::now();
    loop {
        let leaders = lab.cluster.leaders(asked).await?;
        if let Some(leader) = leaders.get(&group).copied() {
            return Ok((leaders, leader));
        }
        anyhow::ensure!(began.elapsed() < LEADERLESS_MAX, "group {group} has no leader");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn terms(lab: &Lab, asked: usize) -> anyhow::Result<BTreeMap<u64, u64>> {
    let status = lab.cluster.status(asked).await?;
    Ok(status.shards.iter().map(|shard| (shard.group, shard.term)).collect())
}

fn terms_since(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> u64 {
    let later = |(group, term): (&u64, &u64)| {
        term.saturating_sub(before.get(group).copied().unwrap_or(*term))
    };
    after.iter().map(later).sum()
}

/// Waits until each group acknowledged a write that ended well after `since`.
async fn await_writes(pulses: &pulse::Pulses, groups: &[u64], since: Moment) -> anyhow::Result<()> {
    let began = Instant::now();
    for group in groups {
        while !is_well_after(pulses.last(*group), since) {
            anyhow::ensure!(
                began.elapsed() < LEADERLESS_MAX,
                "no write to group {group} was acknowledged for {LEADERLESS_MAX:?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// The same of each of these nodes, for every group that is written through it.
async fn await_writes_through(
    pulses: &pulse::Pulses,
    nodes: &[usize],
    since: Moment,
) -> anyhow::Result<()> {
    let began = Instant::now();
    for (node, group) in pulses.paths().into_iter().filter(|(node, _)| nodes.contains(node)) {
        while !is_well_after(pulses.last_through(node, group), since) {
            anyhow::ensure!(
                began.elapsed() < LEADERLESS_MAX,
                "no write to group {group} was acknowledged through node {} for \
                 {LEADERLESS_MAX:?}",
                node + 1
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// What was under way at a moment may be acknowledged just after.
fn is_well_after(last: Option<Moment>, since: Moment) -> bool {
    last.is_some_and(|last| last > since.after(Duration::from_millis(20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blow(nemesis: Nemesis, hit: bool) -> Blow {
        Blow {
            nemesis,
            evidence: Evidence { hit, shown: String::new() },
            gaps: BTreeMap::new(),
            worst: None,
            rates: (0.0, 0.0),
            elections: 0,
            due: 0.0,
            groups: 0,
            lasted: Duration::ZERO,
            recovery: Duration::ZERO,
        }
    }

    #[test]
    fn a_campaign_in_which_a_nemesis_never_hit_is_no_good_one() {
        let mut report = Report {
            blows: vec![blow(Nemesis::Flap, true), blow(Nemesis::PartLeader, false)],
            findings: Findings::default(),
            baseline: None,
            length: Duration::ZERO,
        };
        assert_eq!(report.hit(), 1);
        assert!(report.expect_good(&[Nemesis::Flap], 1).is_ok());
        assert!(report.expect_good(&[Nemesis::Flap], 2).is_err());
        assert!(report.expect_good(&[Nemesis::Flap, Nemesis::PartLeader], 1).is_err());
        assert!(report.expect_good(&[Nemesis::Swizzle], 1).is_err());
        report.findings.violations.push(Violation("lost".to_owned()));
        assert!(report.expect_good(&[Nemesis::Flap], 1).is_err());
    }

    #[test]
    fn a_share_of_no_baseline_reaches_no_bar() {
        let mut slow = blow(Nemesis::SlowDisk, true);
        slow.rates = (0.0, 60.0);
        let mut report = Report {
            blows: vec![slow.clone(), Blow { rates: (1.0, 40.0), ..slow }],
            findings: Findings::default(),
            baseline: None,
            length: Duration::ZERO,
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(report.share(Nemesis::SlowDisk), 0.0));
        report.baseline = Some(0.0);
        assert!(near(report.share(Nemesis::SlowDisk), 0.0));
        report.baseline = Some(200.0);
        assert!(near(report.share(Nemesis::SlowDisk), 25.0));
        assert!(near(report.share(Nemesis::Flap), 0.0));
    }

    #[test]
    fn a_gap_that_was_not_measured_is_the_longest() {
        let mut deposed = blow(Nemesis::KillLeader, true);
        deposed.gaps = BTreeMap::from([(1, Some(Duration::from_millis(80))), (2, None)]);
        let report = Report {
            blows: vec![deposed],
            findings: Findings::default(),
            baseline: None,
            length: Duration::ZERO,
        };
        assert_eq!(report.gap().unwrap().1, Duration::MAX);
        assert!(report.to_string().contains("worst not measured"));
    }

    #[test]
    fn elections_are_the_terms_that_passed() {
        let before = BTreeMap::from([(1, 3), (2, 5)]);
        assert_eq!(terms_since(&before, &BTreeMap::from([(1, 4), (2, 5), (3, 9)])), 1);
    }
}
