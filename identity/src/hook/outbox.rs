//! Writing calls to the outbox, as part of the transaction that brings them about.

use std::time::Duration;

use cardea_storage::{Slot, Timestamp, Transaction};
use serde_json::Value;
use uuid::Uuid;

use super::{Action, Occasion, Response, context::session_json};
use crate::{
    Service,
    model::{Identity, Scope, Session},
    table::{
        hook_call::{HookCallKey, HookCallRecord, HookCalls, QUEUED},
        id_bytes,
        lane::lane_of,
    },
};

/// How long a call is listed, and may be tried again.
const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Calls to be written: their ids, drawn once, whatever often the transaction is tried,
/// and their hooks.
pub(crate) struct Calls(Vec<(Uuid, String)>);

impl Calls {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Service {
    /// Draws the calls of an occasion, to be written beside what lives in a slot.
    pub(crate) fn draw_calls(&self, occasion: &Occasion<'_>, beside: Slot) -> Calls {
        let Occasion { purpose, moment, method, .. } = *occasion;
        let actions = self.settings.hooks.at(purpose, moment, method);
        let ignored = actions.filter_map(|action| match action {
            Action::WebHook(hook) if hook.response == Response::Ignored => Some(hook.id.clone()),
            _ => None,
        });
        Calls(ignored.map(|hook| (self.mint_in(lane_of(beside)), hook)).collect())
    }

    /// Writes calls; call [`calls_posted`](Self::calls_posted) once the transaction
    /// committed.
    pub(crate) fn post_calls(
        &self,
        (t, scope): (&Transaction, Scope),
        occasion: &Occasion<'_>,
        calls: &Calls,
        identity: Option<&Identity>,
        session: Option<&Session>,
    ) {
        if calls.is_empty() {
            return;
        }
        let session = session.map(session_json);
        let context = self.hook_context(occasion, identity, session.as_ref()).to_string();
        let now = t.now();
        for (id, hook) in &calls.0 {
            let sealed = self.keys.seal.seal(
                self.store.entropy().as_ref(),
                &sealed_for(*id),
                context.as_bytes(),
            );
            let record = HookCallRecord {
                status: QUEUED,
                hook: hook.clone(),
                flow: occasion.purpose.name().to_owned(),
                identity: identity.map(|one| id_bytes(&one.id.0)).unwrap_or_default(),
                context: sealed,
                created_at: now.as_millis(),
                updated_at: now.as_millis(),
                due_at: now.as_millis(),
                ..HookCallRecord::default()
            };
            let key = HookCallKey { tenant: scope.tenant, id: *id };
            t.insert::<HookCalls>(&key, &record, Some(kept_until(&record)));
        }
    }

    /// Wakes who calls, on this node, if there is something to call.
    pub(crate) fn calls_posted(&self, calls: &Calls) {
        if !calls.is_empty() {
            self.hook_bell.notify_one();
        }
    }

    /// Waits until a call was written on this node.
    pub async fn wait_for_calls(&self) {
        self.hook_bell.notified().await;
    }

    /// What a call is made of; `None` if it was erased.
    pub(super) fn context_of(&self, id: Uuid, record: &HookCallRecord) -> Option<Value> {
        if record.context.is_empty() {
            return None;
        }
        match self.keys.seal.open(&sealed_for(id), &record.context) {
            Ok(plain) => serde_json::from_slice(plain.expose()).ok(),
            Err(_) => {
                tracing::error!(call = %id, "a call of a hook does not open; its key is gone");
                None
            }
        }
    }
}

/// When the row of a call ceases to exist.
pub(super) fn kept_until(record: &HookCallRecord) -> Timestamp {
    Timestamp(record.created_at).after(RETENTION)
}

fn sealed_for(id: Uuid) -> String {
    format!("hook call {id}")
}
