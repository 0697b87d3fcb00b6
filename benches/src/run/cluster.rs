//! `cardea-bench cluster`: the whole comparison.
//!
//! 1. The bare bound of argon2id, while nothing else runs.
//! 2. Three nodes; their memory while idle.
//! 3. Writes, session checks, logins, in closed loops; writes and checks again in an
//!    open loop at half of what the closed one did.
//! 4. The leader of a shard killed, again and again, under writes.
//! 5. All nodes stopped; three members of etcd, asked the same (see [`compare`]).

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;

use super::compare;
use crate::{
    cardea::{Cluster, people, people::Person, program, requests, status::Status},
    cost::Process,
    gap::{self, Gap, Gaps},
    load::{Exchange, Sample, closed, closed::Window, open},
    machine::{Machine, check_disk},
    password,
    report::{Finding, Kind, Report, Resident, System, note, say},
    schedule::Schedule,
};

/// Between which servers TLS is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PeerTls {
    /// Between ours, as it ships; etcd speaks in the clear, as it ships
    Ours,
    /// Between ours, and between etcd's
    Both,
    /// Nowhere
    None,
}

/// A part of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Committed writes
    Writes,
    /// Session checks
    Reads,
    /// Logins, and the bound of argon2id
    Logins,
    /// Leaders killed
    Kills,
}

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct ClusterArgs {
    /// The binary under test; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// Where data is kept while it runs, and the results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub dir: PathBuf,
    /// Nodes with data, as `load --data` leaves them, instead of new ones
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Clients of the closed loops of writes
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    pub clients: Vec<usize>,
    /// Clients of the closed loops of reads
    #[arg(long, value_delimiter = ',', default_value = "64")]
    pub read_clients: Vec<usize>,
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 6.0)]
    pub seconds: f64,
    /// Seconds that each is warmed up for
    #[arg(long, default_value_t = 2.0)]
    pub warm_up: f64,
    /// How often a leader is killed
    #[arg(long, default_value_t = 20)]
    pub kills: usize,
    /// The size of etcd's values: about what a session's record takes
    #[arg(long, default_value_t = 256)]
    pub value_bytes: usize,
    /// Between which servers TLS is spoken
    #[arg(long, value_enum, default_value_t = PeerTls::Ours)]
    pub peer_tls: PeerTls,
    /// Parts to run; by default all
    #[arg(long, value_delimiter = ',', value_enum)]
    pub only: Vec<Part>,
    /// Leave etcd out
    #[arg(long)]
    pub no_etcd: bool,
    /// Leave our nodes out
    #[arg(long)]
    pub no_cardea: bool,
    /// Leave the data where it is
    #[arg(long)]
    pub keep: bool,
    /// What the arrivals of open loops are drawn from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

impl ClusterArgs {
    /// Whether a part is run.
    pub fn runs(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The window of closed loops.
    pub fn window(&self) -> Window {
        Window {
            warm_up: Duration::from_secs_f64(self.warm_up),
            measure: Duration::from_secs_f64(self.seconds),
        }
    }
}

/// Measures and keeps what it found.
pub struct Run<'a> {
    /// How it is run.
    pub args: &'a ClusterArgs,
    /// What was found so far.
    pub report: Report,
    /// The servers whose cost is told.
    pub servers: Vec<Process>,
}

/// What a measurement is called.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// Who is asked.
    pub system: System,
    /// What is asked.
    pub kind: Kind,
    /// Whom clients ask.
    pub route: &'static str,
    /// How fresh a read has to be.
    pub consistency: &'static str,
}

impl Run<'_> {
    /// A closed loop of these clients; the rate it reached.
    pub async fn closed<E: Exchange>(&mut self, question: Question, exchanges: Vec<E>) -> f64 {
        let sample = closed::run(exchanges, self.args.window(), &self.servers).await;
        self.keep(question, sample)
    }

    /// An open loop at a rate over these connections.
    pub async fn open<E: Exchange>(&mut self, question: Question, exchanges: Vec<E>, rate: f64) {
        let window = self.args.window();
        let length = window.warm_up + window.measure;
        let schedule = Schedule::poisson(rate.max(1.0), length, self.args.seed);
        let sample = open::run(exchanges, schedule, window.warm_up, &self.servers).await;
        self.keep(question, sample);
    }

    fn keep(&mut self, question: Question, sample: Sample) -> f64 {
        let Question { system, kind, route, consistency } = question;
        let rate = sample.rate;
        let what = format!("{system:?} {kind:?} {consistency} {route}").to_lowercase();
        note(&format!(
            "{what}, {} {}: {rate:.0}/s, p50 {:.2} ms, p99 {:.2} ms, failed {}",
            sample.clients,
            if sample.offered_per_s.is_some() { "connections, open loop" } else { "clients" },
            sample.latency.p50_ms,
            sample.latency.p99_ms,
            sample.failed(),
        ));
        self.report.findings.push(Finding { system, kind, route, consistency, sample });
        rate
    }
}

