//! When requests are due: an arrival schedule made before the first of them is
//! sent, and therefore independent of every answer.

use std::time::Duration;

use crate::random::Random;

/// Moments at which requests are due, in nanoseconds from the start, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    due_ns: Vec<u64>,
}

impl Schedule {
    /// Arrivals of a Poisson process of `rate` a second: what many independent
    /// people make.
    pub fn poisson(rate: f64, length: Duration, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (mean_ns, end_ns) = (1e9 / rate, length.as_nanos() as f64);
        let mut due_ns = Vec::with_capacity((rate * length.as_secs_f64()) as usize + 1);
        let mut at = random.exponential(mean_ns);
        while at < end_ns {
            due_ns.push(at as u64);
            at += random.exponential(mean_ns);
        }
        Self { due_ns }
    }

    /// One arrival every `1 / rate` seconds.
    pub fn even(rate: f64, length: Duration) -> Self {
        let count = (rate * length.as_secs_f64()) as u64;
        Self { due_ns: (0..count).map(|n| (n as f64 * 1e9 / rate) as u64).collect() }
    }

    /// How many requests there are.
    pub fn len(&self) -> usize {
        self.due_ns.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.due_ns.is_empty()
    }

    /// When a request is due, from the start; `None` past the last.
    pub fn due(&self, number: usize) -> Option<Duration> {
        self.due_ns.get(number).copied().map(Duration::from_nanos)
    }

    /// How many of the requests from `from` on are due at `elapsed`.
    pub fn due_between(&self, from: usize, elapsed: Duration) -> usize {
        let rest = self.due_ns.get(from..).unwrap_or_default();
        rest.partition_point(|due| Duration::from_nanos(*due) <= elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_even_schedule_is_due_at_equal_steps() {
        let schedule = Schedule::even(4.0, SECOND);
        let due: Vec<u128> =
            (0..5).filter_map(|n| schedule.due(n)).map(|due| due.as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        assert_eq!(schedule.due_between(0, Duration::from_millis(500)), 3);
        assert_eq!(schedule.due_between(3, Duration::from_millis(500)), 0);
        assert_eq!(schedule.due_between(9, SECOND), 0);
    }

    #[test]
    fn a_poisson_schedule_keeps_its_rate_and_its_seed() {
        let schedule = Schedule::poisson(1000.0, 20 * SECOND, 1);
        assert!((19_400..20_600).contains(&schedule.len()), "{}", schedule.len());
        assert_eq!(schedule, Schedule::poisson(1000.0, 20 * SECOND, 1));
        assert_ne!(schedule, Schedule::poisson(1000.0, 20 * SECOND, 2));
        let gaps: Vec<f64> = (1..schedule.len())
            .filter_map(|n| Some((schedule.due(n)? - schedule.due(n - 1)?).as_secs_f64() * 1e3))
            .collect();
        // Of an exponential distribution 1/e are above its mean.
        let above = gaps.iter().filter(|gap| **gap > 1.0).count() as f64 / gaps.len() as f64;
        assert!((above - 0.368).abs() < 0.02, "{above}");
    }
}
