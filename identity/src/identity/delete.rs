//! Deleting an identity (`deleteIdentity`). With its row its sessions end and its
//! identifiers are free; what is left of its sessions goes in pieces.

use cardea_storage::{StoreError, Table, Transaction, engine::Order};
use thiserror::Error;

use crate::{
    Service,
    audit::{Act, Actor},
    model::{IdentityId, Scope},
    table::{Credentials, Identities, IdentityKey, SessionByIdentity, SessionKey, Sessions},
};

/// Sessions that one transaction deletes.
const SESSIONS_AT_ONCE: u32 = 100;

/// Why an identity is not deleted.
#[derive(Debug, Error)]
pub enum DeleteRejection {
    /// There is none of that id.
    #[error("there is no such identity")]
    NotFound,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Deletes an identity with everything it has. When this returns, none of its
    /// sessions is accepted anywhere.
    ///
    /// # Errors
    /// See [`DeleteRejection`].
    pub async fn delete_identity(
        &self,
        scope: Scope,
        id: IdentityId,
    ) -> Result<(), DeleteRejection> {
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        let mut more = self
            .store
            .transact(|t| async move {
                if t.get::<Identities>(&key).await?.is_none() {
                    return Err(DeleteRejection::NotFound);
                }
                t.delete::<Identities>(&key).await?;
                let what = (Act::IdentityDeleted, Actor::Administrator);
                self.audit(&t, scope, id.0, what, serde_json::Value::Null).await?;
                let slot = cardea_storage::Slot::of_id(&id.0);
                let range = Credentials::range_of(slot, scope.tenant, &id.0);
                let (credentials, _) =
                    t.peek_range::<Credentials>(range, 64, Order::Forward).await?;
                for credential in credentials {
                    t.delete::<Credentials>(&credential.key).await?;
                }
                Ok(self.delete_some_sessions(&t, scope, id).await?.1)
            })
            .await?
            .value;
        // The sessions are over already; what follows only frees room. Should it
        // fail, their own expiry does it.
        while more {
            let rest = self
                .store
                .transact(|t| async move { self.delete_some_sessions(&t, scope, id).await })
                .await;
            match rest {
                Ok(done) => more = done.value.1,
                Err(error) => {
                    tracing::warn!(%error, identity = %id, "sessions of a deleted identity stay until they expire");
                    break;
                }
            }
        }
        Ok(())
    }

    /// How many were deleted, and whether there are more.
    pub(crate) async fn delete_some_sessions(
        &self,
        t: &Transaction,
        scope: Scope,
        id: IdentityId,
    ) -> Result<(u64, bool), StoreError> {
        let slot = cardea_storage::Slot::of_id(&id.0);
        let range = SessionByIdentity::range(slot, scope.tenant, |key| {
            key.uuid(&id.0);
        });
        let (sessions, more) =
            t.peek_range::<SessionByIdentity>(range, SESSIONS_AT_ONCE, Order::Forward).await?;
        for session in &sessions {
            let key = SessionKey { tenant: scope.tenant, id: session.key.session };
            t.delete::<Sessions>(&key).await?;
        }
        Ok((sessions.len() as u64, more))
    }
}
