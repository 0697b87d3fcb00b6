//! The log of a node: votes and entries of all its groups in one engine, so
//! that many groups share one sync.
//!
//! A group's log belongs to one replica, named by its owner row. When the
//! replica is removed its rows go and a mark stays: the same replica id never
//! starts again on this disk with an empty log, which could let it vote twice.

mod group;
mod holds;
mod key;
mod store;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Batch, Claim, Disk, Engine, EngineOptions, Order, Purpose},
};
use parking_lot::Mutex;

use self::{
    group::GroupLog,
    writer::{Urgency, Writer},
};
use crate::{
    alarm::Alarm,
    durations::DurationCounts,
    ids::{GroupId, ReplicaId},
    machine::Position,
};

pub use store::{Glance, LogStore};
pub use writer::WriterCounts;

/// Bounds of a [`Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Bytes of entries kept in memory for each group, besides unwritten ones.
    pub tail_bytes_max: usize,
    /// Bytes after which a batch takes no further job.
    pub batch_bytes_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { tail_bytes_max: 512 << 10, batch_bytes_max: 4 << 20 }
    }
}

/// What is in the log of a group; see [`Host::log_positions`](crate::Host::log_positions).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogPositions {
    /// The last purged position.
    pub purged: Option<Position>,
    /// The positions of the entries, in order.
    pub entries: Vec<Position>,
}

/// Why the log of a group cannot be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenLogError {
    /// This replica was removed from this node; its id is spent.
    #[error("replica {0} was removed from this node and its id is spent")]
    Retired(ReplicaId),
    /// The log belongs to another replica, which was not removed.
    #[error("the log belongs to replica {0}")]
    Owned(ReplicaId),
    /// The log of the group is open already.
    #[error("the log of the group is open already")]
    Open,
    /// The machine failed.
    #[error("the log could not be read or written")]
    Fault(#[from] Fault),
}

/// The log of all groups of a node.
pub(crate) struct Log {
    engine: Arc<dyn Engine>,
    writer: Arc<Writer>,
    open: Mutex<BTreeMap<GroupId, Arc<GroupLog>>>,
    settings: LogSettings,
    alarm: Arc<Alarm>,
}

impl Log {
    /// Opens, or creates, the log in the directory `at`. Blocks.
    pub(crate) fn open(
        disk: &dyn Disk,
        at: &Path,
        settings: LogSettings,
        alarm: Arc<Alarm>,
    ) -> Result<Self, Fault> {
        let engine = disk.open(at, EngineOptions { purpose: Purpose::Log, retention: None })?;
        Self::over(engine, settings, alarm)
    }

    pub(crate) fn over(
        engine: Arc<dyn Engine>,
        settings: LogSettings,
        alarm: Arc<Alarm>,
    ) -> Result<Self, Fault> {
        let writer =
            Arc::new(Writer::start(engine.clone(), settings.batch_bytes_max, alarm.clone())?);
        Ok(Self { engine, writer, open: Mutex::new(BTreeMap::new()), settings, alarm })
    }

    /// Opens the log of a group for `replica`, which owns it from then on.
    /// Blocks.
    pub(crate) fn group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<LogStore, OpenLogError> {
        let mut open = self.open.lock();
        if open.contains_key(&group) {
            return Err(OpenLogError::Open);
        }
        if self.engine.get(&key::retired(group, replica))?.is_some() {
            return Err(OpenLogError::Retired(replica));
        }
        match self.engine.get(&key::owner(group))? {
            Some(owner) => {
                let owner = replica_of(&owner)?;
                if owner != replica {
                    return Err(OpenLogError::Owned(owner));
                }
            }
            None => {
                let mut batch = Batch::new();
                batch.put(key::owner(group), replica_bytes(replica));
                self.write_synced(batch)?;
            }
        }
        let log = Arc::new(GroupLog::load(
            group,
            replica,
            self.engine.clone(),
            self.writer.clone(),
            self.settings.tail_bytes_max,
        )?);
        open.insert(group, log.clone());
        Ok(LogStore::new(log, self.alarm.clone()))
    }

    /// Forgets the open log of a group, which stays on disk. What was queued
    /// before is still written; whoever still holds it reads and writes no more.
    pub(crate) fn close_group(&self, group: GroupId) {
        let closed = self.open.lock().remove(&group);
        if let Some(log) = closed {
            log.close();
        }
    }

