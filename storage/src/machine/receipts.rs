//! Which receipts there may be: for most transactions the certain answer that there is
//! none, without a look into the engine.
//!
//! A print is 32 bits of a request id. Two ids may share one, so a print that is here
//! says that the engine must be asked, and one that is not here says that no receipt
//! lives. Prints lie in buckets by when their receipts expire; a bucket goes when log
//! time has passed all of it, for an expired receipt counts as absent whether or not it
//! was dropped.
//!
//! *Bound.* A receipt lives for 70 s at most ([`NOT_AFTER_MS_MAX`](crate::txn::NOT_AFTER_MS_MAX)
//! and [`GRACE_MS`](crate::txn::GRACE_MS)) and its print up to a bucket longer. A print
//! costs five to eleven bytes: for 5,000 transactions a second all of them cost at most
//! 6 MB, and half as much more while a table grows.
//!
//! *Opening.* Ids begin with the time at which they were made, so the newest receipts
//! are the last ones. Those are read, a few thousand, and of ids before the first of
//! them nothing is claimed until the tablet is opened again.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use super::area;
use crate::{
    clock::Timestamp,
    engine::{Order, View},
    fault::Fault,
    row,
    txn::RequestId,
};

/// The time that one bucket is for, in milliseconds of log time.
const BUCKET_MS: u64 = 1 << 15;
/// Receipts read when a tablet is opened, at most.
const LOADED_MAX: usize = 4096;
/// An odd number whose bits are spread: two to the 64th over the golden ratio.
const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// Prints of receipts.
#[derive(Debug)]
pub(super) struct Receipts {
    /// All receipts of this id and greater ones are here.
    since: RequestId,
    /// By expiry over [`BUCKET_MS`].
    buckets: BTreeMap<u64, Prints>,
}

impl Default for Receipts {
    /// Of a tablet that has none.
    fn default() -> Self {
        Self { since: RequestId([0; 16]), buckets: BTreeMap::new() }
    }
}

impl Receipts {
    /// Those that may be in a view, at this log time of it.
    pub(super) fn load(view: &dyn View, now: Timestamp) -> Result<Self, Fault> {
        Self::load_newest(view, now, LOADED_MAX)
    }

    fn load_newest(view: &dyn View, now: Timestamp, most: usize) -> Result<Self, Fault> {
        let (mut receipts, mut left) = (Self::default(), most);
        let mut failed = None;
        view.scan(
            Bound::Included(&[area::RECEIPT]),
            Bound::Excluded(&[area::RECEIPT + 1]),
            Order::Reverse,
            &mut |key, value| {
                let Some(id) = RequestId::from_slice(&key[1..]) else {
                    failed = Some(Fault::new("a receipt has no request id"));
                    return ControlFlow::Break(());
                };
                // What has no expiry is of a form that only the engine's reader judges.
                let expires_at = row::expiry_of(value).unwrap_or(u64::MAX);
                if now.0 < expires_at {
                    receipts.note(id, Timestamp(expires_at));
                }
                receipts.since = id;
                left = left.saturating_sub(1);
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        )?;
        if left > 0 {
            // There were no others.
            receipts.since = RequestId([0; 16]);
        }
        failed.map_or(Ok(receipts), Err)
    }

    /// Whether it is certain that the transaction has no receipt that lives.
    pub(super) fn lacks(&self, id: RequestId) -> bool {
        let print = print(id);
        id >= self.since && !self.buckets.values().any(|bucket| bucket.contains(print))
    }

    /// A receipt was written.
    pub(super) fn note(&mut self, id: RequestId, expires_at: Timestamp) {
        self.buckets.entry(expires_at.0 / BUCKET_MS).or_default().insert(print(id));
    }

    /// Log time has come to `now`, and will not go back.
    pub(super) fn pass(&mut self, now: Timestamp) {
        while let Some(first) = self.buckets.first_entry()
            && *first.key() < now.0 / BUCKET_MS
        {
            first.remove();
        }
    }
}

/// Never 0, and spread evenly over the other numbers.
fn print(id: RequestId) -> u32 {
    let [mut head, mut tail] = [[0; 8]; 2];
    head.copy_from_slice(&id.0[..8]);
    tail.copy_from_slice(&id.0[8..]);
    let mixed = u64::from_be_bytes(head).wrapping_mul(MIX) ^ u64::from_be_bytes(tail);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(MIX) >> 32;
    (mixed as u32).max(1)
}

/// A set of prints. They are hashes already, so each stands where its lowest bits say,
/// or in the next cell that was free.
#[derive(Debug, Default)]
struct Prints {
    /// A power of two of them, at most three quarters taken; 0 is a free one.
    cells: Vec<u32>,
    taken: usize,
}

impl Prints {
    fn contains(&self, print: u32) -> bool {
        !self.cells.is_empty() && self.cells[self.place(print)] == print
    }

    fn insert(&mut self, print: u32) {
        if (self.taken + 1) * 4 > self.cells.len() * 3 {
            let larger = vec![0; (self.cells.len() * 2).max(16)];
            let former = std::mem::replace(&mut self.cells, larger);
            for print in former.into_iter().filter(|cell| *cell != 0) {
                let place = self.place(print);
                self.cells[place] = print;
            }
        }
        let place = self.place(print);
        self.taken += usize::from(self.cells[place] == 0);
        self.cells[place] = print;
    }

