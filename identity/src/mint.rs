//! Ids: the slot that an id lies in is chosen when it is drawn, and with it where what it
//! names will live.

use cardea_storage::{Slot, SlotRange, Space};
use uuid::Uuid;

use crate::Service;

impl Service {
    /// An id in a slot of this node's region, all slots alike.
    pub(crate) fn mint_local(&self) -> Uuid {
        self.mint_in(self.draw_local().1)
    }

    /// So many ids in slots of this node's region that lie together in one shard.
    pub(crate) fn mint_together(&self, count: usize) -> Vec<Uuid> {
        let (local, slot) = self.draw_local();
        let shards = self.store.shards(Space::Home);
        let shard = shards.into_iter().find(|shard| shard.contains(slot)).unwrap_or(local);
        let (first, last) = (shard.first().max(local.first()), shard.last().min(local.last()));
        let range = SlotRange::new(first, last).unwrap_or(local);
        let entropy = self.store.entropy();
        let draw = || nth(range, entropy.below(u64::from(range.count())));
        (0..count).map(|_| self.mint_in(draw())).collect()
    }

    /// An id in a slot.
    pub(crate) fn mint_in(&self, slot: Slot) -> Uuid {
        slot.mint(self.store.entropy().bytes())
    }

    /// An id that nothing is looked up by.
    pub(crate) fn mint(&self) -> Uuid {
        self.store.entropy().uuid()
    }

    /// Whether rows of both slots lie in one shard.
    pub(crate) fn same_shard(&self, a: Slot, b: Slot) -> bool {
        let together = |range: &SlotRange| range.contains(a) && range.contains(b);
        self.store.shards(Space::Home).iter().any(together)
    }

    /// A slot of this node's region, and the range of the region's that it lies in.
    fn draw_local(&self) -> (SlotRange, Slot) {
        let ranges = self.store.local_home();
        let total: u64 = ranges.iter().map(|range| u64::from(range.count())).sum();
        let mut at = self.store.entropy().below(total);
        for range in ranges {
            let count = u64::from(range.count());
            if at < count {
                return (range, nth(range, at));
            }
            at -= count;
        }
        let whole = SlotRange::whole(Space::Home);
        (whole, whole.first())
    }
}

/// The slot of a range at a place, from 0.
fn nth(range: SlotRange, at: u64) -> Slot {
    Slot::new(range.space(), range.first().number() + u16::try_from(at).unwrap_or(0))
}
