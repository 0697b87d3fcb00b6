//! Tables: a key type, a record type that tolerates added fields, and the
//! indexes of the record declared beside it. Index rows are kept in step by the
//! [`Transaction`](crate::transact::Transaction); no layer writes them by hand.

use bytes::Bytes;
use prost::Message;

use crate::{
    clock::Timestamp,
    fault::Fault,
    key::{Key, KeyRange, KeyReader, KeyWriter, Tenant},
    row::Row,
    slot::Slot,
    tag::Tag,
    txn::{Effect, Op, Put},
};

/// A key struct, convertible to bytes and back.
pub trait TableKey: Sized + Clone {
    /// The slot that the row lies in.
    fn slot(&self) -> Slot;

    /// Whose row it is.
    fn tenant(&self) -> Tenant {
        Tenant::default()
    }

    /// Writes what comes behind slot, tag and tenant.
    fn write(&self, key: &mut KeyWriter);

    /// Reads it back; `None` if the bytes are not of this form.
    fn read(slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self>;
}

/// A kind of rows.
pub trait Table: 'static {
    /// Its number in the register.
    const TAG: Tag;
    /// Its key.
    type Key: TableKey;
    /// Its record.
    type Record: Message + Default + Clone + PartialEq;

    /// Whether any record of this table has index rows. Then putting a record
    /// reads the one that was there, to keep its index rows in step.
    const INDEXED: bool = false;

    /// The index rows that lead to this record. They may lie in any slot, live as
    /// long as the record, and are put, kept and deleted with it.
    fn index_rows(_key: &Self::Key, _record: &Self::Record) -> Vec<IndexRow> {
        Vec::new()
    }

    /// The bytes of a key.
    fn key(key: &Self::Key) -> Key {
        let mut writer = KeyWriter::new(key.slot(), Self::TAG, key.tenant());
        key.write(&mut writer);
        writer.finish()
    }

    /// What sets a record and its index rows whatever was there, in a transaction that
    /// reads nothing. Only for tables whose index rows lie where the key alone says: an
    /// index row of the record that was there would else be left.
    fn puts(key: &Self::Key, record: &Self::Record, expires_at: Option<Timestamp>) -> Vec<Op> {
        let mut rows = Self::index_rows(key, record);
        rows.push(IndexRow { key: Self::key(key), value: record.encode_to_vec().into() });
        let expires_at = expires_at.map_or(0, Timestamp::as_millis);
        let put = |IndexRow { key, value }| Put { key: key.as_bytes().clone(), value, expires_at };
        rows.into_iter().map(|row| Op::from(Effect::Put(put(row)))).collect()
    }

    /// Reads a key back.
    fn read_key(key: &Key) -> Option<Self::Key> {
        if key.tag() != Self::TAG {
            return None;
        }
        let mut reader = key.reader();
        let parsed = Self::Key::read(key.slot(), key.tenant(), &mut reader)?;
        reader.end()?;
        Some(parsed)
    }

    /// All rows of this table in a slot.
    fn slot_range(slot: Slot, tenant: Tenant) -> KeyRange {
        KeyWriter::new(slot, Self::TAG, tenant).range()
    }

    /// The rows of this table in a slot whose keys begin as `write` writes.
    fn range(slot: Slot, tenant: Tenant, write: impl FnOnce(&mut KeyWriter)) -> KeyRange {
        let mut writer = KeyWriter::new(slot, Self::TAG, tenant);
        write(&mut writer);
        writer.range()
    }

    /// Reads a row of this table.
    ///
    /// # Errors
    /// A fault if key or value are not of this table's form: the data directory
    /// is corrupt or was written by something newer.
    fn decode(row: &Row) -> Result<Entry<Self>, Fault>
    where
        Self: Sized,
    {
        let key = Self::read_key(&row.key)
            .ok_or_else(|| Fault::new(format!("key {} is not of table {}", row.key, Self::TAG)))?;
        let record = Self::Record::decode(row.value.clone())
            .map_err(|error| Fault::caused(format!("record at {}", row.key), error))?;
        Ok(Entry { key, record, revision: row.revision, expires_at: row.expires_at })
    }
}

/// A row that leads to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Where it lies.
    pub key: Key,
    /// What it says, often nothing.
    pub value: Bytes,
}

/// A row of a table, read.
pub struct Entry<T: Table> {
    /// Its key.
    pub key: T::Key,
    /// Its record.
    pub record: T::Record,
    /// The revision that wrote it; `None` if it was read through a lock and is
    /// not yet in its place.
    pub revision: Option<crate::row::Revision>,
    /// When it ceases to exist.
    pub expires_at: Option<crate::clock::Timestamp>,
}

impl<T: Table> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone(),
            record: self.record.clone(),
            revision: self.revision,
            expires_at: self.expires_at,
        }
    }
}

impl<T: Table> std::fmt::Debug for Entry<T>
where
    T::Key: std::fmt::Debug,
{
    /// Without the record, which may hold what no log should.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("key", &self.key).field("revision", &self.revision).finish()
    }
}
