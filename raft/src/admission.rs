//! Who may propose. Overload is refused at once, never queued: the refusal
//! costs nothing, and what was admitted is answered in time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Whether a proposal must pass the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// What clients ask for.
    Ordinary,
    /// What must go on under load so that load can end: decisions, finishes,
    /// time, fences.
    Bypass,
}

/// Counts the proposals of a group that wait for their answer.
#[derive(Debug)]
pub(crate) struct Gate {
    proposals: AtomicUsize,
    bytes: AtomicUsize,
    proposals_max: usize,
    bytes_max: usize,
}

/// A counted proposal; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    bytes: usize,
}

impl Gate {
    pub(crate) fn new(proposals_max: usize, bytes_max: usize) -> Self {
        Self {
            proposals: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            proposals_max,
            bytes_max,
        }
    }

    /// Counts a proposal of `bytes`, or refuses it. One that alone exceeds the
    /// bound of bytes passes when nothing else waits.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, admission: Admission) -> Option<Place> {
        let before = self.proposals.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let place = Place { gate: self.clone(), bytes };
        let fits = before < self.proposals_max
            && (bytes_before == 0 || bytes_before.saturating_add(bytes) <= self.bytes_max);
        (fits || admission == Admission::Bypass).then_some(place)
    }

    /// Proposals and bytes that wait.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.proposals.load(Ordering::Acquire), self.bytes.load(Ordering::Acquire))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.proposals.fetch_sub(1, Ordering::AcqRel);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let gate = Arc::new(Gate::new(2, 100));
        let first = gate.enter(10, Admission::Ordinary).unwrap();
        let second = gate.enter(10, Admission::Ordinary).unwrap();
        assert!(gate.enter(10, Admission::Ordinary).is_none());
        let bypassed = gate.enter(10, Admission::Bypass).unwrap();
        assert_eq!(gate.waiting(), (3, 30));
        drop((first, second, bypassed));
        assert_eq!(gate.waiting(), (0, 0));
    }

    #[test]
    fn bytes_are_bounded_but_a_large_proposal_passes_alone() {
        let gate = Arc::new(Gate::new(10, 100));
        let large = gate.enter(500, Admission::Ordinary).unwrap();
        assert!(gate.enter(1, Admission::Ordinary).is_none());
        drop(large);
        let _half = gate.enter(60, Admission::Ordinary).unwrap();
        assert!(gate.enter(60, Admission::Ordinary).is_none());
        assert!(gate.enter(40, Admission::Ordinary).is_some());
    }
}
