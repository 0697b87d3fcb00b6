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
pub mod feed;
pub mod lock;
mod staging;
pub mod state;
mod transaction;
pub mod view;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use prost::Message;

use self::{
    apply::{Applier, Changed},
    feed::Feed,
    staging::Staging,
    state::{Position, State},
    view::TabletView,
};
use crate::{
    engine::{Durability, Engine},
    fault::Fault,
    key::Key,
    planted::{self, Bug},
    row::{Revision, Row},
    store::Change,
    txn::{Command, Outcome},
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

/// A replica's machine over its engine.
pub struct Machine {
    /// Serializes apply; holds the state as of the last batch.
    state: Mutex<State>,
    live: RwLock<Live>,
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
        let state = read_state(engine.as_ref())?;
        let feed = Feed::new(state.revision());
        Ok(Self { state: Mutex::new(state), live: RwLock::new(Live { engine, feed }) })
    }

    /// Continues over another engine: a snapshot that was installed. Subscribers
    /// of the feed are told that the tablet was closed.
    ///
    /// # Errors
    /// A fault if the engine fails or its state row is corrupt.
    pub fn replace(&self, engine: Arc<dyn Engine>) -> Result<(), Fault> {
        let mut state = self.state.lock();
        *state = read_state(engine.as_ref())?;
        let live = Live { feed: Feed::new(state.revision()), engine };
        let former = std::mem::replace(&mut *self.live.write(), live);
        former.feed.close();
        Ok(())
    }

    /// The state as of the last batch.
    pub fn state(&self) -> State {
        self.state.lock().clone()
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
        TabletView::new(self.engine().view()?)
    }

    /// Applies entries, in order, in one batch; gives an outcome for each command.
    ///
    /// # Errors
    /// A fault stops the node: the engine failed, or the log holds what this binary
    /// does not know.
    ///
    /// # Panics
    /// If entries are not in order behind what was applied.
    pub fn apply(&self, entries: &[LogEntry]) -> Result<Vec<Option<Outcome>>, Fault> {
        let mut held = self.state.lock();
        let live = self.live.read().clone();
        let mut applier = Applier {
            staging: Staging::new(live.engine.as_ref()),
            state: held.clone(),
            changed: Vec::new(),
        };
        let mut outcomes = Vec::with_capacity(entries.len());
        let mut events = Vec::with_capacity(entries.len());
        for entry in entries {
            let before = applier.state.position.map(|position| position.index);
            assert!(
                before.is_none_or(|index| entry.position.index == index + 1),
                "entry {} was given behind entry {before:?}",
                entry.position.index,
            );
            applier.state.position = Some(entry.position);
            let revision = applier.state.revision();
            let outcome = match &entry.payload {
                Payload::Blank => None,
                Payload::Membership(membership) => {
                    applier.state.membership = Some(membership.clone());
                    None
                }
                Payload::Command(bytes) => {
                    let command = Command::decode(bytes.clone())
                        .map_err(|error| Fault::caused("command in the log", error))?;
                    Some(applier.apply(command, revision)?)
                }
            };
            let changed = std::mem::take(&mut applier.changed);
            applier.state.digest = match planted::is(Bug::DigestOverRows) {
                true => over_rows(&applier.staging)?,
                false => chain(&applier.state, entry, outcome.as_ref(), &changed),
            };
            events.push((revision, changed));
            outcomes.push(outcome);
        }
        let state = applier.state;
        let mut batch = applier.staging.into_batch();
        if planted::is(Bug::PositionWrittenApart) {
            live.engine.write(std::mem::take(&mut batch), Durability::Buffered)?;
        }
        batch.put(Bytes::from_static(area::STATE_KEY), state.encode_to_vec());
        live.engine.write(batch, Durability::Buffered)?;
        *held = state;
        for (revision, changed) in events {
            live.feed.push(revision, changes(changed, revision));
        }
        Ok(outcomes)
    }
}

impl Drop for Machine {
    /// Subscribers hold the feed, and would wait for ever.
    fn drop(&mut self) {
        self.live.read().feed.close();
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("position", &self.state.lock().position).finish()
    }
}

fn read_state(engine: &dyn Engine) -> Result<State, Fault> {
    engine.get(area::STATE_KEY)?.map_or(Ok(State::default()), |bytes| State::decode_row(&bytes))
}

/// The digest after an entry: over the one before, the entry's place, log time,
/// answer and what it wrote.
fn chain(state: &State, entry: &LogEntry, outcome: Option<&Outcome>, changed: &[Changed]) -> Bytes {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&state.digest);
    hasher.update(&entry.position.index.to_be_bytes());
    hasher.update(&state.now.to_be_bytes());
    if let Payload::Membership(membership) = &entry.payload {
        hasher.update(membership);
    }
    if let Some(outcome) = outcome {
        hasher.update(&outcome.encode());
    }
    for (key, row) in changed {
        hasher.update(&(key.len() as u64).to_be_bytes());
        hasher.update(key);
        let row = row.as_ref().map(crate::row::Stored::encode).unwrap_or_default();
        hasher.update(&(row.len() as u64).to_be_bytes());
        hasher.update(&row);
    }
    Bytes::copy_from_slice(hasher.finalize().as_bytes())
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

fn changes(changed: Vec<Changed>, revision: Revision) -> Vec<Change> {
    changed
        .into_iter()
        .filter_map(|(bytes, row)| {
            let key = Key::from_bytes(bytes)?;
            let row = row.map(|stored| Row {
                key: key.clone(),
                value: stored.value,
                revision: Some(stored.revision),
                expires_at: stored.expires_at,
            });
            Some(Change { key, row, revision })
        })
        .collect()
}
