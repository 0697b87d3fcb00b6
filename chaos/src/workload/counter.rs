//! Registers that several clients read, write and swap through different nodes:
//! a number in an identity's public metadata, swapped by a JSON Patch with a
//! `test` before the `replace`. A register is given up after a while for a new
//! one, so that its history stays small enough to be checked.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Run, crowd::Stand};
use crate::{
    check::register::{Input, Operation, Output},
    dice::Dice,
    endpoint::{Endpoint, Reply},
    history::Fate,
    kratos,
};

/// Clients of one register.
const CLIENTS: usize = 3;
/// Operations on one register.
const OPERATIONS: usize = 240;
/// Operations of unknown outcome that one register may bear.
const UNKNOWN_MAX: usize = 10;

struct Register {
    identity: String,
    history: Mutex<Vec<Operation>>,
    unknown: AtomicUsize,
    next_value: AtomicU64,
}

/// Uses one register after the other until the run stops, from each of these
/// stands in turn.
pub async fn count(stands: Vec<Stand>, mut dice: Dice) {
    let Some(run) = stands.first().map(|stand| Arc::clone(&stand.run)) else { return };
    while !run.is_stopped() {
        let node = run.any_node(&mut dice);
        let email = run.fresh_email("register");
        let made = kratos::create_identity(node, &email, &json!({"r": 0})).await;
        let Some(identity) = made.done().and_then(|body| body["id"].as_str()) else {
            if made.is_odd() {
                run.note_odd(node.node, &format!("creation of a register: {made:?}"));
            }
            tokio::time::sleep(dice.pause_ms(10, 50)).await;
            continue;
        };
        let register = Arc::new(Register {
            identity: identity.to_owned(),
            history: Mutex::default(),
            unknown: AtomicUsize::new(0),
            next_value: AtomicU64::new(1),
        });
        let mut clients = JoinSet::new();
        for (client, stand) in (0..CLIENTS).zip(stands.iter().cycle()) {
            let (run, register) = (Arc::clone(&stand.run), Arc::clone(&register));
            clients.spawn_on(use_register(run, register, client, dice.split()), &stand.handle);
        }
        while clients.join_next().await.is_some() {}
        let history = std::mem::take(&mut *register.history.lock());
        run.note(|ledger| ledger.registers.push((register.identity.clone(), history)));
    }
}

async fn use_register(run: Arc<Run>, register: Arc<Register>, client: usize, mut dice: Dice) {
    let mut known = 0;
    while !run.is_stopped()
        && register.history.lock().len() < OPERATIONS
        && register.unknown.load(Ordering::Relaxed) < UNKNOWN_MAX
    {
        let node = run.any_node(&mut dice);
        let fresh = || register.next_value.fetch_add(1, Ordering::Relaxed);
        let input = match dice.below(10) {
            0..4 => Input::Read,
            4..6 => Input::Write(fresh()),
            _ => Input::Swap { from: known, to: fresh() },
        };
        let began = run.now();
        let reply = ask(node, &register.identity, input).await;
        let span = run.since(began);
        let output = match conclude(input, &reply) {
            Ok(Some(output)) => output,
            Ok(None) => continue,
            Err(odd) => {
                run.note_odd(node.node, &format!("{input:?} on {}: {odd}", register.identity));
                continue;
            }
        };
        match (input, output) {
            (_, Output::Value(value)) => known = value,
            (Input::Write(to) | Input::Swap { to, .. }, Output::Done) => known = to,
            _ => {}
        }
        if output == Output::Unknown {
            register.unknown.fetch_add(1, Ordering::Relaxed);
        }
        register.history.lock().push(Operation { client, node: node.node, input, output, span });
        tokio::time::sleep(dice.pause_ms(5, 40)).await;
    }
}

async fn ask(node: &Endpoint, identity: &str, input: Input) -> Reply {
    let path = "/metadata_public/r";
    match input {
        Input::Read => kratos::read_identity(node, identity).await,
        Input::Write(to) => {
            kratos::patch(node, identity, &json!([{"op": "replace", "path": path, "value": to}]))
                .await
        }
        Input::Swap { from, to } => {
            let patch = json!([
                {"op": "test", "path": path, "value": from},
                {"op": "replace", "path": path, "value": to},
            ]);
            kratos::patch(node, identity, &patch).await
        }
    }
}

/// What the model is told; `None`: nothing happened and nothing was learnt.
fn conclude(input: Input, reply: &Reply) -> Result<Option<Output>, String> {
    let held = reply.done().map(|body| body["metadata_public"]["r"].as_u64());
    match (input, held) {
        (Input::Read, Some(Some(value))) => return Ok(Some(Output::Value(value))),
        // The answer to a write shows the identity as it became.
        (Input::Write(to) | Input::Swap { to, .. }, Some(held)) if held == Some(to) => {
            return Ok(Some(Output::Done));
        }
        (_, Some(_)) => return Err(format!("an answer without the value: {reply:?}")),
        (_, None) => {}
    }
    let differs = reply
        .with_status(400)
        .is_some_and(|answer| answer.body.to_string().contains("does not apply"));
    match input {
        Input::Swap { .. } if differs => Ok(Some(Output::Differs)),
        _ if reply.is_odd() => Err(format!("{reply:?}")),
        Input::Read => Ok(None),
        _ => Ok((reply.fate() == Fate::Unknown).then_some(Output::Unknown)),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::{Value, json};

    use super::*;
    use crate::endpoint::Answer;

    fn answer(status: u16, retry_after: bool, body: Value) -> Reply {
        let status = StatusCode::from_u16(status).unwrap();
        Reply::Answered(Answer { status, body, retry_after })
    }

    #[test]
    fn answers_become_what_the_model_knows() {
        let held = |r: u64| answer(200, false, json!({"metadata_public": {"r": r}}));
        let differs =
            answer(400, false, json!({"error": {"message": "the patch does not apply: x"}}));
        let busy = answer(503, true, Value::Null);
        let silence = Reply::Silence("gone".to_owned());
        let swap = Input::Swap { from: 1, to: 2 };
        let cases = [
            (Input::Read, held(3), Some(Output::Value(3))),
            (Input::Write(2), held(2), Some(Output::Done)),
            (swap, held(2), Some(Output::Done)),
            (swap, differs.clone(), Some(Output::Differs)),
            (swap, busy.clone(), None),
            (Input::Read, silence.clone(), None),
            (swap, silence.clone(), Some(Output::Unknown)),
            (Input::Write(2), answer(503, false, Value::Null), Some(Output::Unknown)),
        ];
        for (input, reply, output) in cases {
            assert_eq!(conclude(input, &reply), Ok(output), "{input:?} {reply:?}");
        }
        assert!(conclude(Input::Write(2), &held(3)).is_err());
        assert!(conclude(Input::Write(2), &differs).is_err());
        assert!(conclude(Input::Read, &answer(404, false, Value::Null)).is_err());
    }
}
