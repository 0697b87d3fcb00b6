//! Security state over dying leaders: what may be used once is used once, what was
//! revoked stays revoked, and guesses are counted by the cluster, not by the node.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::Lines;
use crate::{
    check::session::Verdict,
    dice::Dice,
    endpoint::{Call, Endpoint, Reply, Side},
    kratos::{self, LoggedIn, Whoami},
    lab::Lab,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
    workload::Run,
};

/// Who redeems one thing at once.
const AT_ONCE: usize = 16;
const PASSWORD: &str = "a hinge on which doors turn";
/// No round begins after this.
const LENGTH_MAX: Duration = Duration::from_secs(450);
/// Attempts at an account that nothing slows down, as `cardea-identity` has it.
const FREE_ATTEMPTS: usize = 5;

#[derive(Debug, Default)]
struct Seen {
    rounds: usize,
    kills: usize,
    winners_too_many: usize,
    winners_missing: usize,
    resurrected: usize,
    guesses_too_many: usize,
}

/// R23: rounds of a login flow that many complete at once, a revocation, and guesses
/// at a password, with a leader killed in every other one.
pub async fn security(bench: &Bench) -> Lines {
    let plan = bench.lab(Profile::Lan);
    let mut lab = Lab::start(plan).await?;
    let mut dice = Dice::new(bench.seed);
    let mut seen = Seen::default();
    let began = Instant::now();
    for number in 0..bench.part(60) {
        if began.elapsed() > LENGTH_MAX {
            break;
        }
        round(&mut lab, number, &mut dice, &mut seen).await?;
        seen.rounds += 1;
        (bench.say)(&format!("round {}: {seen:?}", number + 1));
    }
    Ok(vec![
        Line::count("R23.rounds", seen.rounds, "rounds", Bar::AtLeast(bench.part(60) as f64)),
        Line::count("R23.kills", seen.kills, "kills", Bar::AtLeast(1.0)),
        Line::count("R23.used-twice", seen.winners_too_many, "flows", Bar::Is(0.0)),
        Line::count("R23.lost", seen.winners_missing, "sessions", Bar::Is(0.0)),
        Line::count("R23.resurrected", seen.resurrected, "sessions", Bar::Is(0.0)),
        Line::count("R23.guessed-too-often", seen.guesses_too_many, "accounts", Bar::Is(0.0)),
    ])
}

