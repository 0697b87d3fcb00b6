//! How many snapshots a node sends at once, and how fast: what fills a replica takes the same
//! disks and wires as what people wait for.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

/// Large snapshots on their way from one node at once. While one is, its log grows behind it, so
/// those that wait for their turn get by with less than all of them side by side.
const AT_ONCE: usize = 2;
/// Bytes of a snapshot that waits for nobody. Where the directory is, or a group without a
/// quorum, others cannot do without it until then.
pub(super) const SMALL_MAX: u64 = 32 << 20;

/// A snapshot may be on its way as long as it is kept.
pub(super) struct Turn(
    #[expect(dead_code, reason = "held, not read")] Option<OwnedSemaphorePermit>,
);

/// What all snapshots that a node sends have in common.
#[derive(Clone)]
pub(super) struct Convoy {
    turns: Arc<Semaphore>,
    road: Arc<Mutex<Instant>>,
    bytes_per_second: u64,
}

impl Convoy {
    /// `bytes_per_second` of all of them together; at least one.
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            road: Arc::new(Mutex::new(Instant::now())),
            bytes_per_second: bytes_per_second.max(1),
        }
    }

    /// The turn of one more snapshot of so many bytes, if it may be sent now. It is on its way
    /// for as long as the turn is kept.
    pub(super) fn turn_now(&self, bytes: u64) -> Option<Turn> {
        if bytes <= SMALL_MAX {
            return Some(Turn(None));
        }
        self.turns.clone().try_acquire_owned().ok().map(|permit| Turn(Some(permit)))
    }

    /// Waits for the turn of a snapshot of so many bytes. Who waited should look whether there
    /// is a newer one by then: the log behind an old one may be gone.
    pub(super) async fn turn(&self, bytes: u64) -> Turn {
        if bytes <= SMALL_MAX {
            return Turn(None);
        }
        // It is never closed.
        Turn(self.turns.clone().acquire_owned().await.ok())
    }

    /// Waits until `bytes` more may be sent.
    pub(super) async fn pass(&self, bytes: usize) {
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let at = {
            let mut free = self.road.lock();
            let at = (*free).max(Instant::now());
            *free = at + takes;
            at
        };
        sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn all_together_are_no_faster_than_they_may_be() {
        let convoy = Convoy::new(1 << 20);
        let began = Instant::now();
        let senders = (0..8).map(|_| {
            let convoy = convoy.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    convoy.pass(128 << 10).await;
                }
            })
        });
        futures::future::join_all(senders).await;
        // Ten mebibytes, of which the last piece has just been let go.
        assert_eq!(began.elapsed().as_millis(), 9_875);
        // What was not used is not saved up.
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        convoy.pass(1 << 20).await;
        convoy.pass(1).await;
        assert_eq!(began.elapsed().as_millis(), 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_two_large_ones_are_on_their_way_at_once() {
        let convoy = Convoy::new(u64::MAX);
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(convoy.turn(u64::MAX).await);
        }
        assert!(convoy.turn_now(SMALL_MAX + 1).is_none());
        assert!(convoy.turn_now(SMALL_MAX).is_some());
        let wait = Duration::from_secs(3_600);
        assert!(tokio::time::timeout(wait, convoy.turn(SMALL_MAX + 1)).await.is_err());
        assert!(tokio::time::timeout(wait, convoy.turn(SMALL_MAX)).await.is_ok());
        turns.pop();
        assert!(tokio::time::timeout(wait, convoy.turn(SMALL_MAX + 1)).await.is_ok());
    }
}
