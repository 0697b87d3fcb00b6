//! Extending a session (`extendSession`).

use cardea_storage::{StoreError, Timestamp};
use thiserror::Error;

use crate::{
    Service,
    model::{Identity, IdentityId, Scope, Session, SessionId, Standing},
    table::{Identities, IdentityKey, SessionKey, Sessions, id_of},
};

/// Why a session is not extended.
#[derive(Debug, Error)]
pub enum ExtendRejection {
    /// There is no such session that is active.
    #[error("there is no such active session")]
    NotFound,
    /// Its end is not near enough yet.
    #[error("it is too early to extend the session")]
    TooEarly,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Lets an active session last a whole lifespan from now. What is over or revoked
    /// stays so.
    ///
    /// # Errors
    /// See [`ExtendRejection`].
    pub async fn extend_session(
        &self,
        scope: Scope,
        id: SessionId,
    ) -> Result<Session, ExtendRejection> {
        let key = SessionKey { tenant: scope.tenant, id: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let entry = t.get::<Sessions>(&key).await?.ok_or(ExtendRejection::NotFound)?;
                let owner = id_of(&entry.record.identity);
                let owner_key = IdentityKey { tenant: scope.tenant, id: owner };
                let identity =
                    t.get::<Identities>(&owner_key).await?.ok_or(ExtendRejection::NotFound)?.record;
                let era = self.session_era(&t, scope, &owner, true).await?;
                let (now, standing) = (t.now(), Standing::of(Some(&identity), era));
                let mut record = entry.record;
                if !Session::of(id, &record, standing, now).active {
                    return Err(ExtendRejection::NotFound);
                }
                let left = Timestamp(record.expires_at).since(now);
                if self.settings.session_extend_before_end.is_some_and(|window| left > window) {
                    return Err(ExtendRejection::TooEarly);
                }
                let until = now.after(self.settings.session_lifespan);
                record.expires_at = record.expires_at.max(until.as_millis());
                let kept = self.kept_until(Timestamp(record.expires_at));
                t.put::<Sessions>(&key, &record, Some(kept)).await?;
                let mut session = Session::of(id, &record, standing, now);
                session.identity = Some(Identity::of(IdentityId(owner), &identity));
                Ok(session)
            })
            .await?;
        Ok(done.value)
    }
}
