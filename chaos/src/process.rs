//! One node's process: started, signalled, listened to, and never left behind.
//!
//! A node holds a pipe on its standard input and stops when it closes, so that
//! even a test that is killed leaves no node behind.

use std::{
    collections::BTreeSet,
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};

use crate::dice::{Dice, fresh_seed};

/// Below the ports that the kernel gives to outgoing connections, so that none
/// of those takes a dead node's port before it is back.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// A port of the loopback that is free, and that this process asks for once.
pub fn free_port() -> anyhow::Result<u16> {
    static GIVEN: LazyLock<Mutex<BTreeSet<u16>>> = LazyLock::new(Mutex::default);
    let mut dice = Dice::new(fresh_seed());
    for _ in 0..1000 {
        let port = PORTS.start + u16::try_from(dice.below(PORTS.len()))?;
        if GIVEN.lock().insert(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

/// How a node is started.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The `cardea` binary.
    pub binary: PathBuf,
    /// Its configuration file.
    pub config: PathBuf,
    /// Where its lines go; appended.
    pub log: PathBuf,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// A command that runs the binary, with its arguments behind: `unshare …`.
    pub wrapper: Vec<String>,
}

/// A node's process. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it.
    pub fn start(launch: &Launch) -> anyhow::Result<Self> {
        let log = File::options().create(true).append(true).open(&launch.log)?;
        let binary = launch.binary.as_os_str();
        let mut command = match launch.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        let child = command
            .arg("start")
            .arg("--stop-with-stdin")
            .arg("--config")
            .arg(&launch.config)
            // The node refuses variables that it does not know, and the tester's
            // are none of its own.
            .env_clear()
            .envs(std::env::vars().filter(|(name, _)| !name.starts_with("CARDEA_")))
            .envs(launch.environment.iter().cloned())
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()
            .with_context(|| format!("{} cannot be started", launch.binary.display()))?;
        Ok(Self { child, log: launch.log.clone() })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; `None`: it runs.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(patience).await
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, patience: Duration) -> anyhow::Result<ExitStatus> {
        let until = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("the process {} still runs after {patience:?}", self.id());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGSTOP: nothing of it runs, its sockets stay open.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("no process id")?;
        Ok(kill_process(pid, signal)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        self.kill().ok();
    }
}

impl Process {
    /// Everything that it wrote.
    pub fn log(&self) -> String {
        read_log(&self.log)
    }
}

/// What is in a log; empty if there is none.
pub fn read_log(log: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned()
}

/// Finds the binary to test: `CARDEA_BINARY`, or `cardea` where cargo puts the
/// binaries of the profile that this executable was built in.
pub fn find_binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARDEA_BINARY") {
        let path = PathBuf::from(path);
        anyhow::ensure!(path.is_file(), "CARDEA_BINARY is {}, where no file is", path.display());
        return Ok(path.canonicalize()?);
    }
    let executable = std::env::current_exe()?;
    // target/debug/cardea-chaos, or target/debug/deps/kills-0123.
    let beside = executable.ancestors().skip(1).take(2).map(|folder| folder.join("cardea"));
    let candidates: Vec<PathBuf> = beside.collect();
    candidates.iter().find(|path| path.is_file()).cloned().with_context(|| {
        format!(
            "no cardea binary at {candidates:?}: `cargo build -p cardea` makes it, or name one in \
             CARDEA_BINARY"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(directory: &Path, script: &str) -> Launch {
        Launch {
            binary: "/bin/true".into(),
            config: "/dev/null".into(),
            log: directory.join("log"),
            environment: vec![("GREETING".to_owned(), "hello".to_owned())],
            wrapper: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        }
    }

    #[tokio::test]
    async fn a_process_is_heard_paused_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo $GREETING; trap 'exit 7' TERM; while :; do sleep 0.01; done";
        let mut process = Process::start(&launch(directory.path(), script)).unwrap();
        while !process.log().contains("hello") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process.pause().unwrap();
        process.resume().unwrap();
        let status = process.stop(Duration::from_secs(10)).await.unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[tokio::test]
    async fn a_dropped_process_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start(&launch(directory.path(), "exec sleep 1000")).unwrap();
        let id = process.id();
        drop(process);
        assert!(!Path::new(&format!("/proc/{id}")).exists());
    }

    #[test]
    fn ports_are_given_once() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
