//! Rows about what operators do: replace, restart, add, back up and restore.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Lines, Load, SIZE, broken, load, unproved};
use crate::{
    check::session::Verdict,
    cluster::{Cluster, Plan},
    endpoint::Endpoint,
    kratos::{self, LoggedIn, Registered, Whoami},
    lab::Lab,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
};

/// How long before and after something is done load alone is measured.
const CALM: Duration = Duration::from_secs(10);
/// How long the cluster version may take to rise when every node knows the next.
const RAISE_MAX: Duration = Duration::from_secs(30);
/// How long a node that joins may take until it votes.
const JOINED_MAX: Duration = Duration::from_secs(150);
const PASSWORD: &str = "a hinge on which doors turn";

/// R15: a node's data is gone. It starts with an empty directory, joins as a new
/// node, and the old one is decommissioned: two commands.
pub async fn total_loss(bench: &Bench) -> Lines {
    let mut lab = Lab::start(bench.lab(Profile::Lan)).await?;
    let load = Load::begin(&lab, SIZE).await?;
    tokio::time::sleep(CALM / 2).await;
    let victim = 2;
    lab.cluster.kill(victim)?;
    let took = replace(&mut lab, victim).await?;
    tokio::time::sleep(CALM / 2).await;
    let findings = load.end(&mut lab, bench).await?;
    Ok(vec![broken("R15", &findings), Line::ms("R15.replaced", took, Bar::Below(60_000.0))])
}

