//! One generation: an engine whose directory goes away when the engine was
//! replaced and its last reader has left.

use std::{
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    engine::{Batch, Claim, Disk, Durability, Engine, Order, Usage, View},
    fault::Fault,
};

/// What handle and views share. Whoever drops it last closes the engine.
struct Shared {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    retired: AtomicBool,
    /// Taken only when dropped.
    engine: Option<Arc<dyn Engine>>,
}

impl Shared {
    fn engine(&self) -> Result<&dyn Engine, Fault> {
        self.engine
            .as_deref()
            .ok_or_else(|| Fault::new(format!("{} is closed", self.path.display())))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Closed before its files go.
        drop(self.engine.take());
        if self.retired.load(Ordering::Acquire)
            && let Err(fault) = self.disk.remove(&self.path)
        {
            // The next opening of the tablet cleans it away.
            tracing::warn!(path = %self.path.display(), ?fault, "a replaced generation stays");
        }
    }
}

/// The engine of a generation.
#[derive(Clone)]
pub(super) struct Generation {
    shared: Arc<Shared>,
}

impl Generation {
    pub(super) fn new(disk: Arc<dyn Disk>, path: PathBuf, engine: Arc<dyn Engine>) -> Self {
        let retired = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { disk, path, retired, engine: Some(engine) }) }
    }

    /// Its directory goes with its last reader.
    pub(super) fn retire(&self) {
        self.shared.retired.store(true, Ordering::Release);
    }
}

impl Engine for Generation {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.shared.engine()?.get(key)
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        let view = self.shared.engine()?.view()?;
        Ok(Box::new(GenerationView { view, _shared: Arc::clone(&self.shared) }))
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault> {
        self.shared.engine()?.write(batch, durability)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.shared.engine()?.flush()
    }

    fn compact(&self) -> Result<(), Fault> {
        self.shared.engine()?.compact()
    }

    fn checkpoint(&self, to: &Path) -> Result<(), Fault> {
        self.shared.engine()?.checkpoint(to)
    }

    fn usage(&self) -> Usage {
        self.shared.engine().map(|engine| engine.usage()).unwrap_or_default()
    }

    fn claim(&self) -> Weak<Claim> {
        self.shared.engine().map(|engine| engine.claim()).unwrap_or_default()
    }
}

struct GenerationView {
    /// Dropped before the engine that it reads.
    view: Box<dyn View>,
    _shared: Arc<Shared>,
}

impl View for GenerationView {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.view.get(key)
    }

    fn scan(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.view.scan(start, end, order, visit)
    }

    fn scan_few(
        &self,
        start: &[u8],
        end: &[u8],
        most: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Fault> {
        self.view.scan_few(start, end, most, visit)
    }
}
