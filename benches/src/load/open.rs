//! The open loop: requests are due when the schedule says, whatever became of those
//! before.
//!
//! A thread of its own releases what is due; any idle connection takes it. Where all
//! are busy it waits, and that wait is part of its latency, which counts from when
//! it was due and not from when it could be sent.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinSet};

use super::{Exchange, Outcome, Sample, Tally};
use crate::{
    cost::{Meter, Process},
    schedule::Schedule,
};

/// The shortest sleep between releases: at high rates waking for each arrival would
/// cost more than it tells.
const STEP_MIN: Duration = Duration::from_micros(200);

/// How long after the last arrival answers are awaited.
const GRACE: Duration = Duration::from_secs(15);

struct Shared {
    schedule: Schedule,
    started: Instant,
    warm_up: Duration,
    released: Semaphore,
    next: AtomicUsize,
    tally: Mutex<Tally>,
}

impl Shared {
    fn record(&self, due: Duration, outcome: Outcome, took: Duration) {
        if due >= self.warm_up {
            self.tally.lock().unwrap_or_else(PoisonError::into_inner).record(outcome, took);
        }
    }
}

/// Sends what the schedule says over the given connections. What is due during the
/// warm-up is sent and not counted; what is not answered 15 s after the last arrival
/// counts as broken.
pub async fn run<E: Exchange>(
    exchanges: Vec<E>,
    schedule: Schedule,
    warm_up: Duration,
    servers: &[Process],
) -> Sample {
    let connections = exchanges.len();
    let (count, length) = (schedule.len(), last_due(&schedule));
    let shared = Arc::new(Shared {
        schedule,
        started: Instant::now(),
        warm_up,
        released: Semaphore::new(0),
        next: AtomicUsize::new(0),
        tally: Mutex::default(),
    });
    let mut tasks = JoinSet::new();
    for exchange in exchanges {
        tasks.spawn(connection(exchange, shared.clone()));
    }
    let releasing = shared.clone();
    let releaser = thread::spawn(move || release(&releasing, connections));
    tokio::time::sleep_until((shared.started + warm_up).into()).await;
    let meter = Meter::start(servers);
    tokio::time::sleep_until((shared.started + length).into()).await;
    let costs = meter.stop();
    let all = async { while tasks.join_next().await.is_some() {} };
    let in_time = tokio::time::timeout(GRACE, all).await.is_ok();
    tasks.shutdown().await;
    // The schedule is over, so the thread is too, or about to be.
    let _ended = releaser.join();

    let seconds = length.saturating_sub(warm_up).as_secs_f64().max(1e-9);
    let tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
    let mut sample = tally.sample(connections, seconds, costs);
    let warm = shared.schedule.due_between(0, warm_up);
    sample.offered_per_s = Some((count - warm) as f64 / seconds);
    if !in_time {
        let heard = sample.latency.count + sample.failed();
        sample.broken += ((count - warm) as u64).saturating_sub(heard);
    }
    sample
}

fn last_due(schedule: &Schedule) -> Duration {
    schedule.len().checked_sub(1).and_then(|last| schedule.due(last)).unwrap_or_default()
}

/// Releases arrivals as they fall due; at last one for each connection, which finds
/// nothing left and ends.
fn release(shared: &Shared, connections: usize) {
    let mut released = 0;
    while let Some(due) = shared.schedule.due(released) {
        let elapsed = shared.started.elapsed();
        if elapsed < due {
            thread::sleep((due - elapsed).max(STEP_MIN));
            continue;
        }
        let count = shared.schedule.due_between(released, elapsed);
        shared.released.add_permits(count);
        released += count;
    }
    shared.released.add_permits(connections);
}

async fn connection<E: Exchange>(mut exchange: E, shared: Arc<Shared>) {
    loop {
        match shared.released.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return,
        }
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let Some(due) = shared.schedule.due(number) else { return };
        let outcome = exchange.call().await;
        shared.record(due, outcome, shared.started.elapsed().saturating_sub(due));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers one request after the other in 1 ms, and once stands
    /// still.
    struct Server {
        calls: AtomicUsize,
        stalls_at: usize,
        stall: Duration,
        busy: tokio::sync::Mutex<()>,
    }

    struct Client(Arc<Server>);

    impl Exchange for Client {
        async fn call(&mut self) -> Outcome {
            let _turn = self.0.busy.lock().await;
            if self.0.calls.fetch_add(1, Ordering::Relaxed) == self.0.stalls_at {
                // The stall that the percentiles must show.
                tokio::time::sleep(self.0.stall).await;
            }
            Outcome::Done
        }
    }

    fn clients(count: usize, stall_ms: u64) -> Vec<Client> {
        let server = Arc::new(Server {
            calls: AtomicUsize::new(0),
            stalls_at: 100,
            stall: Duration::from_millis(stall_ms),
            busy: tokio::sync::Mutex::default(),
        });
        (0..count).map(|_| Client(server.clone())).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_stall_is_paid_by_everybody_who_was_due_during_it() {
        // 200 a second for 4 s; 1 s of it the server stands still, a quarter of all.
        let schedule = Schedule::even(200.0, Duration::from_secs(4));
        let sample = run(clients(2, 1000), schedule, Duration::ZERO, &[]).await;
        assert_eq!(sample.latency.count, 800);
        assert!(sample.latency.p90_ms > 300.0, "{sample:?}");
        assert!(sample.latency.p99_ms > 800.0, "{sample:?}");
        assert!(sample.latency.p50_ms < 100.0, "{sample:?}");

        // A closed loop of the same clients meets the stall twice and hides it.
        let window = super::super::closed::Window {
            warm_up: Duration::ZERO,
            measure: Duration::from_secs(2),
        };
        let closed = super::super::closed::run(clients(2, 1000), window, &[]).await;
        assert!(closed.latency.p99_ms < 100.0, "{closed:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn arrivals_of_the_warm_up_are_not_counted() {
        let schedule = Schedule::even(500.0, Duration::from_secs(1));
        let sample = run(clients(4, 0), schedule, Duration::from_millis(500), &[]).await;
        assert!((245..=251).contains(&sample.latency.count), "{sample:?}");
        let offered = sample.offered_per_s.unwrap();
        assert!((480.0..=520.0).contains(&offered), "{offered}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_empty_schedule_ends() {
        let schedule = Schedule::even(1.0, Duration::ZERO);
        let sample = run(clients(4, 0), schedule, Duration::ZERO, &[]).await;
        assert_eq!(sample.latency.count, 0);
    }
}
