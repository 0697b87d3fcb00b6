//! Indexes against the engine without them and against the reference: over random
//! histories, made at any time, used by requests of any instant.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cardea_storage::{Clock as _, Consistency, Timestamp};
use proptest::prelude::*;

use super::{Entry, Usable};
use crate::{
    Context, Relationship, Subject, SubjectSet, Tuple,
    engine::{Engine, Limits, Value},
    graph::Graph,
    table::DEFAULT_SLOT,
    testing::{
        TENANT, World,
        model::{Chance, Kept, questions, read, subjects},
        reference, tuple,
    },
    write::Change,
};

/// What is there now, without indexes.
async fn now(world: &World) -> Graph {
    let (service, strong) = (&world.service, Consistency::Strong);
    let (held, _) = service.language(TENANT, &strong).await.unwrap();
    let pinned = service.store.pin(DEFAULT_SLOT, &strong).await.unwrap();
    Graph::new(service.store.clone(), TENANT, held.language, strong, pinned)
}

async fn index(world: &World, set: &SubjectSet) {
    world.service.sets.make(&now(world).await, set.clone(), Limits::default()).await;
}

/// What the engine finds, and whether an index was of use.
async fn asked(graph: &Graph, set: &SubjectSet, subject: &Subject) -> (Value, usize) {
    let (limits, given) = (Limits::default(), Context::new());
    let mut engine = Engine::new(graph, subject.clone(), limits, &given);
    let value = engine.check(set).await.unwrap().value;
    (value, engine.nodes().len())
}

fn is_used(usable: &Usable, graph: &Graph, set: &SubjectSet) -> bool {
    usable.leading(graph.language_held(), set, &[]).is_some()
}

/// A language whose every part is plain, and acyclic tuples for it; or anything.
fn plain(chance: &Chance) -> Tuple {
    let level = chance.below(5);
    let object = |level: usize| format!("{level}-{}", chance.below(3));
    let folder = |level| SubjectSet::new("Folder", object(level), "");
    match chance.below(4) {
        0 => Tuple::new("Folder", object(level), "parents", Subject::Set(folder(level + 1))),
        1 => {
            let group = SubjectSet::new("Group", object(level), "members");
            Tuple::new("Folder", object(level), "viewers", Subject::Set(group))
        }
        2 => {
            let group = SubjectSet::new("Group", object(level + 1), "members");
            Tuple::new("Group", object(level), "members", Subject::Set(group))
        }
        _ => {
            let (namespace, relation) =
                [("Group", "members"), ("Folder", "viewers"), ("Folder", "banned")]
                    [chance.below(3)];
            let id = ["a", "b"][chance.below(2)].to_owned();
            Tuple::new(namespace, object(level), relation, Subject::Id(id))
        }
    }
}

const PLAIN: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[] }
  permits = {
    view: (ctx: Context): boolean => this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
    open: (ctx: Context): boolean =>
      this.permits.view(ctx) && !this.related.banned.includes(ctx.subject),
  }
}";

fn plain_questions() -> Vec<SubjectSet> {
    let mut all = Vec::new();
    for (namespace, name) in
        [("Group", "members"), ("Folder", "viewers"), ("Folder", "view"), ("Folder", "open")]
    {
        for level in 0..3 {
            let object = |at| format!("{level}-{at}");
            all.extend((0..3).map(|at| SubjectSet::new(namespace, object(at), name)));
        }
    }
    all
}

fn people() -> Vec<Subject> {
    ["a", "b"].map(|id| Subject::Id(id.to_owned())).into()
}

