//! What the operations share: the store, keys, the language in force, limits.

use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

use cardea_storage::{
    Consistency, Keyring, Snaptoken, Store, StoreError, Table, Tenant,
    store::{Position, ReadRequest, Rows},
};
use parking_lot::RwLock;
use tokio::sync::Mutex;

use crate::{
    engine::Limits,
    graph::Graph,
    language::Language,
    model::{Subject, SubjectSet},
    page::PageKeys,
    rejection::ReadRejection,
    reverse::{KeptLists, MERGED_MAX},
    sets::SetIndexes,
    table::{
        DEFAULT_SLOT, LanguageHeadKey, LanguageHeads, LanguageVersionKey, LanguageVersions, Place,
    },
};

/// How often a request is begun anew because what it had read changed meanwhile.
const WALKS_MAX: u32 = 8;

/// How often a view without a transaction half done is tried for.
const PINS_MAX: u32 = 20;

/// The permission layer of a node.
pub struct Service {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pages: PageKeys,
    pub(crate) kept: KeptLists,
    pub(crate) sets: Arc<SetIndexes>,
    /// [`MERGED_MAX`], unless a test says otherwise.
    pub(crate) merged_max: usize,
    limits: Limits,
    languages: RwLock<BTreeMap<Tenant, Held>>,
    /// Held by whoever loads a language: one that comes into force is read once, and not
    /// by each of the requests under way.
    loading: Mutex<()>,
}

/// A language as this node holds it.
#[derive(Clone)]
pub(crate) struct Held {
    /// 0 before there is any.
    pub(crate) version: u64,
    pub(crate) language: Arc<Language>,
}

