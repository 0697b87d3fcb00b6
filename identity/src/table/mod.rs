//! The tables of this layer: what its rows are called, what they say, and which
//! index rows lead to them. Fields are added, never changed or reused.

/// The key of a row that its id alone names, and that lies in the slot of that id.
macro_rules! key_of_id {
    ($(#[doc = $doc:literal])+ $name:ident { $(#[doc = $of_id:literal])+ id }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name {
            /// Whose.
            pub tenant: cardea_storage::Tenant,
            $(#[doc = $of_id])+
            pub id: uuid::Uuid,
        }

        impl cardea_storage::TableKey for $name {
            fn slot(&self) -> cardea_storage::Slot {
                cardea_storage::Slot::of_id(&self.id)
            }

            fn tenant(&self) -> cardea_storage::Tenant {
                self.tenant
            }

            fn write(&self, key: &mut cardea_storage::key::KeyWriter) {
                key.uuid(&self.id);
            }

            fn read(
                _slot: cardea_storage::Slot,
                tenant: cardea_storage::Tenant,
                rest: &mut cardea_storage::key::KeyReader<'_>,
            ) -> Option<Self> {
                Some(Self { tenant, id: rest.uuid()? })
            }
        }
    };
}

/// The key of an index row that a keyed digest of what it is found by names.
macro_rules! key_of_digest {
    ($(#[doc = $doc:literal])+ $name:ident { $(#[doc = $of_digest:literal])+ digest }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name {
            /// Whose.
            pub tenant: cardea_storage::Tenant,
            $(#[doc = $of_digest])+
            pub digest: [u8; 32],
        }

        impl cardea_storage::TableKey for $name {
            fn slot(&self) -> cardea_storage::Slot {
                cardea_storage::Slot::of_digest(cardea_storage::Space::Index, &self.digest)
            }

            fn tenant(&self) -> cardea_storage::Tenant {
                self.tenant
            }

            fn write(&self, key: &mut cardea_storage::key::KeyWriter) {
                key.fixed(&self.digest);
            }

            fn read(
                _slot: cardea_storage::Slot,
                tenant: cardea_storage::Tenant,
                rest: &mut cardea_storage::key::KeyReader<'_>,
            ) -> Option<Self> {
                Some(Self { tenant, digest: rest.fixed()? })
            }
        }
    };
}

pub mod address;
pub mod attempts;
pub mod audit;
pub mod credential;
pub mod erasure;
pub mod external;
pub mod flow;
pub mod flow_error;
pub mod hook_call;
pub mod identity;
pub mod lane;
pub mod message;
pub mod message_count;
pub mod outbox;
pub mod provider_subject;
pub mod schema;
pub mod session;
#[cfg(test)]
mod tests;

pub use address::{AddressIndexKey, AddressIndexRecord, RecoveryAddresses, VerifiableAddresses};
pub use attempts::{Attempts, AttemptsKey, AttemptsRecord};
pub use credential::{
    CredentialIdentifierKey, CredentialIdentifierRecord, CredentialIdentifiers, CredentialKey,
    CredentialRecord, Credentials, IdentifierTextKey, IdentifiersByText, LookupCodeRecord,
    PasskeyHandleKey, PasskeyHandles, PublicKeyRecord,
};
pub use erasure::{ErasureKey, ErasureRecord, Erasures};
pub use external::{
    BatchReceiptKey, BatchReceiptRecord, BatchReceipts, ExternalIdKey, ExternalIds,
};
pub use flow::{
    FlowKey, FlowRecord, Flows, KnownKeyRecord, TriedRecord, UsedFlowKey, UsedFlowRecord, UsedFlows,
};
pub use flow_error::{FlowErrorKey, FlowErrorRecord, FlowErrors};
pub use identity::{
    AddressRecord, Identities, IdentitiesByOrganization, IdentityByOrganizationKey, IdentityKey,
    IdentityRecord,
};
pub use provider_subject::{LinkRecord, ProviderSubjectKey, ProviderSubjects};
pub use schema::{SchemaRecord, SchemaSetKey, SchemaSetRecord, SchemaSets};
pub use session::{
    DeviceRecord, ImportedTokenKey, ImportedTokens, MethodRecord, SessionByIdentity,
    SessionByIdentityKey, SessionByIssueKey, SessionEraKey, SessionEraRecord, SessionEras,
    SessionKey, SessionMark, SessionRecord, SessionTokenKey, SessionTokenRecord, SessionTokens,
    Sessions, SessionsByIssue,
};

use uuid::Uuid;

/// The bytes of an id, as records hold it.
pub(crate) fn id_bytes(id: &Uuid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(id.as_bytes())
}

/// The id in a record; nil if the bytes are none, which no row of ours has.
pub(crate) fn id_of(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).unwrap_or_default()
}
