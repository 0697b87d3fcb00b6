//! Each kind of problem, planted and found; a sound store, and none found.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use async_trait::async_trait;
use cardea_storage::{
    Index, IndexRow, ManualClock, SeededEntropy, Tag, Tenant, Through, Timestamp,
    key::KeyWriter,
    local::LocalShards,
    store::{Draft, Verdict},
    txn::{Effect, Op, Put},
};

use super::*;
use crate::service::proto::{DigestMark, ReplicaReport};

/// Records in home slots; the value is the slot of the index row that leads back.
struct Pointers;

fn home(number: u16) -> Key {
    KeyWriter::new(Slot::new(Space::Home, number), Tag::TEST, Tenant::default()).finish()
}

fn index(number: u16) -> Key {
    KeyWriter::new(Slot::new(Space::Index, number), Tag::TEST_INDEX, Tenant::default()).finish()
}

fn number(row: &Row) -> Option<u16> {
    row.value.as_ref().try_into().ok().map(u16::from_be_bytes)
}

impl IndexRules for Pointers {
    fn indexes(&self) -> Vec<Index> {
        vec![Index::first(Tag::TEST_INDEX, Tag::TEST)]
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        if row.key.tag() != Tag::TEST {
            return None;
        }
        let value = Bytes::copy_from_slice(&row.key.slot().number().to_be_bytes());
        Some(vec![IndexRow { key: index(number(row)?), value }])
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        (row.key.tag() == Tag::TEST_INDEX).then(|| number(row).map(home).into_iter().collect())
    }
}

async fn store_of(rows: &[(Key, u16)]) -> Arc<dyn Store> {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let disk = cardea_storage::engine::memory::MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, std::path::Path::new("/data"), 2, clock).unwrap();
    let store = shards.store(Arc::new(SeededEntropy::new(1)));
    let puts = rows.iter().map(|(key, value)| {
        let value = Bytes::copy_from_slice(&value.to_be_bytes());
        let put = Put { key: key.as_bytes().clone(), value, expires_at: 0 };
        Op { effect: Some(Effect::Put(put)) }
    });
    let draft = Draft { ops: puts.collect(), ..Draft::default() };
    assert!(matches!(store.commit(draft).await.unwrap(), Verdict::Committed(_)));
    store
}

async fn verified(rows: &[(Key, u16)]) -> VerifyReport {
    let store = store_of(rows).await;
    let pace = Pace { rows: 1, pause: Duration::ZERO };
    let mut seen = HashMap::new();
    let mut progress = |done, all| {
        seen.insert(done, all);
    };
    let report =
        verify_indexes(&store, &Pointers, pace, Mending::None, &mut progress).await.unwrap();
    assert_eq!(seen.len() as u64, 3 * u64::from(cardea_storage::slot::SLOTS));
    report
}

#[tokio::test]
async fn indexes_and_homes_that_agree_are_counted_and_nothing_else_is_told() {
    let report = verified(&[(home(1), 7), (index(7), 1), (home(2), 8), (index(8), 2)]).await;
    assert_eq!(report.problems, []);
    assert_eq!((report.records, report.index_rows), (2, 4));
}

#[tokio::test]
async fn a_record_without_its_index_row_is_told() {
    let report = verified(&[(home(1), 7)]).await;
    let told = Problem::Missing { record: home(1).to_string(), index: index(7).to_string() };
    assert_eq!(report.problems, [told]);
}

#[tokio::test]
async fn an_index_row_without_its_record_or_of_another_is_told() {
    let report = verified(&[(index(7), 1)]).await;
    let told = Problem::Dangling { index: index(7).to_string(), record: home(1).to_string() };
    assert_eq!(report.problems, [told]);
    // Home 1 expects slot 7 to lead to it, and it leads to home 2, which has another.
    let report = verified(&[(home(1), 7), (index(7), 2), (home(2), 8), (index(8), 2)]).await;
    let differs = Problem::Differs { record: home(1).to_string(), index: index(7).to_string() };
    let dangles = Problem::Dangling { index: index(7).to_string(), record: home(2).to_string() };
    assert_eq!(report.problems, [differs, dangles]);
}

#[tokio::test]
async fn a_missing_index_row_is_filled_on_request_and_nothing_else_is_touched() {
    // Home 1 has none; home 2 has, and it leads elsewhere; that of slot 9 is of nobody.
    let rows = [(home(1), 7), (home(2), 8), (index(8), 3), (index(9), 4)];
    let store = store_of(&rows).await;
    let pace = Pace { rows: 2, pause: Duration::ZERO };
    let verify = async |mending| {
        verify_indexes(&store, &Pointers, pace, mending, &mut |_, _| {}).await.unwrap()
    };
    let told = verify(Mending::None).await;
    assert_eq!((told.filled, told.problems.len()), (0, 4), "{:?}", told.problems);
    let filled = verify(Mending::Missing).await;
    assert_eq!((filled.filled, filled.problems.len()), (1, 3), "{:?}", filled.problems);
    assert!(!filled.problems.iter().any(|problem| matches!(problem, Problem::Missing { .. })));
    let again = verify(Mending::Missing).await;
    assert_eq!((again.filled, &again.problems), (0, &filled.problems));
    let request = ReadRequest::new(Consistency::Strong).get(index(7));
    let row = store.read(request).await.unwrap().results.remove(0).into_row().unwrap();
    assert_eq!(row.value, Bytes::copy_from_slice(&1_u16.to_be_bytes()));
}