/// Returns how often an index answered.
async fn agree(seed: u64, of_plain: bool) -> usize {
    let chance = Chance::new(seed);
    let text = if of_plain { PLAIN.to_owned() } else { chance.language(true) };
    let language = read(&text);
    let world = World::of(&text, &[]).await;
    let (asks, whom) =
        if of_plain { (plain_questions(), people()) } else { (questions(), subjects()) };
    let (mut kept, mut used) = (Kept::new(), 0);
    // Requests under way, each of an instant of its own.
    let mut graphs: Vec<Graph> = Vec::new();
    for step in 0..12 {
        let mut changes = Vec::new();
        for _ in 0..=chance.below(8) {
            let new = if of_plain { plain(&chance) } else { chance.tuple() };
            let delete = chance.below(4) == 0 && !kept.is_empty();
            if delete {
                let gone = kept.iter().nth(chance.below(kept.len())).unwrap().clone();
                kept.remove(&gone);
                changes.push(Change::Delete(gone));
            } else if !changes.contains(&Change::Delete(new.clone())) {
                kept.insert(new.clone());
                changes.push(Change::Insert(new.into()));
            }
        }
        world.service.change_tuples(TENANT, changes).await.unwrap();
        for _ in 0..chance.below(4) {
            index(&world, &asks[chance.below(asks.len())]).await;
        }
        if graphs.len() == 3 {
            graphs.remove(chance.below(3));
        }
        graphs.push(now(&world).await);
        // Made behind the request that uses it.
        if chance.below(2) == 0 {
            index(&world, &asks[chance.below(asks.len())]).await;
        }
        let mut indexed = Vec::new();
        for graph in graphs {
            let usable = world.service.sets.usable(&graph);
            indexed.push(graph.with_sets(usable));
        }
        graphs = indexed;
        for (at, graph) in graphs.iter().enumerate() {
            for set in &asks {
                used += usize::from(graph.sets().is_some_and(|sets| is_used(sets, graph, set)));
                for subject in &whom {
                    let (found, _) = asked(graph, set, subject).await;
                    let (limits, given) = (Limits::default(), Context::new());
                    let mut engine =
                        Engine::new(graph, subject.clone(), limits, &given).without_sets();
                    let walked = engine.check(set).await.unwrap().value;
                    let told = || format!("seed {seed}, step {step}, graph {at}: {set} {subject}");
                    assert_eq!(found, walked, "{}\n{text}\n{kept:#?}", told());
                    if at + 1 == graphs.len() {
                        let expected = reference::check(&language, &kept, set, subject);
                        assert_eq!(found, expected, "{}\n{text}\n{kept:#?}", told());
                    }
                }
            }
        }
    }
    used
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn what_an_index_says_is_what_a_walk_finds_in_any_language(seed in any::<u64>()) {
        run(agree(seed, false));
    }

    #[test]
    fn what_an_index_says_is_what_a_walk_finds_where_all_is_plain(seed in any::<u64>()) {
        prop_assert!(run(agree(seed, true)) > 0, "no index was used");
    }
}

fn set(text: &str) -> SubjectSet {
    text.parse().unwrap()
}

fn ann() -> Subject {
    Subject::Id("ann".to_owned())
}

/// The questions that a check of ann's takes now, with what is indexed.
async fn questions_of(world: &World, set: &SubjectSet) -> (Value, usize) {
    let graph = now(world).await;
    let usable = world.service.sets.usable(&graph);
    asked(&graph.with_sets(usable), set, &ann()).await
}

const CHAIN: [&str; 4] = [
    "Folder:1#parents@(Folder:2#)",
    "Folder:2#parents@(Folder:3#)",
    "Folder:3#viewers@(Group:g#members)",
    "Group:g#members@(Group:h#members)",
];

#[tokio::test]
async fn index_answers_at_once_until_something_on_the_way_changes() {
    let world = World::of(PLAIN, &CHAIN).await;
    world.insert(&["Group:h#members@ann"]).await;
    let (view, open) = (set("Folder:1#view"), set("Folder:1#open"));
    let (_, walked) = questions_of(&world, &view).await;
    assert!(walked > 5, "{walked}");
    index(&world, &view).await;
    assert_eq!(questions_of(&world, &view).await, (Value::Yes, 1));
    let (value, asked) = questions_of(&world, &open).await;
    assert!(value == Value::Yes && asked < walked, "under a conjunction, too: {asked}");
    // Who is a member is read as of the request.
    world.delete("Group:h#members@ann").await;
    assert_eq!(questions_of(&world, &view).await, (Value::No, 1));
    world.insert(&["Group:h#members@ann", "Group:other#members@(Group:h#members)"]).await;
    assert_eq!(questions_of(&world, &view).await, (Value::Yes, 1), "another set");
    world.delete("Group:g#members@(Group:h#members)").await;
    let (value, asked) = questions_of(&world, &view).await;
    assert!(value == Value::No && asked > 5, "{asked}");
    index(&world, &view).await;
    assert_eq!(questions_of(&world, &view).await, (Value::No, 1));
}

