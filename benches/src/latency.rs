//! Latencies: an HDR histogram in microseconds, three digits, and what is told of
//! it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest that is told apart; whatever takes longer counts as this.
const LONGEST_US: u64 = 120_000_000;

/// Latencies that were observed.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
        Self(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds fit"))
    }
}

impl Latencies {
    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(LONGEST_US);
        self.0.saturating_record(us);
    }

    /// Adds all of another's. Percentiles of the sum are those of all observations,
    /// which no average of percentiles would be.
    pub fn merge(&mut self, other: &Latencies) {
        #[expect(clippy::expect_used, reason = "all have the same bounds")]
        self.0.add(&other.0).expect("same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// What is told of them.
    pub fn summary(&self) -> Summary {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1000.0;
        Summary {
            count: self.count(),
            mean_ms: self.0.mean() / 1000.0,
            p50_ms: at(0.5),
            p90_ms: at(0.9),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.0.max() as f64 / 1000.0,
        }
    }
}

/// A distribution of latencies in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Observations.
    pub count: u64,
    /// Their mean.
    pub mean_ms: f64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// Nine in ten took no longer.
    pub p90_ms: f64,
    /// 99 in 100 took no longer.
    pub p99_ms: f64,
    /// 999 in 1000 took no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ms: impl Iterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        ms.for_each(|ms| latencies.record(Duration::from_millis(ms)));
        latencies
    }

    #[test]
    fn merged_histograms_tell_what_one_of_all_would_have() {
        let mut merged = of(1..=900);
        merged.merge(&of(901..=1000));
        assert_eq!(merged.summary(), of(1..=1000).summary());
        let summary = merged.summary();
        assert_eq!(summary.count, 1000);
        assert!((summary.p50_ms - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p99_ms - 990.0).abs() < 1.0, "{summary:?}");
        assert!((summary.max_ms - 1000.0).abs() < 1.0, "{summary:?}");
    }

    #[test]
    fn what_is_beyond_the_bounds_is_kept_at_the_bound() {
        let mut latencies = of(std::iter::once(500_000));
        latencies.record(Duration::ZERO);
        assert_eq!(latencies.count(), 2);
        assert!(latencies.summary().max_ms >= 119_000.0);
    }

    #[test]
    fn an_empty_histogram_tells_zeros() {
        assert_eq!(Latencies::default().summary().p99_ms, 0.0);
    }
}
