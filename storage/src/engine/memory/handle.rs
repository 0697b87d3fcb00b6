//! An open engine of a memory disk, and its views.

use std::{
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard, RwLock};

use super::{
    machine::{EngineId, Machine},
    rows::Rows,
};
use crate::{
    engine::{Batch, Claim, Durability, Engine, EngineOptions, Order, Purpose, Usage, View},
    fault::Fault,
};

/// A background compaction comes once in this many writes and flushes.
const COMPACTS_ONCE_IN: usize = 8;

pub(super) struct MemoryEngine {
    pub(super) machine: Arc<Mutex<Machine>>,
    pub(super) incarnation: u64,
    pub(super) id: EngineId,
    /// Where it was opened; for messages.
    pub(super) at: PathBuf,
    pub(super) options: EngineOptions,
    pub(super) claim: Arc<Claim>,
}

impl MemoryEngine {
    fn machine(&self) -> Result<MutexGuard<'_, Machine>, Fault> {
        let machine = self.machine.lock();
        if machine.incarnation != self.incarnation {
            return Err(Fault::new(format!(
                "{}: opened before the simulated machine crashed",
                self.at.display()
            )));
        }
        Ok(machine)
    }

    fn compact_by_chance(&self, machine: &mut Machine) {
        let (ledger, chance) = machine.parts(self.id);
        if let Some(retention) = &self.options.retention
            && chance.one_in(COMPACTS_ONCE_IN)
        {
            ledger.compact_some(retention);
        }
    }
}

impl Engine for MemoryEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.machine()?.ledger(self.id).visible().get(key).cloned())
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        Ok(Box::new(MemoryView { rows: self.machine()?.ledger(self.id).view() }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault> {
        if (self.options.purpose, durability) == (Purpose::Tablet, Durability::Synced) {
            return Err(Fault::new(format!(
                "synced write to {}: a tablet has no write-ahead log",
                self.at.display()
            )));
        }
        let mut machine = self.machine()?;
        machine.step("write to", &self.at)?;
        let ledger = machine.ledger(self.id);
        ledger.write(batch);
        if durability == Durability::Synced {
            ledger.make_durable();
        }
        self.compact_by_chance(&mut machine);
        Ok(())
    }

    fn flush(&self) -> Result<(), Fault> {
        let mut machine = self.machine()?;
        machine.step("flush", &self.at)?;
        machine.ledger(self.id).make_durable();
        self.compact_by_chance(&mut machine);
        Ok(())
    }

    fn compact(&self) -> Result<(), Fault> {
        let mut machine = self.machine()?;
        machine.step("compact", &self.at)?;
        let ledger = machine.ledger(self.id);
        ledger.make_durable();
        if let Some(retention) = &self.options.retention {
            ledger.compact_all(retention);
        }
        Ok(())
    }

    fn checkpoint(&self, to: &Path) -> Result<(), Fault> {
        let mut machine = self.machine()?;
        if machine.nodes.contains_key(to) {
            return Err(Fault::new(format!("checkpoint: {} exists", to.display())));
        }
        machine.check_parent(to)?;
        machine.step("flush", &self.at)?;
        machine.ledger(self.id).make_durable();
        // As RocksDB does: written under another name, then renamed.
        let mut staging = to.as_os_str().to_owned();
        staging.push(".tmp");
        let staging = PathBuf::from(staging);
        machine.remove(&staging)?;
        machine.step("write checkpoint", &staging)?;
        let rows = machine.ledger(self.id).durable().clone();
        machine.place_engine(&staging, rows);
        machine.step("rename checkpoint", to)?;
        machine.rename(&staging, to);
        Ok(())
    }

    fn usage(&self) -> Usage {
        match self.machine() {
            Ok(mut machine) => {
                let ledger = machine.ledger(self.id);
                Usage {
                    disk_bytes: ledger.durable_bytes(),
                    unflushed_bytes: ledger.pending_bytes(),
                    keys_estimate: ledger.visible().len() as u64,
                }
            }
            Err(_) => Usage::default(),
        }
    }

    fn claim(&self) -> Weak<Claim> {
        Arc::downgrade(&self.claim)
    }
}

impl Drop for MemoryEngine {
    fn drop(&mut self) {
        if let Ok(mut machine) = self.machine() {
            machine.close_engine(self.id);
        }
    }
}

struct MemoryView {
    rows: Arc<RwLock<Rows>>,
}

impl View for MemoryView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        Ok(self.rows.read().get(key).cloned())
    }

    fn scan(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        if is_empty(start, end) {
            return Ok(());
        }
        // A running scan sees one state, whatever a compaction takes away.
        let rows = self.rows.read().clone();
        let mut range = rows.range::<_, [u8]>((start, end));
        loop {
            let pair = match order {
                Order::Forward => range.next(),
                Order::Reverse => range.next_back(),
            };
            match pair {
                Some((key, value)) if visit(key, value).is_continue() => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Whether no key can lie between the bounds.
fn is_empty(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
        _ => false,
    }
}
