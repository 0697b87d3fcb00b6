//! `cardea-bench load`: fills a cluster with identities through the admin API, as
//! fast as that answers.
//!
//! Each identity has a name that its number gives, so a run that was cut short goes
//! on where it ended, from any machine: what is there is found by asking. Numbers are
//! claimed in order and no more than `WINDOW` beyond the lowest that is not done;
//! so everything below the first that is missing, less the window, is there.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::Method;
use serde::Serialize;
use serde_json::Value;
use tokio::task::JoinSet;

use super::progress::Progress;
use crate::{
    cardea::{Cluster, people, program},
    cost::{Cost, Meter},
    http::{Connection, Template},
    latency::{Latencies, Summary},
    machine::{Machine, check_disk},
    password,
    report::{note, say, write_json},
    table::{Table, figure, whole},
};

/// How far claims run ahead of the lowest number that is not done.
const WINDOW: u64 = 4096;
/// Attempts at one identity before the whole gives up: minutes.
const ATTEMPTS_MAX: u32 = 300;

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// How many identities there are to be
    #[arg(long, default_value_t = 1_000_000)]
    pub identities: u64,
    /// Admin URLs of the nodes, such as http://127.0.0.1:4434
    #[arg(long, value_delimiter = ',', required_unless_present = "data", conflicts_with = "data")]
    pub to: Vec<String>,
    /// Start three nodes with their data here, load, and stop them
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The binary that is started; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// A file with an API key, where the nodes ask for one
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub api_key_file: Option<PathBuf>,
    /// Requests under way at once
    #[arg(long, default_value_t = 128)]
    pub connections: usize,
    /// Where results are kept
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub dir: PathBuf,
}

/// What a load found.
#[derive(Debug, Clone, Serialize)]
pub struct Loaded {
    /// Identities that are there now.
    pub identities: u64,
    /// Of these, created by this run.
    pub created: u64,
    /// Of these, found already there, one by one.
    pub found: u64,
    /// Requests that were sent again: refused for a while, or not answered.
    pub retried: u64,
    /// How long it took.
    pub seconds: f64,
    /// Created a second.
    pub rate: f64,
    /// Of creations.
    pub latency: Summary,
    /// What each process used.
    pub costs: Vec<Cost>,
}

/// Where identities are created.
#[derive(Debug, Clone)]
pub struct Target {
    /// Admin listeners.
    pub admin: Vec<SocketAddr>,
    /// Sent as a bearer token.
    pub api_key: Option<String>,
}

impl Target {
    fn request(&self, method: Method, path: &str) -> anyhow::Result<Template> {
        let template = Template::new(method, path)?;
        match &self.api_key {
            Some(key) => template.header("authorization", &format!("Bearer {key}")),
            None => Ok(template),
        }
    }

    /// Whether the identity with a number is there.
    async fn has(&self, number: u64) -> anyhow::Result<bool> {
        let path = format!("/admin/identities?credentials_identifier={}", name(number));
        let ask = self.request(Method::GET, &path)?;
        let node = self.admin.first().context("no node is named")?;
        let found: Vec<Value> = Connection::new(*node).ask(&ask).await?.json()?;
        Ok(!found.is_empty())
    }

    /// The number from which on identities may be missing, of `total`.
    ///
    /// # Errors
    /// If the nodes do not answer.
    pub async fn resume(&self, total: u64) -> anyhow::Result<u64> {
        let (mut there, mut missing) = (0, total);
        while there < missing {
            let middle = there + (missing - there) / 2;
            if self.has(middle).await? {
                there = middle + 1;
            } else {
                missing = middle;
            }
        }
        Ok(if there == total { total } else { there.saturating_sub(WINDOW) })
    }
}

/// The address of the identity with a number.
fn name(number: u64) -> String {
    format!("user{number:09}@load.example.org")
}

/// Numbers that are claimed in order.
#[derive(Debug)]
struct Claims {
    next: u64,
    end: u64,
    open: BTreeSet<u64>,
}

enum Claimed {
    Number(u64),
    Later,
    Nothing,
}

impl Claims {
    fn claim(&mut self) -> Claimed {
        if self.next >= self.end {
            return Claimed::Nothing;
        }
        let lowest = self.open.first().copied().unwrap_or(self.next);
        if self.next - lowest >= WINDOW {
            return Claimed::Later;
        }
        let number = self.next;
        self.next += 1;
        self.open.insert(number);
        Claimed::Number(number)
    }
}

struct Shared {
    target: Target,
    hash: String,
    claims: Mutex<Claims>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    created: u64,
    found: u64,
    retried: u64,
    latencies: Latencies,
}

