//! Three processes over Keto's REST API: what a client meets, network, log and all;
//! and what filling them costs.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_permission::{Subject, Tuple};
use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Round,
    model::{LANGUAGE, Model, Scale},
    store::{Listed, ready},
};
use crate::{
    cardea::Cluster,
    http::{Connection, Template},
    latency::{Latencies, Summary},
    load::{
        Exchange, Outcome,
        closed::{self, Window},
    },
    machine::bytes_below,
};

/// Tuples in one part of the import.
const TOGETHER: usize = 10_000;
/// Parts under way at once.
const FILLERS: usize = 3;

/// What filling the cluster came to.
#[derive(Debug, Clone, Serialize)]
pub struct RestImport {
    /// Tuples.
    pub tuples: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Processor time of all nodes, in seconds.
    pub cpu_seconds: f64,
    /// Bytes of the tablets of the node that has most, as they are then: not compacted.
    pub disk_bytes: u64,
    /// Bytes of its log, which is cut off from time to time and grows no further.
    pub log_bytes: u64,
    /// Resident bytes of the node that has most.
    pub resident_bytes: u64,
}

/// How fresh an answer is asked for.
#[derive(Debug, Clone)]
pub enum Fresh {
    /// What the node has.
    Eventual,
    /// What a quorum had a second ago at most.
    Bounded,
    /// At least what this token saw.
    Snaptoken(String),
    /// Everything that was acknowledged.
    Strong,
}

impl Fresh {
    /// What it is called in reports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Eventual => "eventual",
            Self::Bounded => "bounded=1000",
            Self::Snaptoken(_) => "snaptoken",
            Self::Strong => "latest",
        }
    }

    /// What is sent.
    fn header(&self) -> String {
        match self {
            Self::Snaptoken(token) => format!("at_least={token}"),
            Self::Strong => "strong".to_owned(),
            Self::Eventual | Self::Bounded => self.name().to_owned(),
        }
    }
}

