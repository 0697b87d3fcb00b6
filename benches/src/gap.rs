//! The gap that the loss of a leader leaves: writes go on being begun at a steady
//! pace, whatever becomes of those before, and the longest time without an
//! acknowledged one around the kill is the gap.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::load::{Exchange, Outcome};

/// Between two writes.
const PACE: Duration = Duration::from_millis(10);
/// Writes before the kill.
const BEFORE: Duration = Duration::from_millis(1000);
/// Writes after the first acknowledged one after the gap: it may stutter.
const AFTER: Duration = Duration::from_millis(1500);
/// The longest gap that is awaited.
const LONGEST: Duration = Duration::from_secs(30);

/// One kill.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gap {
    /// The longest time without an acknowledged write, from the last one before the
    /// kill on, in milliseconds.
    pub gap_ms: f64,
    /// Writes acknowledged.
    pub acknowledged: u64,
    /// Writes refused, or without an answer.
    pub failed: u64,
}

#[derive(Default)]
struct Seen {
    acknowledged: Vec<Instant>,
    failed: u64,
}

/// Lets the writers write, each its own next write once its last is answered, begun
/// in turns 10 ms apart; kills; and measures.
///
/// # Errors
/// If nothing is acknowledged before the kill, or not again within 30 s of it.
pub async fn measure<E: Exchange>(
    writers: Vec<E>,
    kill: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Gap> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let idle = Arc::new(Mutex::new(writers));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    let mut pace = tokio::time::interval(PACE);
    let (mut kill, mut killed_at) = (Some(kill), None);
    loop {
        pace.tick().await;
        let writer = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(writer) = writer {
            tasks.spawn(write(writer, idle.clone(), seen.clone()));
        }
        while tasks.try_join_next().is_some() {}
        if started.elapsed() >= BEFORE
            && let Some(kill) = kill.take()
        {
            kill()?;
            killed_at = Some(Instant::now());
        }
        let Some(killed_at) = killed_at else { continue };
        let last = {
            let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let first = seen.acknowledged.iter().find(|at| **at > killed_at + PACE * 5);
            first.copied()
        };
        match last {
            Some(first) if first.elapsed() >= AFTER => break,
            None if killed_at.elapsed() >= LONGEST => {
                anyhow::bail!("no write was acknowledged within {LONGEST:?} of the kill")
            }
            _ => {}
        }
    }
    tasks.shutdown().await;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let gap = killed_at.and_then(|killed_at| longest(&seen.acknowledged, killed_at));
    let gap = gap.ok_or_else(|| anyhow::anyhow!("no write was acknowledged before the kill"))?;
    Ok(Gap {
        gap_ms: gap.as_secs_f64() * 1e3,
        acknowledged: seen.acknowledged.len() as u64,
        failed: seen.failed,
    })
}

async fn write<E: Exchange>(mut writer: E, idle: Arc<Mutex<Vec<E>>>, seen: Arc<Mutex<Seen>>) {
    let outcome = writer.call().await;
    {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Outcome::Done => seen.acknowledged.push(Instant::now()),
            _ => seen.failed += 1,
        }
    }
    // To the front: the next turn is another's.
    idle.lock().unwrap_or_else(PoisonError::into_inner).insert(0, writer);
}

/// The longest time between two that follow each other, from the last one before
/// `killed_at` on. They are in the order in which they were acknowledged.
fn longest(acknowledged: &[Instant], killed_at: Instant) -> Option<Duration> {
    let before = acknowledged.iter().rposition(|at| *at <= killed_at)?;
    let pairs = acknowledged[before..].windows(2);
    pairs.map(|pair| pair[1] - pair[0]).max()
}

/// What is told of many kills.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gaps {
    /// In the middle, in milliseconds.
    pub median_ms: f64,
    /// The longest, in milliseconds.
    pub worst_ms: f64,
    /// Each.
    pub kills: Vec<Gap>,
}

impl Gaps {
    /// Of some kills; `None` of none.
    pub fn of(kills: Vec<Gap>) -> Option<Self> {
        let mut sorted: Vec<f64> = kills.iter().map(|kill| kill.gap_ms).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = sorted.get(middle).copied()?;
        let median_ms = match sorted.len() % 2 {
            0 => f64::midpoint(sorted.get(middle - 1).copied()?, upper),
            _ => upper,
        };
        Some(Self { median_ms, worst_ms: sorted.last().copied()?, kills })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Writer {
        down: Arc<AtomicBool>,
    }

    impl Exchange for Writer {
        async fn call(&mut self) -> Outcome {
            if self.down.load(Ordering::Relaxed) { Outcome::Broken } else { Outcome::Done }
        }
    }

    #[tokio::test]
    async fn the_gap_is_the_time_without_an_acknowledged_write() {
        let down = Arc::new(AtomicBool::new(false));
        let writers = (0..8).map(|_| Writer { down: down.clone() }).collect();
        let gap = measure(writers, || {
            down.store(true, Ordering::Relaxed);
            let down = down.clone();
            tokio::spawn(async move {
                // The server is down for this long: what is to be measured.
                tokio::time::sleep(Duration::from_millis(400)).await;
                down.store(false, Ordering::Relaxed);
            });
            Ok(())
        })
        .await
        .unwrap();
        assert!((380.0..700.0).contains(&gap.gap_ms), "{gap:?}");
        assert!(gap.failed > 10 && gap.acknowledged > 100, "{gap:?}");
    }

    #[test]
    fn only_what_follows_the_kill_counts() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let acknowledged = [at(0), at(900), at(1000), at(1010), at(1400), at(1410)];
        assert_eq!(longest(&acknowledged, at(1005)), Some(Duration::from_millis(390)));
        assert_eq!(longest(&acknowledged[4..], at(1005)), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let gap = |gap_ms| Gap { gap_ms, acknowledged: 1, failed: 0 };
        let gaps = Gaps::of(vec![gap(30.0), gap(10.0), gap(20.0), gap(90.0)]).unwrap();
        assert_eq!((gaps.median_ms, gaps.worst_ms), (25.0, 90.0));
        assert_eq!(Gaps::of(vec![gap(3.0)]).unwrap().median_ms, 3.0);
        assert_eq!(Gaps::of(Vec::new()), None);
    }
}
