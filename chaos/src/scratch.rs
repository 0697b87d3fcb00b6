//! Directories of runs, and what becomes of those whose run was killed.
//!
//! The owner holds a lock on a file in its directory. Whoever comes later and gets
//! that lock knows that the owner is gone, and removes the directory, unless it was
//! kept for somebody to look at.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

const PREFIX: &str = "cardea-chaos-";
const LOCK: &str = ".lock";
const KEPT: &str = ".kept";

/// A directory that goes when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    directory: tempfile::TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes one where the system keeps temporary files, and removes what dead
    /// owners left there.
    pub fn make() -> anyhow::Result<Self> {
        let folder = std::env::temp_dir();
        sweep(&folder)?;
        Self::make_in(&folder)
    }

    fn make_in(folder: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(folder)?;
        let lock = File::create_new(directory.path().join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps it.
    pub fn keep(&mut self) {
        self.directory.disable_cleanup(true);
        // Without the mark the next run would take it for a dead one's.
        std::fs::write(self.path().join(KEPT), []).ok();
    }
}

/// Removes what dead owners left in a folder; answers with what it removed.
fn sweep(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(folder)?.filter_map(Result::ok) {
        let path = entry.path();
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_ours || path.join(KEPT).exists() {
            continue;
        }
        // One that is being made has no lock yet, and stays.
        let Ok(lock) = File::open(path.join(LOCK)) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && std::fs::remove_dir_all(&path).is_ok()
        {
            removed.push(path);
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_dead_owner_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let alive = Scratch::make_in(folder.path()).unwrap();
        let mut kept = Scratch::make_in(folder.path()).unwrap();
        kept.keep();
        let kept_at = kept.path().to_owned();
        drop(kept);
        let dead = Scratch::make_in(folder.path()).unwrap();
        let dead_at = dead.path().to_owned();
        // As a killed process leaves it: without its lock, with its files.
        let Scratch { mut directory, _lock } = dead;
        directory.disable_cleanup(true);
        drop((directory, _lock));
        std::fs::write(folder.path().join("other"), []).unwrap();

        assert_eq!(sweep(folder.path()).unwrap(), std::slice::from_ref(&dead_at));
        assert!(alive.path().exists() && kept_at.exists() && !dead_at.exists());
        assert_eq!(sweep(folder.path()).unwrap(), Vec::<PathBuf>::new());
    }
}
