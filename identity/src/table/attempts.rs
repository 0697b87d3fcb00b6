//! Counters of attempts at an account's first and second factors, in its home, and of
//! failures by source, in the index space.

use cardea_storage::{
    Key, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};
use prost::Message;
use uuid::Uuid;

/// `attempts/<account>/<source>`.
#[derive(Debug)]
pub struct Attempts;

/// The key of a counter. The account is an identity, or the decoy that stands for
/// an identifier nobody has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AttemptsKey {
    /// Whose.
    pub tenant: Tenant,
    /// The account.
    pub account: Uuid,
    /// The keyed digest of a source from which the account logged in before; zero
    /// for all other sources together.
    pub source: [u8; 16],
}

/// A counter as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct AttemptsRecord {
    /// Attempts charged since the last success.
    #[prost(uint32, tag = "1")]
    pub charged: u32,
    /// The earliest time of the next attempt; milliseconds.
    #[prost(uint64, tag = "2")]
    pub not_before: u64,
    /// Until when the source counts as known; 0 for never. Milliseconds.
    #[prost(uint64, tag = "3")]
    pub known_until: u64,
}

impl AttemptsKey {
    /// The counter that all sources share from which the account never logged in.
    pub fn shared(tenant: Tenant, account: Uuid) -> Self {
        Self { tenant, account, source: [0; 16] }
    }

    /// The counter of one source, by its keyed digest.
    pub fn own(tenant: Tenant, account: Uuid, digest: &[u8; 32]) -> Self {
        let mut source = [0; 16];
        source.copy_from_slice(&digest[..16]);
        Self { tenant, account, source }
    }

    /// The counter of second factors that all sources share from which the account never
    /// completed one.
    pub fn shared_second(tenant: Tenant, account: Uuid) -> Self {
        Self { tenant, account, source: *b"second factor\0\0\0" }
    }

    /// The counter of second factors of one source: of the other half of its digest, so
    /// that no first factor touches it.
    pub fn own_second(tenant: Tenant, account: Uuid, digest: &[u8; 32]) -> Self {
        let mut source = [0; 16];
        source.copy_from_slice(&digest[16..]);
        Self { tenant, account, source }
    }
}

impl TableKey for AttemptsKey {
    fn slot(&self) -> Slot {
        Slot::of_id(&self.account)
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        key.uuid(&self.account).fixed(&self.source);
    }

    fn read(_slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { tenant, account: rest.uuid()?, source: rest.fixed()? })
    }
}

impl Table for Attempts {
    const TAG: Tag = Tag::ATTEMPTS;
    type Key = AttemptsKey;
    type Record = AttemptsRecord;
}

/// `source_failures/<digest>`: a counter of the store, so that many failures at
/// once do not meet as conflicts.
pub fn source_failures_key(tenant: Tenant, source: &[u8; 32]) -> Key {
    let slot = Slot::of_digest(Space::Index, source);
    let mut key = KeyWriter::new(slot, Tag::SOURCE_FAILURES, tenant);
    key.fixed(source);
    key.finish()
}
