//! What is done to a cluster, and how one knows that it hit.
//!
//! A strike begins, lasts, and is relented; each says then what shows that it met
//! what it was aimed at: frames that ran into a cut, a leader that was replaced, a
//! write that took long, a byte that the power cut swallowed. A run in which a
//! nemesis never hit proves nothing about it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use cardea_raft::Timing;

use crate::{dice::Dice, lab::Lab, wan::Pair};

/// What is done. *Leader* is the one of a drawn home shard; it may lead others too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nemesis {
    /// Nothing: what a run looks like then.
    Nothing,
    /// SIGKILL of the leader.
    KillLeader,
    /// SIGKILL of another node.
    KillFollower,
    /// SIGKILL of all nodes at once.
    KillAll,
    /// SIGTERM of the leader: it hands over and ends.
    StopLeader,
    /// SIGSTOP of the leader, SIGCONT later.
    PauseLeader,
    /// SIGSTOP of another node.
    PauseFollower,
    /// No node reaches the leader, nor it them; clients do.
    IsolateLeader,
    /// The same of another node.
    IsolateFollower,
    /// What nodes send to the leader is lost; what it sends arrives.
    DeafLeader,
    /// What the leader sends to nodes is lost; what they send arrives.
    MuteLeader,
    /// The leader and one follower do not reach each other; both reach the rest.
    PartLeader,
    /// The leader's links come and go.
    Flap,
    /// Every link between nodes loses, doubles, delays and reorders.
    Mess,
    /// A random set of nodes is clogged one by one, and unclogged in another order.
    Swizzle,
    /// The leader's region is cut off from all others, clients included.
    CutRegion,
    /// SIGKILL of every node in the leader's region.
    KillRegion,
    /// The leader's disk makes a few writes a second.
    SlowDisk,
    /// Another node's disk makes one write a second.
    StalledDisk,
    /// Every write of the leader's disk fails.
    FailedDisk,
    /// All disks lose what was not synced, at once, and all processes end.
    PowerCut,
    /// Every disk has less room than its reserve.
    FullDisks,
    /// The leader's wall clock jumps by so many milliseconds.
    ClockJump(i64),
    /// Another node's wall clock jumps so.
    FollowerClockJump(i64),
    /// The leader's wall clock runs a fifth too fast.
    ClockDrift,
}

impl fmt::Display for Nemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Nemesis::ClockJump(ms) => write!(f, "clock-jump {ms:+} ms"),
            Nemesis::FollowerClockJump(ms) => write!(f, "follower-clock-jump {ms:+} ms"),
            other => {
                let mut name = String::new();
                for (at, letter) in format!("{other:?}").char_indices() {
                    if letter.is_uppercase() && at > 0 {
                        name.push('-');
                    }
                    name.extend(letter.to_lowercase());
                }
                f.write_str(&name)
            }
        }
    }
}

impl Nemesis {
    /// Those that need neither disks nor clocks of their own.
    pub const PLAIN: [Self; 16] = [
        Self::KillLeader,
        Self::KillFollower,
        Self::KillAll,
        Self::StopLeader,
        Self::PauseLeader,
        Self::PauseFollower,
        Self::IsolateLeader,
        Self::IsolateFollower,
        Self::DeafLeader,
        Self::MuteLeader,
        Self::PartLeader,
        Self::Flap,
        Self::Mess,
        Self::Swizzle,
        Self::CutRegion,
        Self::KillRegion,
    ];

    /// Those of disks.
    pub const DISKS: [Self; 5] =
        [Self::SlowDisk, Self::StalledDisk, Self::FailedDisk, Self::PowerCut, Self::FullDisks];

    /// The nemesis of this name.
    pub fn named(name: &str) -> Option<Self> {
        let others = [Self::Nothing, Self::ClockDrift];
        let all = Self::PLAIN.into_iter().chain(Self::DISKS).chain(others);
        let found = all.into_iter().find(|nemesis| nemesis.to_string() == name);
        found.or_else(|| {
            let (kind, ms) = name.split_once('=')?;
            let ms: i64 = ms.parse().ok()?;
            match kind {
                "clock-jump" => Some(Self::ClockJump(ms)),
                "follower-clock-jump" => Some(Self::FollowerClockJump(ms)),
                _ => None,
            }
        })
    }

    /// Whether nodes need disks of their own.
    pub fn needs_disks(self) -> bool {
        Self::DISKS.contains(&self)
    }

