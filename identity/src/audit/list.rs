//! Reading events: the latest first, of all or of one identity, and whether a chain
//! holds.

use cardea_storage::{Consistency, KeyRange, StoreError, Table, Timestamp, engine::Order};
use serde_json::Value;
use thiserror::Error;
use uuid::Uuid;

use super::{Act, is_link, linked};
use crate::{
    Service,
    model::{IdentityId, Page, Scope},
    page::{BadPageToken, PageRejection, PageRequest},
    table::audit::{
        AuditEventKey, AuditEventRecord, AuditEvents, AuditEventsByTime, AuditHeadKey, AuditHeads,
    },
};

/// Pages of the index that one page of a list takes at most, where a filter leaves
/// little.
const ROUNDS_MAX: usize = 8;
/// Events of a chain that are read at once.
const AT_ONCE: u32 = 500;
/// What page tokens of the list of all events are sealed for.
const LIST: &str = "audit events";

/// An event.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEvent {
    /// The identity that it is about; `None` for the whole tenant.
    pub identity: Option<IdentityId>,
    /// Which event of the identity it is, from 1.
    pub sequence: u64,
    /// When.
    pub at: Timestamp,
    /// What happened, by its name.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// The address it came from; empty if not known.
    pub ip_address: String,
    /// What the caller calls itself; empty if not known.
    pub user_agent: String,
    /// More about it.
    pub details: Value,
    /// Its link in the chain.
    pub link: Vec<u8>,
}

/// Which events are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of an identity.
    pub identity: Option<IdentityId>,
    /// Those of a kind.
    pub act: Option<Act>,
}

/// Why events are not listed.
#[derive(Debug, Error)]
pub enum ListEventsRejection {
    /// The page token is of another list, or none.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PageRejection> for ListEventsRejection {
    fn from(rejection: PageRejection) -> Self {
        match rejection {
            PageRejection::BadPageToken(error) => Self::BadPageToken(error),
            PageRejection::Store(error) => Self::Store(error),
        }
    }
}

/// Whether a chain holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verification {
    /// Events that are there; older ones have expired.
    pub events: u64,
    /// The number of the first event, from the newest on, where the chain does not hold.
    pub broken_at: Option<u64>,
}

impl AuditEvent {
    pub(crate) fn of(key: &AuditEventKey, record: &AuditEventRecord) -> Self {
        Self {
            identity: (!key.identity.is_nil()).then_some(IdentityId(key.identity)),
            sequence: key.sequence,
            at: Timestamp(record.at),
            kind: record.kind.clone(),
            actor: record.actor.clone(),
            ip_address: record.ip_address.clone(),
            user_agent: record.user_agent.clone(),
            details: crate::model::json_of(&record.details),
            link: record.link.to_vec(),
        }
    }
}

impl Service {
    /// Events, the latest first. A page may hold fewer than asked for, and still have a
    /// successor.
    ///
    /// # Errors
    /// See [`ListEventsRejection`].
    pub async fn list_audit_events(
        &self,
        scope: Scope,
        filter: AuditFilter,
        page: &PageRequest,
        consistency: Consistency,
    ) -> Result<Page<AuditEvent>, ListEventsRejection> {
        let mut page = page.clone();
        let limit = page.limit();
        let wanted = |event: &AuditEvent| filter.act.is_none_or(|act| act.name() == event.kind);
        let mut items: Vec<AuditEvent> = Vec::new();
        for _ in 0..ROUNDS_MAX {
            page.size = limit - u32::try_from(items.len()).unwrap_or(limit);
            let (found, next) = match filter.identity {
                Some(id) => self.events_of(scope, id, &page, &consistency).await?,
                None => self.events_of_all(scope, &page, &consistency).await?,
            };
            items.extend(found.into_iter().filter(wanted));
            page.token = next;
            if page.token.is_none() || items.len() >= limit as usize {
                break;
            }
        }
        Ok(Page { items, next: page.token })
    }

