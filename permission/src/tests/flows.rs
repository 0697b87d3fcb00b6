//! Everything that a look-up finds, given while it is looked for.

use std::sync::Arc;

use async_trait::async_trait;
use cardea_storage::{
    Consistency, ManualClock, SeededEntropy, Slot, Store, StoreError, Through,
    engine::memory::MemoryDisk,
    local::LocalShards,
    protocol::pin::Pinned,
    store::{Read, ReadAnswer, ReadRequest},
};
use futures::poll;
use parking_lot::Mutex;

use crate::{
    Answered, Context, Service, Subject, SubjectSet,
    engine::Limits,
    list::PageRequest,
    reverse::{
        SubjectKind,
        flow::{Given, NAMES_AT_ONCE, Taker},
    },
    testing::{START, TENANT, Taken, World, ring, tuple},
    write::Change,
};

const LANGUAGE: &str = "
class User implements Namespace {}
class Doc implements Namespace {
  related: { viewers: User[]; banned: User[] }
  permits = { open: (ctx: Context): boolean =>
    this.related.viewers.includes(ctx.subject) && !this.related.banned.includes(ctx.subject) } }";

const NUMBER: usize = NAMES_AT_ONCE * 2 + 500;

fn ann() -> Subject {
    Subject::Id("ann".to_owned())
}

fn docs() -> Vec<String> {
    (0..NUMBER).map(|at| format!("{at:05}")).collect()
}

async fn fill(world: &World) {
    world.speak(LANGUAGE).await;
    let tuples: Vec<String> = docs().iter().map(|doc| format!("Doc:{doc}#viewers@ann")).collect();
    world.insert(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
}

async fn give(world: &World, relation: &str, taker: &mut dyn Taker) -> Given {
    let (ann, given, strong) = (ann(), Context::new(), Consistency::Strong);
    let given = world.service.give_objects(TENANT, "Doc", relation, &ann, &given, strong, taker);
    given.await.unwrap()
}

/// Changes what is looked up as soon as the first part was given.
struct Meddler<'a> {
    world: &'a World,
    taken: Taken,
}

#[async_trait]
impl Taker for Meddler<'_> {
    async fn take(&mut self, names: Answered<Vec<String>>) -> bool {
        if self.taken.parts == 0 {
            self.world.delete(&format!("Doc:{:05}#viewers@ann", NUMBER - 1)).await;
            self.world.insert(&["Doc:99999#viewers@ann"]).await;
        }
        self.taken.take(names).await
    }
}

#[tokio::test]
async fn everything_is_of_the_instant_of_the_first_part_and_enough_is_enough() {
    let world = World::new();
    fill(&world).await;
    for relation in ["viewers", "open"] {
        let mut first = Taken { parts_max: Some(1), ..Taken::default() };
        assert_eq!(give(&world, relation, &mut first).await, Given::Enough);
        assert_eq!((first.parts, first.names.len()), (1, NAMES_AT_ONCE), "nothing beyond it");
    }
    let mut meddler = Meddler { world: &world, taken: Taken::default() };
    assert_eq!(give(&world, "open", &mut meddler).await, Given::All);
    let taken = meddler.taken;
    assert_eq!((taken.names, taken.parts, taken.at.len()), (docs(), 3, 1));
    let mut after = Taken::default();
    give(&world, "open", &mut after).await;
    let mut now = docs();
    now[NUMBER - 1] = "99999".to_owned();
    assert_eq!(after.names, now);
}

#[tokio::test]
async fn who_finds_nothing_is_told_so_once() {
    let world = World::new();
    fill(&world).await;
    let (set, kind) = (SubjectSet::new("Doc", "none", "open"), SubjectKind::Ids);
    let (mut taken, given) = (Taken::default(), Context::new());
    let ended = world
        .service
        .give_subjects(TENANT, &set, &kind, &given, Consistency::Strong, &mut taken)
        .await;
    assert_eq!((ended.unwrap(), taken.parts, taken.names.len()), (Given::All, 1, 0));
}

/// A node without a replica.
struct Remote(Arc<dyn Store>);

#[async_trait]
impl Through for Remote {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.0
    }

    async fn pin(&self, _: Slot, _: &Consistency) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }
}

