//! Deleting every tuple that a query means, however many there are.
//!
//! 1. What one transaction holds goes in one. If that is not all, the same transaction
//!    writes a record: what is deleted, behind which key it goes on, and who is at it,
//!    until when.
//! 2. Each further piece checks that the record still names whoever deletes it, moves it
//!    on and prolongs it; the last one removes it. So a record is never behind what was
//!    deleted, and nobody deletes for a deletion that is over, or that somebody else is at.
//! 3. Where a record names nobody any more, since its node died or could not reach the
//!    store for [`LEASE`], whichever node looks first takes it up, and so does whoever
//!    asks for the same.
//! 4. Who asks for what somebody else is at waits until that is done, and then looks
//!    through it once for himself: what came behind the other's back before he asked is
//!    to be gone as well.
//!
//! A tuple that is made while a deletion is under way may go or stay.

use std::time::Duration;

use bytes::Bytes;
use cardea_storage::{
    Consistency, KeyRange, Slot, Snaptoken, StoreError, Table, TableKey, Tag, Tenant, Transaction,
    engine::Order,
    key::{KeyReader, KeyWriter},
};
use prost::Message;

use crate::{
    Service,
    language::Language,
    list::ListPosition,
    model::{Subject, SubjectSet, TupleQuery},
    rejection::ReadRejection,
    table::{DEFAULT_SLOT, Place, TupleKey, Tuples},
    write::CHANGES_MAX,
};

/// How long a record names whoever is at it, from his last piece on. Much longer than a
/// piece takes, and short enough for whoever repeats a request to be answered by it.
pub const LEASE: Duration = Duration::from_secs(10);

/// Bytes of keys that one piece names, at most: well within a transaction.
const BYTES_MAX: usize = 768 * 1024;
/// How often somebody who waits for another looks.
const LOOKS_EVERY: Duration = Duration::from_millis(250);
/// Deletions that are looked for at once.
const FOUND_MAX: u32 = 64;

/// Tuples deleted by a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deleted {
    /// How many, those among them that others deleted before for the same deletion.
    pub count: u64,
    /// Reads at it see none of them.
    pub snaptoken: Snaptoken,
}

/// Deletions that were too large for one transaction and are not done: in the graph space.
pub struct Deletions;

/// The key of [`Deletions`]: the same query is the same deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionKey {
    /// Whose tuples.
    pub tenant: Tenant,
    /// The first half of the hash of the query's record.
    pub query: u128,
}

/// The record of [`Deletions`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct DeletionRecord {
    /// What is deleted.
    #[prost(message, optional, tag = "1")]
    pub query: Option<QueryRecord>,
    /// When it began; milliseconds.
    #[prost(uint64, tag = "2")]
    pub begun_at: u64,
    /// Tuples deleted so far.
    #[prost(uint64, tag = "3")]
    pub deleted: u64,
    /// The key behind which it goes on; empty for the beginning.
    #[prost(bytes = "bytes", tag = "4")]
    pub after: Bytes,
    /// Drawn by whoever is at it.
    #[prost(bytes = "bytes", tag = "5")]
    pub claim: Bytes,
    /// From when on somebody else may take it up; milliseconds.
    #[prost(uint64, tag = "6")]
    pub due_at: u64,
}

/// A query as it is kept; see [`TupleQuery`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct QueryRecord {
    /// The namespace.
    #[prost(string, optional, tag = "1")]
    pub namespace: Option<String>,
    /// The object.
    #[prost(string, optional, tag = "2")]
    pub object: Option<String>,
    /// The relation.
    #[prost(string, optional, tag = "3")]
    pub relation: Option<String>,
    /// The subject, if it is an id.
    #[prost(string, optional, tag = "4")]
    pub subject_id: Option<String>,
    /// The subject, if it is a subject set.
    #[prost(message, optional, tag = "5")]
    pub subject_set: Option<SetRecord>,
}

/// A subject set as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SetRecord {
    /// The namespace.
    #[prost(string, tag = "1")]
    pub namespace: String,
    /// The object.
    #[prost(string, tag = "2")]
    pub object: String,
    /// The relation; empty for the object itself.
    #[prost(string, tag = "3")]
    pub relation: String,
}

