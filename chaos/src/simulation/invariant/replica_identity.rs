//! A replica id belongs to one machine for ever: it is never used again.

use std::collections::BTreeMap;

use cardea_raft::ReplicaId;

use super::{Invariant, Seen};

/// Where each replica was first seen.
#[derive(Default)]
pub(super) struct ReplicaIdentity {
    homes: BTreeMap<ReplicaId, (usize, cardea_raft::GroupId)>,
}

impl Invariant for ReplicaIdentity {
    fn name(&self) -> &'static str {
        "a replica id is never reused"
    }

    fn look(&mut self, seen: &[Seen]) -> Result<(), String> {
        for seen in seen {
            let own = (seen.machine, seen.group);
            let first = *self.homes.entry(seen.replica).or_insert(own);
            if first != own {
                return Err(format!("replica {} is of {own:?} and was of {first:?}", seen.replica));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::follower, *};

    #[test]
    fn an_id_on_another_machine_or_in_another_group_is_told() {
        for bad in [
            Seen { machine: 3, ..follower(1, 0) },
            Seen { group: cardea_raft::GroupId(9), ..follower(1, 0) },
        ] {
            let mut invariant = ReplicaIdentity::default();
            assert!(invariant.look(&[follower(1, 1), follower(2, 1)]).is_ok());
            assert!(invariant.look(&[bad]).is_err());
        }
    }
}
