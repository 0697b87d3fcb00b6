//! Walks while others write: every answer is one that was true at one instant.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, Key, ManualClock, SeededEntropy, Slot, Space, Store, StoreError, Table, Tag,
    Through,
    engine::memory::MemoryDisk,
    key::KeyWriter,
    local::LocalShards,
    protocol::{pin::Pinned, shards::Shards},
    store::{Draft, ReadAnswer, ReadRequest},
    txn::{
        Effect, Outcome, Put, Txn,
        command::{Action, Decide, Prepare},
    },
};
use parking_lot::Mutex;

use crate::{
    ReadRejection, Tuple,
    engine::Limits,
    table::{DEFAULT_SLOT, Place, TupleRecord, Tuples},
    testing::{START, TENANT, World, tuple},
    write::Change,
};

const DOCS: &str = "
class G implements Namespace { related: { members: SubjectSet<G, \"members\">[] } }
class D implements Namespace { related: { viewers: SubjectSet<G, \"members\">[] } }";

/// A store that cannot pin, and makes a change between the reads of a walk.
struct Interrupted {
    inner: Arc<dyn Store>,
    /// Reads of the graph until the next change is made.
    countdown: AtomicUsize,
    drafts: Mutex<Vec<Draft>>,
}

#[async_trait]
impl Through for Interrupted {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn pin(&self, _: Slot, _: &Consistency) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let graph = request.reads.iter().any(|read| match read {
            cardea_storage::store::Read::Get(key) => key.slot().space() == Space::Graph,
            cardea_storage::store::Read::Scan(_) => true,
        });
        if graph && self.countdown.fetch_sub(1, Ordering::SeqCst) == 1 {
            let drafts = std::mem::take(&mut *self.drafts.lock());
            for draft in drafts {
                self.inner.commit(draft).await?;
            }
        }
        self.inner.read(request).await
    }
}

fn shards() -> (Arc<LocalShards>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    (LocalShards::open(&disk, Path::new("test"), 1, clock.clone()).unwrap(), clock)
}

fn put(text: &str) -> Vec<Effect> {
    let place = Place { tenant: TENANT, slot: DEFAULT_SLOT };
    let key = place.key(&tuple(text));
    let rows = Tuples::index_rows(&key, &TupleRecord::default()).into_iter().map(|row| row.key);
    let keys = rows.chain([Tuples::key(&key)]);
    keys.map(|key| {
        let key = key.as_bytes().clone();
        Effect::Put(Put { key, value: bytes::Bytes::new(), expires_at: 0 })
    })
    .collect()
}

fn delete(text: &str) -> Vec<Effect> {
    let rows = put(text).into_iter();
    rows.map(|effect| match effect {
        Effect::Put(put) => Effect::Delete(put.key),
        other => other,
    })
    .collect()
}

fn draft(effects: Vec<Effect>) -> Draft {
    Draft { ops: effects.into_iter().map(Into::into).collect(), ..Draft::default() }
}

/// The new enemy: access of a group is withdrawn, and only then somebody joins it.
#[tokio::test]
async fn who_joins_a_group_that_lost_its_access_is_never_let_in() {
    for at in 1..6 {
        let (shards, clock) = shards();
        let inner = shards.store(Arc::new(SeededEntropy::new(1)));
        let store = Arc::new(Interrupted {
            inner,
            countdown: AtomicUsize::new(usize::MAX),
            drafts: Mutex::default(),
        });
        let world = World::over(store.clone(), clock, Limits::default());
        world.speak(DOCS).await;
        world.insert(&["D:1#viewers@(G:a#members)", "G:a#members@(G:b#members)"]).await;
        *store.drafts.lock() =
            vec![draft(delete("D:1#viewers@(G:a#members)")), draft(put("G:b#members@eve"))];
        store.countdown.store(at, Ordering::SeqCst);
        assert_eq!(world.check("D:1#viewers@eve").await, "no", "changed before read {at}");
        store.countdown.store(usize::MAX, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn walk_without_a_replica_gives_the_same_answers() {
    let (shards, clock) = shards();
    let store = Arc::new(Interrupted {
        inner: shards.store(Arc::new(SeededEntropy::new(1))),
        countdown: AtomicUsize::new(usize::MAX),
        drafts: Mutex::default(),
    });
    let world = World::over(store, clock, Limits::default());
    world.speak(DOCS).await;
    world
        .insert(&["D:1#viewers@(G:a#members)", "G:a#members@(G:b#members)", "G:b#members@ann"])
        .await;
    assert_eq!(world.check("D:1#viewers@ann").await, "yes");
    assert_eq!(world.check("D:1#viewers@eve").await, "no");
}

/// A store that cannot pin, and in which something else is written whenever a key is read.
struct Busy {
    inner: Arc<dyn Store>,
    key: Key,
    written: AtomicUsize,
}

#[async_trait]
impl Through for Busy {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn pin(&self, _: Slot, _: &Consistency) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let read = cardea_storage::store::Read::Get(self.key.clone());
        if request.reads.contains(&read) {
            let number = self.written.fetch_add(1, Ordering::SeqCst);
            let other = draft(put(&format!("D:other-{number}#viewers@eve")));
            self.inner.commit(other).await?;
        }
        self.inner.read(request).await
    }
}

#[tokio::test]
async fn many_reads_without_a_replica_are_answered_though_others_write() {
    let (shards, clock) = shards();
    let place = Place { tenant: TENANT, slot: DEFAULT_SLOT };
    let all: Vec<Tuple> = (0..1_000).map(|at| tuple(&format!("D:{at}#viewers@ann"))).collect();
    let store = Arc::new(Busy {
        inner: shards.store(Arc::new(SeededEntropy::new(1))),
        key: Tuples::key(&place.key(&all[1])),
        written: AtomicUsize::new(0),
    });
    let world = World::over(store, clock, Limits::default());
    world.speak(DOCS).await;
    world.insert(&["D:7#viewers@ann", "D:999#viewers@(G:a#members)", "G:a#members@ann"]).await;
    let found = world.service.check_many(TENANT, &all, 0, Consistency::Strong).await.unwrap();
    let allowed = found.value.into_iter().map(Result::unwrap);
    let allowed: Vec<usize> =
        allowed.enumerate().filter_map(|(at, allowed)| allowed.then_some(at)).collect();
    assert_eq!(allowed, [7, 999]);
}

/// A tuple written together with rows of another shard, decided and not finished.
#[tokio::test]
async fn walk_that_meets_a_lock_asks_what_became_of_it() {
    let (shards, clock) = shards();
    let world =
        World::over(shards.store(Arc::new(SeededEntropy::new(1))), clock, Limits::default());
    world.speak(DOCS).await;
    world.insert(&["D:1#viewers@(G:a#members)"]).await;
    let decider = KeyWriter::new(cardea_storage::Slot::DIRECTORY, Tag::TEST, TENANT).finish();
    let not_after = START.after(Duration::from_secs(5)).0;
    let txn = |effects: Vec<Effect>| {
        Some(Txn {
            request_id: bytes::Bytes::copy_from_slice(&[9; 16]),
            read_time: 0,
            not_after,
            checks: vec![],
            ops: effects.into_iter().map(Into::into).collect(),
        })
    };
    let graph = shards.locate(DEFAULT_SLOT).unwrap();
    let prepare = Prepare { txn: txn(put("G:a#members@ann")), decider: decider.as_bytes().clone() };
    let outcome = shards.apply(graph, Action::Prepare(prepare), START).unwrap();
    assert!(matches!(outcome, Outcome::Prepared { .. }));
    assert_eq!(world.check("D:1#viewers@ann").await, "no", "not decided");

    let own = Effect::Put(Put {
        key: decider.as_bytes().clone(),
        value: bytes::Bytes::new(),
        expires_at: 0,
    });
    let participants = put("G:a#members@ann").into_iter().filter_map(|effect| match effect {
        Effect::Put(put) => Some(put.key),
        _ => None,
    });
    let decide = Decide { txn: txn(vec![own]), participants: participants.take(1).collect() };
    let directory = shards.locate(decider.slot()).unwrap();
    let outcome = shards.apply(directory, Action::Decide(decide), START).unwrap();
    assert!(matches!(outcome, Outcome::Committed { .. }));
    assert_eq!(world.check("D:1#viewers@ann").await, "yes", "decided, not finished");
}

#[tokio::test]
async fn tokens_are_honoured_and_those_of_others_refused() {
    let world = World::of(DOCS, &[]).await;
    let written = world.insert(&["D:1#viewers@ann"]).await;
    let asked = tuple("D:1#viewers@ann");
    let at = async |token: &cardea_storage::Snaptoken| {
        let at = Consistency::AtLeast(token.clone());
        world.service.check(TENANT, &asked, 0, at).await
    };
    let answer = at(&written).await.unwrap();
    assert!(answer.value);
    for position in &written.positions {
        let seen = answer.snaptoken.revision(position.shard).unwrap();
        assert!(seen.0 >= position.revision, "the answer covers what was asked for");
    }
    assert_eq!(written.positions.len(), 2, "a write covers the graph and the language");
    let mut ahead = written.clone();
    ahead.positions.iter_mut().for_each(|position| position.revision += 1_000);
    assert!(matches!(at(&ahead).await, Err(ReadRejection::Store(StoreError::BadToken))));
    let mut foreign = written.clone();
    foreign.incarnation += 1;
    assert!(matches!(at(&foreign).await, Err(ReadRejection::Store(StoreError::BadToken))));
}

#[tokio::test]
async fn changed_language_counts_from_the_next_request_on() {
    let world = World::of(DOCS, &["D:1#viewers@ann", "D:1#editors@bob"]).await;
    assert_eq!(world.check("D:1#viewers@ann").await, "yes");
    let token = world.speak("class D implements Namespace { related: { editors: D[] } }").await;
    assert_eq!(world.check("D:1#editors@bob").await, "yes");
    assert!(world.check("D:1#viewers@ann").await.contains("no relation or permission"));
    let asked = tuple("D:1#editors@bob");
    let at = Consistency::AtLeast(token);
    assert!(world.service.check(TENANT, &asked, 0, at).await.unwrap().value);
    let changes = vec![Change::Delete(asked.clone())];
    world.service.change_tuples(TENANT, changes).await.unwrap();
    assert_eq!(world.check("D:1#editors@bob").await, "no");
}
