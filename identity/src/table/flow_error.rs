//! Errors that a browser is sent to a page to see, in a slot of the region where they
//! came about.

use bytes::Bytes;
use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

/// `flow_error/<id>`.
#[derive(Debug)]
pub struct FlowErrors;

/// The key of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowErrorKey {
    /// Whose.
    pub tenant: Tenant,
    /// The error.
    pub id: Uuid,
}

/// An error as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct FlowErrorRecord {
    /// What is shown of it, in JSON.
    #[prost(bytes = "bytes", tag = "1")]
    pub error: Bytes,
    /// When it came about; milliseconds.
    #[prost(uint64, tag = "2")]
    pub created_at: u64,
}

impl TableKey for FlowErrorKey {
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

impl Table for FlowErrors {
    const TAG: Tag = Tag::FLOW_ERROR;
    type Key = FlowErrorKey;
    type Record = FlowErrorRecord;
}
