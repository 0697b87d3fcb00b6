//! Many write one record: who is far from its leader, and so reads early and proposes late,
//! comes through, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod town;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use cardea_storage::{
    Slot, Space, Store, StoreError, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use town::Town;

/// How long the far one needs from its reads to its commit: many times as long as the near.
const FAR: Duration = Duration::from_millis(50);
/// Transactions of the far one.
const ROUNDS: u64 = 5;
/// Who writes from near.
const NEAR: u64 = 3;

/// A till, at one of two shards.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TillKey(Space);

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Till {
    #[prost(uint64, tag = "1")]
    coins: u64,
}

impl TableKey for TillKey {
    fn slot(&self) -> Slot {
        Slot::new(self.0, 7)
    }

    fn write(&self, _: &mut KeyWriter) {}

    fn read(slot: Slot, _: Tenant, _: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self(slot.space()))
    }
}

struct Tills;

impl Table for Tills {
    const TAG: Tag = Tag::TEST;
    type Key = TillKey;
    type Record = Till;
}

/// Puts a coin into each till, in one transaction that takes so long; how often it was tried.
async fn pay(store: &Arc<dyn Store>, tills: &[Space], takes: Duration) -> Result<u32, StoreError> {
    let attempts = AtomicU32::new(0);
    let paid = store.transact(|t| {
        attempts.fetch_add(1, Ordering::SeqCst);
        async move {
            for till in tills {
                let found = t.get::<Tills>(&TillKey(*till)).await?;
                let coins = found.map_or(0, |entry| entry.record.coins);
                t.put::<Tills>(&TillKey(*till), &Till { coins: coins + 1 }, None).await?;
            }
            if !takes.is_zero() {
                // The way to the leader is what is simulated.
                tokio::time::sleep(takes).await;
            }
            Ok::<_, StoreError>(())
        }
    });
    paid.await?;
    Ok(attempts.into_inner())
}

async fn coins(store: &Arc<dyn Store>, till: Space) -> u64 {
    let view = store.view(cardea_storage::store::Consistency::Strong);
    view.get::<Tills>(&TillKey(till)).await.unwrap().unwrap().record.coins
}

/// One from far away and several near ones put coins into the same tills.
async fn all_come_through(tills: &'static [Space]) {
    let town = Town::in_memory().await;
    let ends = Arc::new(AtomicBool::new(false));
    let near: Vec<_> = (0..NEAR)
        .map(|at| {
            let (store, ends) = (town.store(at as usize % 3), ends.clone());
            tokio::spawn(async move {
                let mut paid = 0_u64;
                while !ends.load(Ordering::SeqCst) {
                    pay(&store, tills, Duration::ZERO).await.unwrap();
                    paid += 1;
                }
                paid
            })
        })
        .collect();
    let mut most = 0;
    for _ in 0..ROUNDS {
        most = most.max(pay(&town.store(1), tills, FAR).await.unwrap());
    }
    ends.store(true, Ordering::SeqCst);
    let mut paid = ROUNDS;
    for writer in near {
        let by_one = writer.await.unwrap();
        assert!(by_one > 0);
        paid += by_one;
    }
    assert!(most <= 12, "the far one tried {most} times");
    for till in tills {
        assert_eq!(coins(&town.store(2), *till).await, paid, "each coin once: {till:?}");
    }
    town.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_far_from_one_shard_comes_through() {
    all_come_through(&[Space::Home]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_far_from_two_shards_comes_through() {
    all_come_through(&[Space::Home, Space::Index]).await;
}
