//! The replicated machine: applies commands to a tablet's engine, and shows
//! consistent views of it.
//!
//! Apply is deterministic. It reads no clock, draws no randomness, waits for
//! nothing, and does no I/O but its engine's: replicas that applied the same
//! entries hold the same rows, and a digest chained over every entry proves it.
//! One batch holds rows, locks, receipts, position, membership, log time and
//! digest; answers are given after it is written.

pub mod apply;
pub mod area;
pub mod decision;
pub mod dump;
mod facts;
pub mod feed;
mod held;
pub mod lock;
mod receipts;
mod staging;
pub mod state;
mod transaction;
pub mod view;

use std::{
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use self::{
    apply::{Applier, Changed},
    facts::Board,
    feed::Feed,
    held::Held,
    staging::Staging,
    state::{Position, State},
    view::TabletView,
};
use crate::{
    engine::{Durability, Engine, Order, View},
    fault::Fault,
    key::Key,
    planted::{self, Bug},
    row::{Revision, Row, Stored},
    store::Change,
    txn::{Command, Outcome, command::Action},
    version::VERSION_MAX,
};

/// An entry of a group's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Where it stands.
    pub position: Position,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// Nothing.
    Blank,
    /// A membership of the group, kept for it and not looked into.
    Membership(Bytes),
    /// An encoded [`Command`].
    Command(Bytes),
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// It carried no command.
    Nothing,
    /// The outcome of its command.
    One(Outcome),
    /// The outcome of each command of its [pack](crate::txn::pack).
    Pack(Vec<Outcome>),
}

/// A replica's machine over its engine.
pub struct Machine {
    /// Serializes apply.
    applied: Mutex<Applied>,
    live: RwLock<Live>,
    board: Board,
}

/// As of the last batch.
struct Applied {
    state: State,
    held: Held,
    /// A batch was begun and not written: all this is ahead of the engine.
    torn: bool,
}

#[derive(Clone)]
struct Live {
    engine: Arc<dyn Engine>,
    feed: Arc<Feed>,
}

impl Machine {
    /// Opens the machine over an engine, at whatever it last applied.
    ///
    /// # Errors
    /// A fault if the engine fails or its state row is corrupt.
    pub fn open(engine: Arc<dyn Engine>) -> Result<Self, Fault> {
        let applied = read_applied(engine.as_ref())?;
        let feed = Feed::new(applied.state.revision());
        let board = Board::new(applied.state.clone(), applied.held.locks.is_empty());
        let live = RwLock::new(Live { engine, feed });
        Ok(Self { applied: Mutex::new(applied), live, board })
    }

    /// Continues over another engine: a snapshot that was installed. Subscribers
    /// of the feed are told that the tablet was closed.
    ///
    /// # Errors
    /// A fault if the engine fails or its state row is corrupt.
    pub fn replace(&self, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        let mut applied = self.applied.lock();
        *applied = read_applied(engine.as_ref())?;
        self.board.wipe();
        let live = Live { feed: Feed::new(applied.state.revision()), engine };
        let former = std::mem::replace(&mut *self.live.write(), live);
        former.feed.close();
        self.board.show(applied.state.clone(), applied.held.locks.is_empty());
        Ok(())
    }

    /// The state as of the last batch. Waits for nobody.
    pub fn state(&self) -> State {
        self.board.last().state.clone()
    }

    /// The engine that is live now.
    pub fn engine(&self) -> Arc<dyn Engine> {
        self.live.read().engine.clone()
    }

    /// The change feed.
    pub fn feed(&self) -> Arc<Feed> {
        self.live.read().feed.clone()
    }

    /// A consistent view of rows, locks and position.
    ///
    /// # Errors
    /// A fault if the engine fails.
    pub fn view(&self) -> Result<TabletView, Fault> {
        let facts = self.board.now();
        let view = self.engine().view()?;
        match facts {
            Some(facts) if self.board.stand(&facts) => Ok(TabletView::of(view, facts)),
            _ => TabletView::new(view),
        }
    }

