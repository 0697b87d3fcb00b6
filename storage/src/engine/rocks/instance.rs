//! One RocksDB instance, and its views.

use std::{
    ops::{Bound, ControlFlow, Deref},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rocksdb::{
    BottommostLevelCompaction, CompactOptions, DB, DBRawIteratorWithThreadMode, ErrorKind,
    ReadOptions, Snapshot, WaitForCompactOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
    properties,
};
use self_cell::self_cell;

use super::{files, prefix};
use crate::{
    engine::{Batch, Change, Claim, Durability, Engine, Order, Purpose, Usage, View},
    fault::Fault,
};

/// Bytes of a RocksDB batch before its changes: a sequence number and a count.
const BATCH_HEAD: usize = 12;
/// Bytes of a change beside key and value, at most: a kind, and two lengths.
const CHANGE_HEAD_MAX: usize = 11;

/// What an engine and its views share. The claim ends after the database is closed.
struct Opened {
    db: DB,
    claim: Arc<Claim>,
}

impl Deref for Opened {
    type Target = DB;

    fn deref(&self) -> &DB {
        &self.db
    }
}

pub(super) struct RocksEngine {
    db: Arc<Opened>,
    /// Of every [`get`](Engine::get).
    get: ReadOptions,
    purpose: Purpose,
    at: PathBuf,
}

impl RocksEngine {
    pub(super) fn new(db: DB, purpose: Purpose, at: &Path) -> Self {
        let db = Arc::new(Opened { db, claim: Arc::default() });
        Self { db, get: ReadOptions::default(), purpose, at: at.to_path_buf() }
    }

    fn fault(&self, what: &str, error: rocksdb::Error) -> Fault {
        Fault::caused(format!("{what} {}", self.at.display()), error)
    }

    fn property(&self, name: &properties::PropName) -> u64 {
        self.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }
}

impl Engine for RocksEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let value = self
            .db
            .get_pinned_opt(key, &self.get)
            .map_err(|error| self.fault("read from", error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        let held = HeldSnapshot::new(Arc::clone(&self.db), |opened| opened.db.snapshot());
        Ok(Box::new(RocksView {
            held: Arc::new(held),
            few: Kept::default(),
            sets: Kept::default(),
            at: self.at.clone(),
        }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault> {
        let mut options = WriteOptions::default();
        match (self.purpose, durability) {
            (Purpose::Tablet, Durability::Buffered) => options.disable_wal(true),
            (Purpose::Log, Durability::Buffered) => {}
            (Purpose::Log, Durability::Synced) => options.set_sync(true),
            (Purpose::Tablet, Durability::Synced) => {
                return Err(Fault::new(format!(
                    "synced write to {}: a tablet has no write-ahead log",
                    self.at.display()
                )));
            }
        }
        let bytes = BATCH_HEAD + batch.byte_len() + CHANGE_HEAD_MAX * batch.changes().len();
        let mut changes = WriteBatch::with_capacity_bytes(bytes);
        for change in batch.changes() {
            match change {
                Change::Put(key, value) => changes.put(key, value),
                Change::Delete(key) => changes.delete(key),
                // RocksDB refuses a range that ends before it starts.
                Change::DeleteRange(start, end) if start < end => changes.delete_range(start, end),
                Change::DeleteRange(..) => {}
            }
        }
        self.db.write_opt(changes, &options).map_err(|error| self.fault("write to", error))
    }

    fn flush(&self) -> Result<(), Fault> {
        match self.purpose {
            Purpose::Tablet => self.db.flush(),
            Purpose::Log => self.db.flush_wal(true),
        }
        .map_err(|error| self.fault("flush", error))
    }

    fn compact(&self) -> Result<(), Fault> {
        // Reports its errors only through what follows.
        self.db.flush().map_err(|error| self.fault("flush", error))?;
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(true);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db.compact_range_opt(None::<&[u8]>, None::<&[u8]>, &options);
        self.db
            .wait_for_compact(&WaitForCompactOptions::default())
            .map_err(|error| self.fault("compact", error))
    }

    fn checkpoint(&self, to: &Path) -> Result<(), Fault> {
        if self.purpose == Purpose::Tablet {
            self.flush()?;
        }
        Checkpoint::new(&self.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(to))
            .map_err(|error| self.fault(&format!("checkpoint to {} of", to.display()), error))?;
        files::sync_directory(to)?;
        files::sync_parent(to)
    }

    fn usage(&self) -> Usage {
        let unflushed = self.property(properties::NUM_ENTRIES_ACTIVE_MEM_TABLE)
            + self.property(properties::NUM_ENTRIES_IMM_MEM_TABLES);
        let memory = self.property(properties::CUR_SIZE_ALL_MEM_TABLES);
        let write_ahead = match self.purpose {
            // Asked for every second, of every replica; it has none.
            Purpose::Tablet => 0,
            Purpose::Log => files::write_ahead_bytes(&self.at),
        };
        Usage {
            disk_bytes: self.property(properties::LIVE_SST_FILES_SIZE) + write_ahead,
            // An empty memtable has room, but nothing that a flush would write.
            unflushed_bytes: if unflushed == 0 { 0 } else { memory },
            keys_estimate: self.property(properties::ESTIMATE_NUM_KEYS),
        }
    }

    fn claim(&self) -> Weak<Claim> {
        Arc::downgrade(&self.db.claim)
    }
}

self_cell!(
    /// A snapshot together with the database from which it came.
    struct HeldSnapshot {
        owner: Arc<Opened>,
        #[covariant]
        dependent: Snapshot,
    }
);

type Cursor<'a> = DBRawIteratorWithThreadMode<'a, DB>;

self_cell!(
    /// An iterator together with the snapshot that it reads.
    struct HeldCursor {
        owner: Arc<HeldSnapshot>,
        #[covariant]
        dependent: Cursor,
    }
);

/// Deleted pairs that a scan of few passes over in a row before it gives up.
const FEW_DELETED_MAX: u64 = 64;

/// A cursor that is kept for the next scan of its kind: making one costs about as much
/// as using it once.
#[derive(Default)]
struct Kept(Mutex<Option<HeldCursor>>);

impl Kept {
    /// Scans with the kept cursor, or a new one where there is none or somebody has it.
    fn with<R>(
        &self,
        held: &Arc<HeldSnapshot>,
        options: impl FnOnce() -> ReadOptions,
        scan: impl FnOnce(&mut Cursor<'_>) -> R,
    ) -> R {
        let kept = self.0.lock().take();
        let mut cursor = kept.unwrap_or_else(|| {
            HeldCursor::new(Arc::clone(held), |held| {
                held.borrow_dependent().raw_iterator_opt(options())
            })
        });
        let result = cursor.with_dependent_mut(|_, rows| scan(rows));
        *self.0.lock() = Some(cursor);
        result
    }
}

struct RocksView {
    held: Arc<HeldSnapshot>,
    /// For [`View::scan_few`].
    few: Kept,
    /// For scans of one prefix, see [`prefix`].
    sets: Kept,
    at: PathBuf,
}

impl RocksView {
    fn fault(&self, error: rocksdb::Error) -> Fault {
        Fault::caused(format!("read from {}", self.at.display()), error)
    }

    /// Visits everything with one of the prefixes that filters know.
    #[expect(clippy::type_complexity, reason = "a visitor reads best where it is used")]
    fn scan_prefix(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let options = || {
            let mut options = ReadOptions::default();
            options.set_total_order_seek(false);
            options.set_prefix_same_as_start(true);
            options
        };
        self.sets.with(&self.held, options, |rows| {
            rows.seek(prefix);
            while let Some((key, value)) = rows.item() {
                if !key.starts_with(prefix) || visit(key, value).is_break() {
                    return Ok(());
                }
                rows.next();
            }
            rows.status().map_err(|error| self.fault(error))
        })
    }
}

impl View for RocksView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let value = self.held.borrow_dependent().get(key).map_err(|error| self.fault(error))?;
        Ok(value.map(Bytes::from))
    }

    fn scan(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let first = match start {
            Bound::Included(start) => Some(start.to_vec()),
            Bound::Excluded(start) => Some(successor(start)),
            Bound::Unbounded => None,
        };
        let beyond = match end {
            Bound::Included(end) => Some(successor(end)),
            Bound::Excluded(end) => Some(end.to_vec()),
            Bound::Unbounded => None,
        };
        if let (Some(first), Some(beyond)) = (&first, &beyond)
            && first >= beyond
        {
            return Ok(());
        }
        if let (Some(first), Some(beyond)) = (&first, &beyond)
            && order == Order::Forward
            && prefix::is_one(first, beyond)
        {
            return self.scan_prefix(first, visit);
        }
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        if let Some(first) = first {
            options.set_iterate_lower_bound(first);
        }
        if let Some(beyond) = beyond {
            options.set_iterate_upper_bound(beyond);
        }
        let mut rows = self.held.borrow_dependent().raw_iterator_opt(options);
        match order {
            Order::Forward => rows.seek_to_first(),
            Order::Reverse => rows.seek_to_last(),
        }
        while let Some((key, value)) = rows.item() {
            if visit(key, value).is_break() {
                return Ok(());
            }
            match order {
                Order::Forward => rows.next(),
                Order::Reverse => rows.prev(),
            }
        }
        rows.status().map_err(|error| self.fault(error))
    }

    fn scan_few(
        &self,
        start: &[u8],
        end: &[u8],
        most: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Fault> {
        let options = || {
            let mut options = ReadOptions::default();
            options.set_total_order_seek(true);
            options.set_max_skippable_internal_keys(FEW_DELETED_MAX);
            options
        };
        self.few.with(&self.held, options, |rows| {
            let mut left = most;
            rows.seek(start);
            while let Some((key, value)) = rows.item() {
                if key >= end {
                    return Ok(true);
                }
                let Some(fewer) = left.checked_sub(1) else { return Ok(false) };
                left = fewer;
                visit(key, value);
                rows.next();
            }
            match rows.status() {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == ErrorKind::Incomplete => Ok(false),
                Err(error) => Err(self.fault(error)),
            }
        })
    }
}

/// The first key after `key`.
fn successor(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
