//! A tenant's language: its versions, and which of them is in force.

use std::collections::BTreeMap;

use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;

/// Which version of a tenant's language is in force: small, and read with every
/// request.
pub struct LanguageHeads;

/// The key of [`LanguageHeads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanguageHeadKey(pub Tenant);

/// The record of [`LanguageHeads`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LanguageHeadRecord {
    /// The version, from 1.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// Versions of languages.
pub struct LanguageVersions;

/// The key of [`LanguageVersions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanguageVersionKey {
    /// Whose it is.
    pub tenant: Tenant,
    /// The version.
    pub version: u64,
}

/// The record of [`LanguageVersions`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LanguageVersionRecord {
    /// Its files.
    #[prost(message, repeated, tag = "1")]
    pub files: Vec<LanguageFileRecord>,
    /// When it was put in force, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub created_at: u64,
    /// The slots of its namespaces, by name; the default slot for those that are not
    /// here.
    #[prost(btree_map = "string, uint32", tag = "3")]
    pub slots: BTreeMap<String, u32>,
}

/// A file of a language.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LanguageFileRecord {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its text.
    #[prost(string, tag = "2")]
    pub text: String,
}

impl TableKey for LanguageHeadKey {
    fn slot(&self) -> Slot {
        Slot::DIRECTORY
    }

    fn tenant(&self) -> Tenant {
        self.0
    }

    fn write(&self, _key: &mut KeyWriter) {}

    fn read(_slot: Slot, tenant: Tenant, _rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self(tenant))
    }
}

impl Table for LanguageHeads {
    const TAG: Tag = Tag::PERMISSION_LANGUAGE;
    type Key = LanguageHeadKey;
    type Record = LanguageHeadRecord;
}

impl TableKey for LanguageVersionKey {
    fn slot(&self) -> Slot {
        Slot::DIRECTORY
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.version);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, version: rest.u64()? })
    }
}

impl Table for LanguageVersions {
    const TAG: Tag = Tag::PERMISSION_LANGUAGE_VERSION;
    type Key = LanguageVersionKey;
    type Record = LanguageVersionRecord;
}
