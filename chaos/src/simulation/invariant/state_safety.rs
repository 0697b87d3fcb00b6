//! State-machine safety: replicas that applied the same index applied the same
//! entry, came to the same digest and the same log time. The digest chains over
//! everything applied before, so one comparison speaks for the whole past.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, Position};

use super::{Invariant, Seen};

/// What was come to at each index.
#[derive(Default)]
pub(super) struct StateSafety {
    states: BTreeMap<(GroupId, u64), (Position, Vec<u8>, u64)>,
}

impl Invariant for StateSafety {
    fn name(&self) -> &'static str {
        "state-machine safety"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            let Some(applied) = seen.applied else { continue };
            let own = (applied, seen.digest.clone(), seen.now);
            let first =
                self.states.entry((seen.group, applied.index)).or_insert_with(|| own.clone());
            if *first != own {
                return Err(format!(
                    "n{} came to {own:02x?} at index {} of {}, and another replica to {first:02x?}",
                    seen.machine, applied.index, seen.group
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
    fn another_entry_digest_or_time_at_one_index_is_told() {
        let mut invariant = StateSafety::default();
        assert!(invariant.look(&[follower(1, 5), follower(2, 5), follower(3, 4)]).is_ok());
        for bad in [
            Seen { digest: vec![0], ..follower(2, 5) },
            Seen { now: 77, ..follower(2, 5) },
            Seen { applied: Some(at(2, 2, 4)), ..follower(2, 5) },
        ] {
            assert!(invariant.look(&[bad]).is_err());
        }
    }
}
