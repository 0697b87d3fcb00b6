//! Rows about load: many identities, more requests than can be served, and one load
//! through seven phases.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{Lines, broken};
use crate::{
    adversity::{self, Phase},
    cluster::{Cluster, Plan},
    endpoint::{Endpoint, Reply},
    kratos,
    scoreboard::{Bar, Bench, Line},
};

/// Identities of a batch, and batches under way at once.
const BATCH: usize = 200;
const BATCHES_AT_ONCE: usize = 8;
/// How long identities are made at most; a row ends within ten minutes.
const FILL_MAX: Duration = Duration::from_secs(420);
/// How long a node is given to be ready.
const READY_MAX: Duration = Duration::from_secs(120);

/// R17: nodes with many identities start again, after SIGTERM and after SIGKILL.
pub async fn restart(bench: &Bench) -> Lines {
    let wanted = bench.part(1_000_000);
    let mut cluster = Cluster::start(&Plan::new(&bench.binary, 3)).await?;
    let nodes = cluster.endpoints();
    let made = fill_all(&nodes, wanted, bench).await?;
    let (mut clean, mut killed, mut lost) = (Duration::ZERO, Duration::ZERO, 0);
    let mut batches = vec![ends_of(0, BATCH.min(wanted))];
    for (at, node) in nodes.iter().enumerate() {
        cluster.stop(at).await?;
        clean = clean.max(ready_again(&mut cluster, at).await?);
        lost += lost_at(node, &batches).await?;
    }
    cluster.settle(READY_MAX).await?;
    for (at, node) in nodes.iter().enumerate() {
        // Something that no flush has seen.
        fill(node, wanted + at * BATCH, BATCH).await?;
        batches.push(ends_of(wanted + at * BATCH, BATCH));
        cluster.kill(at)?;
        killed = killed.max(ready_again(&mut cluster, at).await?);
        lost += lost_at(node, &batches).await?;
    }
    cluster.settle(READY_MAX).await?;
    for node in &nodes {
        lost += lost_at(node, &batches).await?;
    }
    let mut resident = 0;
    for node in 0..nodes.len() {
        resident = resident.max(resident_kib(&mut cluster, node)?);
    }
    Ok(vec![
        Line::count("R17.identities", made, "identities", Bar::AtLeast(wanted as f64)),
        Line::count("R17.lost", lost, "identities", Bar::Is(0.0)),
        Line::ms("R17.clean", clean, Bar::Below(5_000.0)),
        Line::ms("R17.killed", killed, Bar::Below(15_000.0)),
        Line::new("R17.resident", resident as f64 / 1024.0, "MiB", Bar::Below(1024.0)),
    ])
}

/// Makes so many identities, as far as there is time for it, by all nodes; how many.
pub(super) async fn fill_all(
    nodes: &[Endpoint],
    wanted: usize,
    bench: &Bench,
) -> anyhow::Result<usize> {
    let began = Instant::now();
    let mut filling = stream::iter((0..wanted).step_by(BATCH))
        .take_while(|_| std::future::ready(began.elapsed() < FILL_MAX))
        .map(|first| {
            let node = nodes[first / BATCH % nodes.len()].clone();
            async move { fill(&node, first, BATCH.min(wanted - first)).await }
        })
        .buffer_unordered(BATCHES_AT_ONCE);
    let mut made = 0;
    let mut told = Instant::now();
    while let Some(count) = filling.try_next().await? {
        made += count;
        if told.elapsed() > Duration::from_secs(20) {
            (bench.say)(&format!("{made} of {wanted} identities"));
            told = Instant::now();
        }
    }
    drop(filling);
    (bench.say)(&format!("{made} identities in {} s", began.elapsed().as_secs()));
    Ok(made)
}

/// Makes so many identities from a number on; sent again until it is done.
async fn fill(node: &Endpoint, first: usize, count: usize) -> anyhow::Result<usize> {
    Ok(batch(node, first, count).await?.len())
}

