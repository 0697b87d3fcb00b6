//! Calls as administrators see them, and trying again one that was given up.

use bytes::Bytes;
use cardea_storage::{
    Consistency, KeyRange, StoreError, Table, Timestamp,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;
use uuid::Uuid;

use super::outbox::kept_until;
use crate::{
    Service,
    model::{IdentityId, Page, Scope},
    page::{BadPageToken, PageRequest},
    table::{
        hook_call::{
            ABANDONED, ANSWERED, HookCallByCreationKey, HookCallKey, HookCallRecord, HookCalls,
            HookCallsByCreation, QUEUED,
        },
        id_of,
        lane::lanes,
    },
};

/// The list that page tokens are for.
const LIST: &str = "hook calls";
/// Rounds of reads that one page takes at most, where a filter leaves little.
const ROUNDS_MAX: usize = 8;

/// How far a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallStatus {
    /// It waits.
    Queued,
    /// Somebody is making it.
    Processing,
    /// It was answered by 2xx.
    Answered,
    /// It was given up.
    Abandoned,
}

impl CallStatus {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Answered => "answered",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Queued, Self::Processing, Self::Answered, Self::Abandoned];
        all.into_iter().find(|status| status.name() == name)
    }

    fn of(record: &HookCallRecord) -> Self {
        match record.status {
            ANSWERED => Self::Answered,
            ABANDONED => Self::Abandoned,
            QUEUED if !record.claim.is_empty() => Self::Processing,
            _ => Self::Queued,
        }
    }
}

/// Which calls to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Those that are so far.
    pub status: Option<CallStatus>,
    /// Those of that hook.
    pub hook: Option<String>,
}

/// A call of a web hook; what it says is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Its id, which is its `webhook-id` too.
    pub id: Uuid,
    /// How far it is.
    pub status: CallStatus,
    /// Its hook.
    pub hook: String,
    /// The purpose of the flow that brought it about.
    pub flow: String,
    /// The identity that it is about.
    pub identity: Option<IdentityId>,
    /// How often it was begun.
    pub attempts: u32,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// When it is tried next, if it is.
    pub due_at: Option<Timestamp>,
    /// The status of the last answer.
    pub last_status: Option<u32>,
    /// What was wrong with the last try.
    pub last_error: Option<String>,
}

/// Why calls are not listed.
#[derive(Debug, Error)]
pub enum ListCallsRejection {
    /// The page token is of another list, or none.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a call is not tried again.
#[derive(Debug, Error)]
pub enum RetryRejection {
    /// There is none of that id.
    #[error("there is no such call")]
    NotFound,
    /// It was not given up.
    #[error("the call was not given up")]
    NotAbandoned,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A call by its id; `None` if there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn hook_call(&self, scope: Scope, id: Uuid) -> Result<Option<HookCall>, StoreError> {
        let key = HookCallKey { tenant: scope.tenant, id };
        let found = self.store.view(Consistency::Strong).peek::<HookCalls>(&key).await?;
        Ok(found.map(|entry| HookCall::of(id, &entry.record)))
    }

    /// Tries again a call that was given up, from the beginning.
    ///
    /// # Errors
    /// See [`RetryRejection`].
    pub async fn retry_call(&self, scope: Scope, id: Uuid) -> Result<HookCall, RetryRejection> {
        let key = HookCallKey { tenant: scope.tenant, id };
        let done = self
            .store
            .transact(|t| async move {
                let found = t.get::<HookCalls>(&key).await?.ok_or(RetryRejection::NotFound)?;
                if found.record.status != ABANDONED {
                    return Err(RetryRejection::NotAbandoned);
                }
                let record = HookCallRecord {
                    status: QUEUED,
                    attempts: 0,
                    claim: Bytes::new(),
                    due_at: t.now().as_millis(),
                    updated_at: t.now().as_millis(),
                    ..found.record
                };
                t.put::<HookCalls>(&key, &record, Some(kept_until(&record))).await?;
                Ok(HookCall::of(id, &record))
            })
            .await?;
        self.hook_bell.notify_one();
        Ok(done.value)
    }

