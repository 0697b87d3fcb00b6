//! Set indexes: for a relation or permission on an object, every subject set whose
//! members have it, however deep (the Leopard index of the Zanzibar paper, § 3.2.5).
//!
//! Whether somebody has it is then whether one of the tuples that name him is of one of
//! these sets: one read, instead of a walk through every group and folder in between.
//! The tuples that name him are read as of the request's own instant, conditions and
//! expiry with them; only what leads from set to set is remembered.
//!
//! - **Never stale.** An index is used for a request only if it is what a walk at the
//!   request's own revision would find. It knows from when on it holds (the revision that
//!   it was read at), and the [changes](follow) tell at which revision a set changed last:
//!   it is used where none of its sets changed behind either. Where the changes up to the
//!   request's revision are not known yet, or a transaction is half done, it is not used.
//! - **Only what is plain.** A way that rests on a condition, an expiry, a negation, a
//!   conjunction, `this == ctx.subject`, a cycle, something undeclared, or that meets a
//!   limit, is not indexed ([`mod@flatten`]); the engine walks there as ever. Under a negation
//!   or a conjunction what is plain is told from its index.
//! - **Bounded.** What was asked about [`ASKED_MIN`] times, and cost a walk each time, is
//!   indexed, one at a time, as long as indexing asks no more than an eighth of what walks
//!   ask ([`WORK_SHARE`]). All of it takes [`BYTES_MAX`] at most, and is forgotten together
//!   when it would take more.
//! - **Of this node.** Nothing of it is kept on disk, and no other node is asked.

mod flatten;
mod follow;
mod names;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering},
    },
};

use cardea_storage::{Revision, Row, Store, Tenant, Timestamp};
use parking_lot::RwLock;
use tokio::sync::Semaphore;

use self::{
    flatten::{Flattened, NotFlat, flatten},
    follow::Follow,
    names::{Names, ObjectId, SetId},
};
use crate::{
    engine::{
        Limits,
        node::{Nodes, What},
    },
    graph::Graph,
    language::Language,
    model::SubjectSet,
};

/// Most memory of all indexes, in bytes.
const BYTES_MAX: usize = 64 << 20;
/// How long it is remembered that tuples stand in the way of an index, in milliseconds.
const REFUSED_MS: u64 = 60_000;
/// What an index costs beside its sets, and what a kind of sets does, in bytes.
const INDEX_BYTES: usize = 200;
const KIND_BYTES: usize = 120;
/// Questions of which it is remembered how often they were asked.
const ASKED: usize = 1 << 16;
/// How often a question is asked before it is indexed.
const ASKED_MIN: u32 = 3;
/// Questions that walks ask for each that indexing may, and most that are saved up.
const WORK_SHARE: usize = 8;
const WORK_SAVED_MAX: i64 = 65_536;
/// Questions that a walk asks at least to be worth an index.
const WALK_MIN: usize = 8;
/// How near to what was asked an index is made for, in hops, and in questions.
const NEAR_HOPS: u32 = 2;
const NEAR_MAX: usize = 64;
/// Most kinds of sets that are told apart.
const KINDS_MAX: usize = 16;

/// The indexes of a node.
pub(crate) struct SetIndexes {
    store: Arc<dyn Store>,
    follow: Follow,
    known: RwLock<Known>,
    /// Whether there is any.
    any: AtomicBool,
    /// How often what was asked, in the lowest byte, behind a part of its hash.
    asked: Box<[AtomicU32]>,
    /// Questions that indexing may ask.
    work: AtomicI64,
    hasher: RandomState,
    /// One is made at a time.
    making: Arc<Semaphore>,
}

/// What is known, of all tenants.
#[derive(Default)]
struct Known {
    tenants: HashMap<Tenant, OfTenant>,
}

/// What is known of a tenant's sets, under one language.
struct OfTenant {
    language: Arc<Language>,
    names: Names,
    /// Where the changes of an object's sets are noted, by its number.
    stamps: Vec<u32>,
    indexes: HashMap<SetId, Entry>,
    /// The kinds of sets that indexes have.
    kinds: HashSet<Arc<[Kind]>>,
    /// Relations and permissions that are not plain by what the language says.
    never: HashSet<(String, String)>,
    bytes: usize,
}