/// Takes all its data from a node that is down, lets it join as a new one, and waits
/// until that votes everywhere; how long that took.
pub(super) async fn replace(lab: &mut Lab, victim: usize) -> anyhow::Result<Duration> {
    let asked = (victim + 1) % lab.cluster.nodes.len();
    let status = lab.cluster.status(asked).await?;
    // An address may be told of those that left, too: the last is who was there.
    let positions = lab.cluster.positions(&status);
    let id = positions.into_iter().filter(|(_, at)| *at == victim).map(|(id, _)| id).max();
    let id = id.context("the victim has no id")?;
    std::fs::remove_dir_all(&lab.cluster.nodes[victim].data)?;
    std::fs::create_dir(&lab.cluster.nodes[victim].data)?;
    let began = Instant::now();
    lab.cluster.launch(victim)?;
    let operator = lab.cluster.nodes[asked].endpoint.patient(Duration::from_secs(60));
    loop {
        let path = format!("/cluster/nodes/{id}/decommission");
        let reply = operator.send("POST", &path, &json!({"force": false})).await;
        if reply.done().is_some() {
            break;
        }
        ensure!(began.elapsed() < Duration::from_secs(240), "not let go: {reply:?}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    lab.settle().await?;
    await_voter_at(lab, victim, id, began).await?;
    Ok(began.elapsed())
}

/// Waits until the node at a position votes in every shard of three nodes, under
/// another id than `old`.
async fn await_voter_at(lab: &Lab, at: usize, old: u64, began: Instant) -> anyhow::Result<()> {
    loop {
        let status = lab.cluster.status(0).await?;
        let positions = lab.cluster.positions(&status);
        let is_new = |id: u64| id != old && positions.get(&id) == Some(&at);
        let votes = status.shards.iter().all(|shard| {
            shard.replicas.iter().any(|replica| replica.voter && is_new(replica.node))
        });
        if votes {
            return Ok(());
        }
        ensure!(began.elapsed() < Duration::from_secs(300), "the new node does not vote");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// R18: a cluster of an older binary is upgraded: every node is stopped by SIGTERM and
/// started with the newer one, one after the other, until the cluster version rises;
/// then all of them are once more restarted so.
pub async fn rolling(bench: &Bench) -> Lines {
    let mut plan = bench.lab(Profile::Lan);
    match &bench.older {
        Some(older) => plan.plan.binary = older.clone(),
        None => (bench.say)(
            "R18: no older binary, so nothing is upgraded; --older FILE names one that knows an \
             older cluster version",
        ),
    }
    let mut lab = Lab::start(plan).await?;
    let load = Load::begin(&lab, SIZE).await?;
    tokio::time::sleep(CALM).await;
    let version = lab.cluster.status(0).await?.version;
    let began = lab.run.now();
    for round in 0..2 {
        for node in 0..lab.cluster.nodes.len() {
            lab.cluster.stop(node).await?;
            lab.cluster.nodes[node].launch.binary = bench.binary.clone();
            lab.cluster.launch(node)?;
            lab.settle().await?;
        }
        if round == 0 && bench.older.is_some() {
            await_version(&lab, version, bench).await?;
        }
    }
    let raised = lab.cluster.status(0).await?.version - version;
    let ended = lab.run.now();
    tokio::time::sleep(CALM / 2).await;
    let worst = load.pulses.worst_gap(began, ended);
    let findings = load.end(&mut lab, bench).await?;
    Ok(vec![
        broken("R18", &findings),
        unproved("R18", &findings),
        Line::ms("R18.worst", worst, Bar::Below(1000.0)),
        Line::count(
            "R18.versions",
            1 + usize::from(bench.older.is_some()),
            "binaries",
            Bar::AtLeast(2.0),
        ),
        Line::new("R18.raised", raised, "cluster versions", Bar::AtLeast(1.0)),
    ])
}

/// Waits until the cluster version is above what it was; a pair of binaries that know
/// the same raises none, and the row says so.
async fn await_version(lab: &Lab, from: u32, bench: &Bench) -> anyhow::Result<()> {
    let began = Instant::now();
    while began.elapsed() < RAISE_MAX {
        let now = lab.cluster.status(0).await?.version;
        if now > from {
            let ms = began.elapsed().as_millis();
            (bench.say)(&format!("the cluster version rose from {from} to {now} after {ms} ms"));
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (bench.say)(&format!("the cluster version is still {from}: do the binaries know another?"));
    Ok(())
}

/// R19: a fourth node joins many identities under load, and takes over half of what the
/// node in its region has.
pub async fn join(bench: &Bench) -> Lines {
    let mut plan = bench.lab(Profile::Lan);
    plan.regions.push(0);
    let mut lab = Lab::start(plan).await?;
    let wanted = bench.part(1_000_000);
    let made = load::fill_all(&lab.cluster.endpoints(), wanted, bench).await?;
    let load = Load::begin(&lab, SIZE).await?;
    let calm = lab.run.now();
    tokio::time::sleep(CALM).await;
    let began = lab.run.now();
    let leaders = lab.cluster.leaders(0).await?;
    let node = lab.add_node()?;
    let started = Instant::now();
    lab.cluster.launch(node)?;
    lab.settle().await?;
    loop {
        let status = lab.cluster.status(0).await?;
        let positions = lab.cluster.positions(&status);
        let votes = status.shards.iter().filter(|shard| {
            let is_there = |at: u64| positions.get(&at) == Some(&node);
            shard.replicas.iter().any(|replica| replica.voter && is_there(replica.node))
        });
        let votes = votes.count();
        if votes >= status.shards.len() / 2 {
            break;
        }
        ensure!(started.elapsed() < JOINED_MAX, "the new node votes in {votes} shards alone");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = started.elapsed();
    let ended = lab.run.now();
    let status = lab.cluster.status(0).await?;
    let (positions, moved) = (lab.cluster.positions(&status), lab.cluster.leaders(0).await?);
    // To the new one it may have been handed over, for balance; and whose replica the new one
    // has now cannot lead.
    let kept = |group, at| moved.get(group).is_some_and(|now| *now == at || *now == node);
    let holds = |group: u64, at: usize| {
        let shard = status.shards.iter().find(|shard| shard.group == group);
        let mut replicas = shard.into_iter().flat_map(|shard| &shard.replicas);
        replicas.any(|replica| positions.get(&replica.node) == Some(&at))
    };
    let changed = leaders.iter().filter(|(group, at)| !kept(group, **at) && holds(**group, **at));
    let changed = changed.count();
    let before = load.pulses.p99(calm, began).context("no write before")?;
    let meanwhile = load.pulses.p99(began, ended).context("no write meanwhile")?;
    (bench.say)(&format!(
        "of a hundred writes 99 took {before:.1?} before, {meanwhile:.1?} in these {took:.1?}"
    ));
    let findings = load.end(&mut lab, bench).await?;
    let ratio = meanwhile.as_secs_f64() / before.as_secs_f64().max(1e-9);
    Ok(vec![
        broken("R19", &findings),
        unproved("R19", &findings),
        Line::count("R19.identities", made, "identities", Bar::AtLeast(wanted as f64)),
        Line::ms("R19.joined", took, Bar::Below(60_000.0)),
        Line::new("R19.p99", ratio, "times before", Bar::Below(2.0)),
        Line::count("R19.leaders-moved", changed, "shards", Bar::Is(0.0)),
    ])
}

struct Kept {
    identity: String,
    token: String,
    revoked: bool,
}

async fn somebody(node: &Endpoint, number: usize) -> anyhow::Result<Kept> {
    for _ in 0..50 {
        let email = format!("kept-{number}@example.org");
        let held = match kratos::register(node, &email, PASSWORD).await {
            Registered::Won(held) => Some(held),
            Registered::Taken => match kratos::log_in(node, &email, PASSWORD).await {
                LoggedIn::Held(held) => Some(held),
                _ => None,
            },
            _ => None,
        };
        if let Some(held) = held {
            let revoked = number % 2 == 1;
            if revoked {
                let reply = kratos::disable_session(node, &held.session).await;
                ensure!(reply.done().is_some(), "not revoked: {reply:?}");
            }
            return Ok(Kept { identity: held.identity, token: held.token, revoked });
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("nobody could register")
}

/// R20: into a new cluster; who was revoked stays so.
pub async fn restore(bench: &Bench) -> Lines {
    let mut old = Cluster::start(&Plan::new(&bench.binary, 3)).await?;
    let nodes = old.endpoints();
    let mut kept = Vec::new();
    for number in 0..bench.part(200) {
        kept.push(somebody(&nodes[number % nodes.len()], number).await?);
    }
    let folder = old.directory().join("backup").display().to_string();
    let patience = Duration::from_secs(120);
    let began = Instant::now();
    let archive = json!({"directory": folder, "keep_sessions": true});
    let saved = nodes[0].patient(patience).send("POST", "/cluster/backup", &archive).await;
    ensure!(saved.done().is_some(), "no backup: {saved:?}");
    let saving = began.elapsed();
    for node in 0..3 {
        old.stop(node).await?;
    }
    let new = Cluster::start(&Plan::new(&bench.binary, 3)).await?;
    let nodes = new.endpoints();
    let began = Instant::now();
    let restored = nodes[0].patient(patience).send("POST", "/cluster/restore", &archive).await;
    ensure!(restored.done().is_some(), "not restored: {restored:?}");
    let restoring = began.elapsed();
    let (mut lost, mut resurrected) = (0, 0);
    for kept in &kept {
        for node in &nodes {
            let read = kratos::read_identity(node, &kept.identity).await;
            let seen = kratos::whoami(node, &kept.token).await;
            let accepted = seen == Whoami::Verdict(Verdict::Accepted);
            lost += usize::from(read.done().is_none() || !kept.revoked && !accepted);
            resurrected += usize::from(kept.revoked && accepted);
        }
    }
    let checked = Bar::AtLeast(1.0);
    Ok(vec![
        Line::count("R20.lost", lost, "answers", Bar::Is(0.0)),
        Line::count("R20.resurrected", resurrected, "sessions", Bar::Is(0.0)),
        Line::count("R20.checked", kept.len(), "identities", checked),
        Line::ms("R20.backup", saving, Bar::Below(60_000.0)),
        Line::ms("R20.restore", restoring, Bar::Below(60_000.0)),
    ])
}