    /// Deletes the log of a group and marks `replica` as spent. The group must
    /// not be running. Removing what is not there only leaves the mark. Blocks.
    pub(crate) fn remove_group(
        &self,
        group: GroupId,
        replica: ReplicaId,
    ) -> Result<(), OpenLogError> {
        let mut open = self.open.lock();
        if let Some(log) = open.get(&group)
            && log.replica() != replica
        {
            return Err(OpenLogError::Owned(log.replica()));
        }
        if let Some(owner) = self.engine.get(&key::owner(group))? {
            let owner = replica_of(&owner)?;
            if owner != replica {
                return Err(OpenLogError::Owned(owner));
            }
        }
        if let Some(log) = open.remove(&group) {
            log.close();
        }
        self.writer.forget_newest(&key::committed(group));
        let mut batch = Batch::new();
        batch.put(key::retired(group, replica), Bytes::new());
        batch.delete(key::owner(group));
        // The rows between the marks and the end: vote, positions, entries.
        batch.delete_range(key::vote(group), key::end(group));
        self.write_synced(batch)?;
        Ok(())
    }

    /// Groups with a log on this disk, and the replicas they belong to. Blocks.
    pub(crate) fn owners(&self) -> Result<BTreeMap<GroupId, ReplicaId>, Fault> {
        let view = self.engine.view()?;
        let mut owners = BTreeMap::new();
        let mut start = Bytes::new();
        loop {
            let mut found = None;
            view.scan(
                Bound::Included(&start),
                Bound::Unbounded,
                Order::Forward,
                &mut |row, value| {
                    found = key::group_and_owner(row)
                        .map(|(group, is_owner)| (group, is_owner.then(|| replica_of(value))));
                    ControlFlow::Break(())
                },
            )?;
            let Some((group, owner)) = found else { return Ok(owners) };
            if let Some(owner) = owner {
                owners.insert(group, owner?);
            }
            start = key::end(group);
        }
    }

    /// What the open log of a group has from an index on. Blocks.
    pub(crate) fn positions(
        &self,
        group: GroupId,
        from: u64,
    ) -> Result<Option<LogPositions>, Fault> {
        let Some(log) = self.open.lock().get(&group).cloned() else { return Ok(None) };
        let purged = log.extent().purged.as_ref().map(Position::from);
        let entries = log.read(from..u64::MAX, usize::MAX)?;
        let entries = entries.iter().map(|entry| Position::from(&entry.log_id)).collect();
        Ok(Some(LogPositions { purged, entries }))
    }

    /// How long the oldest synced write has been waiting for the disk.
    pub(crate) fn oldest_unfinished(&self) -> Option<Duration> {
        self.writer.oldest_unfinished()
    }

    /// What the writer has done so far.
    pub(crate) fn counts(&self) -> WriterCounts {
        self.writer.counts()
    }

    /// How long synced writes took.
    pub(crate) fn sync_durations(&self) -> DurationCounts {
        self.writer.sync_durations()
    }

    /// Jobs that wait to be written.
    pub(crate) fn queued(&self) -> usize {
        self.writer.queued()
    }

    /// Alive while anybody has its engine open.
    pub(crate) fn claim(&self) -> Weak<Claim> {
        self.engine.claim()
    }

    /// Writes what is queued and ends the writer. Blocks.
    pub(crate) fn close(&self) {
        self.writer.close();
    }

    fn write_synced(&self, batch: Batch) -> Result<(), Fault> {
        let (done, written) = std::sync::mpsc::channel();
        let completion = move |result| drop(done.send(result));
        self.writer.submit(batch, Urgency::Synced(Box::new(completion)));
        self.writer.write_now();
        written.recv().unwrap_or_else(|_| Err(Fault::new("the log writer is gone")))
    }
}

fn replica_bytes(replica: ReplicaId) -> Bytes {
    Bytes::copy_from_slice(&replica.0.to_be_bytes())
}

fn replica_of(bytes: &[u8]) -> Result<ReplicaId, Fault> {
    match bytes.try_into() {
        Ok(id) => Ok(ReplicaId(u64::from_be_bytes(id))),
        Err(_) => Err(Fault::new("an owner row of the log is malformed")),
    }
}
