//! The engine of a real node: RocksDB, one instance a tablet and one for the
//! log, all of one disk sharing a block cache, a write-buffer manager and an
//! environment with its background threads.
//!
//! Tablets have no WAL: what no flush wrote is lost with the process, and is
//! replayed from the log. They drop expired rows by a compaction filter, and
//! look at every file once a day for that. The log syncs its WAL, and keeps its
//! memtables so large that entries are mostly purged before they are flushed.

mod files;
mod instance;
mod prefix;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, CompactionDecision, DB, DBCompressionType,
    DBRecoveryMode, Env, ErrorKind, InfoLogger, LogLevel, Options, WriteBufferManager,
};

use self::instance::RocksEngine;
use super::{Disk, DiskMemory, Engine, EngineOptions, FileSink, Purpose, Retention};
use crate::fault::Fault;

/// A day: how long an expired row may stay in a file that nothing else rewrites.
const PERIODIC_COMPACTION_SECONDS: u64 = 24 * 60 * 60;
/// Files of the first level from which on writes are held back, of a tablet and of the log.
const TABLET_FILES_SLOW: i32 = 64;
const LOG_FILES_SLOW: i32 = 1_000;

/// What all engines of a disk share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RocksSettings {
    /// Blocks, indexes and filters kept in memory, in bytes, for all engines.
    pub block_cache_bytes: usize,
    /// Memtables of all tablets together, in bytes; above it, the tablet that
    /// is being written flushes.
    pub write_buffer_bytes: usize,
    /// One memtable of one tablet, in bytes at most.
    pub tablet_write_buffer_bytes: usize,
    /// One memtable of the log, in bytes; it may have eight.
    pub log_write_buffer_bytes: usize,
    /// Threads that compact, at the lowest priority.
    pub compaction_threads: i32,
    /// Threads that flush.
    pub flush_threads: i32,
    /// Files one tablet keeps open.
    pub open_files_per_engine: i32,
}

impl Default for RocksSettings {
    fn default() -> Self {
        Self {
            block_cache_bytes: 32 << 20,
            write_buffer_bytes: 16 << 20,
            tablet_write_buffer_bytes: 8 << 20,
            log_write_buffer_bytes: 16 << 20,
            compaction_threads: 2,
            flush_threads: 1,
            open_files_per_engine: 512,
        }
    }
}

/// A directory tree of the machine, with RocksDB engines in it.
pub struct RocksDisk {
    settings: RocksSettings,
    cache: Cache,
    buffers: WriteBufferManager,
    env: Env,
}

impl RocksDisk {
    /// Makes what the engines share. Nothing is read or written yet.
    pub fn new(settings: RocksSettings) -> Result<Self, Fault> {
        let mut env =
            Env::new().map_err(|error| Fault::caused("make a RocksDB environment", error))?;
        env.set_low_priority_background_threads(settings.compaction_threads);
        env.set_high_priority_background_threads(settings.flush_threads);
        env.lower_thread_pool_cpu_priority();
        env.lower_thread_pool_io_priority();
        Ok(Self {
            cache: Cache::new_lru_cache(settings.block_cache_bytes),
            buffers: WriteBufferManager::new_write_buffer_manager(
                settings.write_buffer_bytes,
                false,
            ),
            env,
            settings,
        })
    }

