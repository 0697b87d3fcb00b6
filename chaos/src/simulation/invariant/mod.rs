//! What must hold at every moment, whatever happens: one file each. An invariant
//! remembers what it needs of the past, looks at what the machines show now, and
//! says what is broken. Each is shown a bad state that it must reject.

mod applied_monotone;
mod election_safety;
mod leader_completeness;
mod log_matching;
mod log_time;
mod no_hole;
mod replica_identity;
mod state_safety;

use cardea_raft::{GroupId, GroupStatus, LogPositions, Position, ReplicaId};

pub use self::log_time::AHEAD_MS_MAX;
use crate::history::Violation;

/// What a replica shows at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The machine it is on.
    pub machine: usize,
    /// The process that runs it.
    pub process: u64,
    /// Its group.
    pub group: GroupId,
    /// Its id.
    pub replica: ReplicaId,
    /// What it thinks of its group.
    pub status: GroupStatus,
    /// The entry that it applied last.
    pub applied: Option<Position>,
    /// Log time there, in milliseconds.
    pub now: u64,
    /// What time it is, in milliseconds: what right clocks show.
    pub true_now: u64,
    /// The digest of all it applied.
    pub digest: Vec<u8>,
    /// The newest part of its log, and what is purged.
    pub log: LogPositions,
    /// Where its log begins to be shown.
    pub log_from: u64,
}

/// Something that must hold at every moment.
pub trait Invariant {
    /// Its name, as a sentence.
    fn name(&self) -> &'static str;

    /// Looks at all running replicas.
    ///
    /// # Errors
    /// What is broken.
    fn look(&mut self, seen: &[Seen]) -> Result<(), String>;
}

/// All of them.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(election_safety::ElectionSafety::default()),
        Box::new(log_matching::LogMatching::default()),
        Box::new(leader_completeness::LeaderCompleteness::default()),
        Box::new(state_safety::StateSafety::default()),
        Box::new(applied_monotone::AppliedMonotone::default()),
        Box::new(log_time::LogTime),
        Box::new(no_hole::NoHole),
        Box::new(replica_identity::ReplicaIdentity::default()),
    ]
}

/// Has every invariant look.
///
/// # Errors
/// The first that is broken.
pub fn look(invariants: &mut [Box<dyn Invariant>], seen: &[Seen]) -> Result<(), Violation> {
    for invariant in invariants {
        invariant.look(seen).map_err(|what| Violation(format!("{}: {what}", invariant.name())))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod samples {
    use super::*;

    /// An entry of a term's leader.
    pub(in super::super) fn at(term: u64, replica: u64, index: u64) -> Position {
        Position { term, replica: ReplicaId(replica), index }
    }

    /// A follower of group 1 that applied its log of `indexes` entries of term 1.
    pub(in super::super) fn follower(machine: usize, indexes: u64) -> Seen {
        Seen {
            machine,
            process: machine as u64,
            group: GroupId(1),
            replica: ReplicaId(machine as u64),
            status: GroupStatus { replica: ReplicaId(machine as u64), ..Default::default() },
            applied: indexes.checked_sub(1).map(|last| at(1, 1, last)),
            now: indexes,
            true_now: indexes,
            digest: vec![indexes as u8],
            log: LogPositions {
                purged: None,
                entries: (0..indexes).map(|index| at(1, 1, index)).collect(),
            },
            log_from: 0,
        }
    }

    /// A leader in a term.
    pub(in super::super) fn leader(machine: usize, term: u64, indexes: u64) -> Seen {
        let mut seen = follower(machine, indexes);
        seen.status.role = cardea_raft::Role::Leader;
        seen.status.term = term;
        seen
    }
}