#[tokio::test]
async fn what_is_not_plain_by_the_language_is_walked_and_not_tried_again() {
    let world = World::of(PLAIN, &CHAIN).await;
    world.insert(&["Folder:9#viewers@(Folder:1#open)", "Folder:1#viewers@ann"]).await;
    let (open, viewers) = (set("Folder:1#open"), set("Folder:9#viewers"));
    index(&world, &open).await;
    index(&world, &viewers).await;
    assert!(questions_of(&world, &open).await.1 > 1);
    assert_eq!(questions_of(&world, &viewers).await.0, Value::Yes);
    let known = world.service.sets.known.read();
    let known = &known.tenants[&TENANT];
    let never: Vec<&str> = known.never.iter().map(|(_, name)| name.as_str()).collect();
    assert_eq!(never, ["open"], "of viewers a tuple says so, not the language");
    assert!(matches!(known.entry(&viewers), Some(Entry::Refused { .. })));
}

#[tokio::test]
async fn language_that_changes_takes_its_indexes_along() {
    let world = World::of(PLAIN, &CHAIN).await;
    world.insert(&["Group:h#members@ann"]).await;
    let view = set("Folder:1#view");
    index(&world, &view).await;
    world.speak(&PLAIN.replace("this.related.viewers.includes(ctx.subject) ||", "")).await;
    let (value, asked) = questions_of(&world, &view).await;
    assert!(value == Value::No && asked > 1, "{asked}");
}

#[tokio::test]
async fn conditions_expiry_and_circles_on_the_way_are_walked_and_those_of_members_judged() {
    let world = World::of(PLAIN, &CHAIN).await;
    let view = set("Folder:1#view");
    let soon = Timestamp(world.clock.now().0 + 60_000);
    let member = |expires_at, condition| {
        let tuple = tuple("Group:h#members@ann");
        vec![Change::Insert(Relationship { tuple, expires_at, condition })]
    };
    let condition = crate::Condition {
        expression: "level > 1".to_owned(),
        parameters: [("level".to_owned(), "int".to_owned())].into(),
        context: Default::default(),
    };
    index(&world, &view).await;
    world.service.change_tuples(TENANT, member(None, Some(condition.clone()))).await.unwrap();
    assert_eq!(questions_of(&world, &view).await, (Value::Undecided, 1), "nobody gave a level");
    world.service.change_tuples(TENANT, member(Some(soon), None)).await.unwrap();
    assert_eq!(questions_of(&world, &view).await, (Value::Yes, 1));
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(questions_of(&world, &view).await, (Value::No, 1));
    let soon = Timestamp(world.clock.now().0 + 60_000);
    let narrowed = |expires_at, condition| {
        let tuple = tuple("Group:g#members@(Group:h#members)");
        vec![Change::Insert(Relationship { tuple, expires_at, condition })]
    };
    for changes in [narrowed(None, Some(condition)), narrowed(Some(soon), None)] {
        world.service.change_tuples(TENANT, changes).await.unwrap();
        index(&world, &view).await;
        assert!(questions_of(&world, &view).await.1 > 1);
    }
    world.clock.advance(Duration::from_secs(61));
    world.insert(&["Group:g#members@(Group:g#members)"]).await;
    index(&world, &view).await;
    assert!(questions_of(&world, &view).await.1 > 1);
}

