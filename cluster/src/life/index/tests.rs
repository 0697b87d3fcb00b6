//! Indexes over records that were written without them, by nodes that did not know
//! them, and by others meanwhile.

use std::{collections::BTreeMap, path::Path, time::Duration};

use cardea_storage::{
    Clock, Entropy, Key, ManualClock, Row, SeededEntropy, Slot, Space, Store, StoreError, Table,
    Tag, Timestamp,
    engine::{Order, memory::MemoryDisk},
    key::KeyRange,
    local::LocalShards,
    slot::SLOTS,
    store::{Consistency, Read, ReadRequest, Scan},
};

use self::books::{BY_SHELF, Before, Book, BookKey, Books, OF_ONE, Rules};
use super::{build::LAST, *};
use crate::life::rules::expected_of;

#[path = "../../../tests/town/books.rs"]
#[allow(missing_docs, unreachable_pub, dead_code, reason = "shared with tests of whole nodes")]
mod books;

struct Library {
    store: Arc<dyn Store>,
    clock: Arc<ManualClock>,
}

impl Library {
    fn new(seed: u64) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let disk = MemoryDisk::new(seed);
        let shards = LocalShards::open(&disk, Path::new("/data"), 3, clock.clone()).unwrap();
        // What is written here is written while readers are refused.
        shards.set_lacking(&[Tag::TEST_INDEX]);
        Self { store: shards.store(Arc::new(SeededEntropy::new(seed))), clock }
    }

    async fn put<T: Table<Key = BookKey, Record = Book>>(
        &self,
        number: u64,
        shelf: u64,
        expires_at: Option<Timestamp>,
    ) {
        let (key, book) = (&BookKey(number), &Book { shelf });
        let put = self.store.transact(|t| async move {
            t.put::<T>(key, book, expires_at).await?;
            Ok::<_, StoreError>(())
        });
        put.await.unwrap();
    }

    async fn delete<T: Table<Key = BookKey, Record = Book>>(&self, number: u64) {
        let key = &BookKey(number);
        let deleted = self.store.transact(|t| async move { t.delete::<T>(key).await });
        deleted.await.unwrap();
    }

    /// Something happens to some book, by a node that knows the index or one that does not.
    async fn change<T: Table<Key = BookKey, Record = Book>>(&self, chance: &dyn Entropy) {
        let number = chance.below(60);
        let shelf = chance.below(9);
        let lives = self.clock.now().after(Duration::from_millis(1 + chance.below(5_000)));
        match chance.below(10) {
            0..3 => self.delete::<T>(number).await,
            3..6 => self.put::<T>(number, shelf, Some(lives)).await,
            _ => self.put::<T>(number, shelf, None).await,
        }
    }

    async fn rows(&self, space: Space, tag: Tag) -> BTreeMap<Key, Row> {
        let mut rows = BTreeMap::new();
        for first in (0..SLOTS).step_by(1_024) {
            let mut request = ReadRequest::new(Consistency::Strong);
            request.partial = true;
            let scan = |number| {
                let slot = Slot::new(space, number).bits().to_be_bytes();
                let range = KeyRange::prefix(&[slot, tag.0.to_be_bytes()].concat());
                Read::Scan(Scan { range, limit: 1_000, order: Order::Forward })
            };
            request.reads = (first..first + 1_024).map(scan).collect();
            let answer = self.store.read(request).await.unwrap();
            let found = answer.results.into_iter().flat_map(|rows| rows.rows);
            rows.extend(found.map(|row| (row.key.clone(), row)));
        }
        rows
    }

    /// Every record has its row, every row its record, and they live as long.
    async fn must_be_exact(&self, what: &str) {
        let records = self.rows(Space::Home, Tag::TEST).await;
        let wanted: BTreeMap<Key, _> = records
            .values()
            .flat_map(|record| {
                let rows = expected_of::<Books>(record).unwrap();
                rows.into_iter().map(|row| (row.key, (row.value, record.expires_at)))
            })
            .collect();
        let there = self.rows(Space::Index, Tag::TEST_INDEX).await;
        let there: BTreeMap<Key, _> =
            there.into_iter().map(|(key, row)| (key, (row.value, row.expires_at))).collect();
        type Lives = BTreeMap<Key, (bytes::Bytes, Option<Timestamp>)>;
        let of = |rows: &Lives, others: &Lives| -> Vec<String> {
            let odd = rows.iter().filter(|(key, row)| others.get(key) != Some(row));
            odd.map(|(key, row)| format!("{key}: {row:?}")).collect()
        };
        let (odd, lacking) = (of(&there, &wanted), of(&wanted, &there));
        assert!(there == wanted, "{what}: there are {odd:#?}, wanted are {lacking:#?}");
    }
}

/// Builds from a place to the end, with `between` run after each page; gives the sums.
async fn build_from(
    library: &Library,
    place: Place,
    rows: u32,
    mut between: impl AsyncFnMut(&Place),
) -> Done {
    let mut builder = Builder::new(&library.store, &Rules, BY_SHELF, rows);
    let (mut at, mut sum) = (Some(place), Done::default());
    while let Some(place) = at {
        let page = builder.page(&place).await.unwrap();
        assert!(page.next.as_ref().is_none_or(|next| *next > place), "it goes on");
        between(&place).await;
        at = page.next.clone();
        sum.add(page);
    }
    sum
}

