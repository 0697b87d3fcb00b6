//! Server processes that a run starts, kills and starts again.

use std::{
    fs::{File, OpenOptions},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::cost::Process;

/// A server: how it is started, and the process if it runs. Dropped, the process is
/// killed.
#[derive(Debug)]
pub struct Server {
    /// Its name in reports.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Server {
    /// A server that does not run yet.
    pub fn new(name: &str, program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self { name: name.to_owned(), program, arguments, log, child: None }
    }

    /// Starts it; what it prints is added to its log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        let log = || -> std::io::Result<File> {
            OpenOptions::new().create(true).append(true).open(&self.log)
        };
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // Held open: a node that is told to stop with its supervisor sees it close.
            .stdin(Stdio::piped())
            .stdout(log()?)
            .stderr(log()?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} cannot be started", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The process, if it runs.
    pub fn process(&self) -> Option<Process> {
        let pid = self.child.as_ref()?.id()?;
        Some(Process { name: self.name.clone(), pid })
    }

    /// An error with the end of its log, if it has ended although nobody asked it to.
    ///
    /// # Errors
    /// As said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let Some(child) = &mut self.child else { anyhow::bail!("{} does not run", self.name) };
        match child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended: {status}\n{}", self.name, self.log_end()),
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// Kills it with SIGKILL; it is gone afterwards.
    ///
    /// # Errors
    /// If it did not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)?;
        self.ended(Duration::from_secs(10)).await?;
        Ok(())
    }

    /// Sends SIGKILL and does not wait.
    ///
    /// # Errors
    /// If it did not run.
    pub fn kill_now(&self) -> anyhow::Result<()> {
        self.signal(Signal::KILL)
    }

    /// Stops it cleanly with SIGTERM, within `patience`.
    ///
    /// # Errors
    /// If it takes longer or ends otherwise than well.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        let status = self.ended(patience).await?;
        anyhow::ensure!(
            status.success() || status.signal() == Some(Signal::TERM.as_raw()),
            "{} did not stop well: {status}\n{}",
            self.name,
            self.log_end()
        );
        Ok(())
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self.child.as_ref().and_then(Child::id).and_then(|id| {
            let id = i32::try_from(id).ok()?;
            Pid::from_raw(id)
        });
        let pid = pid.with_context(|| format!("{} does not run", self.name))?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not come in time.
    pub async fn ended(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let child = self.child.as_mut().with_context(|| format!("{} does not run", self.name))?;
        let status = tokio::time::timeout(patience, child.wait())
            .await
            .with_context(|| format!("{} did not end within {patience:?}", self.name))??;
        self.child = None;
        Ok(status)
    }
}

impl Drop for Server {
    /// Kills what still runs, and sees it end: its ports and files are free then.
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        if child.start_kill().is_err() {
            return;
        }
        let started = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && started.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Where servers listen: below the ports that the kernel gives to outgoing
/// connections, since one of those may hold a server's port while it is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports of this machine that nobody uses at the moment.
///
/// # Errors
/// If there are not as many.
pub fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let many = u32::from(PORTS.end - PORTS.start);
    // Runs beside each other begin at different places.
    let first = std::process::id().wrapping_mul(97) % many;
    let mut held = Vec::new();
    let mut ports = [0; N];
    let mut found = 0;
    for step in 0..many {
        let Some(port) = ports.get_mut(found) else { break };
        let candidate = PORTS.start + u16::try_from((first + step) % many)?;
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", candidate)) {
            *port = candidate;
            found += 1;
            held.push(listener);
        }
    }
    anyhow::ensure!(found == N, "no {N} ports are free between {} and {}", PORTS.start, PORTS.end);
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: PathBuf) -> Server {
        Server::new("shell", "/bin/sh".into(), vec!["-c".to_owned(), script.to_owned()], log)
    }

    #[tokio::test]
    async fn a_server_is_killed_started_again_and_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = shell("echo up; cat >/dev/null", dir.path().join("log"));
        server.start().unwrap();
        let first = server.process().unwrap();
        server.check().unwrap();
        server.kill().await.unwrap();
        assert_eq!(server.process(), None);
        assert!(server.check().is_err());
        server.start().unwrap();
        assert_ne!(server.process().unwrap().pid, first.pid);
        server.stop(Duration::from_secs(5)).await.unwrap();
        server.start().unwrap();
        let last = server.process().unwrap();
        drop(server);
        assert!(last.cpu_seconds().is_err(), "it is gone with its owner");
    }

    #[tokio::test]
    async fn a_server_that_ended_by_itself_shows_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = shell("echo the disk is full; exit 3", dir.path().join("log"));
        server.start().unwrap();
        let error = loop {
            match server.check() {
                // Between two looks at the process.
                Ok(()) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("the disk is full") && error.contains('3'), "{error}");
    }

    #[test]
    fn free_ports_are_all_different() {
        let mut ports = free_ports::<20>().unwrap().to_vec();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(ports.iter().all(|port| PORTS.contains(port)));
    }
}
