//! Erasures: what is left to be removed of an identity that is gone.

use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::lane::lane_of;

/// `erasure/<identity>`, in the identity's lane.
#[derive(Debug)]
pub struct Erasures;

/// The key of an erasure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErasureKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity.
    pub identity: Uuid,
}

/// An erasure as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ErasureRecord {
    /// When it was asked for; milliseconds.
    #[prost(uint64, tag = "1")]
    pub requested_at: u64,
    /// The addresses that the identity had, to find what was sent to them; erased with
    /// it.
    #[prost(string, repeated, tag = "2")]
    pub addresses: Vec<String>,
    /// When nothing was left; 0 for not yet. Milliseconds.
    #[prost(uint64, tag = "3")]
    pub done_at: u64,
}

impl Erasures {
    /// The erasures of all tenants in a lane.
    pub fn lane(lane: Slot) -> KeyRange {
        let mut prefix = lane.bits().to_be_bytes().to_vec();
        prefix.extend_from_slice(&Self::TAG.0.to_be_bytes());
        KeyRange::prefix(&prefix)
    }
}

impl TableKey for ErasureKey {
    fn slot(&self) -> Slot {
        lane_of(Slot::of_id(&self.identity))
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

impl Table for Erasures {
    const TAG: Tag = Tag::ERASURE;
    type Key = ErasureKey;
    type Record = ErasureRecord;
}