#[tokio::test]
async fn who_is_named_by_many_tuples_is_told_by_those_of_the_kinds_that_lead_there() {
    let world = World::of(PLAIN, &CHAIN).await;
    let many: Vec<String> = (0..300).map(|at| format!("Folder:many-{at}#banned@ann")).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let view = set("Folder:1#view");
    index(&world, &view).await;
    assert_eq!(questions_of(&world, &view).await, (Value::No, 1));
    world.insert(&["Group:g#members@ann"]).await;
    assert_eq!(questions_of(&world, &view).await, (Value::Yes, 1));
    let many: Vec<String> = (0..300).map(|at| format!("Folder:many-{at}#viewers@ann")).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (value, asked) = questions_of(&world, &view).await;
    assert!(value == Value::Yes && asked > 1, "too many of a kind that leads there: {asked}");
}

#[tokio::test]
async fn feed_that_ran_past_costs_the_indexes_and_no_answer() {
    let world = World::of(PLAIN, &CHAIN).await;
    let view = set("Folder:1#view");
    index(&world, &view).await;
    let graph = now(&world).await;
    // More than the feed keeps.
    let many: Vec<String> = (0..7_000).map(|at| format!("Group:m-{at}#members@eve")).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.delete("Folder:1#parents@(Folder:2#)").await;
    world.insert(&["Group:h#members@ann"]).await;
    assert!(world.service.sets.usable(&now(&world).await).is_none());
    assert_eq!(questions_of(&world, &view).await.0, Value::No);
    assert!(world.service.sets.usable(&graph).is_none(), "nor for an earlier one");
    index(&world, &view).await;
    assert_eq!(questions_of(&world, &view).await, (Value::No, 1));
    assert!(world.service.sets.usable(&graph).is_none_or(|sets| !is_used(&sets, &graph, &view)));
}

#[tokio::test]
async fn what_is_asked_often_and_costs_a_walk_is_indexed_by_itself() {
    let world = World::of(PLAIN, &CHAIN).await;
    world.insert(&["Group:h#members@ann"]).await;
    for asked in 0..3 {
        tokio::task::yield_now().await;
        assert_eq!(world.service.set_indexes().0, 0, "asked {asked} times");
        assert_eq!(world.check("Folder:1#view@ann").await, "yes");
    }
    while world.service.sets.usage().0 == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(questions_of(&world, &set("Folder:1#view")).await, (Value::Yes, 1));
    for _ in 0..5 {
        assert_eq!(world.check("Group:h#members@ann").await, "yes");
    }
    let known = world.service.sets.known.read();
    assert!(known.tenants[&TENANT].entry(&set("Group:h#members")).is_none(), "no walk");
}

#[tokio::test]
async fn memory_is_bounded() {
    let world = World::of(PLAIN, &CHAIN).await;
    let view = set("Folder:1#view");
    index(&world, &view).await;
    let (_, before) = world.service.sets.usage();
    assert!(before > 500, "{before}");
    index(&world, &view).await;
    assert_eq!(world.service.sets.usage(), (1, before), "made again, it takes no more");
    world.service.sets.known.write().tenants.get_mut(&TENANT).unwrap().bytes += super::BYTES_MAX;
    let other = set("Folder:2#view");
    index(&world, &other).await;
    let (number, bytes) = world.service.sets.usage();
    assert!(number == 1 && bytes <= before, "{number}, {bytes}");
    let known = world.service.sets.known.read();
    let entry = known.tenants[&TENANT].entry(&other);
    assert!(matches!(entry, Some(Entry::Index(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_seen_while_indexes_are_made_all_the_time() {
    let world = Arc::new(World::of(PLAIN, &CHAIN).await);
    world.insert(&["Group:h#members@ann"]).await;
    let (making, made) = (world.clone(), Arc::new(AtomicUsize::new(0)));
    let count = made.clone();
    let making = tokio::spawn(async move {
        loop {
            index(&making, &set("Folder:1#view")).await;
            count.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    let mut rounds = 0;
    while rounds < 200 || made.load(Ordering::Relaxed) < 200 {
        let edge =
            ["Folder:2#parents@(Folder:3#)", "Group:g#members@(Group:h#members)"][rounds % 2];
        world.delete(edge).await;
        assert_eq!(world.check("Folder:1#view@ann").await, "no", "round {rounds}");
        world.insert(&[edge]).await;
        assert_eq!(world.check("Folder:1#view@ann").await, "yes", "round {rounds}");
        rounds += 1;
    }
    making.abort();
}