    fn options(&self, options: &EngineOptions) -> Options {
        let mut rocks = Options::default();
        rocks.create_if_missing(true);
        rocks.set_env(&self.env);
        rocks.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Warn, report));
        rocks.set_stats_dump_period_sec(0);
        rocks.set_stats_persist_period_sec(0);
        rocks.set_max_background_jobs(
            self.settings.compaction_threads + self.settings.flush_threads,
        );
        rocks.set_avoid_unnecessary_blocking_io(true);
        rocks.set_max_manifest_file_size(1 << 20);
        // Every engine has one writer at a time.
        rocks.set_allow_concurrent_memtable_write(false);
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_format_version(6);
        match options.purpose {
            Purpose::Tablet => self.tune_tablet(&mut rocks, &mut blocks),
            Purpose::Log => self.tune_log(&mut rocks, &mut blocks),
        }
        rocks.set_block_based_table_factory(&blocks);
        if let Some(retention) = &options.retention {
            filter(&mut rocks, Arc::clone(retention));
        }
        rocks
    }

    fn tune_tablet(&self, rocks: &mut Options, blocks: &mut BlockBasedOptions) {
        rocks.set_write_buffer_manager(&self.buffers);
        rocks.set_write_buffer_size(self.settings.tablet_write_buffer_bytes);
        // Small, for there may be hundreds of tablets that hold next to nothing.
        rocks.set_arena_block_size(64 << 10);
        // Apply mostly asks for what is not there: receipts, locks, decisions. A filter
        // of a hundredth of the memtable spares the walk through it.
        rocks.set_memtable_whole_key_filtering(true);
        rocks.set_memtable_prefix_bloom_ratio(0.01);
        rocks.set_prefix_extractor(prefix::transform());
        rocks.set_max_open_files(self.settings.open_files_per_engine);
        rocks.set_compression_type(DBCompressionType::Lz4);
        rocks.set_target_file_size_base(16 << 20);
        rocks.set_max_bytes_for_level_base(64 << 20);
        rocks.set_level_compaction_dynamic_level_bytes(true);
        // Merging files comes after everything else for the processor: while a replica is
        // filled more of them wait than RocksDB's own bounds allow for.
        rocks.set_level_zero_slowdown_writes_trigger(TABLET_FILES_SLOW);
        rocks.set_level_zero_stop_writes_trigger(2 * TABLET_FILES_SLOW);
        rocks.set_periodic_compaction_seconds(PERIODIC_COMPACTION_SECONDS);
        blocks.set_block_size(8 << 10);
        blocks.set_bloom_filter(10.0, false);
        // Indexes and filters in small blocks of their own: where they do not fit the
        // cache, a lookup fetches the few kilobytes that it needs, not a whole file's.
        blocks.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        blocks.set_partition_filters(true);
        blocks.set_metadata_block_size(4 << 10);
        blocks.set_pin_top_level_index_and_filter(true);
        blocks.set_optimize_filters_for_memory(true);
    }

    fn tune_log(&self, rocks: &mut Options, blocks: &mut BlockBasedOptions) {
        rocks.set_write_buffer_size(self.settings.log_write_buffer_bytes);
        rocks.set_max_write_buffer_number(8);
        // Entries are read in order and go in order, so files that wait to be merged harm
        // nobody; but a write that is held back for them looks like a disk that hangs, for
        // which a node hands its leaderships over, and stops.
        rocks.set_level_zero_slowdown_writes_trigger(LOG_FILES_SLOW);
        rocks.set_level_zero_stop_writes_trigger(2 * LOG_FILES_SLOW);
        rocks.set_soft_pending_compaction_bytes_limit(0);
        rocks.set_hard_pending_compaction_bytes_limit(0);
        // Two memtables in one flush: what was purged between them is not written.
        rocks.set_min_write_buffer_number_to_merge(2);
        rocks.set_compression_type(DBCompressionType::None);
        rocks.set_target_file_size_base(64 << 20);
        // Replays up to the first record that is not whole, and refuses a later
        // WAL that does not continue it; a torn tail was never acknowledged.
        rocks.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        rocks.set_track_and_verify_wals_in_manifest(true);
        blocks.set_block_size(32 << 10);
    }
}

fn filter(rocks: &mut Options, retention: Arc<Retention>) {
    rocks.set_compaction_filter("cardea.retention", move |_level, key, value| {
        if retention.drops(key, value) {
            CompactionDecision::Remove
        } else {
            CompactionDecision::Keep
        }
    });
}

fn report(level: LogLevel, message: &str) {
    let message = message.trim_end();
    match level {
        LogLevel::Error | LogLevel::Fatal => tracing::error!(target: "rocksdb", "{message}"),
        LogLevel::Warn => tracing::warn!(target: "rocksdb", "{message}"),
        _ => tracing::debug!(target: "rocksdb", "{message}"),
    }
}

impl Disk for RocksDisk {
    fn open(&self, at: &Path, options: EngineOptions) -> Result<Arc<dyn Engine>, Fault> {
        files::create_directory(at)?;
        // RocksDB would begin anew, and delete them as strays.
        let names = files::list(at)?;
        if !names.iter().any(|name| name == "CURRENT")
            && names.iter().any(|name| name.ends_with(".sst"))
        {
            return Err(Fault::new(format!(
                "{} holds tables but not the CURRENT file that says which: it is incomplete",
                at.display()
            )));
        }
        let db = DB::open(&self.options(&options), at).map_err(|error| open_fault(at, error))?;
        Ok(Arc::new(RocksEngine::new(db, options.purpose, at)))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, Fault> {
        files::list(directory)
    }

    fn create_directory(&self, directory: &Path) -> Result<(), Fault> {
        files::create_directory(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        files::remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        files::rename(from, to)
    }

    fn read_file(&self, path: &Path) -> Result<Option<Bytes>, Fault> {
        files::read(path)
    }

    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), Fault> {
        files::replace(path, content)
    }

    fn read_stream(&self, path: &Path) -> Result<(Box<dyn std::io::Read + Send>, u64), Fault> {
        files::read_stream(path)
    }

    fn write_stream(&self, path: &Path) -> Result<Box<dyn FileSink>, Fault> {
        files::write_stream(path)
    }

    fn files_below(&self, directory: &Path) -> Result<Vec<PathBuf>, Fault> {
        files::files_below(directory)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, Fault> {
        files::free_bytes(path)
    }

    fn memory(&self) -> DiskMemory {
        DiskMemory {
            cache_bytes: self.cache.get_usage() as u64,
            cache_bytes_max: self.settings.block_cache_bytes as u64,
            unflushed_bytes: self.buffers.get_usage() as u64,
        }
    }
}

fn open_fault(at: &Path, error: rocksdb::Error) -> Fault {
    let text = error.as_ref();
    let locked = error.kind() == ErrorKind::IOError
        && (text.contains("lock hold by current process") || text.contains("While lock file"));
    if locked {
        Fault::caused(
            format!(
                "the data directory {} is in use by another process, or is already open here",
                at.display()
            ),
            error,
        )
    } else {
        Fault::caused(format!("open the engine in {}", at.display()), error)
    }
}

#[cfg(test)]
mod tests;
