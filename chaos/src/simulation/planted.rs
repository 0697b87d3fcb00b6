//! Which check is meant to find which planted bug. Another check may be faster;
//! then the bug is looked for on, for a check that never fails is none.

use cardea_storage::planted::Bug;

/// The names of the checks, any of which should find a bug, as their violations
/// begin.
pub fn meant_for(bug: Bug) -> &'static [&'static str] {
    const COUNTS: &str = "counts are as fresh as asked";
    const HISTORIES: &str = "histories are linearizable";
    const ONE_OWNER: &str = "an identifier has one owner";
    const REVOKED: &str = "a revoked session stays revoked";
    const SKEW: &str = "no write skew";
    const BACKUP: &str = "a backup is of one cut";
    const INDEXED: &str = "an index row lives as long as its record";
    const EXACT: &str = "an index that is whole is exact";
    const LIVES: &str = "a row lives until its expiry";
    const STATE: &str = "state-machine safety";
    const MATCHING: &str = "log matching";
    const ELECTION: &str = "election safety";
    const COMPLETE: &str = "leader completeness";
    const MONOTONE: &str = "applied only grows";
    const HOLE: &str = "no hole";
    const REUSED: &str = "a replica id is never reused";
    const HEALS: &str = "it heals";
    const PURSE: &str = "a purse keeps its sum";
    const PANIC: &str = "no panic";
    const TIME: &str = "log time is not ahead";
    const FAULT: &str = "no fault of its own";
    const GOES_ON: &str = "time goes on";
    match bug {
        // What was acknowledged is gone, or was overwritten.
        Bug::SyncSkipped | Bug::AnsweredBeforeQuorum => {
            &[COMPLETE, MATCHING, STATE, ELECTION, COUNTS, HISTORIES, REVOKED, ONE_OWNER]
        }
        Bug::VoteLost => &[ELECTION, COMPLETE, MATCHING, STATE],
        Bug::ReadWithoutQuorum | Bug::BoundedByHeartbeats => &[COUNTS, HISTORIES, REVOKED],
        // A replica without members elects nobody, or somebody alone.
        Bug::SnapshotWithoutMembership => &[HEALS, ELECTION, PANIC, FAULT],
        Bug::PositionWrittenApart
        | Bug::FilterAheadOfFlush
        | Bug::ExpiryByWallClock
        | Bug::DigestOverRows => &[STATE, LIVES],
        // Rows come back, those of indexes too.
        Bug::LatePrepareExecuted => &[HEALS, ONE_OWNER, PURSE, HISTORIES, INDEXED, EXACT],
        Bug::RefusalForgotten => &[HISTORIES, ONE_OWNER, PURSE, SKEW, INDEXED, EXACT],
        Bug::ReceiptForgotten => &[COUNTS, HISTORIES],
        Bug::DecisionForgotten => &[ONE_OWNER, PURSE, SKEW, HISTORIES],
        Bug::LocksOnWritesOnly => &[SKEW],
        Bug::LocksOfAnotherInstant => &[HISTORIES, ONE_OWNER, PURSE],
        // It is sent for ever, and takes nobody further.
        Bug::TabletAheadOfLog => &[HEALS, HOLE, MONOTONE, PANIC, FAULT, GOES_ON],
        Bug::IndexOutlived => &[INDEXED],
        Bug::ReplicaIdReused => &[REUSED],
        Bug::BackupUnfenced => &[BACKUP],
        Bug::JumpUnseen => &[TIME],
        // A deposed leader's end in an assertion of openraft's.
        Bug::StragglersHeard => &[FAULT, PANIC],
        Bug::IndexUnstripped => &[EXACT],
    }
}

/// Whether what was told is told by a check that is meant to.
pub fn is_meant(bug: Bug, told: &str) -> bool {
    meant_for(bug).iter().any(|name| told.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_is_meant_for_some_check() {
        for bug in Bug::ALL {
            assert!(!meant_for(bug).is_empty(), "{bug:?}");
        }
        assert!(is_meant(Bug::LocksOnWritesOnly, "no write skew: client 3 …"));
        assert!(!is_meant(Bug::LocksOnWritesOnly, "it heals: …"));
        // Nothing that was done to it can be to blame.
        for bug in Bug::ALL {
            assert!(!is_meant(bug, "it forms: the cluster is formed: not within …"), "{bug:?}");
        }
    }
}
