//! A person: registers on one node, logs in on others, is recognised, changes,
//! loses sessions by every means there is, and sometimes goes for good.

use std::sync::Arc;

use serde_json::json;

use super::{Life, Run};
use crate::{
    check::{
        identity::{IdentityStory, Read, Seen},
        session::{Check, SessionStory, Verdict},
    },
    dice::Dice,
    endpoint::{Endpoint, Reply},
    history::{Fate, Moment, Span, Write},
    kratos::{self, Held, LoggedIn, Registered, Whoami},
};

const PASSWORD: &str = "a hinge on which doors turn";

/// How a session may end.
#[derive(Debug, Clone, Copy)]
enum Means {
    LogOut,
    DisableSession,
    EndAllSessions,
    SetInactive,
    Delete,
}

/// Lives one life after the other until the run stops.
pub async fn live(run: Arc<Run>, mut dice: Dice) {
    while !run.is_stopped() {
        if let Some(mut person) = Person::born(&run, &mut dice).await {
            person.live(&mut dice).await;
            let life = person.life;
            run.note(|ledger| ledger.lives.push(life));
        }
        tokio::time::sleep(dice.pause_ms(5, 50)).await;
    }
}

struct Person<'a> {
    run: &'a Run,
    email: String,
    life: Life,
    is_active: bool,
    is_gone: bool,
    version: u64,
}

impl<'a> Person<'a> {
    async fn born(run: &'a Run, dice: &mut Dice) -> Option<Self> {
        let email = run.fresh_email("person");
        let node = run.any_node(dice);
        let began = run.now();
        let registered = kratos::register(node, &email, PASSWORD).await;
        let span = run.since(began);
        match registered {
            Registered::Won(held) => {
                let identity = IdentityStory {
                    id: held.identity.clone(),
                    created: span,
                    writes: Vec::new(),
                    deletions: Vec::new(),
                    reads: Vec::new(),
                };
                let pointer = "/metadata_admin/version".to_owned();
                let life = Life { identity, pointer, sessions: vec![opened(held, span)] };
                Some(Self { run, email, life, is_active: true, is_gone: false, version: 0 })
            }
            Registered::Taken => {
                run.note_odd(node.node, "a fresh identifier was said to be taken");
                None
            }
            Registered::Odd(what) => {
                run.note_odd(node.node, &format!("registration: {what}"));
                None
            }
            Registered::NotDone | Registered::Unknown => None,
        }
    }

    async fn live(&mut self, dice: &mut Dice) {
        for _ in 0..2 + dice.below(4) {
            if self.run.is_stopped() {
                return;
            }
            match dice.below(10) {
                0..4 => self.ask_any(dice).await,
                4..6 => self.change(dice).await,
                6..8 => self.read(self.run.any_node(dice)).await,
                _ => self.log_in(dice).await,
            }
            tokio::time::sleep(dice.pause_ms(1, 20)).await;
        }
        while !self.run.is_stopped() && self.has_open_sessions() && !self.is_gone {
            let means = match dice.below(10) {
                0..3 => Means::LogOut,
                3..6 => Means::DisableSession,
                6..8 => Means::EndAllSessions,
                8 => Means::SetInactive,
                _ => Means::Delete,
            };
            self.end(means, dice).await;
            // Every node must know at once.
            for node in &self.run.nodes {
                self.ask_all(node).await;
            }
        }
        if !self.is_active && !self.is_gone && dice.percent(50) {
            let node = self.run.any_node(dice);
            let reply = kratos::set_active(node, &self.life.identity.id, true).await;
            self.note_odd(node, "reactivation", &reply);
            self.is_active = reply.done().is_some();
            // What ended stays ended.
            self.ask_all(self.run.any_node(dice)).await;
        }
    }

    fn has_open_sessions(&self) -> bool {
        let is_open = |story: &SessionStory| story.revocations.iter().all(|r| r.fate != Fate::Done);
        self.life.sessions.iter().any(|(_, story)| is_open(story))
    }

