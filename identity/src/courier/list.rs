//! Messages as administrators see them (`listCourierMessages`, `getCourierMessage`).

use cardea_storage::{StoreError, Timestamp};
use uuid::Uuid;

use super::delivery::via_of;
use crate::{
    Service,
    model::{Page, Scope},
    outbox::Status,
    page::{PageRejection, PageRequest},
    schema::Channel,
    table::{
        message::{MessageRecord, Messages},
        outbox::Posted as _,
    },
};

/// Which messages to list.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Those that are so far.
    pub status: Option<Status>,
    /// Those to that address.
    pub recipient: Option<String>,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentMessage {
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub status: Status,
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

impl Service {
    /// A message by its id; `None` if there is none.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn message(&self, scope: Scope, id: Uuid) -> Result<Option<SentMessage>, StoreError> {
        let found = self.post_of::<Messages>(scope, id).await?;
        Ok(found.filter(|record| !record.decoy).map(|record| self.shown(id, &record)))
    }

    /// Messages, the newest first. A page may hold fewer than asked for, and still
    /// have a successor.
    ///
    /// # Errors
    /// See [`PageRejection`].
    pub async fn list_messages(
        &self,
        scope: Scope,
        filter: &MessageFilter,
        page: &PageRequest,
    ) -> Result<Page<SentMessage>, PageRejection> {
        let wanted = |record: &MessageRecord| {
            !record.decoy
                && filter.status.is_none_or(|status| status == Status::of(&record.standing()))
                && filter.recipient.as_ref().is_none_or(|wanted| *wanted == record.recipient)
        };
        let found = self.list_posts::<Messages>(scope, wanted, page).await?;
        let items = found.items.iter().map(|(id, record)| self.shown(*id, record)).collect();
        Ok(Page { items, next: found.next })
    }

    fn shown(&self, id: Uuid, record: &MessageRecord) -> SentMessage {
        let mail = self.mail(id, record);
        let status = Status::of(&record.standing());
        let last = match (status, record.last_error.as_str()) {
            (Status::Sent, _) => Some(Delivery { error: None }),
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