/// Runs it, and tells what it found.
///
/// # Errors
/// As [`measure`].
pub async fn run(args: &ClusterArgs) -> anyhow::Result<()> {
    let markdown = measure(args).await?.markdown();
    std::fs::write(args.dir.join("cluster.md"), &markdown)?;
    say(&markdown);
    note(&format!(
        "also in {} and beside it in cluster.json",
        args.dir.join("cluster.md").display()
    ));
    Ok(())
}

/// Runs it, and keeps what it found in `cluster.json`.
///
/// # Errors
/// If servers do not come up, or something that a measurement needs is refused.
pub async fn measure(args: &ClusterArgs) -> anyhow::Result<Report> {
    std::fs::create_dir_all(&args.dir)?;
    check_disk(&args.dir)?;
    let mut run =
        Run { args, report: Report::new(Machine::here(), terms(args)), servers: Vec::new() };
    if args.runs(Part::Logins) {
        note("argon2id on every core, with nothing else to do");
        let bound = tokio::task::spawn_blocking(|| password::bound(Duration::from_secs(4)));
        run.report.bound = Some(bound.await??);
    }
    let scratch = args.dir.join(format!("run-{}", std::process::id()));
    if !args.no_cardea {
        let root = args.data.clone().unwrap_or_else(|| scratch.join("cardea"));
        let measured = ours(&mut run, &root).await;
        // What was found before something failed is worth keeping.
        run.report.write(&args.dir.join("cluster.json"))?;
        measured?;
    }
    if !args.no_etcd {
        compare::theirs(&mut run, &scratch).await?;
    }
    if !args.keep && scratch.exists() {
        std::fs::remove_dir_all(&scratch)?;
    }
    run.report.write(&args.dir.join("cluster.json"))?;
    Ok(run.report)
}

/// What is compared, in words.
fn terms(args: &ClusterArgs) -> Vec<String> {
    let tls = match args.peer_tls {
        PeerTls::Ours => "mutual TLS between our nodes, none between etcd's",
        PeerTls::Both => "mutual TLS between our nodes and between etcd's",
        PeerTls::None => "no TLS between nodes",
    };
    vec![
        format!(
            "Three processes each, one system at a time, on loopback and one disk, fsync on; {tls}; \
             the generator on the same cores."
        ),
        "A write of ours is `PATCH /admin/sessions/{id}/extend`: HTTP/1.1 and JSON, a connection a \
         client; it reads session and identity at a linearizable index, commits one transaction \
         that checks both and writes the session and its index rows, and answers the session. A \
         read of ours is `GET /sessions/whoami`: the token is verified, session and identity are \
         read, and both are answered."
            .to_owned(),
        format!(
            "A write of etcd's is a Put of {} bytes under a key of 8, a read a Range of one key, in \
             gRPC over shared HTTP/2 connections: no validation, no index, nothing computed. Each \
             client has a key (a session) of its own.",
            args.value_bytes
        ),
        "`spread`: clients are dealt over the three nodes; `leader`, `follower`: each asks a node \
         that leads, or does not lead, what it asks for."
            .to_owned(),
    ]
}

async fn ours(run: &mut Run<'_>, root: &Path) -> anyhow::Result<()> {
    let args = run.args;
    let program = program(args.cardea.clone())?;
    note(&format!("three nodes of {}, data in {}", program.display(), root.display()));
    let mut cluster = Cluster::start(&program, root, args.peer_tls != PeerTls::None).await?;
    run.servers = cluster.processes();
    tokio::time::sleep(Duration::from_secs(8)).await;
    let idle = resident(&run.servers);

    let most = args.clients.iter().chain(&args.read_clients).max().copied().unwrap_or(1);
    let count = most.max(64);
    note(&format!("{count} people sign up and log in"));
    let people = people::make(count, &prefix(), &cluster.admin(), &cluster.public()).await?;
    if args.runs(Part::Writes) {
        writes(run, &cluster, &people).await?;
    }
    if args.runs(Part::Reads) {
        reads(run, &cluster, &people).await?;
    }
    if args.runs(Part::Logins) {
        logins(run, &cluster, &people).await?;
    }
    let loaded = resident(&run.servers);
    run.report.resident = idle
        .into_iter()
        .zip(loaded)
        .map(|((name, idle_bytes), (_, loaded_bytes))| Resident { name, idle_bytes, loaded_bytes })
        .collect();
    if args.runs(Part::Kills) {
        run.report.gaps = kills(run, &mut cluster, &people).await?;
    }
    let took = cluster.stop().await?;
    note(&format!("the nodes drained and stopped in {:.1} s", took.as_secs_f64()));
    Ok(())
}

/// Names that no earlier run used: its data may be there.
fn prefix() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("p{}", since.map_or(0, |since| since.as_millis()))
}

fn resident(servers: &[Process]) -> Vec<(String, u64)> {
    let of = |process: &Process| Some((process.name.clone(), process.resident_bytes().ok()?));
    servers.iter().filter_map(of).collect()
}

