//! A region that is cut off, as its own clients see it: every question is answered,
//! with an error, within a bound, and nothing is acknowledged that the others have not.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use futures::future::join_all;
use serde_json::{Value, json};

use super::Lines;
use crate::{
    endpoint::{Call, Endpoint, Reply, Side},
    kratos::{self, Registered},
    lab::Lab,
    scoreboard::{Bar, Bench, Line},
    wan::profile::Profile,
    workload::pulse,
};

/// From when on each question is asked again, after the cut; the first of them while
/// nobody has noticed.
const ROUNDS_MS: [u64; 7] = [0, 300, 1_000, 2_500, 4_000, 8_000, 12_000];
/// How long a client waits: longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(45);
/// What `docs/operating.md` promises: how long an answer may take however it is asked,
/// and once nodes that were cut off have noticed.
const ANSWERED_MAX_MS: f64 = 11_000.0;
const NOTICED_AFTER: Duration = Duration::from_millis(2_500);
const REFUSED_MAX_MS: f64 = 500.0;

/// A question that needs the cluster.
#[derive(Debug, Clone)]
struct Question {
    what: &'static str,
    side: Side,
    method: &'static str,
    path: String,
    body: Value,
    token: Option<String>,
}

/// What was answered, and when.
#[derive(Debug)]
struct Answered {
    what: &'static str,
    asked_after: Duration,
    took: Duration,
    reply: Reply,
}

