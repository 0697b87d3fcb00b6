//! Writing messages to the outbox, as part of the transaction that brings them about.

use cardea_storage::{Slot, Transaction};
use serde_json::Value;
use uuid::Uuid;

use super::Template;
use crate::{
    Service,
    identity::draft::via_number,
    language::Language,
    model::Scope,
    schema::Channel,
    table::message::{MessageKey, MessageRecord, Messages, lane_of},
};

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
        let record = MessageRecord {
            template: letter.template.name().to_owned(),
            recipient: letter.recipient.to_owned(),
            decoy: letter.decoy,
            via: via_number(letter.via),
            language: letter.language.map_or(0, Language::number),
            ..MessageRecord::default()
        };
        let key = MessageKey { tenant: scope.tenant, id: letter.id };
        self.put_post::<Messages>(t, &key, record, letter.model);
    }

    /// Wakes this node's courier.
    pub(crate) fn posted(&self) {
        self.post_bell.notify_one();
    }

    /// Waits until a message was written on this node.
    pub async fn wait_for_post(&self) {
        self.post_bell.notified().await;
    }
}