enum Entry {
    Index(Index),
    /// Tuples stand in its way.
    Refused {
        until: Timestamp,
    },
}

/// A namespace and a relation in it.
pub(crate) type Kind = (String, String);

/// The sets of a relation or permission on an object.
struct Index {
    /// Whoever a tuple of one of these names has it; in order.
    members: Box<[SetId]>,
    /// All objects on the way.
    objects: Box<[ObjectId]>,
    /// The kinds of the members; none if they are many.
    kinds: Arc<[Kind]>,
    /// When it was read.
    at: Revision,
    /// Up to which revision none of its sets has changed, as far as was looked.
    confirmed: AtomicU64,
    /// Hops to the farthest.
    depth: u32,
}

/// The indexes as a request may use them.
pub(crate) struct Usable {
    indexes: Arc<SetIndexes>,
    tenant: Tenant,
    at: Revision,
}

/// A tuple that names a subject: of which set, and its row.
pub(crate) type Named = (SubjectSet, Row);

impl SetIndexes {
    pub(crate) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            follow: Follow::new(),
            known: RwLock::default(),
            any: AtomicBool::new(false),
            work: AtomicI64::new(0),
            asked: (0..ASKED).map(|_| AtomicU32::new(0)).collect(),
            hasher: RandomState::new(),
            making: Arc::new(Semaphore::new(1)),
        })
    }

    /// For requests on a graph; `None` where no index may be used, or there is none.
    pub(crate) fn usable(self: &Arc<Self>, graph: &Graph) -> Option<Usable> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        let (shard, at) = graph.pinned_at()?;
        match self.follow.up_to(shard, at) {
            Ok(true) => Some(Usable { indexes: self.clone(), tenant: graph.tenant(), at }),
            Ok(false) => None,
            Err(follow::Lost) => {
                self.forget();
                None
            }
        }
    }

    /// Learns from a walk what is best indexed, and has it made.
    pub(crate) fn learn(self: &Arc<Self>, graph: &Arc<Graph>, walked: &Nodes, limits: Limits) {
        if walked.len() < WALK_MIN || graph.pinned_at().is_none() {
            return;
        }
        let earned = i64::try_from(walked.len() / WORK_SHARE).unwrap_or(i64::MAX);
        if self.work.load(Ordering::Relaxed) < WORK_SAVED_MAX {
            self.work.fetch_add(earned, Ordering::Relaxed);
        }
        let near = walked.iter().take(NEAR_MAX).filter(|node| node.depth <= NEAR_HOPS);
        let wanted = near.filter(|node| matches!(node.question.what, What::Has(_)));
        let mut wanted = wanted.map(|node| node.question.set());
        let may = self.work.load(Ordering::Relaxed) > 0;
        if let Some(set) = wanted.find(|set| self.is_wanted(graph, set))
            && may
        {
            self.make_behind(graph.clone(), set, limits);
        }
    }

    /// Notes that a question cost a walk; whether it did so often enough, and has no index.
    fn is_wanted(&self, graph: &Graph, set: &SubjectSet) -> bool {
        let hash = self.hasher.hash_one((graph.tenant().0, set));
        let (place, mark) = (&self.asked[hash as usize % ASKED], (hash >> 32) as u32 & !0xff);
        let before = place.load(Ordering::Relaxed);
        let times = if before & !0xff == mark { (before & 0xff).min(0xfe) + 1 } else { 1 };
        place.store(mark | times, Ordering::Relaxed);
        if times < ASKED_MIN {
            return false;
        }
        let known = self.known.read();
        let Some(of) = known.tenants.get(&graph.tenant()) else { return true };
        if !Arc::ptr_eq(&of.language, graph.language_held()) {
            return true;
        }
        if of.never.contains(&(set.namespace.clone(), set.relation.clone())) {
            return false;
        }
        match of.entry(set) {
            None => true,
            Some(Entry::Refused { until }) => *until <= graph.time(),
            Some(Entry::Index(index)) => !self.holds(of, index, index.at),
        }
    }

    /// Makes an index behind a request's back, unless another is being made.
    fn make_behind(self: &Arc<Self>, graph: Arc<Graph>, set: SubjectSet, limits: Limits) {
        let Ok(place) = self.making.clone().try_acquire_owned() else { return };
        let indexes = self.clone();
        tokio::spawn(async move {
            indexes.make(&graph, set, limits).await;
            drop(place);
        });
    }

    /// Makes an index of what a graph has.
    pub(crate) async fn make(&self, graph: &Graph, set: SubjectSet, limits: Limits) {
        let Some((shard, at)) = graph.pinned_at() else { return };
        // The changes behind what is read are followed before anything is.
        if let Err(error) = self.follow.begin(&*self.store, shard, at).await {
            tracing::debug!(%error, "changes of sets cannot be followed");
            return;
        }
        let flattened = match flatten(graph, &set, limits).await {
            Ok((flattened, asked)) => {
                self.work.fetch_sub(i64::try_from(asked).unwrap_or(i64::MAX), Ordering::Relaxed);
                flattened
            }
            Err(error) => {
                tracing::debug!(%error, "a set could not be indexed");
                return;
            }
        };
        self.keep(graph, set, at, flattened);
    }

    fn keep(
        &self,
        graph: &Graph,
        set: SubjectSet,
        at: Revision,
        flattened: Result<Flattened, NotFlat>,
    ) {
        let mut known = self.known.write();
        if known.bytes() > BYTES_MAX {
            let_go(std::mem::take(&mut *known));
        }
        let language = graph.language_held();
        let of = known.tenants.entry(graph.tenant()).or_insert_with(|| OfTenant::new(language));
        if !Arc::ptr_eq(&of.language, language) {
            let_go(std::mem::replace(of, OfTenant::new(language)));
        }
        let entry = match flattened {
            Err(NotFlat::Language) => {
                of.never.insert((set.namespace, set.relation));
                return;
            }
            Err(NotFlat::Tuples) => {
                Entry::Refused { until: Timestamp(graph.time().0 + REFUSED_MS) }
            }
            Ok(flattened) => Entry::Index(
                of.index(&flattened, at, |set| self.follow.stamp_of(graph.tenant(), set)),
            ),
        };
        let id = of.number(&set, |set| self.follow.stamp_of(graph.tenant(), set));
        of.bytes += entry.bytes();
        if let Some(former) = of.indexes.insert(id, entry) {
            of.bytes -= former.bytes();
        }
        self.any.store(true, Ordering::Release);
    }

    fn forget(&self) {
        self.any.store(false, Ordering::Release);
        let_go(std::mem::take(&mut *self.known.write()));
    }

    /// Whether an index is what a walk at a revision would find, up to which the changes
    /// are known.
    fn holds(&self, of: &OfTenant, index: &Index, at: Revision) -> bool {
        if !self.follow.covers(index.at) || !self.follow.covers(at) {
            return false;
        }
        // Whatever is counted in this is in the stamps by now.
        let last = self.follow.last();
        let since = index.at.min(at);
        if last <= since || at >= index.at && last.0 <= index.confirmed.load(Ordering::Acquire) {
            return true;
        }
        let stamp = |object: &ObjectId| of.stamps[object.0 as usize];
        let holds = index.objects.iter().all(|on| self.follow.changed_at(stamp(on)) <= since);
        if holds && at >= index.at {
            index.confirmed.fetch_max(last.0, Ordering::AcqRel);
        }
        holds
    }

    /// How many sets there are indexes of, and how many bytes all takes, about.
    pub(crate) fn usage(&self) -> (usize, usize) {
        let known = self.known.read();
        let of = |of: &OfTenant| of.indexes.values().filter(|entry| entry.is_index()).count();
        (known.tenants.values().map(of).sum(), known.bytes())
    }
}

