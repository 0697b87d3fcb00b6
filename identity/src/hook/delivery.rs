//! Making calls that are due, as the [outbox](crate::outbox) sends everything.

use std::time::Duration;

use async_trait::async_trait;
use cardea_storage::StoreError;
use uuid::Uuid;

use super::call::CallFailed;
use crate::{
    Service,
    outbound::Unanswered,
    outbox::{
        Round,
        delivery::{Outcome, Place, Sender, Tried},
    },
    table::hook_call::{HookCallRecord, HookCalls},
};

/// How long making a body may take, beside the time of the call.
const BODY_WITHIN: Duration = Duration::from_secs(15);

struct Caller<'a>(&'a Service);

#[async_trait]
impl Sender<HookCalls> for Caller<'_> {
    fn place(&self, record: &HookCallRecord) -> Place {
        let hook = self.0.settings.hooks.web_hook(&record.hook);
        let within = hook.map_or(Duration::ZERO, |hook| hook.request.within) + BODY_WITHIN;
        Place { name: record.hook.clone(), within }
    }

    async fn send(&self, id: Uuid, record: &HookCallRecord) -> Tried {
        let Some(hook) = self.0.settings.hooks.web_hook(&record.hook) else {
            let why = "the configuration has no such hook any more".to_owned();
            return Outcome::Failed(why).with(0);
        };
        let Some(ctx) = self.0.body_of::<HookCalls>(id, record) else {
            return Outcome::Refused("what it says cannot be read any more".to_owned()).with(0);
        };
        let body = match hook.request.body(ctx).await {
            Ok(Some(body)) => body,
            // There is nothing to tell.
            Ok(None) => return Outcome::Sent.with(0),
            Err(failed) => return Outcome::Failed(failed.to_string()).with(0),
        };
        match self.0.try_call(hook, id, &body).await {
            Ok(reply) if reply.is_success() => Outcome::Sent.with(reply.status.into()),
            Ok(reply) => {
                let status = reply.status;
                Outcome::Failed(format!("it answered with status {status}")).with(status.into())
            }
            Err(unanswered) => {
                let is_down =
                    matches!(unanswered, Unanswered::Unreachable(_) | Unanswered::TooLate);
                let why = CallFailed::from(unanswered).to_string();
                let outcome =
                    if is_down { Outcome::Unreachable(why) } else { Outcome::Failed(why) };
                outcome.with(0)
            }
        }
    }
}

impl Service {
    /// Makes the calls that are due, once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was claimed meanwhile is due again after its lease.
    pub async fn make_calls(&self) -> Result<Round, StoreError> {
        self.send_due_posts::<HookCalls>(&Caller(self)).await
    }
}
