//! Credentials, beside their identity, and the indexes that lead to them: of their
//! identifiers, and of what passkeys know their owner by.

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
    /// The seed of time-based codes, sealed; empty for none.
    #[prost(bytes = "bytes", tag = "7")]
    pub totp_seed: Bytes,
    /// The last step whose time-based code was taken: none up to it is taken again.
    #[prost(uint64, tag = "8")]
    pub totp_step: u64,
    /// Backup codes.
    #[prost(message, repeated, tag = "9")]
    pub lookup_codes: Vec<LookupCodeRecord>,
    /// The backup codes in the same order, sealed, for their owner to see again.
    #[prost(bytes = "bytes", tag = "10")]
    pub lookup_sealed: Bytes,
    /// Public keys, of security keys or passkeys.
    #[prost(message, repeated, tag = "11")]
    pub keys: Vec<PublicKeyRecord>,
    /// What passkeys know their owner by; empty for none.
    #[prost(bytes = "bytes", tag = "12")]
    pub user_handle: Bytes,
    /// The keyed digest of the user handle, under the key of when it was written: where
    /// the index row is.
    #[prost(bytes = "bytes", tag = "13")]
    pub user_handle_digest: Bytes,
    /// Accounts at other providers.
    #[prost(message, repeated, tag = "15")]
    pub links: Vec<LinkRecord>,
}

/// A backup code.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LookupCodeRecord {
    /// Its keyed digest.
    #[prost(bytes = "bytes", tag = "1")]
    pub digest: Bytes,
    /// When it was used; 0 for not yet. Milliseconds.
    #[prost(uint64, tag = "2")]
    pub used_at: u64,
}

/// A public key that an authenticator has the private one of.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PublicKeyRecord {
    /// Its id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// The key, in COSE.
    #[prost(bytes = "bytes", tag = "2")]
    pub public_key: Bytes,
    /// How often it was used; 0 where its authenticator does not count.
    #[prost(uint32, tag = "3")]
    pub counter: u32,
    /// What its owner calls it; empty for nothing.
    #[prost(string, tag = "4")]
    pub name: String,
    /// When it was added; milliseconds.
    #[prost(uint64, tag = "5")]
    pub created_at: u64,
    /// When it was used last; 0 for never. Milliseconds.
    #[prost(uint64, tag = "6")]
    pub used_at: u64,
    /// The kind of authenticator.
    #[prost(bytes = "bytes", tag = "7")]
    pub aaguid: Bytes,
    /// How the authenticator is reached.
    #[prost(string, repeated, tag = "8")]
    pub transports: Vec<String>,
    /// Whether it may be on several devices.
    #[prost(bool, tag = "9")]
    pub backup_eligible: bool,
    /// Whether it is.
    #[prost(bool, tag = "10")]
    pub backed_up: bool,
    /// Whether it is not known if it may be on several devices: it was brought from where
    /// that was not kept, and was not used here since.
    #[prost(bool, tag = "11")]
    pub backup_unknown: bool,
    /// Whether it logs in alone; otherwise it stands beside a first factor.
    #[prost(bool, tag = "12")]
    pub passwordless: bool,
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
        let digest = |bytes: &Bytes| <[u8; 32]>::try_from(bytes.as_ref()).ok();
        let identifiers = record.identifier_digests.iter().filter_map(digest).map(|digest| {
            let key = CredentialIdentifierKey { tenant: key.tenant, digest, kind: key.kind };
            CredentialIdentifiers::key(&key)
        });
        let handle = digest(&record.user_handle_digest)
            .map(|digest| PasskeyHandles::key(&PasskeyHandleKey { tenant: key.tenant, digest }));
        identifiers
            .chain(handle)
            .map(|key| IndexRow { key, value: value.clone() })
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

/// `passkey_handle/<digest>`: whose passkeys know their owner by that.
#[derive(Debug)]
pub struct PasskeyHandles;

key_of_digest! {
    /// The key of a user handle.
    PasskeyHandleKey {
        /// The keyed digest of the user handle.
        digest
    }
}

impl Table for PasskeyHandles {
    const TAG: Tag = Tag::PASSKEY_HANDLE;
    type Key = PasskeyHandleKey;
    type Record = CredentialIdentifierRecord;
}
