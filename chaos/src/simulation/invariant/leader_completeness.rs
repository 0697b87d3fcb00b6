//! Leader completeness: whoever leads under the newest leader id has everything
//! that was ever committed, and so everything that any replica applied.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, Position, ReplicaId, Role};

use super::{Invariant, Seen};

/// What was applied anywhere, and who led last.
#[derive(Default)]
pub(super) struct LeaderCompleteness {
    applied: BTreeMap<GroupId, BTreeMap<u64, Position>>,
    newest: BTreeMap<GroupId, (u64, ReplicaId)>,
}

/// Applied entries that are remembered of each group.
const REMEMBERED: usize = 256;

impl LeaderCompleteness {
    fn lead(&mut self, group: GroupId, id: (u64, ReplicaId)) {
        let newest = self.newest.entry(group).or_insert(id);
        *newest = id.max(*newest);
    }
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            if let Some(applied) = seen.applied {
                let known = self.applied.entry(seen.group).or_default();
                known.insert(applied.index, applied);
                if known.len() > REMEMBERED {
                    known.pop_first();
                }
                // Whoever wrote this led, though it may not have said so yet.
                self.lead(seen.group, (applied.term, applied.replica));
            }
            if seen.status.role == Role::Leader {
                self.lead(seen.group, (seen.status.term, seen.replica));
            }
        }
        for seen in seen.iter().filter(|seen| seen.status.role == Role::Leader) {
            if self.newest.get(&seen.group) != Some(&(seen.status.term, seen.replica)) {
                continue;
            }
            let Some(known) = self.applied.get(&seen.group) else { continue };
            let last = seen.log.entries.last().or(seen.log.purged.as_ref());
            let committed = known.last_key_value().map(|(_, position)| position);
            if last.map(|last| last.index) < committed.map(|committed| committed.index) {
                return Err(format!(
                    "n{} leads {} in term {} with a log up to {last:?}, but {committed:?} was applied",
                    seen.machine, seen.group, seen.status.term
                ));
            }
            let differs = seen
                .log
                .entries
                .iter()
                .find(|entry| known.get(&entry.index).is_some_and(|applied| applied != *entry));
            if let Some(entry) = differs {
                return Err(format!(
                    "n{} leads {} in term {} and has {entry:?} where {:?} was applied",
                    seen.machine,
                    seen.group,
                    seen.status.term,
                    known.get(&entry.index)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::samples::{at, follower, leader},
        *,
    };

    #[test]
    fn what_was_applied_tells_of_a_leader_that_has_not_said_so() {
        let mut invariant = LeaderCompleteness::default();
        let mut told = follower(3, 6);
        told.applied = Some(at(2, 2, 5));
        assert!(invariant.look(&[leader(1, 1, 5), told]).is_ok());
        assert!(invariant.look(&[leader(2, 2, 5)]).is_err());
    }

    #[test]
    fn a_leader_without_an_applied_entry_is_told() {
        let mut invariant = LeaderCompleteness::default();
        assert!(invariant.look(&[leader(1, 1, 5), follower(2, 4)]).is_ok());
        // The deposed one may stand still.
        assert!(invariant.look(&[leader(1, 1, 5), leader(2, 2, 6)]).is_ok());
        assert!(invariant.look(&[leader(3, 3, 5)]).is_err());
        let mut other = leader(3, 3, 6);
        other.log.entries[5] = at(2, 3, 5);
        other.applied = None;
        assert!(invariant.look(&[other]).is_err());
    }
}
