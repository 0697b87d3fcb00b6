//! Expanding and looking up the other way round, against the reference.

use std::{collections::BTreeSet, time::Duration};

use cardea_storage::{Clock as _, Consistency, Timestamp};
use proptest::prelude::*;

use crate::{
    Context, ReadRejection, Relationship, Subject, SubjectSet,
    engine::Value,
    expand::{Tree, TreeKind},
    list::PageRequest,
    reverse::{SubjectKind, flow::Given},
    testing::{
        TENANT, Taken, World,
        model::{Chance, Kept, questions, read, subjects},
        reference,
    },
    write::Change,
};

async fn objects(
    world: &World,
    about: &SubjectSet,
    subject: &Subject,
    size: u32,
) -> Result<Vec<String>, ReadRejection> {
    let (mut found, mut token) = (Vec::new(), None);
    let given = Context::new();
    loop {
        let page = PageRequest { size, token };
        let (service, strong) = (&world.service, Consistency::Strong);
        let (namespace, relation) = (&about.namespace, &about.relation);
        let answer = service
            .list_objects(TENANT, namespace, relation, subject, &given, &page, strong)
            .await?
            .value;
        found.extend(answer.items);
        token = answer.next;
        if token.is_none() {
            break;
        }
    }
    let (mut given, strong) = (Taken::default(), Consistency::Strong);
    let (namespace, relation) = (&about.namespace, &about.relation);
    let ended = world
        .service
        .give_objects(TENANT, namespace, relation, subject, &Context::new(), strong, &mut given)
        .await?;
    assert_eq!((ended, given.names), (Given::All, found.clone()));
    Ok(found)
}

async fn subjects_of(world: &World, set: &SubjectSet) -> Result<Vec<String>, ReadRejection> {
    subjects_of_kind(world, set, &SubjectKind::Ids).await
}

async fn subjects_of_kind(
    world: &World,
    set: &SubjectSet,
    kind: &SubjectKind,
) -> Result<Vec<String>, ReadRejection> {
    let (mut found, mut token) = (Vec::new(), None);
    loop {
        let page = PageRequest { size: 2, token };
        let answer = world
            .service
            .list_subjects(TENANT, set, kind, &Context::new(), &page, Consistency::Strong)
            .await?;
        found.extend(answer.value.items);
        token = answer.value.next;
        if token.is_none() {
            break;
        }
    }
    let (mut given, strong) = (Taken::default(), Consistency::Strong);
    let ended =
        world.service.give_subjects(TENANT, set, kind, &Context::new(), strong, &mut given).await?;
    assert_eq!((ended, given.names), (Given::All, found.clone()));
    Ok(found)
}