impl Known {
    fn bytes(&self) -> usize {
        self.tenants.values().map(|of| of.bytes + of.names.bytes()).sum()
    }
}

impl Entry {
    fn is_index(&self) -> bool {
        matches!(self, Self::Index(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Index(index) => INDEX_BYTES + 8 * index.members.len() + 4 * index.objects.len(),
            Self::Refused { .. } => INDEX_BYTES,
        }
    }
}

impl OfTenant {
    fn new(language: &Arc<Language>) -> Self {
        Self {
            language: language.clone(),
            names: Names::default(),
            stamps: Vec::new(),
            indexes: HashMap::new(),
            kinds: HashSet::new(),
            never: HashSet::new(),
            bytes: 0,
        }
    }

    fn entry(&self, set: &SubjectSet) -> Option<&Entry> {
        self.indexes.get(&self.names.find(set)?)
    }

    fn number(&mut self, set: &SubjectSet, stamp: impl Fn(&SubjectSet) -> u32) -> SetId {
        let (id, new) = self.names.give(set);
        if new {
            self.stamps.push(stamp(set));
        }
        id
    }

    fn index(
        &mut self,
        flattened: &Flattened,
        at: Revision,
        stamp: impl Fn(&SubjectSet) -> u32,
    ) -> Index {
        let Flattened { members, passed, depth } = flattened;
        let kinds = members.iter().map(|set| (set.namespace.clone(), set.relation.clone()));
        let kinds: BTreeSet<Kind> = kinds.collect();
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let kinds = if kinds.len() > KINDS_MAX { &[] } else { &*kinds };
        if !self.kinds.contains(kinds) {
            self.kinds.insert(kinds.into());
            self.bytes += KIND_BYTES * (kinds.len() + 1);
        }
        let kinds = self.kinds.get(kinds).cloned().unwrap_or_default();
        let mut numbers = |sets: &[SubjectSet]| -> Vec<SetId> {
            sets.iter().map(|set| self.number(set, &stamp)).collect()
        };
        let (mut members, passed) = (numbers(members), numbers(passed));
        members.sort_unstable();
        let objects = members.iter().chain(&passed).map(|set| set.object());
        let objects: BTreeSet<ObjectId> = objects.collect();
        Index {
            members: members.into(),
            objects: objects.into_iter().collect(),
            kinds,
            at,
            confirmed: AtomicU64::new(at.0),
            depth: *depth,
        }
    }
}

/// Frees what may be much where nobody waits for it.
fn let_go<T: Send + 'static>(what: T) {
    tokio::task::spawn_blocking(move || drop(what));
}

