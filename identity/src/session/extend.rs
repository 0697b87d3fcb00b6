//! Extending a session (`extendSession`), and sessions that slide: each check of one that is
//! near its end lets it last anew.

use std::time::Duration;

use cardea_storage::{StoreError, Timestamp};
use thiserror::Error;

use crate::{
    Service,
    model::{Identity, IdentityId, Scope, Session, SessionId, Standing},
    table::{Identities, IdentityKey, SessionKey, Sessions, id_of},
};

/// How sessions slide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sliding {
    /// How little must be left of one; it is shorter than a lifespan, so that not every
    /// check writes.
    pub before_end: Duration,
    /// How long one lasts at most after its holder proved itself.
    pub at_most: Duration,
}

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

    /// A session that was checked, and lasts anew if it was near its end and sessions slide.
    /// What cannot be written is no reason to refuse it: it lasts as long as it did.
    pub async fn slide_session(&self, scope: Scope, session: Session) -> Session {
        let Some(sliding) = self.settings.session_sliding else { return session };
        let now = self.now();
        if !session.active
            || session.expires_at.since(now) > sliding.before_end
            || self.slid(sliding, session.authenticated_at, now) <= session.expires_at
        {
            return session;
        }
        let key = SessionKey { tenant: scope.tenant, id: session.id.0 };
        let slid = self
            .store
            .transact(|t| async move {
                let Some(found) = t.get::<Sessions>(&key).await? else { return Ok(None) };
                let mut record = found.record;
                let now = t.now();
                let until = self.slid(sliding, Timestamp(record.authenticated_at), now);
                // It ended meanwhile, or somebody else was faster.
                let is_over = record.revoked_at != 0 || Timestamp(record.expires_at) <= now;
                if is_over || until <= Timestamp(record.expires_at) {
                    return Ok(None);
                }
                record.expires_at = until.as_millis();
                t.put::<Sessions>(&key, &record, Some(self.kept_until(until))).await?;
                Ok::<_, StoreError>(Some(until))
            })
            .await;
        match slid {
            Ok(done) => Session { expires_at: done.value.unwrap_or(session.expires_at), ..session },
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(session = %session.id, error, "a session does not last anew");
                session
            }
        }
    }

    /// Until when a session lasts that is checked now.
    fn slid(&self, sliding: Sliding, authenticated_at: Timestamp, now: Timestamp) -> Timestamp {
        let longest = authenticated_at.after(sliding.at_most);
        now.after(self.settings.session_lifespan).min(longest)
    }
}
