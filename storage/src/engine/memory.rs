//! The engine and the disk of tests and of the simulation: a whole disk in
//! memory that loses at a crash what a real one could lose.
//!
//! What a crash leaves, drawn from the seed:
//! - of the batches of an engine that nothing made durable, a prefix, whole
//!   batches only (a log's tail is torn somewhere; a tablet may have flushed on
//!   its own just before);
//! - of a file whose sink was not finished, nothing or a prefix;
//! - all else as it was. Whatever [`Disk`] calls durable is durable at once.
//!
//! Compactions come by chance with writes and flushes. They drop what the
//! [`Retention`](super::Retention) allows from what is durable, at once and for
//! good, also beneath open views and beneath batches that a crash then loses: a
//! compaction outlives the memtable.
//!
//! An engine shows one file in its directory, `data`, so that its checkpoint can
//! be streamed into another disk and opened there. There are no threads and no
//! clock in here: the same calls on the same seed do the same.

mod chance;
mod handle;
mod image;
mod machine;
mod rows;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;

use self::{
    handle::MemoryEngine,
    machine::{IMAGE, Machine, Node},
};
use super::{Disk, Engine, EngineOptions, FileSink, staged};
use crate::fault::Fault;

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct MemoryDisk {
    machine: Arc<Mutex<Machine>>,
}

impl MemoryDisk {
    /// An empty disk whose chance is drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { machine: Arc::new(Mutex::new(Machine::new(seed))) }
    }

    /// Power is lost: what was not durable is, by chance, gone or partly there.
    /// Everything opened before fails from now on; injected failure ends.
    pub fn crash(&self) {
        self.machine.lock().crash(false);
    }

    /// As [`crash`](Self::crash), but nothing that was not durable survives.
    pub fn crash_losing_all(&self) {
        self.machine.lock().crash(true);
    }

    /// From now on the first `steps` changes of the disk succeed; all after them
    /// fail, without effect, until the next crash. Every durable step of a
    /// compound operation counts ([`Disk::replace_file`] has two), so that a test
    /// that goes through `0..steps()` crashes at every write point.
    pub fn fail_after(&self, steps: u64) {
        let mut machine = self.machine.lock();
        machine.fails_from = Some(machine.steps + steps + 1);
    }

    /// Changes of the disk attempted so far.
    pub fn steps(&self) -> u64 {
        self.machine.lock().steps
    }

    /// Sets what [`Disk::free_bytes`] tells, initially 1 TiB. It does not shrink
    /// as the disk fills.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.machine.lock().free_bytes = bytes;
    }
}

impl Disk for MemoryDisk {
    fn open(&self, at: &Path, options: EngineOptions) -> Result<Arc<dyn Engine>, Fault> {
        let mut machine = self.machine.lock();
        let id = machine.open_engine(at)?;
        Ok(Arc::new(MemoryEngine {
            machine: Arc::clone(&self.machine),
            incarnation: machine.incarnation,
            id,
            at: at.to_path_buf(),
            options,
            claim: Arc::default(),
        }))
    }

    fn list(&self, directory: &Path) -> Result<Vec<String>, Fault> {
        let machine = self.machine.lock();
        let mut names: BTreeSet<String> = machine
            .tree(directory)
            .iter()
            .filter(|path| path.parent() == Some(directory))
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        if matches!(machine.nodes.get(directory), Some(Node::Engine(_))) {
            names.insert(IMAGE.to_owned());
        }
        Ok(names.into_iter().collect())
    }

    fn create_directory(&self, directory: &Path) -> Result<(), Fault> {
        self.machine.lock().create_directory(directory)
    }

    fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.machine.lock().remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), Fault> {
        let mut machine = self.machine.lock();
        let refused =
            |why| Fault::new(format!("rename {} to {}: {why}", from.display(), to.display()));
        if machine.nodes.contains_key(to) {
            return Err(refused("the new name is taken"));
        }
        if !machine.nodes.contains_key(from) {
            return Err(refused("there is no such directory"));
        }
        if to.starts_with(from) {
            return Err(refused("the new name lies within"));
        }
        machine.check_parent(to)?;
        machine.step("rename", from)?;
        machine.rename(from, to);
        Ok(())
    }

    fn read_file(&self, path: &Path) -> Result<Option<Bytes>, Fault> {
        Ok(self.machine.lock().read(path))
    }

    fn replace_file(&self, path: &Path, content: &[u8]) -> Result<(), Fault> {
        let mut machine = self.machine.lock();
        machine.check_parent(path)?;
        if machine.is_directory(path) {
            return Err(Fault::new(format!("replace {}: a directory", path.display())));
        }
        let beside = staged(path);
        machine.step("write beside", path)?;
        let file = Node::File { content: content.to_vec(), durable: true };
        machine.nodes.insert(beside.clone(), file);
        machine.step("rename over", path)?;
        if let Some(file) = machine.nodes.remove(&beside) {
            machine.nodes.insert(path.to_path_buf(), file);
        }
        Ok(())
    }

    fn read_stream(&self, path: &Path) -> Result<(Box<dyn io::Read + Send>, u64), Fault> {
        let content = self.machine.lock().read(path);
        match content {
            Some(content) => {
                let length = content.len() as u64;
                Ok((Box::new(content.reader()), length))
            }
            None => Err(Fault::new(format!("read {}: there is no such file", path.display()))),
        }
    }

    fn write_stream(&self, path: &Path) -> Result<Box<dyn FileSink>, Fault> {
        let mut machine = self.machine.lock();
        if let Some(parent) = path.parent() {
            machine.create_directory(parent)?;
        }
        if machine.nodes.contains_key(path) {
            return Err(Fault::new(format!("create {}: it exists", path.display())));
        }
        machine.step("create", path)?;
        let file = Node::File { content: Vec::new(), durable: false };
        machine.nodes.insert(path.to_path_buf(), file);
        Ok(Box::new(MemorySink {
            machine: Arc::clone(&self.machine),
            incarnation: machine.incarnation,
            path: path.to_path_buf(),
        }))
    }

    fn files_below(&self, directory: &Path) -> Result<Vec<PathBuf>, Fault> {
        let machine = self.machine.lock();
        let mut files = BTreeSet::new();
        for path in machine.tree(directory) {
            let below = path.strip_prefix(directory).unwrap_or(&path).to_path_buf();
            match machine.nodes.get(&path) {
                Some(Node::File { .. }) => files.insert(below),
                Some(Node::Engine(_)) => files.insert(below.join(IMAGE)),
                _ => false,
            };
        }
        Ok(files.into_iter().collect())
    }

    fn free_bytes(&self, _path: &Path) -> Result<u64, Fault> {
        Ok(self.machine.lock().free_bytes)
    }
}

struct MemorySink {
    machine: Arc<Mutex<Machine>>,
    incarnation: u64,
    path: PathBuf,
}

impl MemorySink {
    fn change(
        &self,
        what: &str,
        change: impl FnOnce(&mut Vec<u8>, &mut bool),
    ) -> Result<(), Fault> {
        let mut machine = self.machine.lock();
        machine.step(what, &self.path)?;
        let incarnation = machine.incarnation;
        match machine.nodes.get_mut(&self.path) {
            Some(Node::File { content, durable }) if incarnation == self.incarnation => {
                change(content, durable);
                Ok(())
            }
            _ => Err(Fault::new(format!("{what} {}: the file is gone", self.path.display()))),
        }
    }
}

impl io::Write for MemorySink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.change("write", |content, _| content.extend_from_slice(bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl FileSink for MemorySink {
    fn finish(self: Box<Self>) -> Result<(), Fault> {
        self.change("sync", |_, durable| *durable = true)
    }
}

#[cfg(test)]
mod tests;