/// The row `cut-off`.
pub async fn cut_off(bench: &Bench) -> Lines {
    let lab = Lab::start(bench.lab(Profile::Three)).await?;
    let region = 0;
    let node = lab.nodes_of(region).first().copied().context("a region without a node")?;
    let stand = &lab.stands[region];
    let client = stand.run.nodes[node].patient(PATIENCE);
    let homes = pulse::find_homes(&lab.run, &lab.cluster.status(node).await?).await?;
    let (email, password) = ("cut@example.org", "a hinge on which doors turn");
    let held = loop {
        match kratos::register(&lab.run.nodes[node], email, password).await {
            Registered::Won(held) => break held,
            Registered::Odd(what) => anyhow::bail!("{what}"),
            _ => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    };
    let questions = Arc::new(questions(&homes, &held.token));
    for question in questions.iter() {
        let reply = ask(&lab.run.nodes[node], question, 0).await;
        ensure!(
            reply.done().is_some(),
            "{} is not answered before the cut: {reply:?}",
            question.what
        );
    }

    lab.wan.cut(&lab.wan.around_region(region));
    let cut = Instant::now();
    let rounds = ROUNDS_MS.into_iter().zip(1..).map(|(after, round)| {
        let (questions, client) = (Arc::clone(&questions), client.clone());
        stand.handle.spawn(async move {
            tokio::time::sleep(Duration::from_millis(after).saturating_sub(cut.elapsed())).await;
            join_all(questions.iter().map(|question| async {
                let asked_after = cut.elapsed();
                let reply = ask(&client, question, round).await;
                let took = cut.elapsed().saturating_sub(asked_after);
                Answered { what: question.what, asked_after, took, reply }
            }))
            .await
        })
    });
    let mut answers = Vec::new();
    for round in join_all(rounds).await {
        answers.extend(round?);
    }
    lab.wan.heal();
    tell(bench, &answers);
    let back = Instant::now();
    for question in questions.iter() {
        // Every creation is of somebody else; what a round made late is no answer here.
        while ask(&lab.run.nodes[node], question, ROUNDS_MS.len() + 1).await.done().is_none() {
            ensure!(back.elapsed() < PATIENCE, "{} is not answered again", question.what);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut lines = lines(&answers);
    lines.push(Line::ms("cut-off.back", back.elapsed(), Bar::Below(5_000.0)));
    Ok(lines)
}

fn questions(homes: &pulse::Homes, token: &str) -> Vec<Question> {
    let mut questions = Vec::new();
    let mut add = |what, side, method, path: &str, body| {
        let token = Some(token.to_owned()).filter(|_| what == "whoami");
        questions.push(Question { what, side, method, path: path.to_owned(), body, token });
    };
    for (identity, _) in homes.values().filter_map(|made| made.first()) {
        let path = format!("/admin/identities/{identity}");
        let seen = json!([{"op": "add", "path": "/metadata_admin/seen", "value": true}]);
        add("a write", Side::Admin, "PATCH", &path, seen);
        add("a read", Side::Admin, "GET", &path, Value::Null);
    }
    let creation = json!({"schema_id": "", "traits": {"email": "NEW"}});
    add("a creation", Side::Admin, "POST", "/admin/identities", creation);
    add("a list", Side::Admin, "GET", "/admin/identities?page_size=10", Value::Null);
    add("whoami", Side::Public, "GET", "/sessions/whoami", Value::Null);
    add("a flow", Side::Public, "GET", "/self-service/login/api", Value::Null);
    questions
}

async fn ask(node: &Endpoint, question: &Question, round: usize) -> Reply {
    let text = question.body.to_string().replace("NEW", &format!("new-{round}@example.org"));
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    node.call(Call {
        side: question.side,
        method: question.method,
        path: &question.path,
        body: Some(&body).filter(|body| !body.is_null()),
        token: question.token.as_deref(),
    })
    .await
}

/// What was said to each kind of question, and how long it took at most.
fn tell(bench: &Bench, answers: &[Answered]) {
    let mut said: BTreeMap<&str, (BTreeSet<String>, Duration, Duration)> = BTreeMap::new();
    for answer in answers {
        let (what, early, late) = said.entry(answer.what).or_default();
        what.insert(match &answer.reply {
            Reply::Answered(told) => {
                let id = told.body["error"]["id"].as_str().unwrap_or("no error");
                format!("{} {id}", told.status.as_u16())
            }
            other => format!("{other:?}"),
        });
        let worst = if answer.asked_after < NOTICED_AFTER { early } else { late };
        *worst = answer.took.max(*worst);
    }
    for (question, (what, early, late)) in said {
        (bench.say)(&format!(
            "{question}: {}; {} ms at most, {} ms once it was noticed",
            what.into_iter().collect::<Vec<_>>().join(", "),
            early.as_millis(),
            late.as_millis()
        ));
    }
}

fn lines(answers: &[Answered]) -> Vec<Line> {
    let count = |wanted: &dyn Fn(&Answered) -> bool| answers.iter().filter(|a| wanted(a)).count();
    let worst = |from: Duration| {
        let asked = answers.iter().filter(|answer| answer.asked_after >= from);
        asked.map(|answer| answer.took).max().unwrap_or(Duration::MAX)
    };
    let silent = count(&|answer| answer.reply.status() == 0);
    let done = count(&|answer| answer.reply.done().is_some());
    let says_so = |answer: &Answered| {
        let told = answer.reply.with_status(503);
        told.is_some_and(|told| {
            let unknown = told.body["error"]["id"] == "outcome_unknown";
            told.body["error"]["id"] == "cluster_unavailable" && told.retry_after || unknown
        })
    };
    let odd = count(&|answer| answer.reply.done().is_none() && !says_so(answer));
    vec![
        Line::count("cut-off.asked", answers.len(), "questions", Bar::AtLeast(1.0)),
        Line::count("cut-off.silent", silent, "questions", Bar::Is(0.0)),
        Line::count("cut-off.done", done, "questions", Bar::Is(0.0)),
        Line::count("cut-off.odd", odd, "answers", Bar::Is(0.0)),
        Line::ms("cut-off.worst", worst(Duration::ZERO), Bar::Below(ANSWERED_MAX_MS)),
        Line::ms("cut-off.noticed", worst(NOTICED_AFTER), Bar::Below(REFUSED_MAX_MS)),
    ]
}
