//! Putting languages in force.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, ManualClock, SeededEntropy, Store, StoreError, Tag, Through,
    engine::memory::MemoryDisk,
    local::LocalShards,
    store::{Draft, Read, ReadAnswer, ReadRequest, Verdict},
};
use parking_lot::Mutex;

use crate::{
    LanguageRejection, Service,
    change::{NewLanguage, VERSIONS_KEPT},
    engine::Limits,
    testing::{START, TENANT, World, files, ring, tuple},
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
    let now = world.service.get_language(TENANT, Consistency::Strong).await.unwrap().value;
    assert_eq!((now.version, now.files.len()), (0, 0));
    assert_eq!(put(&world, WITHOUT, false).await.unwrap(), 1);
    assert_eq!(put(&world, WITHOUT, false).await.unwrap(), 1);
    assert_eq!(put(&world, WITH_EDITORS, false).await.unwrap(), 2);
    let now = world.service.get_language(TENANT, Consistency::Strong).await.unwrap().value;
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
async fn namespace_that_begins_to_declare_relations_strands_those_that_were_free() {
    const FREE: &str = "class D implements Namespace {}";
    let far: Vec<String> = (0..30).map(|at| format!("D:{at}#viewers@ann")).collect();
    for tuple in ["D:1#editors@ann", "D:1#zeal@ann", "Undeclared:1#x@(D:2#editors)"] {
        let relation = if tuple.contains("zeal") { "D#zeal" } else { "D#editors" };
        let world = World::of(FREE, &[tuple]).await;
        world.insert(&far.iter().map(String::as_str).collect::<Vec<_>>()).await;
        match put(&world, WITHOUT, false).await {
            Err(LanguageRejection::Strands(what)) => assert_eq!(what, [relation]),
            other => panic!("{tuple}: {other:?}"),
        }
        world.delete(tuple).await;
        assert_eq!(put(&world, WITHOUT, false).await.unwrap(), 2, "nothing is stranded");
        assert_eq!(put(&world, FREE, false).await.unwrap(), 3, "nor here");
    }
}

/// Before the first commit, somebody else declares editors, and makes one.
struct Meddled {
    inner: Arc<dyn Store>,
    other: Mutex<Option<Service>>,
}

#[async_trait]
impl Through for Meddled {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        let other = self.other.lock().take();
        if let Some(other) = other {
            let new = NewLanguage { files: files(WITH_EDITORS), follows: None, force: false };
            other.put_language(TENANT, new).await.unwrap();
            other.create_tuple(TENANT, tuple("D:1#editors@ann").into()).await.unwrap();
        }
        self.inner.commit(draft).await
    }
}

#[tokio::test]
async fn what_was_declared_and_named_meanwhile_is_not_stranded_either() {
    for force in [false, true] {
        let clock = Arc::new(ManualClock::new(START));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, Path::new("test"), 1, clock.clone()).unwrap();
        let inner = shards.store(Arc::new(SeededEntropy::new(7)));
        let store = Arc::new(Meddled { inner: inner.clone(), other: Mutex::default() });
        let world = World::over(store.clone(), clock, Limits::default());
        put(&world, WITHOUT, false).await.unwrap();
        *store.other.lock() = Some(Service::new(inner, &ring(), Limits::default()));
        let done = put(&world, &format!("{WITHOUT} // anew"), force).await;
        if force {
            assert_eq!(done.unwrap(), 3);
        } else {
            let stranded =
                matches!(&done, Err(LanguageRejection::Strands(what)) if what == &["D#editors"]);
            assert!(stranded, "{done:?}");
            assert_eq!(world.check("D:1#editors@ann").await, "yes");
        }
    }
}

/// Counts how often the texts of a language are read.
struct Counting {
    inner: Arc<dyn Store>,
    texts: AtomicUsize,
}

#[async_trait]
impl Through for Counting {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let texts = request.reads.iter().filter_map(Read::tag);
        let texts = texts.filter(|tag| *tag == Tag::PERMISSION_LANGUAGE_VERSION).count();
        if texts > 0 {
            self.texts.fetch_add(texts, Ordering::SeqCst);
            // Others ask meanwhile.
            tokio::task::yield_now().await;
        }
        self.inner.read(request).await
    }
}

#[tokio::test]
async fn language_that_comes_into_force_is_read_once_however_many_ask() {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, Path::new("test"), 1, clock.clone()).unwrap();
    let inner = shards.store(Arc::new(SeededEntropy::new(7)));
    let store = Arc::new(Counting { inner: inner.clone(), texts: AtomicUsize::new(0) });
    let world = World::over(store.clone(), clock, Limits::default());
    let other = Service::new(inner, &ring(), Limits::default());
    for (text, expected) in [(WITHOUT, false), (WITH_EDITORS, true)] {
        let new = NewLanguage { files: files(text), follows: None, force: false };
        other.put_language(TENANT, new).await.unwrap();
        store.texts.store(0, Ordering::SeqCst);
        let answers = (0..50).map(|_| world.check("D:1#editors@ann"));
        for answer in futures::future::join_all(answers).await {
            assert_eq!(answer == "no", expected, "{answer}");
        }
        assert_eq!(store.texts.load(Ordering::SeqCst), 1);
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
