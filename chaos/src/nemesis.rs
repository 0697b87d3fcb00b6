//! What is done to a cluster, and how one knows that it hit.
//!
//! A strike begins, lasts, and is relented; each says then what shows that it met
//! what it was aimed at: frames that ran into a cut, a leader that was replaced, a
//! write that took long, a byte that the power cut swallowed. A run in which a
//! nemesis never hit proves nothing about it.

mod kind;

use std::{
    collections::BTreeMap,
    fs::File,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use cardea_raft::Timing;

pub use self::kind::Nemesis;
use crate::{dice::Dice, disk::Disk, lab::Lab, wan::Pair};

/// A strike under way.
#[derive(Debug, Clone)]
pub struct Strike {
    /// What was done.
    pub nemesis: Nemesis,
    /// To which nodes.
    pub victims: Vec<usize>,
    /// Who led what before.
    pub leaders: BTreeMap<u64, usize>,
    pairs: Vec<Pair>,
    met: u64,
    lost: u64,
    /// How often each victim had said before what shows that this hits.
    said: Vec<usize>,
}

/// What shows that a strike hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Whether it hit.
    pub hit: bool,
    /// What shows it.
    pub shown: String,
}

/// The bytes of a file that is not synced before the power is cut.
const UNSYNCED: [u8; 5000] = [7; 5000];
/// How long disks are slow before the power is cut.
const SLOW_FOR: Duration = Duration::from_millis(600);
/// What a slow disk makes of writes a second, and a stalled one.
const SLOW: u32 = 60;
const STALLED: u32 = 1;
/// What a node says whose disk does not answer, and one whose disk has no room.
const HUNG: &str = "the disk hangs";
const FULL: &str = "the disk is full";
/// A clock that is off by no more may be off by itself, ms.
const CLOCK_NOISE_MS: i64 = 40;
/// What a synced write takes at least on a slow one: it is several writes of the device.
const SLOW_SYNC: Duration = Duration::from_millis(40);

/// Begins a strike, aimed at the leader of a group.
pub async fn begin(
    lab: &mut Lab,
    nemesis: Nemesis,
    leader: usize,
    leaders: BTreeMap<u64, usize>,
    dice: &mut Dice,
) -> anyhow::Result<Strike> {
    let count = lab.cluster.nodes.len();
    let all: Vec<usize> = (0..count).collect();
    let others: Vec<usize> = all.iter().copied().filter(|node| *node != leader).collect();
    let follower = *dice.pick(&others).context("there is no other node")?;
    let region = lab.wan.nodes[leader].region;
    let (victims, pairs) = match nemesis {
        Nemesis::Nothing | Nemesis::Mess | Nemesis::Swizzle => {
            (Vec::new(), lab.wan.between_nodes())
        }
        Nemesis::KillAll | Nemesis::PowerCut | Nemesis::PowerCutWhileSlow | Nemesis::FullDisks => {
            (all, Vec::new())
        }
        Nemesis::KillRegion => (lab.nodes_of(region), Vec::new()),
        Nemesis::CutRegion => (lab.nodes_of(region), lab.wan.around_region(region)),
        Nemesis::KillFollower
        | Nemesis::PauseFollower
        | Nemesis::StalledDisk
        | Nemesis::FollowerClockJump(_) => (vec![follower], Vec::new()),
        Nemesis::IsolateFollower => (vec![follower], lab.wan.around(&[follower])),
        Nemesis::IsolateLeader | Nemesis::Flap => (vec![leader], lab.wan.around(&[leader])),
        Nemesis::DeafLeader => (vec![leader], lab.wan.from_to(&others, &[leader])),
        Nemesis::MuteLeader => (vec![leader], lab.wan.from_to(&[leader], &others)),
        Nemesis::PartLeader => {
            let there = lab.wan.from_to(&[leader], &[follower]);
            let back = lab.wan.from_to(&[follower], &[leader]);
            (vec![leader], [there, back].concat())
        }
        Nemesis::KillLeader
        | Nemesis::StopLeader
        | Nemesis::PauseLeader
        | Nemesis::SlowDisk
        | Nemesis::FailedDisk
        | Nemesis::ClockJump(_)
        | Nemesis::ClockDrift => (vec![leader], Vec::new()),
    };
    let count = lab.wan.count(&pairs);
    let said = how_often_said(lab, nemesis, &victims);
    let (met, lost) = (count.cut, count.lost);
    let strike = Strike { nemesis, victims, leaders, pairs, met, lost, said };
    do_it(lab, &strike).await?;
    Ok(strike)
}