    async fn log_in(&mut self, dice: &mut Dice) {
        let node = self.run.any_node(dice);
        let began = self.run.now();
        let logged_in = kratos::log_in(node, &self.email, PASSWORD).await;
        let span = self.run.since(began);
        match logged_in {
            LoggedIn::Held(held) if held.identity == self.life.identity.id => {
                self.life.sessions.push(opened(held, span));
            }
            LoggedIn::Held(held) => {
                self.run.note_odd(
                    node.node,
                    &format!("a login made {} of {}", held.identity, self.life.identity.id),
                );
            }
            // Only who is known to exist and to be active logs in here.
            LoggedIn::WrongCredentials | LoggedIn::Disabled if self.is_active && !self.is_gone => {
                let what =
                    format!("the login of {} was refused: {logged_in:?}", self.life.identity.id);
                self.run.note_odd(node.node, &what);
            }
            LoggedIn::Odd(what) => self.run.note_odd(node.node, &format!("login: {what}")),
            _ => {}
        }
    }

    async fn change(&mut self, dice: &mut Dice) {
        let node = self.run.any_node(dice);
        self.version += 1;
        let value = json!({"version": self.version});
        let patch = json!([{"op": "add", "path": "/metadata_admin", "value": value}]);
        let began = self.run.now();
        let reply = kratos::patch(node, &self.life.identity.id, &patch).await;
        let write = Write { span: self.run.since(began), fate: reply.fate() };
        self.note_odd(node, "change", &reply);
        self.life.identity.writes.push((self.version, write));
    }

    async fn read(&mut self, node: &Endpoint) {
        read_again(self.run, &mut self.life, node).await;
    }

    async fn ask_any(&mut self, dice: &mut Dice) {
        let node = self.run.any_node(dice);
        let at = dice.below(self.life.sessions.len());
        if let Some((token, story)) = self.life.sessions.get_mut(at) {
            ask(self.run, node, token, story).await;
        }
    }

    async fn ask_all(&mut self, node: &Endpoint) {
        for (token, story) in &mut self.life.sessions {
            ask(self.run, node, token, story).await;
        }
    }

    async fn end(&mut self, means: Means, dice: &mut Dice) {
        let node = self.run.any_node(dice);
        let open: Vec<usize> = (0..self.life.sessions.len())
            .filter(|at| self.life.sessions[*at].1.revocations.iter().all(|r| r.fate != Fate::Done))
            .collect();
        let Some(one) = dice.pick(&open).copied() else { return };
        let identity = self.life.identity.id.clone();
        let (token, story) = &self.life.sessions[one];
        let began = self.run.now();
        let reply = match means {
            Means::LogOut => kratos::log_out(node, token).await,
            Means::DisableSession => kratos::disable_session(node, &story.id).await,
            Means::EndAllSessions => kratos::end_all_sessions(node, &identity).await,
            Means::SetInactive => kratos::set_active(node, &identity, false).await,
            Means::Delete => kratos::delete_identity(node, &identity).await,
        };
        let before = |story: &SessionStory| {
            story.revocations.iter().any(|revocation| revocation.fate == Fate::Unknown)
        };
        // After an attempt of unknown outcome, "there is none" is an answer that may
        // be given; it confirms the end.
        let is_settled = matches!(reply.status(), 403 | 404)
            && (before(story)
                || self.life.identity.deletions.iter().any(|d| d.fate == Fate::Unknown));
        if !is_settled {
            self.note_odd(node, &format!("{means:?}"), &reply);
        }
        let fate = if is_settled { Fate::Unknown } else { reply.fate() };
        let write = Write { span: self.run.since(began), fate };
        let is_of_all = !matches!(means, Means::LogOut | Means::DisableSession);
        for (at, (_, story)) in self.life.sessions.iter_mut().enumerate() {
            if at == one || is_of_all {
                story.revocations.push(write);
            }
        }
        match means {
            Means::SetInactive if fate.is_possible() => self.is_active = false,
            Means::Delete => {
                self.life.identity.deletions.push(write);
                self.is_gone |= fate.is_possible();
            }
            _ => {}
        }
        if is_settled {
            // Whatever it was, nothing more is learnt by asking again and again.
            self.is_gone = true;
        }
    }

