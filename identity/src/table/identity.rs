//! Identities, in the home space, at the slot of their id.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::{
    address::{AddressIndexKey, AddressIndexRecord, RecoveryAddresses, VerifiableAddresses},
    id_bytes,
};

/// `identity/<id>`.
#[derive(Debug)]
pub struct Identities;

/// The key of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity.
    pub id: Uuid,
}

/// An identity as it is kept.
#[derive(Clone, PartialEq, Message)]
pub struct IdentityRecord {
    /// The schema of its traits.
    #[prost(string, tag = "1")]
    pub schema_id: String,
    /// Its traits, in JSON.
    #[prost(bytes = "bytes", tag = "2")]
    pub traits: Bytes,
    /// Whether it may not log in.
    #[prost(bool, tag = "3")]
    pub inactive: bool,
    /// When that changed last; milliseconds.
    #[prost(uint64, tag = "4")]
    pub state_changed_at: u64,
    /// What everybody with a session may see, in JSON; empty for none.
    #[prost(bytes = "bytes", tag = "5")]
    pub metadata_public: Bytes,
    /// What administrators alone may see, in JSON; empty for none.
    #[prost(bytes = "bytes", tag = "6")]
    pub metadata_admin: Bytes,
    /// When it was created; milliseconds.
    #[prost(uint64, tag = "7")]
    pub created_at: u64,
    /// When it was changed last; milliseconds.
    #[prost(uint64, tag = "8")]
    pub updated_at: u64,
    /// Addresses to be verified.
    #[prost(message, repeated, tag = "9")]
    pub verifiable: Vec<AddressRecord>,
    /// Addresses to recover by.
    #[prost(message, repeated, tag = "10")]
    pub recovery: Vec<AddressRecord>,
    /// Sessions issued under an earlier epoch are over: ending all of them is one
    /// write, however many there are.
    #[prost(uint64, tag = "11")]
    pub session_epoch: u64,
}

/// An address of an identity.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct AddressRecord {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// How it is reached: 1 e-mail, 2 text message.
    #[prost(uint32, tag = "2")]
    pub via: u32,
    /// The address, normalised.
    #[prost(string, tag = "3")]
    pub value: String,
    /// When it was verified; 0 for never. Milliseconds.
    #[prost(uint64, tag = "4")]
    pub verified_at: u64,
    /// When it was added; milliseconds.
    #[prost(uint64, tag = "5")]
    pub created_at: u64,
    /// When it was changed last; milliseconds.
    #[prost(uint64, tag = "6")]
    pub updated_at: u64,
    /// Whether a message was sent to verify it.
    #[prost(bool, tag = "7")]
    pub sent: bool,
    /// The keyed digest under which it is in the index.
    #[prost(bytes = "bytes", tag = "8")]
    pub digest: Bytes,
}

impl TableKey for IdentityKey {
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

impl Table for Identities {
    const TAG: Tag = Tag::IDENTITY;
    const INDEXED: bool = true;
    type Key = IdentityKey;
    type Record = IdentityRecord;

    fn index_rows(key: &IdentityKey, record: &IdentityRecord) -> Vec<IndexRow> {
        let value = AddressIndexRecord { identity: id_bytes(&key.id) };
        let value = Bytes::from(value.encode_to_vec());
        let filed = |address: &AddressRecord| {
            let digest = <[u8; 32]>::try_from(address.digest.as_ref()).ok()?;
            Some(AddressIndexKey { tenant: key.tenant, digest })
        };
        let verifiable = record.verifiable.iter().filter_map(filed);
        let recovery = record.recovery.iter().filter_map(filed);
        verifiable
            .map(|key| VerifiableAddresses::key(&key))
            .chain(recovery.map(|key| RecoveryAddresses::key(&key)))
            .map(|key| IndexRow { key, value: value.clone() })
            .collect()
    }
}
