//! openraft's own suite over the shared log, and what it does not test:
//! crashes, order, sharing of syncs, removal.

mod crashes;
mod edges;
mod sharing;
mod suite;

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use cardea_storage::engine::{Disk, memory::MemoryDisk};
use openraft::{
    EntryPayload,
    storage::{IOFlushed, RaftLogReader, RaftLogStorage},
    type_config::TypeConfigExt,
    vote::RaftLeaderId,
};
use tokio::sync::oneshot;

use super::{Log, LogSettings, LogStore};
use crate::{
    alarm::Alarm,
    ids::{GroupId, ReplicaId},
    types::{Command, LeaderId, LogEntry, LogId, TypeConfig, Vote},
};

/// A log over `disk`, with the smallest possible tail if asked.
fn open(disk: &dyn Disk, tail_bytes_max: usize) -> (Log, Arc<Alarm>) {
    let alarm = Arc::new(Alarm::new());
    let settings = LogSettings { tail_bytes_max, ..LogSettings::default() };
    disk.create_directory(Path::new("/node/log")).unwrap();
    let log = Log::open(disk, Path::new("/node/log"), settings, alarm.clone()).unwrap();
    (log, alarm)
}

fn memory() -> MemoryDisk {
    MemoryDisk::new(7)
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(LeaderId::new(term, ReplicaId(1)), index)
}

fn vote(term: u64) -> Vote {
    Vote::new_committed(term, ReplicaId(1))
}

fn entry(term: u64, index: u64) -> LogEntry {
    let payload = EntryPayload::Normal(Command(Bytes::from(format!("{term}.{index}"))));
    LogEntry { log_id: log_id(term, index), payload }
}

/// Appends, and gives what hears of the sync.
async fn append(
    store: &mut LogStore,
    entries: impl IntoIterator<Item = LogEntry, IntoIter: Send> + Send,
) -> oneshot::Receiver<Result<(), io::Error>> {
    let (flushed, synced) = TypeConfig::oneshot();
    store.append(entries, IOFlushed::signal(flushed)).await.unwrap();
    synced
}

async fn read_all(store: &mut LogStore) -> Vec<LogEntry> {
    store.try_get_log_entries(0..u64::MAX).await.unwrap()
}
