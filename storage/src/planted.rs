//! Bugs that can be switched on, to find out whether tests would find them.
//!
//! Each is one that some store has had, or one that a rule of the design is there
//! for. They are compiled in under the feature `planted` alone, which no build
//! that ships has; without it [`is`] is always false and costs nothing. One bug
//! lives at a time, for the whole process.

/// A bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// Writes of the log are not synced.
    SyncSkipped,
    /// A follower acknowledges entries before it has looked at them.
    AnsweredBeforeQuorum,
    /// A vote is remembered, but not written.
    VoteLost,
    /// A leader hands out read indexes without asking a quorum.
    ReadWithoutQuorum,
    /// A snapshot does not say who the members are.
    SnapshotWithoutMembership,
    /// Rows and applied position are two writes.
    PositionWrittenApart,
    /// Compactions drop what had expired by the last applied entry.
    FilterAheadOfFlush,
    /// Apply judges expiry by the wall clock.
    ExpiryByWallClock,
    /// A late duplicate of a prepare is executed.
    LatePrepareExecuted,
    /// A refused transaction leaves no receipt, so a duplicate is executed.
    RefusalForgotten,
    /// A decision is forgotten before its participants finished.
    DecisionForgotten,
    /// Prepared transactions lock what they write alone.
    LocksOnWritesOnly,
    /// Rows are of one instant and the locks on them of another.
    LocksOfAnotherInstant,
    /// The digest is over the rows present, not over what was applied.
    DigestOverRows,
    /// A tablet that is ahead of its log keeps its old snapshot.
    TabletAheadOfLog,
    /// Bounded reads take a leader's heartbeats for proof.
    BoundedByHeartbeats,
    /// An index row does not live as long as its record.
    IndexOutlived,
    /// A commit leaves no receipt.
    ReceiptForgotten,
    /// A new replica gets an id that was used before.
    ReplicaIdReused,
    /// A backup fences nothing, and waits for nothing.
    BackupUnfenced,
    /// A wall clock that jumps after it was compared is taken for right, and a term's
    /// time begins with it. Simulation found it here.
    JumpUnseen,
    /// The tasks of a leader go on reading its log when it is deposed, and those of a
    /// replica that was removed reading and writing it. Simulation found both here.
    StragglersHeard,
    /// What older nodes left in an index is not looked for before it counts as whole.
    IndexUnstripped,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::SyncSkipped,
        Self::AnsweredBeforeQuorum,
        Self::VoteLost,
        Self::ReadWithoutQuorum,
        Self::SnapshotWithoutMembership,
        Self::PositionWrittenApart,
        Self::FilterAheadOfFlush,
        Self::ExpiryByWallClock,
        Self::LatePrepareExecuted,
        Self::RefusalForgotten,
        Self::DecisionForgotten,
        Self::LocksOnWritesOnly,
        Self::LocksOfAnotherInstant,
        Self::DigestOverRows,
        Self::TabletAheadOfLog,
        Self::BoundedByHeartbeats,
        Self::IndexOutlived,
        Self::ReceiptForgotten,
        Self::ReplicaIdReused,
        Self::BackupUnfenced,
        Self::JumpUnseen,
        Self::StragglersHeard,
        Self::IndexUnstripped,
    ];

    /// The bug of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| format!("{bug:?}") == name)
    }
}

/// Whether this bug was planted.
#[cfg(not(feature = "planted"))]
pub const fn is(_: Bug) -> bool {
    false
}

/// Says what the wall clock of the node that runs on this thread shows.
#[cfg(not(feature = "planted"))]
pub const fn set_wall_ms(_: u64) {}

/// The wall clock, for a bug that reads it where nothing may.
#[cfg(not(feature = "planted"))]
pub const fn wall_ms() -> u64 {
    0
}

#[cfg(feature = "planted")]
pub use live::{is, plant, set_wall_ms, wall_ms};

#[cfg(feature = "planted")]
mod live {
    use std::{cell::Cell, sync::OnceLock};

    use super::Bug;

    static PLANTED: OnceLock<Bug> = OnceLock::new();

    thread_local! {
        static WALL_MS: Cell<u64> = const { Cell::new(0) };
    }

    /// Whether this bug was planted.
    pub fn is(bug: Bug) -> bool {
        PLANTED.get() == Some(&bug)
    }

    /// Plants a bug, once a process.
    pub fn plant(bug: Bug) {
        PLANTED.get_or_init(|| bug);
    }

    /// Says what the wall clock of the node that runs on this thread shows.
    pub fn set_wall_ms(ms: u64) {
        WALL_MS.set(ms);
    }

    /// The wall clock, for a bug that reads it where nothing may.
    pub fn wall_ms() -> u64 {
        WALL_MS.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_and_none_is_planted() {
        for bug in Bug::ALL {
            assert_eq!(Bug::named(&format!("{bug:?}")), Some(bug));
            assert!(!is(bug), "{bug:?}");
        }
        assert_eq!(Bug::named("Nothing"), None);
    }
}
