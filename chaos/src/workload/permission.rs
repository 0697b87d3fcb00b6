//! Permissions that one client gives and takes, through any node, while others ask for
//! them on all nodes: at the latest, and at the tokens that the changes gave. What is
//! changed is the membership of a group, and what is asked rests on it.
//!
//! Between these the new enemy tries: a group loses its access before somebody joins it,
//! and he leaves before it has the access again. So nobody has it ever, and no node may
//! say that he has, however stale what it reads; it does say so if it takes the old
//! access together with the new member.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Run;
use crate::{
    check::permission::{Change, Check, Fresh, PermissionStory},
    dice::Dice,
    endpoint::{Call, Endpoint, Reply, Side},
    history::{Fate, Write},
};

/// Clients that ask, of one permission.
const ASKERS: usize = 3;
/// Changes of one permission.
const CHANGES: usize = 24;
/// How often a group loses its access and gets it back in one story of an enemy.
const LOSSES: usize = 6;

/// Gates, which the members of groups may enter.
pub const LANGUAGE: &str = "
class User implements Namespace {}
class Group implements Namespace { related: { members: User[] } }
class Gate implements Namespace {
  related: { holders: SubjectSet<Group, \"members\">[] }
  permits = { enter: (ctx: Context): boolean => this.related.holders.includes(ctx.subject) }
}";

/// A permission under way.
struct Permission {
    name: String,
    changes: Mutex<Vec<Change>>,
    checks: Mutex<Vec<Check>>,
    /// The newest token, with the change that gave it.
    token: Mutex<Option<(usize, String)>>,
    /// How many questions were answered since the last change.
    answered: AtomicUsize,
    over: AtomicBool,
}

/// Uses one permission after the other until the run stops.
pub async fn guard(run: Arc<Run>, mut dice: Dice) {
    let files = json!({"files": [{"name": "gates.ts", "text": LANGUAGE}], "force": true});
    while !run.is_stopped() {
        let node = run.any_node(&mut dice);
        let reply = node.send("PUT", "/admin/opl", &files).await;
        if reply.done().is_some() {
            break;
        }
        if reply.is_odd() {
            run.note_odd(node.node, &format!("a language of permissions: {reply:?}"));
        }
        tokio::time::sleep(dice.pause_ms(10, 50)).await;
    }
    while !run.is_stopped() {
        let name = run.fresh_email("gate");
        let holders = json!({"namespace": "Gate", "object": name, "relation": "holders",
            "subject_set": {"namespace": "Group", "object": name, "relation": "members"}});
        let node = run.any_node(&mut dice);
        let reply = node.send("PUT", "/admin/relation-tuples", &holders).await;
        if reply.done().is_none() {
            if reply.is_odd() {
                run.note_odd(node.node, &format!("creation of a gate: {reply:?}"));
            }
            tokio::time::sleep(dice.pause_ms(10, 50)).await;
            continue;
        }
        let permission = Permission {
            name,
            changes: Mutex::default(),
            checks: Mutex::default(),
            token: Mutex::default(),
            answered: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        };
        let askers = (0..ASKERS).map(|_| ask(&run, &permission, dice.split()));
        let asking = futures::future::join_all(askers);
        let changing = change(&run, &permission, dice.split());
        tokio::join!(asking, changing);
        let story = PermissionStory {
            name: permission.name,
            changes: permission.changes.into_inner(),
            checks: permission.checks.into_inner(),
        };
        run.note(|ledger| ledger.permissions.push(story));
        tempt(&run, dice.split()).await;
    }
}

/// One story of a new enemy.
async fn tempt(run: &Run, mut dice: Dice) {
    let name = run.fresh_email("enemy");
    let access = json!({"namespace": "Gate", "object": name, "relation": "holders",
        "subject_set": {"namespace": "Group", "object": name, "relation": "members"}});
    let member = json!({"namespace": "Group", "object": name, "relation": "members",
        "subject_id": "ann"});
    let Some(Some(begun)) = patch(run, &mut dice, "insert", &access).await else { return };
    let (checks, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let asks: Vec<Dice> = (0..ASKERS).map(|_| dice.split()).collect();
    let changing = async {
        let turns = [("delete", &access), ("insert", &member), ("delete", &member)];
        let turns = turns.into_iter().chain([("insert", &access)]);
        'story: for _ in 0..LOSSES {
            for (action, tuple) in turns.clone() {
                // After an outcome that nobody saw, nothing may follow.
                if run.is_stopped() || patch(run, &mut dice, action, tuple).await.is_none() {
                    break 'story;
                }
                tokio::time::sleep(dice.pause_ms(1, 10)).await;
            }
        }
        over.store(true, Ordering::Relaxed);
    };
    let askers = asks.into_iter().map(|mut dice| {
        let (checks, over, name, begun) = (&checks, &over, &name, &begun);
        async move {
            while !over.load(Ordering::Relaxed) {
                let node = run.every_node(&mut dice);
                let (fresh, how) = match dice.percent(80) {
                    true => (Fresh::Begun, format!("snaptoken={begun}")),
                    false => (Fresh::Latest, "latest=true".to_owned()),
                };
                let began = run.now();
                let reply = check(node, name, &how).await;
                let span = run.since(began);
                if let Some(allowed) = reply.done().and_then(|body| body["allowed"].as_bool()) {
                    checks.lock().push(Check { node: node.node, span, fresh, allowed });
                } else if reply.is_odd() {
                    run.note_odd(node.node, &format!("a check of {name}: {reply:?}"));
                }
                tokio::time::sleep(dice.pause_ms(1, 8)).await;
            }
        }
    });
    tokio::join!(changing, futures::future::join_all(askers));
    let story = PermissionStory { name, changes: Vec::new(), checks: checks.into_inner() };
    run.note(|ledger| ledger.permissions.push(story));
}

/// Changes one tuple through any node; its token if it was done.
async fn patch(run: &Run, dice: &mut Dice, action: &str, tuple: &Value) -> Option<Option<String>> {
    let body = json!([{"action": action, "relation_tuple": tuple}]);
    let node = run.every_node(dice);
    let (reply, token) = node
        .told(Call {
            side: Side::Admin,
            method: "PATCH",
            path: "/admin/relation-tuples",
            body: Some(&body),
            token: None,
        })
        .await;
    if reply.is_odd() {
        run.note_odd(node.node, &format!("{action} of {tuple}: {reply:?}"));
    }
    let is_done = reply.fate() == Fate::Done;
    if is_done && token.is_none() {
        run.note_odd(node.node, &format!("{action} of {tuple} gave no token"));
    }
    is_done.then_some(token)
}

/// Gives and takes in turn, until an outcome stays unknown: what may still happen
/// later must not follow on what is made now.
async fn change(run: &Run, permission: &Permission, mut dice: Dice) {
    let mut gives = true;
    for _ in 0..CHANGES {
        if run.is_stopped() {
            break;
        }
        let node = run.any_node(&mut dice);
        let member = json!({"namespace": "Group", "object": permission.name,
            "relation": "members", "subject_id": "ann"});
        let action = if gives { "insert" } else { "delete" };
        let patch = json!([{"action": action, "relation_tuple": member}]);
        let began = run.now();
        let (reply, token) = node
            .told(Call {
                side: Side::Admin,
                method: "PATCH",
                path: "/admin/relation-tuples",
                body: Some(&patch),
                token: None,
            })
            .await;
        let write = Write { span: run.since(began), fate: reply.fate() };
        if reply.is_odd() {
            run.note_odd(node.node, &format!("{action} on {}: {reply:?}", permission.name));
        }
        let at = {
            let mut changes = permission.changes.lock();
            changes.push(Change { write, gives });
            changes.len() - 1
        };
        match write.fate {
            Fate::Unknown => break,
            Fate::NotDone => {}
            Fate::Done => {
                gives = !gives;
                if token.is_none() {
                    run.note_odd(
                        node.node,
                        &format!("{action} on {} gave no token", permission.name),
                    );
                }
                *permission.token.lock() = token.map(|token| (at, token));
            }
        }
        // Long enough that what was changed is asked for, and not longer.
        permission.answered.store(0, Ordering::Relaxed);
        for _ in 0..50 {
            if permission.answered.load(Ordering::Relaxed) >= ASKERS || run.is_stopped() {
                break;
            }
            tokio::time::sleep(dice.pause_ms(2, 20)).await;
        }
    }
    permission.over.store(true, Ordering::Relaxed);
}

async fn ask(run: &Run, permission: &Permission, mut dice: Dice) {
    while !permission.over.load(Ordering::Relaxed) {
        let node = run.every_node(&mut dice);
        let token = permission.token.lock().clone().filter(|_| dice.percent(50));
        let (fresh, how) = match token {
            Some((change, token)) => (Fresh::Since(change), format!("snaptoken={token}")),
            None => (Fresh::Latest, "latest=true".to_owned()),
        };
        let began = run.now();
        let reply = check(node, &permission.name, &how).await;
        let span = run.since(began);
        match reply.done().map(|body| body["allowed"].as_bool()) {
            Some(Some(allowed)) => {
                permission.answered.fetch_add(1, Ordering::Relaxed);
                permission.checks.lock().push(Check { node: node.node, span, fresh, allowed });
            }
            Some(None) => run.note_odd(node.node, &format!("a check without an answer: {reply:?}")),
            None if reply.is_odd() => {
                run.note_odd(node.node, &format!("a check of {}: {reply:?}", permission.name));
            }
            None => {}
        }
        tokio::time::sleep(dice.pause_ms(1, 15)).await;
    }
}

async fn check(node: &Endpoint, name: &str, how: &str) -> Reply {
    let path = format!(
        "/relation-tuples/check/openapi?namespace=Gate&object={name}&relation=enter\
         &subject_id=ann&{how}"
    );
    node.send("GET", &path, &Value::Null).await
}
