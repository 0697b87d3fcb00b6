//! Calls as administrators see them, and trying again one that was given up.

use bytes::Bytes;
use cardea_storage::{StoreError, Timestamp};
use thiserror::Error;
use uuid::Uuid;

use crate::{
    Service,
    model::{IdentityId, Page, Scope},
    outbox::{Status, kept_until},
    page::{PageRejection, PageRequest},
    table::{
        hook_call::{ABANDONED, HookCallKey, HookCallRecord, HookCalls, QUEUED},
        id_of,
        outbox::Posted as _,
    },
};

/// Which calls to list.
#[derive(Debug, Clone, Default)]
pub struct CallFilter {
    /// Those that are so far.
    pub status: Option<Status>,
    /// Those of that hook.
    pub hook: Option<String>,
}

/// A call of a web hook; what it says is not shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Its id, which is its `webhook-id` too.
    pub id: Uuid,
    /// How far it is.
    pub status: Status,
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
        let found = self.post_of::<HookCalls>(scope, id).await?;
        Ok(found.map(|record| HookCall::of(id, &record)))
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
                t.put::<HookCalls>(&key, &record, Some(kept_until::<HookCalls>(&record))).await?;
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
    /// See [`PageRejection`].
    pub async fn list_calls(
        &self,
        scope: Scope,
        filter: &CallFilter,
        page: &PageRequest,
    ) -> Result<Page<HookCall>, PageRejection> {
        let wanted = |record: &HookCallRecord| {
            filter.status.is_none_or(|status| status == Status::of(&record.standing()))
                && filter.hook.as_ref().is_none_or(|hook| *hook == record.hook)
        };
        let found = self.list_posts::<HookCalls>(scope, wanted, page).await?;
        let items = found.items.iter().map(|(id, record)| HookCall::of(*id, record)).collect();
        Ok(Page { items, next: found.next })
    }
}

impl HookCall {
    fn of(id: Uuid, record: &HookCallRecord) -> Self {
        let identity = (!record.identity.is_empty()).then(|| IdentityId(id_of(&record.identity)));
        Self {
            id,
            status: Status::of(&record.standing()),
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
