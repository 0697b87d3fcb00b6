//! The stored snapshot of a tablet: a checkpoint and the file that names it.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use cardea_raft::{Position, ReplicaId, Snapshot};
use cardea_storage::{Fault, engine::Disk, tablet::TabletDirectory};
use parking_lot::Mutex;
use prost::Message;

/// The file beside the tablet that names the current snapshot.
const FILE: &str = "SNAPSHOT";

/// What [`FILE`] says.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    replica: u64,
    #[prost(uint64, tag = "4")]
    index: u64,
    #[prost(bytes = "bytes", tag = "5")]
    membership: Bytes,
}

/// The snapshots of one tablet.
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    tablet: Arc<TabletDirectory>,
    file: PathBuf,
    root: PathBuf,
    reserve_bytes: u64,
    current: Mutex<Option<Held>>,
}

struct Held {
    snapshot: Snapshot,
    guard: Arc<Guard>,
}

/// Removes the checkpoint when the last reader of a superseded snapshot left.
struct Guard {
    tablet: Arc<TabletDirectory>,
    name: String,
    superseded: AtomicBool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.superseded.load(Ordering::Acquire)
            && let Err(fault) = self.tablet.remove_snapshot(&self.name)
        {
            // The next opening cleans it away.
            tracing::warn!(name = self.name, ?fault, "an old snapshot stays");
        }
    }
}

impl Snapshots {
    /// Finds the current snapshot, and removes all others.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        tablet: Arc<TabletDirectory>,
        root: PathBuf,
        reserve_bytes: u64,
    ) -> Result<Self, Fault> {
        let file = root.join(FILE);
        let this = Self { disk, tablet, file, root, reserve_bytes, current: Mutex::new(None) };
        let named = match this.disk.read_file(&this.file)? {
            Some(bytes) => {
                Some(Named::decode(bytes).map_err(|error| Fault::caused("file SNAPSHOT", error))?)
            }
            None => None,
        };
        for name in this.tablet.snapshots()? {
            match &named {
                Some(current) if current.name == name => {
                    *this.current.lock() = Some(this.held(current)?);
                }
                _ => this.tablet.remove_snapshot(&name)?,
            }
        }
        Ok(this)
    }

    /// The current snapshot.
    pub(super) fn current(&self) -> Option<Snapshot> {
        self.current.lock().as_ref().map(|held| held.snapshot.clone())
    }

    /// Checkpoints the tablet, which stands at `position`, as the current
    /// snapshot. `None` if it is not `required` and there is no room.
    pub(super) fn take(
        &self,
        position: Position,
        membership: Bytes,
        required: bool,
    ) -> Result<Option<Snapshot>, Fault> {
        let mut current = self.current.lock();
        if let Some(held) = current.as_ref().filter(|held| held.snapshot.position == position) {
            return Ok(Some(held.snapshot.clone()));
        }
        if !required && self.disk.free_bytes(&self.root)? < self.reserve_bytes {
            tracing::warn!(at = %self.root.display(), "no room for a snapshot");
            return Ok(None);
        }
        let Position { term, replica, index } = position;
        let name = format!("t{term}-r{}-i{index}", replica.0);
        // Left by a crash before it was named.
        self.tablet.remove_snapshot(&name)?;
        self.tablet.checkpoint(&name)?;
        let named = Named { name, term, replica: replica.0, index, membership };
        self.disk.replace_file(&self.file, &named.encode_to_vec())?;
        let held = self.held(&named)?;
        let snapshot = held.snapshot.clone();
        supersede(current.replace(held));
        Ok(Some(snapshot))
    }

    /// Bytes free on the disk above its reserve.
    pub(super) fn room_bytes(&self) -> Result<u64, Fault> {
        Ok(self.disk.free_bytes(&self.root)?.saturating_sub(self.reserve_bytes))
    }

    /// Forgets the current snapshot.
    pub(super) fn discard(&self) -> Result<(), Fault> {
        let mut current = self.current.lock();
        self.disk.remove(&self.file)?;
        supersede(current.take());
        Ok(())
    }

    fn held(&self, named: &Named) -> Result<Held, Fault> {
        let guard = Arc::new(Guard {
            tablet: self.tablet.clone(),
            name: named.name.clone(),
            superseded: AtomicBool::new(false),
        });
        let snapshot = Snapshot {
            position: Position {
                term: named.term,
                replica: ReplicaId(named.replica),
                index: named.index,
            },
            membership: named.membership.clone(),
            directory: self.tablet.snapshot_path(&named.name)?,
            guard: guard.clone(),
        };
        Ok(Held { snapshot, guard })
    }
}

fn supersede(held: Option<Held>) {
    if let Some(held) = held {
        held.guard.superseded.store(true, Ordering::Release);
    }
}
