//! What a log keeps for replicas that are sent a snapshot.
//!
//! Who is sent one needs the entries behind it when it has come. Were they gone by then, it
//! would be sent another, and so on for ever.
//!
//! 1. When a snapshot leaves, every entry behind it is held for the replica it goes to.
//! 2. When that has ended, as it came or as it failed, entries are held from where the log of
//!    the replica matches on, as long as that moves: it takes a while to take them all.
//! 3. Who has stood still for [`STILL_MAX`] is held for no more, nor is who left the group.
//!
//! How much may be held is for whoever purges to say: it gives a bound, up to which all goes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ids::ReplicaId;

/// How long a replica without a snapshot on its way to it may stand still. A shipment that
/// failed is tried again in less than a second, and entries follow one that came at once.
const STILL_MAX: Duration = Duration::from_secs(30);

/// The holds on the log of one group.
#[derive(Default)]
pub(crate) struct Holds(Mutex<State>);

#[derive(Default)]
struct State {
    held: BTreeMap<ReplicaId, Held>,
    /// Up to here all may be gone.
    given_up: Option<u64>,
    begun: u64,
}

/// For one replica.
struct Held {
    /// What it has, or will have: entries behind it are kept.
    index: u64,
    /// Which shipment, while it is under way.
    shipment: Option<u64>,
    moved: Instant,
}

/// A snapshot on its way: the entries behind it stay.
pub(crate) struct Hold {
    holds: Arc<Holds>,
    replica: ReplicaId,
    shipment: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.holds.0.lock();
        if let Some(held) = state.held.get_mut(&self.replica)
            && held.shipment == Some(self.shipment)
        {
            (held.shipment, held.moved) = (None, Instant::now());
        }
    }
}

impl Holds {
    /// A snapshot that ends at `index` leaves for a replica. None if what is behind it may be
    /// gone already: there is a newer one.
    pub(crate) fn begin(self: &Arc<Self>, replica: ReplicaId, index: u64) -> Option<Hold> {
        let mut state = self.0.lock();
        if Some(index) < state.given_up {
            return None;
        }
        state.begun += 1;
        let shipment = state.begun;
        let held = Held { index, shipment: Some(shipment), moved: Instant::now() };
        state.held.insert(replica, held);
        Some(Hold { holds: self.clone(), replica, shipment })
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().held.is_empty()
    }

    /// How much of what is to go, up to `upto`, may go. What lies up to `bound` is not held.
    /// `matched` is how far the log of each replica is known to match; of a leader.
    pub(crate) fn give_up(
        &self,
        upto: u64,
        bound: Option<u64>,
        matched: &BTreeMap<ReplicaId, Option<u64>>,
    ) -> u64 {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.held.retain(|replica, held| {
            if held.shipment.is_some() {
                return true;
            }
            let Some(matched) = matched.get(replica) else { return false };
            if let Some(matched) = matched.filter(|matched| *matched > held.index) {
                (held.index, held.moved) = (matched, now);
            }
            now.duration_since(held.moved) < STILL_MAX
        });
        let floor = state.held.values().map(|held| held.index).min();
        let upto = floor.map_or(upto, |floor| upto.min(floor.max(bound.unwrap_or(0))));
        state.held.retain(|replica, held| {
            let stays = held.index >= upto;
            if !stays {
                tracing::warn!(
                    %replica,
                    behind = held.index,
                    upto,
                    "the log behind a snapshot became too long while that was on its way; \
                     the replica will need another"
                );
            }
            stays
        });
        state.given_up = state.given_up.max(Some(upto));
        upto
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: ReplicaId = ReplicaId(1);
    const SECOND: ReplicaId = ReplicaId(2);

    fn matched(all: &[(ReplicaId, Option<u64>)]) -> BTreeMap<ReplicaId, Option<u64>> {
        all.iter().copied().collect()
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_behind_a_snapshot_stays_while_that_is_on_its_way() {
        let holds = Arc::new(Holds::default());
        assert_eq!(holds.give_up(10, None, &matched(&[])), 10, "nothing is on its way");
        let lagging = matched(&[(FIRST, None), (SECOND, Some(900))]);
        let _first = holds.begin(FIRST, 50).unwrap();
        let second = holds.begin(SECOND, 40).unwrap();
        pass(Duration::from_secs(86_400)).await;
        assert_eq!(holds.give_up(30, None, &lagging), 30);
        assert_eq!(holds.give_up(100, None, &lagging), 40, "both need their log");
        drop(second);
        assert_eq!(holds.give_up(100, None, &lagging), 50, "the second has more already");
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_its_snapshot_is_given_time_to_take_what_follows() {
        let holds = Arc::new(Holds::default());
        drop(holds.begin(FIRST, 50).unwrap());
        for at in [None, Some(50), Some(60), Some(99)] {
            let kept = at.unwrap_or(50);
            assert_eq!(holds.give_up(100, None, &matched(&[(FIRST, at)])), kept);
            pass(STILL_MAX - Duration::from_secs(1)).await;
        }
        // It stands still.
        pass(Duration::from_secs(1)).await;
        assert_eq!(holds.give_up(100, None, &matched(&[(FIRST, Some(99))])), 100);
        assert!(holds.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_shipment_that_failed_is_held_for_no_longer_than_it_takes_to_try_again() {
        let holds = Arc::new(Holds::default());
        let nowhere = matched(&[(FIRST, None)]);
        let failed = holds.begin(FIRST, 50).unwrap();
        let again = holds.begin(FIRST, 70).unwrap();
        drop(failed);
        pass(2 * STILL_MAX).await;
        assert_eq!(holds.give_up(100, None, &nowhere), 70, "the second is on its way");
        drop(again);
        assert_eq!(holds.give_up(100, None, &nowhere), 70);
        pass(STILL_MAX).await;
        assert_eq!(holds.give_up(100, None, &nowhere), 100);
        // Nor is who left.
        drop(holds.begin(FIRST, 100).unwrap());
        assert_eq!(holds.give_up(200, None, &matched(&[(SECOND, None)])), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_held_than_may_be() {
        let holds = Arc::new(Holds::default());
        let nowhere = matched(&[(FIRST, None), (SECOND, None)]);
        let (_first, _second) = (holds.begin(FIRST, 50).unwrap(), holds.begin(SECOND, 90).unwrap());
        assert_eq!(holds.give_up(100, Some(40), &nowhere), 50);
        assert_eq!(holds.give_up(100, Some(80), &nowhere), 80, "the first comes too late");
        assert_eq!(holds.give_up(100, Some(80), &nowhere), 90, "the second may be in time");
        assert_eq!(holds.give_up(100, Some(u64::MAX), &nowhere), 100, "no more than was to go");
        assert!(holds.is_empty());
    }

    #[tokio::test]
    async fn a_snapshot_whose_log_is_gone_does_not_leave() {
        let holds = Arc::new(Holds::default());
        assert_eq!(holds.give_up(100, None, &matched(&[])), 100);
        assert!(holds.begin(FIRST, 99).is_none());
        assert!(holds.begin(FIRST, 100).is_some());
    }
}