#[tokio::test]
async fn an_index_over_records_of_both_versions_is_exact_once_it_is_built() {
    for seed in 0..6 {
        let library = Library::new(seed);
        let chance: &dyn Entropy = &SeededEntropy::new(seed);
        for _ in 0..150 {
            match chance.below(2) {
                0 => library.change::<Before>(chance).await,
                _ => library.change::<Books>(chance).await,
            }
            library.clock.advance(Duration::from_millis(chance.below(40)));
        }
        // From here on everybody knows it, and changes what they like between pages; and
        // whoever builds it dies now and then, and the next begins at an earlier place.
        let rows = 1 + u32::try_from(chance.below(40)).unwrap();
        let mut place = first_place();
        for _ in 0..chance.below(3) {
            let mut builder = Builder::new(&library.store, &Rules, BY_SHELF, rows);
            let mut at = place.clone();
            for _ in 0..chance.below(20) {
                match builder.page(&at).await.unwrap().next {
                    Some(next) => at = next,
                    None => break,
                }
                library.change::<Books>(chance).await;
                if chance.below(3) == 0 {
                    place = at.clone();
                }
            }
        }
        let done = build_from(&library, place, rows, async |_| {
            library.change::<Books>(chance).await;
            library.clock.advance(Duration::from_millis(chance.below(40)));
        });
        assert_eq!(done.await.taken, 0);
        library.must_be_exact(&format!("seed {seed}")).await;
        // And then nothing is left to do.
        let again = build_from(&library, first_place(), rows, async |_| {}).await;
        assert_eq!((again.filled, again.stripped), (0, 0), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_is_exact_though_its_records_change_all_the_time() {
    let library = Arc::new(Library::new(7));
    // Sixty are changed all the time, and as many lie still.
    for number in 0..120 {
        library.put::<Before>(number, 0, None).await;
    }
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let changing: Vec<_> = (0..3)
        .map(|seed| {
            let (library, over) = (library.clone(), over.clone());
            tokio::spawn(async move {
                let chance: &dyn Entropy = &SeededEntropy::new(100 + seed);
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    library.change::<Books>(chance).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut filled = 0;
    for _ in 0..5 {
        filled += build_from(&library, first_place(), 10, async |_| {}).await.filled;
    }
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    for task in changing {
        task.await.unwrap();
    }
    assert!(filled >= 60, "{filled}");
    library.must_be_exact("after all").await;
}

#[tokio::test]
async fn a_row_that_another_record_has_is_left_to_it_and_told() {
    let library = Library::new(3);
    library.put::<Books>(1, OF_ONE + 1, None).await;
    library.put::<Before>(2, OF_ONE + 1, None).await;
    // Two of before claim the same in one page.
    library.put::<Before>(3, OF_ONE + 2, None).await;
    library.put::<Before>(4, OF_ONE + 2, None).await;
    // The row of one that is gone is nobody's.
    library.put::<Books>(5, OF_ONE + 3, None).await;
    library.delete::<Before>(5).await;
    library.put::<Before>(6, OF_ONE + 3, None).await;
    let done = build_from(&library, first_place(), 1_000, async |_| {}).await;
    assert_eq!((done.filled, done.stripped, done.taken, done.records), (2, 1, 2, 5));
    let there = library.rows(Space::Index, Tag::TEST_INDEX).await;
    let mut owners: Vec<u8> = there.values().map(|row| row.value[7]).collect();
    owners.sort_unstable();
    assert_eq!(owners[0], 1);
    assert!([3, 4].contains(&owners[1]), "{owners:?}");
    assert_eq!(owners[2..], [6]);
}

#[tokio::test]
async fn expiry_that_a_node_of_before_moved_is_that_of_the_row_again() {
    let library = Library::new(4);
    let (soon, later) = (Timestamp(1_001_000), Timestamp(2_000_000));
    library.put::<Books>(1, 0, Some(soon)).await;
    library.put::<Before>(1, 0, Some(later)).await;
    let done = build_from(&library, first_place(), 10, async |_| {}).await;
    assert_eq!((done.filled, done.stripped), (1, 0));
    library.clock.advance(Duration::from_secs(60));
    library.must_be_exact("a minute later").await;
    assert_eq!(library.rows(Space::Index, Tag::TEST_INDEX).await.len(), 1);
}

#[tokio::test]
async fn a_row_that_lives_on_does_not_outlive_a_record_that_expires_meanwhile() {
    let library = Library::new(5);
    library.put::<Books>(1, 0, None).await;
    library.put::<Before>(1, 0, Some(Timestamp(1_001_000))).await;
    let done = build_from(&library, first_place(), 10, async |(phase, _)| {
        if *phase == BuildPhase::Filling {
            library.clock.advance(Duration::from_secs(60));
        }
    });
    assert_eq!(done.await.filled, 1);
    library.must_be_exact("a minute later").await;
    assert_eq!(library.rows(Space::Index, Tag::TEST_INDEX).await.len(), 0);
}

#[test]
fn the_last_slot_is_that_of_the_last_space_before_the_directory() {
    assert_eq!(LAST + 1, Slot::DIRECTORY.bits());
}
