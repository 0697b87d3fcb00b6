//! The directory of a tablet.
//!
//! ```text
//! CURRENT            the name of the live generation
//! g0000000001/ …     generations: the live one, and one being received
//! snapshots/NAME/    complete checkpoints, kept for sending
//! ```
//!
//! Installing, so that a crash anywhere leaves the old or the new generation
//! live and whole:
//! 1. A fresh generation directory is made, and the files are streamed into it;
//!    each is synced with its name as it is finished.
//! 2. The received engine is opened: it is proved whole while the old one still
//!    is what CURRENT names.
//! 3. CURRENT is replaced: written beside, synced, renamed, its directory synced.
//!    From here the new generation is live.
//! 4. Handles given out from now on are of the new engine. The old directory is
//!    removed after its last reader.
//!
//! What no CURRENT names, and what is half written or half removed, is cleaned
//! away at the next opening.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::generation::Generation;
use crate::{
    engine::{Disk, Engine, EngineOptions, Purpose, Retention},
    fault::Fault,
};

const CURRENT: &str = "CURRENT";
const SNAPSHOTS: &str = "snapshots";
/// Ends the name of a snapshot that is being removed.
const REMOVED: &str = ".removed";

/// The files of one tablet. One value at a time may have a directory open.
pub struct TabletDirectory {
    disk: Arc<dyn Disk>,
    root: PathBuf,
    options: EngineOptions,
    live: RwLock<Option<Generation>>,
    /// The number of the newest generation; held while one is made or installed.
    newest: Mutex<u64>,
}

impl TabletDirectory {
    /// Opens what is below `root`, and cleans away what a crash left. There may
    /// be no live generation yet: then the tablet was never created.
    ///
    /// # Errors
    ///
    /// If CURRENT is not understood, or names what is not there.
    pub fn open(
        disk: Arc<dyn Disk>,
        root: &Path,
        retention: Option<Arc<Retention>>,
    ) -> Result<Self, Fault> {
        let options = EngineOptions { purpose: Purpose::Tablet, retention };
        disk.create_directory(&root.join(SNAPSHOTS))?;
        let live = match disk.read_file(&root.join(CURRENT))? {
            Some(content) => Some(parse_current(root, &content)?),
            None => None,
        };
        let this = Self {
            disk,
            root: root.to_path_buf(),
            options,
            live: RwLock::new(None),
            newest: Mutex::new(live.unwrap_or(0)),
        };
        this.clean(live)?;
        if let Some(number) = live {
            *this.live.write() = Some(this.open_generation(&this.generation_path(number))?);
        }
        Ok(this)
    }

    /// The live engine, if the tablet was ever created or installed.
    pub fn live(&self) -> Option<Arc<dyn Engine>> {
        self.live.read().clone().map(|generation| Arc::new(generation) as Arc<dyn Engine>)
    }

    /// The live engine; creates an empty one, durably, in a tablet that has none.
    /// A group that has a vote or a purge point asks [`live`](Self::live) instead,
    /// and does not start without.
    pub fn open_live(&self) -> Result<Arc<dyn Engine>, Fault> {
        if let Some(engine) = self.live() {
            return Ok(engine);
        }
        let mut newest = self.newest.lock();
        if let Some(engine) = self.live() {
            return Ok(engine);
        }
        let path = self.make_generation(&mut newest)?;
        self.publish(*newest, self.open_generation(&path)?)
    }

    /// A fresh, empty generation directory to receive files in. One that is
    /// not installed is cleaned away at the next opening, or by
    /// [`abandon`](Self::abandon).
    pub fn begin_receive(&self) -> Result<PathBuf, Fault> {
        self.make_generation(&mut self.newest.lock())
    }

    /// Makes the files in `received`, from [`begin_receive`](Self::begin_receive)
    /// and each finished, the live engine. Handles and views of the old one go on
    /// to show the old state; its directory goes with the last of them.
    ///
    /// # Errors
    ///
    /// If they are no whole engine: then the old one stays live.
    pub fn install(&self, received: &Path) -> Result<Arc<dyn Engine>, Fault> {
        let _newest = self.newest.lock();
        let number = self.number_of(received)?;
        if self.disk.list(received)?.is_empty() {
            return Err(Fault::new(format!("{} holds nothing to install", received.display())));
        }
        self.publish(number, self.open_generation(received)?)
    }

    /// Removes what was received and is not to be installed.
    pub fn abandon(&self, received: &Path) -> Result<(), Fault> {
        let _newest = self.newest.lock();
        self.number_of(received)?;
        self.disk.remove(received)
    }

