//! A node's process under supervision: started, listened to, started again if
//! it dies, stopped gently.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    fs::File,
    io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader},
    process::Command,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// How a child is run.
#[derive(Debug, Clone)]
pub struct ChildPlan {
    /// Its name in what is shown.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Where all its lines go.
    pub log: PathBuf,
    /// Where its process id is kept while it runs.
    pub pid_file: PathBuf,
    /// Start it again when it ends by itself.
    pub restarts: bool,
    /// How long before it is started again.
    pub restart_after: Duration,
    /// How long it may take to stop before it is killed.
    pub stop_within: Duration,
}

/// What happens to children.
#[derive(Debug)]
pub enum Happening {
    /// It runs under this process id.
    Started(String, u32),
    /// It wrote a line.
    Line(String, String),
    /// It ended without being told to.
    Died(String, String),
    /// It stopped as told.
    Stopped(String),
}

/// Runs a child until `stop`, telling `happenings`.
pub async fn supervise(
    plan: ChildPlan,
    happenings: mpsc::Sender<Happening>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    // A receiver that is gone has nothing to be told.
    let tell = async |happening| {
        happenings.send(happening).await.ok();
    };
    loop {
        let mut command = Command::new(&plan.program);
        // What the caller set for a node of its own is not meant for these.
        let inherited = std::env::vars_os().map(|(name, _)| name);
        for name in inherited.filter(|name| name.to_string_lossy().starts_with("CARDEA_")) {
            command.env_remove(name);
        }
        let mut child = command
            .args(&plan.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C goes to the supervisor alone; it stops the others.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let pid = child.id().unwrap_or(0);
        tokio::fs::write(&plan.pid_file, pid.to_string()).await?;
        tell(Happening::Started(plan.name.clone(), pid)).await;
        let lines = child.stderr.take().map(|stderr| {
            tokio::spawn(copy_lines(
                stderr,
                plan.log.clone(),
                plan.name.clone(),
                happenings.clone(),
            ))
        });
        // Held open: its closing tells the child that the supervisor is gone.
        let stdin = child.stdin.take();
        let ended = tokio::select! {
            status = child.wait() => Some(status?),
            () = stop.cancelled() => None,
        };
        let died = match ended {
            Some(status) => Some(describe(status)),
            None => {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    // Already gone is as good.
                    kill_process(pid, Signal::TERM).ok();
                }
                if tokio::time::timeout(plan.stop_within, child.wait()).await.is_err() {
                    child.kill().await?;
                }
                None
            }
        };
        drop(stdin);
        tokio::fs::remove_file(&plan.pid_file).await.ok();
        if let Some(lines) = lines {
            lines.await.ok();
        }
        let Some(how) = died else {
            tell(Happening::Stopped(plan.name.clone())).await;
            return Ok(());
        };
        tell(Happening::Died(plan.name.clone(), how)).await;
        if !plan.restarts {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(plan.restart_after) => {}
            () = stop.cancelled() => return Ok(()),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no reason given".to_owned(),
    }
}

async fn copy_lines(
    from: impl AsyncRead + Unpin,
    log: PathBuf,
    name: String,
    happenings: mpsc::Sender<Happening>,
) -> std::io::Result<()> {
    let mut log = File::options().create(true).append(true).open(log).await?;
    let mut lines = BufReader::new(from).lines();
    while let Some(line) = lines.next_line().await? {
        log.write_all(format!("{line}\n").as_bytes()).await?;
        happenings.send(Happening::Line(name.clone(), line)).await.ok();
    }
    log.flush().await
}

/// A JSON log line in a few words; `None`: it is not worth a person's eye.
/// Lines that are no JSON (a panic) are shown as they are.
pub fn condense(line: &str, verbose: bool) -> Option<String> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(line) else {
        return Some(line.to_owned());
    };
    let text = |name: &str| fields.get(name).and_then(serde_json::Value::as_str).unwrap_or("");
    let level = text("level");
    if !verbose && !matches!(level, "WARN" | "ERROR") {
        return None;
    }
    let mut shown = format!("{level:5} {}", text("message"));
    for (name, value) in &fields {
        if !matches!(name.as_str(), "level" | "message" | "timestamp" | "target" | "span" | "spans")
        {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            shown.push_str(&format!(" {name}={value}"));
        }
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(dir: &std::path::Path, script: &str, restarts: bool) -> ChildPlan {
        ChildPlan {
            name: "one".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            log: dir.join("log"),
            pid_file: dir.join("pid"),
            restarts,
            restart_after: Duration::from_millis(5),
            stop_within: Duration::from_secs(5),
        }
    }

    #[tokio::test]
    async fn a_child_that_dies_is_started_again_and_its_lines_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let running = tokio::spawn(supervise(
            plan(dir.path(), "echo hello >&2; exit 3", true),
            sender,
            stop.clone(),
        ));
        let mut starts = 0;
        while let Some(happening) = receiver.recv().await {
            match happening {
                Happening::Started(..) => starts += 1,
                Happening::Line(_, line) => assert_eq!(line, "hello"),
                Happening::Died(_, how) => assert_eq!(how, "exit code 3"),
                Happening::Stopped(_) => {}
            }
            if starts == 3 {
                stop.cancel();
            }
        }
        running.await.unwrap().unwrap();
        assert!(
            std::fs::read_to_string(dir.path().join("log")).unwrap().starts_with("hello\nhello\n")
        );
    }

    #[tokio::test]
    async fn a_child_is_stopped_gently_and_stays_down_if_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut receiver) = mpsc::channel(64);
        let stop = CancellationToken::new();
        let script = "trap 'echo bye >&2; exit 0' TERM; echo up >&2; while :; do sleep 0.01; done";
        let running = tokio::spawn(supervise(plan(dir.path(), script, true), sender, stop.clone()));
        let mut seen = Vec::new();
        while let Some(happening) = receiver.recv().await {
            match happening {
                Happening::Line(_, line) => {
                    seen.push(line);
                    stop.cancel();
                }
                Happening::Died(_, how) => panic!("{how}"),
                _ => {}
            }
        }
        running.await.unwrap().unwrap();
        assert_eq!(seen, ["up", "bye"]);
        assert!(!dir.path().join("pid").exists());

        let (sender, mut receiver) = mpsc::channel(64);
        supervise(plan(dir.path(), "exit 1", false), sender, CancellationToken::new())
            .await
            .unwrap();
        let mut deaths = 0;
        while let Some(happening) = receiver.recv().await {
            deaths += usize::from(matches!(happening, Happening::Died(..)));
        }
        assert_eq!(deaths, 1);
    }

    #[test]
    fn lines_are_condensed_for_a_person() {
        let line = r#"{"timestamp":"t","level":"WARN","message":"slow","target":"x","took_ms":7}"#;
        assert_eq!(condense(line, false).as_deref(), Some("WARN  slow took_ms=7"));
        let line = r#"{"level":"INFO","message":"fine"}"#;
        assert_eq!(condense(line, false), None);
        assert_eq!(condense(line, true).as_deref(), Some("INFO  fine"));
        assert_eq!(condense("thread panicked", false).as_deref(), Some("thread panicked"));
    }
}
