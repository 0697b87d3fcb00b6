//! Writing calls to the outbox, as part of the transaction that brings them about.

use cardea_storage::{Slot, Transaction};
use uuid::Uuid;

use super::{Action, Occasion, Response, context::session_json};
use crate::{
    Service,
    model::{Identity, Scope, Session},
    table::{
        hook_call::{HookCallKey, HookCallRecord, HookCalls},
        id_bytes,
        lane::lane_of,
    },
};

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
        let context = self.hook_context(occasion, identity, session.as_ref());
        for (id, hook) in &calls.0 {
            let record = HookCallRecord {
                hook: hook.clone(),
                flow: occasion.purpose.name().to_owned(),
                identity: identity.map(|one| id_bytes(&one.id.0)).unwrap_or_default(),
                ..HookCallRecord::default()
            };
            let key = HookCallKey { tenant: scope.tenant, id: *id };
            self.put_post::<HookCalls>(t, &key, record, &context);
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
}
