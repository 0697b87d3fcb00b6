//! Accounts at other providers, and the index that leads from them to their identity.
//! An account is of one identity at most.

use bytes::Bytes;
use cardea_storage::{IndexRow, Table, Tag};
use prost::Message;
use uuid::Uuid;

use super::{credential::CredentialKey, id_bytes, id_of};

/// An account at a provider, within the credential of its kind.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LinkRecord {
    /// The provider's id.
    #[prost(string, tag = "1")]
    pub provider: String,
    /// The issuer that it was pinned to.
    #[prost(string, tag = "2")]
    pub issuer: String,
    /// The account, as the issuer names it.
    #[prost(string, tag = "3")]
    pub subject: String,
    /// The keyed digest under which it is in the index.
    #[prost(bytes = "bytes", tag = "4")]
    pub digest: Bytes,
    /// The provider's tokens, in JSON, sealed; empty for none.
    #[prost(bytes = "bytes", tag = "5")]
    pub tokens: Bytes,
    /// What people call the account: an address or a name; empty if not known.
    #[prost(string, tag = "6")]
    pub label: String,
    /// When it was linked; milliseconds.
    #[prost(uint64, tag = "7")]
    pub linked_at: u64,
    /// When somebody logged in by it last; milliseconds.
    #[prost(uint64, tag = "8")]
    pub used_at: u64,
}

impl LinkRecord {
    /// As Ory names it: `<provider>:<subject>`.
    pub fn identifier(&self) -> String {
        format!("{}:{}", self.provider, self.subject)
    }

    /// Whether it is that account.
    pub fn is(&self, provider: &str, issuer: &str, subject: &str) -> bool {
        self.provider == provider && self.issuer == issuer && self.subject == subject
    }

    pub(super) fn index_row(&self, key: &CredentialKey) -> Option<IndexRow> {
        let digest = <[u8; 32]>::try_from(self.digest.as_ref()).ok()?;
        let value = ProviderSubjectRecord { identity: id_bytes(&key.identity) };
        let key = ProviderSubjects::key(&ProviderSubjectKey { tenant: key.tenant, digest });
        Some(IndexRow { key, value: value.encode_to_vec().into() })
    }
}

/// `provider_subject/<digest>`.
#[derive(Debug)]
pub struct ProviderSubjects;

key_of_digest! {
    /// The key of an account at a provider.
    ProviderSubjectKey {
        /// The keyed digest of provider, issuer and subject.
        digest
    }
}

/// Who it is linked to.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProviderSubjectRecord {
    /// The identity.
    #[prost(bytes = "bytes", tag = "1")]
    pub identity: Bytes,
}

impl ProviderSubjectRecord {
    /// The identity.
    pub fn id(&self) -> Uuid {
        id_of(&self.identity)
    }
}

impl Table for ProviderSubjects {
    const TAG: Tag = Tag::PROVIDER_SUBJECT;
    type Key = ProviderSubjectKey;
    type Record = ProviderSubjectRecord;
}