/// Puts the language in force and fills the cluster, whose files are below `at`.
///
/// # Errors
/// If a node refuses what it must take.
pub async fn fill(cluster: &Cluster, at: &Path, scale: Scale) -> anyhow::Result<RestImport> {
    let nodes = cluster.admin();
    let first = *nodes.first().context("no node")?;
    let body = json!({"files": [{"name": "main.ts", "text": LANGUAGE}], "force": true});
    let language = Template::new(Method::PUT, "/admin/opl")?.json(&body);
    let _: Value = Connection::new(first).ask(&language).await?.json()?;
    let cpu = || -> f64 {
        let processes = cluster.processes();
        processes.iter().filter_map(|process| process.cpu_seconds().ok()).sum()
    };
    let (began, before) = (Instant::now(), cpu());
    let left = Arc::new(tokio::sync::Mutex::new(scale.tuples()));
    let fillers = (0..FILLERS).map(|number| {
        let (left, node) = (left.clone(), nodes[number % nodes.len()]);
        tokio::spawn(async move {
            let mut connection = Connection::new(node).patience(Duration::from_secs(30));
            let mut made = 0;
            loop {
                let part: Vec<Tuple> = left.lock().await.by_ref().take(TOGETHER).collect();
                if part.is_empty() {
                    return anyhow::Ok(made);
                }
                let lines: String = part.iter().map(|tuple| format!("{tuple}\n")).collect();
                let import = Template::new(Method::POST, "/admin/relation-tuples/import")?;
                let import = import.body(lines);
                loop {
                    let answer = connection.ask(&import).await?;
                    if answer.status.is_success() {
                        break;
                    }
                    let retried = matches!(answer.status.as_u16(), 429 | 503);
                    anyhow::ensure!(retried, "{}", String::from_utf8_lossy(&answer.body));
                    // As the answer asks for.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                made += part.len() as u64;
            }
        })
    });
    let mut tuples = 0;
    for filler in futures::future::join_all(fillers).await {
        tuples += filler??;
    }
    let seconds = began.elapsed().as_secs_f64();
    let processes = cluster.processes();
    let resident = processes.iter().filter_map(|process| process.resident_bytes().ok());
    let (mut disk_bytes, mut log_bytes) = (0, 0);
    for node in 1..=nodes.len() {
        let data = at.join(format!("node-{node}")).join("data");
        disk_bytes = disk_bytes.max(bytes_below(&data.join("tablets"))?);
        log_bytes = log_bytes.max(bytes_below(&data.join("log"))?);
    }
    Ok(RestImport {
        tuples,
        seconds,
        cpu_seconds: cpu() - before,
        disk_bytes,
        log_bytes,
        resident_bytes: resident.max().unwrap_or(0),
    })
}

fn body_of(tuple: &Tuple) -> Value {
    let Tuple { namespace, object, relation, subject } = tuple;
    let mut body = json!({"namespace": namespace, "object": object, "relation": relation});
    match subject {
        Subject::Id(id) => body["subject_id"] = json!(id),
        Subject::Set(set) => {
            body["subject_set"] = json!({
                "namespace": set.namespace, "object": set.object, "relation": set.relation,
            });
        }
    }
    body
}

fn query_of(tuple: &Tuple) -> String {
    let Subject::Id(subject) = &tuple.subject else { return String::new() };
    let Tuple { namespace, object, relation, .. } = tuple;
    format!("namespace={namespace}&object={object}&relation={relation}&subject_id={subject}")
}

fn question(tuple: &Tuple, fresh: &Fresh) -> anyhow::Result<Template> {
    // The form that mirrors the answer in its status, so that the body need not be read.
    Template::new(Method::GET, &format!("/relation-tuples/check?{}", query_of(tuple)))?
        .header("x-cardea-consistency", &fresh.header())
}

struct Client {
    connection: Connection,
    asked: Arc<Vec<Template>>,
    at: usize,
    holds: bool,
}

impl Exchange for Client {
    async fn call(&mut self) -> Outcome {
        self.at = (self.at + 1) % self.asked.len();
        match (self.connection.call(&self.asked[self.at]).await, self.holds) {
            (Outcome::Refused(403), false) => Outcome::Done,
            (Outcome::Done, false) => Outcome::Refused(200),
            (outcome, _) => outcome,
        }
    }
}

/// Asks a model's questions for a while, spread over the nodes.
///
/// # Errors
/// If a question cannot be written down.
pub async fn check(
    cluster: &Cluster,
    scale: Scale,
    model: Model,
    fresh: &Fresh,
    clients: usize,
    over: Duration,
) -> anyhow::Result<Round> {
    let asked: Vec<Template> = ready(scale, model)
        .take(2_000)
        .map(|tuple| question(&tuple, fresh))
        .collect::<anyhow::Result<_>>()?;
    let (asked, nodes) = (Arc::new(asked), cluster.admin());
    let exchanges = (0..clients).map(|number| Client {
        connection: Connection::new(nodes[number % nodes.len()]),
        asked: asked.clone(),
        at: number * 211,
        holds: model.holds(),
    });
    let window = Window { warm_up: Duration::from_millis(500), measure: over };
    let sample = closed::run(exchanges.collect(), window, &cluster.processes()).await;
    Ok(Round::of_processes(model, format!("three processes, REST, {}", fresh.name()), &sample))
}

#[derive(Deserialize)]
struct Page {
    objects: Vec<String>,
    next_page_token: String,
}

/// Lists the documents that somebody views, page by page.
///
/// # Errors
/// If a node refuses, or the list is not as long as it must be.
pub async fn list(cluster: &Cluster, subject: &Subject, results: u64) -> anyhow::Result<Listed> {
    let node = *cluster.admin().first().context("no node")?;
    let Subject::Id(subject) = subject else { anyhow::bail!("somebody is asked about") };
    let mut connection = Connection::new(node);
    let (began, mut first_page_ms, mut found) = (Instant::now(), 0.0, 0);
    let mut token = String::new();
    loop {
        let path = format!(
            "/relation-tuples/objects?namespace=Doc&relation=view&subject_id={subject}\
             &page_size=1000&page_token={token}"
        );
        let page: Page = connection.ask(&Template::new(Method::GET, &path)?).await?.json()?;
        if found == 0 {
            first_page_ms = began.elapsed().as_secs_f64() * 1e3;
        }
        found += page.objects.len() as u64;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    anyhow::ensure!(found == results, "{found} objects were listed, not {results}");
    let all_ms = began.elapsed().as_secs_f64() * 1e3;
    Ok(Listed { of: "three processes, REST".to_owned(), results, first_page_ms, all_ms })
}

/// How long after the answer to a write at one node another node grants by it,
/// reading whatever it has.
///
/// # Errors
/// If a node refuses what it must take.
pub async fn visible(cluster: &Cluster, rounds: u32) -> anyhow::Result<Summary> {
    let nodes = cluster.admin();
    let node = |number: u32| -> SocketAddr { nodes[number as usize % nodes.len()] };
    let mut latencies = Latencies::default();
    for round in 0..rounds {
        let tuple =
            Tuple::new("Group", format!("seen-{round}"), "members", Subject::Id("eve".to_owned()));
        let write = Template::new(Method::PUT, "/admin/relation-tuples")?.json(&body_of(&tuple));
        let ask = question(&tuple, &Fresh::Eventual)?;
        let mut reader = Connection::new(node(round + 1));
        anyhow::ensure!(reader.call(&ask).await == Outcome::Refused(403), "seen before it is");
        let written = Connection::new(node(round)).call(&write).await;
        anyhow::ensure!(written == Outcome::Done, "{written:?}");
        let since = Instant::now();
        while reader.call(&ask).await != Outcome::Done {
            anyhow::ensure!(since.elapsed() < Duration::from_secs(10), "never seen");
        }
        latencies.record(since.elapsed());
    }
    Ok(latencies.summary())
}
