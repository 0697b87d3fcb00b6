//! Putting languages in force.

use cardea_storage::Consistency;

use crate::{
    LanguageRejection,
    change::{NewLanguage, VERSIONS_KEPT},
    testing::{START, TENANT, World, files},
};

const WITH_EDITORS: &str =
    "class D implements Namespace { related: { viewers: D[]; editors: D[] } }";
const WITHOUT: &str = "class D implements Namespace { related: { viewers: D[] } }";
const ANOTHER: &str = "class E implements Namespace {}";

async fn put(world: &World, text: &str, force: bool) -> Result<u64, LanguageRejection> {
    let new = NewLanguage { files: files(text), follows: None, force };
    world.service.put_language(TENANT, new).await.map(|(version, _)| version)
}

#[tokio::test]
async fn versions_count_up_and_the_same_again_changes_nothing() {
    let world = World::new();
    let now = world.service.get_language(TENANT, Consistency::Strong).await.unwrap();
    assert_eq!((now.version, now.files.len()), (0, 0));
    assert_eq!(put(&world, WITHOUT, false).await.unwrap(), 1);
    assert_eq!(put(&world, WITHOUT, false).await.unwrap(), 1);
    assert_eq!(put(&world, WITH_EDITORS, false).await.unwrap(), 2);
    let now = world.service.get_language(TENANT, Consistency::Strong).await.unwrap();
    assert_eq!((now.version, now.created_at), (2, START));
    assert_eq!(now.files, files(WITH_EDITORS));
    for version in 3..=2 * VERSIONS_KEPT {
        let text = format!("{WITH_EDITORS} // {version}");
        assert_eq!(put(&world, &text, false).await.unwrap(), version);
    }
    assert_eq!(world.check("D:1#viewers@ann").await, "no");
}

#[tokio::test]
async fn outdated_change_is_refused() {
    let world = World::new();
    put(&world, WITHOUT, false).await.unwrap();
    let put_after = async |follows| {
        let new = NewLanguage { files: files(WITH_EDITORS), follows: Some(follows), force: false };
        world.service.put_language(TENANT, new).await
    };
    assert!(matches!(put_after(0).await, Err(LanguageRejection::Outdated { version: 1 })));
    assert_eq!(put_after(1).await.unwrap().0, 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_not_put_in_force() {
    let world = World::new();
    put(&world, WITHOUT, false).await.unwrap();
    let refused = put(&world, "class D implements Namespace { related: { x: Y[] } }", true).await;
    assert!(matches!(refused, Err(LanguageRejection::Malformed(errors)) if errors.len() == 1));
    assert_eq!(world.check("D:1#viewers@ann").await, "no");
}

#[tokio::test]
async fn change_that_strands_tuples_is_refused_unless_forced() {
    for (stranding, tuple, told) in [
        (WITHOUT, "D:1#editors@ann", "D#editors"),
        (WITHOUT, "D:1#viewers@(D:2#editors)", "D#editors"),
        (ANOTHER, "D:1#viewers@ann", "D"),
        (ANOTHER, "Undeclared:1#x@(D:1)", "D"),
    ] {
        let world = World::of(WITH_EDITORS, &[tuple]).await;
        match put(&world, stranding, false).await {
            Err(LanguageRejection::Strands(what)) => assert_eq!(what, [told], "{tuple}"),
            other => panic!("{tuple}: {other:?}"),
        }
        assert_eq!(put(&world, stranding, true).await.unwrap(), 2, "forced");
        world.delete(tuple).await;
        assert_eq!(put(&world, WITH_EDITORS, false).await.unwrap(), 3);
        assert_eq!(put(&world, stranding, false).await.unwrap(), 4, "nothing is stranded");
    }
}

#[tokio::test]
async fn tuple_for_a_namespace_just_removed_is_kept_and_grants_nothing() {
    let world = World::of(WITHOUT, &[]).await;
    put(&world, ANOTHER, false).await.unwrap();
    world.insert(&["D:1#viewers@ann"]).await;
    assert_eq!(world.check("D:1#viewers@ann").await, "Unknown namespace with name \"D\".");
    put(&world, WITHOUT, false).await.unwrap();
    assert_eq!(world.check("D:1#viewers@ann").await, "yes");
}
