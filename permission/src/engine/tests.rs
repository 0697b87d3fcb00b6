//! The engine against the reference, and by itself.

use std::time::Duration;

use cardea_storage::{Clock as _, Consistency, Timestamp};
use proptest::prelude::*;

use crate::{
    Context, Relationship, Subject,
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

/// A random history, with everything asked of the engine after each write.
async fn agrees(seed: u64, negations: bool) {
    let chance = Chance::new(seed);
    let text = chance.language(negations);
    let language = read(&text);
    let world = World::of(&text, &[]).await;
    let mut kept = Kept::new();
    if chance.below(2) == 0 {
        // So many that its tuples are not read together, as those of others are.
        kept.extend((0..40).map(|at| tuple(&format!("A:1#r0@member-{at}"))));
        let all = kept.iter().map(|tuple| Change::Insert(tuple.clone().into())).collect();
        world.service.change_tuples(TENANT, all).await.unwrap();
    }
    for step in 0..8 {
        let mut changes = Vec::new();
        for _ in 0..=chance.below(6) {
            let delete = chance.below(4) == 0 && !kept.is_empty();
            changes.push(if delete {
                let at = chance.below(kept.len());
                Change::Delete(kept.iter().nth(at).unwrap().clone())
            } else {
                Change::Insert(chance.tuple().into())
            });
        }
        for change in &changes {
            if let Change::Insert(new) = change {
                kept.insert(new.tuple.clone());
            }
        }
        for change in &changes {
            if let Change::Delete(tuple) = change {
                kept.remove(tuple);
            }
        }
        world.service.change_tuples(TENANT, changes).await.unwrap();
        for question in questions() {
            for subject in subjects() {
                let asked = crate::Tuple {
                    namespace: question.namespace.clone(),
                    object: question.object.clone(),
                    relation: question.relation.clone(),
                    subject: subject.clone(),
                };
                let expected = reference::check(&language, &kept, &question, &subject);
                let found = world.service.check(TENANT, &asked, 0, Consistency::Eventual).await;
                let found = found.map(|answer| answer.value).ok();
                let wanted = match expected {
                    Value::Yes => Some(true),
                    Value::No | Value::Doubt => Some(false),
                    Value::Undecided => None,
                };
                assert_eq!(
                    found, wanted,
                    "seed {seed}, step {step}: {asked} in\n{text}\n{kept:#?}"
                );
                if !negations {
                    let follows = reference::follows(&language, &kept, &question, &subject);
                    assert_eq!(found, Some(follows), "seed {seed}: {asked}\n{text}\n{kept:#?}");
                }
            }
        }
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn engine_agrees_with_the_reference_after_every_write(seed in any::<u64>()) {
        run(agrees(seed, true));
    }

    #[test]
    fn engine_grants_what_follows_and_nothing_else(seed in any::<u64>()) {
        run(agrees(seed, false));
    }
}

const DRIVE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Folder implements Namespace {
  related: { parents: Folder[]; viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[] }
  permits = {
    view: (ctx: Context): boolean =>
      this.related.viewers.includes(ctx.subject) ||
      this.related.parents.traverse((p) => p.permits.view(ctx)),
    open: (ctx: Context): boolean =>
      this.permits.view(ctx) && !this.related.banned.includes(ctx.subject),
    own: (ctx: Context): boolean => this == ctx.subject,
    odd: (ctx: Context): boolean => !this.permits.odd(ctx),
  }
}";

#[tokio::test]
async fn permissions_follow_groups_folders_and_exclusions() {
    let world = World::of(
        DRIVE,
        &[
            "Group:all#members@(Group:eng#members)",
            "Group:eng#members@ann",
            "Group:eng#members@bob",
            "Folder:root#viewers@(Group:all#members)",
            "Folder:a#parents@(Folder:root)",
            "Folder:b#parents@(Folder:a#anything)",
            "Folder:b#banned@bob",
        ],
    )
    .await;
    for (asked, expected) in [
        ("Folder:b#view@ann", "yes"),
        ("Folder:b#open@ann", "yes"),
        ("Folder:b#view@bob", "yes"),
        ("Folder:b#open@bob", "no"),
        ("Folder:b#view@eve", "no"),
        ("Folder:b#view@(Group:eng#members)", "yes"),
        ("Folder:b#view@(Group:none#members)", "no"),
        ("Folder:b#own@b", "yes"),
        ("Folder:b#own@(Folder:b)", "yes"),
        ("Folder:b#own@(Folder:a)", "no"),
        ("Folder:b#own@a", "no"),
    ] {
        assert_eq!(world.check(asked).await, expected, "{asked}");
    }
    world.delete("Group:all#members@(Group:eng#members)").await;
    assert_eq!(world.check("Folder:b#view@ann").await, "no");
}

#[tokio::test]
async fn what_is_not_declared_is_told_and_grants_nothing() {
    let world = World::of(DRIVE, &["Folder:a#viewers@(Gone:x#y)", "Folder:a#banned@(Gone:x#y)"]);
    let world = world.await;
    assert_eq!(world.check("Folder:a#view@ann").await, "no");
    let denied = world.check("Folder:a#edit@ann").await;
    assert_eq!(denied, "The namespace \"Folder\" has no relation or permission \"edit\".");
    assert_eq!(world.check("Gone:x#y@ann").await, "Unknown namespace with name \"Gone\".");
    world.insert(&["Folder:a#viewers@ann"]).await;
    let under = "The check could not be completed: undeclared_under_negation at Folder:a#open";
    assert_eq!(world.check("Folder:a#open@ann").await, under);
}

#[tokio::test]
async fn cycles_end_and_are_never_negated_into_a_grant() {
    let world = World::of(
        DRIVE,
        &[
            "Group:a#members@(Group:b#members)",
            "Group:b#members@(Group:c#members)",
            "Group:c#members@(Group:a#members)",
            "Group:c#members@ann",
            "Folder:x#parents@(Folder:x)",
            "Folder:y#viewers@bob",
            "Folder:y#banned@(Group:a#members)",
        ],
    )
    .await;
    assert_eq!(world.check("Group:a#members@ann").await, "yes");
    assert_eq!(world.check("Group:a#members@bob").await, "no");
    assert_eq!(world.check("Folder:x#view@bob").await, "no");
    let told = "The check could not be completed: cycle_under_negation at Folder:y#open";
    assert_eq!(world.check("Folder:y#open@bob").await, told);
    let told = "The check could not be completed: cycle_under_negation at Folder:y#odd";
    assert_eq!(world.check("Folder:y#odd@bob").await, told);
}

#[tokio::test]
async fn chain_of_cycles_is_answered_at_once_and_not_cycle_by_cycle() {
    const CYCLES: usize = 100;
    let mut tuples = Vec::new();
    for at in 0..CYCLES {
        let (here, back, next) = (format!("{at}"), format!("{at}-back"), format!("{}", at + 1));
        for (from, to) in [(&here, &back), (&back, &here), (&here, &next)] {
            tuples.push(format!("Group:{from}#members@(Group:{to}#members)"));
        }
    }
    tuples.push("Folder:y#viewers@bob".to_owned());
    tuples.push("Folder:y#banned@(Group:0#members)".to_owned());
    let world = World::of(DRIVE, &[]).await;
    world.insert(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (service, strong) = (&world.service, Consistency::Strong);
    let (held, _) = service.language(TENANT, &strong).await.unwrap();
    let pinned = service.store.pin(DEFAULT_SLOT, &strong).await.unwrap();
    let graph = Graph::new(service.store.clone(), TENANT, held.language, strong, pinned);
    let (eve, given) = (Subject::Id("eve".to_owned()), Context::new());
    let mut engine = Engine::new(&graph, eve, Limits::default(), &given);
    let set = "Group:0#members".parse().unwrap();
    assert_eq!(engine.check(&set).await.unwrap().value, Value::Doubt);
    assert!(engine.rounds < CYCLES as u32, "{} rounds", engine.rounds);
    let told = "The check could not be completed: cycle_under_negation at Folder:y#open";
    assert_eq!(world.check("Folder:y#open@bob").await, told);
    world.insert(&[&format!("Group:{CYCLES}#members@eve")]).await;
    assert_eq!(world.check("Group:0#members@eve").await, "yes");
}

/// A chain of groups, the last with one member.
fn chain(length: usize) -> Vec<String> {
    let mut tuples: Vec<String> =
        (1..length).map(|at| format!("Group:{}#members@(Group:{at}#members)", at - 1)).collect();
    tuples.push(format!("Group:{}#members@ann", length - 1));
    tuples
}

#[tokio::test]
async fn limits_say_so_instead_of_no() {
    let limits = Limits { depth: 10, width: 20, size: 50 };
    let world = World::with(limits);
    world.speak(DRIVE).await;
    let deep = chain(10);
    world.insert(&deep.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.check("Group:0#members@ann").await, "yes");
    assert_eq!(world.check("Group:0#members@eve").await, "no");
    world.insert(&["Group:9#members@(Group:10#members)", "Group:10#members@bob"]).await;
    let too = |why: &str, at: &str| format!("The check could not be completed: {why} at {at}");
    assert_eq!(
        world.check("Group:0#members@bob").await,
        too("max_depth_exceeded", "Group:0#members")
    );
    assert_eq!(world.check("Group:0#members@ann").await, "yes", "a grant counts more");

    let wide: Vec<String> =
        (0..30).map(|at| format!("Group:w#members@(Group:w{at:02}#members)")).collect();
    world.insert(&wide.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.insert(&["Group:w03#members@ann", "Group:w29#members@bob"]).await;
    assert_eq!(world.check("Group:w#members@ann").await, "yes");
    assert_eq!(
        world.check("Group:w#members@bob").await,
        too("max_width_exceeded", "Group:w#members")
    );
    world.insert(&["Folder:f#viewers@bob", "Folder:f#banned@(Group:w#members)"]).await;
    assert_eq!(
        world.check("Folder:f#open@bob").await,
        too("max_width_exceeded", "Folder:f#open"),
        "a limit under a negation grants nothing"
    );
    for a in 0..9 {
        let more: Vec<String> =
            (0..9).map(|b| format!("Group:s{a}#members@(Group:s{a}{b}#members)")).collect();
        world.insert(&more.iter().map(String::as_str).collect::<Vec<_>>()).await;
        world.insert(&[&format!("Group:s#members@(Group:s{a}#members)")]).await;
    }
    assert_eq!(
        world.check("Group:s#members@bob").await,
        too("max_size_exceeded", "Group:s#members")
    );
    let asked = tuple("Group:0#members@ann");
    let shallow = world.service.check(TENANT, &asked, 3, Consistency::Strong).await;
    assert!(shallow.is_err(), "the request's own depth counts");
}

#[tokio::test]
async fn member_of_a_wide_group_is_as_deep_as_the_shortest_way_to_it() {
    let world = World::of(DRIVE, &[]).await;
    let mut tuples: Vec<String> =
        (0..300).map(|at| format!("Group:w#members@(Group:f{at:03}#members)")).collect();
    for (from, to) in [("w", "a"), ("a", "b"), ("b", "c"), ("c", "z"), ("w", "z")] {
        tuples.push(format!("Group:{from}#members@(Group:{to}#members)"));
    }
    tuples.push("Group:z#members@ann".to_owned());
    world.insert(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let check = async |text: &str, depth: u32| {
        let found = world.service.check(TENANT, &tuple(text), depth, Consistency::Strong).await;
        found.map(|answer| answer.value).map_err(|error| error.to_string())
    };
    assert_eq!(check("Group:w#members@ann", 4).await, Ok(true));
    assert_eq!(check("Group:w#members@eve", 5).await, Ok(false));
    let told = "The check could not be completed: max_depth_exceeded at Group:w#members";
    assert_eq!(check("Group:w#members@eve", 3).await, Err(told.to_owned()));
    assert_eq!(check("Group:a#members@ann", 4).await, Ok(true));
    assert!(check("Group:a#members@ann", 3).await.is_err());
}

#[tokio::test]
async fn crowded_objects_are_answered_as_small_ones_are() {
    let more: Vec<String> = (0..100).map(|at| format!("Folder:a#viewers@member-{at:03}")).collect();
    for crowd in [0, 20, 100] {
        let world = World::of(
            DRIVE,
            &[
                "Folder:a#viewers@(Group:g#members)",
                "Folder:a#viewers@(Group:none#members)",
                "Folder:a#parents@(Folder:up)",
                "Folder:a#banned@(Group:bad#members)",
                "Folder:up#viewers@zoe",
                "Group:g#members@ann",
                "Group:g#members@bad",
                "Group:bad#members@bad",
                // Its neighbours, in the order of keys.
                "Folder:a\0#viewers@eve",
                "Folder:aa#viewers@eve",
                "Folder:#viewers@eve",
            ],
        )
        .await;
        let part: Vec<&str> = more[..crowd].iter().map(String::as_str).collect();
        world.insert(&part).await;
        for (who, view, open) in [
            ("ann", "yes", "yes"),
            ("bad", "yes", "no"),
            ("zoe", "yes", "yes"),
            ("eve", "no", "no"),
            ("member-007", if crowd > 7 { "yes" } else { "no" }, "as view"),
        ] {
            let found = world.check(&format!("Folder:a#view@{who}")).await;
            assert_eq!(found, view, "{who}, beside {crowd}");
            let open = if open == "as view" { view } else { open };
            let found = world.check(&format!("Folder:a#open@{who}")).await;
            assert_eq!(found, open, "{who}, beside {crowd}");
        }
    }
}

#[tokio::test]
async fn what_has_expired_counts_for_nothing_among_tuples_read_together() {
    let world = World::of(DRIVE, &["Folder:a#banned@bob"]).await;
    let soon = Timestamp(world.clock.now().0 + 1_000);
    let changes = ["Folder:a#viewers@ann", "Folder:a#viewers@(Group:g#members)"].map(|text| {
        let relationship =
            Relationship { tuple: tuple(text), expires_at: Some(soon), condition: None };
        Change::Insert(relationship)
    });
    world.service.change_tuples(TENANT, changes.into()).await.unwrap();
    world.insert(&["Group:g#members@eve"]).await;
    for expected in ["yes", "no"] {
        for who in ["ann", "eve"] {
            assert_eq!(world.check(&format!("Folder:a#open@{who}")).await, expected, "{who}");
        }
        world.clock.advance(Duration::from_secs(2));
    }
}

#[tokio::test]
async fn wide_groups_are_found_behind_the_first_page() {
    let world = World::of(DRIVE, &[]).await;
    let sets: Vec<String> =
        (0..1500).map(|at| format!("Group:w#members@(Group:{at:05}#members)")).collect();
    world.insert(&sets.iter().map(String::as_str).collect::<Vec<_>>()).await;
    world.insert(&["Group:01499#members@ann", "Group:00700#members@bob"]).await;
    assert_eq!(world.check("Group:w#members@ann").await, "yes");
    assert_eq!(world.check("Group:w#members@bob").await, "yes");
    assert_eq!(world.check("Group:w#members@eve").await, "no");
    let subject = Subject::Set("Group:01499#members".parse().unwrap());
    let asked = crate::Tuple::new("Group", "w", "members", subject);
    let found = world.service.check(TENANT, &asked, 0, Consistency::Strong).await.unwrap();
    assert!(found.value);
}

#[tokio::test]
async fn diamonds_are_walked_once_however_many_ways_lead_through_them() {
    let world = World::of(DRIVE, &[]).await;
    let mut tuples = Vec::new();
    // Thirty diamonds in a row: a thousand million ways from the first to the last.
    for at in 0..30 {
        for side in ["left", "right"] {
            tuples.push(format!("Group:{at}#members@(Group:{at}-{side}#members)"));
            tuples.push(format!("Group:{at}-{side}#members@(Group:{}#members)", at + 1));
        }
    }
    tuples.push("Group:30#members@ann".to_owned());
    world.insert(&tuples.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.check("Group:0#members@ann").await, "yes");
    assert_eq!(world.check("Group:0#members@eve").await, "no");
}

#[tokio::test]
async fn tuple_that_names_a_permission_counts_however_deep() {
    let world = World::of(DRIVE, &[]).await;
    let folders: Vec<String> =
        (1..60).map(|at| format!("Folder:{}#parents@(Folder:{at})", at - 1)).collect();
    world.insert(&folders.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(world.check("Folder:0#view@ann").await, "no");
    world.insert(&["Folder:59#view@ann", "Folder:58#view@(Group:g#members)"]).await;
    world.insert(&["Group:g#members@bob"]).await;
    assert_eq!(world.check("Folder:0#view@ann").await, "yes");
    assert_eq!(world.check("Folder:0#view@bob").await, "yes");
    assert_eq!(world.check("Folder:0#view@eve").await, "no");
}
