//! Load: [`closed`] is N clients that each wait for their answer, [`open`] is a
//! schedule of arrivals that waits for nobody.
//!
//! A closed loop finds what a system can do; the latency it tells is that of its
//! own politeness, since a stalled system stalls the questions too. An open loop at
//! a rate below that finds what people would meet: latency counts from the moment a
//! request was due, so a stall is paid by everybody who came during it (no
//! coordinated omission).

pub mod closed;
pub mod open;

use std::{collections::BTreeMap, future::Future, time::Duration};

use serde::Serialize;

use crate::{
    cost::Cost,
    latency::{Latencies, Summary},
};

/// One client: it asks one question after the other.
pub trait Exchange: Send + 'static {
    /// Asks once and awaits the whole answer.
    fn call(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// How a question ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Done,
    /// With another status.
    Refused(u16),
    /// Without an answer: no connection, cut, too late.
    Broken,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    latencies: Latencies,
    refused: BTreeMap<u16, u64>,
    broken: u64,
}

impl Tally {
    /// Counts an outcome. Latency is of what was done; a refusal is fast or slow
    /// for other reasons.
    pub fn record(&mut self, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Done => self.latencies.record(took),
            Outcome::Refused(status) => *self.refused.entry(status).or_default() += 1,
            Outcome::Broken => self.broken += 1,
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Tally) {
        self.latencies.merge(&other.latencies);
        for (status, count) in &other.refused {
            *self.refused.entry(*status).or_default() += count;
        }
        self.broken += other.broken;
    }

    /// The tally as a sample of a measurement that took `seconds`.
    pub fn sample(&self, clients: usize, seconds: f64, costs: Vec<Cost>) -> Sample {
        Sample {
            clients,
            offered_per_s: None,
            seconds,
            rate: self.latencies.count() as f64 / seconds,
            latency: self.latencies.summary(),
            refused: self.refused.clone(),
            broken: self.broken,
            costs,
        }
    }
}

/// What a measurement found.
#[derive(Debug, Clone, Serialize)]
pub struct Sample {
    /// Clients, or the connections of an open loop.
    pub clients: usize,
    /// Arrivals a second of an open loop.
    pub offered_per_s: Option<f64>,
    /// How long it measured, in seconds.
    pub seconds: f64,
    /// Done a second.
    pub rate: f64,
    /// Of what was done.
    pub latency: Summary,
    /// Refusals by status.
    pub refused: BTreeMap<u16, u64>,
    /// Without an answer.
    pub broken: u64,
    /// What each process used meanwhile.
    pub costs: Vec<Cost>,
}

impl Sample {
    /// How many did not end as they should.
    pub fn failed(&self) -> u64 {
        self.broken + self.refused.values().sum::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let ms = Duration::from_millis;
        let mut one = Tally::default();
        one.record(Outcome::Done, ms(10));
        one.record(Outcome::Refused(429), ms(1));
        let mut other = Tally::default();
        other.record(Outcome::Done, ms(30));
        other.record(Outcome::Refused(429), ms(1));
        other.record(Outcome::Refused(503), ms(1));
        other.record(Outcome::Broken, ms(1));
        one.merge(&other);
        let sample = one.sample(2, 0.5, Vec::new());
        assert_eq!(sample.rate, 4.0);
        assert_eq!(sample.refused, BTreeMap::from([(429, 2), (503, 1)]));
        assert_eq!(sample.failed(), 4);
        assert!((sample.latency.mean_ms - 20.0).abs() < 0.1);
    }
}
