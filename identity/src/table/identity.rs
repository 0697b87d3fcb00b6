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
    external::{ExternalIdKey, ExternalIds},
    id_bytes, id_of,
    lane::lane_of,
};

/// `identity/<id>`.
#[derive(Debug)]
pub struct Identities;

key_of_id! {
    /// The key of an identity.
    IdentityKey {
        /// The identity.
        id
    }
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
    /// What another system calls it; empty for nothing.
    #[prost(string, tag = "12")]
    pub external_id: String,
    /// The keyed digest under which its external id is in the index.
    #[prost(bytes = "bytes", tag = "13")]
    pub external_id_digest: Bytes,
    /// The organization that it belongs to; empty for none.
    #[prost(bytes = "bytes", tag = "14")]
    pub organization: Bytes,
    /// Of one that was brought along from elsewhere: a digest of what was known of it
    /// there; empty for others.
    #[prost(bytes = "bytes", tag = "15")]
    pub import_digest: Bytes,
    /// What `updated_at` was when it was brought: if it is another now, the identity
    /// changed here. Milliseconds.
    #[prost(uint64, tag = "16")]
    pub imported_at: u64,
    /// Whether it has a second factor: kept here, so that checking a session reads no
    /// credential.
    #[prost(bool, tag = "40")]
    pub second_factor: bool,
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

impl IdentityRecord {
    /// The organization that it belongs to.
    pub(crate) fn organization(&self) -> Option<Uuid> {
        Uuid::from_slice(&self.organization).ok()
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
        let external = <[u8; 32]>::try_from(record.external_id_digest.as_ref()).ok();
        let external = external.map(|digest| ExternalIdKey { tenant: key.tenant, digest });
        let organization = (!record.organization.is_empty()).then(|| IdentityByOrganizationKey {
            tenant: key.tenant,
            organization: id_of(&record.organization),
            identity: key.id,
        });
        let listed = organization.map(|key| IdentitiesByOrganization::key(&key));
        verifiable
            .map(|key| VerifiableAddresses::key(&key))
            .chain(recovery.map(|key| RecoveryAddresses::key(&key)))
            .chain(external.map(|key| ExternalIds::key(&key)))
            .map(|key| IndexRow { key, value: value.clone() })
            .chain(listed.map(|key| IndexRow { key, value: Bytes::new() }))
            .collect()
    }
}

/// `identity_by_organization/<organization>/<identity>`, in the identity's lane.
#[derive(Debug)]
pub struct IdentitiesByOrganization;

/// The key of an identity in its organization's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityByOrganizationKey {
    /// Whose.
    pub tenant: Tenant,
    /// The organization.
    pub organization: Uuid,
    /// The identity.
    pub identity: Uuid,
}

/// The key says all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IdentityMark {}

impl TableKey for IdentityByOrganizationKey {
    fn slot(&self) -> Slot {
        lane_of(Slot::of_id(&self.identity))
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.organization).uuid(&self.identity);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, organization: rest.uuid()?, identity: rest.uuid()? })
    }
}

impl Table for IdentitiesByOrganization {
    const TAG: Tag = Tag::IDENTITY_BY_ORGANIZATION;
    type Key = IdentityByOrganizationKey;
    type Record = IdentityMark;
}
