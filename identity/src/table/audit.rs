//! What happened: events at their identity, the head of each identity's chain, and the
//! seals of each lane.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::lane::lane_of;

/// `audit_event/<identity>/<sequence, the latest first>`.
#[derive(Debug)]
pub struct AuditEvents;

/// The key of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditEventKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity that it is about; nil for the whole tenant.
    pub identity: Uuid,
    /// Which event of the identity it is, from 1.
    pub sequence: u64,
}

/// An event as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuditEventRecord {
    /// When; milliseconds.
    #[prost(uint64, tag = "1")]
    pub at: u64,
    /// What happened, by its name.
    #[prost(string, tag = "2")]
    pub kind: String,
    /// Who did it: "self", "administrator" or "system".
    #[prost(string, tag = "3")]
    pub actor: String,
    /// The address it came from; empty if not known.
    #[prost(string, tag = "4")]
    pub ip_address: String,
    /// What the caller calls itself; empty if not known.
    #[prost(string, tag = "5")]
    pub user_agent: String,
    /// More about it, in JSON; empty for nothing.
    #[prost(bytes = "bytes", tag = "6")]
    pub details: Bytes,
    /// The link of the event before; empty for the first.
    #[prost(bytes = "bytes", tag = "7")]
    pub previous: Bytes,
    /// The keyed digest of all of the above and of the key.
    #[prost(bytes = "bytes", tag = "8")]
    pub link: Bytes,
}

impl TableKey for AuditEventKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.identity)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.identity).u64_descending(self.sequence);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, identity: rest.uuid()?, sequence: rest.u64_descending()? })
    }
}

impl AuditEvents {
    /// The events of an identity, the latest first.
    pub fn of(tenant: Tenant, identity: &Uuid) -> KeyRange {
        Self::range(Slot::of_id(identity), tenant, |key| {
            key.uuid(identity);
        })
    }
}

impl Table for AuditEvents {
    const TAG: Tag = Tag::AUDIT_EVENT;
    const INDEXED: bool = true;
    type Key = AuditEventKey;
    type Record = AuditEventRecord;

    fn index_rows(key: &AuditEventKey, record: &AuditEventRecord) -> Vec<IndexRow> {
        let (tenant, identity, sequence) = (key.tenant, key.identity, key.sequence);
        let listed = AuditEventByTimeKey { tenant, at: record.at, identity, sequence };
        let value = AuditLinkRecord { link: record.link.clone() };
        let value = value.encode_to_vec().into();
        vec![IndexRow { key: AuditEventsByTime::key(&listed), value }]
    }
}

/// `audit_event_by_time/<at, the latest first>/<identity>/<sequence>`, in the
/// identity's lane.
#[derive(Debug)]
pub struct AuditEventsByTime;

/// The key of an event in lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditEventByTimeKey {
    /// Whose.
    pub tenant: Tenant,
    /// When; milliseconds.
    pub at: u64,
    /// The identity.
    pub identity: Uuid,
    /// Which of its events.
    pub sequence: u64,
}

/// The event's link, for seals.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuditLinkRecord {
    /// See [`AuditEventRecord::link`].
    #[prost(bytes = "bytes", tag = "1")]
    pub link: Bytes,
}

impl TableKey for AuditEventByTimeKey {
    fn slot(&self) -> Slot {
        lane_of(Slot::of_id(&self.identity))
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.at).uuid(&self.identity).u64(self.sequence);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self {
            tenant,
            at: rest.u64_descending()?,
            identity: rest.uuid()?,
            sequence: rest.u64()?,
        })
    }
}

impl Table for AuditEventsByTime {
    const TAG: Tag = Tag::AUDIT_EVENT_BY_TIME;
    type Key = AuditEventByTimeKey;
    type Record = AuditLinkRecord;
}

/// `audit_head/<identity>`: where its chain ends.
#[derive(Debug)]
pub struct AuditHeads;

/// The key of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditHeadKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity.
    pub identity: Uuid,
}

/// The end of a chain.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuditHeadRecord {
    /// The number of the last event.
    #[prost(uint64, tag = "1")]
    pub sequence: u64,
    /// Its link.
    #[prost(bytes = "bytes", tag = "2")]
    pub link: Bytes,
}

impl TableKey for AuditHeadKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.identity)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.identity);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, identity: rest.uuid()? })
    }
}

impl Table for AuditHeads {
    const TAG: Tag = Tag::AUDIT_HEAD;
    type Key = AuditHeadKey;
    type Record = AuditHeadRecord;
}

/// `audit_seal/<until, the latest first>`, in each lane.
#[derive(Debug)]
pub struct AuditSeals;

/// The key of a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditSealKey {
    /// The lane.
    pub lane: Slot,
    /// Whose.
    pub tenant: Tenant,
    /// The end of the time that it seals; milliseconds, excluded.
    pub until: u64,
}

/// A seal.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AuditSealRecord {
    /// The beginning of the time that it seals; milliseconds.
    #[prost(uint64, tag = "1")]
    pub from: u64,
    /// How many events it seals.
    #[prost(uint64, tag = "2")]
    pub events: u64,
    /// A digest of their links, in order.
    #[prost(bytes = "bytes", tag = "3")]
    pub root: Bytes,
    /// The link of the seal before; empty for the first.
    #[prost(bytes = "bytes", tag = "4")]
    pub previous: Bytes,
    /// The keyed digest of all of the above and of the key.
    #[prost(bytes = "bytes", tag = "5")]
    pub link: Bytes,
}

impl TableKey for AuditSealKey {
    fn slot(&self) -> Slot {
        self.lane
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64_descending(self.until);
    }

    fn read(slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { lane: slot, tenant, until: rest.u64_descending()? })
    }
}

impl Table for AuditSeals {
    const TAG: Tag = Tag::AUDIT_SEAL;
    type Key = AuditSealKey;
    type Record = AuditSealRecord;
}