/// Creates the identities numbered `from..to` that are not there.
///
/// # Errors
/// If one is refused for good, or not taken for minutes.
pub async fn fill(
    target: Target,
    numbers: std::ops::Range<u64>,
    connections: usize,
    meter: Meter,
) -> anyhow::Result<Loaded> {
    let (from, to) = (numbers.start, numbers.end);
    let shared = Arc::new(Shared {
        target,
        hash: password::hash(people::PASSWORD)?,
        claims: Mutex::new(Claims { next: from, end: to, open: BTreeSet::new() }),
        counts: Mutex::default(),
    });
    let started = Instant::now();
    let mut progress = Progress::new("identities", from, to);
    let mut workers = JoinSet::new();
    for number in 0..connections {
        workers.spawn(work(shared.clone(), number));
    }
    let done = || {
        let counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
        from + counts.created + counts.found
    };
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            ended = workers.join_next() => match ended {
                Some(ended) => ended??,
                None => break,
            },
            _ = tick.tick() => progress.show(done()),
        }
    }
    progress.show(done());
    let seconds = started.elapsed().as_secs_f64();
    let counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Loaded {
        identities: to,
        created: counts.created,
        found: counts.found,
        retried: counts.retried,
        seconds,
        rate: counts.created as f64 / seconds,
        latency: counts.latencies.summary(),
        costs: meter.stop(),
    })
}

async fn work(shared: Arc<Shared>, worker: usize) -> anyhow::Result<()> {
    let admin = &shared.target.admin;
    let address = *admin.get(worker % admin.len().max(1)).context("no node is named")?;
    let mut connection = Connection::new(address);
    loop {
        let claimed = shared.claims.lock().unwrap_or_else(PoisonError::into_inner).claim();
        let number = match claimed {
            Claimed::Nothing => return Ok(()),
            Claimed::Later => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            Claimed::Number(number) => number,
        };
        create(&shared, &mut connection, number).await?;
        shared.claims.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&number);
    }
}

/// Creates one identity, as often as it takes. An outcome that is not known is asked
/// for again: the name is taken then.
async fn create(shared: &Shared, connection: &mut Connection, number: u64) -> anyhow::Result<()> {
    let template = shared.target.request(Method::POST, "/admin/identities")?;
    let template = template.json(&people::creation(&name(number), &shared.hash));
    for attempt in 0..ATTEMPTS_MAX {
        let asked = Instant::now();
        let answer = connection.ask(&template).await;
        let took = asked.elapsed();
        let pause = match answer {
            Ok(answer) => match answer.status.as_u16() {
                201 => {
                    let mut counts = shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
                    counts.created += 1;
                    counts.latencies.record(took);
                    return Ok(());
                }
                409 => {
                    shared.counts.lock().unwrap_or_else(PoisonError::into_inner).found += 1;
                    return Ok(());
                }
                429 | 500..=599 => answer.retry_after.map(Duration::from_secs),
                _ => {
                    answer.json::<Value>().with_context(|| name(number))?;
                    anyhow::bail!("{} was answered {}", name(number), answer.status);
                }
            },
            Err(_) => None,
        };
        shared.counts.lock().unwrap_or_else(PoisonError::into_inner).retried += 1;
        let backoff = Duration::from_millis(20 << attempt.min(6));
        tokio::time::sleep(pause.unwrap_or(backoff)).await;
    }
    anyhow::bail!("{} was not taken after {ATTEMPTS_MAX} attempts", name(number))
}

/// Runs it.
///
/// # Errors
/// If the nodes do not come up, do not answer, or refuse.
pub async fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let (mut cluster, target) = match &args.data {
        Some(data) => {
            std::fs::create_dir_all(data)?;
            check_disk(data)?;
            let cluster = Cluster::start(&program(args.cardea.clone())?, data, true).await?;
            let target = Target { admin: cluster.admin(), api_key: None };
            (Some(cluster), target)
        }
        None => {
            let admin = args.to.iter().map(|url| address(url)).collect::<anyhow::Result<_>>()?;
            let key = args.api_key_file.as_ref().map(std::fs::read_to_string).transpose()?;
            (None, Target { admin, api_key: key.map(|key| key.trim().to_owned()) })
        }
    };
    let from = target.resume(args.identities).await?;
    if from > 0 {
        note(&format!("{} identities are there already", whole(from as f64)));
    }
    let servers = cluster.as_ref().map(Cluster::processes).unwrap_or_default();
    let meter = Meter::start(&servers);
    let loaded = fill(target, from..args.identities, args.connections, meter).await?;
    if let Some(cluster) = &mut cluster {
        let took = cluster.stop().await?;
        note(&format!("the nodes drained and stopped in {:.1} s", took.as_secs_f64()));
    }
    write_json(
        &args.dir.join("load.json"),
        &serde_json::json!({ "machine": Machine::here(), "loaded": loaded }),
    )?;
    say(&markdown(&loaded));
    Ok(())
}

