//! The machine that a run was made on: figures without it say nothing.

use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

/// What file system magic numbers (`statfs(2)`) name memory.
const IN_MEMORY: [(i64, &str); 2] = [(0x0102_1994, "tmpfs"), (0x8584_58f6, "ramfs")];

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Its processor.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Its memory in bytes.
    pub memory_bytes: u64,
    /// Its kernel.
    pub kernel: String,
    /// Processes that were running or waiting for a core, on average of the minute
    /// before the run: others' work on this machine.
    pub load_before: String,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches("kB").trim().parse().unwrap_or_default();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kib * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

/// Refuses a directory that is in memory: an fsync there costs nothing.
///
/// # Errors
/// As said.
pub fn check_disk(directory: &Path) -> anyhow::Result<()> {
    let kind = rustix::fs::statfs(directory)
        .with_context(|| format!("{} cannot be looked at", directory.display()))?
        .f_type;
    for (magic, name) in IN_MEMORY {
        anyhow::ensure!(
            kind != magic,
            "{} is on {name}, where an fsync costs nothing; name a directory on a disk",
            directory.display()
        );
    }
    Ok(())
}

/// Bytes of all files below a directory. What goes away meanwhile does not count.
///
/// # Errors
/// If the directory cannot be read.
pub fn bytes_below(at: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(at)? {
        let entry = entry?;
        bytes += match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()).unwrap_or(0),
            Ok(_) => entry.metadata().map_or(0, |metadata| metadata.len()),
            Err(_) => 0,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_no_disk() {
        // /dev/shm is tmpfs on every Linux that mounts it.
        if Path::new("/dev/shm").is_dir() {
            assert!(check_disk(Path::new("/dev/shm")).unwrap_err().to_string().contains("tmpfs"));
        }
        assert!(Machine::here().cores > 0);
    }
}
