//! What transactions hold of a tablet: the keys of its locks, prepared transactions
//! and decisions, in memory.
//!
//! They are few and mostly none, but every check and every op asks for the lock of
//! its key. Knowing the keys makes the common answer, that there is none, free of the
//! engine. The rows themselves stay where they are: what is held here follows from
//! them, and is read from them whenever a tablet is opened.

use std::{
    collections::BTreeSet,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use super::area;
use crate::{
    engine::{Order, View},
    fault::Fault,
};

/// The areas whose keys are known.
const FIRST: u8 = area::LOCK;
const LAST: u8 = area::DECISION;

/// Engine keys of locks, prepared transactions and decisions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Held {
    keys: BTreeSet<Bytes>,
    locks: usize,
}

impl Held {
    /// What is held in a view.
    pub(super) fn load(view: &dyn View) -> Result<Self, Fault> {
        let mut held = Self::default();
        view.scan(
            Bound::Included(&[FIRST]),
            Bound::Excluded(&[LAST + 1]),
            Order::Forward,
            &mut |key, _| {
                held.add(Bytes::copy_from_slice(key));
                ControlFlow::Continue(())
            },
        )?;
        Ok(held)
    }

    /// Whether the key is certainly absent. Only of the areas that are known.
    pub(super) fn lacks(&self, key: &[u8]) -> bool {
        is_known(key) && !self.keys.contains(key)
    }

    /// Whether a range lies in one area that is known.
    pub(super) fn knows(start: &[u8], end: &[u8]) -> bool {
        is_known(start) && is_known(end) && start.first() == end.first()
    }

    /// The keys of a range, in order.
    pub(super) fn range(&self, start: &Bytes, end: &Bytes) -> impl Iterator<Item = &Bytes> {
        self.keys.range(start.clone()..end.clone())
    }

    /// A row was put.
    pub(super) fn note_put(&mut self, key: &Bytes) {
        if is_known(key) {
            self.add(key.clone());
        }
    }

    /// A row was deleted.
    pub(super) fn note_delete(&mut self, key: &Bytes) {
        if is_known(key) && self.keys.remove(key) && is_lock(key) {
            self.locks -= 1;
        }
    }

    /// Whether there is any lock.
    pub(super) fn has_locks(&self) -> bool {
        self.locks > 0
    }

    fn add(&mut self, key: Bytes) {
        let lock = is_lock(&key);
        if self.keys.insert(key) && lock {
            self.locks += 1;
        }
    }
}

fn is_known(key: &[u8]) -> bool {
    key.first().is_some_and(|area| (FIRST..=LAST).contains(area))
}

fn is_lock(key: &[u8]) -> bool {
    key.first() == Some(&area::LOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(area: u8, rest: &[u8]) -> Bytes {
        area::key(area, rest)
    }

    #[test]
    fn absence_is_claimed_of_known_areas_alone() {
        let mut held = Held::default();
        for area in [area::LOCK, area::PREPARED, area::DECISION] {
            assert!(held.lacks(&key(area, b"k")));
            held.note_put(&key(area, b"k"));
            held.note_put(&key(area, b"k"));
            assert!(!held.lacks(&key(area, b"k")));
        }
        for area in [area::META, area::RECEIPT, area::ROW] {
            held.note_put(&key(area, b"k"));
            assert!(!held.lacks(&key(area, b"other")));
        }
        assert_eq!(held.keys.len(), 3);
    }

    #[test]
    fn locks_are_counted_once_and_ranges_are_in_order() {
        let mut held = Held::default();
        assert!(!held.has_locks());
        for name in [b"b", b"a", b"b", b"c"] {
            held.note_put(&key(area::LOCK, name));
        }
        held.note_put(&key(area::PREPARED, b"b"));
        let (start, end) = (key(area::LOCK, b"a"), key(area::LOCK, b"c"));
        assert!(Held::knows(&start, &end));
        let met: Vec<_> = held.range(&start, &end).cloned().collect();
        assert_eq!(met, [key(area::LOCK, b"a"), key(area::LOCK, b"b")]);
        for name in [b"a", b"b", b"b", b"c"] {
            assert!(held.has_locks());
            held.note_delete(&key(area::LOCK, name));
        }
        assert!(!held.has_locks());
        assert!(!held.lacks(&key(area::PREPARED, b"b")));
    }

    #[test]
    fn ranges_over_other_areas_are_not_known() {
        assert!(!Held::knows(&key(area::ROW, b"a"), &key(area::ROW, b"b")));
        assert!(!Held::knows(&key(area::LOCK, b"a"), &key(area::PREPARED, b"a")));
    }
}
