//! Three processes over Keto's REST API: what a client meets, network, log and all.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cardea_permission::{Subject, Tuple};
use http::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Round,
    model::{LANGUAGE, Model, Scale},
    store::ready,
};
use crate::{
    cardea::Cluster,
    http::{Connection, Template},
    latency::{Latencies, Summary},
    load::{
        Exchange, Outcome,
        closed::{self, Window},
    },
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
}

/// Puts the language in force and fills the cluster.
///
/// # Errors
/// If a node refuses what it must take.
pub async fn fill(cluster: &Cluster, scale: Scale) -> anyhow::Result<RestImport> {
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
    Ok(RestImport { tuples, seconds, cpu_seconds: cpu() - before })
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

fn question(tuple: &Tuple, consistency: &str) -> anyhow::Result<Template> {
    // The form that mirrors the answer in its status, so that the body need not be read.
    Template::new(Method::GET, &format!("/relation-tuples/check?{}", query_of(tuple)))?
        .header("x-cardea-consistency", consistency)
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
    consistency: &str,
    clients: usize,
    over: Duration,
) -> anyhow::Result<Round> {
    let asked: Vec<Template> = ready(scale, model)
        .take(2_000)
        .map(|tuple| question(&tuple, consistency))
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
    let servers = sample.costs.iter().filter(|cost| cost.name != "generator");
    let used: f64 = servers.map(|cost| cost.cpu_seconds).sum();
    Ok(Round {
        model: model.name(),
        of: format!("three processes, {consistency}"),
        clients,
        rate: sample.rate,
        cpu_us: used * 1e6 / sample.latency.count.max(1) as f64,
        latency: sample.latency,
        wrong: sample.failed(),
    })
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
        let ask = question(&tuple, "eventual")?;
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
