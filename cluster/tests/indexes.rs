//! An upgrade that brings an index: it is built while the cluster serves, whoever dies,
//! and nobody reads by it before.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "town/books.rs"]
#[allow(missing_docs, unreachable_pub, dead_code)]
mod books;
mod town;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use books::{Before, Book, BookKey, Books, Rules, shelf};
use cardea_cluster::{
    ClusterNode, InitPlan,
    life::{
        BackupPlan, BuildPace, IndexRules, Indexing, Mending, Pace, RestorePlan, back_up, restore,
        restore::Fate, rules::expected_of, verify::verify_indexes,
    },
    runtime::{VERSION_MAX, status::IndexStatus},
};
use cardea_storage::{
    Consistency, Entropy, KeyRange, Row, SeededEntropy, Slot, Space, Store, StoreError, Table, Tag,
    Timestamp,
    engine::Order,
    slot::SLOTS,
    store::{Read, ReadRequest, Scan},
};
use town::{Site, eventually, of_older_binaries};

const BOOKS: u64 = 1_200;
const SHELVES: u64 = 7;

/// A node with the binary of this code.
fn new(site: &Site) -> Site {
    let pace =
        BuildPace { rows: 20, pause: Duration::from_millis(10), grace: Duration::from_millis(500) };
    Site { indexing: Indexing { rules: Arc::new(Rules), pace }, ..site.clone() }
}

async fn put<T: Table<Key = BookKey, Record = Book>>(
    store: &Arc<dyn Store>,
    books: &[u64],
    shelf: u64,
    expires_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let done = store.transact(|t| async move {
        for book in books {
            t.put::<T>(&BookKey(*book), &Book { shelf }, expires_at).await?;
        }
        Ok::<_, StoreError>(())
    });
    done.await.map(|_| ())
}

async fn delete<T: Table<Key = BookKey, Record = Book>>(
    store: &Arc<dyn Store>,
    book: u64,
) -> Result<(), StoreError> {
    let done = store.transact(|t| async move { t.delete::<T>(&BookKey(book)).await });
    done.await.map(|_| ())
}

async fn change<T: Table<Key = BookKey, Record = Book>>(
    store: &Arc<dyn Store>,
    chance: &dyn Entropy,
) -> Result<(), StoreError> {
    let book = chance.below(BOOKS);
    match chance.below(3) {
        0 => delete::<T>(store, book).await,
        _ => put::<T>(store, &[book], chance.below(SHELVES), None).await,
    }
}

/// The books of a shelf, by the index.
async fn on_shelf(store: &Arc<dyn Store>, number: u64) -> Result<Vec<Row>, StoreError> {
    let view = store.view(Consistency::Strong);
    let rows = view.scan_rows(shelf(number).range(), 10_000, Order::Forward, false).await?;
    Ok(rows.rows)
}

/// Every book, by the table.
async fn all_books(store: &Arc<dyn Store>) -> BTreeMap<u64, u64> {
    let mut books = BTreeMap::new();
    for first in (0..SLOTS).step_by(512) {
        let mut request = ReadRequest::new(Consistency::Strong);
        let scan = |number| {
            let slot = Slot::new(Space::Home, number).bits().to_be_bytes();
            let range = KeyRange::prefix(&[slot, Tag::TEST.0.to_be_bytes()].concat());
            Read::Scan(Scan { range, limit: 1_000, order: Order::Forward })
        };
        request.reads = (first..first + 512).map(scan).collect();
        let answer = store.read(request).await.unwrap();
        for row in answer.results.into_iter().flat_map(|rows| rows.rows) {
            let book = Books::decode(&row).unwrap();
            books.insert(book.key.0, book.record.shelf);
        }
    }
    books
}

async fn must_be_exact(store: &Arc<dyn Store>) {
    let books = all_books(store).await;
    assert!(books.len() > 100, "{}", books.len());
    let mut listed = BTreeMap::new();
    for number in 0..SHELVES {
        for row in on_shelf(store, number).await.unwrap() {
            let mut reader = row.key.reader();
            let (shelf, book) = (reader.u64().unwrap(), reader.u64().unwrap());
            assert_eq!(listed.insert(book, shelf), None, "book {book} is on two shelves");
        }
    }
    assert_eq!(listed, books);
    let progress = &mut |_, _| {};
    let verified = verify_indexes(store, &Rules, Pace::default(), Mending::None, progress);
    let verified = verified.await.unwrap();
    assert_eq!((verified.problems, verified.left_out), (vec![], vec![]));
}

fn index(node: &ClusterNode) -> Option<IndexStatus> {
    node.status().indexes.into_iter().find(|index| index.name == "test_index")
}

fn leads_directory(node: &ClusterNode) -> bool {
    let status = node.status();
    status.shards.iter().any(|shard| shard.group == 0 && shard.leader == Some(status.answered_by))
}

fn is_refused<T>(answer: &Result<T, StoreError>) -> bool {
    matches!(answer, Err(StoreError::IndexNotWhole { index: Tag::TEST_INDEX }))
}

