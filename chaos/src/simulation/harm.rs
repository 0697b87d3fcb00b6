//! The harm that comes over a world: what, where and when is drawn.

use std::collections::BTreeSet;

use cardea_cluster::{DIRECTORY, GroupId, directory::records::NodeState};

use super::{
    machine::{Machine, Power},
    network::Network,
    parameters::Parameters,
};
use crate::dice::Dice;

/// Something that is done to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// A machine is cut off, from all others or from some.
    Isolate {
        /// Which.
        machine: usize,
        /// What it says is not heard.
        outward: bool,
        /// It hears nothing.
        inward: bool,
        /// After how many milliseconds that is over by itself, if it is.
        ms: Option<u64>,
    },
    /// The machines of a set (by bits) and the others do not hear of each other.
    Split(u64),
    /// One direction of one link carries nothing.
    CutLink(usize, usize),
    /// All links carry again.
    Heal,
    /// One direction of one link is slower by this.
    Clog(usize, usize, u64),
    /// Connections between two machines break.
    Reset(usize, usize),
    /// A process dies, and comes back after this many milliseconds.
    Crash(usize, Power, u64),
    /// All machines lose power.
    Blackout(u64),
    /// The disk of a machine fails after so many changes.
    CrashAtWrite(usize, u64),
    /// A process stands still for so many milliseconds.
    Pause(usize, u64),
    /// Synced writes of a disk take longer by this; and after so many milliseconds, if
    /// any, its machine loses power.
    SlowDisk(usize, u64, Option<u64>),
    /// A wall clock is ahead by this; and its machine is asked to lead a group at once,
    /// before others have compared it with theirs.
    Clock(usize, i64, Option<GroupId>),
    /// A machine asks that another lead a group.
    Transfer(usize, GroupId, usize),
    /// A node drains, or is live again.
    Drain(usize, bool),
    /// A new machine joins.
    Join,
    /// A machine is lost with its disk; an empty one comes in its place after this
    /// many milliseconds, and the old node is let go.
    Replace(usize, u64),
    /// A node makes a backup, with a fence of so many milliseconds.
    Backup(usize, u64),
}

impl Harm {
    /// The machine that it comes over, if it is one.
    pub fn machine(&self) -> Option<usize> {
        match *self {
            Self::Isolate { machine, .. }
            | Self::CutLink(machine, _)
            | Self::Clog(machine, ..)
            | Self::Reset(machine, _)
            | Self::Crash(machine, ..)
            | Self::CrashAtWrite(machine, _)
            | Self::Pause(machine, _)
            | Self::SlowDisk(machine, ..)
            | Self::Clock(machine, ..)
            | Self::Transfer(_, _, machine)
            | Self::Drain(machine, _)
            | Self::Replace(machine, _)
            | Self::Backup(machine, _) => Some(machine),
            Self::Split(_) | Self::Heal | Self::Blackout(_) | Self::Join => None,
        }
    }
}

/// What of the world's state decides about harm.
pub struct Scene<'a> {
    /// The machines.
    pub machines: &'a [Machine],
    /// The network between them.
    pub network: &'a Network,
    /// Machines whose clocks are, or were lately, off.
    pub astray: &'a BTreeSet<usize>,
    /// Whether a machine was replaced already.
    pub replaced: bool,
    /// The machine that harm came over last.
    pub last: usize,
    /// The time.
    pub now: u64,
}