    fn note_odd(&self, node: &Endpoint, what: &str, reply: &Reply) {
        if reply.is_odd() {
            let id = &self.life.identity.id;
            self.run.note_odd(node.node, &format!("{what} of {id}: {reply:?}"));
        }
    }
}

fn opened(held: Held, issued: Span) -> (String, SessionStory) {
    let story =
        SessionStory { id: held.session, issued, revocations: Vec::new(), checks: Vec::new() };
    (held.token, story)
}

/// Asks a node about a session, and notes what it said. Whether it answered.
pub async fn ask(run: &Run, node: &Endpoint, token: &str, story: &mut SessionStory) -> bool {
    let began = run.now();
    let said = kratos::whoami(node, token).await;
    let span = run.since(began);
    match said {
        Whoami::Verdict(verdict) => {
            story.checks.push(Check { node: node.node, span, verdict });
            true
        }
        Whoami::Odd(what) => {
            run.note_odd(node.node, &format!("whoami of {}: {what}", story.id));
            false
        }
        Whoami::NotNow => false,
    }
}

/// Reads an identity on a node, and notes what was seen. Whether it answered.
pub async fn read_again(run: &Run, life: &mut Life, node: &Endpoint) -> bool {
    let began = run.now();
    let reply = kratos::read_identity(node, &life.identity.id).await;
    let span = run.since(began);
    let seen = match (reply.status(), reply.done()) {
        (200, Some(body)) => {
            Seen::Version(body.pointer(&life.pointer).and_then(|v| v.as_u64()).unwrap_or(0))
        }
        (404, _) => Seen::Absent,
        _ => {
            if reply.is_odd() {
                run.note_odd(node.node, &format!("read of {}: {reply:?}", life.identity.id));
            }
            return false;
        }
    };
    life.identity.reads.push(Read { node: node.node, span, seen });
    true
}

/// What a life's story proves, for the coverage of a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proof {
    /// Writes that were acknowledged, creations included.
    pub acknowledged: u64,
    /// Writes of unknown outcome.
    pub unknown: u64,
    /// Revocations that were acknowledged.
    pub revocations: u64,
    /// Questions about sessions that began after an acknowledged revocation.
    pub asked_after: u64,
    /// Questions about sessions that were accepted.
    pub accepted: u64,
}

impl Proof {
    /// What this life proves.
    pub fn of(life: &Life) -> Self {
        let mut proof = Self { acknowledged: 1, ..Self::default() };
        let mut count = |write: &Write| match write.fate {
            Fate::Done => proof.acknowledged += 1,
            Fate::Unknown => proof.unknown += 1,
            Fate::NotDone => {}
        };
        life.identity.writes.iter().for_each(|(_, write)| count(write));
        life.identity.deletions.iter().for_each(&mut count);
        for (_, story) in &life.sessions {
            proof.acknowledged += 1;
            story.revocations.iter().for_each(|revocation| match revocation.fate {
                Fate::Done => proof.revocations += 1,
                Fate::Unknown => proof.unknown += 1,
                Fate::NotDone => {}
            });
            let is_over =
                |began: Moment| story.revocations.iter().any(|r| r.was_done_before(began));
            for check in &story.checks {
                proof.asked_after += u64::from(is_over(check.span.began));
                proof.accepted += u64::from(check.verdict == Verdict::Accepted);
            }
        }
        proof
    }

    /// Both.
    pub fn and(self, other: Self) -> Self {
        Self {
            acknowledged: self.acknowledged + other.acknowledged,
            unknown: self.unknown + other.unknown,
            revocations: self.revocations + other.revocations,
            asked_after: self.asked_after + other.asked_after,
            accepted: self.accepted + other.accepted,
        }
    }
}
