//! Writing to the outbox, as part of the transaction that brings a message about.

use std::time::Duration;

use cardea_storage::{Slot, Timestamp, Transaction};
use serde_json::Value;
use uuid::Uuid;

use super::Template;
use crate::{
    Service,
    identity::draft::via_number,
    language::Language,
    model::Scope,
    schema::Channel,
    table::message::{MessageKey, MessageRecord, Messages, QUEUED, lane_of},
};

/// How long a message is listed.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// A message to be written.
pub(crate) struct Letter<'a> {
    /// Drawn once, whatever often the transaction is tried.
    pub(crate) id: Uuid,
    pub(crate) template: Template,
    pub(crate) recipient: &'a str,
    pub(crate) via: Channel,
    /// What its reader reads; `None` if that is not known.
    pub(crate) language: Option<Language>,
    pub(crate) model: &'a Value,
    /// Whether nobody has the address: it costs the same, and is never sent.
    pub(crate) decoy: bool,
}

impl Service {
    /// The id of a message that is written beside what lives in a slot.
    pub(crate) fn draw_message(&self, beside: Slot) -> Uuid {
        self.mint_in(lane_of(beside))
    }

    /// Writes a message; call [`posted`](Self::posted) once the transaction committed.
    pub(crate) fn post(&self, t: &Transaction, scope: Scope, letter: &Letter<'_>) {
        let now = t.now();
        let plain = letter.model.to_string();
        let record = MessageRecord {
            status: QUEUED,
            template: letter.template.name().to_owned(),
            recipient: letter.recipient.to_owned(),
            model: self.keys.seal.seal(
                self.store.entropy().as_ref(),
                &sealed_for(letter.id),
                plain.as_bytes(),
            ),
            created_at: now.as_millis(),
            updated_at: now.as_millis(),
            due_at: now.as_millis(),
            decoy: letter.decoy,
            via: via_number(letter.via),
            language: letter.language.map_or(0, Language::number),
            ..MessageRecord::default()
        };
        let key = MessageKey { tenant: scope.tenant, id: letter.id };
        t.insert::<Messages>(&key, &record, Some(kept_until(&record)));
    }

    /// Wakes this node's courier.
    pub(crate) fn posted(&self) {
        self.post_bell.notify_one();
    }

    /// Waits until a message was written on this node.
    pub async fn wait_for_post(&self) {
        self.post_bell.notified().await;
    }

    /// What a message is filled with; `None` if it was erased.
    pub(super) fn model_of(&self, id: Uuid, record: &MessageRecord) -> Option<Value> {
        if record.model.is_empty() {
            return None;
        }
        match self.keys.seal.open(&sealed_for(id), &record.model) {
            Ok(plain) => serde_json::from_slice(plain.expose()).ok(),
            Err(_) => {
                tracing::error!(message = %id, "a message does not open; its key is gone");
                None
            }
        }
    }
}

/// When the row of a message ceases to exist.
pub(super) fn kept_until(record: &MessageRecord) -> Timestamp {
    Timestamp(record.created_at).after(RETENTION)
}

fn sealed_for(id: Uuid) -> String {
    format!("message {id}")
}
