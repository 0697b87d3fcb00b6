//! Who may propose. Overload is refused at once, never queued: the refusal
//! costs nothing, and what was admitted is answered in time. How many may wait depends on
//! how long they do: whoever is answered when its client has gone was worked for in vain.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How long proposals may wait for their answer before others are refused. Longer than any
/// round trip that the clockwork takes.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// So many may wait for longer: they are no queue, but what is waited for hangs.
const FEW: usize = 256;

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
    /// Milliseconds that the last one waited that was answered.
    waited: AtomicU64,
}

/// A counted proposal; gives its place back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    bytes: usize,
    /// When, if it had to pass the bounds and did.
    entered: Option<Instant>,
}

impl Gate {
    pub(crate) fn new(proposals_max: usize, bytes_max: usize) -> Self {
        Self {
            proposals: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            proposals_max,
            bytes_max,
            waited: AtomicU64::new(0),
        }
    }

    /// Counts a proposal of `bytes`, or refuses it. One that alone exceeds the
    /// bound of bytes passes when nothing else waits.
    pub(crate) fn enter(self: &Arc<Self>, bytes: usize, admission: Admission) -> Option<Place> {
        let before = self.proposals.fetch_add(1, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        let mut place = Place { gate: self.clone(), bytes, entered: None };
        let is_late = u128::from(self.waited.load(Ordering::Relaxed)) > WAIT_MAX.as_millis();
        let fits = before < if is_late { self.proposals_max.min(FEW) } else { self.proposals_max };
        let fits =
            fits && (bytes_before == 0 || bytes_before.saturating_add(bytes) <= self.bytes_max);
        if fits && admission == Admission::Ordinary {
            place.entered = Some(Instant::now());
        }
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
        if let Some(entered) = self.entered {
            let waited = u64::try_from(entered.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.gate.waited.store(waited, Ordering::Relaxed);
        }
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

    /// Thousands waited for longer than their clients did, and were answered in vain.
    #[tokio::test(start_paused = true)]
    async fn fewer_may_wait_where_they_wait_for_long() {
        let gate = Arc::new(Gate::new(4_096, usize::MAX));
        let enter = || gate.enter(1, Admission::Ordinary);
        let mut queue: std::collections::VecDeque<_> = (0..4_096).map(|_| enter()).collect();
        assert!(queue.iter().all(Option::is_some) && enter().is_none());
        tokio::time::advance(WAIT_MAX).await;
        queue.pop_front();
        assert!(enter().is_some(), "they do not wait for too long yet");
        tokio::time::advance(Duration::from_millis(2)).await;
        queue.pop_front();
        while queue.len() > FEW {
            assert!(enter().is_none());
            assert!(gate.enter(1, Admission::Bypass).is_some());
            queue.pop_front();
        }
        queue.pop_front();
        // What comes now is answered sooner, and more may come.
        drop(enter().unwrap());
        queue.extend((0..1_000).map(|_| enter()));
        assert!(queue.iter().all(Option::is_some));
    }
}