    /// The cell of a print, or the free one that it would take.
    fn place(&self, print: u32) -> usize {
        let mask = self.cells.len() - 1;
        let mut place = print as usize & mask;
        while self.cells[place] != 0 && self.cells[place] != print {
            place = (place + 1) & mask;
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::{
        engine::{Batch, Disk, Durability, Engine, EngineOptions, Purpose, memory::MemoryDisk},
        row::{Revision, Stored},
    };

    fn id(number: u64) -> RequestId {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        RequestId(id)
    }

    fn engine() -> std::sync::Arc<dyn Engine> {
        let options = EngineOptions { purpose: Purpose::Tablet, retention: None };
        MemoryDisk::new(1).open(Path::new("t"), options).unwrap()
    }

    fn write(engine: &dyn Engine, id: RequestId, expires_at: u64) {
        let expires_at = Some(Timestamp(expires_at)).filter(|at| at.0 != 0);
        let stored = Stored { revision: Revision(1), expires_at, value: Bytes::new() };
        let mut batch = Batch::new();
        batch.put(area::txn_key(area::RECEIPT, id), stored.encode());
        engine.write(batch, Durability::Buffered).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_lacked_does_not_live(
            before in prop::collection::vec((0..40_u64, 1..200_000_u64), 0..40),
            opened in 0..100_000_u64,
            most in 1..30_usize,
            after in prop::collection::vec((0..40_u64, 1..200_000_u64, 0..20_000_u64), 0..40),
        ) {
            let engine = engine();
            let mut model = BTreeMap::new();
            for (number, expires_at) in before {
                write(engine.as_ref(), id(number), expires_at);
                model.insert(number, expires_at);
            }
            let view = engine.view().unwrap();
            let mut now = opened;
            let mut receipts =
                Receipts::load_newest(view.as_ref(), Timestamp(now), most).unwrap();
            for (number, expires_at, by) in after {
                for number in 0..41 {
                    let lives = model.get(&number).is_some_and(|at| now < *at);
                    prop_assert!(!(lives && receipts.lacks(id(number))), "{number} lives");
                }
                // Of what is greater than all, it is known.
                prop_assert!(receipts.lacks(id(41)));
                now += by;
                receipts.pass(Timestamp(now));
                receipts.note(id(number), Timestamp(expires_at));
                model.insert(number, expires_at);
            }
        }
    }

    proptest! {
        #[test]
        fn a_set_of_prints_is_a_set(prints in prop::collection::vec(1..300_u32, 0..200)) {
            let (mut set, mut model) = (Prints::default(), std::collections::BTreeSet::new());
            for print in prints {
                // All in few cells' places, so that they get in each other's way.
                let print = print << 3;
                set.insert(print);
                model.insert(print);
                prop_assert_eq!(set.taken, model.len());
            }
            for print in 1..2_500 {
                prop_assert_eq!(set.contains(print), model.contains(&print));
            }
        }
    }

    #[test]
    fn few_receipts_are_known_all_and_of_many_the_newest() {
        let engine = engine();
        for number in 1..=10 {
            write(engine.as_ref(), id(number), 1_000_000);
        }
        let view = engine.view().unwrap();
        let load = |most| Receipts::load_newest(view.as_ref(), Timestamp(5), most).unwrap();
        assert!(load(11).lacks(id(0)));
        assert!(!load(11).lacks(id(1)));
        assert!(!load(3).lacks(id(0)), "it may be one that was not read");
        assert!(!load(3).lacks(id(9)));
        assert!(load(3).lacks(id(11)));
    }

    #[test]
    fn prints_go_when_log_time_has_passed_their_bucket() {
        let mut receipts = Receipts::default();
        receipts.note(id(1), Timestamp(BUCKET_MS - 1));
        receipts.note(id(2), Timestamp(BUCKET_MS));
        receipts.pass(Timestamp(BUCKET_MS - 1));
        assert!(!receipts.lacks(id(1)));
        receipts.pass(Timestamp(BUCKET_MS));
        assert!(receipts.lacks(id(1)));
        assert!(!receipts.lacks(id(2)));
        receipts.pass(Timestamp(2 * BUCKET_MS));
        assert!(receipts.buckets.is_empty());
    }

    #[test]
    fn prints_of_what_was_made_together_differ() {
        let mut prints: Vec<u32> = (0..20_000).map(|number| print(id(number))).collect();
        prints.extend((0..20_000_u128).map(|number| print(RequestId(number.to_be_bytes()))));
        prints.sort_unstable();
        prints.dedup();
        assert!(prints.len() > 39_900, "{}", prints.len());
    }

    #[test]
    fn a_receipt_of_unknown_form_is_left_to_its_reader() {
        let engine = engine();
        let mut batch = Batch::new();
        batch.put(area::txn_key(area::RECEIPT, id(1)), Bytes::from_static(b"?"));
        engine.write(batch, Durability::Buffered).unwrap();
        let view = engine.view().unwrap();
        let receipts = Receipts::load(view.as_ref(), Timestamp(u64::MAX - 1)).unwrap();
        assert!(!receipts.lacks(id(1)));
    }
}
