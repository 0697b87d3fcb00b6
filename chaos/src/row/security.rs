//! Security state over dying leaders: what may be used once is used once, what was
//! revoked stays revoked, and guesses are counted by the cluster, not by the node.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::join_all;
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
    /// Rounds in which one of those who redeemed was told a token.
    won: usize,
    winners_too_many: usize,
    winners_missing: usize,
    revoked: usize,
    /// Of these, with the leader killed right behind.
    revoked_over_kills: usize,
    /// Nodes that were asked for what was revoked, and those of them that refused it.
    asked_after: usize,
    refused_after: usize,
    resurrected: usize,
    /// Guesses that were looked at.
    guesses: usize,
    guesses_over_kills: usize,
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
    Ok(lines(&seen, bench.part(60)))
}

fn lines(seen: &Seen, rounds: usize) -> Vec<Line> {
    // Every other round, from the first on, has a kill. Nothing disturbs the rest: each
    // must have what it is about, so that those with a kill may lack it now and then.
    let killed = seen.rounds.div_ceil(2);
    let calm = seen.rounds - killed;
    let at_least = |count: usize| Bar::AtLeast(count.max(1) as f64);
    vec![
        Line::count("R23.rounds", seen.rounds, "rounds", Bar::AtLeast(rounds as f64)),
        Line::count("R23.kills", seen.kills, "kills", Bar::AtLeast(1.0)),
        Line::count("R23.won", seen.won, "rounds", at_least(killed)),
        Line::count("R23.used-twice", seen.winners_too_many, "flows", Bar::Is(0.0)),
        Line::count("R23.lost", seen.winners_missing, "sessions", Bar::Is(0.0)),
        Line::count("R23.revoked", seen.revoked, "sessions", at_least(killed)),
        Line::count("R23.revoked-over-kills", seen.revoked_over_kills, "sessions", at_least(1)),
        Line::count("R23.refused-after", seen.refused_after, "nodes", at_least(seen.asked_after)),
        Line::count("R23.resurrected", seen.resurrected, "sessions", Bar::Is(0.0)),
        Line::count("R23.guesses", seen.guesses, "guesses", at_least(calm * FREE_ATTEMPTS)),
        Line::count(
            "R23.guesses-over-kills",
            seen.guesses_over_kills,
            "guesses",
            // Some are charged, and their answers die with the node.
            at_least(killed),
        ),
        Line::count("R23.guessed-too-often", seen.guesses_too_many, "accounts", Bar::Is(0.0)),
    ]
}

async fn round(
    lab: &mut Lab,
    number: usize,
    dice: &mut Dice,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    lab.settle().await?;
    let email = lab.run.fresh_email("single");
    let identity = create(&lab.run, &email).await?;
    let kills = number.is_multiple_of(2);
    let (tokens, sessions) = redeem(lab, (&email, &identity), kills, dice, seen).await?;
    if let (Some(token), Some(session)) = (tokens.first(), sessions.first()) {
        revoke(lab, (&identity, session, token), kills, dice, seen).await?;
    }
    guess(lab, number, kills, dice, seen).await
}

