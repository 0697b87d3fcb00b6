//! What a tablet and a log stand on: an ordered map of bytes with atomic
//! batches, consistent views, flushes and checkpoints.
//!
//! Two implementations pass one conformance suite: [`rocks`], and [`memory`],
//! whose disk loses at a crash what no flush or sync had made durable. A
//! [`Disk`] opens engines and owns the files beside them, so that generation
//! directories and the CURRENT file of a tablet meet the same crashes.
//!
//! Calls block. Callers run them on threads where blocking is allowed.

pub mod conformance;
pub mod memory;
pub mod rocks;

use std::{
    fmt,
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;

use crate::fault::Fault;

/// One change of a [`Batch`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Sets `key` to `value`.
    Put(Bytes, Bytes),
    /// Removes `key`; removing what is absent is no error.
    Delete(Bytes),
    /// Removes every key in `start..end`.
    DeleteRange(Bytes, Bytes),
}

/// Changes that become visible, and durable, together or not at all; later
/// changes of a key win over earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for this many changes.
    pub fn with_capacity(changes: usize) -> Self {
        Self { changes: Vec::with_capacity(changes), bytes: 0 }
    }

    /// Sets `key` to `value`.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.changes.push(Change::Put(key, value));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.changes.push(Change::Delete(key));
    }

    /// Removes every key in `start..end`.
    pub fn delete_range(&mut self, start: impl Into<Bytes>, end: impl Into<Bytes>) {
        let (start, end) = (start.into(), end.into());
        self.bytes += start.len() + end.len();
        self.changes.push(Change::DeleteRange(start, end));
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Bytes of keys and values.
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Moves the changes of `other` behind those of this batch.
    pub fn append(&mut self, other: Batch) {
        self.bytes += other.bytes;
        self.changes.extend(other.changes);
    }
}

/// Whether a write waits for the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Visible at once; durable with the next [`Engine::flush`] (no WAL) or the
    /// next synced write (WAL).
    Buffered,
    /// Durable when the call returns. Only for engines opened with a WAL.
    Synced,
}

/// An ordered map of bytes.
pub trait Engine: Send + Sync + 'static {
    /// The newest value of `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// A consistent view of everything written before the call.
    fn view(&self) -> Result<Box<dyn View>, Fault>;

    /// Writes a batch atomically.
    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault>;

    /// Makes everything written before the call durable.
    fn flush(&self) -> Result<(), Fault>;

    /// Drops what the [`Retention`] calls expired, in all files, and reclaims
    /// their room. Expensive; for tests and operators.
    fn compact(&self) -> Result<(), Fault>;

    /// A durable copy of everything written before the call, in the new
    /// directory `to` (hard links where possible), to be opened by the same
    /// [`Disk`]. Flushes first. The parent of `to` exists, `to` does not. A crash
    /// leaves `to` whole or absent, and perhaps a directory `to` + `.tmp`.
    fn checkpoint(&self, to: &Path) -> Result<(), Fault>;

    /// What the engine costs now.
    fn usage(&self) -> Usage;

    /// Alive for as long as the engine, or a view of it, has files open. Only then may its
    /// directory be opened again, or removed; a handle that is gone may be closing still.
    fn claim(&self) -> Weak<Claim>;
}

/// What an engine has on its files, until all of them are closed. See [`Engine::claim`].
#[derive(Debug, Default)]
pub struct Claim(());

/// A consistent view of an [`Engine`]: later writes do not show. It outlives
/// them, and the engine's handle, and holds what they would free: keep it short.
///
/// One thing may change beneath an open view: a pair that the engine's
/// [`Retention`] allows to be dropped may disappear between two calls (within one
/// scan it does not), never to come back in that view, and without an older
/// value of its key showing in its place. So readers judge expiry
/// themselves and take such a pair for absent already.
pub trait View: Send + Sync {
    /// The value of `key` in this view.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault>;

