//! Identifiers that are claimed by several at once, on different nodes, by the
//! native registration and by an operator.

use std::sync::Arc;

use serde_json::Value;

use super::Run;
use crate::{
    check::identifier::{Claim, Claimed, Contest},
    dice::Dice,
    endpoint::Endpoint,
    history::Fate,
    kratos::{self, Registered},
};

/// How an identifier is claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By the native registration flow.
    Registration,
    /// By an operator's `createIdentity` with a password.
    Creation,
}

/// Holds one contest after the other until the run stops.
pub async fn compete(run: Arc<Run>, mut dice: Dice) {
    while !run.is_stopped() {
        let first = dice.below(run.nodes.len());
        let second = (first + 1 + dice.below(run.nodes.len().max(2) - 1)) % run.nodes.len();
        let way = if dice.percent(50) { Way::Registration } else { Way::Creation };
        let contest = hold(&run, &[(first, Way::Registration), (second, way)]).await;
        run.note(|ledger| ledger.contests.push(contest));
        tokio::time::sleep(dice.pause_ms(50, 300)).await;
    }
}

/// Claims one identifier in these ways at once. Who holds it is asked later.
pub async fn hold(run: &Run, claims: &[(usize, Way)]) -> Contest {
    let identifier = run.fresh_email("contest");
    let claims = claims.iter().map(|(node, way)| claim(run, &run.nodes[*node], *way, &identifier));
    let claims = futures::future::join_all(claims).await;
    Contest { identifier, claims, holders: Vec::new() }
}

async fn claim(run: &Run, node: &Endpoint, way: Way, identifier: &str) -> Claim {
    let began = run.now();
    let claimed = match way {
        Way::Registration => register(run, node, identifier).await,
        Way::Creation => create(run, node, identifier).await,
    };
    Claim { node: node.node, span: run.since(began), claimed }
}

async fn register(run: &Run, node: &Endpoint, identifier: &str) -> Claimed {
    match kratos::register(node, identifier, "first come, first served").await {
        Registered::Won(held) => Claimed::Won(held.identity),
        Registered::Taken => Claimed::Taken,
        Registered::NotDone => Claimed::NotDone,
        Registered::Unknown => Claimed::Unknown,
        Registered::Odd(what) => {
            run.note_odd(node.node, &format!("contested registration: {what}"));
            Claimed::Unknown
        }
    }
}

async fn create(run: &Run, node: &Endpoint, identifier: &str) -> Claimed {
    let body = serde_json::json!({
        "schema_id": "",
        "traits": {"email": identifier},
        "credentials": {"password": {"config": {"password": "first come, first served"}}},
    });
    let reply = node.send("POST", "/admin/identities", &body).await;
    match (reply.status(), reply.done().and_then(|body| body["id"].as_str())) {
        (_, Some(id)) => Claimed::Won(id.to_owned()),
        (409, _) => Claimed::Taken,
        _ => {
            if reply.is_odd() || reply.done() == Some(&Value::Null) {
                run.note_odd(node.node, &format!("contested creation: {reply:?}"));
            }
            match reply.fate() {
                Fate::NotDone => Claimed::NotDone,
                _ => Claimed::Unknown,
            }
        }
    }
}

/// Asks every node who holds the identifier, until each has answered or `tries`
/// are spent.
pub async fn ask_holders(run: &Run, contest: &mut Contest, tries: usize) {
    for node in &run.nodes {
        for _ in 0..tries {
            if let Some(holders) = kratos::holders(node, &contest.identifier).await {
                contest.holders.push((node.node, holders));
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}
