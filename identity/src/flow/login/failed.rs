//! A try to log in that failed: it counts at the source that it came from, and is an event
//! of the account that was tried.
//!
//! Of an account that nobody has there is no event: strangers would fill the chain of
//! events with what they make up. What is written in its place costs the same and is
//! forgotten soon, so that how long a refusal takes tells nothing.

use std::time::Duration;

use cardea_storage::{StoreError, Transaction};
use serde_json::json;

use super::Attempt;
use crate::{
    Service,
    audit::{Act, Actor},
    table::{Attempts, AttemptsKey, AttemptsRecord, Identities, IdentityKey},
};

/// How long it is kept that somebody tried whom there is not.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Rows that an event is: itself, its place in time, and the head of its chain.
const ROWS_OF_AN_EVENT: u8 = 3;

impl Service {
    /// Counts a failure, and leaves an event of it.
    pub(super) async fn login_failed(&self, attempt: &Attempt<'_>) -> Result<(), StoreError> {
        let Attempt { scope, account, client, factor, .. } = *attempt;
        self.source_failed(scope, &attempt.source).await?;
        self.store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: account };
                if t.peek::<Identities>(&key).await?.is_none() {
                    return self.nobody_failed(&t, attempt).await;
                }
                let details = json!({"method": factor.kind.name(), "aal": factor.aal.name()});
                let what = (Act::LoginFailed, Actor::Oneself(client));
                self.audit(&t, scope, account, what, details).await
            })
            .await
            .map(|done| done.value)
    }

    async fn nobody_failed(
        &self,
        t: &Transaction,
        attempt: &Attempt<'_>,
    ) -> Result<(), StoreError> {
        let Attempt { scope, account, .. } = *attempt;
        let kept = t.now().after(FORGOTTEN_AFTER);
        let key = |n: u8| {
            let name = self.source_digest(scope.tenant, &[b"failure ".as_slice(), &[n]].concat());
            AttemptsKey::own(scope.tenant, account, &name)
        };
        t.get::<Attempts>(&key(0)).await?;
        for n in 0..ROWS_OF_AN_EVENT {
            t.put::<Attempts>(&key(n), &AttemptsRecord::default(), Some(kept)).await?;
        }
        Ok(())
    }
}
