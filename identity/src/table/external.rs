//! What leads to an identity from another system: its external id, which no other
//! identity has, and the receipt of the item of a batch that made it.

use bytes::Bytes;
use cardea_storage::{
    Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::{AddressIndexRecord, id_of};

/// `external_id/<digest>`: who has it.
#[derive(Debug)]
pub struct ExternalIds;

key_of_digest! {
    /// The key of an external id.
    ExternalIdKey {
        /// The keyed digest of the external id.
        digest
    }
}

impl Table for ExternalIds {
    const TAG: Tag = Tag::EXTERNAL_ID;
    type Key = ExternalIdKey;
    /// The identity, as in the indexes of addresses.
    type Record = AddressIndexRecord;
}

/// `batch_receipt/<digest>`: what an item of a batch made. It expires.
#[derive(Debug)]
pub struct BatchReceipts;

/// The key of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BatchReceiptKey {
    /// Whose.
    pub tenant: Tenant,
    /// The keyed digest of request, item and what the item said.
    pub digest: [u8; 32],
}

/// What an item made.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct BatchReceiptRecord {
    /// The identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub identity: Bytes,
}

impl BatchReceiptRecord {
    /// The identity.
    pub fn id(&self) -> Uuid {
        id_of(&self.identity)
    }
}

impl TableKey for BatchReceiptKey {
    fn slot(&self) -> Slot {
        Slot::of_digest(Space::Index, &self.digest)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.fixed(&self.digest);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, digest: rest.fixed()? })
    }
}

impl Table for BatchReceipts {
    const TAG: Tag = Tag::BATCH_RECEIPT;
    type Key = BatchReceiptKey;
    type Record = BatchReceiptRecord;
}