/// One flow, completed by many at once; the tokens that they were told, and the sessions
/// that there are.
async fn redeem(
    lab: &mut Lab,
    (email, identity): (&str, &str),
    kills: bool,
    dice: &mut Dice,
    seen: &mut Seen,
) -> anyhow::Result<(Vec<String>, Vec<String>)> {
    let run = Arc::clone(&lab.run);
    let (_, leader) = lab.cluster.home_of(identity, 0).await?;
    let asked = run.any_node(dice).clone();
    let flow = begin(&asked).await?;
    let mut redeeming = JoinSet::new();
    for at in 0..AT_ONCE {
        let node = run.nodes[at % run.nodes.len()].clone();
        redeeming.spawn(submit(node, flow.clone(), email.to_owned(), PASSWORD));
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
    let sessions = sessions(&run, identity).await?;
    seen.won += usize::from(tokens.len() == 1);
    seen.winners_too_many += usize::from(sessions.len() > 1 || tokens.len() > 1);
    for token in &tokens {
        let verdict = ask_until_answered(&run.nodes[0], token).await;
        seen.winners_missing += usize::from(verdict != Some(Verdict::Accepted));
    }
    Ok((tokens, sessions))
}

/// A session is revoked, and the leader dies: no node accepts it any more, neither those
/// that live on, asked at once, nor all of them once they are back.
async fn revoke(
    lab: &mut Lab,
    (identity, session, token): (&str, &str, &str),
    kills: bool,
    dice: &mut Dice,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let run = Arc::clone(&lab.run);
    let reply = kratos::disable_session(run.any_node(dice), session).await;
    let revoked = reply.done().is_some();
    seen.revoked += usize::from(revoked);
    let mut dead = None;
    if kills {
        let (_, leader) = lab.cluster.home_of(identity, 0).await?;
        lab.cluster.kill(leader)?;
        seen.kills += 1;
        seen.revoked_over_kills += usize::from(revoked);
        dead = Some(leader);
    }
    let alive = run.nodes.iter().filter(|node| Some(node.node) != dead);
    if revoked {
        expect_refused(alive, token, seen).await;
    }
    lab.cluster.launch_all()?;
    lab.settle().await?;
    if revoked {
        expect_refused(run.nodes.iter(), token, seen).await;
    }
    Ok(())
}

async fn expect_refused(nodes: impl Iterator<Item = &Endpoint>, token: &str, seen: &mut Seen) {
    for verdict in join_all(nodes.map(|node| ask_until_answered(node, token))).await {
        seen.asked_after += 1;
        seen.refused_after += usize::from(verdict == Some(Verdict::Refused));
        seen.resurrected += usize::from(verdict == Some(Verdict::Accepted));
    }
}

/// Guesses at an account that nobody logged in to, on all nodes at once.
async fn guess(
    lab: &mut Lab,
    number: usize,
    kills: bool,
    dice: &mut Dice,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let email = lab.run.fresh_email("guessed");
    let identity = create(&lab.run, &email).await?;
    let (_, leader) = lab.cluster.home_of(&identity, 0).await?;
    // Failures are counted by source, too. One place alone would fail so often that it is
    // refused whatever it asks; those who log in are at another, where nobody guesses.
    let stand = &lab.stands[number % lab.stands.len()];
    let began = Instant::now();
    let guessing: Vec<_> = (0..AT_ONCE)
        .map(|at| {
            let node = stand.run.nodes[at % stand.run.nodes.len()].clone();
            let email = email.clone();
            stand.handle.spawn(async move {
                let mut looked_at = 0;
                for guess in 0..2 {
                    let wrong = format!("no hinge {at} {guess}");
                    looked_at += usize::from(
                        kratos::log_in(&node, &email, &wrong).await == LoggedIn::WrongCredentials,
                    );
                }
                looked_at
            })
        })
        .collect();
    if kills {
        tokio::time::sleep(dice.pause_ms(5, 250)).await;
        lab.cluster.kill(leader)?;
        seen.kills += 1;
    }
    let mut looked_at = 0;
    for count in join_all(guessing).await {
        looked_at += count?;
    }
    let guesses = if kills { &mut seen.guesses_over_kills } else { &mut seen.guesses };
    *guesses += looked_at;
    seen.guesses_too_many += usize::from(looked_at > allowed_within(began.elapsed()));
    lab.cluster.launch_all()?;
    Ok(())
}

/// How many guesses may be looked at: after the free ones each doubles the wait, from a
/// second on.
fn allowed_within(time: Duration) -> usize {
    let mut allowed = FREE_ATTEMPTS;
    let (mut waited, mut wait) = (0.0, 1.0);
    while waited <= time.as_secs_f64() {
        allowed += 1;
        waited += wait;
        wait *= 2.0;
    }
    allowed
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

async fn ask_until_answered(node: &Endpoint, token: &str) -> Option<Verdict> {
    for _ in 0..100 {
        if let Whoami::Verdict(verdict) = kratos::whoami(node, token).await {
            return Some(verdict);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(seen: &Seen) -> Vec<String> {
        let lines = lines(seen, 4);
        lines.iter().filter(|line| !line.is_good()).map(|line| line.name.clone()).collect()
    }

    #[test]
    fn rounds_in_which_nobody_logs_in_or_guesses_prove_nothing() {
        let nothing = Seen { rounds: 4, kills: 6, ..Seen::default() };
        assert_eq!(
            failing(&nothing),
            [
                "R23.won",
                "R23.revoked",
                "R23.revoked-over-kills",
                "R23.refused-after",
                "R23.guesses",
                "R23.guesses-over-kills"
            ]
        );
        let good = Seen {
            won: 3,
            revoked: 3,
            revoked_over_kills: 1,
            asked_after: 17,
            refused_after: 17,
            guesses: 2 * FREE_ATTEMPTS,
            guesses_over_kills: 2,
            ..nothing
        };
        assert_eq!(failing(&good), Vec::<String>::new());
        // A node that did not answer has not refused.
        assert_eq!(failing(&Seen { refused_after: 16, ..good }), ["R23.refused-after"]);
    }

    #[test]
    fn each_guess_after_the_free_ones_is_waited_for() {
        assert_eq!(allowed_within(Duration::ZERO), FREE_ATTEMPTS + 1);
        assert_eq!(allowed_within(Duration::from_millis(999)), FREE_ATTEMPTS + 1);
        assert_eq!(allowed_within(Duration::from_secs(1)), FREE_ATTEMPTS + 2);
        assert_eq!(allowed_within(Duration::from_secs(3)), FREE_ATTEMPTS + 3);
    }
}
