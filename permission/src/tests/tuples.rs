//! Changing and listing tuples.

use std::{collections::BTreeSet, time::Duration};

use cardea_storage::Consistency;
use proptest::prelude::*;

use crate::{
    ReadRejection, Relationship, Subject, Tuple, TupleQuery, WriteRejection,
    list::PageRequest,
    model::TupleRefused,
    testing::{
        START, TENANT, World,
        model::{Chance, Kept},
        tuple,
    },
    write::{CHANGES_MAX, Change},
};

const LANGUAGE: &str = "
class A implements Namespace {}
class B implements Namespace {}
class U implements Namespace {}
class Nowhere implements Namespace {}";

fn query(text: &str) -> TupleQuery {
    let mut query = TupleQuery::default();
    for part in text.split_whitespace() {
        let (name, value) = part.split_once('=').unwrap();
        match name {
            "n" => query.namespace = Some(value.to_owned()),
            "o" => query.object = Some(value.to_owned()),
            "r" => query.relation = Some(value.to_owned()),
            "s" => query.subject = Some(value.parse().unwrap()),
            _ => panic!("{name}"),
        }
    }
    query
}

/// Everything that a query finds, over pages of a size.
async fn all(world: &World, query: &TupleQuery, size: u32) -> Vec<Tuple> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = PageRequest { size, token };
        let answer = world.service.list_tuples(TENANT, query, &page, Consistency::Strong).await;
        let answer = answer.unwrap().value;
        assert!(answer.items.len() <= size as usize);
        found.extend(answer.items.into_iter().map(|found| found.tuple));
        token = answer.next;
        if token.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn creating_a_tuple_twice_changes_nothing() {
    let world = World::of(LANGUAGE, &["A:1#r@ann"]).await;
    world.insert(&["A:1#r@ann"]).await;
    assert_eq!(all(&world, &query("n=A"), 10).await, [tuple("A:1#r@ann")]);
    world.delete("A:1#r@ann").await;
    world.delete("A:1#r@ann").await;
    assert_eq!(all(&world, &query(""), 10).await, []);
}

#[tokio::test]
async fn of_a_tuple_that_is_inserted_twice_together_the_last_counts() {
    let soon = Some(START.after(Duration::from_secs(60)));
    for given in [[None, soon], [soon, None]] {
        for there in [true, false] {
            let world = World::of(LANGUAGE, if there { &["A:1#r@ann"] } else { &[] }).await;
            let insert = |expires_at| {
                Change::Insert(Relationship { expires_at, ..tuple("A:1#r@ann").into() })
            };
            let changes = given.map(insert).into();
            world.service.change_tuples(TENANT, changes).await.unwrap();
            let (page, strong) = (PageRequest::default(), Consistency::Strong);
            let listed = world.service.list_tuples(TENANT, &query("n=A"), &page, strong).await;
            let listed = listed.unwrap().value.items;
            assert_eq!(listed.iter().map(|one| one.expires_at).collect::<Vec<_>>(), [given[1]]);
        }
    }
}

#[tokio::test]
async fn changes_are_made_together_inserts_before_deletes() {
    let world = World::of(LANGUAGE, &["A:1#r@ann", "A:2#r@ann"]).await;
    let changes = vec![
        Change::Delete(tuple("A:1#r@ann")),
        Change::Insert(tuple("A:3#r@ann").into()),
        Change::Insert(tuple("A:1#r@ann").into()),
        Change::Delete(tuple("A:9#r@ann")),
        Change::Insert(tuple("A:2#r@ann").into()),
    ];
    world.service.change_tuples(TENANT, changes).await.unwrap();
    assert_eq!(all(&world, &query(""), 10).await, [tuple("A:2#r@ann"), tuple("A:3#r@ann")]);
    let bad = vec![
        Change::Insert(tuple("A:4#r@ann").into()),
        Change::Insert(Tuple::new("A", "x".repeat(1 << 20), "r", Subject::Id("a".into())).into()),
    ];
    let refused = world.service.change_tuples(TENANT, bad).await.unwrap_err();
    assert!(matches!(refused, WriteRejection::Refused(TupleRefused::TooLong { .. })));
    assert_eq!(all(&world, &query("o=4"), 10).await, [], "all or nothing");
    let many = vec![Change::Delete(tuple("A:4#r@ann")); CHANGES_MAX + 1];
    let refused = world.service.change_tuples(TENANT, many).await.unwrap_err();
    assert!(matches!(refused, WriteRejection::TooMany { .. }));
    assert!(world.service.change_tuples(TENANT, Vec::new()).await.is_ok());
}

#[tokio::test]
async fn tuple_of_zero_bytes_that_would_not_be_kept_is_refused() {
    let world = World::of(LANGUAGE, &[]).await;
    let zeros = "\0".repeat(512);
    let set = crate::SubjectSet::new("A", zeros.clone(), "r");
    let tuple = Tuple::new("A", zeros, "\0".repeat(120), Subject::Set(set));
    let refused = world.service.create_tuple(TENANT, tuple.into()).await.unwrap_err();
    assert!(matches!(refused, WriteRejection::Refused(TupleRefused::Unkept)), "{refused}");
}

