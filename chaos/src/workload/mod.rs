//! Clients of the cluster: people who live whole lives, counters that several
//! clients change, identifiers that several claim at once, permissions that are given
//! and taken, and pulses that tell how long no write was acknowledged. Each keeps a
//! story for the checkers; an outcome that nobody told is kept as unknown.

pub mod contest;
pub mod counter;
pub mod crowd;
pub mod permission;
pub mod person;
pub mod pulse;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use parking_lot::Mutex;

use crate::{
    check::{
        identifier::Contest, identity::IdentityStory, permission::PermissionStory,
        register::Operation, session::SessionStory,
    },
    dice::Dice,
    endpoint::Endpoint,
    history::{Moment, Span, Stopwatch},
};

/// A run as clients of one place see it: the nodes by connections of their own, and
/// which of them are near. All places share one clock, one end and one ledger.
#[derive(Debug)]
pub struct Run {
    /// All nodes.
    pub nodes: Vec<Endpoint>,
    /// Positions of the nodes that these clients usually ask.
    pub near: Vec<usize>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The clock of all stories.
    stopwatch: Stopwatch,
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
    /// Permissions with what was changed and what was said.
    pub permissions: Vec<PermissionStory>,
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
    /// A run against these nodes, all of which are near.
    pub fn new(nodes: Vec<Endpoint>, seed: u64) -> Arc<Self> {
        let near = (0..nodes.len()).collect();
        let shared = Arc::new(Shared {
            stopwatch: Stopwatch::start(),
            stop: AtomicBool::new(false),
            names: AtomicU64::new(0),
            seed,
            ledger: Mutex::default(),
        });
        Arc::new(Self { nodes, near, shared })
    }

    /// The same run for clients of another place.
    pub fn seen_from(&self, nodes: Vec<Endpoint>, near: Vec<usize>) -> Arc<Self> {
        Arc::new(Self { nodes, near, shared: Arc::clone(&self.shared) })
    }

    /// Tells the clients to come to an end.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    /// Whether clients should come to an end.
    pub fn is_stopped(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// The moment that it is.
    pub fn now(&self) -> Moment {
        self.shared.stopwatch.now()
    }

    /// From `began` until now.
    pub fn since(&self, began: Moment) -> Span {
        Span { began, ended: self.now() }
    }

    /// A new e-mail address.
    pub fn fresh_email(&self, kind: &str) -> String {
        let number = self.shared.names.fetch_add(1, Ordering::Relaxed);
        format!("{kind}.{:08x}.{number}@example.org", self.shared.seed & 0xffff_ffff)
    }

    /// Any of the near nodes.
    pub fn any_node(&self, dice: &mut Dice) -> &Endpoint {
        let near = dice.pick(&self.near).copied().unwrap_or_default();
        &self.nodes[near]
    }

    /// Any of all nodes, however far.
    pub fn every_node(&self, dice: &mut Dice) -> &Endpoint {
        dice.pick(&self.nodes).unwrap_or(&self.nodes[0])
    }

    /// Notes an answer that the API does not have for what was asked.
    pub fn note_odd(&self, node: usize, what: &str) {
        let text = format!("{:?} node {}: {what}", self.now(), node + 1);
        self.shared.ledger.lock().odd.push(text);
    }

    /// Writes to the ledger.
    pub fn note(&self, write: impl FnOnce(&mut Ledger)) {
        write(&mut self.shared.ledger.lock());
    }

    /// Takes the ledger, when all clients have ended.
    pub fn take_ledger(&self) -> Ledger {
        std::mem::take(&mut self.shared.ledger.lock())
    }
}