/// How often each victim has said, in all its life, what shows that a nemesis hit.
fn how_often_said(lab: &Lab, nemesis: Nemesis, victims: &[usize]) -> Vec<usize> {
    let words = match nemesis {
        Nemesis::StalledDisk => HUNG,
        Nemesis::FullDisks => FULL,
        _ => return Vec::new(),
    };
    victims.iter().map(|victim| lab.cluster.log(*victim).matches(words).count()).collect()
}

/// How many of them said it since.
fn said_since(before: &[usize], now: &[usize]) -> usize {
    before.iter().zip(now).filter(|(before, now)| now > before).count()
}

async fn do_it(lab: &mut Lab, strike: &Strike) -> anyhow::Result<()> {
    let victims = &strike.victims;
    let first = victims.first().copied().unwrap_or_default();
    match strike.nemesis {
        Nemesis::Nothing | Nemesis::Flap | Nemesis::Swizzle => {}
        Nemesis::KillLeader | Nemesis::KillFollower | Nemesis::KillAll | Nemesis::KillRegion => {
            kill_all(lab, victims)?;
        }
        Nemesis::StopLeader => lab.cluster.stop(first).await?,
        Nemesis::PauseLeader | Nemesis::PauseFollower => lab.cluster.process(first)?.pause()?,
        Nemesis::IsolateLeader
        | Nemesis::IsolateFollower
        | Nemesis::DeafLeader
        | Nemesis::MuteLeader
        | Nemesis::PartLeader
        | Nemesis::CutRegion => lab.wan.cut(&strike.pairs),
        Nemesis::Mess => lab.wan.change(&strike.pairs, |link| {
            link.jitter = Duration::from_millis(8);
            link.lost = 300;
            link.doubled = 100;
            link.overtaken = 100;
        }),
        Nemesis::SlowDisk => lab.disks[first].throttle(Some(SLOW))?,
        Nemesis::StalledDisk => lab.disks[first].throttle(Some(STALLED))?,
        Nemesis::FailedDisk => lab.disks[first].power_cut()?,
        Nemesis::PowerCut => {
            cut_power(lab, victims)?;
            kill_all(lab, victims)?;
        }
        Nemesis::PowerCutWhileSlow => {
            tokio::task::block_in_place(|| sync_all(&lab.disks))?;
            for disk in &lab.disks {
                disk.throttle(Some(SLOW))?;
            }
            tokio::time::sleep(SLOW_FOR).await;
            cut_power(lab, victims)?;
            for disk in &lab.disks {
                // A process that waits for a slow one ends only when it is through.
                disk.throttle(None)?;
            }
            kill_all(lab, victims)?;
        }
        Nemesis::FullDisks => {
            for disk in &lab.disks {
                disk.fill(24 << 20)?;
            }
        }
        Nemesis::ClockJump(ms) | Nemesis::FollowerClockJump(ms) => {
            let sign = if ms < 0 { '-' } else { '+' };
            let (seconds, rest) = (ms.unsigned_abs() / 1000, ms.unsigned_abs() % 1000);
            lab.set_clock(first, &format!("{sign}{seconds}.{rest:03}s"))?;
        }
        Nemesis::ClockDrift => lab.set_clock(first, "+0 x1.2")?,
    }
    Ok(())
}

/// All that was written is on the disks, whoever asked for it or did not.
fn sync_all(disks: &[Disk]) -> anyhow::Result<()> {
    for disk in disks {
        rustix::fs::syncfs(File::open(disk.folder())?)?;
    }
    Ok(())
}

/// Without power nobody says anything, so everybody is stopped first. Who went on would: ext4
/// tells some that wait for a sync while it is shut down that they have it, for what they wait
/// for has been given up when it looks (slow disks make that likely).
fn cut_power(lab: &mut Lab, victims: &[usize]) -> anyhow::Result<()> {
    for disk in &lab.disks {
        std::fs::write(disk.folder().join("unsynced"), UNSYNCED)?;
    }
    for victim in victims {
        lab.cluster.process(*victim)?.pause()?;
    }
    for disk in &lab.disks {
        disk.power_cut()?;
    }
    Ok(())
}