impl QueryRecord {
    fn of(query: &TupleQuery) -> Self {
        let TupleQuery { namespace, object, relation, subject } = query.clone();
        let (subject_id, subject_set) = match subject {
            None => (None, None),
            Some(Subject::Id(id)) => (Some(id), None),
            Some(Subject::Set(SubjectSet { namespace, object, relation })) => {
                (None, Some(SetRecord { namespace, object, relation }))
            }
        };
        Self { namespace, object, relation, subject_id, subject_set }
    }

    fn query(self) -> TupleQuery {
        let Self { namespace, object, relation, subject_id, subject_set } = self;
        let set = |set: SetRecord| SubjectSet::new(set.namespace, set.object, set.relation);
        let subject = subject_id.map(Subject::Id);
        let subject = subject.or(subject_set.map(|it| Subject::Set(set(it))));
        TupleQuery { namespace, object, relation, subject }
    }
}

impl DeletionKey {
    fn of(tenant: Tenant, query: &TupleQuery) -> Self {
        let hash = blake3::hash(&QueryRecord::of(query).encode_to_vec());
        let (half, _) = hash.as_bytes().split_at(16);
        let query = half.iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
        Self { tenant, query }
    }
}

impl Deletions {
    /// Those of all tenants.
    fn all() -> KeyRange {
        let mut prefix = DEFAULT_SLOT.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&Self::TAG.0.to_be_bytes());
        KeyRange::prefix(&prefix)
    }
}

impl TableKey for DeletionKey {
    fn slot(&self) -> Slot {
        DEFAULT_SLOT
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        let (high, low) = ((self.query >> 64) as u64, self.query as u64);
        key.u64(high).u64(low);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        let (high, low) = (rest.u64()?, rest.u64()?);
        Some(Self { tenant, query: u128::from(high) << 64 | u128::from(low) })
    }
}

impl Table for Deletions {
    const TAG: Tag = Tag::RELATION_TUPLE_DELETION;
    type Key = DeletionKey;
    type Record = DeletionRecord;
}

/// A deletion, for whoever is at it.
struct Job<'a> {
    key: DeletionKey,
    query: &'a TupleQuery,
    language: &'a Language,
    claim: Bytes,
}

/// Whether a deletion that is not there is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Begin,
    Leave,
}

/// How a piece went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is more.
    More,
    /// That was the last, and so many went in all.
    Last(u64),
    /// Somebody else is at it.
    Theirs,
    /// There is no such deletion.
    Over,
}

impl Service {
    /// Deletes every tuple that a query means, and answers when they are gone. Up to
    /// [`CHANGES_MAX`] of them go together; more go in pieces, which are gone on with
    /// whatever becomes of the caller: see the [module](self).
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn delete_tuples(
        &self,
        tenant: Tenant,
        query: &TupleQuery,
    ) -> Result<Deleted, ReadRejection> {
        query.validate()?;
        let (held, mut snaptoken) = self.language(tenant, &Consistency::Strong).await?;
        let job = Job {
            key: DeletionKey::of(tenant, query),
            query,
            language: &held.language,
            claim: self.claim(),
        };
        // Whether what is under way was begun here, from the first tuple on.
        let mut own = false;
        loop {
            let unknown = if own { Unknown::Leave } else { Unknown::Begin };
            let (step, began) = self.delete_some(&job, unknown, &mut snaptoken).await?;
            own |= began;
            match step {
                Step::Last(count) if own => return Ok(Deleted { count, snaptoken }),
                Step::More | Step::Last(_) => {}
                // It was slow, and somebody went on from where it was.
                Step::Over => return Ok(Deleted { count: 0, snaptoken }),
                Step::Theirs => tokio::time::sleep(LOOKS_EVERY).await,
            }
        }
    }