    /// Whether nodes need clocks of their own.
    pub fn needs_clocks(self) -> bool {
        matches!(self, Self::ClockJump(_) | Self::FollowerClockJump(_) | Self::ClockDrift)
    }

    /// Whether a majority of every shard goes on working, so that writes must soon
    /// be acknowledged again while it lasts.
    pub fn spares_a_majority(self) -> bool {
        !matches!(self, Self::KillAll | Self::PowerCut | Self::FullDisks | Self::Swizzle)
    }

    /// Whether the leader cannot go on as such.
    pub fn deposes(self) -> bool {
        matches!(
            self,
            Self::KillLeader
                | Self::StopLeader
                | Self::PauseLeader
                | Self::IsolateLeader
                | Self::DeafLeader
                | Self::MuteLeader
                | Self::CutRegion
                | Self::KillRegion
                | Self::FailedDisk
        )
    }
}

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
    /// How often the first victim had said that its disk hangs.
    hung: usize,
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
/// What a slow disk makes of writes a second, and a stalled one.
const SLOW: u32 = 60;
const STALLED: u32 = 1;
/// What a node says whose disk does not answer.
const HUNG: &str = "the disk hangs";
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
        Nemesis::KillAll | Nemesis::PowerCut | Nemesis::FullDisks => (all, Vec::new()),
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
    let hung = victims.first().map_or(0, |at| lab.cluster.log(*at).matches(HUNG).count());
    let (met, lost) = (count.cut, count.lost);
    let strike = Strike { nemesis, victims, leaders, pairs, met, lost, hung };
    do_it(lab, &strike).await?;
    Ok(strike)
}

async fn do_it(lab: &mut Lab, strike: &Strike) -> anyhow::Result<()> {
    let victims = &strike.victims;
    let first = victims.first().copied().unwrap_or_default();
    match strike.nemesis {
        Nemesis::Nothing | Nemesis::Flap | Nemesis::Swizzle => {}
        Nemesis::KillLeader | Nemesis::KillFollower | Nemesis::KillAll | Nemesis::KillRegion => {
            for victim in victims {
                lab.cluster.kill(*victim)?;
            }
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
            for disk in &lab.disks {
                std::fs::write(disk.folder().join("unsynced"), UNSYNCED)?;
            }
            for disk in &lab.disks {
                disk.power_cut()?;
            }
            for victim in victims {
                lab.cluster.kill(*victim)?;
            }
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
            let hung = lab.cluster.log(first).matches(HUNG).count() > strike.hung;
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
        Nemesis::PowerCut => {
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
            let told = (0..lab.cluster.nodes.len())
                .filter(|node| lab.cluster.log(*node).contains("disk is full"))
                .count();
            for disk in &lab.disks {
                disk.free()?;
            }
            evidence(told > 0, format!("{told} nodes say that their disk is full"))
        }
        Nemesis::ClockJump(_) | Nemesis::FollowerClockJump(_) | Nemesis::ClockDrift => {
            let offset = clock_offset(lab, first).await;
            lab.set_clock(first, "+0")?;
            let hit = offset.is_some_and(|offset| offset != 0);
            evidence(hit, format!("its clock was said to be {offset:?} ms off"))
        }
    }
}

async fn clock_offset(lab: &Lab, node: usize) -> Option<i64> {
    let until = Instant::now() + Duration::from_secs(5);
    let mut seen = None;
    while Instant::now() < until {
        let asked = (node + 1) % lab.cluster.nodes.len();
        if let Ok(status) = lab.cluster.status(asked).await {
            let positions = lab.cluster.positions(&status);
            let told = status.nodes.iter().find(|told| positions.get(&told.id) == Some(&node));
            seen = told.and_then(|told| told.clock_offset_ms).or(seen);
        }
        if seen.is_some_and(|offset| offset.abs() > 40) {
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
    fn every_nemesis_has_a_name_by_which_it_is_found() {
        for nemesis in Nemesis::PLAIN.into_iter().chain(Nemesis::DISKS) {
            assert_eq!(Nemesis::named(&nemesis.to_string()), Some(nemesis));
        }
        assert_eq!(Nemesis::KillLeader.to_string(), "kill-leader");
        assert_eq!(Nemesis::named("clock-jump=-250"), Some(Nemesis::ClockJump(-250)));
        assert_eq!(Nemesis::named("earthquake"), None);
    }
}