fn kill_all(lab: &mut Lab, victims: &[usize]) -> anyhow::Result<()> {
    victims.iter().try_for_each(|victim| lab.cluster.kill(*victim))
}

/// Lets a strike last. How often it cut a machine off for as long as followers wait
/// before they stand for election, at least; told of a swizzle alone.
pub async fn hold(lab: &Lab, strike: &Strike, length: Duration, dice: &mut Dice) -> usize {
    let until = Instant::now() + length;
    match strike.nemesis {
        Nemesis::Flap => {
            while Instant::now() < until {
                lab.wan.cut(&strike.pairs);
                tokio::time::sleep(dice.pause_ms(50, 700)).await;
                lab.wan.heal();
                tokio::time::sleep(dice.pause_ms(50, 700)).await;
            }
        }
        Nemesis::Swizzle => return swizzle(lab, until, dice).await,
        _ => tokio::time::sleep(length).await,
    }
    0
}

async fn swizzle(lab: &Lab, until: Instant, dice: &mut Dice) -> usize {
    let Timing { election_ms_min, election_ms_max, .. } = Timing::DEFAULT;
    let patience = Duration::from_millis(election_ms_max + election_ms_min);
    let mut outlasted = 0;
    while Instant::now() < until {
        let mut nodes: Vec<usize> = (0..lab.cluster.nodes.len()).collect();
        nodes.retain(|_| dice.percent(60));
        let mut since = BTreeMap::new();
        for node in &nodes {
            lab.wan.cut(&lab.wan.around(&[*node]));
            since.insert(*node, Instant::now());
            tokio::time::sleep(dice.pause_ms(50, 400)).await;
        }
        while !nodes.is_empty() {
            let healed = nodes.swap_remove(dice.below(nodes.len()));
            outlasted += usize::from(since[&healed].elapsed() > patience);
            lab.wan.heal();
            for node in &nodes {
                lab.wan.cut(&lab.wan.around(&[*node]));
            }
            tokio::time::sleep(dice.pause_ms(50, 400)).await;
        }
        tokio::time::sleep(dice.pause_ms(50, 400)).await;
    }
    outlasted
}