#[tokio::test]
async fn without_a_replica_each_part_holds_at_an_instant_of_its_own() {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    let path = std::path::Path::new("test");
    let shards = LocalShards::open(&disk, path, 1, clock.clone()).unwrap();
    let store = Arc::new(Remote(shards.store(Arc::new(SeededEntropy::new(7)))));
    let world = World::over(store, clock, Limits::default());
    fill(&world).await;
    let mut meddler = Meddler { world: &world, taken: Taken::default() };
    assert_eq!(give(&world, "open", &mut meddler).await, Given::All);
    let mut now = docs();
    now[NUMBER - 1] = "99999".to_owned();
    assert_eq!((meddler.taken.names, meddler.taken.at.len()), (now, 2));
}

#[tokio::test]
async fn long_look_up_lets_others_run_and_ends_with_whoever_awaits_it() {
    const LENGTH: usize = 300;
    let mut tuples: Vec<String> = (1..LENGTH)
        .map(|at| format!("Group:{:03}#members@(Group:{at:03}#members)", at - 1))
        .collect();
    tuples.push(format!("Group:{:03}#members@ann", LENGTH - 1));
    let tuples: Vec<&str> = tuples.iter().map(String::as_str).collect();
    let world =
        World::of("class Group implements Namespace { related: { members: Group[] } }", &tuples)
            .await;
    // The language is read by now.
    assert_eq!(world.check("Group:299#members@ann").await, "yes");
    let (ann, given) = (ann(), Context::new());
    let page = PageRequest { size: 1_000, token: None };
    let strong = Consistency::Strong;
    let listing =
        world.service.list_objects(TENANT, "Group", "members", &ann, &given, &page, strong);
    let mut listing = std::pin::pin!(listing);
    assert!(poll!(listing.as_mut()).is_pending(), "it kept the thread to its end");
    assert_eq!(listing.await.unwrap().value.items.len(), LENGTH);
}

/// A node without a replica of the graph; once, somebody is taken off the viewers while an
/// editor is checked.
struct Overtaken {
    inner: Arc<dyn Store>,
    by: Mutex<Option<Service>>,
}

#[async_trait]
impl Through for Overtaken {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn pin(&self, _: Slot, _: &Consistency) -> Result<Option<Pinned>, StoreError> {
        Ok(None)
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let checks = |read: &Read| match read {
            Read::Get(key) => key.as_bytes().ends_with(b"editors\x00\x01\x00dan\x00\x01"),
            Read::Scan(_) => false,
        };
        let by = if request.reads.iter().any(checks) { self.by.lock().take() } else { None };
        if let Some(by) = by {
            let gone = Change::Delete(tuple("Doc:1#viewers@zoe"));
            by.change_tuples(TENANT, vec![gone]).await.unwrap();
        }
        self.inner.read(request).await
    }
}

#[tokio::test]
async fn page_lists_nobody_who_was_taken_away_while_it_was_made() {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    let path = std::path::Path::new("test");
    let shards = LocalShards::open(&disk, path, 1, clock.clone()).unwrap();
    let inner = shards.store(Arc::new(SeededEntropy::new(7)));
    let store = Arc::new(Overtaken { inner: inner.clone(), by: Mutex::default() });
    let mut world = World::over(store.clone(), clock, Limits::default());
    // What is listed is kept for the pages to come.
    world.service.merged_max = 0;
    let language = "class Doc implements Namespace {
      related: { viewers: Doc[]; editors: Doc[]; banned: Doc[] }
      permits = { view: (ctx) => this.related.viewers.includes(ctx.subject) ||
        (this.related.editors.includes(ctx.subject) && !this.related.banned.includes(ctx.subject)) } }";
    world.speak(language).await;
    world.insert(&["Doc:1#viewers@ann", "Doc:1#editors@dan", "Doc:1#viewers@zoe"]).await;
    let set = SubjectSet::new("Doc", "1", "view");
    let list = async |size: u32, token: Option<String>| {
        let (page, strong, given) =
            (PageRequest { size, token }, Consistency::Strong, Context::new());
        let kind = SubjectKind::Ids;
        world.service.list_subjects(TENANT, &set, &kind, &given, &page, strong).await.unwrap().value
    };
    let first = list(1, None).await;
    assert_eq!(first.items, ["ann"]);
    *store.by.lock() = Some(Service::new(inner, &ring(), Limits::default()));
    let rest = list(10, first.next).await;
    assert!(store.by.lock().is_none(), "it was done meanwhile");
    assert_eq!(rest.items, ["dan"]);
}