#[tokio::test]
async fn subjects_that_are_objects_are_listed_by_their_namespace() {
    let language = "
class User implements Namespace { related: { manager: User[] }
  permits = { see: (ctx: Context): boolean => this == ctx.subject } }
class Bot implements Namespace {}
class Team implements Namespace { related: { members: (User | SubjectSet<Team, \"members\">)[] } }
class Doc implements Namespace {
  related: { viewers: (User | Bot | SubjectSet<Team, \"members\">)[]; banned: User[] }
  permits = { view: (ctx: Context): boolean =>
    this.related.viewers.includes(ctx.subject) && !this.related.banned.includes(ctx.subject) } }";
    let world = World::of(
        language,
        &[
            "Doc:1#viewers@(User:ann#)",
            "Doc:1#viewers@(Bot:cron#)",
            "Doc:1#viewers@(Team:eng#members)",
            "Doc:1#viewers@carl",
            "Team:eng#members@(User:bob#)",
            "Team:eng#members@(User:eve#)",
            "Doc:1#banned@(User:eve#)",
        ],
    )
    .await;
    let view = SubjectSet::new("Doc", "1", "view");
    let users = SubjectKind::Objects("User".to_owned());
    assert_eq!(subjects_of_kind(&world, &view, &users).await.unwrap(), ["ann", "bob"]);
    let bots = SubjectKind::Objects("Bot".to_owned());
    assert_eq!(subjects_of_kind(&world, &view, &bots).await.unwrap(), ["cron"]);
    assert_eq!(subjects_of(&world, &view).await.unwrap(), ["carl"]);
    let see = SubjectSet::new("User", "zoe", "see");
    assert_eq!(subjects_of_kind(&world, &see, &users).await.unwrap(), ["zoe"]);
    assert_eq!(subjects_of_kind(&world, &see, &bots).await.unwrap(), [] as [&str; 0]);
}

async fn expand(world: &World, set: &SubjectSet) -> Option<Tree> {
    world.service.expand(TENANT, set, 0, Consistency::Strong).await.unwrap().value
}

/// Whether a tree has a subject: sets that are expanded elsewhere count as there.
fn has(tree: &Tree, subject: &Subject) -> bool {
    let mut known = BTreeSet::new();
    loop {
        let before = known.len();
        let holds = holds(tree, subject, &mut known);
        if known.len() == before {
            return holds;
        }
    }
}

fn holds(tree: &Tree, subject: &Subject, known: &mut BTreeSet<Subject>) -> bool {
    let mut children = tree
        .children
        .iter()
        .map(|child| holds(child, subject, known))
        .collect::<Vec<_>>()
        .into_iter();
    let found = match tree.kind {
        TreeKind::Leaf => {
            let itself = match (&tree.subject, subject) {
                (Subject::Set(set), Subject::Id(id)) if set.relation.is_empty() => {
                    set.object == *id
                }
                _ => false,
            };
            tree.subject == *subject || itself || known.contains(&tree.subject)
        }
        TreeKind::Intersection => children.all(|holds| holds),
        TreeKind::Not => !children.any(|holds| holds),
        TreeKind::Union | TreeKind::TupleToSubjectSet | TreeKind::ComputedSubjectSet => {
            children.any(|holds| holds)
        }
    };
    if let (true, TreeKind::Union, Subject::Set(set)) = (found, tree.kind, &tree.subject)
        && !set.relation.is_empty()
    {
        known.insert(tree.subject.clone());
    }
    found
}

async fn agree(seed: u64, negations: bool) {
    let chance = Chance::new(seed);
    let text = chance.language(negations);
    let language = read(&text);
    let mut world = World::of(&text, &[]).await;
    if chance.below(2) == 0 {
        // Everything is collected and kept.
        world.service.merged_max = 0;
    }
    let mut kept = Kept::new();
    for step in 0..3 {
        let new: Vec<_> = (0..=chance.below(12)).map(|_| chance.tuple()).collect();
        let gone = kept.iter().nth(chance.below(20)).cloned();
        kept.extend(new.iter().cloned());
        let mut changes: Vec<Change> =
            new.into_iter().map(|tuple| Change::Insert(tuple.into())).collect();
        if let Some(gone) = gone {
            kept.remove(&gone);
            changes.push(Change::Delete(gone));
        }
        world.service.change_tuples(TENANT, changes).await.unwrap();
        let told = |what: &dyn std::fmt::Debug| {
            format!("seed {seed}, step {step}: {what:?} in\n{text}\n{kept:#?}")
        };
        for subject in subjects() {
            for about in questions().into_iter().filter(|set| set.object == "1") {
                let answers: Vec<(String, Value)> = ["1", "2", "3"]
                    .into_iter()
                    .map(|object| {
                        let set = SubjectSet { object: object.to_owned(), ..about.clone() };
                        let answer = reference::check(&language, &kept, &set, &subject);
                        (object.to_owned(), answer)
                    })
                    .collect();
                let size = u32::try_from(1 + chance.below(3)).unwrap();
                match objects(&world, &about, &subject, size).await {
                    Ok(found) => {
                        for object in &found {
                            let set = SubjectSet { object: object.clone(), ..about.clone() };
                            let answer = reference::check(&language, &kept, &set, &subject);
                            assert_eq!(answer, Value::Yes, "{}", told(&(set, subject)));
                        }
                        for (object, answer) in &answers {
                            let mentioned = !negations
                                || kept.iter().any(|tuple| {
                                    let here = |set: &SubjectSet| {
                                        set.namespace == about.namespace && set.object == *object
                                    };
                                    here(&tuple.set())
                                        || matches!(&tuple.subject, Subject::Set(set) if here(set))
                                });
                            if *answer == Value::Yes && mentioned {
                                assert!(found.contains(object), "{}", told(&(about, subject)));
                            }
                        }
                    }
                    Err(ReadRejection::Unanswered(unanswered)) => {
                        let answer = reference::check(&language, &kept, &unanswered.at, &subject);
                        assert_eq!(answer, Value::Undecided, "{}", told(&(about, subject)));
                    }
                    Err(error) => panic!("{error}: {}", told(&(about, subject))),
                }
            }
        }
        for set in questions() {
            let ids = ["1", "2", "3", "a", "b", "nobody"];
            let of =
                |id: &str| reference::check(&language, &kept, &set, &Subject::Id(id.to_owned()));
            match subjects_of(&world, &set).await {
                Ok(found) => {
                    let expected: Vec<&str> =
                        ids.into_iter().filter(|id| of(id) == Value::Yes).collect();
                    assert_eq!(found, expected, "{}", told(&set));
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
            if !negations {
                let tree = expand(&world, &set).await;
                for subject in ["a", "b"].map(|id| Subject::Id(id.to_owned())) {
                    let expected = reference::check(&language, &kept, &set, &subject);
                    let found = tree.as_ref().is_some_and(|tree| has(tree, &subject));
                    assert_eq!(
                        found,
                        expected == Value::Yes,
                        "{}\n{tree:#?}",
                        told(&(set, subject))
                    );
                }
            }
        }
    }
}

fn run(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn lists_and_trees_agree_with_the_reference(seed in any::<u64>()) {
        run(agree(seed, false));
    }

    #[test]
    fn lists_agree_with_the_reference_under_negations(seed in any::<u64>()) {
        run(agree(seed, true));
    }
}

const DRIVE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: (User | SubjectSet<Group, \"members\">)[] } }
class Doc implements Namespace {
  related: { viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[] }
  permits = {
    view: (ctx: Context): boolean => this.related.viewers.includes(ctx.subject),
    open: (ctx: Context): boolean =>
      this.permits.view(ctx) && !this.related.banned.includes(ctx.subject),
    all: (ctx: Context): boolean => !this.related.banned.includes(ctx.subject),
  }
}";

#[tokio::test]
async fn tree_shows_rewrites_and_members_once() {
    let world = World::of(
        DRIVE,
        &[
            "Doc:1#viewers@ann",
            "Doc:1#viewers@(Group:g#members)",
            "Group:g#members@bob",
            "Group:g#members@(Group:g#members)",
        ],
    )
    .await;
    let leaf = |text: &str| Tree {
        kind: TreeKind::Leaf,
        subject: text.parse().unwrap(),
        expires_at: None,
        condition: None,
        children: Vec::new(),
    };
    let node = |kind, text: &str, children| Tree { kind, children, ..leaf(text) };
    let group =
        node(TreeKind::Union, "(Group:g#members)", vec![leaf("bob"), leaf("(Group:g#members)")]);
    let viewers = node(TreeKind::Union, "(Doc:1#viewers)", vec![leaf("ann"), group]);
    let computed = node(TreeKind::ComputedSubjectSet, "(Doc:1#viewers)", vec![viewers.clone()]);
    let found = expand(&world, &"Doc:1#view".parse().unwrap()).await.unwrap();
    assert_eq!(found, node(TreeKind::Union, "(Doc:1#view)", vec![computed]));
    assert_eq!(expand(&world, &"Doc:2#view".parse().unwrap()).await.map(|t| t.kind), None);
    let viewers = "Doc:1#viewers".parse().unwrap();
    let shallow = world.service.expand(TENANT, &viewers, 1, Consistency::Strong);
    let cut =
        node(TreeKind::Union, "(Doc:1#viewers)", vec![leaf("ann"), leaf("(Group:g#members)")]);
    assert_eq!(shallow.await.unwrap().value, Some(cut));
}

#[tokio::test]
async fn exclusions_alone_admit_everybody_and_that_is_said() {
    let world = World::of(DRIVE, &["Doc:1#viewers@ann", "Doc:1#banned@bob", "Doc:2#viewers@bob"]);
    let world = world.await;
    let everybody = subjects_of(&world, &"Doc:1#all".parse().unwrap()).await;
    assert!(matches!(everybody, Err(ReadRejection::Everybody(_))));
    assert_eq!(subjects_of(&world, &"Doc:1#open".parse().unwrap()).await.unwrap(), ["ann"]);
    let all = "Doc:#all".parse().unwrap();
    let bob = Subject::Id("bob".to_owned());
    assert_eq!(objects(&world, &all, &bob, 10).await.unwrap(), ["2"]);
}

#[tokio::test]
async fn tree_that_is_too_large_is_refused_and_not_cut() {
    let world = World::of(DRIVE, &[]).await;
    let many: Vec<String> = (0..4_100).map(|at| format!("Group:g#members@{at:05}")).collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let set = "Group:g#members".parse().unwrap();
    let refused = world.service.expand(TENANT, &set, 0, Consistency::Strong).await;
    assert!(matches!(refused, Err(ReadRejection::TooMany { limit: 4_000, .. })));
    assert_eq!(subjects_of(&world, &set).await.unwrap().len(), 4_100, "lists have pages");
}

/// A page of the documents that ann has a permission on.
async fn page_of_anns(
    world: &World,
    relation: &str,
    token: Option<String>,
    consistency: Consistency,
) -> (Vec<String>, Option<String>) {
    let page = PageRequest { size: 2, token };
    let (ann, given) = (Subject::Id("ann".to_owned()), Context::new());
    let answer = world
        .service
        .list_objects(TENANT, "Doc", relation, &ann, &given, &page, consistency)
        .await
        .unwrap();
    (answer.value.items, answer.value.next)
}

#[tokio::test]
async fn pages_show_nothing_that_was_taken_away_since_the_first() {
    for merged_max in [crate::reverse::MERGED_MAX, 0] {
        for relation in ["view", "open"] {
            let mut world = World::of(
                DRIVE,
                &[
                    "Group:g#members@ann",
                    "Doc:1#viewers@(Group:g#members)",
                    "Doc:2#viewers@ann",
                    "Doc:3#viewers@ann",
                    "Doc:4#viewers@ann",
                    "Doc:5#viewers@(Group:g#members)",
                    "Doc:6#viewers@ann",
                ],
            )
            .await;
            world.service.merged_max = merged_max;
            let strong = || Consistency::Strong;
            let (first, next) = page_of_anns(&world, relation, None, strong()).await;
            assert_eq!(first, ["1", "2"]);
            world.delete("Doc:3#viewers@ann").await;
            world.delete("Group:g#members@ann").await;
            let seen = world.insert(&["Doc:7#viewers@ann"]).await;
            let (second, _) = page_of_anns(&world, relation, next.clone(), strong()).await;
            assert_eq!(second, ["4", "6"], "{relation} {merged_max}");
            // Who says what he has seen gets what was there by then.
            let at_least = Consistency::AtLeast(seen);
            let (mut found, mut token) = (Vec::new(), next);
            while token.is_some() {
                let (page, next) = page_of_anns(&world, relation, token, at_least.clone()).await;
                found.extend(page);
                token = next;
            }
            assert_eq!(found, ["4", "6", "7"], "{relation} {merged_max}");
            // A list that begins now is of now, whatever is kept.
            let (first, _) = page_of_anns(&world, relation, None, strong()).await;
            assert_eq!(first, ["2", "4"], "{relation} {merged_max}");
        }
    }
}

#[tokio::test]
async fn pages_forget_what_has_expired_since_the_first() {
    for merged_max in [crate::reverse::MERGED_MAX, 0] {
        let mut world = World::of(DRIVE, &[]).await;
        world.service.merged_max = merged_max;
        let soon = Timestamp(world.clock.now().0 + 1_000);
        let changes = ["1", "2", "3", "4"].map(|object| {
            let tuple = format!("Doc:{object}#viewers@ann").parse().unwrap();
            let expires_at = (object == "3").then_some(soon);
            Change::Insert(Relationship { tuple, expires_at, condition: None })
        });
        world.service.change_tuples(TENANT, changes.into()).await.unwrap();
        let (first, next) = page_of_anns(&world, "view", None, Consistency::Strong).await;
        assert_eq!(first, ["1", "2"]);
        world.clock.advance(Duration::from_secs(2));
        let (second, _) = page_of_anns(&world, "view", next, Consistency::Strong).await;
        assert_eq!(second, ["4"], "{merged_max}");
    }
}

#[tokio::test]
async fn pages_of_what_few_candidates_answer_are_short_and_go_on() {
    let world = World::of(DRIVE, &["Doc:99999#viewers@ann"]).await;
    let many: Vec<String> = (0..11_000)
        .flat_map(|at| [format!("Doc:{at:05}#viewers@ann"), format!("Doc:{at:05}#banned@ann")])
        .collect();
    world.insert(&many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let (first, next) = page_of_anns(&world, "open", None, Consistency::Strong).await;
    assert!(first.is_empty() && next.is_some(), "{first:?}");
    let (second, next) = page_of_anns(&world, "open", next, Consistency::Strong).await;
    assert_eq!((second, next), (vec!["99999".to_owned()], None));
}
