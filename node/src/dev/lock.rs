//! One supervisor per directory: a locked file that holds its process id. The
//! lock, not the id, says whether it lives, so a stale file misleads nobody.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

const FILE: &str = "supervisor.pid";

/// The right to supervise a directory, for as long as it lives.
#[derive(Debug)]
pub struct SupervisorLock(
    #[expect(dead_code, reason = "dropping the file releases the lock")] File,
);

fn open(root: &Path) -> anyhow::Result<File> {
    let path = root.join(FILE);
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))
}

/// Takes the lock, or says that another supervisor has it.
pub fn acquire(root: &Path) -> anyhow::Result<SupervisorLock> {
    let mut file = open(root)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            anyhow::bail!(
                "a cluster already runs from {}; stop it with `cardea dev stop`",
                root.display()
            )
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(SupervisorLock(file))
}

/// Asks the supervisor of `root` to stop and waits until it has; `false`: none
/// was running.
pub fn stop(root: &Path, patience: Duration) -> anyhow::Result<bool> {
    if !root.join(FILE).exists() {
        return Ok(false);
    }
    let mut file = open(root)?;
    if file.try_lock().is_ok() {
        return Ok(false);
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.with_context(|| format!("{} holds no process id", root.join(FILE).display()))?;
    kill_process(pid, Signal::TERM).context("the supervisor cannot be told to stop")?;
    let deadline = Instant::now() + patience;
    while file.try_lock().is_err() {
        anyhow::ensure!(Instant::now() < deadline, "the cluster did not stop in time");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_supervisor_has_a_directory_and_a_stale_file_is_no_supervisor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!stop(dir.path(), Duration::ZERO).unwrap());
        let held = acquire(dir.path()).unwrap();
        assert!(acquire(dir.path()).is_err());
        drop(held);
        assert!(!stop(dir.path(), Duration::ZERO).unwrap());
        drop(acquire(dir.path()).unwrap());
    }
}
