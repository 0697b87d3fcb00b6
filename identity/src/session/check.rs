//! Whose session is it (`toSession`): the one question that every request of every
//! application asks.
//!
//! The token names the slot. There are two rounds of reads, both within that slot's
//! shard: the token's row, then session and identity together. A session is
//! accepted if it is not revoked, not over, of the identity's current epoch, and
//! the identity is there and active. Strong reads, which are the default, see
//! every revocation that was acknowledged before the question was asked.

use cardea_storage::{Consistency, Entry, Secret, StoreError, Table, Timestamp, Transaction};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use uuid::Uuid;

use super::{AuthenticationMethod, TokenKeys, TokenKind};
use crate::{
    Service,
    model::{Identity, IdentityId, Scope, Session, SessionId, Standing},
    table::{
        Identities, IdentityKey, IdentityRecord, ImportedTokenKey, ImportedTokens, MethodRecord,
        SessionEraKey, SessionEras, SessionKey, SessionRecord, SessionTokenKey, SessionTokenRecord,
        SessionTokens, Sessions, id_of,
    },
};

/// What a client brings to show that it has a session.
#[derive(Debug, Clone)]
pub enum Proof {
    /// A session token, from `X-Session-Token` or `Authorization: Bearer`.
    Token(Secret<String>),
    /// The value of the session cookie.
    Cookie(Secret<String>),
}

/// Why nobody is recognised.
#[derive(Debug, Error)]
pub enum CheckRejection {
    /// There is no session that is accepted now; it is not said why.
    #[error("no active session")]
    NoSession,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A session and its identity, as they are kept.
pub(crate) struct Found {
    pub(crate) key: SessionKey,
    pub(crate) session: SessionRecord,
    pub(crate) identity_id: Uuid,
    pub(crate) identity: IdentityRecord,
    /// The era of sessions.
    pub(crate) era: u64,
    /// Whether codes are a second factor beside what it shows.
    pub(crate) has_second_codes: bool,
}

impl Service {
    /// The session that a client proves to have, with its identity as the public
    /// may see it.
    ///
    /// # Errors
    /// See [`CheckRejection`].
    pub async fn check_session(
        &self,
        scope: Scope,
        proof: &Proof,
        consistency: Consistency,
    ) -> Result<Session, CheckRejection> {
        let view = self.store.view(consistency);
        let found = self
            .find_session(&view, scope, proof, false)
            .await?
            .ok_or(CheckRejection::NoSession)?;
        // Not by this node's clock: a strong read is of the leader's time, and a
        // session must not end earlier on one node than on another.
        found.accepted(view.judged_at()).ok_or(CheckRejection::NoSession)
    }

    /// Reads the session of a token or cookie and its identity; `None` if there is
    /// no such session or identity. Whether it is accepted is not judged. `tracked`
    /// reads are checked at commit.
    pub(crate) async fn find_session(
        &self,
        t: &Transaction,
        scope: Scope,
        proof: &Proof,
        tracked: bool,
    ) -> Result<Option<Found>, StoreError> {
        let Some(token) = self.session_token(scope, proof) else { return Ok(None) };
        self.find_by_token(t, scope, TokenKind::Session, token.expose(), tracked).await
    }

    /// The session token that a proof holds; `None` for a cookie that is none of ours, nor one
    /// of those that are taken.
    pub fn session_token(&self, scope: Scope, proof: &Proof) -> Option<Secret<String>> {
        match proof {
            Proof::Token(token) => Some(token.clone()),
            Proof::Cookie(value) => {
                let ours = self.keys.cookies.open(scope.tenant, value.expose());
                let foreign = || self.settings.imported_cookies.as_ref()?.open(value.expose());
                ours.map(|opened| opened.token).or_else(foreign)
            }
        }
    }

