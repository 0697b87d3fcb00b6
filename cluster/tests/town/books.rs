//! Books on shelves: a table that was in use before it got an index. Who takes this in
//! has `IndexRules` and `expected_of` in scope.

use cardea_storage::{
    Index, IndexRow, Key, Meanwhile, Row, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
    version::VERSION_MAX,
};

use super::{IndexRules, expected_of};

/// Shelves from here on are of one book: the index has one row for all that claim it.
pub const OF_ONE: u64 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookKey(pub u64);

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct Book {
    #[prost(uint64, tag = "1")]
    pub shelf: u64,
}

impl TableKey for BookKey {
    fn slot(&self) -> Slot {
        Slot::new(Space::Home, u16::try_from(self.0 * 97 % 4_096).unwrap())
    }

    fn write(&self, key: &mut KeyWriter) {
        key.u64(self.0);
    }

    fn read(_: Slot, _: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        rest.u64().map(Self)
    }
}

/// The table as it was, and as an older binary has it.
pub struct Before;

impl Table for Before {
    const TAG: Tag = Tag::TEST;
    type Key = BookKey;
    type Record = Book;
}

/// The table as it is now.
pub struct Books;

impl Table for Books {
    const TAG: Tag = Tag::TEST;
    const INDEXED: bool = true;
    type Key = BookKey;
    type Record = Book;

    fn index_rows(key: &BookKey, book: &Book) -> Vec<IndexRow> {
        let mut row = shelf(book.shelf);
        if book.shelf < OF_ONE {
            row.u64(key.0);
        }
        vec![IndexRow { key: row.finish(), value: key.0.to_be_bytes().to_vec().into() }]
    }
}

pub const BY_SHELF: Index = Index {
    tag: Tag::TEST_INDEX,
    of: Tag::TEST,
    since: VERSION_MAX,
    meanwhile: Meanwhile::Refused,
};

/// Where the index has the books of a shelf.
pub fn shelf(number: u64) -> KeyWriter {
    let slot = Slot::of_name(Space::Index, &number.to_be_bytes());
    let mut key = KeyWriter::new(slot, BY_SHELF.tag, Tenant(0));
    key.u64(number);
    key
}

/// What the binary of this code knows of its indexes.
pub struct Rules;

impl IndexRules for Rules {
    fn indexes(&self) -> Vec<Index> {
        vec![BY_SHELF]
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        expected_of::<Books>(row)
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        let number = row.value.as_ref().try_into().ok().map(u64::from_be_bytes);
        let book = number.map(|number| Books::key(&BookKey(number)));
        (row.key.tag() == BY_SHELF.tag).then(|| book.into_iter().collect())
    }
}
