//! Messages to be sent: the outbox. A message lies in the [lane](super::lane) of what
//! brought it about.

use bytes::Bytes;
use cardea_storage::{IndexRow, Table, Tag};
use prost::Message as Prost;

use super::outbox::{Outbox, Posted, Standing, index_rows};
pub use super::{
    lane::lane_of,
    outbox::{ABANDONED, PostKey as MessageKey, QUEUED, SENT},
};
use crate::outbox::tally::{Tallies, Tally};

/// `message/<id>`.
#[derive(Debug)]
pub struct Messages;

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

impl Posted for MessageRecord {
    fn standing(&self) -> Standing {
        Standing {
            status: self.status,
            body: self.model.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            tries: self.send_count,
            due_at: self.due_at,
            claim: self.claim.clone(),
            last_error: self.last_error.clone(),
        }
    }

    fn stand(&mut self, standing: Standing) {
        self.status = standing.status;
        self.model = standing.body;
        self.created_at = standing.created_at;
        self.updated_at = standing.updated_at;
        self.send_count = standing.tries;
        self.due_at = standing.due_at;
        self.claim = standing.claim;
        self.last_error = standing.last_error;
    }
}

impl Table for Messages {
    const TAG: Tag = Tag::MESSAGE;
    const INDEXED: bool = true;
    type Key = MessageKey;
    type Record = MessageRecord;

    fn index_rows(key: &MessageKey, record: &MessageRecord) -> Vec<IndexRow> {
        index_rows::<Self>(key, record)
    }
}

impl Outbox for Messages {
    const DUE: Tag = Tag::MESSAGE_DUE;
    const BY_CREATION: Tag = Tag::MESSAGE_BY_CREATION;
    const NAME: &'static str = "message";
    // A code that comes hours late is of no use, and is nobody's to read meanwhile.
    const ABANDONED_KEEPS_BODY: bool = false;
    const TRIES_MAX: u32 = 12;

    fn tally(all: &Tallies) -> &Tally {
        &all.messages
    }
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
