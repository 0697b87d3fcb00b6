//! Following changes.

use std::collections::BTreeSet;

use cardea_storage::{Consistency, Revision, Snaptoken, StoreError, Timestamp, store::Position};
use proptest::prelude::*;

use crate::{
    Condition, Context, ReadRejection, Tuple, TupleQuery,
    list::PageRequest,
    model::Relationship,
    testing::{TENANT, World, model::Chance, tuple},
    watch::{TupleChange, Watching},
    write::Change,
};

const LANGUAGE: &str = "
class A implements Namespace {}
class B implements Namespace {}";

fn shown(changes: &[TupleChange]) -> Vec<String> {
    let sign = |change: &TupleChange| match change {
        TupleChange::Inserted(_) => '+',
        TupleChange::Deleted(_) => '-',
    };
    changes.iter().map(|change| format!("{}{}", sign(change), change.tuple())).collect()
}

async fn watch(world: &World, filter: TupleQuery, after: Option<&Snaptoken>) -> Watching {
    world.service.watch(TENANT, filter, after.cloned()).await.unwrap()
}

/// Everything up to now.
async fn rest(watching: &mut Watching) -> Vec<Vec<String>> {
    let frontier = watching.frontier().await.unwrap();
    let mut events = Vec::new();
    loop {
        let changes = watching.next_until(&frontier).await.unwrap();
        if changes.is_empty() {
            let seen =
                |p: &Position| watching.token().revision(p.shard) == Some(Revision(p.revision));
            assert!(frontier.positions.iter().all(seen), "{:?}", watching.token());
            return events;
        }
        events.push(shown(&changes));
    }
}

#[tokio::test]
async fn changes_behind_a_token_come_once_and_by_transaction() {
    let world = World::of(LANGUAGE, &["A:0#r@ann"]).await;
    let token = world.insert(&["A:1#r@ann", "B:1#r@ann"]).await;
    let mut watching = watch(&world, TupleQuery::default(), Some(&token)).await;
    world.insert(&["A:2#r@ann", "B:2#r@ann"]).await;
    world.insert(&["A:2#r@ann"]).await;
    let last = world.delete("A:1#r@ann").await;
    let first = shown(&watching.next().await.unwrap());
    assert_eq!(first, ["+A:2#r@ann", "+B:2#r@ann"]);
    let between = watching.token().clone();
    assert_eq!(shown(&watching.next().await.unwrap()), ["-A:1#r@ann"]);
    let graph = watching.frontier().await.unwrap().positions[0].shard;
    assert_eq!(watching.token().revision(graph), last.revision(graph));
    assert_eq!(rest(&mut watching).await, [] as [Vec<String>; 0]);
    // From a token in the middle, what followed comes again, and nothing else.
    let mut resumed = watch(&world, TupleQuery::default(), Some(&between)).await;
    assert_eq!(rest(&mut resumed).await, [["-A:1#r@ann"]]);
    let mut now = watch(&world, TupleQuery::default(), None).await;
    assert_eq!(rest(&mut now).await, [] as [Vec<String>; 0]);
}

#[tokio::test]
async fn filters_leave_out_and_the_token_moves_all_the_same() {
    let world = World::of(LANGUAGE, &[]).await;
    let of = |namespace: &str| TupleQuery {
        namespace: Some(namespace.to_owned()),
        ..TupleQuery::default()
    };
    let object = TupleQuery { object: Some("2".to_owned()), ..TupleQuery::default() };
    let exact = TupleQuery { object: Some("2".to_owned()), ..of("A") };
    let filters = [of("A"), of("B"), object, exact];
    let mut watches = Vec::new();
    for filter in filters {
        watches.push(watch(&world, filter, None).await);
    }
    world.insert(&["A:1#r@ann"]).await;
    world.insert(&["A:2#r@ann", "B:2#r@ann"]).await;
    let wanted: [&[&[&str]]; 4] = [
        &[&["+A:1#r@ann"], &["+A:2#r@ann"]],
        &[&["+B:2#r@ann"]],
        &[&["+A:2#r@ann", "+B:2#r@ann"]],
        &[&["+A:2#r@ann"]],
    ];
    for (mut watching, wanted) in watches.into_iter().zip(wanted) {
        assert_eq!(rest(&mut watching).await, wanted);
    }
}

