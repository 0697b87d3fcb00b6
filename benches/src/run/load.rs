//! `cardea-bench load`: fills a cluster with identities through the admin API, by batches
//! (`batchPatchIdentities`), as fast as that answers.
//!
//! Each identity has a name that its number gives, so a run that was cut short goes
//! on where it ended, from any machine: what is there is found by asking. Numbers are
//! claimed in order and no more than `WINDOW` beyond the lowest that is not done;
//! so everything below the first that is missing, less the window, is there.

use std::{
    collections::BTreeSet,
    net::{SocketAddr, ToSocketAddrs as _},
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
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
/// Identities of one request.
const BATCH: u64 = 100;
/// Attempts at one batch before the whole gives up: minutes.
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
    #[arg(long, default_value_t = 16)]
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
    /// Batches that were sent again: refused for a while, or not answered.
    pub retried: u64,
    /// How long it took.
    pub seconds: f64,
    /// Created a second.
    pub rate: f64,
    /// Of batches.
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

/// Numbers that are claimed in order, by batches.
#[derive(Debug)]
struct Claims {
    next: u64,
    end: u64,
    /// Where batches begin that are not done.
    open: BTreeSet<u64>,
}

enum Claimed {
    Batch(Range<u64>),
    Later,
    Nothing,
}

impl Claims {
    fn claim(&mut self) -> Claimed {
        if self.next >= self.end {
            return Claimed::Nothing;
        }
        let lowest = self.open.first().copied().unwrap_or(self.next);
        if self.next + BATCH - lowest > WINDOW {
            return Claimed::Later;
        }
        let batch = self.next..self.end.min(self.next + BATCH);
        self.next = batch.end;
        self.open.insert(batch.start);
        Claimed::Batch(batch)
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
    numbers: Range<u64>,
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
        let batch = match claimed {
            Claimed::Nothing => return Ok(()),
            Claimed::Later => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            Claimed::Batch(batch) => batch,
        };
        let first = batch.start;
        create(&shared, &mut connection, batch).await?;
        shared.claims.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&first);
    }
}

/// Creates identities, as often as it takes. An outcome that is not known is asked
/// for again: the name is taken then.
async fn create(
    shared: &Shared,
    connection: &mut Connection,
    batch: Range<u64>,
) -> anyhow::Result<()> {
    let item = |number| json!({"create": people::creation(&name(number), &shared.hash)});
    let items: Vec<Value> = batch.clone().map(item).collect();
    let template = shared.target.request(Method::PATCH, "/admin/identities")?;
    let template = template.json(&json!({ "identities": items }));
    let from = name(batch.start);
    for attempt in 0..ATTEMPTS_MAX {
        let asked = Instant::now();
        let answer = connection.ask(&template).await;
        let took = asked.elapsed();
        let pause = match answer {
            Ok(answer) => match answer.status.as_u16() {
                200 => {
                    let made: Made = answer.json().with_context(|| from.clone())?;
                    if let Some(failed) = made.fails_for_good() {
                        anyhow::bail!("of the batch from {from} on one was refused: {failed}");
                    }
                    if made.is_whole(&batch) {
                        let found = made.codes().count() as u64;
                        let mut counts =
                            shared.counts.lock().unwrap_or_else(PoisonError::into_inner);
                        counts.found += found;
                        counts.created += batch.end - batch.start - found;
                        counts.latencies.record(took);
                        return Ok(());
                    }
                    None
                }
                429 | 500..=599 => answer.retry_after.map(Duration::from_secs),
                _ => {
                    answer.json::<Value>().with_context(|| from.clone())?;
                    anyhow::bail!("the batch from {from} on was answered {}", answer.status);
                }
            },
            Err(_) => None,
        };
        shared.counts.lock().unwrap_or_else(PoisonError::into_inner).retried += 1;
        let backoff = Duration::from_millis(20 << attempt.min(6));
        tokio::time::sleep(pause.unwrap_or(backoff)).await;
    }
    anyhow::bail!("the batch from {from} on was not taken after {ATTEMPTS_MAX} attempts")
}

