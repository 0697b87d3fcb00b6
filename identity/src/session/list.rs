//! Lists of sessions: an identity's, the newest first, and one's own.

use std::collections::BTreeMap;

use cardea_storage::{
    Consistency, KeyRange, Slot, StoreError, Table, Timestamp, Transaction, engine::Order,
};
use thiserror::Error;
use uuid::Uuid;

use super::check::{CheckRejection, Proof};
use crate::{
    Service,
    model::{Identity, IdentityId, Page, Scope, Session, SessionId, Standing},
    page::{BadPageToken, PageRejection, PageRequest},
    table::{
        Identities, IdentityKey, IdentityRecord, SessionByIdentity, SessionByIdentityKey,
        SessionKey, Sessions, SessionsByIssue, id_of,
    },
};

/// Rows read at once while looking for sessions that pass a filter.
const ROWS_AT_ONCE: u32 = 256;
/// Pages of the index that one page of a list takes at most, where a filter leaves
/// little.
const ROUNDS_MAX: usize = 8;
/// What page tokens of the list of all sessions are sealed for.
const LIST: &str = "all sessions";
/// Bytes of a position in a list: time of issue and session.
const POSITION: usize = 24;

/// Why a list is not given.
#[derive(Debug, Error)]
pub enum ListSessionsRejection {
    /// The caller has no session; for lists of one's own.
    #[error("no active session")]
    NoSession,
    /// There is no such identity.
    #[error("there is no such identity")]
    NotFound,
    /// The page token is not one of this list.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a session is not read.
#[derive(Debug, Error)]
pub enum ReadSessionRejection {
    /// There is none of that id.
    #[error("there is no such session")]
    NotFound,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which sessions are wanted.
struct Filter {
    active: Option<bool>,
    but: Option<Uuid>,
}

impl Service {
    /// An identity's sessions (`listIdentitySessions`), active or not, or only those.
    ///
    /// # Errors
    /// See [`ListSessionsRejection`].
    pub async fn list_identity_sessions(
        &self,
        scope: Scope,
        id: IdentityId,
        active: Option<bool>,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Session>, ListSessionsRejection> {
        let view = self.store.view(consistency);
        let key = IdentityKey { tenant: scope.tenant, id: id.0 };
        let identity =
            view.peek::<Identities>(&key).await?.ok_or(ListSessionsRejection::NotFound)?;
        let filter = Filter { active, but: None };
        let mut page =
            self.page_of_sessions(&view, scope, id, &identity.record, &filter, page).await?;
        for session in &mut page.items {
            session.identity = Some(Identity::of(id, &identity.record));
        }
        Ok(page)
    }

    /// All sessions (`listSessions`), the newest first; active or not, or only those. A
    /// page may hold fewer than asked for, and still have a successor.
    ///
    /// # Errors
    /// See [`ListSessionsRejection`].
    pub async fn list_sessions(
        &self,
        scope: Scope,
        active: Option<bool>,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Session>, ListSessionsRejection> {
        let range = |lane| SessionsByIssue::slot_range(lane, scope.tenant);
        let mut page = page.clone();
        let limit = page.limit();
        let mut items: Vec<Session> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            page.size = limit - u32::try_from(items.len()).unwrap_or(limit);
            let (keys, next) = self.page_of_lanes(scope, LIST, range, &page, &consistency).await?;
            let ids: Vec<_> =
                keys.iter().filter_map(SessionsByIssue::read_key).map(|key| key.session).collect();
            let found = self.sessions_by_id(scope, &ids, &consistency).await?;
            items.extend(found.into_iter().filter(|s| active.is_none_or(|wish| s.active == wish)));
            page.token = next;
            if page.token.is_none() || items.len() >= limit as usize {
                break;
            }
        }
        Ok(Page { items, next: page.token })
    }

    /// Sessions with their identities, in the order of the ids. One whose identity is
    /// gone is left out.
    async fn sessions_by_id(
        &self,
        scope: Scope,
        ids: &[Uuid],
        consistency: &Consistency,
    ) -> Result<Vec<Session>, StoreError> {
        let view = self.store.view(consistency.clone());
        let mut found = self.peek_sessions(&view, scope, ids.iter().copied()).await?;
        let mut owners: Vec<_> = found.values().map(|record| id_of(&record.identity)).collect();
        owners.sort_unstable();
        owners.dedup();
        let standings = self.standings(&view, scope, &owners).await?;
        let keys: Vec<_> =
            owners.iter().map(|id| IdentityKey { tenant: scope.tenant, id: *id }).collect();
        let keys: Vec<_> = keys.iter().map(Identities::key).collect();
        let mut identities = BTreeMap::new();
        for row in view.rows(&keys, false).await?.into_iter().flatten() {
            let entry = Identities::decode(&row)?;
            identities.insert(entry.key.id, entry.record);
        }
        let now = view.judged_at();
        let mut sessions = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(record) = found.remove(id) else { continue };
            let owner = id_of(&record.identity);
            let Some(identity) = identities.get(&owner) else { continue };
            let standing = standings.get(&owner).copied().flatten();
            let mut session = Session::of(SessionId(*id), &record, standing, now);
            session.identity = Some(Identity::of(IdentityId(owner), identity));
            sessions.push(session);
        }
        Ok(sessions)
    }

