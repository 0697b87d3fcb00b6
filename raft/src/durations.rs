//! How long things took: a distribution that anybody may add to and read, without a
//! lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Upper bounds of the buckets, in microseconds; each twice the one before, and
/// one more bucket for what took longer than the last.
pub const BOUNDS_US: [u64; 16] = [
    50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 102_400, 204_800, 409_600,
    819_200, 1_638_400,
];

/// A distribution of durations.
#[derive(Debug, Default)]
pub struct Durations {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// What a [`Durations`] had at some moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurationCounts {
    /// How many fell between each bound of [`BOUNDS_US`] and the one before, then
    /// how many took longer than all of them.
    pub buckets: [u64; BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// Adds one.
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was added so far. What is being added meanwhile may be there in part.
    pub fn counts(&self) -> DurationCounts {
        let buckets = std::array::from_fn(|at| self.buckets[at].load(Ordering::Relaxed));
        DurationCounts { buckets, sum_us: self.sum_us.load(Ordering::Relaxed) }
    }
}

impl DurationCounts {
    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_under_the_first_bound_that_it_does_not_exceed() {
        let durations = Durations::default();
        for us in [0, 50, 51, 1_638_400, 1_638_401, 60_000_000] {
            durations.add(Duration::from_micros(us));
        }
        let counts = durations.counts();
        assert_eq!((counts.buckets[0], counts.buckets[1]), (2, 1));
        assert_eq!((counts.buckets[15], counts.buckets[16]), (1, 2));
        assert_eq!(counts.count(), 6);
        assert_eq!(counts.sum_us, 50 + 51 + 1_638_400 + 1_638_401 + 60_000_000);
    }
}
