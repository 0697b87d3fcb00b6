//! `cardea-bench newcomers`: what people who come cost three nodes: flows begun a second,
//! registrations a second beside the bound of argon2id, and bytes on disk for each identity
//! and each login.
//!
//! Bytes are those of all files of the node that has most, its log included, after it was
//! stopped, so that nothing waits in memory. They are told of what was added between two
//! such stops: of identities that an administrator creates, and of logins, each of which
//! leaves a session, a flow that is over, its mark, and an event.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::load::{Target, fill};
use crate::{
    cardea::{Cluster, people, program, requests},
    cost::Meter,
    load::{
        Exchange, Outcome, Sample,
        closed::{self, Window},
    },
    machine::{Machine, bytes_below, check_disk},
    password::{self, Bound},
    report::{note, say, write_json},
    table::{Table, figure, whole},
};

/// How long nodes that start again are given.
const PATIENCE: Duration = Duration::from_secs(180);
/// Logins that are under way at once while bytes are counted.
const TOGETHER: usize = 16;

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct NewcomersArgs {
    /// The binary under test; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// Where data is kept while it runs, and the results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub dir: PathBuf,
    /// Clients of the closed loops
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 6.0)]
    pub seconds: f64,
    /// Seconds that each is warmed up for
    #[arg(long, default_value_t = 2.0)]
    pub warm_up: f64,
    /// Identities that bytes are counted of
    #[arg(long, default_value_t = 20_000)]
    pub identities: u64,
    /// Logins that bytes are counted of
    #[arg(long, default_value_t = 2_000)]
    pub logins: usize,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Findings {
    machine: Machine,
    bound: Bound,
    flows: Sample,
    registrations: Sample,
    identities: Bytes,
    logins: Bytes,
}

/// What so many of something take on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bytes {
    /// How many.
    pub count: u64,
    /// Bytes on the node that has most, before.
    pub before: u64,
    /// And after.
    pub after: u64,
}

impl Bytes {
    /// Of one of them; none if files became smaller.
    pub fn each(self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / self.count.max(1) as f64
    }
}

/// A client that signs somebody up, again and again.
struct Newcomer {
    flows: requests::Newcomer,
    client: usize,
    count: usize,
}

impl Exchange for Newcomer {
    async fn call(&mut self) -> Outcome {
        self.count += 1;
        let email = format!("newcomer-{}-{}@bench.example.org", self.client, self.count);
        self.flows.sign_up(&email).await
    }
}

/// Runs it.
///
/// # Errors
/// If the nodes do not come up, do not answer, or refuse.
pub async fn run(args: &NewcomersArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    check_disk(&args.dir)?;
    let machine = Machine::here();
    note("argon2id on every core, with nothing else to do");
    let bound = tokio::task::spawn_blocking(|| password::bound(Duration::from_secs(4))).await??;
    let root = args.dir.join(format!("newcomers-{}", std::process::id()));
    let found = measure(args, &root).await;
    if root.exists() {
        std::fs::remove_dir_all(&root)?;
    }
    let (flows, registrations, identities, logins) = found?;
    let findings = Findings { machine, bound, flows, registrations, identities, logins };
    write_json(&args.dir.join("newcomers.json"), &findings)?;
    say(&findings.table().to_string());
    Ok(())
}

