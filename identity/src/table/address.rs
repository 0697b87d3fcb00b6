//! The index of addresses: which identity an address verifies, and which it recovers.
//! An address is of one identity at most.

use bytes::Bytes;
use cardea_storage::{
    Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::id_of;

/// `verifiable_address/<digest>`.
#[derive(Debug)]
pub struct VerifiableAddresses;

/// `recovery_address/<digest>`.
#[derive(Debug)]
pub struct RecoveryAddresses;

/// The key of an address in an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressIndexKey {
    /// Whose.
    pub tenant: Tenant,
    /// The keyed digest of the address and how it is reached.
    pub digest: [u8; 32],
}

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AddressIndexRecord {
    /// The identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub identity: Bytes,
}

impl AddressIndexRecord {
    /// The identity.
    pub fn id(&self) -> Uuid {
        id_of(&self.identity)
    }
}

impl TableKey for AddressIndexKey {
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

impl Table for VerifiableAddresses {
    const TAG: Tag = Tag::VERIFIABLE_ADDRESS;
    type Key = AddressIndexKey;
    type Record = AddressIndexRecord;
}

impl Table for RecoveryAddresses {
    const TAG: Tag = Tag::RECOVERY_ADDRESS;
    type Key = AddressIndexKey;
    type Record = AddressIndexRecord;
}
