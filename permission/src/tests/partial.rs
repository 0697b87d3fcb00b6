//! What was done in part is never told as done (N34), and asking again does the rest.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use cardea_storage::{
    ManualClock, SeededEntropy, Store, StoreError, Through,
    engine::memory::MemoryDisk,
    local::LocalShards,
    store::{Draft, Verdict},
};

use crate::{
    ReadRejection, Relationship, Tuple, TupleQuery, WriteRejection,
    engine::Limits,
    testing::{START, TENANT, World},
};

/// A store that commits so many times, and no more.
struct Ending {
    inner: Arc<dyn Store>,
    left: AtomicUsize,
}

#[async_trait]
impl Through for Ending {
    fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        let less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_err() {
            return Err(StoreError::unavailable("the cluster is gone"));
        }
        self.inner.commit(draft).await
    }
}

fn part() -> Vec<Relationship> {
    let tuple = |at: usize| Tuple {
        namespace: "Doc".to_owned(),
        object: format!("{at:0120}"),
        relation: "viewers".to_owned(),
        subject: crate::Subject::Id("ann".to_owned()),
    };
    (0..8_000).map(|at| Relationship::from(tuple(at))).collect()
}

#[tokio::test]
async fn what_was_imported_or_deleted_in_part_is_not_told_as_done() {
    let clock = Arc::new(ManualClock::new(START));
    let disk = MemoryDisk::new(1);
    let shards = LocalShards::open(&disk, std::path::Path::new("test"), 1, clock.clone()).unwrap();
    let inner = shards.store(Arc::new(SeededEntropy::new(7)));
    let store = Arc::new(Ending { inner, left: AtomicUsize::new(2) });
    let world = World::over(store.clone(), clock, Limits::default());
    let everything = TupleQuery::default();

    let failed = world.service.import(TENANT, part()).await;
    assert!(matches!(failed, Err(WriteRejection::Store(_))), "{failed:?}");
    store.left.store(usize::MAX, Ordering::SeqCst);
    let done = world.service.import(TENANT, part()).await.unwrap();
    assert_eq!((done.tuples, done.repeated), (8_000, 0));

    store.left.store(2, Ordering::SeqCst);
    let failed = world.service.delete_tuples(TENANT, &everything).await;
    assert!(matches!(failed, Err(ReadRejection::Store(_))), "{failed:?}");
    store.left.store(usize::MAX, Ordering::SeqCst);
    world.clock.advance(std::time::Duration::from_secs(60));
    world.service.delete_tuples(TENANT, &everything).await.unwrap();
    let again = world.service.delete_tuples(TENANT, &everything).await.unwrap();
    assert_eq!(again.count, 0, "nothing is left");
}