#[tokio::test]
async fn slots_with_more_rows_than_a_piece_takes_are_read_to_their_end() {
    // Slot 1 holds many records, each without its index row; its neighbours one each.
    let record = |slot: u16, number: u16| {
        let mut writer = KeyWriter::new(Slot::new(Space::Home, slot), Tag::TEST, Tenant::default());
        writer.u64(u64::from(number));
        writer.finish()
    };
    let mut rows: Vec<(Key, u16)> = (0..37).map(|number| (record(1, number), number)).collect();
    rows.extend([(record(0, 0), 100), (record(2, 0), 101), (record(3, 0), 102)]);
    let store = store_of(&rows).await;
    let mut expected: Vec<Problem> = rows
        .iter()
        .map(|(key, number)| Problem::Missing {
            record: key.to_string(),
            index: index(*number).to_string(),
        })
        .collect();
    let name = |problem: &Problem| format!("{problem:?}");
    expected.sort_by_key(name);
    for rows in [3, 8, 300, u32::MAX] {
        let pace = Pace { rows, pause: Duration::ZERO };
        let verified = verify_indexes(&store, &Pointers, pace, Mending::None, &mut |_, _| {}).await;
        let mut report = verified.unwrap();
        report.problems.sort_by_key(name);
        assert_eq!((report.records, &report.problems), (40, &expected), "{rows} at once");
    }
}

/// A store that cannot answer now, so many times.
struct Leaderless {
    inner: Arc<dyn Store>,
    left: AtomicU32,
    /// Whether it answers until something seems wrong.
    at_the_second_look: bool,
}

#[async_trait]
impl Through for Leaderless {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 && (request.tracked || !self.at_the_second_look) {
            self.left.store(left - 1, Ordering::Relaxed);
            return Err(StoreError::unavailable("no leader"));
        }
        self.inner.read(request).await
    }
}

/// What seemed wrong was looked at once, and an election at that moment threw away hours.
#[tokio::test]
async fn an_election_does_not_end_a_verification_and_a_lost_majority_does() {
    let inner = store_of(&[(home(1), 7)]).await;
    tokio::time::pause();
    for (refusals, is_verified) in [(3, true), (2 * ATTEMPTS, false)] {
        for at_the_second_look in [false, true] {
            let left = AtomicU32::new(refusals);
            let store: Arc<dyn Store> =
                Arc::new(Leaderless { inner: inner.clone(), left, at_the_second_look });
            let pace = Pace { rows: 300, pause: Duration::ZERO };
            let verified =
                verify_indexes(&store, &Pointers, pace, Mending::None, &mut |_, _| {}).await;
            let told = verified.map(|report| (report.records, report.problems.len()));
            assert_eq!(told.ok(), is_verified.then_some((1, 1)), "{at_the_second_look}");
        }
    }
}

#[tokio::test]
async fn a_filled_index_row_expires_with_its_record() {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    let disk = cardea_storage::engine::memory::MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, std::path::Path::new("/data"), 2, clock).unwrap();
    let store = shards.store(Arc::new(SeededEntropy::new(1)));
    let value = Bytes::copy_from_slice(&7_u16.to_be_bytes());
    let put = Put { key: home(1).as_bytes().clone(), value, expires_at: 90_000 };
    let draft = Draft { ops: vec![Effect::Put(put).into()], ..Draft::default() };
    assert!(matches!(store.commit(draft).await.unwrap(), Verdict::Committed(_)));
    let (pace, mending) = (Pace { rows: 9, pause: Duration::ZERO }, Mending::Missing);
    verify_indexes(&store, &Pointers, pace, mending, &mut |_, _| {}).await.unwrap();
    let request = ReadRequest::new(Consistency::Strong).get(index(7));
    let row = store.read(request).await.unwrap().results.remove(0).into_row().unwrap();
    assert_eq!(row.expires_at, Some(Timestamp(90_000)));
}

fn reported(marks: &[(u64, u64, u8)]) -> StatusResponse {
    let replicas = marks.iter().map(|(group, index, digest)| ReplicaReport {
        group: *group,
        marks: vec![DigestMark { index: *index, digest: Bytes::copy_from_slice(&[*digest]) }],
        ..ReplicaReport::default()
    });
    StatusResponse { replicas: replicas.collect(), ..StatusResponse::default() }
}

#[test]
fn digests_are_compared_at_common_indexes_only() {
    let of = |reports: Vec<StatusResponse>| {
        compare(&(1..).map(NodeId).zip(reports).collect::<BTreeMap<_, _>>())
    };
    let same = reported(&[(1, 1_024, 5)]);
    assert_eq!(of(vec![same.clone(), same.clone()]), (1, vec![]));
    assert_eq!(of(vec![same.clone(), reported(&[(1, 2_048, 6)])]), (0, vec![]));
    let (compared, problems) = of(vec![same.clone(), reported(&[(1, 1_024, 6)]), same]);
    assert_eq!(compared, 1);
    let told = Problem::Digest { group: 1, index: 1_024, nodes: vec![vec![2], vec![1, 3]] };
    assert_eq!(problems, [told]);
}