    /// Calls, the newest first. A page may hold fewer than asked for, and still have a
    /// successor.
    ///
    /// # Errors
    /// See [`ListCallsRejection`].
    pub async fn list_calls(
        &self,
        scope: Scope,
        filter: &CallFilter,
        page: &PageRequest,
    ) -> Result<Page<HookCall>, ListCallsRejection> {
        let limit = page.limit();
        let mut after = match &page.token {
            Some(token) => {
                let bytes: [u8; 24] = self.keys.pages.open(scope.tenant, LIST, token)?;
                Some(cursor(scope, &bytes))
            }
            None => None,
        };
        let next = |after: Option<HookCallByCreationKey>| {
            after.map(|after| {
                let entropy = self.store.entropy().as_ref();
                self.keys.pages.seal(entropy, scope.tenant, LIST, &position(&after))
            })
        };
        let mut items = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let keys = self.newest_calls(scope, after, limit).await?;
            let more = keys.len() > limit as usize;
            let keys = &keys[..keys.len().min(limit as usize)];
            let rows: Vec<_> = keys
                .iter()
                .map(|key| HookCalls::key(&HookCallKey { tenant: scope.tenant, id: key.call }))
                .collect();
            let found = self.store.view(Consistency::Strong).rows(&rows, false).await?;
            for (key, row) in keys.iter().zip(found) {
                after = Some(*key);
                let Some(row) = row else { continue };
                let entry = HookCalls::decode(&row).map_err(StoreError::from)?;
                let shown = HookCall::of(key.call, &entry.record);
                let fits = filter.status.is_none_or(|status| status == shown.status)
                    && filter.hook.as_ref().is_none_or(|hook| *hook == shown.hook);
                if fits {
                    items.push(shown);
                }
                if items.len() == limit as usize {
                    return Ok(Page { items, next: next(after) });
                }
            }
            if !more {
                return Ok(Page { items, next: None });
            }
        }
        Ok(Page { items, next: next(after) })
    }

    /// The newest calls after one, of all lanes, one more than the limit.
    async fn newest_calls(
        &self,
        scope: Scope,
        after: Option<HookCallByCreationKey>,
        limit: u32,
    ) -> Result<Vec<HookCallByCreationKey>, StoreError> {
        let mut request = ReadRequest::new(Consistency::Strong);
        for lane in lanes() {
            let mut range = HookCallsByCreation::slot_range(lane, scope.tenant);
            if let Some(after) = after {
                // Where that one would be if it lay in this lane.
                let whole = range.clone();
                range = HookCallsByCreation::range(lane, scope.tenant, |key| {
                    key.u64_descending(after.created_at).uuid(&after.call);
                });
                range = KeyRange { start: range.end, end: whole.end };
            }
            let limit = limit + 1;
            request.reads.push(Read::Scan(Scan { range, limit, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let mut keys = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            keys.push(HookCallsByCreation::decode(row)?.key);
        }
        keys.sort_unstable_by_key(|key| (std::cmp::Reverse(key.created_at), key.call));
        keys.truncate(limit as usize + 1);
        Ok(keys)
    }
}

impl HookCall {
    fn of(id: Uuid, record: &HookCallRecord) -> Self {
        let identity = (!record.identity.is_empty()).then(|| IdentityId(id_of(&record.identity)));
        Self {
            id,
            status: CallStatus::of(record),
            hook: record.hook.clone(),
            flow: record.flow.clone(),
            identity,
            attempts: record.attempts,
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            due_at: (record.status == QUEUED).then_some(Timestamp(record.due_at)),
            last_status: (record.last_status != 0).then_some(record.last_status),
            last_error: (!record.last_error.is_empty()).then(|| record.last_error.clone()),
        }
    }
}

fn position(key: &HookCallByCreationKey) -> Vec<u8> {
    let mut bytes = key.created_at.to_be_bytes().to_vec();
    bytes.extend_from_slice(key.call.as_bytes());
    bytes
}

fn cursor(scope: Scope, bytes: &[u8; 24]) -> HookCallByCreationKey {
    let (time, id) = bytes.split_at(8);
    HookCallByCreationKey {
        tenant: scope.tenant,
        created_at: u64::from_be_bytes(time.try_into().unwrap_or_default()),
        call: Uuid::from_slice(id).unwrap_or_default(),
    }
}