impl Usable {
    /// The kinds of sets that lead to a relation or permission, if that is indexed within
    /// so many hops and sets: none if they are many.
    pub(crate) fn kinds(
        &self,
        language: &Arc<Language>,
        set: &SubjectSet,
        hops: u32,
        size: usize,
    ) -> Option<Arc<[Kind]>> {
        let known = self.indexes.known.read();
        let of = known.tenants.get(&self.tenant)?;
        let Entry::Index(index) = of.entry(set)? else { return None };
        let fits = index.depth < hops && index.members.len() <= size;
        (fits && Arc::ptr_eq(&of.language, language)).then(|| index.kinds.clone())
    }

    /// Which of the tuples that name a subject lead to a relation or permission; `None`
    /// where that is not indexed, or the index does not hold.
    pub(crate) fn leading(
        &self,
        language: &Arc<Language>,
        set: &SubjectSet,
        named: &[Named],
    ) -> Option<Vec<usize>> {
        let known = self.indexes.known.read();
        let of = known.tenants.get(&self.tenant)?;
        let Entry::Index(index) = of.entry(set)? else { return None };
        if !Arc::ptr_eq(&of.language, language) || !self.indexes.holds(of, index, self.at) {
            return None;
        }
        let leads = |(set, _): &Named| {
            of.names.find(set).is_some_and(|id| index.members.binary_search(&id).is_ok())
        };
        Some((0..named.len()).filter(|at| leads(&named[*at])).collect())
    }
}

#[cfg(test)]
mod tests;
