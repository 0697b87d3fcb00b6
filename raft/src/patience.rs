//! How long proposals gather while others are under way.
//!
//! A batch costs three nodes a dozen hand-offs each, whatever is in it, so a loaded
//! group wants few and large ones. But over a long way a batch that waits for the one
//! before gives a round trip away for nothing. What a proposal takes beyond what the
//! quickest took is not the way, it is waiting for processors and disks: that long
//! others may gather, for it would be spent in a queue anyway.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Bounds of how long a batch gathers.
pub(crate) const GATHER_MIN: Duration = Duration::from_millis(1);
pub(crate) const GATHER_MAX: Duration = Duration::from_millis(20);

/// What proposals of a leader took.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Smoothed, in microseconds.
    took_us: AtomicU64,
    /// The quickest of this term, in microseconds.
    quickest_us: AtomicU64,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { took_us: AtomicU64::new(0), quickest_us: AtomicU64::new(u64::MAX) }
    }

    /// A batch was answered after this time.
    pub(crate) fn took(&self, time: Duration) {
        let sample = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let before = self.took_us.load(Ordering::Relaxed);
        // Lost updates do no harm.
        self.took_us.store(before - before / 8 + sample / 8, Ordering::Relaxed);
        self.quickest_us.fetch_min(sample, Ordering::Relaxed);
    }

    /// Another leader, perhaps with other ways to its voters.
    pub(crate) fn begin_term(&self) {
        self.quickest_us.store(u64::MAX, Ordering::Relaxed);
    }

    /// How long a batch may gather now.
    pub(crate) fn gather(&self) -> Duration {
        let took = self.took_us.load(Ordering::Relaxed);
        let queued = took.saturating_sub(self.quickest_us.load(Ordering::Relaxed));
        Duration::from_micros(queued).clamp(GATHER_MIN, GATHER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples_ms: impl IntoIterator<Item = u64>) -> u128 {
        let patience = Patience::new();
        samples_ms.into_iter().for_each(|ms| patience.took(Duration::from_millis(ms)));
        patience.gather().as_millis()
    }

    #[test]
    fn who_waits_for_the_way_alone_gathers_little() {
        assert_eq!(Patience::new().gather(), GATHER_MIN);
        assert_eq!(after(std::iter::repeat_n(60, 100)), 1);
    }

    #[test]
    fn who_waits_in_queues_gathers_for_as_long() {
        let loaded = std::iter::once(2).chain(std::iter::repeat_n(12, 100));
        assert!((8..=10).contains(&after(loaded)));
        let stalled = std::iter::once(2).chain(std::iter::repeat_n(900, 100));
        assert_eq!(after(stalled), GATHER_MAX.as_millis());
    }

    #[test]
    fn a_new_term_forgets_the_quickest() {
        let patience = Patience::new();
        patience.took(Duration::from_millis(1));
        (0..100).for_each(|_| patience.took(Duration::from_millis(60)));
        assert_eq!(patience.gather(), GATHER_MAX);
        patience.begin_term();
        patience.took(Duration::from_millis(60));
        assert_eq!(patience.gather(), GATHER_MIN);
    }
}
