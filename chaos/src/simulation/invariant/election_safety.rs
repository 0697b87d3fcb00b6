//! Election safety: a leader id (term and replica) belongs to one process. Two
//! that lead under one id were elected by votes of which one was lost.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, ReplicaId, Role};

use super::{Invariant, Seen};

/// Who led under which id.
#[derive(Default)]
pub(super) struct ElectionSafety {
    led: BTreeMap<(GroupId, u64, ReplicaId), u64>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen.iter().filter(|seen| seen.status.role == Role::Leader) {
            let id = (seen.group, seen.status.term, seen.replica);
            let first = *self.led.entry(id).or_insert(seen.process);
            if first != seen.process {
                return Err(format!(
                    "processes {first} and {} both led {} in term {} as replica {}",
                    seen.process, seen.group, seen.status.term, seen.replica
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::leader, *};

    #[test]
    fn two_processes_under_one_leader_id_are_told() {
        let mut invariant = ElectionSafety::default();
        assert!(invariant.look(&[leader(1, 1, 3), leader(2, 2, 3)]).is_ok());
        assert!(invariant.look(&[leader(1, 3, 3)]).is_ok());
        let again = Seen { process: 9, ..leader(1, 3, 3) };
        assert!(invariant.look(&[again]).is_err());
    }
}