async fn round(
    lab: &mut Lab,
    number: usize,
    dice: &mut Dice,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    lab.settle().await?;
    let run = Arc::clone(&lab.run);
    let email = run.fresh_email("single");
    let identity = create(&run, &email).await?;
    let (_, leader) = lab.cluster.home_of(&identity, 0).await?;
    let kills = number.is_multiple_of(2);

    // One flow, completed by many at once.
    let asked = run.any_node(dice).clone();
    let flow = begin(&asked).await?;
    let mut redeeming = JoinSet::new();
    for at in 0..AT_ONCE {
        let node = run.nodes[at % run.nodes.len()].clone();
        redeeming.spawn(submit(node, flow.clone(), email.clone(), PASSWORD));
    }
    if kills {
        tokio::time::sleep(dice.pause_ms(5, 250)).await;
        lab.cluster.kill(leader)?;
        seen.kills += 1;
    }
    let mut tokens = Vec::new();
    while let Some(reply) = redeeming.join_next().await {
        let reply = reply?;
        tokens.extend(
            reply.done().and_then(|body| body["session_token"].as_str().map(str::to_owned)),
        );
    }
    lab.cluster.launch_all()?;
    lab.settle().await?;
    let sessions = sessions(&run, &identity).await?;
    seen.winners_too_many += usize::from(sessions.len() > 1 || tokens.len() > 1);
    for token in &tokens {
        let accepted = ask_until_answered(&run.nodes[0], token).await;
        seen.winners_missing += usize::from(accepted != Some(true));
    }

    // Revoked, and the leader dies.
    if let (Some(token), Some(session)) = (tokens.first(), sessions.first()) {
        let reply = kratos::disable_session(run.any_node(dice), session).await;
        let revoked = reply.done().is_some();
        if kills {
            let (_, leader) = lab.cluster.home_of(&identity, 0).await?;
            lab.cluster.kill(leader)?;
            seen.kills += 1;
        }
        if revoked {
            for node in &run.nodes {
                let seen_now = kratos::whoami(node, token).await;
                let accepted = seen_now == Whoami::Verdict(Verdict::Accepted);
                seen.resurrected += usize::from(accepted);
            }
        }
        lab.cluster.launch_all()?;
        lab.settle().await?;
    }

    // Guesses at an account that nobody logged in to, on all nodes at once.
    let email = run.fresh_email("guessed");
    let identity = create(&run, &email).await?;
    let (_, leader) = lab.cluster.home_of(&identity, 0).await?;
    let began = Instant::now();
    let mut guessing = JoinSet::new();
    for at in 0..AT_ONCE {
        let (node, email) = (run.nodes[at % run.nodes.len()].clone(), email.clone());
        guessing.spawn(async move {
            let mut looked_at = 0;
            for guess in 0..2 {
                let wrong = format!("no hinge {at} {guess}");
                looked_at += usize::from(
                    kratos::log_in(&node, &email, &wrong).await == LoggedIn::WrongCredentials,
                );
            }
            looked_at
        });
    }
    if kills {
        tokio::time::sleep(dice.pause_ms(5, 250)).await;
        lab.cluster.kill(leader)?;
        seen.kills += 1;
    }
    let mut looked_at = 0;
    while let Some(count) = guessing.join_next().await {
        looked_at += count?;
    }
    // After the free ones each attempt doubles the wait, from a second on.
    let mut allowed = FREE_ATTEMPTS;
    let (mut waited, mut wait) = (0.0, 1.0);
    while waited <= began.elapsed().as_secs_f64() {
        allowed += 1;
        waited += wait;
        wait *= 2.0;
    }
    seen.guesses_too_many += usize::from(looked_at > allowed);
    lab.cluster.launch_all()?;
    Ok(())
}

async fn create(run: &Run, email: &str) -> anyhow::Result<String> {
    let body = json!({
        "schema_id": "",
        "traits": {"email": email},
        "credentials": {"password": {"config": {"password": PASSWORD}}},
    });
    for node in run.nodes.iter().cycle().take(60) {
        let reply = node.send("POST", "/admin/identities", &body).await;
        if let Some(id) = reply.done().and_then(|body| body["id"].as_str()) {
            return Ok(id.to_owned());
        }
        if reply.status() == 409 {
            // The attempt before was of unknown outcome.
            let held = kratos::holders(node, email).await;
            if let Some(id) = held.and_then(|held| held.into_iter().next()) {
                return Ok(id);
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("no identity could be made")
}

async fn begin(node: &Endpoint) -> anyhow::Result<String> {
    for _ in 0..60 {
        let reply = node.get(Side::Public, "/self-service/login/api").await;
        if let Some(id) = reply.done().and_then(|body| body["id"].as_str()) {
            return Ok(id.to_owned());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("no flow could be begun")
}

async fn submit(node: Endpoint, flow: String, email: String, password: &'static str) -> Reply {
    let path = format!("/self-service/login?flow={flow}");
    let body = json!({"method": "password", "identifier": email, "password": password});
    let call =
        Call { side: Side::Public, method: "POST", path: &path, body: Some(&body), token: None };
    node.call(call).await
}

async fn sessions(run: &Run, identity: &str) -> anyhow::Result<Vec<String>> {
    let path = format!("/admin/identities/{identity}/sessions");
    for node in run.nodes.iter().cycle().take(60) {
        let reply = node.get(Side::Admin, &path).await;
        if let Some(items) = reply.done().and_then(|body| body.as_array()) {
            let id = |item: &serde_json::Value| item["id"].as_str().map(str::to_owned);
            return items.iter().map(id).collect::<Option<_>>().context("a session without an id");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("no node lists sessions")
}

async fn ask_until_answered(node: &Endpoint, token: &str) -> Option<bool> {
    for _ in 0..100 {
        if let Whoami::Verdict(verdict) = kratos::whoami(node, token).await {
            return Some(verdict == Verdict::Accepted);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}