async fn writes(run: &mut Run<'_>, cluster: &Cluster, people: &[Person]) -> anyhow::Result<()> {
    let admin = cluster.admin();
    let mut half = 0.0;
    for route in ["spread", "leader"] {
        let question =
            Question { system: System::Cardea, kind: Kind::Write, route, consistency: "" };
        let status = cluster.status().await?;
        for clients in run.args.clients.clone() {
            let exchanges = people.iter().take(clients).enumerate().map(|(number, person)| {
                let node = match route {
                    "spread" => number % admin.len(),
                    _ => leader(cluster, &status, person)?,
                };
                requests::extend(person, admin[node])
            });
            let rate = run.closed(question, exchanges.collect::<anyhow::Result<_>>()?).await;
            if route == "spread" && clients <= 64 {
                half = rate / 2.0;
            }
        }
    }
    let spread = people.iter().enumerate();
    let exchanges =
        spread.map(|(number, person)| requests::extend(person, admin[number % admin.len()]));
    let question =
        Question { system: System::Cardea, kind: Kind::Write, route: "spread", consistency: "" };
    run.open(question, exchanges.collect::<anyhow::Result<_>>()?, half).await;
    Ok(())
}

async fn reads(run: &mut Run<'_>, cluster: &Cluster, people: &[Person]) -> anyhow::Result<()> {
    let public = cluster.public();
    let cases = [
        ("leader", "strong", "strong"),
        ("follower", "strong", "strong"),
        ("leader", "bounded", "bounded=1000"),
        ("follower", "bounded", "bounded=1000"),
    ];
    for (route, consistency, header) in cases {
        let status = cluster.status().await?;
        let question = Question { system: System::Cardea, kind: Kind::Read, route, consistency };
        let exchanges = |count: usize| -> anyhow::Result<Vec<_>> {
            let some = people.iter().take(count).enumerate().map(|(number, person)| {
                let leader = leader(cluster, &status, person)?;
                let follower = (leader + 1 + number % 2) % public.len();
                let node = if route == "leader" { leader } else { follower };
                requests::whoami(person, public[node], header)
            });
            some.collect()
        };
        let mut rate = 0.0;
        for clients in run.args.read_clients.clone() {
            rate = run.closed(question, exchanges(clients)?).await;
        }
        if consistency == "strong" && route == "follower" {
            run.open(question, exchanges(people.len())?, rate / 2.0).await;
        }
    }
    Ok(())
}

async fn logins(run: &mut Run<'_>, cluster: &Cluster, people: &[Person]) -> anyhow::Result<()> {
    let public = cluster.public();
    let clients = 4 * run.report.machine.cores;
    let question =
        Question { system: System::Cardea, kind: Kind::Login, route: "spread", consistency: "" };
    let exchanges = people
        .iter()
        .take(clients)
        .enumerate()
        .map(|(number, person)| requests::login(person, public[number % public.len()]));
    run.closed(question, exchanges.collect::<anyhow::Result<_>>()?).await;
    Ok(())
}

/// The index of the node that leads a person's home shard.
fn leader(cluster: &Cluster, status: &Status, person: &Person) -> anyhow::Result<usize> {
    let shard = status.home_of(&person.identity).context("an identity without a home")?;
    let leader = shard.leader.context("a shard without a leader")?;
    cluster.index_of(status, leader).context("a stranger leads a shard")
}

/// How long a write is waited for under kills; its client tries again then.
pub const KILL_PATIENCE: Duration = Duration::from_secs(1);
/// Writers under kills: more than are begun within their patience.
pub const KILL_WRITERS: usize = 128;

async fn kills(
    run: &Run<'_>,
    cluster: &mut Cluster,
    people: &[Person],
) -> anyhow::Result<Option<Gaps>> {
    let status = cluster.status().await?;
    let first = people.first().context("nobody is there")?;
    let group = status.home_of(&first.identity).context("an identity without a home")?.group;
    let at_home: Vec<&Person> = people
        .iter()
        .filter(|person| status.home_of(&person.identity).is_some_and(|home| home.group == group))
        .collect();
    let mut gaps = Vec::new();
    for number in 0..run.args.kills {
        let status = cluster.status().await?;
        let leader = leader(cluster, &status, first)?;
        let survivors: Vec<SocketAddr> = cluster
            .admin()
            .into_iter()
            .enumerate()
            .filter_map(|(index, address)| (index != leader).then_some(address))
            .collect();
        let writers = (0..KILL_WRITERS).map(|writer| {
            let person = at_home[writer % at_home.len()];
            let extend = requests::extend(person, survivors[writer % survivors.len()])?;
            Ok(extend.patience(KILL_PATIENCE))
        });
        let writers = writers.collect::<anyhow::Result<_>>()?;
        let victim = &mut cluster.nodes()[leader].server;
        let gap: Gap = gap::measure(writers, || victim.kill_now()).await?;
        note(&format!(
            "kill {} of {}: {} led the shard, {:.0} ms without a write",
            number + 1,
            run.args.kills,
            victim.name,
            gap.gap_ms
        ));
        gaps.push(gap);
        victim.ended(Duration::from_secs(10)).await?;
        victim.start()?;
        cluster.await_well(Duration::from_secs(60)).await?;
    }
    Ok(Gaps::of(gaps))
}
