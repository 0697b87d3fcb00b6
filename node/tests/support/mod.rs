//! A cluster of three real processes on free ports, and a small HTTP client.
//!
//! Everything is kept in a temporary directory; processes are killed when their
//! cluster is dropped. Elections are slower here than they ship: these tests share
//! their machine, and none of them measures a gap. Refusals that say to try again
//! are tried again, as clients do.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The password of everybody.
pub(crate) const PASSWORD: &str = "correct horse battery staple";
/// The master key of every cluster, in hex.
pub(crate) const MASTER_KEY: &str =
    "5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e5e";

const PATIENCE: Duration = Duration::from_secs(60);
const REGIONS: [&str; 3] = ["eu-central", "us-east", "ap-south"];

/// The binary under test, with nothing of this process's configuration.
pub(crate) fn cardea() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cardea"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CARDEA_")) {
        command.env_remove(name);
    }
    command
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// A request, made of parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<String>,
}

/// Asks a port of this machine; an error if nobody answers.
pub(crate) fn ask(port: u16, method: &str, path: &str, ask: Ask<'_>) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let body = ask.body.unwrap_or_default();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\
         Accept: application/json\r\nContent-Length: {}\r\n",
        body.len()
    );
    if !body.is_empty() {
        request.push_str("Content-Type: application/json\r\n");
    }
    for (name, value) in ask.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{request}\r\n{body}").as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let broken = || std::io::Error::other(format!("no answer of HTTP: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(broken)?;
    assert!(!head.to_lowercase().contains("transfer-encoding"), "this client reads no chunks");
    Ok(Answer {
        status,
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
        text: body.to_owned(),
    })
}

/// Asks until the answer is another than that nothing was done for now.
pub(crate) fn ask_again(port: u16, method: &str, path: &str, asked: &Ask<'_>) -> Answer {
    let start = Instant::now();
    loop {
        let answer = ask(port, method, path, asked.clone()).unwrap();
        // An outcome that nobody saw is not tried again blindly.
        let unknown = answer.body["error"]["id"] == json!("outcome_unknown");
        let later = answer.status == 503 && !unknown;
        if !later || start.elapsed() > PATIENCE {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until `done` says so.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One node.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) directory: PathBuf,
    pub(crate) public: u16,
    pub(crate) admin: u16,
    pub(crate) cluster: u16,
    child: Option<Child>,
}

/// One cluster at a time: elections are judged by the clock, and a machine with
/// a dozen nodes on two cores tells nothing about a cluster of three.
static ONE: Mutex<()> = Mutex::new(());

/// Three nodes.
pub(crate) struct Cluster {
    _one: MutexGuard<'static, ()>,
    pub(crate) directory: TempDir,
    pub(crate) nodes: Vec<Node>,
}

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub(crate) identity: String,
    pub(crate) token: String,
}

