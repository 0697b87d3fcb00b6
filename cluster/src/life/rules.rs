//! What layers know of their tables' indexes, as the cluster asks for it.

use cardea_storage::{Index, IndexRow, Key, Row, Table};

/// What a layer knows of its tables' indexes.
pub trait IndexRules: Send + Sync {
    /// The indexes, each once.
    fn indexes(&self) -> Vec<Index>;

    /// The index rows that a row of a record's table should have; `None` if the
    /// row is of no table that has any. [`expected_of`] reads it off a table.
    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>>;

    /// The records that an index row leads to, each of which should expect it;
    /// `None` if the row is of no index.
    fn leads_to(&self, row: &Row) -> Option<Vec<Key>>;
}

/// What a table declares of a row: `None` if the row is not of it.
pub fn expected_of<T: Table>(row: &Row) -> Option<Vec<IndexRow>> {
    if row.key.tag() != T::TAG {
        return None;
    }
    let entry = T::decode(row).ok()?;
    Some(T::index_rows(&entry.key, &entry.record))
}

/// For a node without layers: there are no indexes.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoIndexes;

impl IndexRules for NoIndexes {
    fn indexes(&self) -> Vec<Index> {
        Vec::new()
    }

    fn expected(&self, _row: &Row) -> Option<Vec<IndexRow>> {
        None
    }

    fn leads_to(&self, _row: &Row) -> Option<Vec<Key>> {
        None
    }
}

/// The rules of indexes that are whole: of others nothing is expected yet.
pub(super) struct WholeOnly<'a> {
    pub(super) rules: &'a dyn IndexRules,
    pub(super) lacking: &'a [cardea_storage::Tag],
}

impl IndexRules for WholeOnly<'_> {
    fn indexes(&self) -> Vec<Index> {
        let whole = |index: &Index| !self.lacking.contains(&index.tag);
        self.rules.indexes().into_iter().filter(whole).collect()
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        let mut expected = self.rules.expected(row)?;
        expected.retain(|index| !self.lacking.contains(&index.key.tag()));
        Some(expected)
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        let whole = !self.lacking.contains(&row.key.tag());
        whole.then(|| self.rules.leads_to(row)).flatten()
    }
}