/// What a batch is answered.
#[derive(Deserialize)]
struct Made {
    identities: Vec<Value>,
}

impl Made {
    fn codes(&self) -> impl Iterator<Item = u64> {
        self.identities.iter().filter_map(|item| item["error"]["code"].as_u64())
    }

    /// What one was refused with that no other attempt would be taken for.
    fn fails_for_good(&self) -> Option<&Value> {
        self.identities.iter().map(|item| &item["error"]).find(|error| {
            error["code"].as_u64().is_some_and(|code| !matches!(code, 409 | 429 | 500..=599))
        })
    }

    /// Whether each is there now: made, or its name taken, by an attempt before.
    fn is_whole(&self, batch: &Range<u64>) -> bool {
        self.identities.len() as u64 == batch.end - batch.start
            && self.codes().all(|code| code == 409)
    }
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
        &json!({ "machine": Machine::here(), "loaded": loaded }),
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
        ("a batch, p50 ms", figure(loaded.latency.p50_ms)),
        ("a batch, p99 ms", figure(loaded.latency.p99_ms)),
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
        items: u64,
    }

    impl Toy {
        /// One of 250 is not taken now.
        fn answer(&mut self, item: &Value) -> Value {
            let email = item["create"]["traits"]["email"].as_str().unwrap();
            self.items += 1;
            let code = if self.items.is_multiple_of(250) {
                503
            } else if self.names.insert(email.to_owned()) {
                return json!({"action": "create", "identity": email});
            } else {
                409
            };
            json!({"action": "error", "error": {"code": code}})
        }
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
                let items = body["identities"].as_array().unwrap();
                if toy.asked % 3 == 1 {
                    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                    return response;
                }
                let made: Vec<Value> = items.iter().map(|item| toy.answer(item)).collect();
                let body = json!({ "identities": made }).to_string();
                *response.body_mut() = Full::new(Bytes::from(body));
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
        let first = fill(target.clone(), 0..6, 1, Meter::start(&[])).await.unwrap();
        assert_eq!((first.created, first.found), (6, 0));
        assert_eq!(first.retried, 1);
        let first = fill(target.clone(), 6..660, 4, Meter::start(&[])).await.unwrap();
        assert_eq!(first.created + first.found, 654);
        assert!(first.retried >= 3 && first.found >= 99, "{first:?}");
        // One in the middle was still under way when it was cut short.
        names.lock().unwrap().names.remove(&name(657));
        let from = target.resume(700).await.unwrap();
        let second = fill(target.clone(), from..700, 4, Meter::start(&[])).await.unwrap();
        assert_eq!(second.created + second.found, 700 - from);
        let all: BTreeSet<String> = (0..700).map(name).collect();
        assert_eq!(names.lock().unwrap().names, all);
        assert_eq!(target.resume(700).await.unwrap(), 700);
    }

    #[test]
    fn claims_do_not_run_away_from_one_that_hangs() {
        let most = WINDOW / BATCH;
        let end = (most + 1) * BATCH + 10;
        let mut claims = Claims { next: 0, end, open: BTreeSet::new() };
        for number in 0..most {
            let batch = number * BATCH..(number + 1) * BATCH;
            assert!(matches!(claims.claim(), Claimed::Batch(claimed) if claimed == batch));
            if number > 0 {
                claims.open.remove(&batch.start);
            }
        }
        assert!(matches!(claims.claim(), Claimed::Later));
        claims.open.remove(&0);
        assert!(matches!(claims.claim(), Claimed::Batch(claimed) if claimed.start == most * BATCH));
        assert!(matches!(claims.claim(), Claimed::Batch(claimed) if claimed.end == end));
        assert!(matches!(claims.claim(), Claimed::Nothing));
    }

    #[test]
    fn admin_urls_are_read() {
        assert_eq!(address("http://127.0.0.1:4434/").unwrap(), ([127, 0, 0, 1], 4434).into());
        assert!(address("https://127.0.0.1:4434").is_err());
        assert!(address("127.0.0.1").is_err());
    }
}