fn free_ports<const N: usize>() -> [u16; N] {
    // Held together, so that no two are the same.
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// Makes an authority and a node's certificate per name.
pub(crate) fn certificates(at: &Path, names: &[&str]) {
    let at = at.display().to_string();
    let run = |arguments: &[&str]| {
        let made = cardea().args(arguments).output().unwrap();
        assert!(made.status.success(), "{arguments:?}: {made:?}");
    };
    run(&["cert", "authority", "--out", &at]);
    for name in names {
        run(&[
            "cert",
            "node",
            "--authority",
            &at,
            "--name",
            name,
            "--host",
            "127.0.0.1",
            "--out",
            &at,
        ]);
    }
}

impl Cluster {
    /// Three nodes that are started and not yet a cluster.
    pub(crate) fn started() -> Self {
        Self::started_at("info,openraft=error")
    }

    fn started_at(log_level: &str) -> Self {
        let one = ONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = tempfile::tempdir().unwrap();
        let names = ["one", "two", "three"];
        certificates(&directory.path().join("certs"), &names);
        let ports = free_ports::<9>();
        let clusters = [ports[2], ports[5], ports[8]];
        let nodes = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let node = Node {
                    name: (*name).to_owned(),
                    directory: directory.path().join(name),
                    public: ports[3 * at],
                    admin: ports[3 * at + 1],
                    cluster: ports[3 * at + 2],
                    child: None,
                };
                node.configure(REGIONS[at], &clusters, log_level);
                node
            })
            .collect();
        let mut cluster = Self { _one: one, directory, nodes };
        for at in 0..3 {
            cluster.start(at);
        }
        cluster
    }

    /// A cluster of three nodes that are ready.
    pub(crate) fn ready() -> Self {
        Self::started().made()
    }

    /// The same, with nodes that log whatever they can.
    pub(crate) fn talkative() -> Self {
        Self::started_at("debug").made()
    }

    fn made(self) -> Self {
        let cluster = self;
        until("the first node answers", || {
            ask(cluster.nodes[0].admin, "GET", "/health/alive", Ask::default()).is_ok()
        });
        let made = cluster.command(0, &["init"]);
        assert!(made.status.success(), "{made:?}");
        for at in 0..3 {
            cluster.wait_ready(at);
        }
        // Three voters each: from here any one node may die.
        until("every shard has three voters", || {
            let status = cluster.status(0);
            let shards = status["shards"].as_array().cloned().unwrap_or_default();
            !shards.is_empty()
                && shards.iter().all(|shard| {
                    let replicas = shard["replicas"].as_array().cloned().unwrap_or_default();
                    replicas.len() == 3
                        && replicas
                            .iter()
                            .all(|r| r["voter"] == json!(true) && !r["matched"].is_null())
                })
        });
        cluster
    }

    /// Starts a node.
    pub(crate) fn start(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.child = Some(node.spawn(node.command()));
    }

    /// Starts a node that may have so many files open, and allow itself so many.
    pub(crate) fn start_with_files(&mut self, at: usize, soft: u64, hard: u64) {
        let node = &mut self.nodes[at];
        let (plain, mut command) = (node.command(), Command::new("sh"));
        let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        command.args(["-c", &limits]).arg(plain.get_program()).args(plain.get_args());
        for (name, _) in plain.get_envs() {
            command.env_remove(name);
        }
        node.child = Some(node.spawn(command));
    }

    /// Kills a node as `kill -9` does.
    pub(crate) fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops a node gently; its exit code.
    pub(crate) fn stop(&mut self, at: usize) -> Option<i32> {
        let mut child = self.nodes[at].child.take().unwrap();
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let mut code = None;
        until("the node stops", || match child.try_wait().unwrap() {
            Some(status) => {
                code = status.code();
                true
            }
            None => false,
        });
        code
    }

    /// Waits until a node is ready.
    pub(crate) fn wait_ready(&self, at: usize) {
        let node = &self.nodes[at];
        until(&format!("node {} is ready", node.name), || {
            let answer = ask(node.public, "GET", "/health/ready", Ask::default());
            answer.is_ok_and(|answer| answer.status == 200)
        });
    }

    /// Runs a command against a node's admin listener.
    pub(crate) fn command(&self, at: usize, arguments: &[&str]) -> Output {
        let url = format!("http://127.0.0.1:{}", self.nodes[at].admin);
        let mut command = cardea();
        command.args(arguments).args(["--output", "json", "--admin-url", &url]);
        command.output().unwrap()
    }

    /// What `cardea status` prints on a node.
    pub(crate) fn status(&self, at: usize) -> Value {
        serde_json::from_slice(&self.command(at, &["status"]).stdout).unwrap_or(Value::Null)
    }

    pub(crate) fn public(&self, at: usize, method: &str, path: &str, asked: Ask<'_>) -> Answer {
        ask_again(self.nodes[at].public, method, path, &asked)
    }

    pub(crate) fn admin(&self, at: usize, method: &str, path: &str, body: Option<Value>) -> Answer {
        let asked = Ask { body: body.map(|body| body.to_string()), ..Ask::default() };
        ask_again(self.nodes[at].admin, method, path, &asked)
    }

    fn flow(&self, at: usize, kind: &str, body: &Value) -> Answer {
        let begun = self.public(at, "GET", &format!("/self-service/{kind}/api"), Ask::default());
        assert_eq!(begun.status, 200, "{}", begun.text);
        let id = begun.body["id"].as_str().unwrap();
        let asked = Ask { body: Some(body.to_string()), ..Ask::default() };
        self.public(at, "POST", &format!("/self-service/{kind}?flow={id}"), asked)
    }

    /// Signs up; the answer.
    pub(crate) fn try_sign_up(&self, at: usize, email: &str) -> Answer {
        let traits = json!({"email": email, "name": {"first": "Ann", "last": "Example"}});
        let body = json!({"method": "password", "password": PASSWORD, "traits": traits});
        self.flow(at, "registration", &body)
    }

    /// Logs in; the answer.
    pub(crate) fn try_log_in(&self, at: usize, email: &str, password: &str) -> Answer {
        let body = json!({"method": "password", "identifier": email, "password": password});
        self.flow(at, "login", &body)
    }

    /// Logs in.
    pub(crate) fn log_in(&self, at: usize, email: &str) -> Person {
        let answer = self.try_log_in(at, email, PASSWORD);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Person {
            identity: text(&answer.body["session"]["identity"]["id"]),
            token: text(&answer.body["session_token"]),
        }
    }

    /// Signs up, then logs in.
    pub(crate) fn person(&self, at: usize, email: &str) -> Person {
        let answer = self.try_sign_up(at, email);
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.log_in(at, email)
    }

    /// Who a token is, on a node.
    pub(crate) fn whoami(&self, at: usize, token: &str) -> std::io::Result<Answer> {
        let asked = Ask { headers: vec![("X-Session-Token", token)], ..Ask::default() };
        ask(self.nodes[at].public, "GET", "/sessions/whoami", asked)
    }

    /// The same, asked again while the node says to.
    pub(crate) fn checked(&self, at: usize, token: &str) -> Answer {
        let asked = Ask { headers: vec![("X-Session-Token", token)], ..Ask::default() };
        ask_again(self.nodes[at].public, "GET", "/sessions/whoami", &asked)
    }

    /// Everything that the nodes have logged.
    pub(crate) fn logs(&self) -> String {
        let read = |node: &Node| fs::read_to_string(node.log()).unwrap_or_default();
        self.nodes.iter().map(read).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                child.kill().ok();
                child.wait().ok();
            }
        }
        if std::thread::panicking() {
            for node in &self.nodes {
                let log = fs::read_to_string(node.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let last = lines.len().saturating_sub(30);
                eprintln!("--- {} ---\n{}", node.name, lines[last..].join("\n"));
            }
        }
    }
}

