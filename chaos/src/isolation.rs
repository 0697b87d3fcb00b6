//! Namespaces of this program's own, so that whatever a run makes (devices,
//! networks, mounts, loop devices, processes) is gone when it ends, however it
//! ends: nothing has to be cleaned up.
//!
//! The program starts itself again as the first process of a new PID, mount and
//! network namespace. When that process ends, the kernel kills every process of the
//! namespace and takes networks and mounts apart; it ends when its outer half does,
//! by a signal that the kernel sends then. That holds for SIGKILL, too.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, ensure};

use crate::wan::namespace::run;

/// Set for the inner half.
const INSIDE: &str = "CARDEA_CHAOS_INSIDE";

/// Programs that runs of this kind need, with the Debian package of each.
const NEEDED: [(&str, &str); 6] = [
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("nsenter", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("mkfs.ext4", "e2fsprogs"),
];

/// Starts this program again in namespaces of its own and answers with how that
/// ended; `None`: this is already the inner half, which goes on.
pub fn enter() -> anyhow::Result<Option<ExitCode>> {
    if std::env::var_os(INSIDE).is_some() {
        // A private /run: names of networks do not outlive this.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
        run("ip", &["link", "set", "lo", "up"])?;
        return Ok(None);
    }
    expect_tools()?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare"]);
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    let status = command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private"])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .status()
        .context("setpriv cannot be run")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(Some(ExitCode::from(code)))
}

/// Whether this process is the inner half.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

fn expect_tools() -> anyhow::Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.extend(["/sbin", "/usr/sbin"].map(Into::into));
    for (tool, package) in NEEDED {
        ensure!(
            folders.iter().any(|folder| folder.join(tool).is_file()),
            "`{tool}` is missing: install the package {package}, or run scripts/chaos as root"
        );
    }
    ensure!(Path::new("/dev/net/tun").exists(), "this kernel has no TUN/TAP devices");
    Ok(())
}