/// Ends a strike: says whether it hit, heals, and starts what is down. The cluster
/// is not whole yet then.
pub async fn relent(lab: &mut Lab, strike: &Strike) -> anyhow::Result<Evidence> {
    let first = strike.victims.first().copied().unwrap_or_default();
    let evidence = |hit: bool, shown: String| Ok(Evidence { hit, shown });
    let count = lab.wan.count(&strike.pairs);
    let (met, lost) = (count.cut - strike.met, count.lost - strike.lost);
    match strike.nemesis {
        Nemesis::Nothing => evidence(true, "nothing was done".to_owned()),
        Nemesis::KillLeader
        | Nemesis::KillFollower
        | Nemesis::KillAll
        | Nemesis::KillRegion
        | Nemesis::StopLeader => {
            lab.cluster.launch_all()?;
            let led = strike.leaders.values().filter(|at| strike.victims.contains(at)).count();
            let hit = strike.nemesis == Nemesis::KillFollower || led > 0;
            evidence(hit, format!("{} gone, which led {led} shards", strike.victims.len()))
        }
        Nemesis::PauseLeader | Nemesis::PauseFollower => {
            let process = lab.cluster.process(first)?;
            let state = std::fs::read_to_string(format!("/proc/{}/stat", process.id()))?;
            process.resume()?;
            let is_stopped = state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"));
            evidence(is_stopped, "stopped all the time".to_owned())
        }
        Nemesis::IsolateLeader
        | Nemesis::IsolateFollower
        | Nemesis::DeafLeader
        | Nemesis::MuteLeader
        | Nemesis::PartLeader
        | Nemesis::Flap
        | Nemesis::Swizzle
        | Nemesis::CutRegion => {
            lab.wan.heal();
            evidence(met > 0, format!("{met} frames met the cut"))
        }
        Nemesis::Mess => {
            lab.wan.heal();
            evidence(lost > 0, format!("{lost} frames lost"))
        }
        Nemesis::StalledDisk => {
            // Who is not answered by its disk says so, and ends after a while.
            let now = how_often_said(lab, strike.nemesis, &strike.victims);
            let hung = said_since(&strike.said, &now) > 0;
            lab.disks[first].throttle(None)?;
            let ended = lab.cluster.process(first)?.ended()?;
            if ended.is_some() {
                lab.cluster.forget(first);
                lab.cluster.launch(first)?;
            }
            let how = if ended.is_some() { "and it ended" } else { "and it went on" };
            evidence(hung, format!("the node said that its disk hangs: {hung}, {how}"))
        }
        Nemesis::SlowDisk => {
            let disk = &lab.disks[first];
            let took = tokio::task::block_in_place(|| disk.sync_time())?;
            disk.throttle(None)?;
            evidence(took > SLOW_SYNC, format!("a synced write took {took:.0?}"))
        }
        Nemesis::FailedDisk => {
            let process = lab.cluster.process(first)?;
            let ended = process.wait(Duration::from_secs(30)).await;
            let shown = match &ended {
                Ok(status) => format!("the node ended by itself with {status}"),
                Err(_) => "the node goes on although its disk fails".to_owned(),
            };
            lab.cluster.kill(first)?;
            lab.disks[first].power_on()?;
            lab.cluster.launch(first)?;
            ensure!(ended.is_ok(), "{shown}");
            evidence(true, shown)
        }
        Nemesis::PowerCut | Nemesis::PowerCutWhileSlow => {
            let mut lost = 0;
            for disk in &mut lab.disks {
                disk.power_on()?;
                let path = disk.folder().join("unsynced");
                lost += usize::from(std::fs::read(&path).unwrap_or_default() != UNSYNCED);
                std::fs::remove_file(path).ok();
            }
            lab.cluster.launch_all()?;
            evidence(lost > 0, format!("{lost} disks lost what was not synced"))
        }
        Nemesis::FullDisks => {
            let now = how_often_said(lab, strike.nemesis, &strike.victims);
            let told = said_since(&strike.said, &now);
            for disk in &lab.disks {
                disk.free()?;
            }
            evidence(told > 0, format!("{told} nodes say that their disk is full"))
        }
        Nemesis::ClockJump(_) | Nemesis::FollowerClockJump(_) | Nemesis::ClockDrift => {
            let offset = clock_offset(lab, first, strike.nemesis).await;
            lab.set_clock(first, "+0")?;
            let hit = offset.is_some_and(|offset| is_off_as_asked(strike.nemesis, offset));
            evidence(hit, format!("its clock was said to be {offset:?} ms off"))
        }
    }
}

/// Whether a clock is off by what was asked for, give or take a half, and by more than
/// clocks are by themselves.
fn is_off_as_asked(nemesis: Nemesis, offset_ms: i64) -> bool {
    match nemesis {
        Nemesis::ClockJump(ms) | Nemesis::FollowerClockJump(ms) => {
            offset_ms.abs() > CLOCK_NOISE_MS && (offset_ms - ms).abs() <= ms.abs() / 2
        }
        _ => offset_ms > CLOCK_NOISE_MS,
    }
}

async fn clock_offset(lab: &Lab, node: usize, nemesis: Nemesis) -> Option<i64> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut seen = None;
    while Instant::now() < until {
        let asked = (node + 1) % lab.cluster.nodes.len();
        if let Ok(status) = lab.cluster.status(asked).await {
            let positions = lab.cluster.positions(&status);
            let told = status.nodes.iter().find(|told| positions.get(&told.id) == Some(&node));
            seen = told.and_then(|told| told.clock_offset_ms).or(seen);
        }
        if seen.is_some_and(|offset| is_off_as_asked(nemesis, offset)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_said_of_an_earlier_strike_shows_nothing_of_this_one() {
        assert_eq!(said_since(&[0, 0, 0], &[1, 0, 1]), 2);
        assert_eq!(said_since(&[1, 1, 1], &[1, 1, 1]), 0);
        assert_eq!(said_since(&[1, 2, 1], &[1, 3, 1]), 1);
    }

    #[test]
    fn a_clock_that_is_off_by_something_else_was_not_hit() {
        let jump = |ms, offset| is_off_as_asked(Nemesis::FollowerClockJump(ms), offset);
        assert!(jump(-100, -92) && jump(100, 100) && jump(3_600_000, 3_599_998));
        assert!(!jump(100, 1) && !jump(100, -100) && !jump(-500, -3_599_000) && !jump(100, 40));
        assert!(is_off_as_asked(Nemesis::ClockDrift, 2341));
        assert!(!is_off_as_asked(Nemesis::ClockDrift, 1));
    }
}
