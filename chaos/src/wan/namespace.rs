//! Network namespaces by name, and threads that live in one.

use std::{
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context as _, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::{Handle, Runtime};

/// Where `ip netns` keeps names.
const FOLDER: &str = "/run/netns";

/// Runs a program and fails with what it said.
pub fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let done = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("{program} cannot be run"))?;
    ensure!(
        done.status.success(),
        "{program} {}: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&done.stderr),
        String::from_utf8_lossy(&done.stdout)
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// A network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Makes one, with its loopback up. Congestion control is the one that every
    /// kernel allows everywhere, and that minds loss as those that most of the world
    /// has; some kernels' defaults hardly do.
    pub fn make(name: &str) -> anyhow::Result<Self> {
        run("ip", &["netns", "add", name])?;
        let made = Self { name: name.to_owned() };
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        made.set("net/ipv4/tcp_congestion_control", "reno")?;
        if Path::new("/proc/sys/net/ipv6").exists() {
            made.set("net/ipv6/conf/all/disable_ipv6", "1")?;
        }
        Ok(made)
    }

    /// Moves a device here and brings it up with an address.
    pub fn adopt(&self, device: &str, address: &str) -> anyhow::Result<()> {
        run("ip", &["link", "set", device, "netns", &self.name])?;
        let inside = |arguments: &[&str]| run("ip", &[&["-n", &self.name], arguments].concat());
        inside(&["addr", "add", address, "dev", device])?;
        inside(&["link", "set", device, "up"])?;
        Ok(())
    }

    /// Removes a device of it, and its name: it goes when nobody lives in it.
    pub fn forget(&self, device: &str) {
        run("ip", &["-n", &self.name, "link", "del", device]).ok();
        run("ip", &["netns", "del", &self.name]).ok();
    }

    /// The words before a command that is to run here.
    pub fn wrapper(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path().display()), "--".to_owned()]
    }

    /// A runtime whose threads live here: the sockets of its tasks are of here.
    pub fn runtime(&self) -> anyhow::Result<Outpost> {
        let file = File::open(self.path())?;
        // One thread tries first, so that a failure is told and not met by a worker.
        let probe = file.try_clone()?;
        thread::spawn(move || enter(&probe))
            .join()
            .map_err(|_| anyhow::anyhow!("a thread panicked"))?
            .with_context(|| format!("entering the namespace {}", self.name))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(self.name.clone())
            .on_thread_start(move || {
                if enter(&file).is_err() {
                    // Its sockets would be of another network.
                    std::process::abort();
                }
            })
            .enable_all()
            .build()?;
        Ok(Outpost(Some(runtime)))
    }

    fn path(&self) -> PathBuf {
        Path::new(FOLDER).join(&self.name)
    }

    fn set(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let script = format!("echo {value} > /proc/sys/{key}");
        let mut words = self.wrapper();
        words.extend(["sh", "-c", &script].map(str::to_owned));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        run(words[0], &words[1..]).map(|_| ())
    }
}

fn enter(namespace: &File) -> rustix::io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
}

/// A runtime in a namespace. Dropping it abandons its tasks.
#[derive(Debug)]
pub struct Outpost(Option<Runtime>);

impl Outpost {
    /// What tasks are spawned on; nothing once it was dropped.
    pub fn handle(&self) -> Option<&Handle> {
        self.0.as_ref().map(Runtime::handle)
    }
}

impl Drop for Outpost {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Not in place: that may be within another runtime.
            runtime.shutdown_background();
        }
    }
}
