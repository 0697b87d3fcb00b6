//! Reads by an index that is not whole: a row that is there is an answer, silence is
//! none.

#![allow(clippy::unwrap_used, missing_docs)]

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cardea_storage::{
    Consistency, Key, KeyRange, ManualClock, SeededEntropy, Slot, Space, Store, StoreError, Tag,
    Tenant, Timestamp,
    engine::{Order, memory::MemoryDisk},
    key::KeyWriter,
    local::LocalShards,
    protocol::pin::PinnedRead,
    store::{Draft, Read, ReadRequest, Scan},
    txn::{Effect, Put},
};

fn key(tag: Tag, number: u64) -> Key {
    let mut key = KeyWriter::new(Slot::new(Space::Home, 1), tag, Tenant(0));
    key.u64(number);
    key.finish()
}

fn all(tag: Tag) -> KeyRange {
    KeyWriter::new(Slot::new(Space::Home, 1), tag, Tenant(0)).range()
}

async fn opened() -> (Arc<LocalShards>, Arc<dyn Store>) {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let shards = LocalShards::open(&MemoryDisk::new(1), Path::new("/data"), 1, clock).unwrap();
    let store = shards.store(Arc::new(SeededEntropy::new(1)));
    let put = |tag| {
        let key = key(tag, 1).as_bytes().clone();
        Effect::Put(Put { key, value: Bytes::from_static(b"v"), expires_at: 0 }).into()
    };
    let ops = vec![put(Tag::TEST), put(Tag::TEST_INDEX)];
    store.commit(Draft { ops, ..Draft::default() }).await.unwrap();
    (shards, store)
}

fn is_refused<T>(answer: Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::IndexNotWhole { index: Tag::TEST_INDEX }))
}

#[tokio::test]
async fn what_an_index_that_is_not_whole_does_not_have_is_refused() {
    let (shards, store) = opened().await;
    let view = || store.view(Consistency::Eventual);
    let get = async |tag, number| view().rows(&[key(tag, number)], false).await;
    let scan = async |range| view().scan_rows(range, 10, Order::Forward, false).await;
    assert_eq!(get(Tag::TEST_INDEX, 2).await.unwrap(), [None]);
    assert_eq!(scan(all(Tag::TEST_INDEX)).await.unwrap().rows.len(), 1);

    shards.set_lacking(&[Tag::TEST_INDEX]);
    assert_eq!(store.lacking(), [Tag::TEST_INDEX]);
    assert!(is_refused(get(Tag::TEST_INDEX, 2).await));
    assert!(is_refused(scan(all(Tag::TEST_INDEX)).await));
    let mut end = all(Tag::TEST_INDEX);
    end.start = key(Tag::TEST_INDEX, 7).successor();
    assert!(is_refused(scan(end).await), "the rest of a list too");
    // A row that is there, and all that is not read by the index.
    assert!(get(Tag::TEST_INDEX, 1).await.unwrap()[0].is_some());
    assert_eq!(get(Tag::TEST, 2).await.unwrap(), [None]);
    assert_eq!(scan(all(Tag::TEST)).await.unwrap().rows.len(), 1);
    let slot = KeyRange::prefix(&Slot::new(Space::Home, 1).bits().to_be_bytes());
    assert_eq!(scan(slot).await.unwrap().rows.len(), 2);
    // Upkeep reads it as it is.
    let upkeep = view();
    upkeep.for_upkeep();
    assert_eq!(upkeep.rows(&[key(Tag::TEST_INDEX, 2)], false).await.unwrap(), [None]);

    shards.set_lacking(&[]);
    assert_eq!(get(Tag::TEST_INDEX, 2).await.unwrap(), [None]);
}

#[tokio::test]
async fn a_transaction_that_relies_on_silence_is_refused_and_does_nothing() {
    let (shards, store) = opened().await;
    shards.set_lacking(&[Tag::TEST_INDEX]);
    let done = store.transact(|t| async move {
        if t.rows(&[key(Tag::TEST_INDEX, 2)], true).await? == [None] {
            t.add(&key(Tag::TEST, 9), 1, None);
        }
        Ok::<_, StoreError>(())
    });
    assert!(is_refused(done.await));
    let request = ReadRequest::new(Consistency::Strong).get(key(Tag::TEST, 9));
    assert!(store.read(request).await.unwrap().results.remove(0).rows.is_empty());
}

#[tokio::test]
async fn who_has_pinned_an_instant_is_sent_to_the_store() {
    let (shards, store) = opened().await;
    shards.set_lacking(&[Tag::TEST_INDEX]);
    let slot = Slot::new(Space::Home, 1);
    let pinned = store.pin(slot, &Consistency::Strong).await.unwrap().unwrap();
    let scan = |tag| Read::Scan(Scan { range: all(tag), limit: 9, order: Order::Forward });
    assert_eq!(pinned.read(&[scan(Tag::TEST_INDEX)]).unwrap(), PinnedRead::Elsewhere);
    assert_eq!(pinned.few(&all(Tag::TEST_INDEX), 9).unwrap(), None);
    assert!(matches!(pinned.read(&[scan(Tag::TEST)]).unwrap(), PinnedRead::Rows(_)));
    assert_eq!(pinned.few(&all(Tag::TEST), 9).unwrap().map(|rows| rows.len()), Some(1));
}
