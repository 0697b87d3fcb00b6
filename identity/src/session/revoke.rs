//! Ending sessions. When any of these returns, no strong read accepts what it ended,
//! on any node; a failure of the store is never reported as done.

use cardea_storage::{Secret, StoreError, TableKey as _, Timestamp, Transaction, engine::Order};
use serde_json::{Value, json};
use thiserror::Error;

use super::{TokenKind, check::Proof, list::sessions_of};
use crate::{
    Service,
    audit::{Act, Actor},
    model::{Client, IdentityId, Scope, SessionId},
    table::{
        Identities, IdentityKey, SessionByIdentity, SessionKey, SessionRecord, Sessions, id_of,
    },
};

/// Sessions that one transaction ends.
const AT_ONCE: u32 = 100;

/// Why a session is not ended.
#[derive(Debug, Error)]
pub enum RevokeRejection {
    /// The caller has no session.
    #[error("no active session")]
    NoSession,
    /// There is no such session, or it is not the caller's.
    #[error("there is no such session")]
    NotFound,
    /// The caller's own session cannot be ended this way; logging out does that.
    #[error("the current session cannot be revoked this way")]
    Current,
    /// The store could not answer; the sessions may have been ended.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Ends the session of a session token (`performNativeLogout`). One that has
    /// ended already is no error: who did not see the first answer asks again.
    ///
    /// # Errors
    /// [`RevokeRejection::NotFound`] if the token is of no session.
    pub async fn log_out(
        &self,
        scope: Scope,
        token: &Secret<String>,
    ) -> Result<(), RevokeRejection> {
        self.log_out_by(scope, TokenKind::Session, token, None).await
    }

    /// Ends the session of a logout token; see [`log_out`](Self::log_out). Who shows another
    /// session follows a link that somebody else made, and is not logged out by it.
    ///
    /// # Errors
    /// [`RevokeRejection::NotFound`] if the token is of no session, or of another one than
    /// what is shown.
    pub async fn log_out_by_logout_token(
        &self,
        scope: Scope,
        token: &Secret<String>,
        shown: Option<&Proof>,
    ) -> Result<(), RevokeRejection> {
        self.log_out_by(scope, TokenKind::Logout, token, shown).await
    }

    /// The token that may end the caller's session, and nothing else
    /// (`createBrowserLogoutFlow`).
    ///
    /// # Errors
    /// [`RevokeRejection::NoSession`].
    pub async fn logout_token(
        &self,
        scope: Scope,
        proof: &Proof,
    ) -> Result<Secret<String>, RevokeRejection> {
        let token = self.session_token(scope, proof).ok_or(RevokeRejection::NoSession)?;
        let token = &token;
        self.store
            .transact(|t| async move {
                let found = self
                    .find_by_token(&t, scope, TokenKind::Session, token.expose(), true)
                    .await?
                    .filter(|found| found.accepted(t.now()).is_some())
                    .ok_or(RevokeRejection::NoSession)?;
                let slot = found.key.slot();
                let logout = self.keys.tokens.logout_of(token, scope.tenant, slot);
                // Issued under an older key.
                if found.session.logout_digest != logout.digest.0.as_slice() {
                    let kept = self.kept_until(Timestamp(found.session.expires_at));
                    let digest = logout.digest.0.to_vec().into();
                    let session = SessionRecord { logout_digest: digest, ..found.session };
                    t.put::<Sessions>(&found.key, &session, Some(kept)).await?;
                }
                Ok(logout.token)
            })
            .await
            .map(|done| done.value)
    }

    async fn log_out_by(
        &self,
        scope: Scope,
        kind: TokenKind,
        token: &Secret<String>,
        shown: Option<&Proof>,
    ) -> Result<(), RevokeRejection> {
        self.store
            .transact(|t| async move {
                let found = self
                    .find_by_token(&t, scope, kind, token.expose(), true)
                    .await?
                    .ok_or(RevokeRejection::NotFound)?;
                if let Some(proof) = shown
                    && let Some(present) = self.find_session(&t, scope, proof, true).await?
                    && present.accepted(t.now()).is_some()
                    && present.key.id != found.key.id
                {
                    return Err(RevokeRejection::NotFound);
                }
                if found.accepted(t.now()).is_some() {
                    let oneself = Client::default();
                    let by = Actor::Oneself(&oneself);
                    self.revoke(&t, (found.key, found.session), by).await?;
                }
                Ok(())
            })
            .await
            .map(|done| done.value)
    }