/// What an operation found, and where the graph and the language stood.
#[derive(Debug, Clone)]
pub struct Answered<T> {
    /// What was found.
    pub value: T,
    /// Reads at it see at least what was seen here.
    pub snaptoken: Snaptoken,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Service {
    /// A layer over a store. Page tokens are sealed with keys derived from `cursor`.
    pub fn new(store: Arc<dyn Store>, cursor: &Keyring, limits: Limits) -> Self {
        let sets = SetIndexes::new(store.clone());
        Self {
            store,
            sets,
            pages: PageKeys::new(cursor),
            kept: KeptLists::default(),
            merged_max: MERGED_MAX,
            limits,
            languages: RwLock::default(),
            loading: Mutex::default(),
        }
    }

    /// How many set indexes there are, and how many bytes they take, about.
    pub fn set_indexes(&self) -> (usize, usize) {
        self.sets.usage()
    }

    /// The bounds of a request; `depth` is what it asks for itself, 0 for the default.
    pub fn limits(&self, depth: u32) -> Limits {
        let depth = if depth == 0 { self.limits.depth } else { depth.min(self.limits.depth) };
        Limits { depth, ..self.limits }
    }

    /// The language in force, at least as new as asked for, and where it was read.
    pub(crate) async fn language(
        &self,
        tenant: Tenant,
        consistency: &Consistency,
    ) -> Result<(Held, Snaptoken), StoreError> {
        self.vet(tenant, consistency).await?;
        let key = LanguageHeads::key(&LanguageHeadKey(tenant));
        let request = ReadRequest::new(consistency.clone()).get(key);
        let answer = self.store.read(request).await?;
        let head = answer.results.into_iter().next().and_then(Rows::into_row);
        let version = match head {
            Some(row) => LanguageHeads::decode(&row)?.record.version,
            None => 0,
        };
        // What is held may be newer than what was read: then it counts.
        let held = || {
            let held = self.languages.read().get(&tenant).cloned();
            held.filter(|held| held.version >= version)
        };
        if let Some(held) = held() {
            return Ok((held, answer.snaptoken));
        }
        let _loading = self.loading.lock().await;
        if let Some(held) = held() {
            return Ok((held, answer.snaptoken));
        }
        let held = self.load(tenant, version, &answer.snaptoken).await?;
        let mut languages = self.languages.write();
        let newest = languages.entry(tenant).or_insert_with(|| held.clone());
        if newest.version < held.version {
            *newest = held.clone();
        }
        Ok((held, answer.snaptoken))
    }

    /// Refuses a token of another cluster, and one of a state that this one has not
    /// reached: nobody is to wait for what may never come.
    pub(crate) async fn vet(
        &self,
        tenant: Tenant,
        consistency: &Consistency,
    ) -> Result<(), StoreError> {
        let Consistency::AtLeast(token) = consistency else { return Ok(()) };
        let head = LanguageHeads::key(&LanguageHeadKey(tenant));
        let nobody = SubjectSet::new("", "", "");
        let graph = Place { tenant, slot: DEFAULT_SLOT };
        let graph = graph.tuple_key(&nobody, &Subject::Id(String::new()));
        for fresh in [Consistency::Eventual, Consistency::Strong] {
            let request = ReadRequest::new(fresh).get(head.clone()).get(graph.clone());
            let seen = self.store.read(request).await?.snaptoken;
            if token.incarnation != seen.incarnation {
                return Err(StoreError::BadToken);
            }
            let reached = |position: &Position| {
                let seen = seen.revision(position.shard);
                seen.is_none_or(|seen| seen.0 >= position.revision)
            };
            if token.positions.iter().all(reached) {
                return Ok(());
            }
        }
        Err(StoreError::BadToken)
    }

    async fn load(
        &self,
        tenant: Tenant,
        version: u64,
        seen: &Snaptoken,
    ) -> Result<Held, StoreError> {
        if version == 0 {
            return Ok(Held { version, language: Arc::default() });
        }
        let key = LanguageVersions::key(&LanguageVersionKey { tenant, version });
        let at_least = Consistency::AtLeast(seen.clone());
        let answer = self.store.read(ReadRequest::new(at_least).get(key)).await?;
        let row = answer.results.into_iter().next().and_then(Rows::into_row);
        let row = row.ok_or_else(|| {
            StoreError::unavailable("the permission language changed while it was read")
        })?;
        let record = LanguageVersions::decode(&row)?.record;
        let compiled = tokio::task::spawn_blocking(move || crate::change::compile(&record));
        let language = compiled
            .await
            .map_err(|error| cardea_storage::Fault::caused("reading a language", error))?
            .map_err(|reason| {
                cardea_storage::Fault::new(format!("language {version}: {reason}"))
            })?;
        Ok(Held { version, language: Arc::new(language) })
    }

    /// Runs a request on a graph of one instant, with a language that is as fresh.
    pub(crate) async fn walk<R, F, Fut>(
        &self,
        tenant: Tenant,
        consistency: &Consistency,
        run: F,
    ) -> Result<Answered<R>, ReadRejection>
    where
        F: Fn(Arc<Graph>) -> Fut,
        Fut: Future<Output = Result<R, ReadRejection>>,
    {
        let mut follow = false;
        for _ in 0..WALKS_MAX {
            let store = self.store.clone();
            let pin = async {
                if follow { Ok(None) } else { store.pin(DEFAULT_SLOT, consistency).await }
            };
            // Each is as fresh as is asked for, so neither waits for the other.
            let language = self.language(tenant, consistency);
            let ((held, language_at), pinned) = futures::try_join!(language, pin)?;
            let consistency = consistency.clone();
            let graph = Graph::new(store.clone(), tenant, held.language, consistency, pinned);
            let sets = self.sets.usable(&graph);
            let graph = Arc::new(graph.with_sets(sets));
            let run = run(graph.clone()).await;
            if graph.met_lock() {
                follow = true;
                continue;
            }
            if !graph.confirm().await? {
                continue;
            }
            let value = run?;
            let mut snaptoken = graph.snaptoken();
            snaptoken.merge(&language_at);
            return Ok(Answered { value, snaptoken });
        }
        Err(StoreError::Contended { attempts: WALKS_MAX }.into())
    }

    /// A graph of one instant in which no transaction is half done, and where the
    /// language stood; `None` where this node has no replica, or always meets one. Holds
    /// an engine snapshot until it is dropped.
    pub(crate) async fn still(
        &self,
        tenant: Tenant,
        consistency: &Consistency,
    ) -> Result<Option<Answered<Arc<Graph>>>, StoreError> {
        for _ in 0..PINS_MAX {
            let language = self.language(tenant, consistency);
            let pin = self.store.pin(DEFAULT_SLOT, consistency);
            let ((held, snaptoken), pinned) = futures::try_join!(language, pin)?;
            let Some(pinned) = pinned else { return Ok(None) };
            if pinned.is_unlocked() {
                let (store, consistency) = (self.store.clone(), consistency.clone());
                let graph = Graph::new(store, tenant, held.language, consistency, Some(pinned));
                return Ok(Some(Answered { value: Arc::new(graph), snaptoken }));
            }
            tokio::task::yield_now().await;
        }
        Ok(None)
    }
}