    /// Visits the pairs between the bounds in key order (in reverse order if
    /// asked), until the visitor breaks.
    #[expect(clippy::type_complexity, reason = "a visitor reads best where it is used")]
    fn scan(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault>;

    /// Visits the pairs from `start` up to before `end` in key order where they are
    /// few, and says whether these were all. If not, there are more than `most`, or it
    /// would have cost more to find out, as it does where much was deleted; then what was
    /// visited says nothing. Costs little either way, so it is for those who know
    /// another way.
    fn scan_few(
        &self,
        start: &[u8],
        end: &[u8],
        most: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Fault> {
        let (mut seen, mut all) = (0, true);
        let (from, to) = (Bound::Included(start), Bound::Excluded(end));
        self.scan(from, to, Order::Forward, &mut |key, value| {
            if seen == most {
                all = false;
                return ControlFlow::Break(());
            }
            seen += 1;
            visit(key, value);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }
}

/// The direction of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Reverse,
}

/// What an engine costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of live files.
    pub disk_bytes: u64,
    /// Bytes in memory that no flush made durable yet.
    pub unflushed_bytes: u64,
    /// Keys, estimated.
    pub keys_estimate: u64,
}

/// Tells a compaction what it may drop: pairs for which `expires_at` gives a
/// time at or before the horizon.
///
/// The horizon is a log time, and moves only when a flush has completed
/// (DESIGN: a compaction must never outrun what a replay could read again).
pub struct Retention {
    horizon: AtomicU64,
    expires_at: fn(key: &[u8], value: &[u8]) -> Option<u64>,
}

impl Retention {
    /// Starts with a horizon of 0: nothing is dropped. `expires_at` reads the
    /// expiry (in milliseconds of log time) out of a pair; `None`: never.
    pub fn new(expires_at: fn(&[u8], &[u8]) -> Option<u64>) -> Arc<Self> {
        Arc::new(Self { horizon: AtomicU64::new(0), expires_at })
    }

    /// Moves the horizon forward to `now`; an earlier time changes nothing.
    pub fn advance(&self, now: u64) {
        self.horizon.fetch_max(now, Ordering::AcqRel);
    }

    /// The time up to which expired pairs may be dropped.
    pub fn horizon(&self) -> u64 {
        self.horizon.load(Ordering::Acquire)
    }

    /// Whether a compaction may drop this pair.
    pub fn drops(&self, key: &[u8], value: &[u8]) -> bool {
        (self.expires_at)(key, value).is_some_and(|at| at <= self.horizon())
    }
}

impl fmt::Debug for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retention").field("horizon", &self.horizon()).finish()
    }
}

/// How an engine is opened.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// What it is for; implementations tune by it.
    pub purpose: Purpose,
    /// What compactions may drop; `None`: nothing but deleted keys.
    pub retention: Option<Arc<Retention>>,
}

/// What an engine is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A shard replica's state: no WAL, point reads and short scans.
    Tablet,
    /// The log of a node: WAL, synced batches, appended and truncated at the
    /// end, purged from the front.
    Log,
}

/// A place for engines and small files that survives, or loses what was not
/// made durable, as a real disk does.
pub trait Disk: Send + Sync + 'static {
    /// Opens, creating if absent, the engine in the directory `at`. One that is
    /// open already, here or in another process, is refused.
    fn open(&self, at: &Path, options: EngineOptions) -> Result<Arc<dyn Engine>, Fault>;

    /// Names in a directory, sorted; an absent directory has none.
    fn list(&self, directory: &Path) -> Result<Vec<String>, Fault>;

    /// Creates a directory and its parents, durably.
    fn create_directory(&self, directory: &Path) -> Result<(), Fault>;

    /// Removes a file, or a directory with all it holds; absent is no error. A
    /// crash may leave part of a directory: rename away what must not be met so.
    fn remove(&self, path: &Path) -> Result<(), Fault>;

    /// Renames a directory to a name that is free, durably (both parents synced).
    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault>;

    /// Reads a small file whole; `None` if absent.
    fn read_file(&self, path: &Path) -> Result<Option<Bytes>, Fault>;

    /// Replaces a small file so that a crash leaves the old or the new content,
    /// never another: written beside, synced, renamed, parent synced.
    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), Fault>;

    /// Opens a file for sequential reading, with its length in bytes.
    fn read_stream(&self, path: &Path) -> Result<(Box<dyn std::io::Read + Send>, u64), Fault>;

    /// Creates a file, and the directories above it, for sequential writing; a file
    /// that exists is refused. [`FileSink::finish`] makes it durable; without that, a
    /// crash leaves nothing or a part of it.
    fn write_stream(&self, path: &Path) -> Result<Box<dyn FileSink>, Fault>;

    /// Files (not directories) anywhere below `directory`, relative, sorted.
    fn files_below(&self, directory: &Path) -> Result<Vec<PathBuf>, Fault>;

    /// Bytes free for this process where `path` lies.
    fn free_bytes(&self, path: &Path) -> Result<u64, Fault>;

    /// What its engines hold in memory, as far as it is known.
    fn memory(&self) -> DiskMemory {
        DiskMemory::default()
    }
}

/// What the engines of a disk hold in memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskMemory {
    /// Blocks, indexes and filters that were read.
    pub cache_bytes: u64,
    /// What they may grow to.
    pub cache_bytes_max: u64,
    /// What no flush of a tablet has written yet.
    pub unflushed_bytes: u64,
}

/// Where [`Disk::replace_file`] writes before it renames. A crash between the two
/// leaves it; the next replacement overwrites it.
pub(crate) fn staged(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}

/// A file being written.
pub trait FileSink: std::io::Write + Send {
    /// Makes the content and the name durable.
    fn finish(self: Box<Self>) -> Result<(), Fault>;
}