    /// Makes everything applied so far durable and copies it to the snapshot
    /// `name` (letters, digits, `-` and `_`), whose files are never changed.
    pub fn checkpoint(&self, name: &str) -> Result<PathBuf, Fault> {
        let path = self.snapshot_path(name)?;
        let live = self
            .live()
            .ok_or_else(|| Fault::new(format!("{}: no live tablet", self.root.display())))?;
        live.checkpoint(&path)?;
        Ok(path)
    }

    /// Names of complete snapshots, sorted.
    pub fn snapshots(&self) -> Result<Vec<String>, Fault> {
        let mut names = self.disk.list(&self.root.join(SNAPSHOTS))?;
        names.retain(|name| is_snapshot_name(name));
        Ok(names)
    }

    /// Where the snapshot `name` is, or would be.
    pub fn snapshot_path(&self, name: &str) -> Result<PathBuf, Fault> {
        if !is_snapshot_name(name) {
            return Err(Fault::new(format!("{name:?} is no name for a snapshot")));
        }
        Ok(self.root.join(SNAPSHOTS).join(name))
    }

    /// Removes a snapshot; absent is no error. Half of one is never met: it loses
    /// its name first.
    pub fn remove_snapshot(&self, name: &str) -> Result<(), Fault> {
        let path = self.snapshot_path(name)?;
        if !self.snapshots()?.iter().any(|other| other == name) {
            return Ok(());
        }
        let doomed = path.with_file_name(format!("{name}{REMOVED}"));
        self.disk.remove(&doomed)?;
        self.disk.rename(&path, &doomed)?;
        self.disk.remove(&doomed)
    }

    fn generation_path(&self, number: u64) -> PathBuf {
        self.root.join(generation_name(number))
    }

    fn open_generation(&self, path: &Path) -> Result<Generation, Fault> {
        if self.disk.list(&self.root)?.iter().all(|name| self.root.join(name) != path) {
            return Err(Fault::new(format!("{} is not there", path.display())));
        }
        let engine = self.disk.open(path, self.options.clone())?;
        Ok(Generation::new(Arc::clone(&self.disk), path.to_path_buf(), engine))
    }

    fn make_generation(&self, newest: &mut u64) -> Result<PathBuf, Fault> {
        *newest += 1;
        let path = self.generation_path(*newest);
        self.disk.create_directory(&path)?;
        Ok(path)
    }

    fn publish(&self, number: u64, generation: Generation) -> Result<Arc<dyn Engine>, Fault> {
        let content = format!("{}\n", generation_name(number));
        self.disk.replace_file(&self.root.join(CURRENT), content.as_bytes())?;
        let old = self.live.write().replace(generation.clone());
        if let Some(old) = old {
            old.retire();
        }
        Ok(Arc::new(generation))
    }

    /// The number of a generation that was received and is not live.
    fn number_of(&self, received: &Path) -> Result<u64, Fault> {
        let number = received
            .file_name()
            .and_then(|name| parse_generation(name.to_str()?))
            .filter(|number| self.generation_path(*number) == received);
        let Some(number) = number else {
            let (received, root) = (received.display(), self.root.display());
            return Err(Fault::new(format!("{received} is no generation of {root}")));
        };
        let current = self.disk.read_file(&self.root.join(CURRENT))?;
        match current.map(|content| parse_current(&self.root, &content)).transpose()? {
            Some(live) if live >= number => {
                Err(Fault::new(format!("{} is live or older", received.display())))
            }
            _ => Ok(number),
        }
    }

    fn clean(&self, live: Option<u64>) -> Result<(), Fault> {
        // First, so that a wrong CURRENT costs nothing that is there.
        if let Some(number) = live
            && self.disk.list(&self.generation_path(number))?.is_empty()
        {
            return Err(Fault::new(format!(
                "{} is what CURRENT names, but is not there",
                self.generation_path(number).display()
            )));
        }
        for name in self.disk.list(&self.root)? {
            let generation = parse_generation(&name);
            let stray = generation.is_some() && generation != live;
            if stray || name == format!("{CURRENT}.new") {
                self.disk.remove(&self.root.join(name))?;
            }
        }
        let snapshots = self.root.join(SNAPSHOTS);
        for name in self.disk.list(&snapshots)? {
            if !is_snapshot_name(&name) {
                self.disk.remove(&snapshots.join(name))?;
            }
        }
        Ok(())
    }
}

fn generation_name(number: u64) -> String {
    format!("g{number:010}")
}

fn parse_generation(name: &str) -> Option<u64> {
    let number = name.strip_prefix('g')?.parse().ok()?;
    (generation_name(number) == name).then_some(number)
}

fn parse_current(root: &Path, content: &[u8]) -> Result<u64, Fault> {
    std::str::from_utf8(content)
        .ok()
        .and_then(|content| parse_generation(content.strip_suffix('\n')?))
        .ok_or_else(|| Fault::new(format!("{}: CURRENT is not understood", root.display())))
}

fn is_snapshot_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !name.is_empty() && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests;
