//! The closed loop: N clients, each asking again as soon as it is answered.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{Exchange, Outcome, Sample, Tally};
use crate::cost::{Meter, Process};

/// How long a client that got no answer waits, so that a dead server is not flooded
/// with connections.
const PAUSE_AFTER_BROKEN: Duration = Duration::from_millis(20);

/// Clients that share a tally: one each would cost a histogram each.
const CLIENTS_PER_TALLY: usize = 32;

/// How long is warmed up and how long is measured.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts: answers within it.
    pub measure: Duration,
}

/// Runs every exchange as a client of its own; tells what was answered in the
/// window, and what `servers` used of the processor meanwhile.
pub async fn run<E: Exchange>(exchanges: Vec<E>, window: Window, servers: &[Process]) -> Sample {
    let clients = exchanges.len();
    let from = Instant::now() + window.warm_up;
    let until = from + window.measure;
    let mut tallies = Vec::new();
    let mut tasks = JoinSet::new();
    for (number, exchange) in exchanges.into_iter().enumerate() {
        if number % CLIENTS_PER_TALLY == 0 {
            tallies.push(Arc::new(Mutex::new(Tally::default())));
        }
        if let Some(tally) = tallies.last() {
            tasks.spawn(client(exchange, from, until, tally.clone()));
        }
    }
    tokio::time::sleep_until(from.into()).await;
    let meter = Meter::start(servers);
    tokio::time::sleep_until(until.into()).await;
    let costs = meter.stop();
    while tasks.join_next().await.is_some() {}
    let mut total = Tally::default();
    for tally in tallies {
        total.merge(&tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
    total.sample(clients, window.measure.as_secs_f64(), costs)
}

async fn client<E: Exchange>(
    mut exchange: E,
    from: Instant,
    until: Instant,
    tally: Arc<Mutex<Tally>>,
) {
    loop {
        let asked = Instant::now();
        if asked >= until {
            return;
        }
        let outcome = exchange.call().await;
        let answered = Instant::now();
        if answered >= from && answered < until {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.record(outcome, answered - asked);
        }
        if outcome == Outcome::Broken {
            tokio::time::sleep(PAUSE_AFTER_BROKEN).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Paced(Duration);

    impl Exchange for Paced {
        async fn call(&mut self) -> Outcome {
            // What an answer of this server takes.
            tokio::time::sleep(self.0).await;
            Outcome::Done
        }
    }

    struct Failing;

    impl Exchange for Failing {
        async fn call(&mut self) -> Outcome {
            Outcome::Broken
        }
    }

    #[tokio::test]
    async fn each_client_waits_for_its_answer() {
        let window =
            Window { warm_up: Duration::from_millis(100), measure: Duration::from_millis(500) };
        let clients = (0..40).map(|_| Paced(Duration::from_millis(50))).collect();
        let sample = run(clients, window, &[]).await;
        // 40 clients, 50 ms each: at most 800 a second, and less on a busy machine.
        assert!((300.0..=880.0).contains(&sample.rate), "{sample:?}");
        assert!(sample.latency.p50_ms >= 50.0, "{sample:?}");
        assert_eq!(sample.clients, 40);
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_not_flooded() {
        let window = Window { warm_up: Duration::ZERO, measure: Duration::from_millis(300) };
        let sample = run(vec![Failing], window, &[]).await;
        assert!((1..=16).contains(&sample.broken), "{sample:?}");
        assert_eq!(sample.rate, 0.0);
    }
}