#[tokio::test]
async fn tuple_ceases_to_be_there_when_it_expires() {
    let world = World::of(LANGUAGE, &[]).await;
    let new = Relationship {
        expires_at: Some(START.after(Duration::from_secs(10))),
        ..tuple("A:1#r@ann").into()
    };
    world.service.create_tuple(TENANT, new).await.unwrap();
    assert_eq!(world.check("A:1#r@ann").await, "yes");
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(world.check("A:1#r@ann").await, "no");
    for text in ["", "n=A", "n=A r=r", "s=ann"] {
        assert_eq!(all(&world, &query(text), 10).await, [], "{text}");
    }
    world.insert(&["A:1#r@ann"]).await;
    assert_eq!(world.check("A:1#r@ann").await, "yes");
}

#[tokio::test]
async fn page_tokens_of_other_lists_and_forged_ones_are_refused() {
    let world = World::of(LANGUAGE, &["A:1#r@a", "A:2#r@a", "A:3#r@a"]).await;
    let list = async |text: &str, token: Option<String>| {
        let page = PageRequest { size: 1, token };
        let query = query(text);
        let answer = world.service.list_tuples(TENANT, &query, &page, Consistency::Strong);
        answer.await.map(|answer| answer.value)
    };
    let token = list("n=A", None).await.unwrap().next.unwrap();
    assert_eq!(list("n=A", Some(token.clone())).await.unwrap().items, [tuple("A:2#r@a").into()]);
    for (text, token) in [
        ("n=A r=r", token.clone()),
        ("", token.clone()),
        ("n=A", "forged".to_owned()),
        ("n=A", format!("{token}A")),
        ("n=A", "A".repeat(10_000)),
    ] {
        let refused = list(text, Some(token)).await;
        assert!(matches!(refused, Err(ReadRejection::BadPageToken(_))), "{text}");
    }
    assert!(list("n=A", Some(String::new())).await.is_ok(), "the first page's");
    let unknown = list("n=Unheard", None).await;
    assert!(matches!(unknown, Err(ReadRejection::UnknownNamespace(_))));
}

#[tokio::test]
async fn more_than_one_transaction_holds_is_deleted_in_pieces() {
    let world = World::of(LANGUAGE, &[]).await;
    let many: Vec<String> = (0..2_300).map(|at| format!("A:{at:04}#r{}@ann", at % 2)).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let deleted = world.service.delete_tuples(TENANT, &query("r=r0 s=ann")).await.unwrap();
    assert_eq!(deleted.count, 1_150);
    assert_eq!(all(&world, &query("s=ann"), 1000).await.len(), 1_150);
    let long: Vec<String> = (0..1_000).map(|at| format!("B:{at:0400}#r@{at:0400}")).collect();
    for part in long.chunks(100) {
        let part: Vec<&str> = part.iter().map(String::as_str).collect();
        world.insert(&part).await;
    }
    let deleted = world.service.delete_tuples(TENANT, &query("n=B")).await.unwrap();
    assert_eq!(deleted.count, 1_000);
    assert_eq!(all(&world, &query("n=B"), 10).await, []);
}

/// Random tuples, each subset of a random tuple's parts as a query, pages of any size.
async fn lists_agree(seed: u64) {
    let chance = Chance::new(seed);
    let world = World::of(LANGUAGE, &[]).await;
    let mut kept = Kept::new();
    for _ in 0..60 {
        kept.insert(chance.tuple());
    }
    let changes = kept.iter().map(|tuple| Change::Insert(tuple.clone().into())).collect();
    world.service.change_tuples(TENANT, changes).await.unwrap();
    for _ in 0..6 {
        let like = chance.tuple();
        for subset in 0..16 {
            let given = |bit: u32| subset & (1 << bit) != 0;
            let query = TupleQuery {
                namespace: given(0).then(|| like.namespace.clone()),
                object: given(1).then(|| like.object.clone()),
                relation: given(2).then(|| like.relation.clone()),
                subject: given(3).then(|| like.subject.clone()),
            };
            let expected: BTreeSet<Tuple> =
                kept.iter().filter(|tuple| query.matches(tuple)).cloned().collect();
            let size = u32::try_from(1 + chance.below(20)).unwrap();
            let found = all(&world, &query, size).await;
            assert_eq!(found.len(), expected.len(), "seed {seed}: {query:?}");
            assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "{query:?}");
        }
    }
    let query = TupleQuery { object: Some("1".to_owned()), ..TupleQuery::default() };
    let deleted = world.service.delete_tuples(TENANT, &query).await.unwrap();
    let gone = kept.iter().filter(|tuple| query.matches(tuple)).count();
    assert_eq!(deleted.count, gone as u64);
    kept.retain(|tuple| !query.matches(tuple));
    for index in ["", "s=a", "s=b"] {
        let query = self::query(index);
        let expected: Vec<&Tuple> = kept.iter().filter(|tuple| query.matches(tuple)).collect();
        assert_eq!(all(&world, &query, 7).await.len(), expected.len(), "{index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn lists_give_every_subset_of_a_query(seed in any::<u64>()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(lists_agree(seed));
    }
}