    pub(crate) async fn find_by_token(
        &self,
        t: &Transaction,
        scope: Scope,
        kind: TokenKind,
        token: &str,
        tracked: bool,
    ) -> Result<Option<Found>, StoreError> {
        let Some(parsed) = self.keys.tokens.parse(kind, scope.tenant, token) else {
            return match kind {
                TokenKind::Session => self.find_imported(t, scope, token, tracked).await,
                TokenKind::Logout => Ok(None),
            };
        };
        let key =
            SessionTokenKey { slot: parsed.slot, tenant: scope.tenant, digest: parsed.digest.0 };
        // The session says whether it is its token still: the row that leads to it goes
        // when it gets another, and may have been read just before.
        let follow = async |lead: Option<Entry<SessionTokens>>| {
            let Some(SessionTokenRecord { session, identity }) = lead.map(|lead| lead.record)
            else {
                return Ok(None);
            };
            let session = SessionKey { tenant: scope.tenant, id: id_of(&session) };
            let found = self.find_by_id(t, session, id_of(&identity), tracked).await?;
            Ok::<_, StoreError>(found.filter(|found| {
                let own = match kind {
                    TokenKind::Session => &found.session.token_digest,
                    TokenKind::Logout => &found.session.logout_digest,
                };
                own.ct_eq(&key.digest).into()
            }))
        };
        let found = follow(t.lead(&key).await?).await?;
        if found.is_some() || !t.may_mislead() {
            return Ok(found);
        }
        follow(t.peek(&key).await?).await
    }

    /// Reads the session of a token that another system made, where such are taken.
    async fn find_imported(
        &self,
        t: &Transaction,
        scope: Scope,
        token: &str,
        tracked: bool,
    ) -> Result<Option<Found>, StoreError> {
        let digest = TokenKeys::imported(scope.tenant, token);
        let Some(digest) = digest.filter(|_| self.settings.imported_tokens) else {
            return Ok(None);
        };
        let key = ImportedTokenKey { tenant: scope.tenant, digest: digest.0 };
        let Some(lead) = t.peek::<ImportedTokens>(&key).await? else { return Ok(None) };
        let session = SessionKey { tenant: scope.tenant, id: id_of(&lead.record.session) };
        let found = self.find_by_id(t, session, id_of(&lead.record.identity), tracked).await?;
        Ok(found.filter(|found| found.session.imported_digest.ct_eq(&key.digest).into()))
    }

    /// Reads a session, its identity and the era of sessions together.
    pub(crate) async fn find_by_id(
        &self,
        t: &Transaction,
        key: SessionKey,
        identity_id: Uuid,
        tracked: bool,
    ) -> Result<Option<Found>, StoreError> {
        let identity_key = IdentityKey { tenant: key.tenant, id: identity_id };
        let era_key = SessionEraKey::of(key.tenant, &identity_id);
        let keys =
            [Sessions::key(&key), Identities::key(&identity_key), SessionEras::key(&era_key)];
        let mut rows = t.rows(&keys, tracked).await?.into_iter();
        let (Some(Some(session)), Some(Some(identity))) = (rows.next(), rows.next()) else {
            return Ok(None);
        };
        let session = Sessions::decode(&session)?.record;
        let identity = Identities::decode(&identity)?.record;
        let shown: Vec<_> = session.methods.iter().filter_map(MethodRecord::read).collect();
        Ok(Some(Found {
            key,
            // What else is a second factor says it already.
            has_second_codes: !identity.second_factor
                && !self.second_addresses(&identity, &shown).is_empty(),
            session,
            identity_id,
            identity,
            era: match rows.next().flatten() {
                Some(row) => SessionEras::decode(&row)?.record.era,
                None => 0,
            },
        }))
    }

    /// The era of an identity's sessions.
    pub(crate) async fn session_era(
        &self,
        t: &Transaction,
        scope: Scope,
        identity: &Uuid,
        tracked: bool,
    ) -> Result<u64, StoreError> {
        let key = SessionEraKey::of(scope.tenant, identity);
        let found = match tracked {
            true => t.get::<SessionEras>(&key).await?,
            false => t.peek::<SessionEras>(&key).await?,
        };
        Ok(found.map_or(0, |entry| entry.record.era))
    }
}

impl Found {
    /// What its holder has shown.
    pub(crate) fn shown(&self) -> Vec<AuthenticationMethod> {
        self.session.methods.iter().filter_map(MethodRecord::read).collect()
    }

    /// The session, if it is accepted.
    pub(crate) fn accepted(&self, now: Timestamp) -> Option<Session> {
        Some(self.view(now)).filter(|session| session.active)
    }

    /// The session as its holder sees it.
    pub(crate) fn view(&self, now: Timestamp) -> Session {
        let standing = Standing::of(Some(&self.identity), self.era);
        let mut session = Session::of(SessionId(self.key.id), &self.session, standing, now);
        let mut identity = Identity::public(IdentityId(self.identity_id), &self.identity);
        identity.has_second_factor |= self.has_second_codes;
        session.identity = Some(identity);
        session
    }
}
