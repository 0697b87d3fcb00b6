//! Conditions and expiries of tuples: by name, and against the reference after every
//! write of random histories.

use std::{collections::BTreeMap, time::Duration};

use cardea_storage::{Consistency, Timestamp};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::{
    Ask, Condition, Context, ReadRejection, Relationship, Subject, SubjectSet, Tuple,
    WriteRejection,
    condition::Verdict,
    engine::Value,
    expand::TreeKind,
    explain::Says,
    list::PageRequest,
    model::TupleRefused,
    reverse::SubjectKind,
    testing::{
        START, TENANT, World,
        model::{Chance, questions, read, subjects},
        reference::{self, Standing},
        tuple,
    },
    write::Change,
};

const LANGUAGE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Doc implements Namespace {
  related: { viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[]; parents: Doc[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
    open: (ctx: Context): boolean =>
      this.permits.view(ctx) && !this.related.banned.includes(ctx.subject),
  }
}";

fn condition(expression: &str, parameters: &[(&str, &str)]) -> Condition {
    let text = |text: &str| text.to_owned();
    Condition {
        expression: text(expression),
        parameters: parameters.iter().map(|(name, kind)| (text(name), text(kind))).collect(),
        context: Context::new(),
    }
}

fn office() -> Condition {
    condition("address.in_cidr('10.0.0.0/8')", &[("address", "ipaddress")])
}

fn context(json: &Json) -> Context {
    json.as_object().unwrap().clone().into_iter().collect()
}

async fn put(world: &World, text: &str, condition: Option<Condition>) {
    let new = Relationship { condition, ..tuple(text).into() };
    world.service.create_tuple(TENANT, new).await.unwrap();
}

/// Yes, no, or why neither.
async fn check(world: &World, text: &str, given: Json) -> String {
    let ask = Ask { depth: 0, context: context(&given) };
    match world.service.check(TENANT, &tuple(text), ask, Consistency::Strong).await {
        Ok(answer) if answer.value => "yes".to_owned(),
        Ok(_) => "no".to_owned(),
        Err(ReadRejection::Unanswered(told)) => {
            format!("{} {}", told.why, told.lacking.join(", "))
        }
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn tuple_counts_only_where_its_condition_holds() {
    let world = World::of(LANGUAGE, &["Group:g#members@bob", "Doc:2#parents@(Doc:1)"]).await;
    put(&world, "Doc:1#viewers@ann", Some(office())).await;
    put(&world, "Doc:1#viewers@(Group:g#members)", Some(office())).await;
    for who in ["ann", "bob"] {
        for doc in ["1", "2"] {
            let asked = format!("Doc:{doc}#open@{who}");
            assert_eq!(check(&world, &asked, json!({"address": "10.1.1.1"})).await, "yes");
            assert_eq!(check(&world, &asked, json!({"address": "8.8.8.8"})).await, "no");
            assert_eq!(check(&world, &asked, json!({})).await, "missing_context address");
            let odd = check(&world, &asked, json!({"address": "here"})).await;
            assert_eq!(odd, "condition_failed address: \"here\" is no ipaddress");
        }
    }
    assert_eq!(check(&world, "Doc:1#open@eve", json!({})).await, "no", "no tuple names her");
    world.insert(&["Group:g#members@ann"]).await;
    world.insert(&["Doc:2#viewers@ann"]).await;
    assert_eq!(check(&world, "Doc:2#open@ann", json!({})).await, "yes", "a grant counts more");
}

#[tokio::test]
async fn what_is_lacking_is_told_in_part_where_it_is_much() {
    let world = World::of(LANGUAGE, &[]).await;
    for at in 0..30 {
        let name = format!("flag{at:02}");
        let narrowed = condition(&name, &[(&name, "bool")]);
        let text = format!("Doc:1#viewers@(Group:{at}#members)");
        put(&world, &text, Some(narrowed)).await;
        world.insert(&[&format!("Group:{at}#members@ann")]).await;
    }
    let told = check(&world, "Doc:1#viewers@ann", json!({})).await;
    assert!(told.starts_with("missing_context flag00, flag01"), "{told}");
    assert_eq!(told.matches("flag").count(), 20, "{told}");
}

#[tokio::test]
async fn missing_context_under_a_negation_is_an_error_and_never_a_grant() {
    let world = World::of(LANGUAGE, &["Doc:1#viewers@ann"]).await;
    put(&world, "Doc:1#banned@ann", Some(office())).await;
    assert_eq!(check(&world, "Doc:1#open@ann", json!({"address": "10.1.1.1"})).await, "no");
    assert_eq!(check(&world, "Doc:1#open@ann", json!({"address": "8.8.8.8"})).await, "yes");
    assert_eq!(check(&world, "Doc:1#open@ann", json!({})).await, "missing_context address");
    let odd = check(&world, "Doc:1#open@ann", json!({"address": 1})).await;
    assert_eq!(odd, "condition_failed address: 1 is no ipaddress");
}

#[tokio::test]
async fn time_of_a_condition_is_the_stores_unless_it_is_given() {
    let world = World::of(LANGUAGE, &[]).await;
    let mut until = condition("now < until", &[("now", "timestamp"), ("until", "timestamp")]);
    until.context = context(&json!({"until": "2027-01-15T08:00:10Z"}));
    put(&world, "Doc:1#viewers@ann", Some(until)).await;
    assert_eq!(check(&world, "Doc:1#view@ann", json!({})).await, "yes");
    world.clock.advance(Duration::from_secs(10));
    assert_eq!(check(&world, "Doc:1#view@ann", json!({})).await, "no");
    let then = json!({"now": "2027-01-15T08:00:00Z", "until": "2099-01-01T00:00:00Z"});
    assert_eq!(check(&world, "Doc:1#view@ann", then).await, "yes", "asked about then");
}

#[tokio::test]
async fn given_again_with_another_condition_or_expiry_a_tuple_is_as_given_last() {
    let world = World::of(LANGUAGE, &["Doc:1#viewers@ann"]).await;
    put(&world, "Doc:1#viewers@ann", Some(office())).await;
    assert_eq!(check(&world, "Doc:1#view@ann", json!({})).await, "missing_context address");
    let query = crate::TupleQuery { subject: Some("ann".parse().unwrap()), ..Default::default() };
    let page = PageRequest::default();
    let listed = world.service.list_tuples(TENANT, &query, &page, Consistency::Strong).await;
    let listed = listed.unwrap().value.items;
    assert_eq!(listed[0].condition, Some(office()), "index rows bear it");
    let soon = Some(START.after(Duration::from_secs(5)));
    let new = Relationship { expires_at: soon, ..tuple("Doc:1#viewers@ann").into() };
    world.service.create_tuple(TENANT, new).await.unwrap();
    assert_eq!(check(&world, "Doc:1#view@ann", json!({})).await, "yes");
    let listed = world.service.list_tuples(TENANT, &query, &page, Consistency::Strong).await;
    let listed = listed.unwrap().value.items;
    assert_eq!((listed[0].expires_at, &listed[0].condition), (soon, &None));
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(check(&world, "Doc:1#view@ann", json!({})).await, "no");
    let listed = world.service.list_tuples(TENANT, &query, &page, Consistency::Strong).await;
    assert!(listed.unwrap().value.items.is_empty());
}

/// Nothing is kept for ever because it ended when time began.
#[tokio::test]
async fn tuple_that_ended_with_the_first_moment_has_ended() {
    for there in [true, false] {
        let world = World::of(LANGUAGE, if there { &["Doc:1#viewers@ann"] } else { &[] }).await;
        for at in [0, 1] {
            let ended = || Relationship {
                expires_at: Some(Timestamp(at)),
                ..tuple("Doc:1#viewers@ann").into()
            };
            world.service.create_tuple(TENANT, ended()).await.unwrap();
            assert_eq!(check(&world, "Doc:1#viewers@ann", json!({})).await, "no", "{at}");
            world.service.import(TENANT, vec![ended()]).await.unwrap();
            assert_eq!(check(&world, "Doc:1#viewers@ann", json!({})).await, "no", "{at}");
        }
    }
}

#[tokio::test]
async fn explanations_and_trees_show_conditions_and_expiries() {
    let world = World::of(LANGUAGE, &["Group:g#members@bob"]).await;
    let soon = Some(START.after(Duration::from_secs(60)));
    let new = Relationship {
        tuple: tuple("Doc:1#viewers@(Group:g#members)"),
        expires_at: soon,
        condition: Some(office()),
    };
    world.service.create_tuple(TENANT, new.clone()).await.unwrap();
    let ask = Ask { depth: 0, context: context(&json!({"address": "10.0.0.1"})) };
    let asked = tuple("Doc:1#viewers@bob");
    let found = world.service.explain(TENANT, &asked, ask, Consistency::Strong).await.unwrap();
    assert_eq!(found.value.steps[0].says, Says::Tuple(new));
    let set = "Doc:1#viewers".parse().unwrap();
    let tree = world.service.expand(TENANT, &set, 0, Consistency::Strong).await.unwrap();
    let branch = &tree.value.unwrap().children[0];
    assert_eq!(branch.kind, TreeKind::Union);
    assert_eq!((branch.expires_at, &branch.condition), (soon, &Some(office())));
}

#[tokio::test]
async fn tuple_with_a_condition_that_makes_no_sense_is_refused() {
    let world = World::of(LANGUAGE, &[]).await;
    let new = Relationship {
        condition: Some(condition("strange", &[])),
        ..tuple("Doc:1#viewers@ann").into()
    };
    let refused = world.service.create_tuple(TENANT, new).await.unwrap_err();
    assert!(matches!(refused, WriteRejection::Refused(TupleRefused::Condition(_))), "{refused}");
    let long = context(&json!({"x": "y".repeat(crate::condition::CONTEXT_BYTES_MAX)}));
    let ask = Ask { depth: 0, context: long };
    let asked = tuple("Doc:1#viewers@ann");
    let refused = world.service.check(TENANT, &asked, ask, Consistency::Strong).await.unwrap_err();
    assert!(matches!(refused, ReadRejection::Refused(TupleRefused::Condition(_))), "{refused}");
}

/// Conditions that random tuples bear.
fn drawn(chance: &Chance) -> Option<Condition> {
    let flags = [("a", "bool"), ("b", "bool")];
    match chance.below(8) {
        0 => Some(condition("a", &flags)),
        1 => Some(condition("!b", &flags)),
        2 => Some(condition("a && !b", &flags)),
        3 => Some(condition("a || b", &flags)),
        _ => None,
    }
}

/// How tuples stand for a request.
fn standings(
    kept: &BTreeMap<Tuple, Relationship>,
    given: &Context,
    now: Timestamp,
) -> BTreeMap<Tuple, Standing> {
    let mut standings = BTreeMap::new();
    for (tuple, relationship) in kept {
        if relationship.expires_at.is_some_and(|at| at <= now) {
            continue;
        }
        let verdict = relationship.condition.as_ref().map(|c| c.verdict(given, now));
        let standing = match verdict {
            None | Some(Verdict::Holds) => Standing::There,
            Some(Verdict::Fails) => continue,
            Some(Verdict::Missing(_) | Verdict::Failed(_)) => Standing::Doubted,
        };
        standings.insert(tuple.clone(), standing);
    }
    standings
}

async fn agrees(seed: u64, negations: bool) {
    let chance = Chance::new(seed);
    let text = chance.language(negations);
    let language = read(&text);
    let world = World::of(&text, &[]).await;
    let mut kept: BTreeMap<Tuple, Relationship> = BTreeMap::new();
    let mut now = START;
    for step in 0..5 {
        let mut changes = Vec::new();
        for _ in 0..=chance.below(9) {
            let lasts = Duration::from_secs(10 * (1 + chance.below(3)) as u64);
            let new = Relationship {
                tuple: chance.tuple(),
                expires_at: (chance.below(3) == 0).then(|| now.after(lasts)),
                condition: drawn(&chance),
            };
            // Of one tuple that is given twice, the first counts.
            if !changes
                .iter()
                .any(|change| matches!(change, Change::Insert(one) if one.tuple == new.tuple))
            {
                kept.insert(new.tuple.clone(), new.clone());
                changes.push(Change::Insert(new));
            }
        }
        if let Some(gone) = kept.keys().nth(chance.below(30)).cloned() {
            kept.remove(&gone);
            changes.push(Change::Delete(gone));
        }
        world.service.change_tuples(TENANT, changes).await.unwrap();
        let given = match chance.below(4) {
            0 => json!({}),
            1 => json!({"a": true}),
            2 => json!({"a": false, "b": true}),
            _ => json!({"a": true, "b": false}),
        };
        let given = context(&given);
        let standings = standings(&kept, &given, now);
        let expected = |set: &SubjectSet, subject: &Subject| {
            reference::check_where(&language, &standings, set, subject)
        };
        let told = |what: &dyn std::fmt::Debug| {
            format!("seed {seed}, step {step}: {what:?} given {given:?} in\n{text}\n{kept:#?}")
        };
        for set in questions() {
            for subject in subjects() {
                let asked = Tuple {
                    namespace: set.namespace.clone(),
                    object: set.object.clone(),
                    relation: set.relation.clone(),
                    subject: subject.clone(),
                };
                let ask = Ask { depth: 0, context: given.clone() };
                let wanted = match expected(&set, &subject) {
                    Value::Yes => Some(true),
                    Value::No | Value::Doubt => Some(false),
                    Value::Undecided => None,
                };
                let eventual = Consistency::Eventual;
                let found = world.service.check(TENANT, &asked, ask.clone(), eventual.clone());
                let found = found.await.ok().map(|answer| answer.value);
                assert_eq!(found, wanted, "{}", told(&asked));
                let explained = world.service.explain(TENANT, &asked, ask, eventual).await;
                let explained = explained.ok().map(|answer| answer.value);
                assert_eq!(explained.as_ref().map(|e| e.allowed), wanted, "{}", told(&asked));
                for step in explained.into_iter().flat_map(|explained| explained.steps) {
                    if let Says::Tuple(said) = step.says {
                        let standing = standings.get(&said.tuple);
                        assert_eq!(standing, Some(&Standing::There), "{}", told(&asked));
                        assert_eq!(kept.get(&said.tuple), Some(&said), "{}", told(&asked));
                    }
                }
            }
        }
        lists_agree(&world, &given, &expected, &told).await;
        world.clock.advance(Duration::from_secs(7));
        now = now.after(Duration::from_secs(7));
    }
}

async fn lists_agree(
    world: &World,
    given: &Context,
    expected: &impl Fn(&SubjectSet, &Subject) -> Value,
    told: &impl Fn(&dyn std::fmt::Debug) -> String,
) {
    let (page, strong) = (PageRequest { size: 1000, token: None }, Consistency::Strong);
    for about in questions().into_iter().filter(|set| set.object == "1") {
        for subject in subjects() {
            let of = |object: &str| {
                expected(&SubjectSet { object: object.to_owned(), ..about.clone() }, &subject)
            };
            let (namespace, relation) = (&about.namespace, &about.relation);
            let found = world
                .service
                .list_objects(TENANT, namespace, relation, &subject, given, &page, strong.clone())
                .await;
            match found {
                Ok(found) => {
                    for object in &found.value.items {
                        assert_eq!(of(object), Value::Yes, "{}", told(&(&about, &subject)));
                    }
                }
                Err(ReadRejection::Unanswered(unanswered)) => {
                    let answer = expected(&unanswered.at, &subject);
                    assert_eq!(answer, Value::Undecided, "{}", told(&(&about, &subject)));
                }
                Err(error) => panic!("{error}: {}", told(&(&about, &subject))),
            }
        }
    }
    for set in questions() {
        let ids = ["1", "2", "3", "a", "b", "nobody"];
        let of = |id: &str| expected(&set, &Subject::Id(id.to_owned()));
        match world
            .service
            .list_subjects(TENANT, &set, &SubjectKind::Ids, given, &page, strong.clone())
            .await
        {
            Ok(found) => {
                let expected: Vec<&str> =
                    ids.into_iter().filter(|id| of(id) == Value::Yes).collect();
                assert_eq!(found.value.items, expected, "{}", told(&set));
            }
            Err(ReadRejection::Everybody(_)) => {
                assert_eq!(of("nobody"), Value::Yes, "{}", told(&set));
            }
            Err(ReadRejection::Unanswered(_)) => {
                let undecided = ids.into_iter().any(|id| of(id) == Value::Undecided);
                assert!(undecided, "{}", told(&set));
            }
            Err(error) => panic!("{error}: {}", told(&set)),
        }
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn conditions_and_expiries_agree_with_the_reference(seed in any::<u64>()) {
        run(agrees(seed, false));
    }

    #[test]
    fn conditions_under_negations_agree_with_the_reference(seed in any::<u64>()) {
        run(agrees(seed, true));
    }
}
