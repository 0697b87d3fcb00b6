//! Harm that a process is born with: a small disk, a wrong clock.
//!
//! A small disk is a tmpfs in a mount namespace of the node's own, so that it goes
//! with the process, whatever happens to the test. A wrong clock is libfaketime's:
//! the wall clock is off, the monotonic one is not, as on a machine whose clock
//! was set wrong.

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, ensure};
use rustix::fs::{FallocateFlags, fallocate};

use crate::cluster::Cluster;

/// Gives a node that was not started yet a disk of its own of this many MiB. What
/// it holds is gone when the process ends.
pub fn give_small_disk(cluster: &mut Cluster, index: usize, mib: u32) {
    let node = &mut cluster.nodes[index];
    let script = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
    let mut wrapper = vec!["unshare".to_owned(), "--mount".to_owned()];
    if !rustix::process::geteuid().is_root() {
        wrapper.extend(["--user".to_owned(), "--map-root-user".to_owned()]);
    }
    wrapper.extend(
        ["--propagation", "private", "sh", "-c", script, "sh", &format!("{mib}m")]
            .map(str::to_owned),
    );
    wrapper.push(node.data.display().to_string());
    node.launch.wrapper = wrapper;
}

fn balloon(cluster: &mut Cluster, index: usize) -> anyhow::Result<PathBuf> {
    let data = cluster.nodes[index].data.clone();
    let id = cluster.process(index)?.id();
    let inside = data.strip_prefix("/").context("the data directory is no absolute path")?;
    Ok(PathBuf::from(format!("/proc/{id}/root")).join(inside).join("balloon"))
}

/// Takes room on a node's small disk, until only this many bytes are free.
pub fn fill_disk(cluster: &mut Cluster, index: usize, leave_bytes: u64) -> anyhow::Result<()> {
    let path = balloon(cluster, index)?;
    let folder = path.parent().context("no folder")?;
    let disk = rustix::fs::statvfs(folder)?;
    let free = disk.f_bavail * disk.f_frsize;
    ensure!(disk.f_blocks * disk.f_frsize < 4 << 30, "{} is no small disk", folder.display());
    let file = File::options().create(true).append(true).open(&path)?;
    let length = free.saturating_sub(leave_bytes);
    if length > 0 {
        let from = file.metadata()?.len();
        fallocate(&file, FallocateFlags::empty(), from, length)?;
    }
    Ok(())
}

/// Gives the room back.
pub fn free_disk(cluster: &mut Cluster, index: usize) -> anyhow::Result<()> {
    let path = balloon(cluster, index)?;
    Ok(std::fs::remove_file(path)?)
}

/// Lets a node's wall clock be off by this many seconds from its next start on.
pub fn skew_clock(cluster: &mut Cluster, index: usize, seconds: i64) -> anyhow::Result<()> {
    let library = faketime_library()?;
    cluster.nodes[index].launch.environment = vec![
        ("LD_PRELOAD".to_owned(), library.display().to_string()),
        ("FAKETIME".to_owned(), format!("{seconds:+}s")),
        ("FAKETIME_DONT_FAKE_MONOTONIC".to_owned(), "1".to_owned()),
    ];
    Ok(())
}

/// Where libfaketime is.
pub fn faketime_library() -> anyhow::Result<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib")?.filter_map(Result::ok).map(|entry| entry.path());
    folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file())
        .context(
            "libfaketimeMT.so.1 is not under /usr/lib/*/faketime: install the package faketime",
        )
}