    async fn events_of_all(
        &self,
        scope: Scope,
        page: &PageRequest,
        consistency: &Consistency,
    ) -> Result<(Vec<AuditEvent>, Option<String>), ListEventsRejection> {
        let range = |lane| AuditEventsByTime::slot_range(lane, scope.tenant);
        let (keys, next) = self.page_of_lanes(scope, LIST, range, page, consistency).await?;
        let keys: Vec<_> = keys
            .iter()
            .filter_map(AuditEventsByTime::read_key)
            .map(|key| AuditEventKey {
                tenant: scope.tenant,
                identity: key.identity,
                sequence: key.sequence,
            })
            .map(|key| AuditEvents::key(&key))
            .collect();
        let mut events = Vec::with_capacity(keys.len());
        let view = self.store.view(consistency.clone());
        for row in view.rows(&keys, false).await?.into_iter().flatten() {
            let entry = AuditEvents::decode(&row).map_err(StoreError::from)?;
            events.push(AuditEvent::of(&entry.key, &entry.record));
        }
        Ok((events, next))
    }

    async fn events_of(
        &self,
        scope: Scope,
        id: IdentityId,
        page: &PageRequest,
        consistency: &Consistency,
    ) -> Result<(Vec<AuditEvent>, Option<String>), ListEventsRejection> {
        let list = format!("audit events of {id}");
        let mut range = AuditEvents::of(scope.tenant, &id.0);
        if let Some(token) = &page.token {
            let sequence = u64::from_be_bytes(self.keys.pages.open(scope.tenant, &list, token)?);
            let last = AuditEventKey { tenant: scope.tenant, identity: id.0, sequence };
            range = KeyRange { start: AuditEvents::key(&last).successor(), end: range.end };
        }
        let view = self.store.view(consistency.clone());
        let (found, more) =
            view.peek_range::<AuditEvents>(range, page.limit(), Order::Forward).await?;
        let next = found.last().filter(|_| more).map(|last| {
            let entropy = self.store.entropy().as_ref();
            let position = last.key.sequence.to_be_bytes();
            self.keys.pages.seal(entropy, scope.tenant, &list, &position)
        });
        Ok((found.iter().map(|entry| AuditEvent::of(&entry.key, &entry.record)).collect(), next))
    }

    /// Whether the chain of an identity holds, from its head to its oldest event that has
    /// not expired.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn verify_audit(
        &self,
        scope: Scope,
        identity: Uuid,
    ) -> Result<Verification, StoreError> {
        let view = self.store.view(Consistency::Strong);
        let head_key = AuditHeadKey { tenant: scope.tenant, identity };
        let head = view.peek::<AuditHeads>(&head_key).await?;
        let head = head.map(|entry| entry.record).unwrap_or_default();
        let (mut expected, mut link) = (head.sequence, head.link);
        let mut range = AuditEvents::of(scope.tenant, &identity);
        let mut verification = Verification { events: 0, broken_at: None };
        loop {
            let (found, more) =
                view.peek_range::<AuditEvents>(range.clone(), AT_ONCE, Order::Forward).await?;
            for entry in &found {
                let record = &entry.record;
                let holds = entry.key.sequence == expected
                    && record.link == link
                    && is_link(&self.keys.audit, &linked(&entry.key, record), &record.link);
                if !holds {
                    let at = entry.key.sequence.max(expected);
                    return Ok(Verification { broken_at: Some(at), ..verification });
                }
                verification.events += 1;
                expected = expected.saturating_sub(1);
                link = record.previous.clone();
            }
            match found.last().filter(|_| more) {
                Some(last) => range.start = AuditEvents::key(&last.key).successor(),
                None => break,
            }
        }
        // The head names an event, and there is none: it was cut off. Those before the
        // oldest have expired, all of them before those after.
        if verification.events == 0 && head.sequence > 0 {
            verification.broken_at = Some(head.sequence);
        }
        Ok(verification)
    }
}