/// Writes what there was before the index.
async fn fill(store: &Arc<dyn Store>) {
    let books: Vec<u64> = (0..BOOKS).collect();
    for (number, books) in (0..).zip(books.chunks(100)) {
        put::<Before>(store, books, number % SHELVES, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_index_that_an_upgrade_brings_is_built_though_its_builder_is_killed() {
    let sites: Vec<Site> = (1..=3).map(Site::in_memory).collect();
    let mut nodes = of_older_binaries(&sites).await;
    let town = town::Town { sites: sites.clone(), nodes: nodes.clone() };
    town.settled(3).await;
    drop(town);
    fill(&nodes[0].store()).await;
    assert!(on_shelf(&nodes[0].store(), 1).await.unwrap().is_empty());

    // Nodes of both versions change what they like, each in its way.
    let chance: &dyn Entropy = &SeededEntropy::new(1);
    for at in [2, 1, 0] {
        nodes[at].shutdown().await.unwrap();
        nodes[at] = new(&sites[at]).open().await.unwrap();
        if at == 0 {
            break;
        }
        let (older, newer) = (nodes[0].store(), nodes[at].store());
        for _ in 0..60 {
            for changed in
                [change::<Before>(&older, chance).await, change::<Books>(&newer, chance).await]
            {
                let is_expected = matches!(
                    changed,
                    Ok(()) | Err(StoreError::Unknown | StoreError::Unavailable { .. })
                );
                assert!(is_expected, "{changed:?}");
            }
        }
        // The version has not reached it, so nobody can rely on it.
        assert!(is_refused(&on_shelf(&newer, 1).await));
    }

    // From here on everybody knows it, and goes on changing things.
    let (over, changed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let stores: Vec<_> = nodes.iter().map(|node| node.store()).collect();
    let changing = {
        let (over, changed) = (over.clone(), changed.clone());
        tokio::spawn(async move {
            let chance: &dyn Entropy = &SeededEntropy::new(2);
            while !over.load(Ordering::Relaxed) {
                let store = &stores[usize::try_from(chance.below(3)).unwrap()];
                // One of them dies; what is asked of it meanwhile may or may not be done.
                if change::<Books>(store, chance).await.is_ok() {
                    changed.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    eventually("the index is half built", async || {
        nodes.iter().any(|node| index(node).is_some_and(|index| index.progress.slots_done > 0))
    })
    .await;
    let builder = nodes.iter().position(|node| leads_directory(node)).unwrap();
    nodes[builder].abandon().await;
    let other = nodes[(builder + 1) % 3].clone();
    assert!(!index(&other).unwrap().whole, "it was killed too late");
    assert!(is_refused(&on_shelf(&other.store(), 1).await));
    eventually("the index is whole", async || index(&other).is_some_and(|index| index.whole)).await;
    assert!(on_shelf(&other.store(), 1).await.is_ok());
    over.store(true, Ordering::Relaxed);
    changing.await.unwrap();
    assert!(changed.load(Ordering::Relaxed) > 20);
    nodes[builder] = new(&sites[builder]).open().await.unwrap();
    must_be_exact(&other.store()).await;
    let built = index(&other).unwrap().progress;
    assert!(built.filled > 100 && built.stripped > 0, "{built:?}");
    assert_eq!(built.taken, 0);
    for node in nodes {
        node.abandon().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_of_an_older_version_has_its_indexes_built_after_the_restore() {
    let site = Site::in_memory(1);
    let older = site.knowing(VERSION_MAX - 1).open().await.unwrap();
    older.init(InitPlan::small("older")).await.unwrap();
    eventually("the shards serve", async || {
        put::<Before>(&older.store(), &[1, 2, 3, 4], 0, None).await.is_ok()
    })
    .await;
    fill(&older.store()).await;
    let plan = BackupPlan::new(PathBuf::from("/backup"));
    eventually("the shards are formed", async || {
        older.directory().view().shards.values().all(|shard| shard.formed)
    })
    .await;
    let report = back_up(&older.member().unwrap(), &plan, |_| {}).await.unwrap();
    let books = usize::try_from(BOOKS).unwrap();
    assert_eq!(all_books(&older.store()).await.len(), books);
    let rows: Vec<_> =
        report.manifest.groups.iter().map(|group| (group.group, group.rows)).collect();
    assert!(report.rows > BOOKS, "the backup has {rows:?}");
    older.abandon().await;

    let fresh = Site::on(site.disk.clone(), PathBuf::from("/fresh"), 2);
    let node = new(&fresh).open().await.unwrap();
    node.init(InitPlan::small("fresh")).await.unwrap();
    // A new cluster has nothing to build.
    assert!(index(&node).unwrap().whole);
    eventually("the shards serve", async || on_shelf(&node.store(), 1).await.is_ok()).await;
    eventually("the shards are formed", async || {
        node.directory().view().shards.values().all(|shard| shard.formed)
    })
    .await;
    let plan = RestorePlan {
        directory: PathBuf::from("/backup"),
        transient: vec![],
        tolerated: vec![],
        filter: Arc::new(|_| Fate::Keep),
    };
    let restored = restore(&node.member().unwrap(), &plan, |_| {}).await.unwrap();
    assert!(restored.restored > BOOKS, "{restored:?}");
    assert!(is_refused(&on_shelf(&node.store(), 1).await));
    eventually("the index is whole", async || index(&node).is_some_and(|index| index.whole)).await;
    // A builder that is interrupted forgets what it counted since its last note.
    assert!(index(&node).unwrap().progress.filled > 0);
    must_be_exact(&node.store()).await;
    node.abandon().await;
}
