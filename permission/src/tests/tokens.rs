//! What the tokens of writes cover.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use cardea_storage::{
    Consistency, ManualClock, SeededEntropy, Store, StoreError, Tag, Through,
    engine::memory::MemoryDisk,
    local::LocalShards,
    store::{ReadAnswer, ReadRequest},
};
use parking_lot::Mutex;

use crate::{
    engine::Limits,
    testing::{START, TENANT, World, tuple},
};

/// A node whose replica of the directory is behind.
struct Behind {
    inner: Arc<dyn Store>,
    stands: AtomicBool,
    held: Mutex<Option<ReadAnswer>>,
}

#[async_trait]
impl Through for Behind {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        let of_language = |request: &ReadRequest| {
            let tags: Vec<_> = request.reads.iter().map(|read| read.tag()).collect();
            request.consistency == Consistency::Eventual && tags == [Some(Tag::PERMISSION_LANGUAGE)]
        };
        if !of_language(&request) {
            return self.inner.read(request).await;
        }
        if self.stands.load(Ordering::SeqCst)
            && let Some(held) = self.held.lock().clone()
        {
            return Ok(held);
        }
        let answer = self.inner.read(request).await?;
        *self.held.lock() = Some(answer.clone());
        Ok(answer)
    }
}

#[tokio::test]
async fn token_of_a_write_covers_the_language_in_force_where_the_node_lags_behind_it() {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, std::path::Path::new("test"), 1, clock.clone()).unwrap();
    let inner = shards.store(Arc::new(SeededEntropy::new(7)));
    let (stands, held) = (AtomicBool::new(false), Mutex::default());
    let store = Arc::new(Behind { inner, stands, held });
    let world = World::over(store.clone(), clock, Limits::default());
    world.speak("class D implements Namespace { related: { a: D[] } }").await;
    let service = &world.service;
    service.language(TENANT, &Consistency::Eventual).await.unwrap();
    store.stands.store(true, Ordering::SeqCst);
    let language = world.speak("class D implements Namespace { related: { b: D[] } }").await;
    let [directory] = language.positions[..] else { panic!("{language:?}") };
    let created = world.insert(&["D:1#b@ann"]).await;
    let deleted = world.delete("D:1#b@ann").await;
    let imported = service.import(TENANT, vec![tuple("D:2#b@ann").into()]).await.unwrap();
    let nothing = service.change_tuples(TENANT, Vec::new()).await.unwrap();
    for (token, what) in [
        (created, "a creation"),
        (deleted, "a deletion"),
        (imported.snaptoken, "an import"),
        (nothing, "no change"),
    ] {
        let seen = token.revision(directory.shard).map(|revision| revision.0);
        assert!(seen >= Some(directory.revision), "{what}: {token:?} is behind {language:?}");
    }
}
