//! Calls of web hooks, to be made: their outbox. A call lies in the
//! [lane](super::lane) of what brought it about.

use bytes::Bytes;
use cardea_storage::{IndexRow, Table, Tag};
use prost::Message as Prost;

pub use super::outbox::{ABANDONED, PostKey as HookCallKey, QUEUED, SENT as ANSWERED};
use super::outbox::{Outbox, Posted, Standing, index_rows};
use crate::outbox::tally::{Tallies, Tally};

/// `hook_call/<id>`.
#[derive(Debug)]
pub struct HookCalls;

/// A call as it is kept.
#[derive(Clone, PartialEq, Eq, Prost)]
pub struct HookCallRecord {
    /// 1 queued, 2 answered, 3 abandoned.
    #[prost(uint32, tag = "1")]
    pub status: u32,
    /// The hook, by the id that the configuration gives it.
    #[prost(string, tag = "2")]
    pub hook: String,
    /// What brought it about: the purpose of a flow.
    #[prost(string, tag = "3")]
    pub flow: String,
    /// The identity that it is about; empty for none.
    #[prost(bytes = "bytes", tag = "4")]
    pub identity: Bytes,
    /// What the body is made of, in JSON, sealed; erased once it was answered.
    #[prost(bytes = "bytes", tag = "5")]
    pub context: Bytes,
    /// When it was written; milliseconds, as all times here.
    #[prost(uint64, tag = "6")]
    pub created_at: u64,
    /// When it was changed last.
    #[prost(uint64, tag = "7")]
    pub updated_at: u64,
    /// How often it was begun.
    #[prost(uint32, tag = "8")]
    pub attempts: u32,
    /// When it is due, or due again if whoever is making it does not come back.
    #[prost(uint64, tag = "9")]
    pub due_at: u64,
    /// Drawn by whoever is making it.
    #[prost(bytes = "bytes", tag = "10")]
    pub claim: Bytes,
    /// Why it was not answered well the last time.
    #[prost(string, tag = "11")]
    pub last_error: String,
    /// The status of the last answer; 0 for none.
    #[prost(uint32, tag = "12")]
    pub last_status: u32,
}

impl Posted for HookCallRecord {
    fn standing(&self) -> Standing {
        Standing {
            status: self.status,
            body: self.context.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            tries: self.attempts,
            due_at: self.due_at,
            claim: self.claim.clone(),
            last_error: self.last_error.clone(),
        }
    }

    fn stand(&mut self, standing: Standing) {
        self.status = standing.status;
        self.context = standing.body;
        self.created_at = standing.created_at;
        self.updated_at = standing.updated_at;
        self.attempts = standing.tries;
        self.due_at = standing.due_at;
        self.claim = standing.claim;
        self.last_error = standing.last_error;
    }

    fn answered(&mut self, status: u32) {
        self.last_status = status;
    }
}

impl Table for HookCalls {
    const TAG: Tag = Tag::HOOK_CALL;
    const INDEXED: bool = true;
    type Key = HookCallKey;
    type Record = HookCallRecord;

    fn index_rows(key: &HookCallKey, record: &HookCallRecord) -> Vec<IndexRow> {
        index_rows::<Self>(key, record)
    }
}

impl Outbox for HookCalls {
    const DUE: Tag = Tag::HOOK_CALL_DUE;
    const BY_CREATION: Tag = Tag::HOOK_CALL_BY_CREATION;
    const NAME: &'static str = "hook call";
    const ABANDONED_KEEPS_BODY: bool = true;
    // About seven hours.
    const TRIES_MAX: u32 = 20;

    fn tally(all: &Tallies) -> &Tally {
        &all.calls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_frozen() {
        let record = HookCallRecord {
            status: QUEUED,
            hook: "h".to_owned(),
            flow: "f".to_owned(),
            identity: "i".into(),
            context: "c".into(),
            created_at: 2,
            updated_at: 3,
            attempts: 4,
            due_at: 5,
            claim: "k".into(),
            last_error: "e".to_owned(),
            last_status: 6,
        };
        let hex: String = record.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0801120168 1a0166 220169 2a0163 3002 3803 4004 4805 52016b 5a0165 6006"
                .replace(' ', "")
        );
    }

    #[test]
    fn what_waits_is_found_by_when_it_is_due_and_what_is_over_is_listed() {
        let key = HookCallKey { tenant: Default::default(), id: uuid::Uuid::from_u128(7) };
        let mut record = HookCallRecord { status: QUEUED, ..HookCallRecord::default() };
        assert_eq!(HookCalls::index_rows(&key, &record).len(), 2);
        for over in [ANSWERED, ABANDONED] {
            record.status = over;
            assert_eq!(HookCalls::index_rows(&key, &record).len(), 1);
        }
    }
}