/// Draws the next harm; `None` if nothing that was drawn is possible.
pub fn draw(dice: &mut Dice, parameters: &Parameters, scene: &Scene<'_>) -> Option<Harm> {
    let Scene { machines, network, now, .. } = *scene;
    let harms = parameters.harms;
    let count = machines.len();
    let again = dice.percent(parameters.again_percent);
    let machine = if again { scene.last } else { dice.below(count) };
    let other = (machine + 1 + dice.below(count - 1)) % count;
    let awake = machines[machine].is_awake(now);
    let is_up = machines.iter().filter(|machine| machine.process.is_some()).count();
    let any_cut = (0..count).any(|a| (0..count).any(|b| network.is_cut(a, b)));
    let down_ms = 20 + dice.draw() % 6_000;
    // Of the others, so many clocks may be off that a majority is right.
    let may_stray =
        scene.astray.contains(&machine) || 2 * (scene.astray.len() + 1) < parameters.nodes;
    Some(match dice.below(26) {
        0 if harms.partitions => Harm::Isolate { machine, outward: true, inward: true, ms: None },
        1 if harms.partitions => {
            let outward = dice.percent(50);
            Harm::Isolate { machine, outward, inward: !outward, ms: None }
        }
        2 if harms.partitions => Harm::Split(dice.draw() % (1 << count)),
        3 if harms.partitions => Harm::CutLink(machine, other),
        4..7 if any_cut => Harm::Heal,
        7 if harms.clogs => Harm::Clog(machine, other, 50 + dice.draw() % 1_500),
        8 if harms.resets => Harm::Reset(machine, other),
        9 | 10 if harms.crashes && dice.percent(parameters.all_percent) => Harm::Blackout(down_ms),
        9 | 10 if harms.crashes && machines[machine].process.is_some() && is_up > 1 => {
            let power = match dice.below(3) {
                0 => Power::On,
                1 => Power::Lost,
                _ => Power::LostAll,
            };
            Harm::Crash(machine, power, down_ms)
        }
        11 if harms.crashes_at_writes && awake => Harm::CrashAtWrite(machine, dice.draw() % 60),
        12 | 13 if harms.pauses && awake => Harm::Pause(machine, 50 + dice.draw() % 8_000),
        14 if harms.slow_disks => {
            let slow = match dice.below(4) {
                0 | 1 => 0,
                2 => 10 + dice.draw() % 500,
                _ => 500 + dice.draw() % 2_500,
            };
            let dies = slow > 0 && awake && harms.crashes && dice.percent(50);
            Harm::SlowDisk(machine, slow, dies.then(|| dice.draw() % 4_000))
        }
        15 if harms.clock_jumps => {
            let far = match dice.below(4) {
                0 => 0,
                1 => 100,
                2 => 3_000,
                _ => 3_600_000,
            };
            let leads = harms.transfers && dice.percent(50);
            let leads = leads.then(|| drawn_group(dice, parameters));
            // Whoever leads with a clock that is behind harms nobody.
            let far = if leads.is_some() { far.max(3_000) } else { far };
            let skew = i64::try_from(dice.draw() % (2 * far + 1)).unwrap_or(0);
            let skew = skew - i64::try_from(far).unwrap_or(0);
            let skew = if leads.is_some() { skew.abs() } else { skew };
            Harm::Clock(machine, if may_stray { skew } else { 0 }, leads)
        }
        16 | 17 if harms.transfers && machines[other].is_awake(now) => {
            Harm::Transfer(other, drawn_group(dice, parameters), machine)
        }
        18 | 25 if harms.membership => Harm::Drain(machine, dice.percent(40)),
        19 if harms.membership && count < 6 && dice.percent(50) => Harm::Join,
        20 if harms.replacement && !scene.replaced => Harm::Replace(machine, down_ms),
        21 if harms.backups && awake => Harm::Backup(machine, 500 + dice.draw() % 10_000),
        // About as long as others need to elect a leader: the old one believes in itself,
        // and comes back to what it has not heard of.
        22..25 if harms.blinks => {
            let (outward, inward) = [(true, true), (true, false), (false, true)][dice.below(3)];
            Harm::Isolate { machine, outward, inward, ms: Some(200 + dice.draw() % 2_500) }
        }
        _ => return None,
    })
}

fn drawn_group(dice: &mut Dice, parameters: &Parameters) -> GroupId {
    let groups = DIRECTORY.0 + u64::from(parameters.home_shards) + 3;
    GroupId(dice.draw() % groups)
}

/// What draining says in the node's row.
pub fn state_of(drains: bool) -> NodeState {
    if drains { NodeState::Draining } else { NodeState::Live }
}
