//! How far the machine of a replica has come; readers wait on it.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::watch;

/// Applied index, what was applied since the last snapshot, and where in the log its bytes lie.
#[derive(Debug)]
pub(crate) struct Progress {
    applied: watch::Sender<Option<u64>>,
    entries_since_snapshot: AtomicU64,
    bytes_since_snapshot: AtomicU64,
    stretches: Mutex<VecDeque<Stretch>>,
    stretch_bytes: u64,
}

/// Applied entries, one after the other.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    last: u64,
    bytes: u64,
}

/// Of what is kept behind a snapshot, the parts in which its bytes are known.
const STRETCHES_KEPT: u64 = 64;

impl Progress {
    /// Nothing applied yet, of a log that keeps so many bytes behind a snapshot.
    pub(crate) fn keeping(bytes: u64) -> Self {
        Self::new(bytes / STRETCHES_KEPT)
    }

    /// Nothing applied yet. Where bytes lie is known to `stretch_bytes`.
    pub(crate) fn new(stretch_bytes: u64) -> Self {
        Self {
            applied: watch::Sender::new(None),
            entries_since_snapshot: AtomicU64::new(0),
            bytes_since_snapshot: AtomicU64::new(0),
            stretches: Mutex::default(),
            stretch_bytes,
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

    /// Notes that `entries` up to `last`, with `bytes` of commands, were applied.
    pub(crate) fn count(&self, last: u64, entries: u64, bytes: u64) {
        self.owe(entries);
        self.bytes_since_snapshot.fetch_add(bytes, Ordering::Relaxed);
        let mut stretches = self.stretches.lock();
        match stretches.back_mut() {
            Some(stretch) if stretch.bytes + bytes <= self.stretch_bytes => {
                *stretch = Stretch { last, bytes: stretch.bytes + bytes };
            }
            _ => stretches.push_back(Stretch { last, bytes }),
        }
    }

    /// Notes that `entries` were applied in an earlier life, and no snapshot holds them.
    pub(crate) fn owe(&self, entries: u64) {
        self.entries_since_snapshot.fetch_add(entries, Ordering::Relaxed);
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

    /// The last index that has `bytes` or more between itself and `index`, as far as is known
    /// in this life.
    pub(crate) fn before(&self, index: u64, bytes: u64) -> Option<u64> {
        let stretches = self.stretches.lock();
        let mut between = 0_u64;
        let older = stretches.iter().rev().skip_while(|stretch| stretch.last > index);
        for stretch in older {
            if between >= bytes {
                return Some(stretch.last);
            }
            between = between.saturating_add(stretch.bytes);
        }
        None
    }

    /// Forgets where the bytes up to `index` lay.
    pub(crate) fn forget(&self, index: u64) {
        let mut stretches = self.stretches.lock();
        while stretches.front().is_some_and(|stretch| stretch.last <= index) {
            stretches.pop_front();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_where_bytes_lie() {
        let progress = Progress::new(10);
        assert_eq!(progress.before(u64::MAX, 0), None);
        // Up to index 3, to 4, to 6, to 7.
        for (last, bytes) in [(1, 4), (2, 4), (3, 2), (4, 100), (5, 1), (6, 1), (7, 9)] {
            progress.count(last, 1, bytes);
        }
        assert_eq!(progress.since_snapshot(), (7, 121));
        assert_eq!(progress.before(7, 0), Some(7));
        assert_eq!(progress.before(7, 1), Some(6));
        assert_eq!(progress.before(7, 9), Some(6));
        assert_eq!(progress.before(7, 10), Some(4));
        assert_eq!(progress.before(7, 11), Some(4));
        assert_eq!(progress.before(7, 12), Some(3));
        assert_eq!(progress.before(7, 111), Some(3));
        assert_eq!(progress.before(7, 112), None);
        // A stretch that ends behind the index does not lie before it.
        assert_eq!(progress.before(5, 0), Some(4));
        assert_eq!(progress.before(2, 0), None);
        progress.forget(4);
        assert_eq!(progress.before(7, 1), Some(6));
        assert_eq!(progress.before(7, 10), None);
    }
}