    /// Ends another session of the caller (`disableMySession`).
    ///
    /// # Errors
    /// See [`RevokeRejection`].
    pub async fn revoke_my_session(
        &self,
        scope: Scope,
        proof: &Proof,
        id: SessionId,
    ) -> Result<(), RevokeRejection> {
        self.store
            .transact(|t| async move {
                let me = self
                    .find_session(&t, scope, proof, true)
                    .await?
                    .filter(|found| found.accepted(t.now()).is_some())
                    .ok_or(RevokeRejection::NoSession)?;
                if me.key.id == id.0 {
                    return Err(RevokeRejection::Current);
                }
                let key = SessionKey { tenant: scope.tenant, id: id.0 };
                let other = t
                    .get::<Sessions>(&key)
                    .await?
                    .filter(|entry| id_of(&entry.record.identity) == me.identity_id)
                    .ok_or(RevokeRejection::NotFound)?;
                let oneself = Client::default();
                self.revoke(&t, (key, other.record), Actor::Oneself(&oneself)).await?;
                Ok(())
            })
            .await
            .map(|done| done.value)
    }

    /// Ends all other active sessions of the caller (`disableMyOtherSessions`), and
    /// says how many there were.
    ///
    /// # Errors
    /// See [`RevokeRejection`].
    pub async fn revoke_my_other_sessions(
        &self,
        scope: Scope,
        proof: &Proof,
    ) -> Result<u64, RevokeRejection> {
        let mut revoked = 0;
        let mut range = None;
        loop {
            let from = &range;
            let (count, next) = self
                .store
                .transact(|t| async move {
                    let me = self
                        .find_session(&t, scope, proof, true)
                        .await?
                        .filter(|found| found.accepted(t.now()).is_some())
                        .ok_or(RevokeRejection::NoSession)?;
                    let range = from.clone().unwrap_or_else(|| sessions_of(scope, me.identity_id));
                    let (marks, more) = t
                        .peek_range::<SessionByIdentity>(range.clone(), AT_ONCE, Order::Forward)
                        .await?;
                    let keys: Vec<_> = marks
                        .iter()
                        .map(|mark| SessionKey { tenant: scope.tenant, id: mark.key.session })
                        .filter(|key| key.id != me.key.id)
                        .collect();
                    let mut count = 0;
                    for entry in t.get_many::<Sessions>(&keys).await?.into_iter().flatten() {
                        let record = &entry.record;
                        let active = record.revoked_at == 0
                            && t.now().as_millis() < record.expires_at
                            && (record.epoch, record.era) == (me.identity.session_epoch, me.era);
                        if active {
                            let oneself = Client::default();
                            let by = Actor::Oneself(&oneself);
                            self.revoke(&t, (entry.key, entry.record), by).await?;
                            count += 1;
                        }
                    }
                    let next = marks.last().filter(|_| more).map(|last| {
                        use cardea_storage::Table;
                        let start = SessionByIdentity::key(&last.key).successor();
                        cardea_storage::KeyRange { start, end: range.end }
                    });
                    Ok::<_, RevokeRejection>((count, next))
                })
                .await?
                .value;
            revoked += count;
            match next {
                Some(next) => range = Some(next),
                None => return Ok(revoked),
            }
        }
    }

    /// Ends a session (`disableSession`). One that is over already is no error.
    ///
    /// # Errors
    /// See [`RevokeRejection`].
    pub async fn revoke_session(&self, scope: Scope, id: SessionId) -> Result<(), RevokeRejection> {
        let key = SessionKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let entry = t.get::<Sessions>(&key).await?.ok_or(RevokeRejection::NotFound)?;
                self.revoke(&t, (key, entry.record), Actor::Administrator).await?;
                Ok(())
            })
            .await
            .map(|done| done.value)
    }

    /// Ends all sessions of an identity (`deleteIdentitySessions`) in one write,
    /// however many there are.
    ///
    /// # Errors
    /// See [`RevokeRejection`].
    pub async fn revoke_identity_sessions(
        &self,
        scope: Scope,
        id: IdentityId,
    ) -> Result<(), RevokeRejection> {
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let mut identity =
                    t.get::<Identities>(&key).await?.ok_or(RevokeRejection::NotFound)?.record;
                identity.session_epoch += 1;
                t.put::<Identities>(&key, &identity, None).await?;
                let what = (Act::SessionsRevoked, Actor::Administrator);
                self.audit(&t, scope, id.0, what, Value::Null).await?;
                Ok(())
            })
            .await
            .map(|done| done.value)
    }

    /// Marks a session revoked. The row stays for lists until its retention ends.
    pub(super) async fn revoke(
        &self,
        t: &Transaction,
        (key, mut session): (SessionKey, SessionRecord),
        by: Actor<'_>,
    ) -> Result<(), StoreError> {
        if session.revoked_at != 0 {
            return Ok(());
        }
        session.revoked_at = t.now().as_millis().max(1);
        let kept = self.kept_until(cardea_storage::Timestamp(session.expires_at));
        t.put::<Sessions>(&key, &session, Some(kept)).await?;
        let details = json!({"session_id": key.id.to_string()});
        let (scope, owner) = (Scope { tenant: key.tenant }, id_of(&session.identity));
        self.audit(t, scope, owner, (Act::SessionRevoked, by), details).await
    }
}
