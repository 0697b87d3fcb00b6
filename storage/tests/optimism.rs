//! The optimistic attempt of a transaction, over a replica that lags: what it read
//! there never becomes anybody's answer unless a commit validated it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "over_shards/tables.rs"]
#[allow(dead_code, reason = "shared with other tests, which use more of it")]
mod tables;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, ManualClock, SeededEntropy, Slot, Store, StoreError, Through, Timestamp,
    engine::memory::MemoryDisk,
    local::LocalShards,
    protocol::pin::Pinned,
    store::{ReadAnswer, ReadRequest},
};
use tables::{Account, AccountKey, Accounts};

/// Reads that are not strong see a store in which nothing was ever written.
struct Lagging {
    current: Arc<dyn Store>,
    behind: Arc<dyn Store>,
    strong_reads: AtomicUsize,
}

#[async_trait]
impl Through for Lagging {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.current
    }

    async fn pin(&self, _: Slot, _: &Consistency) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        if request.consistency == Consistency::Strong {
            self.strong_reads.fetch_add(1, Ordering::Relaxed);
            return self.current.read(request).await;
        }
        self.behind.read(request).await
    }
}

fn a_store() -> Arc<dyn Store> {
    let clock = Arc::new(ManualClock::new(Timestamp(1_700_000_000_000)));
    let disk = MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, Path::new("/store"), 2, clock).unwrap();
    shards.store(Arc::new(SeededEntropy::new(7)))
}

/// A store in which account 1 has 10, and whose lagging replica does not know it.
async fn lagging() -> (Arc<Lagging>, Arc<dyn Store>) {
    let lagging = Arc::new(Lagging {
        current: a_store(),
        behind: a_store(),
        strong_reads: AtomicUsize::new(0),
    });
    let store: Arc<dyn Store> = lagging.clone();
    open(&lagging.current, 1, 10).await.unwrap();
    (lagging, store)
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("there is such an account")]
    Present,
    #[error("there is no such account")]
    Absent,
    #[error(transparent)]
    Store(#[from] StoreError),
}

async fn open(store: &Arc<dyn Store>, number: u16, balance: i64) -> Result<(), Refused> {
    let opened = store.transact(|t| async move {
        if t.get::<Accounts>(&AccountKey(number)).await?.is_some() {
            return Err(Refused::Present);
        }
        t.put::<Accounts>(&AccountKey(number), &Account { balance }, None).await?;
        Ok(())
    });
    opened.await.map(|_| ())
}

#[tokio::test]
async fn a_write_that_rests_on_a_stale_read_is_decided_again() {
    let (lagging, store) = lagging().await;
    let again = open(&store, 1, 99).await;
    assert!(matches!(again, Err(Refused::Present)), "{again:?}");
    let view = lagging.current.view(Consistency::Strong);
    let kept = view.get::<Accounts>(&AccountKey(1)).await.unwrap().unwrap();
    assert_eq!(kept.record.balance, 10);
}

#[tokio::test]
async fn a_refusal_that_rests_on_a_stale_read_is_decided_again() {
    let (_, store) = lagging().await;
    let spent = store.transact(|t| async move {
        let account = t.get::<Accounts>(&AccountKey(1)).await?.ok_or(Refused::Absent)?;
        let balance = account.record.balance - 1;
        t.put::<Accounts>(&AccountKey(1), &Account { balance }, None).await?;
        Ok::<_, Refused>(balance)
    });
    assert_eq!(spent.await.unwrap().value, 9);
}

#[tokio::test]
async fn an_answer_without_a_write_is_read_strongly() {
    let (lagging, store) = lagging().await;
    let told = store.transact(|t| async move {
        let account = t.get::<Accounts>(&AccountKey(1)).await?;
        Ok::<_, StoreError>(account.map(|account| account.record.balance))
    });
    assert_eq!(told.await.unwrap().value, Some(10));
    assert_eq!(lagging.strong_reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_becomes_no_check_is_read_strongly_at_once() {
    let (lagging, store) = lagging().await;
    let copied = store.transact(|t| async move {
        // Tracked and fresh enough on the lagging replica: nobody wrote it.
        let target = t.get::<Accounts>(&AccountKey(2)).await?;
        let source = t.peek::<Accounts>(&AccountKey(1)).await?.ok_or(Refused::Absent)?;
        let balance = source.record.balance + target.map_or(0, |account| account.record.balance);
        t.put::<Accounts>(&AccountKey(2), &Account { balance }, None).await?;
        Ok::<_, Refused>(balance)
    });
    assert_eq!(copied.await.unwrap().value, 10);
    assert_eq!(lagging.strong_reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_transaction_of_fresh_reads_asks_nobody_but_the_commit() {
    let (lagging, store) = lagging().await;
    open(&store, 3, 1).await.unwrap();
    assert_eq!(lagging.strong_reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_leads_is_the_nearest_replicas_but_for_absence() {
    let (lagging, store) = lagging().await;
    for there in [&lagging.behind, &lagging.current] {
        open(there, 2, 20).await.unwrap();
    }
    let strong_reads = || lagging.strong_reads.load(Ordering::Relaxed);
    let led = store.transact(|t| async move {
        let leads = async |number| {
            let found = t.lead::<Accounts>(&AccountKey(number)).await?;
            Ok::<_, StoreError>(found.map(|account| account.record.balance))
        };
        assert!(t.may_mislead());
        assert_eq!((leads(2).await?, strong_reads()), (Some(20), 0));
        // It may only not have arrived.
        assert_eq!((leads(1).await?, strong_reads()), (Some(10), 1));
        assert_eq!(leads(9).await?, None);
        t.put::<Accounts>(&AccountKey(9), &Account { balance: 90 }, None).await?;
        assert_eq!(leads(9).await?, Some(90));
        Ok::<_, StoreError>(())
    });
    led.await.unwrap();
    let view = store.view(Consistency::Strong);
    let before = strong_reads();
    view.lead::<Accounts>(&AccountKey(2)).await.unwrap().unwrap();
    assert!(!view.may_mislead() && strong_reads() == before + 1);
}
