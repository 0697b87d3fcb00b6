//! The index of addresses: which identity an address verifies, and which it recovers.
//! An address is of one identity at most.

use bytes::Bytes;
use cardea_storage::{Table, Tag};
use prost::Message;
use uuid::Uuid;

use super::id_of;

/// `verifiable_address/<digest>`.
#[derive(Debug)]
pub struct VerifiableAddresses;

/// `recovery_address/<digest>`.
#[derive(Debug)]
pub struct RecoveryAddresses;

key_of_digest! {
    /// The key of an address in an index.
    AddressIndexKey {
        /// The keyed digest of the address and how it is reached.
        digest
    }
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