async fn measure(
    args: &NewcomersArgs,
    root: &Path,
) -> anyhow::Result<(Sample, Sample, Bytes, Bytes)> {
    let mut cluster = Cluster::start(&program(args.cardea.clone())?, root, true).await?;
    let window = Window {
        warm_up: Duration::from_secs_f64(args.warm_up),
        measure: Duration::from_secs_f64(args.seconds),
    };
    let (public, servers) = (cluster.public(), cluster.processes());
    let node = |client: usize| public[client % public.len()];
    let begin = (0..args.clients).map(|client| requests::begin_registration(node(client)));
    let flows = closed::run(begin.collect::<anyhow::Result<_>>()?, window, &servers).await;
    note(&told("flows begun", &flows));
    let sign_up = (0..args.clients)
        .map(|client| Ok(Newcomer { flows: requests::newcomer(node(client))?, client, count: 0 }));
    let registrations =
        closed::run(sign_up.collect::<anyhow::Result<_>>()?, window, &servers).await;
    note(&told("registrations", &registrations));

    let start = rested(&mut cluster, root).await?;
    let target = Target { admin: cluster.admin(), api_key: None };
    fill(target, 0..args.identities, args.clients, Meter::start(&[])).await?;
    let filled = rested(&mut cluster, root).await?;
    let (admin, public) = (cluster.admin(), cluster.public());
    let people = people::make(args.clients.max(1), "visitor", &admin, &public).await?;
    let before = rested(&mut cluster, root).await?;
    let began = Instant::now();
    stream::iter(0..args.logins)
        .map(|number| log_in(&people[number % people.len()], public[number % public.len()]))
        .buffer_unordered(TOGETHER)
        .try_collect::<()>()
        .await?;
    note(&format!("{} logins in {:.1} s", args.logins, began.elapsed().as_secs_f64()));
    cluster.stop().await?;
    let after = most_bytes(root)?;
    let identities = Bytes { count: args.identities, before: start, after: filled };
    let logins = Bytes { count: args.logins as u64, before, after };
    Ok((flows, registrations, identities, logins))
}

async fn log_in(person: &people::Person, node: SocketAddr) -> anyhow::Result<()> {
    let mut login = requests::login(person, node)?;
    match login.call().await {
        Outcome::Done => Ok(()),
        other => anyhow::bail!("a login ended as {other:?}"),
    }
}

/// Stops all nodes, and starts them again; what they have on disk meanwhile.
async fn rested(cluster: &mut Cluster, root: &Path) -> anyhow::Result<u64> {
    cluster.stop().await?;
    let bytes = most_bytes(root)?;
    for node in cluster.nodes() {
        node.server.start()?;
    }
    for node in cluster.nodes() {
        node.await_ready(PATIENCE).await?;
    }
    cluster.await_well(PATIENCE).await?;
    Ok(bytes)
}

/// Bytes of the node that has most.
fn most_bytes(root: &Path) -> anyhow::Result<u64> {
    let mut most = None;
    for node in 1..=3 {
        let at = root.join(format!("node-{node}"));
        most = most.max(Some(bytes_below(&at).with_context(|| at.display().to_string())?));
    }
    most.context("there are no nodes")
}

fn told(what: &str, sample: &Sample) -> String {
    format!(
        "{what}, {} clients: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, failed {}",
        sample.clients,
        sample.rate,
        sample.latency.p50_ms,
        sample.latency.p99_ms,
        sample.failed()
    )
}

impl Findings {
    fn table(&self) -> Table {
        let mut table = Table::new(["newcomers", "found"]);
        let share = 100.0 * self.registrations.rate / self.bound.hashes_per_s.max(1.0);
        for (name, found) in [
            ("flows begun/s", whole(self.flows.rate)),
            ("flows begun, p99 ms", figure(self.flows.latency.p99_ms)),
            ("registrations/s", figure(self.registrations.rate)),
            ("registrations, p99 ms", figure(self.registrations.latency.p99_ms)),
            ("of the bound of argon2id, %", whole(share)),
            ("failed", whole((self.flows.failed() + self.registrations.failed()) as f64)),
            ("bytes on disk an identity", whole(self.identities.each())),
            ("bytes on disk a login", whole(self.logins.each())),
        ] {
            table.row([name.to_owned(), found]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Tally;

    #[test]
    fn bytes_are_told_of_each_and_registrations_beside_the_bound() {
        let bytes = Bytes { count: 100, before: 1_000, after: 51_000 };
        assert_eq!(bytes.each(), 500.0);
        assert_eq!(Bytes { after: 0, ..bytes }.each(), 0.0);
        let mut tally = Tally::default();
        for _ in 0..50 {
            tally.record(Outcome::Done, Duration::from_millis(20));
        }
        let sample = tally.sample(4, 1.0, Vec::new());
        let findings = Findings {
            machine: Machine::here(),
            bound: Bound { threads: 2, hashes_per_s: 100.0 },
            flows: sample.clone(),
            registrations: sample,
            identities: bytes,
            logins: bytes,
        };
        let text = findings.table().to_string();
        for row in
            ["| registrations/s             |  50.0 |", "| of the bound of argon2id, % |    50 |"]
        {
            assert!(text.contains(row), "{row}\n{text}");
        }
    }
}
