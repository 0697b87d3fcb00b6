//! The identity schemas that operators put in force, in the directory: one row with all
//! of them, so that a node takes them up together.

use bytes::Bytes;
use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;

/// `identity_schema`.
#[derive(Debug)]
pub struct SchemaSets;

/// The key of the only row: all tenants share the schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SchemaSetKey;

/// Schemas as they are kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SchemaSetRecord {
    /// Rises with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// The schema that stands for an empty name; empty for the one that is built in.
    #[prost(string, tag = "2")]
    pub default_id: String,
    /// The schemas, by name.
    #[prost(message, repeated, tag = "3")]
    pub schemas: Vec<SchemaRecord>,
}

/// A schema.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct SchemaRecord {
    /// Its name.
    #[prost(string, tag = "1")]
    pub id: String,
    /// Its document, in JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub document: Bytes,
    /// When it was put in force; milliseconds.
    #[prost(uint64, tag = "3")]
    pub updated_at: u64,
}

impl TableKey for SchemaSetKey {
    fn slot(&self) -> Slot {
        Slot::DIRECTORY
    }

    fn write(&self, _key: &mut KeyWriter) {}

    fn read(_slot: Slot, tenant: Tenant, _rest: &mut KeyReader<'_>) -> Option<Self> {
        (tenant == Tenant::default()).then_some(Self)
    }
}

impl Table for SchemaSets {
    const TAG: Tag = Tag::IDENTITY_SCHEMA;
    type Key = SchemaSetKey;
    type Record = SchemaSetRecord;
}
