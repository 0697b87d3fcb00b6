//! The rows of one engine: what the disk has, what its process sees, and the
//! batches between the two.

use std::{
    collections::BTreeSet,
    ops::Bound,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use imbl::OrdMap;
use parking_lot::RwLock;

use super::chance::Chance;
use crate::engine::{Batch, Change, Retention};

/// A persistent map: a copy costs nothing, and shares what no write changed.
pub(super) type Rows = OrdMap<Bytes, Bytes>;

/// A compaction looks at this many neighbouring rows at most, as one of a
/// leveled store does.
const COMPACTED_AT_ONCE: usize = 1024;

/// Rows of one engine. `visible` is always `durable` with `pending` replayed
/// over it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    durable: Rows,
    visible: Rows,
    /// Written but not durable, oldest first. A crash keeps a prefix.
    pending: Vec<Batch>,
    pending_bytes: usize,
    /// Keys that `pending` puts: their visible row does not come from `durable`,
    /// so a compaction cannot take it away.
    rewritten: BTreeSet<Bytes>,
    durable_bytes: u64,
    /// Where the last compaction stopped.
    cursor: Option<Bytes>,
    views: Vec<Weak<RwLock<Rows>>>,
}

impl Ledger {
    /// An engine whose disk holds `durable`.
    pub(super) fn holding(durable: Rows) -> Self {
        let durable_bytes = byte_len(&durable);
        Self { visible: durable.clone(), durable, durable_bytes, ..Self::default() }
    }

    pub(super) fn durable(&self) -> &Rows {
        &self.durable
    }

    pub(super) fn visible(&self) -> &Rows {
        &self.visible
    }

    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes as u64
    }

    pub(super) fn durable_bytes(&self) -> u64 {
        self.durable_bytes
    }

    pub(super) fn view(&mut self) -> Arc<RwLock<Rows>> {
        let view = Arc::new(RwLock::new(self.visible.clone()));
        self.views.retain(|other| other.strong_count() > 0);
        self.views.push(Arc::downgrade(&view));
        view
    }

    pub(super) fn write(&mut self, batch: Batch) {
        apply(&mut self.visible, &batch);
        for change in batch.changes() {
            if let Change::Put(key, _) = change {
                self.rewritten.insert(key.clone());
            }
        }
        self.pending_bytes += batch.byte_len();
        self.pending.push(batch);
    }

    pub(super) fn make_durable(&mut self) {
        self.durable = self.visible.clone();
        self.durable_bytes += self.pending_bytes as u64;
        self.pending.clear();
        self.pending_bytes = 0;
        self.rewritten.clear();
    }

    /// Keeps, of what was not durable, the first batches: none if `lose_all`,
    /// else as many as chance wants.
    pub(super) fn crash(&mut self, lose_all: bool, chance: &mut Chance) {
        let kept = match lose_all || chance.one_in(2) {
            true => 0,
            false => chance.up_to(self.pending.len()),
        };
        for batch in &self.pending[..kept] {
            apply(&mut self.durable, batch);
        }
        // No process is left to hold a view.
        *self = Self::holding(self.durable.clone());
    }

    /// Compacts some neighbouring rows, from where the last time ended.
    pub(super) fn compact_some(&mut self, retention: &Retention) {
        let start = match self.cursor.take() {
            Some(cursor) => Bound::Excluded(cursor),
            None => Bound::Unbounded,
        };
        let run: Vec<_> = self
            .durable
            .range::<_, Bytes>((start, Bound::Unbounded))
            .take(COMPACTED_AT_ONCE)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        // At the end of the rows, the next time begins at their start.
        if run.len() == COMPACTED_AT_ONCE {
            self.cursor = run.last().map(|(key, _)| key.clone());
        }
        self.drop_expired(run, retention);
    }

    /// Compacts every durable row.
    pub(super) fn compact_all(&mut self, retention: &Retention) {
        let all = self.durable.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        self.drop_expired(all, retention);
    }

    /// What a compaction drops is gone at once and for good from the disk, from
    /// what is seen through the disk, and, as in RocksDB, from open views.
    fn drop_expired(&mut self, rows: Vec<(Bytes, Bytes)>, retention: &Retention) {
        for (key, value) in rows.into_iter().filter(|(key, value)| retention.drops(key, value)) {
            self.durable.remove(&key);
            let dropped = (key.len() + value.len()) as u64;
            self.durable_bytes = self.durable_bytes.saturating_sub(dropped);
            if !self.rewritten.contains(&key) {
                self.visible.remove(&key);
            }
            for view in self.views.iter().filter_map(Weak::upgrade) {
                let mut view = view.write();
                if view.get(&key) == Some(&value) {
                    view.remove(&key);
                }
            }
        }
    }
}

fn apply(rows: &mut Rows, batch: &Batch) {
    for change in batch.changes() {
        match change {
            Change::Put(key, value) => {
                rows.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                rows.remove(key);
            }
            Change::DeleteRange(start, end) if start < end => {
                let doomed: Vec<Bytes> =
                    rows.range::<_, Bytes>(start..end).map(|(key, _)| key.clone()).collect();
                for key in doomed {
                    rows.remove(&key);
                }
            }
            Change::DeleteRange(..) => {}
        }
    }
}

fn byte_len(rows: &Rows) -> u64 {
    rows.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
}
