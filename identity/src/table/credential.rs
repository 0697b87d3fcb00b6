//! Credentials, beside their identity, and the index of their identifiers.

use std::collections::BTreeSet;

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyRange, KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

use super::{id_bytes, id_of, lane::lane_of, provider_subject::LinkRecord};

/// `credential/<identity>/<kind>`.
#[derive(Debug)]
pub struct Credentials;

/// The key of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialKey {
    /// Whose.
    pub tenant: Tenant,
    /// The identity.
    pub identity: Uuid,
    /// The kind: [`CredentialKind::number`](crate::session::CredentialKind::number).
    pub kind: u8,
}

/// A credential as it is kept.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CredentialRecord {
    /// What it is found by, normalised.
    #[prost(string, repeated, tag = "1")]
    pub identifiers: Vec<String>,
    /// The keyed digests of the identifiers, under the key of when it was written:
    /// where the index rows are.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub identifier_digests: Vec<Bytes>,
    /// The password's argon2id hash.
    #[prost(string, tag = "3")]
    pub password_hash: String,
    /// A password hash brought from elsewhere, sealed until a login replaces it.
    #[prost(bytes = "bytes", tag = "4")]
    pub imported_hash: Bytes,
    /// When it was created; milliseconds.
    #[prost(uint64, tag = "5")]
    pub created_at: u64,
    /// When it was changed last; milliseconds.
    #[prost(uint64, tag = "6")]
    pub updated_at: u64,
    /// Accounts at other providers.
    #[prost(message, repeated, tag = "15")]
    pub links: Vec<LinkRecord>,
}

impl Credentials {
    /// The credentials of an identity, which lives in a slot.
    pub fn range_of(slot: Slot, tenant: Tenant, identity: &Uuid) -> KeyRange {
        Self::range(slot, tenant, |key| {
            key.uuid(identity);
        })
    }
}

impl CredentialRecord {
    /// Takes away the identifier at a place, and where it is filed.
    pub(crate) fn unlink(&mut self, at: usize) {
        self.identifiers.remove(at);
        if at < self.identifier_digests.len() {
            self.identifier_digests.remove(at);
        }
        if at < self.links.len() {
            self.links.remove(at);
        }
    }
}

impl TableKey for CredentialKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.identity)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.identity).u8(self.kind);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, identity: rest.uuid()?, kind: rest.u8()? })
    }
}

impl Table for Credentials {
    const TAG: Tag = Tag::CREDENTIAL;
    const INDEXED: bool = true;
    type Key = CredentialKey;
    type Record = CredentialRecord;

    fn index_rows(key: &CredentialKey, record: &CredentialRecord) -> Vec<IndexRow> {
        let value = CredentialIdentifierRecord { identity: id_bytes(&key.identity) };
        let value = Bytes::from(value.encode_to_vec());
        let texts: BTreeSet<_> =
            record.identifiers.iter().flat_map(|text| texts_of(text)).collect();
        let texts = texts.into_iter().map(|text| {
            let (tenant, identity, kind) = (key.tenant, key.identity, key.kind);
            let key = IdentifierTextKey { tenant, text: text.to_owned(), identity, kind };
            IndexRow { key: IdentifiersByText::key(&key), value: Bytes::new() }
        });
        let links = record.links.iter().filter_map(|link| link.index_row(key));
        record
            .identifier_digests
            .iter()
            .filter_map(|digest| <[u8; 32]>::try_from(digest.as_ref()).ok())
            .map(|digest| {
                let key = CredentialIdentifierKey { tenant: key.tenant, digest, kind: key.kind };
                IndexRow { key: CredentialIdentifiers::key(&key), value: value.clone() }
            })
            .chain(texts)
            .chain(links)
            .collect()
    }
}

/// `credential_identifier/<digest>/<kind>`: who has it. An identifier is unique
/// among the credentials of a kind.
#[derive(Debug)]
pub struct CredentialIdentifiers;

/// The key of an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CredentialIdentifierKey {
    /// Whose.
    pub tenant: Tenant,
    /// The keyed digest of the identifier.
    pub digest: [u8; 32],
    /// The kind of credential.
    pub kind: u8,
}

/// Who has an identifier.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct CredentialIdentifierRecord {
    /// The identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub identity: Bytes,
}

impl CredentialIdentifierRecord {
    /// The identity.
    pub fn id(&self) -> Uuid {
        id_of(&self.identity)
    }
}

impl TableKey for CredentialIdentifierKey {
    fn slot(&self) -> Slot {
        Slot::of_digest(Space::Index, &self.digest)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.fixed(&self.digest).u8(self.kind);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, digest: rest.fixed()?, kind: rest.u8()? })
    }
}

impl Table for CredentialIdentifiers {
    const TAG: Tag = Tag::CREDENTIAL_IDENTIFIER;
    type Key = CredentialIdentifierKey;
    type Record = CredentialIdentifierRecord;
}

/// The longest stretch of an identifier that is filed by its text, in bytes.
pub const TEXT_BYTES_MAX: usize = 64;

/// The stretches by whose beginnings an identifier is found: the whole of it, and what
/// stands behind its `@`. Cut, at a character.
pub fn texts_of(identifier: &str) -> impl Iterator<Item = &str> {
    let domain = identifier.split_once('@').map(|(_, domain)| domain);
    [Some(identifier), domain].into_iter().flatten().filter(|text| !text.is_empty()).map(cut)
}

/// At most [`TEXT_BYTES_MAX`] bytes.
pub fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `identifier_by_text/<text>/<identity>/<kind>`, in the identity's lane.
#[derive(Debug)]
pub struct IdentifiersByText;

/// The key of an identifier by its text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentifierTextKey {
    /// Whose.
    pub tenant: Tenant,
    /// One of [`texts_of`] the identifier.
    pub text: String,
    /// The identity.
    pub identity: Uuid,
    /// The kind of credential.
    pub kind: u8,
}

/// The key says all.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct IdentifierMark {}

impl TableKey for IdentifierTextKey {
    fn slot(&self) -> Slot {
        lane_of(Slot::of_id(&self.identity))
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.str(&self.text).uuid(&self.identity).u8(self.kind);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, text: rest.str()?, identity: rest.uuid()?, kind: rest.u8()? })
    }
}

impl Table for IdentifiersByText {
    const TAG: Tag = Tag::IDENTIFIER_BY_TEXT;
    type Key = IdentifierTextKey;
    type Record = IdentifierMark;
}
