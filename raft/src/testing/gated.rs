//! A disk whose engines write only when a test lets them.

use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Batch, Claim, Disk, Durability, Engine, EngineOptions, FileSink, Usage, View},
};
use parking_lot::{Condvar, Mutex};

/// Lets writes pass; at first none.
#[derive(Default)]
pub struct Gate {
    permitted: Mutex<Permitted>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Permitted {
    #[default]
    None,
    Some(u64),
    All,
}

impl Gate {
    /// Lets so many more writes pass; `None`: all.
    pub fn permit(&self, writes: Option<u64>) {
        *self.permitted.lock() = match writes {
            None => Permitted::All,
            Some(0) => Permitted::None,
            Some(writes) => Permitted::Some(writes),
        };
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut permitted = self.permitted.lock();
        while *permitted == Permitted::None {
            self.changed.wait(&mut permitted);
        }
        *permitted = match *permitted {
            Permitted::Some(1) | Permitted::None => Permitted::None,
            Permitted::Some(writes) => Permitted::Some(writes - 1),
            Permitted::All => Permitted::All,
        };
    }
}

/// An engine behind a gate.
pub struct GatedEngine {
    inner: Arc<dyn Engine>,
    gate: Arc<Gate>,
}

impl GatedEngine {
    /// Puts an engine behind a gate.
    pub fn new(inner: Arc<dyn Engine>, gate: Arc<Gate>) -> Self {
        Self { inner, gate }
    }
}

impl Engine for GatedEngine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.inner.get(key)
    }

    fn view(&self) -> Result<Box<dyn View>, Fault> {
        self.inner.view()
    }

    fn write(&self, batch: Batch, durability: Durability) -> Result<(), Fault> {
        self.gate.pass();
        self.inner.write(batch, durability)
    }

    fn flush(&self) -> Result<(), Fault> {
        self.inner.flush()
    }

    fn compact(&self) -> Result<(), Fault> {
        self.inner.compact()
    }

    fn checkpoint(&self, to: &Path) -> Result<(), Fault> {
        self.inner.checkpoint(to)
    }

    fn usage(&self) -> Usage {
        self.inner.usage()
    }

    fn claim(&self) -> Weak<Claim> {
        self.inner.claim()
    }
}

/// A disk whose engines are behind a gate; its files are not.
pub struct GatedDisk<D> {
    /// The disk.
    pub inner: D,
    /// The gate of all its engines.
    pub gate: Arc<Gate>,
}

impl<D: Disk> Disk for GatedDisk<D> {
    fn open(&self, at: &Path, options: EngineOptions) -> Result<Arc<dyn Engine>, Fault> {
        let inner = self.inner.open(at, options)?;
        Ok(Arc::new(GatedEngine::new(inner, self.gate.clone())))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, Fault> {
        self.inner.list(directory)
    }

    fn create_directory(&self, directory: &Path) -> Result<(), Fault> {
        self.inner.create_directory(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.inner.remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        self.inner.rename(from, to)
    }

    fn read_file(&self, path: &Path) -> Result<Option<Bytes>, Fault> {
        self.inner.read_file(path)
    }

    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), Fault> {
        self.inner.replace_file(path, content)
    }

    fn read_stream(&self, path: &Path) -> Result<(Box<dyn Read + Send>, u64), Fault> {
        self.inner.read_stream(path)
    }

    fn write_stream(&self, path: &Path) -> Result<Box<dyn FileSink>, Fault> {
        self.inner.write_stream(path)
    }

    fn files_below(&self, directory: &Path) -> Result<Vec<PathBuf>, Fault> {
        self.inner.files_below(directory)
    }

    fn free_bytes(&self, path: &Path) -> Result<u64, Fault> {
        self.inner.free_bytes(path)
    }
}
