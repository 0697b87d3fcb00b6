//! Books on shelves, with an index by shelf that the newest binary brings: one of
//! before writes the books without it.

use std::sync::Arc;

use bytes::Bytes;
use cardea_cluster::life::{IndexRules, rules::expected_of};
use cardea_storage::{
    Index, IndexRow, Key, Meanwhile, Row, Slot, Space, Store, StoreError, Table, Tag, Tenant,
    key::KeyWriter, version::VERSION_MAX,
};

use super::{Cell, CellKey, CellKind, Refused, Reply, home, read_row};

/// Shelves, of which a book stands on one.
pub const SHELVES: u64 = 3;

const BY_SHELF: Index = Index {
    tag: Tag::TEST_LATE_INDEX,
    of: Tag::TEST,
    since: VERSION_MAX,
    meanwhile: Meanwhile::Refused,
};

/// Books, as the newest binary has them.
struct Books;

impl Table for Books {
    const TAG: Tag = Tag::TEST;
    const INDEXED: bool = true;
    type Key = CellKey;
    type Record = Cell;

    fn index_rows(key: &CellKey, book: &Cell) -> Vec<IndexRow> {
        vec![IndexRow { key: on_shelf(key, book.value), value: Bytes::new() }]
    }
}

/// Books, as the binary before has them.
struct BooksBefore;

impl Table for BooksBefore {
    const TAG: Tag = Tag::TEST;
    type Key = CellKey;
    type Record = Cell;
}

/// What the newest binary knows of its indexes.
pub struct Rules;

impl IndexRules for Rules {
    fn indexes(&self) -> Vec<Index> {
        vec![BY_SHELF]
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        let is_book = matches!(read_row(row), Some((CellKind::Book, ..)));
        is_book.then(|| expected_of::<Books>(row)).flatten()
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        if row.key.tag() != BY_SHELF.tag {
            return None;
        }
        let mut reader = row.key.reader();
        let (_shelf, number) = (reader.u64()?, reader.u64()?);
        Some(vec![Books::key(&home(CellKind::Book, number & u64::from(u32::MAX)))])
    }
}

/// Where the index has a book that stands on a shelf.
fn on_shelf(book: &CellKey, shelf: u64) -> Key {
    let slot = Slot::of_name(Space::Index, &shelf.to_be_bytes());
    let mut key = KeyWriter::new(slot, BY_SHELF.tag, Tenant(0));
    key.u64(shelf).u64(book.number);
    key.finish()
}

/// Puts a book on a shelf, or away, as a binary does it.
pub(super) async fn shelve(
    store: &Arc<dyn Store>,
    book: CellKey,
    shelf: Option<u64>,
    newest: bool,
) -> Result<Reply, Refused> {
    async fn done<T: Table<Key = CellKey, Record = Cell>>(
        store: &Arc<dyn Store>,
        book: CellKey,
        shelf: Option<u64>,
    ) -> Result<Reply, Refused> {
        store
            .transact(|t| async move {
                match shelf {
                    Some(value) => t.put::<T>(&book, &Cell { value }, None).await,
                    None => t.delete::<T>(&book).await,
                }
            })
            .await
            .map(|_| Reply::Done)
            .map_err(|error: StoreError| error.into())
    }
    match newest {
        true => done::<Books>(store, book, shelf).await,
        false => done::<BooksBefore>(store, book, shelf).await,
    }
}

/// The shelves that a book stands on by its row, and by the index; refused while the
/// index is not whole.
pub(super) async fn look(store: &Arc<dyn Store>, book: CellKey) -> Result<Reply, Refused> {
    if store.version() < BY_SHELF.since || store.lacking().contains(&BY_SHELF.tag) {
        return Err(StoreError::IndexNotWhole { index: BY_SHELF.tag }.into());
    }
    let seen = store
        .transact(|t| async move {
            let shelves = (0..SHELVES).map(|shelf| on_shelf(&book, shelf));
            let keys: Vec<Key> = std::iter::once(Books::key(&book)).chain(shelves).collect();
            let rows = t.rows(&keys, true).await?;
            let row = rows[0].as_ref().map(Books::decode).transpose().map_err(StoreError::from)?;
            let listed = (0..SHELVES).zip(&rows[1..]).filter(|(_, row)| row.is_some());
            let listed = listed.map(|(shelf, _)| 1 << shelf).sum();
            Ok::<_, Refused>((row.map_or(0, |book| 1 << book.record.value), listed))
        })
        .await?;
    Ok(Reply::Both(seen.value.0, seen.value.1))
}
