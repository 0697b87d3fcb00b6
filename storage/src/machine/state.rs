//! What a tablet knows of itself: one row, written with every batch.

use bytes::Bytes;
use prost::Message;

use crate::{
    clock::Timestamp,
    fault::Fault,
    row::Revision,
    slot::{Slot, SlotRange},
};

/// How far a stamp may move log time, in milliseconds; a stamp further ahead is
/// ignored, unless it comes with a `Time` command.
pub const STAMP_AHEAD_MS_MAX: u64 = 10 * 60 * 1000;

/// Where an entry stands in its group's log.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Position {
    /// The term in which it was proposed.
    #[prost(uint64, tag = "1")]
    pub term: u64,
    /// The replica that proposed it.
    #[prost(uint64, tag = "2")]
    pub replica: u64,
    /// Its index.
    #[prost(uint64, tag = "3")]
    pub index: u64,
}

/// The state row of a tablet.
#[derive(Clone, PartialEq, Message)]
pub struct State {
    /// The last applied entry; `None` before the first.
    #[prost(message, optional, tag = "1")]
    pub position: Option<Position>,
    /// The group's membership, opaque.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub membership: Option<Bytes>,
    /// Log time, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub now: u64,
    /// The chain over what was applied; 32 bytes, empty at first.
    #[prost(bytes = "bytes", tag = "4")]
    pub digest: Bytes,
    /// Added to indexes to give revisions. Raised with each command of a
    /// [pack](crate::txn::pack) but the first.
    #[prost(uint64, tag = "5")]
    pub base: u64,
    /// The slot ranges owned, as pairs of first and last bits.
    #[prost(uint32, repeated, tag = "6")]
    pub ranges: Vec<u32>,
    /// Until when prepares are refused, in milliseconds of log time; 0 for not.
    #[prost(uint64, tag = "7")]
    pub fence_until: u64,
    /// The cluster version honoured.
    #[prost(uint32, tag = "8")]
    pub version: u32,
}

impl State {
    /// Log time.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// The revision of the last applied entry.
    pub fn revision(&self) -> Revision {
        Revision(self.position.map_or(0, |position| self.base + position.index))
    }

    /// The slot ranges owned.
    pub fn slot_ranges(&self) -> Vec<SlotRange> {
        let slot = |bits: u32| u16::try_from(bits).ok().and_then(Slot::from_bits);
        self.ranges
            .chunks_exact(2)
            .filter_map(|pair| SlotRange::new(slot(pair[0])?, slot(pair[1])?))
            .collect()
    }

    /// Whether a slot is owned.
    pub fn owns(&self, slot: Slot) -> bool {
        let bits = u32::from(slot.bits());
        self.ranges.chunks_exact(2).any(|pair| pair[0] <= bits && bits <= pair[1])
    }

    /// Moves log time by an ordinary stamp.
    pub(crate) fn stamp(&mut self, stamp: u64) {
        if stamp <= self.now.saturating_add(STAMP_AHEAD_MS_MAX) {
            self.now = self.now.max(stamp);
        }
    }

    pub(crate) fn decode_row(bytes: &Bytes) -> Result<Self, Fault> {
        Self::decode(bytes.clone()).map_err(|error| Fault::caused("state row of a tablet", error))
    }
}

/// The pairs of bits that say these ranges.
pub fn range_bits(ranges: &[SlotRange]) -> Vec<u32> {
    ranges
        .iter()
        .flat_map(|range| [range.first().bits().into(), range.last().bits().into()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Space;

    #[test]
    fn bytes_of_the_state_row_are_frozen() {
        let state = State {
            position: Some(Position { term: 1, replica: 2, index: 3 }),
            membership: Some(Bytes::from_static(b"m")),
            now: 4,
            digest: Bytes::from_static(b"d"),
            base: 5,
            ranges: vec![0, 4095],
            fence_until: 6,
            version: 7,
        };
        let hex: String = state.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0a0608011002180312016d180422016428053203\
                         00ff1f38064007"
        );
    }

    #[test]
    fn a_stamp_far_ahead_is_ignored() {
        let mut state = State { now: 1000, ..State::default() };
        state.stamp(1000 + STAMP_AHEAD_MS_MAX + 1);
        assert_eq!(state.now, 1000);
        state.stamp(1000 + STAMP_AHEAD_MS_MAX);
        assert_eq!(state.now, 1000 + STAMP_AHEAD_MS_MAX);
        state.stamp(5);
        assert_eq!(state.now, 1000 + STAMP_AHEAD_MS_MAX);
    }

    #[test]
    fn owned_slots_are_those_of_the_ranges() {
        let range = SlotRange::part(Space::Index, 1, 4).unwrap();
        let state = State { ranges: range_bits(&[range]), ..State::default() };
        assert_eq!(state.slot_ranges(), vec![range]);
        assert!(state.owns(Slot::new(Space::Index, 1024)));
        assert!(!state.owns(Slot::new(Space::Index, 1023)));
        assert!(!state.owns(Slot::new(Space::Home, 1024)));
    }
}
