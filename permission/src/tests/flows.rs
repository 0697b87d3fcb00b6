//! Everything that a look-up finds, given while it is looked for.

use std::sync::Arc;

use async_trait::async_trait;
use cardea_storage::{
    Consistency, ManualClock, SeededEntropy, Slot, Store, StoreError, Through,
    engine::memory::MemoryDisk, local::LocalShards, protocol::pin::Pinned,
};

use crate::{
    Answered, Context, Subject, SubjectSet,
    engine::Limits,
    reverse::{
        SubjectKind,
        flow::{Given, NAMES_AT_ONCE, Taker},
    },
    testing::{START, TENANT, Taken, World},
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
