//! What is kept of API keys.
//!
//! A key's row lies in the home space by the hash of its id, since whoever
//! presents a key says nothing else. An index row per tenant leads to it, for
//! lists.

use bytes::Bytes;
use cardea_storage::{
    Index, IndexRow, KeyRange, Row, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{Key, KeyReader, KeyWriter},
};
use prost::Message;

use super::ApiKeyId;

/// The table of API keys. Rows of all tenants stand under tenant 0: the tenant
/// is what the key tells, not what it is asked for with.
pub(crate) struct ApiKeyTable;

/// A key's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ApiKeyKey(pub(crate) ApiKeyId);

/// What is kept of a key. The row ends with the key.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ApiKeyRecord {
    /// The tenant that it reaches.
    #[prost(uint32, tag = "1")]
    pub(crate) tenant: u32,
    /// For people: who holds it.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// What it allows. Scopes that this version does not know allow nothing.
    #[prost(string, repeated, tag = "3")]
    pub(crate) scopes: Vec<String>,
    /// The digest of its secret.
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) digest: Bytes,
    /// When it was made.
    #[prost(uint64, tag = "5")]
    pub(crate) created_at: u64,
}

impl TableKey for ApiKeyKey {
    fn slot(&self) -> Slot {
        Slot::of_name(Space::Home, &self.0.0.to_be_bytes())
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.0.0);
    }

    fn read(_slot: Slot, _tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        rest.u64().map(|id| Self(ApiKeyId(id)))
    }
}

impl Table for ApiKeyTable {
    const TAG: Tag = Tag::API_KEY;
    type Key = ApiKeyKey;
    type Record = ApiKeyRecord;
    const INDEXED: bool = true;

    fn index_rows(key: &ApiKeyKey, record: &ApiKeyRecord) -> Vec<IndexRow> {
        let mut writer = listed(Tenant(record.tenant));
        writer.u64(key.0.0);
        vec![IndexRow { key: writer.finish(), value: Bytes::new() }]
    }
}

fn listed(tenant: Tenant) -> KeyWriter {
    let slot = Slot::of_name(Space::Index, &tenant.0.to_be_bytes());
    KeyWriter::new(slot, Tag::API_KEY_BY_TENANT, tenant)
}

/// The index of this table.
pub(crate) const INDEX: Index = Index::first(Tag::API_KEY_BY_TENANT, Tag::API_KEY);

/// The key that an index row leads to; `None` if the row is of another index.
pub(crate) fn leads_to(row: &Row) -> Option<Vec<Key>> {
    if row.key.tag() != INDEX.tag {
        return None;
    }
    Some(vec![ApiKeyTable::key(&ApiKeyKey(id_in(&row.key)?))])
}

/// The index rows of a tenant's keys.
pub(crate) fn range_of(tenant: Tenant) -> KeyRange {
    listed(tenant).range()
}

/// The id that an index row leads to.
pub(crate) fn id_in(row: &Key) -> Option<ApiKeyId> {
    row.reader().u64().map(ApiKeyId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn rows_of_api_keys_are_frozen() {
        let key = ApiKeyKey(ApiKeyId(0x0102_0304_0506_0708));
        let bytes = ApiKeyTable::key(&key);
        assert_eq!(ApiKeyTable::read_key(&bytes), Some(key));
        assert_eq!(hex(&bytes.as_bytes()[2..]), "0201000000000102030405060708");
        assert_eq!(bytes.slot().space(), Space::Home);
        let record = ApiKeyRecord {
            tenant: 7,
            name: "n".to_owned(),
            scopes: vec!["admin".to_owned()],
            digest: Bytes::from_static(b"d"),
            created_at: 9,
        };
        assert_eq!(hex(&record.encode_to_vec()), "080712016e1a0561646d696e2201642809");
        let index = ApiKeyTable::index_rows(&key, &record).remove(0).key;
        assert_eq!(hex(&index.as_bytes()[2..]), "0202000000070102030405060708");
        assert!(range_of(Tenant(7)).contains(index.as_bytes()));
        assert_eq!(id_in(&index), Some(key.0));
    }
}
