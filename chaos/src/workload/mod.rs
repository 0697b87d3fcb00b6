//! Clients of the cluster: people who live whole lives, counters that several
//! clients change, identifiers that several claim at once, and pulses that tell
//! how long no write was acknowledged. Each keeps a story for the checkers; an
//! outcome that nobody told is kept as unknown.

pub mod contest;
pub mod counter;
pub mod person;
pub mod pulse;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::{
    check::{
        identifier::Contest, identity::IdentityStory, register::Operation, session::SessionStory,
    },
    dice::Dice,
    endpoint::Endpoint,
    history::{Moment, Span, Stopwatch},
};

/// What all clients of a run share.
#[derive(Debug)]
pub struct Run {
    /// The nodes.
    pub nodes: Vec<Endpoint>,
    /// The clock of all stories.
    pub stopwatch: Stopwatch,
    /// Set when clients should come to an end.
    stop: AtomicBool,
    names: AtomicU64,
    seed: u64,
    ledger: Mutex<Ledger>,
}

/// The stories of clients that came to their end.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Identities with the token of each of their sessions.
    pub lives: Vec<Life>,
    /// Registers: their identity and what was done to them.
    pub registers: Vec<(String, Vec<Operation>)>,
    /// Contests for identifiers.
    pub contests: Vec<Contest>,
    /// Answers that the API does not have for what was asked.
    pub odd: Vec<String>,
}

/// An identity, and the sessions that were opened in its name.
#[derive(Debug, Clone)]
pub struct Life {
    /// The identity.
    pub identity: IdentityStory,
    /// The JSON Pointer of its versions within the identity's body.
    pub pointer: String,
    /// Its sessions, each with its token.
    pub sessions: Vec<(String, SessionStory)>,
}

impl Run {
    /// A run against these nodes.
    pub fn new(nodes: Vec<Endpoint>, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            nodes,
            stopwatch: Stopwatch::start(),
            stop: AtomicBool::new(false),
            names: AtomicU64::new(0),
            seed,
            ledger: Mutex::default(),
        })
    }

    /// Tells the clients to come to an end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether clients should come to an end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The moment that it is.
    pub fn now(&self) -> Moment {
        self.stopwatch.now()
    }

    /// From `began` until now.
    pub fn since(&self, began: Moment) -> Span {
        Span { began, ended: self.now() }
    }

    /// A new e-mail address.
    pub fn fresh_email(&self, kind: &str) -> String {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        format!("{kind}.{:08x}.{number}@example.org", self.seed & 0xffff_ffff)
    }

    /// Any of the nodes.
    pub fn any_node(&self, dice: &mut Dice) -> &Endpoint {
        &self.nodes[dice.below(self.nodes.len())]
    }

    /// Notes an answer that the API does not have for what was asked.
    pub fn note_odd(&self, node: usize, what: &str) {
        let text = format!("{:?} node {}: {what}", self.now(), node + 1);
        self.ledger.lock().odd.push(text);
    }

    /// Writes to the ledger.
    pub fn note(&self, write: impl FnOnce(&mut Ledger)) {
        write(&mut self.ledger.lock());
    }

    /// Takes the ledger, when all clients have ended.
    pub fn take_ledger(&self) -> Ledger {
        std::mem::take(&mut self.ledger.lock())
    }
}
