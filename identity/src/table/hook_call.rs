//! Calls of web hooks, to be made: their outbox. A call lies in the
//! [lane](super::lane) of what brought it about.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message as Prost;
use uuid::Uuid;

/// `hook_call/<id>`.
#[derive(Debug)]
pub struct HookCalls;

/// The key of a call. Its id lies in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookCallKey {
    /// Whose.
    pub tenant: Tenant,
    /// The call.
    pub id: Uuid,
}

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

/// See [`HookCallRecord::status`].
pub const QUEUED: u32 = 1;
/// See [`HookCallRecord::status`].
pub const ANSWERED: u32 = 2;
/// See [`HookCallRecord::status`].
pub const ABANDONED: u32 = 3;

impl TableKey for HookCallKey {
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

impl Table for HookCalls {
    const TAG: Tag = Tag::HOOK_CALL;
    const INDEXED: bool = true;
    type Key = HookCallKey;
    type Record = HookCallRecord;

    fn index_rows(key: &HookCallKey, record: &HookCallRecord) -> Vec<IndexRow> {
        let (tenant, call) = (key.tenant, key.id);
        let due = HookCallDueKey { tenant, due_at: record.due_at, call };
        let due = IndexRow { key: HookCallsDue::key(&due), value: Bytes::new() };
        let listed = HookCallByCreationKey { tenant, created_at: record.created_at, call };
        let listed = IndexRow { key: HookCallsByCreation::key(&listed), value: Bytes::new() };
        let waits = record.status == QUEUED;
        [listed].into_iter().chain(waits.then_some(due)).collect()
    }
}

/// `hook_call_due/<due_at>/<id>`: calls that wait.
#[derive(Debug)]
pub struct HookCallsDue;

/// The key of a call that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookCallDueKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it is due; milliseconds.
    pub due_at: u64,
    /// The call.
    pub call: Uuid,
}

/// Nothing: the key says it all.
#[derive(Clone, Copy, PartialEq, Eq, Prost)]
pub struct HookCallMark {}

impl HookCallsDue {
    /// The calls of all tenants that wait in a lane.
    pub fn lane(lane: Slot) -> KeyRange {
        let mut prefix = lane.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&Self::TAG.0.to_be_bytes());
        KeyRange::prefix(&prefix)
    }
}

impl TableKey for HookCallDueKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.call)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.due_at).uuid(&self.call);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, due_at: rest.u64()?, call: rest.uuid()? })
    }
}

impl Table for HookCallsDue {
    const TAG: Tag = Tag::HOOK_CALL_DUE;
    type Key = HookCallDueKey;
    type Record = HookCallMark;
}

/// `hook_call_by_creation/<created_at>/<id>`: the newest first.
#[derive(Debug)]
pub struct HookCallsByCreation;

/// The key of a call in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HookCallByCreationKey {
    /// Whose.
    pub tenant: Tenant,
    /// When it was written; milliseconds.
    pub created_at: u64,
    /// The call.
    pub call: Uuid,
}

impl TableKey for HookCallByCreationKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.call)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.created_at).uuid(&self.call);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, created_at: rest.u64_descending()?, call: rest.uuid()? })
    }
}

impl Table for HookCallsByCreation {
    const TAG: Tag = Tag::HOOK_CALL_BY_CREATION;
    type Key = HookCallByCreationKey;
    type Record = HookCallMark;
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
        let key = HookCallKey { tenant: Tenant::default(), id: Uuid::from_u128(7) };
        let mut record = HookCallRecord { status: QUEUED, ..HookCallRecord::default() };
        assert_eq!(HookCalls::index_rows(&key, &record).len(), 2);
        for over in [ANSWERED, ABANDONED] {
            record.status = over;
            assert_eq!(HookCalls::index_rows(&key, &record).len(), 1);
        }
    }
}