#[tokio::test]
async fn expiry_and_condition_are_told_with_the_insertion() {
    let world = World::of(LANGUAGE, &[]).await;
    let mut watching = watch(&world, TupleQuery::default(), None).await;
    let expires_at = Some(Timestamp(crate::testing::START.0 + 60_000));
    let condition = Some(Condition {
        expression: "plan == \"pro\"".to_owned(),
        parameters: [("plan".to_owned(), "string".to_owned())].into(),
        context: Context::new(),
    });
    let new = Relationship { expires_at, condition, ..tuple("A:1#r@ann").into() };
    world.service.change_tuples(TENANT, vec![Change::Insert(new.clone())]).await.unwrap();
    let changes = watching.next().await.unwrap();
    assert_eq!(changes, [TupleChange::Inserted(new)]);
}

#[tokio::test]
async fn tokens_that_say_nothing_of_the_graph_or_too_much_are_refused() {
    let world = World::new();
    let of_language = world.speak(LANGUAGE).await;
    let token = world.insert(&["A:1#r@ann"]).await;
    let mut future = token.clone();
    future.positions.iter_mut().for_each(|position| position.revision += 1_000);
    let foreign = Snaptoken { incarnation: token.incarnation + 1, ..token };
    for bad in [of_language, future, foreign, Snaptoken::default()] {
        let refused = world.service.watch(TENANT, TupleQuery::default(), Some(bad.clone())).await;
        let bad_token = matches!(refused, Err(ReadRejection::Store(StoreError::BadToken)));
        assert!(bad_token, "{bad:?}: {refused:?}");
    }
}

#[tokio::test]
async fn watch_that_fell_behind_the_ring_says_so() {
    let world = World::of(LANGUAGE, &["A:0#r@ann"]).await;
    let mut slow = watch(&world, TupleQuery::default(), None).await;
    let token = slow.token().clone();
    let many: Vec<String> = (0..6_000).map(|at| format!("A:{at}#r@bob")).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert!(matches!(slow.next().await, Err(StoreError::TooOld)));
    let again = world.service.watch(TENANT, TupleQuery::default(), Some(token)).await;
    assert!(matches!(again, Err(ReadRejection::Store(StoreError::TooOld))));
}

/// All tuples that there are.
async fn all(world: &World) -> BTreeSet<Tuple> {
    let page = PageRequest { size: 1_000, token: None };
    let everything = TupleQuery::default();
    let found = world.service.list_tuples(TENANT, &everything, &page, Consistency::Strong).await;
    found.unwrap().value.items.into_iter().map(|found| found.tuple).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whoever lists, and then applies what follows the token of the list, has what is there.
    #[test]
    fn list_and_what_follows_its_token_is_what_is_there(seed in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let chance = Chance::new(seed);
            let world = World::of(LANGUAGE, &[]).await;
            let mut mirrors: Vec<(BTreeSet<Tuple>, Watching)> = Vec::new();
            for _ in 0..40 {
                if chance.below(8) == 0 {
                    let token = world.insert(&["A:0#r@0"]).await;
                    let watching = watch(&world, TupleQuery::default(), Some(&token)).await;
                    mirrors.push((all(&world).await, watching));
                }
                let changes = (0..=chance.below(3)).map(|_| {
                    let text = format!("A:{}#r@{}", chance.below(3), chance.below(2));
                    match chance.below(2) {
                        0 => Change::Insert(tuple(&text).into()),
                        _ => Change::Delete(tuple(&text)),
                    }
                });
                let changes = changes.collect();
                world.service.change_tuples(TENANT, changes).await.unwrap();
            }
            let there = all(&world).await;
            for (mut mirror, mut watching) in mirrors {
                let frontier = watching.frontier().await.unwrap();
                loop {
                    let changes = watching.next_until(&frontier).await.unwrap();
                    if changes.is_empty() {
                        break;
                    }
                    for change in changes {
                        let changed = match &change {
                            TupleChange::Inserted(one) => mirror.insert(one.tuple.clone()),
                            TupleChange::Deleted(tuple) => mirror.remove(tuple),
                        };
                        assert!(changed, "{} changed nothing", change.tuple());
                    }
                }
                assert_eq!(mirror, there);
            }
        });
    }
}