    /// Goes on with deletions that nobody is at; gives how many came to their end here. One
    /// that cannot be gone on with now keeps no other waiting.
    ///
    /// # Errors
    /// See [`StoreError`]; what is left is gone on with later.
    pub async fn continue_deletions(&self) -> Result<usize, StoreError> {
        let view = self.store.view(Consistency::Eventual);
        let (found, _) =
            view.peek_range::<Deletions>(Deletions::all(), FOUND_MAX, Order::Forward).await?;
        let now = view.judged_at().as_millis();
        let (mut ended, mut failed) = (0, None);
        for entry in found.into_iter().filter(|entry| entry.record.due_at <= now) {
            let Some(query) = entry.record.query.map(QueryRecord::query) else { continue };
            match self.continue_deletion(entry.key, &query).await {
                Ok(ends) => ended += usize::from(ends),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    /// Goes on with a deletion, unless somebody else is at it; whether it ends here.
    async fn continue_deletion(
        &self,
        key: DeletionKey,
        query: &TupleQuery,
    ) -> Result<bool, StoreError> {
        let (held, mut snaptoken) = self.language(key.tenant, &Consistency::Strong).await?;
        let job = Job { key, query, language: &held.language, claim: self.claim() };
        loop {
            match self.delete_some(&job, Unknown::Leave, &mut snaptoken).await?.0 {
                Step::More => {}
                Step::Theirs | Step::Over => return Ok(false),
                Step::Last(count) => {
                    tracing::info!(count, "a deletion of relation tuples was taken up and done");
                    return Ok(true);
                }
            }
        }
    }

    fn claim(&self) -> Bytes {
        let drawn: [u8; 16] = self.store.entropy().bytes();
        Bytes::copy_from_slice(&drawn)
    }

    /// Deletes a piece; gives how it went, and whether it was the first.
    async fn delete_some(
        &self,
        job: &Job<'_>,
        unknown: Unknown,
        snaptoken: &mut Snaptoken,
    ) -> Result<(Step, bool), StoreError> {
        let done =
            self.store.transact(|t| async move { self.piece(&t, job, unknown).await }).await?;
        snaptoken.merge(&done.snaptoken);
        Ok(done.value)
    }

    async fn piece(
        &self,
        t: &Transaction,
        job: &Job<'_>,
        unknown: Unknown,
    ) -> Result<(Step, bool), StoreError> {
        let now = t.now();
        let known = t.get::<Deletions>(&job.key).await?.map(|entry| entry.record);
        let began = known.is_none();
        let mut record = match known {
            None if unknown == Unknown::Leave => return Ok((Step::Over, false)),
            None => DeletionRecord {
                query: Some(QueryRecord::of(job.query)),
                begun_at: now.as_millis(),
                ..DeletionRecord::default()
            },
            Some(record) if record.claim == job.claim || record.due_at <= now.as_millis() => record,
            Some(_) => return Ok((Step::Theirs, false)),
        };
        let tenant = job.key.tenant;
        let from = ListPosition::of_bytes(record.after.clone());
        let page = self.page_of(t, tenant, job.language, job.query, from, CHANGES_MAX).await?;
        let keys = page.tuples.iter().map(|found| {
            let slot = job.language.slot(&found.tuple.namespace);
            Place { tenant, slot }.key(&found.tuple)
        });
        let (keys, whole) = fitting(keys.collect());
        t.get_many::<Tuples>(&keys).await?;
        for key in &keys {
            t.delete::<Tuples>(key).await?;
        }
        record.deleted += u64::try_from(keys.len()).unwrap_or(u64::MAX);
        let next = page.next.map(ListPosition::into_bytes);
        match next {
            None if whole => {
                if !began {
                    t.delete::<Deletions>(&job.key).await?;
                }
                return Ok((Step::Last(record.deleted), began));
            }
            Some(next) if whole => record.after = next,
            // What did not fit is found again, for what did is gone.
            _ => {}
        }
        record.claim = job.claim.clone();
        record.due_at = now.after(LEASE).as_millis();
        t.put::<Deletions>(&job.key, &record, None).await?;
        Ok((Step::More, began))
    }
}

/// As many as one transaction holds, and whether those are all.
fn fitting(mut keys: Vec<TupleKey>) -> (Vec<TupleKey>, bool) {
    let (mut bytes, given) = (0, keys.len());
    let fit = keys.iter().take_while(|key| {
        // A check and three rows, each with its key.
        bytes += 4 * (Tuples::key(key).as_bytes().len() + 24);
        bytes <= BYTES_MAX
    });
    let fit = fit.count();
    keys.truncate(fit);
    (keys, fit == given)
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use async_trait::async_trait;
    use cardea_storage::{
        ManualClock, SeededEntropy, Store, Through,
        engine::memory::MemoryDisk,
        local::LocalShards,
        store::{Draft, Verdict},
    };
    use parking_lot::Mutex;

    use super::*;
    use crate::{
        engine::Limits,
        model::Tuple,
        testing::{START, TENANT, World, tuple},
    };

    const NUMBER: usize = 2 * CHANGES_MAX + 300;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn query(subject: &str) -> TupleQuery {
        TupleQuery {
            namespace: Some("A".to_owned()),
            subject: Some(subject.parse().unwrap()),
            ..TupleQuery::default()
        }
    }

    async fn filled() -> World {
        let world = World::of("class A implements Namespace {}", &["A:other#r@bob"]).await;
        let many: Vec<String> = (0..NUMBER).map(|at| format!("A:{at:04}#r@ann")).collect();
        world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world
    }

    async fn left(world: &World) -> Vec<Tuple> {
        let all = TupleQuery::default();
        let (mut found, mut after) = (Vec::new(), Some(ListPosition::default()));
        let (held, _) = world.service.language(TENANT, &Consistency::Strong).await.unwrap();
        while let Some(from) = after {
            let view = world.service.store.view(Consistency::Strong);
            let page = world.service.page_of(&view, TENANT, &held.language, &all, from, 1_000);
            let page = page.await.unwrap();
            found.extend(page.tuples.into_iter().map(|one| one.tuple));
            after = page.next;
        }
        found
    }

    async fn record(world: &World, query: &TupleQuery) -> Option<DeletionRecord> {
        let view = world.service.store.view(Consistency::Strong);
        let key = DeletionKey::of(TENANT, query);
        view.get::<Deletions>(&key).await.unwrap().map(|entry| entry.record)
    }

    /// A node that begins a deletion and dies after so many pieces.
    async fn dies_after(world: &World, query: &TupleQuery, pieces: usize) {
        let service = &world.service;
        let (held, mut seen) = service.language(TENANT, &Consistency::Strong).await.unwrap();
        let key = DeletionKey::of(TENANT, query);
        let job = Job { key, query, language: &held.language, claim: service.claim() };
        for piece in 0..pieces {
            let unknown = if piece == 0 { Unknown::Begin } else { Unknown::Leave };
            let (step, _) = service.delete_some(&job, unknown, &mut seen).await.unwrap();
            assert_eq!(step, Step::More);
        }
    }

    #[test]
    fn bytes_are_frozen() {
        let query = TupleQuery {
            namespace: Some("n".to_owned()),
            object: Some(String::new()),
            relation: None,
            subject: Some("(g:2#m)".parse().unwrap()),
        };
        let key = DeletionKey::of(Tenant(7), &query);
        assert_eq!(
            hex(Deletions::key(&key).as_bytes()),
            "2000050400000007313872881b81ada489a138055a2d4b38"
        );
        assert_eq!(Deletions::read_key(&Deletions::key(&key)), Some(key));
        assert!(Deletions::all().contains(Deletions::key(&key).as_bytes()));
        let record = DeletionRecord {
            query: Some(QueryRecord::of(&query)),
            begun_at: 1,
            deleted: 300,
            after: Bytes::from_static(b"k"),
            claim: Bytes::from_static(b"c"),
            due_at: 2,
        };
        assert_eq!(
            hex(&record.encode_to_vec()),
            "0a100a016e12002a090a01671201321a016d100118ac0222016b2a01633002"
        );
        let by_id = TupleQuery { subject: Some("ann".parse().unwrap()), ..TupleQuery::default() };
        for query in [query, by_id, TupleQuery::default()] {
            assert_eq!(QueryRecord::of(&query).query(), query);
        }
    }

    #[tokio::test]
    async fn deletion_of_a_node_that_died_is_taken_up_where_it_was_and_not_before() {
        for pieces in [1, 2] {
            let (world, query) = (filled().await, query("ann"));
            dies_after(&world, &query, pieces).await;
            assert_eq!(left(&world).await.len(), NUMBER + 1 - pieces * CHANGES_MAX);
            assert_eq!(world.service.continue_deletions().await.unwrap(), 0, "it may be alive");
            let before = record(&world, &query).await.unwrap();
            assert_eq!(before.deleted, (pieces * CHANGES_MAX) as u64);
            world.clock.advance(LEASE);
            assert_eq!(world.service.continue_deletions().await.unwrap(), 1);
            assert_eq!(left(&world).await, [tuple("A:other#r@bob")]);
            assert_eq!(record(&world, &query).await, None);
            assert_eq!(world.service.continue_deletions().await.unwrap(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_repeats_it_waits_for_whoever_is_at_it_and_is_answered_when_all_is_gone() {
        let (world, query) = (filled().await, query("ann"));
        dies_after(&world, &query, 1).await;
        // Behind what was deleted already, and before the request.
        world.insert(&["A:0000#r@ann"]).await;
        let mut asked = std::pin::pin!(world.service.delete_tuples(TENANT, &query));
        let wait = tokio::time::timeout(LEASE, asked.as_mut()).await;
        assert!(wait.is_err(), "the clock of the store stands, so the other may be alive");
        assert_eq!(left(&world).await.len(), NUMBER + 2 - CHANGES_MAX);
        world.clock.advance(LEASE);
        asked.await.unwrap();
        assert_eq!(left(&world).await, [tuple("A:other#r@bob")]);
        assert_eq!(record(&world, &query).await, None);
    }

    #[tokio::test]
    async fn who_was_thought_dead_deletes_nothing_any_more() {
        let (world, query) = (filled().await, query("ann"));
        let service = &world.service;
        let (held, mut seen) = service.language(TENANT, &Consistency::Strong).await.unwrap();
        let key = DeletionKey::of(TENANT, &query);
        let job = |claim| Job { key, query: &query, language: &held.language, claim };
        let (slow, other) = (job(service.claim()), job(service.claim()));
        let begun = service.delete_some(&slow, Unknown::Begin, &mut seen).await.unwrap();
        assert_eq!(begun, (Step::More, true));
        world.clock.advance(LEASE);
        let taken = service.delete_some(&other, Unknown::Leave, &mut seen).await.unwrap();
        assert_eq!(taken, (Step::More, false));
        let refused = service.delete_some(&slow, Unknown::Leave, &mut seen).await.unwrap();
        assert_eq!(refused, (Step::Theirs, false));
        let last = service.delete_some(&other, Unknown::Leave, &mut seen).await.unwrap();
        assert_eq!(last, (Step::Last(NUMBER as u64), false));
        // Acknowledged to whoever asked; what is made from now on stays.
        world.insert(&["A:0000#r@ann"]).await;
        let over = service.delete_some(&slow, Unknown::Leave, &mut seen).await.unwrap();
        assert_eq!(over, (Step::Over, false));
        assert_eq!(left(&world).await.len(), 2);
    }

    /// A store that commits nothing of somebody.
    struct Refusing {
        inner: Arc<dyn Store>,
        whom: Mutex<Option<&'static str>>,
    }

    #[async_trait]
    impl Through for Refusing {
        fn inner(&self) -> &Arc<dyn Store> {
            &self.inner
        }

        async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
            let effects = draft.ops.iter().filter_map(|op| op.effect.as_ref());
            let names = |key: &[u8], name: &str| key.windows(3).any(|part| part == name.as_bytes());
            let whom = *self.whom.lock();
            if whom.is_some_and(|name| effects.clone().any(|effect| names(effect.key(), name))) {
                return Err(StoreError::unavailable("not now"));
            }
            self.inner.commit(draft).await
        }
    }

    #[tokio::test]
    async fn deletion_that_cannot_be_gone_on_with_keeps_no_other_waiting() {
        const EVERYBODY: [&str; 4] = ["ann", "bob", "cid", "dan"];
        for stuck in EVERYBODY {
            let clock = Arc::new(ManualClock::new(START));
            let disk = MemoryDisk::new(1);
            let shards = LocalShards::open(&disk, Path::new("test"), 1, clock.clone()).unwrap();
            let inner = shards.store(Arc::new(SeededEntropy::new(7)));
            let store = Arc::new(Refusing { inner, whom: Mutex::default() });
            let world = World::over(store.clone(), clock, Limits::default());
            for name in EVERYBODY {
                let many: Vec<String> =
                    (0..=CHANGES_MAX).map(|at| format!("A:{at}#r@{name}")).collect();
                world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
                let query = TupleQuery { namespace: None, ..query(name) };
                dies_after(&world, &query, 1).await;
            }
            world.clock.advance(LEASE);
            *store.whom.lock() = Some(stuck);
            world.service.continue_deletions().await.unwrap_err();
            let left = left(&world).await;
            let whose: Vec<String> = left.iter().map(|one| one.subject.to_string()).collect();
            assert_eq!(whose, [stuck]);
            *store.whom.lock() = None;
            assert_eq!(world.service.continue_deletions().await.unwrap(), 1);
        }
    }

    #[tokio::test]
    async fn small_deletion_leaves_no_record_and_an_empty_one_nothing() {
        let (world, query) = (filled().await, query("bob"));
        assert_eq!(world.service.delete_tuples(TENANT, &query).await.unwrap().count, 1);
        assert_eq!(record(&world, &query).await, None);
        assert_eq!(world.service.delete_tuples(TENANT, &query).await.unwrap().count, 0);
        assert_eq!(left(&world).await.len(), NUMBER);
    }
}
