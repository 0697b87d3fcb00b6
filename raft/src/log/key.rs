//! Keys of the log engine: group, kind, and for some kinds a number; all
//! big-endian, so that the rows of a group are together and its entries are in
//! order. Kinds are never reused.

use bytes::{BufMut, Bytes, BytesMut};

use crate::ids::{GroupId, ReplicaId};

const OWNER: u8 = 0x01;
const RETIRED: u8 = 0x02;
const VOTE: u8 = 0x03;
const PURGED: u8 = 0x04;
const COMMITTED: u8 = 0x05;
const ENTRY: u8 = 0x10;
const END: u8 = 0x11;

const GROUP_LEN: usize = 8;
const NUMBERED_LEN: usize = GROUP_LEN + 1 + 8;

fn plain(group: GroupId, kind: u8) -> Bytes {
    let mut key = BytesMut::with_capacity(GROUP_LEN + 1);
    key.put_u64(group.0);
    key.put_u8(kind);
    key.freeze()
}

fn numbered(group: GroupId, kind: u8, number: u64) -> Bytes {
    let mut key = BytesMut::with_capacity(NUMBERED_LEN);
    key.put_u64(group.0);
    key.put_u8(kind);
    key.put_u64(number);
    key.freeze()
}

/// The replica whose log this is.
pub(super) fn owner(group: GroupId) -> Bytes {
    plain(group, OWNER)
}

/// The mark that a replica was dropped and may never come back.
pub(super) fn retired(group: GroupId, replica: ReplicaId) -> Bytes {
    numbered(group, RETIRED, replica.0)
}

/// The vote.
pub(super) fn vote(group: GroupId) -> Bytes {
    plain(group, VOTE)
}

/// The last purged position.
pub(super) fn purged(group: GroupId) -> Bytes {
    plain(group, PURGED)
}

/// The last position known to be committed.
pub(super) fn committed(group: GroupId) -> Bytes {
    plain(group, COMMITTED)
}

/// An entry.
pub(super) fn entry(group: GroupId, index: u64) -> Bytes {
    numbered(group, ENTRY, index)
}

/// Past every entry of a group, and every other row of it.
pub(super) fn end(group: GroupId) -> Bytes {
    plain(group, END)
}

/// The group of a key, and whether it is an owner row.
pub(super) fn group_and_owner(key: &[u8]) -> Option<(GroupId, bool)> {
    let group = key.first_chunk::<GROUP_LEN>()?;
    let kind = key.get(GROUP_LEN)?;
    Some((GroupId(u64::from_be_bytes(*group)), *kind == OWNER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_keys_are_frozen() {
        let group = GroupId(0x0102);
        let cases: [(Bytes, &[u8]); 7] = [
            (owner(group), &[0, 0, 0, 0, 0, 0, 1, 2, 1]),
            (retired(group, ReplicaId(7)), &[0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 7]),
            (vote(group), &[0, 0, 0, 0, 0, 0, 1, 2, 3]),
            (purged(group), &[0, 0, 0, 0, 0, 0, 1, 2, 4]),
            (committed(group), &[0, 0, 0, 0, 0, 0, 1, 2, 5]),
            (entry(group, 0x0a0b), &[0, 0, 0, 0, 0, 0, 1, 2, 16, 0, 0, 0, 0, 0, 0, 10, 11]),
            (end(group), &[0, 0, 0, 0, 0, 0, 1, 2, 17]),
        ];
        for (key, frozen) in cases {
            assert_eq!(&key[..], frozen);
        }
    }

    #[test]
    fn the_end_of_a_group_is_past_its_last_entry_and_before_the_next_group() {
        assert!(entry(GroupId(1), u64::MAX) < end(GroupId(1)));
        assert!(end(GroupId(1)) < owner(GroupId(2)));
    }
}
