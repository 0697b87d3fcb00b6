//! The form of a browser's flow between two requests: a page is sent elsewhere
//! before it is shown, so what was wrong is kept with the flow.

use cardea_storage::{StoreError, Timestamp};
use uuid::Uuid;

use super::{Flow, FlowRejection, FlowState, Purpose};
use crate::{
    Service,
    model::{FlowId, Scope},
    table::{FlowKey, FlowRecord, Flows},
    ui::{Container, InputAttributes, InputType, Text},
};

/// The largest form that is kept, in bytes of JSON; of a larger one only the messages
/// for the form as a whole are.
const FORM_BYTES_MAX: usize = 64 * 1024;

impl Service {
    /// Keeps what is wrong with a browser's form, for the page that shows it. Native
    /// flows get it in the answer.
    pub(super) async fn keep_form(&self, scope: Scope, flow: &Flow) -> Result<(), StoreError> {
        if flow.browser.is_none() {
            return Ok(());
        }
        let form = &encoded(&flow.ui);
        let key = &FlowKey { tenant: scope.tenant, id: flow.id.0 };
        let active = flow.active.as_deref().unwrap_or_default();
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(()) };
                if found.record.completed_at != 0 {
                    return Ok(());
                }
                let kept = Timestamp(found.record.expires_at).after(self.settings.flow_retention);
                let record = FlowRecord {
                    form: form.clone().into(),
                    active: active.to_owned(),
                    state: flow.state.number(),
                    ..found.record
                };
                t.put::<Flows>(key, &record, Some(kept)).await
            })
            .await?;
        Ok(())
    }

    /// Fills in whose session a login refreshes: as in Kratos, nobody types that again.
    pub(super) fn name_holder(&self, record: &mut FlowRecord, identifier: &str) {
        let mut ui = self.show_flow(FlowId(Uuid::nil()), record).ui;
        ui.fill("identifier", identifier.into());
        record.form = encoded(&ui).into();
    }

    /// Adds a message to a browser's form.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn say(
        &self,
        scope: Scope,
        purpose: Purpose,
        id: FlowId,
        text: Text,
    ) -> Result<(), StoreError> {
        match self.open_flow(scope, purpose, id).await {
            Ok(record) => {
                let mut flow = self.show_flow(id, &record);
                flow.ui.messages.push(text);
                self.keep_form(scope, &flow).await
            }
            Err(FlowRejection::Store(error)) => Err(error),
            // Whoever asks for the flow is told that it is over.
            Err(_) => Ok(()),
        }
    }

    /// Puts what was kept of the form into a flow that is shown.
    pub(super) fn refill(flow: &mut Flow, record: &FlowRecord) {
        // What was wrong before a flow was completed is wrong no more.
        if record.form.is_empty() || flow.state == FlowState::PassedChallenge {
            return;
        }
        let Ok(kept) = serde_json::from_slice::<Container>(&record.form) else { return };
        flow.active = Some(record.active.clone()).filter(|active| !active.is_empty());
        flow.ui.messages = kept.messages;
        for mut node in kept.nodes {
            let name = node.name().to_owned();
            let Some(shown) = flow.ui.nodes.iter_mut().find(|shown| shown.name() == name) else {
                // What no field of the form is about.
                if !node.messages.is_empty() {
                    flow.ui.nodes.push(node);
                }
                continue;
            };
            shown.messages = std::mem::take(&mut node.messages);
            if let (Some(kept), Some(input)) = (node.input_mut(), shown.input_mut())
                && kept.value.is_some()
            {
                input.value = kept.value.take();
            }
        }
    }
}

/// What is kept of a form: what was typed, and what is wrong with it. What is secret, or
/// made anew whenever the form is shown, is not.
fn encoded(form: &Container) -> Vec<u8> {
    let mut kept = form.clone();
    kept.nodes.retain_mut(|node| {
        let messages = !node.messages.is_empty();
        let Some(input) = node.input_mut() else { return false };
        if !is_typed(input) {
            input.value = None;
        }
        messages || input.value.is_some()
    });
    let whole = serde_json::to_vec(&kept).unwrap_or_default();
    if whole.len() <= FORM_BYTES_MAX {
        return whole;
    }
    kept.nodes.clear();
    serde_json::to_vec(&kept).unwrap_or_default()
}

/// Whether somebody typed it, and may see it again.
fn is_typed(input: &InputAttributes) -> bool {
    let secret = matches!(input.name.as_str(), "code" | "totp_code" | "lookup_secret");
    let made = matches!(
        input.kind,
        InputType::Hidden | InputType::Submit | InputType::Button | InputType::Password
    );
    !secret && !made
}
