//! Outboxes: what is to be sent is written in the transaction that brings it about, and
//! sent afterwards by whichever node claims it. Messages to people ([`courier`](crate::courier))
//! and calls of web hooks ([`hook`](crate::hook)) go this way; they differ in what is
//! sent and in who carries it, and in nothing else.
//!
//! - **Never lost.** A claim is a lease: a row becomes due again a while later, unless the
//!   one who claimed it says what became of it. So nothing is lost with a node.
//! - **At least once, recognisably.** A row is sent twice only if a node dies, or cannot
//!   reach the store, between sending and saying so. Both bear the row's id, by which a
//!   receiver knows what it has seen.
//! - **Later and later.** What was not taken is tried again, each time later, and at last
//!   given up: a dead letter, which stays listed.
//! - **Sealed.** What is sent, or what it is made of, is sealed, and erased once it was
//!   taken.

pub(crate) mod delivery;
pub(crate) mod list;
pub mod tally;

use std::time::Duration;

use cardea_storage::{Timestamp, Transaction};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Service,
    table::outbox::{ABANDONED, Outbox, PostKey, Posted, QUEUED, SENT, Standing},
};

/// How long a row is listed after it was written.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// What one round of sending did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Rows that were taken.
    pub sent: u32,
    /// Rows that are due again later.
    pub postponed: u32,
    /// Rows given up.
    pub abandoned: u32,
}

/// How far a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It waits.
    Queued,
    /// Somebody is sending it.
    Processing,
    /// It was taken.
    Sent,
    /// It was given up.
    Abandoned,
}

impl Status {
    /// The name on the wire; what was taken has a name of its own in each outbox.
    pub const fn name(self, sent: &'static str) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Sent => sent,
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str, sent: &'static str) -> Option<Self> {
        let all = [Self::Queued, Self::Processing, Self::Sent, Self::Abandoned];
        all.into_iter().find(|status| status.name(sent) == name)
    }

    pub(crate) fn of(standing: &Standing) -> Self {
        match standing.status {
            SENT => Self::Sent,
            ABANDONED => Self::Abandoned,
            QUEUED if !standing.claim.is_empty() => Self::Processing,
            _ => Self::Queued,
        }
    }
}

impl Service {
    /// Writes a row that is due at once; whoever sends is to be woken once the transaction
    /// committed.
    pub(crate) fn put_post<T: Outbox>(
        &self,
        t: &Transaction,
        key: &PostKey,
        mut record: T::Record,
        body: &Value,
    ) {
        let now = t.now().as_millis();
        let body = self.keys.seal.seal(
            self.store.entropy().as_ref(),
            &sealed_for::<T>(key.id),
            body.to_string().as_bytes(),
        );
        record.stand(Standing {
            status: QUEUED,
            body,
            created_at: now,
            updated_at: now,
            due_at: now,
            ..Standing::default()
        });
        t.insert::<T>(key, &record, Some(kept_until::<T>(&record)));
    }

    /// What a row says; `None` if it was erased.
    pub(crate) fn body_of<T: Outbox>(&self, id: Uuid, record: &T::Record) -> Option<Value> {
        let sealed = record.standing().body;
        if sealed.is_empty() {
            return None;
        }
        match self.keys.seal.open(&sealed_for::<T>(id), &sealed) {
            Ok(plain) => serde_json::from_slice(plain.expose()).ok(),
            Err(_) => {
                tracing::error!(outbox = T::NAME, %id, "a body does not open; its key is gone");
                None
            }
        }
    }
}

/// When a row ceases to exist.
pub(crate) fn kept_until<T: Outbox>(record: &T::Record) -> Timestamp {
    Timestamp(record.standing().created_at).after(RETENTION)
}

fn sealed_for<T: Outbox>(id: Uuid) -> String {
    format!("{} {id}", T::NAME)
}
