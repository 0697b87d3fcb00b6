//! Messages as administrators see them (`listCourierMessages`, `getCourierMessage`).

use cardea_storage::{
    Consistency, KeyRange, StoreError, Table, Timestamp,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;
use uuid::Uuid;

use super::delivery::via_of;
use crate::{
    Service,
    model::{Page, Scope},
    page::{BadPageToken, PageRequest},
    schema::Channel,
    table::message::{
        ABANDONED, MessageByCreationKey, MessageKey, MessageRecord, Messages, MessagesByCreation,
        QUEUED, SENT, lanes,
    },
};

/// The list that page tokens are for.
const LIST: &str = "messages";
/// Rounds of reads that one page takes at most, where a filter leaves little.
const ROUNDS_MAX: usize = 8;

/// How far a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageStatus {
    /// It waits.
    Queued,
    /// Somebody is sending it.
    Processing,
    /// It was sent.
    Sent,
    /// It was given up.
    Abandoned,
}

impl MessageStatus {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Processing => "processing",
            Self::Sent => "sent",
            Self::Abandoned => "abandoned",
        }
    }

    /// Reads the name on the wire.
    pub fn parse(name: &str) -> Option<Self> {
        let all = [Self::Queued, Self::Processing, Self::Sent, Self::Abandoned];
        all.into_iter().find(|status| status.name() == name)
    }

    fn of(record: &MessageRecord) -> Self {
        match record.status {
            SENT => Self::Sent,
            ABANDONED => Self::Abandoned,
            QUEUED if !record.claim.is_empty() => Self::Processing,
            _ => Self::Queued,
        }
    }
}

/// Which messages to list.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Those that are so far.
    pub status: Option<MessageStatus>,
    /// Those to that address.
    pub recipient: Option<String>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub status: MessageStatus,
    /// How it goes.
    pub via: Channel,
    /// Where it goes.
    pub recipient: String,
    /// Its template.
    pub template: String,
    /// One line; empty once it was sent.
    pub subject: String,
    /// The body as plain text; empty once it was sent.
    pub body: String,
    /// How often sending it was begun.
    pub send_count: u32,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it was changed last.
    pub updated_at: Timestamp,
    /// How the last sending ended, if it did.
    pub last: Option<Delivery>,
}

/// How sending a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Why it failed; `None` if it did not.
    pub error: Option<String>,
}

/// Why messages are not listed.
#[derive(Debug, Error)]
pub enum ListMessagesRejection {
    /// The page token is of another list, or none.
    #[error(transparent)]
    BadPageToken(#[from] BadPageToken),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A message by its id; `None` if there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn message(&self, scope: Scope, id: Uuid) -> Result<Option<SentMessage>, StoreError> {
        let key = MessageKey { tenant: scope.tenant, id };
        let found = self.store.view(Consistency::Strong).peek::<Messages>(&key).await?;
        Ok(found.filter(|entry| !entry.record.decoy).map(|entry| self.shown(id, &entry.record)))
    }

    /// Messages, the newest first. A page may hold fewer than asked for, and still
    /// have a successor.
    ///
    /// # Errors
    /// See [`ListMessagesRejection`].
    pub async fn list_messages(
        &self,
        scope: Scope,
        filter: &MessageFilter,
        page: &PageRequest,
    ) -> Result<Page<SentMessage>, ListMessagesRejection> {
        let limit = page.limit();
        let mut after = match &page.token {
            Some(token) => {
                let bytes: [u8; 24] = self.keys.pages.open(scope.tenant, LIST, token)?;
                Some(cursor(scope, &bytes))
            }
            None => None,
        };
        let mut items = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let keys = self.newest(scope, after, limit).await?;
            let more = keys.len() > limit as usize;
            let keys = &keys[..keys.len().min(limit as usize)];
            let rows: Vec<_> = keys
                .iter()
                .map(|key| Messages::key(&MessageKey { tenant: scope.tenant, id: key.message }))
                .collect();
            let found = self.store.view(Consistency::Strong).rows(&rows, false).await?;
            for (key, row) in keys.iter().zip(found) {
                after = Some(*key);
                let Some(row) = row else { continue };
                let entry = Messages::decode(&row).map_err(StoreError::from)?;
                if entry.record.decoy {
                    continue;
                }
                let shown = self.shown(key.message, &entry.record);
                let fits = filter.status.is_none_or(|status| status == shown.status)
                    && filter.recipient.as_ref().is_none_or(|r| *r == shown.recipient);
                if fits {
                    items.push(shown);
                }
                if items.len() == limit as usize {
                    let next = self.next_page(scope, after);
                    return Ok(Page { items, next });
                }
            }
            if !more {
                return Ok(Page { items, next: None });
            }
        }
        Ok(Page { items, next: self.next_page(scope, after) })
    }

    /// The newest messages after one, of all lanes, one more than the limit.
    async fn newest(
        &self,
        scope: Scope,
        after: Option<MessageByCreationKey>,
        limit: u32,
    ) -> Result<Vec<MessageByCreationKey>, StoreError> {
        let mut request = ReadRequest::new(Consistency::Strong);
        for lane in lanes() {
            let mut range = MessagesByCreation::slot_range(lane, scope.tenant);
            if let Some(after) = after {
                // Where that one would be if it lay in this lane.
                let whole = range.clone();
                range = MessagesByCreation::range(lane, scope.tenant, |key| {
                    key.u64_descending(after.created_at).uuid(&after.message);
                });
                range = KeyRange { start: range.end, end: whole.end };
            }
            let limit = limit + 1;
            request.reads.push(Read::Scan(Scan { range, limit, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let mut keys = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            keys.push(MessagesByCreation::decode(row)?.key);
        }
        keys.sort_unstable_by_key(|key| (std::cmp::Reverse(key.created_at), key.message));
        keys.truncate(limit as usize + 1);
        Ok(keys)
    }

    fn next_page(&self, scope: Scope, after: Option<MessageByCreationKey>) -> Option<String> {
        let after = after?;
        let mut bytes = after.created_at.to_be_bytes().to_vec();
        bytes.extend_from_slice(after.message.as_bytes());
        let entropy = self.store.entropy().as_ref();
        Some(self.keys.pages.seal(entropy, scope.tenant, LIST, &bytes))
    }

    fn shown(&self, id: Uuid, record: &MessageRecord) -> SentMessage {
        let mail = self.mail(id, record);
        let status = MessageStatus::of(record);
        let last = match (status, record.last_error.as_str()) {
            (MessageStatus::Sent, _) => Some(Delivery { error: None }),
            (_, "") => None,
            (_, error) => Some(Delivery { error: Some(error.to_owned()) }),
        };
        SentMessage {
            id,
            status,
            via: via_of(record.via),
            recipient: record.recipient.clone(),
            template: super::Template::parse(&record.template)
                .map_or_else(|| record.template.clone(), |known| known.ory_name().to_owned()),
            subject: mail.as_ref().map(|mail| mail.subject.clone()).unwrap_or_default(),
            body: mail.map(|mail| mail.text).unwrap_or_default(),
            send_count: record.send_count,
            created_at: Timestamp(record.created_at),
            updated_at: Timestamp(record.updated_at),
            last,
        }
    }
}

fn cursor(scope: Scope, bytes: &[u8; 24]) -> MessageByCreationKey {
    let (time, id) = bytes.split_at(8);
    MessageByCreationKey {
        tenant: scope.tenant,
        created_at: u64::from_be_bytes(time.try_into().unwrap_or_default()),
        message: Uuid::from_slice(id).unwrap_or_default(),
    }
}
