//! Log matching: logs that have an entry in common have everything before it in
//! common. So each entry, named by term, leader and index, has one predecessor.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, Position};

use super::{Invariant, Seen};

/// The predecessor of each entry that was ever in a log.
#[derive(Default)]
pub(super) struct LogMatching {
    before: BTreeMap<(GroupId, Position), Position>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            for pair in seen.log.entries.windows(2) {
                let before = *self.before.entry((seen.group, pair[1])).or_insert(pair[0]);
                if before != pair[0] {
                    return Err(format!(
                        "{:?} of {} follows {:?} on n{}, and {before:?} elsewhere",
                        pair[1], seen.group, pair[0], seen.machine
                    ));
                }
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
    fn two_predecessors_of_one_entry_are_told() {
        let mut invariant = LogMatching::default();
        let mut conflicting = follower(2, 3);
        conflicting.log.entries.push(at(2, 2, 3));
        assert!(invariant.look(&[follower(1, 5), conflicting.clone()]).is_ok());
        conflicting.log.entries[2] = at(2, 1, 2);
        assert!(invariant.look(&[conflicting]).is_err());
    }
}