impl Node {
    /// Its configuration file.
    pub(crate) fn config(&self) -> PathBuf {
        self.directory.join("cardea.toml")
    }

    /// Its log.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn configure(&self, region: &str, clusters: &[u16], log_level: &str) {
        fs::create_dir_all(&self.directory).unwrap();
        let root = self.directory.parent().unwrap();
        let key = root.join("master.key");
        if !key.exists() {
            use std::os::unix::fs::PermissionsExt as _;
            fs::write(&key, MASTER_KEY).unwrap();
            fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        }
        // All of them, this one too, as an operator who copies files would.
        let join: Vec<String> =
            clusters.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
        let Self { name, public, admin, cluster, .. } = self;
        let text = format!(
            "[node]\nregion = \"{region}\"\ndata_dir = \"data\"\n\
             [cluster]\nname = \"test\"\nlisten = \"127.0.0.1:{cluster}\"\njoin = [{}]\n\
             authority_file = \"../certs/authority.pem\"\n\
             certificate_file = \"../certs/{name}.pem\"\nkey_file = \"../certs/{name}.key\"\n\
             [public]\nlisten = \"127.0.0.1:{public}\"\n\
             [admin]\nlisten = \"127.0.0.1:{admin}\"\n\
             [sessions]\ncookie_secure = false\n\
             [flows]\nrecovery = true\n\
             [raft]\nheartbeat = \"150ms\"\nelection_min = \"750ms\"\nelection_max = \"1500ms\"\n\
             [disk]\nreserve = \"16MiB\"\n\
             [argon2]\nmemory = \"7MiB\"\n\
             [log]\nformat = \"json\"\nlevel = \"{log_level}\"\n\
             [secrets]\nmaster_key_file = \"../master.key\"\n",
            join.join(", "),
        );
        fs::write(self.config(), text).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = cardea();
        command.args(["start", "--config"]).arg(self.config());
        command
    }

    fn spawn(&self, mut command: Command) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.log()).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }
}
