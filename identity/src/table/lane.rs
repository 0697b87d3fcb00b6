//! Lanes: the slots with the last six bits clear. What is looked for over all slots
//! lies in the lane of the slot that it belongs to. Lanes are few enough to be looked
//! through, and share a shard with the slots that use them, as long as shards begin at
//! multiples of 64; where one does not, a transaction spans two shards and holds all
//! the same.

use cardea_storage::{Slot, Space, slot::SLOTS};

/// Slots that share a lane.
const LANE_SLOTS: u16 = 64;

/// How many lanes there are.
pub const LANES: usize = (SLOTS / LANE_SLOTS) as usize;

/// The lane of what lives in a slot.
pub fn lane_of(slot: Slot) -> Slot {
    Slot::new(Space::Home, slot.number() & !(LANE_SLOTS - 1))
}

/// All lanes.
pub fn lanes() -> impl Iterator<Item = Slot> {
    (0..SLOTS / LANE_SLOTS).map(|lane| Slot::new(Space::Home, lane * LANE_SLOTS))
}
