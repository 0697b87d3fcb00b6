//! Two tables for tests: accounts, of which each lies where its number says, and
//! notes with an index.

use bytes::Bytes;
use cardea_storage::{
    IndexRow, Key, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountKey(pub(crate) u16);

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Account {
    #[prost(int64, tag = "1")]
    pub(crate) balance: i64,
}

impl TableKey for AccountKey {
    fn slot(&self) -> Slot {
        Slot::new(Space::Home, self.0.wrapping_mul(1024))
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u32(self.0.into());
    }

    fn read(_: Slot, _: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        u16::try_from(rest.u32()?).ok().map(Self)
    }
}

pub(crate) struct Accounts;

impl Table for Accounts {
    const TAG: Tag = Tag::TEST;
    type Key = AccountKey;
    type Record = Account;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoteKey(pub(crate) u64);

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Note {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
}

impl TableKey for NoteKey {
    fn slot(&self) -> Slot {
        Slot::new(Space::Home, 7)
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.0);
    }

    fn read(_: Slot, _: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        rest.u64().map(Self)
    }
}

pub(crate) struct Notes;

pub(crate) fn title_key(title: &str) -> Key {
    let slot = Slot::of_name(Space::Index, title.as_bytes());
    let mut key = KeyWriter::new(slot, Tag::TEST_INDEX, Tenant(0));
    key.str(title);
    key.finish()
}

impl Table for Notes {
    const TAG: Tag = Tag::TEST;
    const INDEXED: bool = true;
    type Key = NoteKey;
    type Record = Note;

    fn index_rows(key: &NoteKey, note: &Note) -> Vec<IndexRow> {
        vec![IndexRow {
            key: title_key(&note.title),
            value: Bytes::copy_from_slice(&key.0.to_be_bytes()),
        }]
    }
}
