//! Messages to be sent: the outbox. A message lies in the [lane](super::lane) of what
//! brought it about.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message as Prost;
use uuid::Uuid;

pub use super::lane::{lane_of, lanes};

/// `message/<id>`.
#[derive(Debug)]
pub struct Messages;

/// The key of a message. Its id lies in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// Whose.
    pub tenant: Tenant,
    /// The message.
    pub id: Uuid,
}

/// A message as it is kept.
#[derive(Clone, PartialEq, Eq, Prost)]
pub struct MessageRecord {
    /// 1 queued, 2 sent, 3 abandoned.
    #[prost(uint32, tag = "1")]
    pub status: u32,
    /// The name of its template.
    #[prost(string, tag = "2")]
    pub template: String,
    /// The address it goes to.
    #[prost(string, tag = "3")]
    pub recipient: String,
    /// What the template is filled with, in JSON, sealed; erased once it was sent or
    /// abandoned.
    #[prost(bytes = "bytes", tag = "4")]
    pub model: Bytes,
    /// When it was written; milliseconds, as all times here.
    #[prost(uint64, tag = "5")]
    pub created_at: u64,
    /// When it was changed last.
    #[prost(uint64, tag = "6")]
    pub updated_at: u64,
    /// How often sending it was begun.
    #[prost(uint32, tag = "7")]
    pub send_count: u32,
    /// When it is due, or due again if whoever is sending it does not come back.
    #[prost(uint64, tag = "8")]
    pub due_at: u64,
    /// Drawn by whoever is sending it.
    #[prost(bytes = "bytes", tag = "9")]
    pub claim: Bytes,
    /// Why it was not sent the last time.
    #[prost(string, tag = "10")]
    pub last_error: String,
    /// Whether it only takes the place of one: nobody has the address. It is never
    /// sent nor listed.
    #[prost(bool, tag = "11")]
    pub decoy: bool,
    /// How it goes: 2 as a text message; 1, and 0 from before there were others, by
    /// e-mail.
    #[prost(uint32, tag = "12")]
    pub via: u32,
    /// The language of its reader: [`Language::number`](crate::language::Language);
    /// 0 if it is not known.
    #[prost(uint32, tag = "13")]
    pub language: u32,
}

/// See [`MessageRecord::status`].
pub const QUEUED: u32 = 1;
/// See [`MessageRecord::status`].
pub const SENT: u32 = 2;
/// See [`MessageRecord::status`].
pub const ABANDONED: u32 = 3;

impl TableKey for MessageKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.id)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.id);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, id: rest.uuid()? })
    }
}

impl Table for Messages {
    const TAG: Tag = Tag::MESSAGE;
    const INDEXED: bool = true;
    type Key = MessageKey;
    type Record = MessageRecord;

    fn index_rows(key: &MessageKey, record: &MessageRecord) -> Vec<IndexRow> {
        let (tenant, message) = (key.tenant, key.id);
        let due = MessageDueKey { tenant, due_at: record.due_at, message };
        let due = IndexRow { key: MessagesDue::key(&due), value: Bytes::new() };
        let listed = MessageByCreationKey { tenant, created_at: record.created_at, message };
        let listed = IndexRow { key: MessagesByCreation::key(&listed), value: Bytes::new() };
        let waits = record.status == QUEUED;
        [listed].into_iter().chain(waits.then_some(due)).collect()
    }
}

/// `message_due/<due_at>/<id>`: messages that wait.
#[derive(Debug)]
pub struct MessagesDue;

/// The key of a message that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageDueKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it is due; milliseconds.
    pub due_at: u64,
    /// The message.
    pub message: Uuid,
}

/// Nothing: the key says it all.
#[derive(Clone, Copy, PartialEq, Eq, Prost)]
pub struct MessageMark {}

impl MessagesDue {
    /// The messages of all tenants that wait in a lane.
    pub fn lane(lane: Slot) -> KeyRange {
        let mut prefix = lane.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&Self::TAG.0.to_be_bytes());
        KeyRange::prefix(&prefix)
    }
}

impl TableKey for MessageDueKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.message)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.due_at).uuid(&self.message);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, due_at: rest.u64()?, message: rest.uuid()? })
    }
}

impl Table for MessagesDue {
    const TAG: Tag = Tag::MESSAGE_DUE;
    type Key = MessageDueKey;
    type Record = MessageMark;
}

/// `message_by_creation/<created_at>/<id>`: the newest first.
#[derive(Debug)]
pub struct MessagesByCreation;

/// The key of a message in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageByCreationKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it was written; milliseconds.
    pub created_at: u64,
    /// The message.
    pub message: Uuid,
}

impl TableKey for MessageByCreationKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.message)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.created_at).uuid(&self.message);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, created_at: rest.u64_descending()?, message: rest.uuid()? })
    }
}

impl Table for MessagesByCreation {
    const TAG: Tag = Tag::MESSAGE_BY_CREATION;
    type Key = MessageByCreationKey;
    type Record = MessageMark;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_frozen_and_old_ones_are_read() {
        let mut record = MessageRecord {
            status: QUEUED,
            template: "t".to_owned(),
            recipient: "r".to_owned(),
            model: "m".into(),
            created_at: 2,
            updated_at: 3,
            send_count: 4,
            due_at: 5,
            claim: "c".into(),
            last_error: "e".to_owned(),
            decoy: true,
            ..MessageRecord::default()
        };
        let hex = |record: &MessageRecord| -> String {
            record.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        let before = "08011201741a017222016d28023003380440054a01635201655801".to_owned();
        assert_eq!(hex(&record), before);
        (record.via, record.language) = (2, 3);
        assert_eq!(hex(&record), format!("{before}60026803"));
    }
}