fn markdown(loaded: &Loaded) -> String {
    let mut table = Table::new(["load", "found"]);
    let rows = [
        ("identities", whole(loaded.identities as f64)),
        ("created by this run", whole(loaded.created as f64)),
        ("seconds", figure(loaded.seconds)),
        ("created/s", whole(loaded.rate)),
        ("p50 ms", figure(loaded.latency.p50_ms)),
        ("p99 ms", figure(loaded.latency.p99_ms)),
        ("sent again", whole(loaded.retried as f64)),
    ];
    for (name, found) in rows {
        table.row([name.to_owned(), found]);
    }
    for cost in &loaded.costs {
        table.row([format!("cores, {}", cost.name), figure(cost.cores)]);
    }
    table.to_string()
}

/// The socket address of an admin URL.
fn address(url: &str) -> anyhow::Result<SocketAddr> {
    let authority = url
        .strip_prefix("http://")
        .with_context(|| format!("\"{url}\" is not http://host:port"))?
        .trim_end_matches('/');
    let mut found = authority.to_socket_addrs().with_context(|| format!("\"{url}\" is unknown"))?;
    found.next().with_context(|| format!("\"{url}\" is unknown"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Response, StatusCode};
    use http_body_util::Full;

    use super::*;
    use crate::http::testing::serve;

    #[derive(Default)]
    struct Toy {
        names: BTreeSet<String>,
        asked: u64,
    }

    /// A toy of the admin API: creates, knows duplicates, and is overloaded at times.
    async fn toy(toy: Arc<Mutex<Toy>>) -> SocketAddr {
        serve(move |request| {
            let toy = toy.clone();
            async move {
                let mut toy = toy.lock().unwrap();
                let mut response = Response::new(Full::default());
                if request.method() == Method::GET {
                    let (_, wanted) = request.uri().query().unwrap().split_once('=').unwrap();
                    let found = if toy.names.contains(wanted) { "[{}]" } else { "[]" };
                    *response.body_mut() = Full::new(Bytes::from(found));
                    return response;
                }
                toy.asked += 1;
                let body: Value = serde_json::from_slice(request.body()).unwrap();
                let email = body["traits"]["email"].as_str().unwrap().to_owned();
                *response.status_mut() = if toy.asked.is_multiple_of(10) {
                    StatusCode::SERVICE_UNAVAILABLE
                } else if toy.names.insert(email) {
                    StatusCode::CREATED
                } else {
                    StatusCode::CONFLICT
                };
                response
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_load_that_was_cut_short_is_completed() {
        let names = Arc::new(Mutex::new(Toy::default()));
        let target = Target { admin: vec![toy(names.clone()).await], api_key: None };
        assert_eq!(target.resume(100).await.unwrap(), 0);
        let first = fill(target.clone(), 0..60, 8, Meter::start(&[])).await.unwrap();
        assert_eq!((first.created, first.found), (60, 0));
        assert!(first.retried >= 5, "{first:?}");
        // One in the middle was still under way when it was cut short.
        names.lock().unwrap().names.remove(&name(57));
        let from = target.resume(100).await.unwrap();
        let second = fill(target.clone(), from..100, 8, Meter::start(&[])).await.unwrap();
        assert_eq!(second.created, 41);
        let all: BTreeSet<String> = (0..100).map(name).collect();
        assert_eq!(names.lock().unwrap().names, all);
        assert_eq!(target.resume(100).await.unwrap(), 100);
    }

    #[test]
    fn claims_do_not_run_away_from_one_that_hangs() {
        let mut claims = Claims { next: 0, end: WINDOW + 10, open: BTreeSet::new() };
        for number in 0..WINDOW {
            assert!(matches!(claims.claim(), Claimed::Number(claimed) if claimed == number));
            if number > 0 {
                claims.open.remove(&number);
            }
        }
        assert!(matches!(claims.claim(), Claimed::Later));
        claims.open.remove(&0);
        assert!(matches!(claims.claim(), Claimed::Number(WINDOW)));
        claims.next = claims.end;
        assert!(matches!(claims.claim(), Claimed::Nothing));
    }

    #[test]
    fn admin_urls_are_read() {
        assert_eq!(address("http://127.0.0.1:4434/").unwrap(), ([127, 0, 0, 1], 4434).into());
        assert!(address("https://127.0.0.1:4434").is_err());
        assert!(address("127.0.0.1").is_err());
    }
}