    /// Reads at one instant. Spares the snapshot unless something is being applied
    /// meanwhile; then `read` is called again, on a [`view`](Self::view). Worth it for
    /// a few point reads: scans take a snapshot each.
    ///
    /// # Errors
    /// What `read` returns, and a fault if the engine fails.
    pub fn look<T, E: From<Fault>>(
        &self,
        read: impl Fn(&TabletView) -> Result<T, E>,
    ) -> Result<T, E> {
        if let Some(facts) = self.board.now() {
            let view = Box::new(Unpinned(self.engine()));
            let found = read(&TabletView::of(view, facts.clone()));
            // Of two instants even a fault would mean nothing.
            if self.board.stand(&facts) {
                return found;
            }
        }
        read(&self.view()?)
    }

    /// Applies entries, in order, in one batch; says what came of each.
    ///
    /// # Errors
    /// A fault stops the node: the engine failed, or the log holds what this binary
    /// does not know.
    ///
    /// # Panics
    /// If entries are not in order behind what was applied.
    pub fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Answered>, Fault> {
        let mut applied = self.applied.lock();
        let live = self.live.read().clone();
        if applied.torn {
            *applied = read_applied(live.engine.as_ref())?;
        }
        applied.torn = true;
        let Applied { state, held, torn } = &mut *applied;
        held.receipts.pass(state.time());
        let mut applier = Applier {
            staging: Staging::new(live.engine.as_ref(), held),
            state: state.clone(),
            written: Vec::new(),
        };
        let mut answered = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        let mut link = Vec::new();
        for entry in entries {
            let before = applier.state.position.map(|position| position.index);
            assert!(
                before.is_none_or(|index| entry.position.index == index + 1),
                "entry {} was given behind entry {before:?}",
                entry.position.index,
            );
            applier.state.position = Some(entry.position);
            let mut steps =
                Steps { entry, applier: &mut applier, events: &mut events, link: &mut link };
            answered.push(match &entry.payload {
                Payload::Blank => {
                    steps.end(None)?;
                    Answered::Nothing
                }
                Payload::Membership(membership) => {
                    steps.applier.state.membership = Some(membership.clone());
                    steps.end(None)?;
                    Answered::Nothing
                }
                Payload::Command(bytes) => steps.command(bytes)?,
            });
        }
        *state = applier.state;
        let mut batch = applier.staging.into_batch();
        self.board.wipe();
        if planted::is(Bug::PositionWrittenApart) {
            live.engine.write(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        batch.put(Bytes::from_static(area::STATE_KEY), state.encode_to_vec());
        live.engine.write(batch, Durability::Buffered)?;
        *torn = false;
        self.board.show(state.clone(), held.locks.is_empty());
        let news = events.into_iter().map(|(revision, rows)| (revision, changes(rows, revision)));
        live.feed.push(news.collect());
        Ok(answered)
    }
}

/// An entry that is being applied, command by command; most have one.
struct Steps<'a, 'e> {
    entry: &'a LogEntry,
    applier: &'a mut Applier<'e>,
    /// What was written at which revision.
    events: &'a mut Vec<(Revision, Vec<Changed>)>,
    /// What the chain is computed of.
    link: &'a mut Vec<u8>,
}

impl Steps<'_, '_> {
    fn command(&mut self, bytes: &Bytes) -> Result<Answered, Fault> {
        let command = decoded(bytes)?;
        let Some(Action::Pack(pack)) = &command.action else {
            return self.step(command).map(Answered::One);
        };
        apply::must_know(&command)?;
        let mut outcomes = Vec::with_capacity(pack.commands.len());
        for (number, bytes) in pack.commands.iter().enumerate() {
            if number > 0 {
                // A revision of its own, at the same index.
                self.applier.state.base += 1;
            }
            outcomes.push(self.step(decoded(bytes)?)?);
        }
        if outcomes.is_empty() {
            self.end(None)?;
        }
        Ok(Answered::Pack(outcomes))
    }

    fn step(&mut self, command: Command) -> Result<Outcome, Fault> {
        let revision = self.applier.state.revision();
        let outcome = self.applier.apply(command, revision)?;
        self.end(Some(&outcome))?;
        Ok(outcome)
    }

    /// What was done by now is one link of the chain, and one revision of the feed.
    fn end(&mut self, outcome: Option<&Outcome>) -> Result<(), Fault> {
        let written = std::mem::take(&mut self.applier.written);
        self.applier.state.digest = match planted::is(Bug::DigestOverRows) {
            true => over_rows(&self.applier.staging)?,
            false => chain(&self.applier.state, self.entry, outcome, &written, self.link),
        };
        self.events.push((self.applier.state.revision(), written));
        Ok(())
    }
}

fn decoded(command: &Bytes) -> Result<Command, Fault> {
    Command::decode(command.clone()).map_err(|error| Fault::caused("command in the log", error))
}

impl Drop for Machine {
    /// Subscribers hold the feed, and would wait for ever.
    fn drop(&mut self) {
        self.live.read().feed.close();
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("position", &self.board.last().state.position).finish()
    }
}

/// Rows as they are now, without a snapshot.
struct Unpinned(Arc<dyn Engine>);

impl View for Unpinned {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.0.get(key)
    }

    fn scan(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        order: Order,
        visit: &mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        self.0.view()?.scan(start, end, order, visit)
    }
}

fn read_applied(engine: &dyn Engine) -> Result<Applied, Fault> {
    let view = engine.view()?;
    let state = read_state(view.as_ref())?;
    if state.version > VERSION_MAX {
        return Err(Fault::new(format!(
            "the tablet was written under cluster version {}, this binary knows {VERSION_MAX}",
            state.version
        )));
    }
    let held = Held::load(view.as_ref(), state.time())?;
    Ok(Applied { state, held, torn: false })
}

fn read_state(view: &dyn View) -> Result<State, Fault> {
    view.get(area::STATE_KEY)?.map_or(Ok(State::default()), |bytes| State::decode_row(&bytes))
}

/// The digest after an entry: over the one before, the entry's place, log time,
/// answer and what it wrote. These are put together in `link`.
fn chain(
    state: &State,
    entry: &LogEntry,
    outcome: Option<&Outcome>,
    rows: &[Changed],
    link: &mut Vec<u8>,
) -> Bytes {
    link.clear();
    link.extend_from_slice(&state.digest);
    link.extend_from_slice(&entry.position.index.to_be_bytes());
    link.extend_from_slice(&state.now.to_be_bytes());
    if let Payload::Membership(membership) = &entry.payload {
        link.extend_from_slice(membership);
    }
    if let Some(outcome) = outcome {
        outcome.encode_to(link);
    }
    for (key, row) in rows {
        link.extend_from_slice(&(key.len() as u64).to_be_bytes());
        link.extend_from_slice(key);
        let bytes = row.as_ref().map_or(0, Stored::encoded_len);
        link.extend_from_slice(&(bytes as u64).to_be_bytes());
        if let Some(row) = row {
            row.encode_to(link);
        }
    }
    Bytes::copy_from_slice(blake3::hash(link).as_bytes())
}

/// The planted bug: a digest of what is there.
fn over_rows(staging: &Staging<'_>) -> Result<Bytes, Fault> {
    let mut hasher = blake3::Hasher::new();
    let (start, end) = (area::key(area::ROW, &[]), area::key(area::ROW + 1, &[]));
    staging.scan(&start, &end, |key, value| {
        hasher.update(key).update(value);
        Ok(true)
    })?;
    Ok(Bytes::copy_from_slice(hasher.finalize().as_bytes()))
}

fn changes(written: Vec<Changed>, revision: Revision) -> Vec<Change> {
    let mut changes = Vec::with_capacity(written.len());
    changes.extend(written.into_iter().filter_map(|(key, row)| {
        let key = Key::from_bytes(key)?;
        let row = row.map(|stored| Row {
            key: key.clone(),
            value: stored.value,
            revision: Some(stored.revision),
            expires_at: stored.expires_at,
        });
        Some(Change { key, row, revision })
    }));
    changes
}
