//! What a replica applied only grows while its process lives, and its log time
//! never goes back. (A crash may take it back to what was durable.)

use std::collections::BTreeMap;

use cardea_raft::{GroupId, Position, ReplicaId};

use super::{Invariant, Seen};

/// How far each replica was.
#[derive(Default)]
pub(super) struct AppliedMonotone {
    last: BTreeMap<(u64, GroupId, ReplicaId), (Option<Position>, u64)>,
}

impl Invariant for AppliedMonotone {
    fn name(&self) -> &'static str {
        "applied only grows"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            let now = (seen.applied, seen.now);
            let id = (seen.process, seen.group, seen.replica);
            let before = self.last.insert(id, now).unwrap_or_default();
            let index = |position: Option<Position>| position.map(|position| position.index);
            let leader = |position: Option<Position>| position.map(|at| (at.term, at.replica));
            if index(now.0) < index(before.0) || now.1 < before.1 {
                return Err(format!(
                    "n{} went from {before:?} back to {now:?} in {}",
                    seen.machine, seen.group
                ));
            }
            if leader(now.0) < leader(before.0) {
                return Err(format!(
                    "n{} applied {now:?} of an older leader after {before:?} in {}",
                    seen.machine, seen.group
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{at, follower},
        *,
    };

    #[test]
    fn going_back_is_told() {
        for bad in [
            follower(1, 4),
            Seen { now: 1, ..follower(1, 6) },
            Seen { applied: Some(at(0, 1, 7)), ..follower(1, 8) },
        ] {
            let mut invariant = AppliedMonotone::default();
            assert!(invariant.look(&[follower(1, 5), follower(2, 3)]).is_ok());
            assert!(invariant.look(&[bad]).is_err());
        }
        let mut invariant = AppliedMonotone::default();
        assert!(invariant.look(&[follower(1, 5)]).is_ok());
        let restarted = Seen { process: 7, ..follower(1, 2) };
        assert!(invariant.look(&[restarted]).is_ok());
    }
}
