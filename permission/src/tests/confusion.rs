//! What is kept for one question is never the answer to another (N18): not where names
//! hold what stands between names, not over tenants, not under another context.

use cardea_storage::{Consistency, Tenant};

use crate::{
    Condition, Context, Relationship, Subject, SubjectSet, Tuple,
    change::NewLanguage,
    list::PageRequest,
    opl::SourceFile,
    reverse::MERGED_MAX,
    testing::{TENANT, World},
    write::Change,
};

const LANGUAGE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: User[] } }
class Doc implements Namespace {
  related: { viewers: (User | SubjectSet<Group, \"members\">)[]; banned: User[] }
  permits = { view: (ctx: Context): boolean =>
    this.related.viewers.includes(ctx.subject) && !this.related.banned.includes(ctx.subject) } }";

/// Names that read alike once they are put one behind the other.
const NAMES: [&str; 9] =
    ["a", "a#viewers", "a#viewers@a", "a:b", "b", "b\u{1}a", "\"a\"", "a\", relation: \"", "a b"];

/// How often each is asked, for what is asked often is indexed; and up to how many
/// candidates a list is made anew for each page. The others are kept for the pages to come.
const MERGED: [usize; 6] = [MERGED_MAX, 0, MERGED_MAX, 0, MERGED_MAX, 0];

fn tuple(object: &str, subject: &str) -> Tuple {
    Tuple {
        namespace: "Doc".to_owned(),
        object: object.to_owned(),
        relation: "viewers".to_owned(),
        subject: Subject::Id(subject.to_owned()),
    }
}

async fn check(world: &World, tenant: Tenant, object: &str, subject: &str) -> bool {
    let asked = Tuple { relation: "view".to_owned(), ..tuple(object, subject) };
    world.service.check(tenant, &asked, 0, Consistency::Strong).await.unwrap().value
}

/// The objects that a subject may view, page by page; by the permission, whose candidates
/// are checked one by one, as by the relation, whose candidates are certain.
async fn viewed(world: &World, tenant: Tenant, subject: &str, given: &Context) -> Vec<String> {
    let permitted = listed(world, tenant, "view", subject, given).await;
    assert_eq!(permitted, listed(world, tenant, "viewers", subject, given).await);
    permitted
}

async fn listed(
    world: &World,
    tenant: Tenant,
    relation: &str,
    subject: &str,
    given: &Context,
) -> Vec<String> {
    let (mut found, mut token) = (Vec::new(), None);
    let subject = Subject::Id(subject.to_owned());
    loop {
        let page = PageRequest { size: 1, token };
        let strong = Consistency::Strong;
        let listed =
            world.service.list_objects(tenant, "Doc", relation, &subject, given, &page, strong);
        let listed = listed.await.unwrap().value;
        found.extend(listed.items);
        token = listed.next;
        if token.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn what_is_kept_for_a_question_answers_no_other() {
    let (mut world, other) = (World::new(), Tenant(1));
    for tenant in [TENANT, other] {
        let file = SourceFile { name: "main.ts".to_owned(), text: LANGUAGE.to_owned() };
        let language = NewLanguage { files: vec![file], follows: None, force: false };
        world.service.put_language(tenant, language).await.unwrap();
    }
    let is_viewer = |object: usize, subject: usize| (object * 5 + subject * 3).is_multiple_of(4);
    let mut changes = Vec::new();
    for (at, object) in NAMES.iter().enumerate() {
        for (of, subject) in NAMES.iter().enumerate() {
            if is_viewer(at, of) {
                // By itself, or by its group.
                let group = SubjectSet::new("Group", *subject, "members");
                let named = if at % 2 == 0 { None } else { Some(Subject::Set(group)) };
                let direct = tuple(object, subject);
                let tuple = Tuple { subject: named.unwrap_or(direct.subject.clone()), ..direct };
                changes.push(Change::Insert(tuple.into()));
            }
        }
    }
    for subject in NAMES {
        let (namespace, relation) = ("Group".to_owned(), "members".to_owned());
        let member = Tuple { namespace, relation, ..tuple(subject, subject) };
        changes.push(Change::Insert(member.into()));
    }
    assert!(changes.len() > 15);
    world.service.change_tuples(TENANT, changes).await.unwrap();
    for merged_max in MERGED {
        world.service.merged_max = merged_max;
        for (of, subject) in NAMES.iter().enumerate() {
            let mut viewer_of = Vec::new();
            for (at, object) in NAMES.iter().enumerate() {
                let is_viewer = is_viewer(at, of);
                viewer_of.extend(is_viewer.then(|| (*object).to_owned()));
                let here = check(&world, TENANT, object, subject).await;
                assert_eq!(here, is_viewer, "{object:?} {subject:?}");
                assert!(!check(&world, other, object, subject).await, "{object:?} {subject:?}");
            }
            viewer_of.sort();
            assert_eq!(viewed(&world, TENANT, subject, &Context::new()).await, viewer_of);
            assert!(viewed(&world, other, subject, &Context::new()).await.is_empty());
        }
    }
}

#[tokio::test]
async fn what_is_kept_under_one_context_is_no_answer_under_another() {
    let mut world = World::of(
        LANGUAGE,
        &["Doc:a#viewers@ann", "Doc:b#viewers@(Group:g#members)", "Group:g#members@ann"],
    )
    .await;
    let condition = Condition {
        expression: "hour < 9".to_owned(),
        parameters: [("hour".to_owned(), "int".to_owned())].into(),
        ..Condition::default()
    };
    let narrowed =
        Relationship { tuple: tuple("c", "ann"), expires_at: None, condition: Some(condition) };
    world.service.change_tuples(TENANT, vec![Change::Insert(narrowed)]).await.unwrap();
    let at = |hour: i64| Context::from_iter([("hour".to_owned(), hour.into())]);
    for merged_max in MERGED {
        world.service.merged_max = merged_max;
        assert_eq!(viewed(&world, TENANT, "ann", &at(8)).await, ["a", "b", "c"]);
        assert_eq!(viewed(&world, TENANT, "ann", &at(10)).await, ["a", "b"]);
    }
}
