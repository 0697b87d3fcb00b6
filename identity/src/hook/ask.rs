//! Asking blocking web hooks, in order, before anything is written.

use serde_json::Value;

use super::{
    Action, Edits, HookFailed, Occasion, Response, WebHook, answer::words, call::CallFailed,
};
use crate::{
    Service,
    model::Identity,
    outbound::{Reply, Unanswered},
};

impl Service {
    /// Whether anybody is asked on an occasion.
    pub(crate) fn asks_hooks(&self, occasion: &Occasion<'_>) -> bool {
        self.asked_hooks(occasion).next().is_some()
    }

    /// Asks, one after the other; each is told what those before it changed.
    ///
    /// # Errors
    /// See [`HookFailed`]: the first that fails ends it.
    pub(crate) async fn ask_hooks(
        &self,
        occasion: &Occasion<'_>,
        mut identity: Option<Identity>,
        session: Option<Value>,
    ) -> Result<Edits, HookFailed> {
        let mut edits = Edits::default();
        for hook in self.asked_hooks(occasion) {
            let ctx = self.hook_context(occasion, identity.as_ref(), session.as_ref());
            let answered = self.ask_hook(hook, ctx).await;
            if let Err(HookFailed::Failed { .. } | HookFailed::TooLate { .. }) = &answered {
                let error = answered.as_ref().err().map(ToString::to_string);
                tracing::error!(hook = hook.id, error, "a blocking web hook failed");
            }
            let Some(reply) = answered? else { continue };
            if hook.response == Response::Parsed {
                let schema = identity.as_ref().map(|identity| identity.schema_id.as_str());
                let more = Edits::read(&reply, schema);
                let more = more.map_err(|why| HookFailed::failed(&hook.id, why))?;
                if let Some(identity) = &mut identity {
                    more.show(identity);
                }
                edits.merge(more);
            }
        }
        Ok(edits)
    }

    fn asked_hooks<'a>(&'a self, occasion: &Occasion<'a>) -> impl Iterator<Item = &'a WebHook> {
        let Occasion { purpose, moment, method, .. } = *occasion;
        self.settings.hooks.at(purpose, moment, method).filter_map(|action| match action {
            Action::WebHook(hook) if hook.response != Response::Ignored => Some(&**hook),
            _ => None,
        })
    }

    async fn ask_hook(&self, hook: &WebHook, ctx: Value) -> Result<Option<Reply>, HookFailed> {
        let reply = match self.call(hook, self.mint(), ctx).await {
            Ok(Some(reply)) => reply,
            Ok(None) => return Ok(None),
            Err(CallFailed::Unanswered(Unanswered::TooLate)) => {
                return Err(HookFailed::TooLate { hook: hook.id.clone() });
            }
            Err(failed) => return Err(HookFailed::failed(&hook.id, failed)),
        };
        if reply.is_success() {
            return Ok(Some(reply));
        }
        let speaks = hook.can_interrupt || hook.response == Response::Parsed;
        match words(&reply).filter(|_| speaks && reply.status >= 400) {
            Some(words) => Err(HookFailed::Interrupted(words)),
            None => {
                let status = reply.status;
                Err(HookFailed::failed(&hook.id, format!("it answered with status {status}")))
            }
        }
    }
}
