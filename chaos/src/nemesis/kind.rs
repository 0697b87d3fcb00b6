//! What may be done to a cluster, by name.

use std::fmt;

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
    /// All that was written is synced, by the system; then all disks are slow, and a
    /// moment later lose what was not synced since. Who waits for its disk acknowledges
    /// little meanwhile; who does not loses all of that moment, and little more.
    PowerCutWhileSlow,
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
    pub const DISKS: [Self; 6] = [
        Self::SlowDisk,
        Self::StalledDisk,
        Self::FailedDisk,
        Self::PowerCut,
        Self::PowerCutWhileSlow,
        Self::FullDisks,
    ];

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
        !matches!(
            self,
            Self::KillAll
                | Self::PowerCut
                | Self::PowerCutWhileSlow
                | Self::FullDisks
                | Self::Swizzle
        )
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