    /// The caller's other active sessions (`listMySessions`).
    ///
    /// # Errors
    /// See [`ListSessionsRejection`].
    pub async fn list_my_sessions(
        &self,
        scope: Scope,
        proof: &Proof,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<Session>, ListSessionsRejection> {
        let view = self.store.view(consistency);
        let found = self.find_session(&view, scope, proof, false).await?;
        let now = view.judged_at();
        let found = found
            .filter(|found| found.accepted(now).is_some())
            .ok_or(ListSessionsRejection::NoSession)?;
        let filter = Filter { active: Some(true), but: Some(found.key.id) };
        let id = IdentityId(found.identity_id);
        self.page_of_sessions(&view, scope, id, &found.identity, &filter, page).await
    }

    /// A session by its id (`getSession`), accepted or not, with its identity.
    ///
    /// # Errors
    /// See [`ReadSessionRejection`].
    pub async fn session(
        &self,
        scope: Scope,
        id: SessionId,
        consistency: Consistency,
    ) -> Result<Session, ReadSessionRejection> {
        let view = self.store.view(consistency);
        let key = SessionKey { tenant: scope.tenant, id: id.0 };
        let entry = view.peek::<Sessions>(&key).await?.ok_or(ReadSessionRejection::NotFound)?;
        let owner = crate::table::id_of(&entry.record.identity);
        let identity_key = IdentityKey { tenant: scope.tenant, id: owner };
        let identity = view
            .peek::<Identities>(&identity_key)
            .await?
            .ok_or(ReadSessionRejection::NotFound)?
            .record;
        let era = self.session_era(&view, scope, &owner, false).await?;
        let now = view.judged_at();
        let standing = Standing::of(Some(&identity), era);
        let mut session = Session::of(id, &entry.record, standing, now);
        session.identity = Some(Identity::of(IdentityId(owner), &identity));
        Ok(session)
    }

    async fn page_of_sessions(
        &self,
        view: &Transaction,
        scope: Scope,
        id: IdentityId,
        identity: &IdentityRecord,
        filter: &Filter,
        page: &PageRequest,
    ) -> Result<Page<Session>, ListSessionsRejection> {
        let list = format!("sessions of {id}");
        let limit = page.limit() as usize;
        let mut range = sessions_of(scope, id.0);
        if let Some(token) = &page.token {
            let position: [u8; POSITION] = self.keys.pages.open(scope.tenant, &list, token)?;
            range = after(scope, id.0, &position, range);
        }
        let era = self.session_era(view, scope, &id.0, false).await?;
        let standing = Standing::of(Some(identity), era);
        let mut items: Vec<Session> = Vec::new();
        let mut more = true;
        while more && items.len() <= limit {
            let (marks, rest) = view
                .peek_range::<SessionByIdentity>(range.clone(), ROWS_AT_ONCE, Order::Forward)
                .await?;
            more = rest;
            let Some(last) = marks.last() else { break };
            range = KeyRange {
                start: SessionByIdentity::key(&last.key).successor(),
                end: range.end.clone(),
            };
            let keys: Vec<_> = marks
                .iter()
                .map(|mark| SessionKey { tenant: scope.tenant, id: mark.key.session })
                .map(|key| Sessions::key(&key))
                .collect();
            let rows = view.rows(&keys, false).await?;
            let now = view.judged_at();
            for row in rows.into_iter().flatten() {
                let entry = Sessions::decode(&row).map_err(StoreError::from)?;
                let session = Session::of(SessionId(entry.key.id), &entry.record, standing, now);
                let wanted = filter.active.is_none_or(|active| session.active == active)
                    && filter.but != Some(entry.key.id);
                if wanted {
                    items.push(session);
                }
            }
        }
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|last| {
            let entropy = self.store.entropy().as_ref();
            self.keys.pages.seal(entropy, scope.tenant, &list, &position(last))
        });
        Ok(Page { items, next })
    }
}

/// The keys of an identity's sessions, the newest first.
pub(super) fn sessions_of(scope: Scope, identity: Uuid) -> KeyRange {
    SessionByIdentity::range(Slot::of_id(&identity), scope.tenant, |key| {
        key.uuid(&identity);
    })
}

fn position(session: &Session) -> [u8; POSITION] {
    let mut bytes = [0; POSITION];
    bytes[..8].copy_from_slice(&session.issued_at.as_millis().to_be_bytes());
    bytes[8..].copy_from_slice(session.id.0.as_bytes());
    bytes
}

fn after(scope: Scope, identity: Uuid, position: &[u8; POSITION], range: KeyRange) -> KeyRange {
    let (mut issued_at, mut session) = ([0; 8], [0; 16]);
    issued_at.copy_from_slice(&position[..8]);
    session.copy_from_slice(&position[8..]);
    let key = SessionByIdentityKey {
        tenant: scope.tenant,
        identity,
        issued_at: Timestamp(u64::from_be_bytes(issued_at)).as_millis(),
        session: Uuid::from_bytes(session),
    };
    KeyRange { start: SessionByIdentity::key(&key).successor(), end: range.end }
}

impl From<PageRejection> for ListSessionsRejection {
    fn from(rejection: PageRejection) -> Self {
        match rejection {
            PageRejection::BadPageToken(error) => Self::BadPageToken(error),
            PageRejection::Store(error) => Self::Store(error),
        }
    }
}

impl From<CheckRejection> for ListSessionsRejection {
    fn from(rejection: CheckRejection) -> Self {
        match rejection {
            CheckRejection::NoSession => Self::NoSession,
            CheckRejection::Store(error) => Self::Store(error),
        }
    }
}