/// The same, with what is answered for each.
async fn batch(node: &Endpoint, first: usize, count: usize) -> anyhow::Result<Vec<Value>> {
    let create =
        |number: usize| json!({"create": {"schema_id": "", "traits": {"email": email(number)}}});
    let items: Vec<Value> = (first..first + count).map(create).collect();
    let body = json!({"identities": items});
    let node = node.patient(Duration::from_secs(60));
    let mut said = None;
    for _ in 0..60 {
        let reply = node.send("PATCH", "/admin/identities", &body).await;
        if let Some(answer) = reply.done() {
            let all = answer["identities"].as_array().context("a batch without answers")?;
            // One that is there already was made by the attempt before.
            let failed = all.iter().filter(|one| {
                one["action"] != "create" && one["error"]["code"].as_u64() != Some(409)
            });
            if failed.count() == 0 {
                return Ok(all.clone());
            }
        }
        said = Some(reply);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    anyhow::bail!("a batch was not made: {said:?}")
}

fn email(number: usize) -> String {
    format!("many-{number}@example.org")
}

/// The first and the last identity of a batch.
fn ends_of(first: usize, count: usize) -> [usize; 2] {
    [first, first + count.max(1) - 1]
}

/// Of the ends of batches, how many a node says are nobody's, or somebody else's, too.
async fn lost_at(node: &Endpoint, batches: &[[usize; 2]]) -> anyhow::Result<usize> {
    let mut lost = 0;
    for number in batches.as_flattened() {
        let asked = Instant::now();
        let holders = loop {
            if let Some(holders) = kratos::holders(node, &email(*number)).await {
                break holders;
            }
            ensure!(asked.elapsed() < READY_MAX, "node {} does not answer", node.node + 1);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        lost += usize::from(holders.len() != 1);
    }
    Ok(lost)
}

async fn ready_again(cluster: &mut Cluster, node: usize) -> anyhow::Result<Duration> {
    let began = Instant::now();
    cluster.launch(node)?;
    while !cluster.is_ready(node).await {
        cluster.expect_alive()?;
        ensure!(began.elapsed() < READY_MAX, "node {} is not ready", node + 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(began.elapsed())
}

/// What a node has of its memory in the machine's, in KiB.
fn resident_kib(cluster: &mut Cluster, node: usize) -> anyhow::Result<usize> {
    let id = cluster.process(node)?.id();
    let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("no VmRSS")?;
    Ok(kib.parse()?)
}

/// Clients who wait for their answer before they ask again: as many as saturate.
const WRITERS: usize = 64;
/// How long the peak is measured.
const PEAK: Duration = Duration::from_secs(20);
/// How long more is asked for than can be served.
const OVERLOAD: Duration = Duration::from_secs(180);
/// How many times the peak is asked for.
const TIMES: f64 = 3.0;
/// How much of that is sent at least: the clock of this program is not exact.
const ASKED_MIN: f64 = 2.9;
/// How long a client waits under overload.
const IMPATIENCE: Duration = Duration::from_secs(3);
/// Requests under way at once, each about a person of its own; a client who comes then is
/// turned away here, and was not asked for. More than the nodes take before they refuse,
/// and as many as there are descriptors for.
const UNDER_WAY_MAX: usize = 16_000;

/// What became of requests.
#[derive(Debug, Default)]
struct Answers {
    done: AtomicUsize,
    refused: AtomicUsize,
    silent: AtomicUsize,
    /// For want of a connection.
    unsent: AtomicUsize,
}

impl Answers {
    fn note(&self, reply: &Reply) {
        let count = match reply {
            Reply::Answered(answer) if answer.status.is_success() => &self.done,
            Reply::Answered(_) => &self.refused,
            Reply::Silence(_) => &self.silent,
            Reply::NotSent(_) => &self.unsent,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }

    /// Of so many requests that were begun, those that were sent in each second.
    fn asked_per_second(&self, begun: usize, time: Duration) -> f64 {
        let sent = begun.saturating_sub(self.unsent.load(Ordering::Relaxed));
        sent as f64 / time.as_secs_f64()
    }
}

/// R21: three times as much is asked for as can be served.
pub async fn overload(bench: &Bench) -> Lines {
    let mut cluster = Cluster::start(&Plan::new(&bench.binary, 3)).await?;
    let nodes = cluster.endpoints();
    let people = Arc::new(people(&nodes, UNDER_WAY_MAX).await?);
    let answers = Arc::new(Answers::default());

    let until = Instant::now() + PEAK;
    let mut working = JoinSet::new();
    for number in 0..WRITERS {
        let (node, people) = (nodes[number % nodes.len()].clone(), Arc::clone(&people));
        let answers = Arc::clone(&answers);
        working.spawn(async move {
            while Instant::now() < until {
                answers.note(&write(&node, &people[number]).await);
            }
        });
    }
    while let Some(ended) = working.join_next().await {
        ended?;
    }
    let peak = answers.done() as f64 / PEAK.as_secs_f64();
    (bench.say)(&format!("peak {peak:.0} writes/s"));
    ensure!(peak > 0.0, "nothing was written");

    let length = OVERLOAD * u32::try_from(bench.percent)? / 100;
    let began = Instant::now();
    let answers = Arc::new(Answers::default());
    let (mut begun, mut due) = (0, 0);
    let mut resident = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    // What is measured is load, not how many can write one row at a time: nobody is
    // written to by two requests at once.
    let mut idle: VecDeque<usize> = (0..UNDER_WAY_MAX).collect();
    let mut working = JoinSet::new();
    while began.elapsed() < length {
        pace.tick().await;
        while let Some(ended) = working.try_join_next() {
            idle.push_back(ended?);
        }
        let before = due;
        due = (began.elapsed().as_secs_f64() * peak * TIMES) as usize;
        for _ in before..due {
            let Some(at) = idle.pop_front() else { break };
            let node = nodes[begun % nodes.len()].patient(IMPATIENCE);
            let (people, answers) = (Arc::clone(&people), Arc::clone(&answers));
            working.spawn(async move {
                answers.note(&write(&node, &people[at]).await);
                at
            });
            begun += 1;
        }
        if due / 1000 != before / 1000 {
            for node in 0..nodes.len() {
                resident = resident.max(resident_kib(&mut cluster, node)?);
            }
        }
    }
    let time = began.elapsed();
    let asked = answers.asked_per_second(begun, time) / peak;
    (bench.say)(&format!(
        "{begun} of {due} requests begun, {} at the end: {answers:?}",
        working.len()
    ));
    let goodput = answers.done() as f64 / time.as_secs_f64();
    working.abort_all();
    while working.join_next().await.is_some() {}
    let calming = Instant::now();
    let calm = Duration::from_millis(250);
    // Every node answers a write quickly again.
    for node in &nodes {
        loop {
            let asked = Instant::now();
            if write(node, &people[0]).await.done().is_some() && asked.elapsed() < calm {
                break;
            }
            ensure!(calming.elapsed() < READY_MAX, "node {} stays slow", node.node + 1);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let recovery = calming.elapsed();
    cluster.expect_alive()?;
    let share = 100.0 * goodput / peak;
    Ok(vec![
        Line::new("R21.peak", peak, "writes/s", Bar::AtLeast(1.0)),
        Line::new("R21.asked", asked, "times the peak", Bar::AtLeast(ASKED_MIN)),
        Line::new("R21.goodput", share, "% of peak", Bar::AtLeast(80.0)),
        Line::new("R21.resident", resident as f64 / 1024.0, "MiB", Bar::Below(1024.0)),
        Line::ms("R21.recovery", recovery, Bar::Below(5_000.0)),
    ])
}

/// So many people, by their ids.
async fn people(nodes: &[Endpoint], count: usize) -> anyhow::Result<Vec<String>> {
    let mut people: Vec<String> = Vec::new();
    for first in (0..count * 2).step_by(BATCH) {
        // Whoever was there already is not told by id, and somebody else is made.
        let made = batch(&nodes[0], first, BATCH).await?;
        people.extend(made.iter().filter_map(|one| one["identity"].as_str().map(str::to_owned)));
        if people.len() >= count {
            return Ok(people);
        }
    }
    anyhow::bail!("{} people of {count} were made", people.len())
}

async fn write(node: &Endpoint, person: &str) -> Reply {
    let patch = json!([{"op": "add", "path": "/metadata_admin", "value": {"seen": node.node}}]);
    kratos::patch(node, person, &patch).await
}

/// R22: one load through seven phases.
pub async fn phases(bench: &Bench) -> Lines {
    let length = Duration::from_secs(60) * u32::try_from(bench.percent)? / 100;
    let run = adversity::of_bench(bench, length.max(Duration::from_secs(10))).await?;
    let mut lines = vec![broken("R22", &run.findings)];
    for passed in &run.phases {
        let name = passed.phase.to_string().replace(' ', "-");
        let bar = match passed.phase {
            Phase::Baseline => Bar::Is(100.0),
            // The clients of what is dead are lost with it; the others go on.
            Phase::ZoneLoss | Phase::RegionLoss => Bar::AtLeast(30.0),
            _ => Bar::AtLeast(50.0),
        };
        lines.push(Line::new(&format!("R22.{name}"), run.share(passed.phase), "% of writes", bar));
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_due_but_not_sent_was_not_asked_for() {
        let answers = Answers::default();
        answers.note(&Reply::NotSent("no descriptors".to_owned()));
        answers.note(&Reply::Silence("no answer".to_owned()));
        // A hundred were due, and eleven begun; one found no connection.
        let asked = answers.asked_per_second(11, Duration::from_secs(5));
        assert!((asked - 2.0).abs() < 1e-9, "{asked}");
        assert_eq!(answers.done(), 0);
    }

    #[test]
    fn a_batch_is_asked_for_at_both_ends() {
        assert_eq!(ends_of(0, 200), [0, 199]);
        assert_eq!(ends_of(1_000, 1), [1_000, 1_000]);
    }
}
