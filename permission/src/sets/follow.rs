//! When the sets of an object last changed: the changes of tuples that lead from set to
//! set, as the store's feed tells them, noted by the object that they are of.
//!
//! Objects share places by the hash of their names; one that shares a place with another
//! seems to change with it, which costs an index and nothing else. Requests themselves
//! take what the feed holds, without waiting, and only a part of it at a time.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use cardea_storage::{
    KeyRange, Revision, Store, StoreError, Table, Tag, Tenant,
    protocol::shards::ShardId,
    store::{Change, Watch},
};
use futures::FutureExt as _;
use parking_lot::Mutex;

use crate::{
    model::{Subject, SubjectSet},
    table::{DEFAULT_SLOT, Tuples},
};

/// Places for objects.
const PLACES: usize = 1 << 17;
/// Changes that one request takes, about.
const CHANGES_MAX: usize = 2_048;

/// What follows is not known any more.
#[derive(Debug)]
pub(super) struct Lost;

/// See the [module](self).
pub(super) struct Follow {
    stamps: OnceLock<Box<[AtomicU64]>>,
    hasher: RandomState,
    shard: AtomicU64,
    /// Behind which revision every change is known.
    since: AtomicU64,
    /// Up to which; 0 while nothing is followed.
    reached: AtomicU64,
    /// When any set changed last.
    last: AtomicU64,
    watching: Mutex<Option<Box<dyn Watch>>>,
}

impl Follow {
    pub(super) fn new() -> Self {
        Self {
            stamps: OnceLock::new(),
            hasher: RandomState::new(),
            shard: AtomicU64::new(0),
            since: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            last: AtomicU64::new(0),
            watching: Mutex::new(None),
        }
    }

    /// Follows what changes behind a revision, unless that is followed already.
    pub(super) async fn begin(
        &self,
        store: &dyn Store,
        shard: ShardId,
        at: Revision,
    ) -> Result<(), StoreError> {
        if self.watching.lock().is_some() {
            return Ok(());
        }
        let mut prefix = DEFAULT_SLOT.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&Tag::RELATION_TUPLE.0.to_be_bytes());
        let changes = store.watch(KeyRange::prefix(&prefix), at).await?;
        let mut watching = self.watching.lock();
        if watching.is_none() {
            self.shard.store(shard.0, Ordering::Release);
            self.since.store(at.0, Ordering::Release);
            self.reached.store(at.0, Ordering::Release);
            *watching = Some(changes);
        }
        Ok(())
    }

    /// Whether all changes up to a revision are noted, as far as they can be at once.
    pub(super) fn up_to(&self, shard: ShardId, at: Revision) -> Result<bool, Lost> {
        let same = self.shard.load(Ordering::Acquire) == shard.0;
        if same && self.reached.load(Ordering::Acquire) >= at.0 {
            return Ok(true);
        }
        let Some(mut watching) = self.watching.try_lock() else { return Ok(false) };
        let Some(changes) = watching.as_mut().filter(|_| same) else {
            return Err(self.lose(&mut watching));
        };
        let mut taken = 0;
        while taken <= CHANGES_MAX {
            match changes.next_until(at).now_or_never() {
                None => return Ok(false),
                Some(Ok(found)) if found.is_empty() => {
                    self.reached.fetch_max(at.0, Ordering::AcqRel);
                    return Ok(true);
                }
                Some(Ok(found)) => {
                    taken += found.len();
                    self.note(&found);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "changes of sets are not followed any more");
                    return Err(self.lose(&mut watching));
                }
            }
        }
        Ok(false)
    }

    fn lose(&self, watching: &mut Option<Box<dyn Watch>>) -> Lost {
        self.reached.store(0, Ordering::Release);
        *watching = None;
        Lost
    }

    fn note(&self, changes: &[Change]) {
        for change in changes {
            let Some(key) = Tuples::read_key(&change.key) else { continue };
            // Who is in a set is read from the store.
            if let Subject::Set(_) = key.tuple.subject {
                let stamp = self.stamp_of(key.tenant, &key.tuple.set());
                let revision = change.revision.0;
                self.stamps()[stamp as usize].fetch_max(revision, Ordering::AcqRel);
                self.last.fetch_max(revision, Ordering::AcqRel);
            }
        }
    }

    /// Whether all changes behind a revision, and up to it, are noted.
    pub(super) fn covers(&self, at: Revision) -> bool {
        // In this order: who begins to follow anew sets the one and then the other, and what
        // was lost in between is covered by neither.
        let reached = self.reached.load(Ordering::Acquire);
        at.0 <= reached && self.since.load(Ordering::Acquire) <= at.0
    }

    /// When any set changed last, as far as is known.
    pub(super) fn last(&self) -> Revision {
        Revision(self.last.load(Ordering::Acquire))
    }

    /// Where the changes of the sets of an object are noted.
    pub(super) fn stamp_of(&self, tenant: Tenant, set: &SubjectSet) -> u32 {
        let hash = self.hasher.hash_one((tenant.0, &set.namespace, &set.object));
        u32::try_from(hash as usize % PLACES).unwrap_or_default()
    }

    /// When a set changed last whose changes are noted there.
    pub(super) fn changed_at(&self, stamp: u32) -> Revision {
        Revision(self.stamps()[stamp as usize].load(Ordering::Acquire))
    }

    fn stamps(&self) -> &[AtomicU64] {
        self.stamps.get_or_init(|| (0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}
