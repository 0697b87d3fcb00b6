//! How far the machine of a replica has come; readers wait on it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Applied index, and what was applied since the last snapshot.
#[derive(Debug)]
pub(crate) struct Progress {
    applied: watch::Sender<Option<u64>>,
    entries_since_snapshot: AtomicU64,
    bytes_since_snapshot: AtomicU64,
}

impl Progress {
    /// Nothing applied yet.
    pub(crate) fn new() -> Self {
        Self {
            applied: watch::Sender::new(None),
            entries_since_snapshot: AtomicU64::new(0),
            bytes_since_snapshot: AtomicU64::new(0),
        }
    }

    /// The index of the last applied entry.
    pub(crate) fn applied(&self) -> Option<u64> {
        *self.applied.borrow()
    }

    /// Notes that everything up to `index` is applied.
    pub(crate) fn advance(&self, index: u64) {
        self.applied.send_if_modified(|applied| {
            let news = *applied < Some(index);
            if news {
                *applied = Some(index);
            }
            news
        });
    }

    /// Notes that `entries` with `bytes` of commands were applied.
    pub(crate) fn count(&self, entries: u64, bytes: u64) {
        self.entries_since_snapshot.fetch_add(entries, Ordering::Relaxed);
        self.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Entries and command bytes applied since the last snapshot, or the start.
    pub(crate) fn since_snapshot(&self) -> (u64, u64) {
        (
            self.entries_since_snapshot.load(Ordering::Relaxed),
            self.bytes_since_snapshot.load(Ordering::Relaxed),
        )
    }

    /// Notes that a snapshot holds everything applied so far.
    pub(crate) fn snapshotted(&self) {
        self.entries_since_snapshot.store(0, Ordering::Relaxed);
        self.bytes_since_snapshot.store(0, Ordering::Relaxed);
    }

    /// Waits until `index` is applied; `false` if the replica is gone first.
    pub(crate) async fn reached(&self, index: u64) -> bool {
        if self.applied() >= Some(index) {
            return true;
        }
        let mut watcher = self.applied.subscribe();
        watcher.wait_for(|applied| *applied >= Some(index)).await.is_ok()
    }
}
