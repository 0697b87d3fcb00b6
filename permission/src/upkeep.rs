//! What those who keep the store need to know of this layer's rows: which index rows a
//! tuple should have, and where an index row leads.

use cardea_storage::{Index, IndexRow, Key, Row, Table, Tag};

use crate::table::{TupleKey, Tuples, read_tuple};

/// The indexes of this layer's records. One that is added here gets the cluster version
/// that its release brings ([`version`](cardea_storage::version)): a cluster that is older
/// builds it then.
pub const INDEXES: [Index; 2] = [
    Index::first(Tag::RELATION_TUPLE_BY_SUBJECT, Tag::RELATION_TUPLE),
    Index::first(Tag::RELATION_TUPLE_BY_RELATION, Tag::RELATION_TUPLE),
];

/// The index rows that a tuple should have; `None` if the row is no tuple, or cannot be
/// read.
pub fn expected_index_rows(row: &Row) -> Option<Vec<IndexRow>> {
    if row.key.tag() != Tag::RELATION_TUPLE {
        return None;
    }
    let entry = Tuples::decode(row).ok()?;
    Some(Tuples::index_rows(&entry.key, &entry.record))
}

/// The tuple that an index row leads to; `None` if the row is of no index of this layer,
/// or cannot be read.
pub fn leads_to(row: &Row) -> Option<Vec<Key>> {
    if !INDEXES.iter().any(|index| index.tag == row.key.tag()) {
        return None;
    }
    let (slot, tenant) = (row.key.slot(), row.key.tenant());
    Some(vec![Tuples::key(&TupleKey { slot, tenant, tuple: read_tuple(row)? })])
}

#[cfg(test)]
mod tests {
    use cardea_storage::{KeyRange, Tenant, engine::Order, store::Consistency};

    use super::*;
    use crate::{condition::Condition, model::Relationship, table::DEFAULT_SLOT, testing::World};

    #[tokio::test]
    async fn every_index_row_is_declared_and_expected_by_the_tuple_that_it_leads_to() {
        let world = World::new();
        let narrowed = Condition {
            expression: "hour < 9".to_owned(),
            parameters: [("hour".to_owned(), "int".to_owned())].into(),
            ..Condition::default()
        };
        for (text, condition) in [
            ("Doc:1#viewers@ann", None),
            ("Doc:a b#viewers@(Group:g#members)", None),
            ("Doc:2#viewers@bob", Some(narrowed)),
        ] {
            let tuple = text.parse().unwrap();
            let relationship = Relationship { tuple, expires_at: None, condition };
            world.service.import(Tenant(3), vec![relationship]).await.unwrap();
        }
        let view = world.service.store.view(Consistency::Strong);
        let range = KeyRange::prefix(&DEFAULT_SLOT.bits().to_be_bytes());
        let rows = view.scan_rows(range, 100, Order::Forward, false).await.unwrap().rows;
        let (mut expected, mut followed) = (0, 0);
        for row in &rows {
            for index in expected_index_rows(row).into_iter().flatten() {
                let found = rows.iter().find(|other| other.key == index.key);
                assert_eq!(found.map(|row| &row.value), Some(&index.value), "{}", index.key);
                let declared = INDEXES.iter().find(|declared| declared.tag == index.key.tag());
                assert_eq!(declared.map(|declared| declared.of), Some(row.key.tag()));
                expected += 1;
            }
            for key in leads_to(row).into_iter().flatten() {
                let record = rows.iter().find(|other| other.key == key).unwrap();
                let rows = expected_index_rows(record).unwrap();
                assert!(rows.iter().any(|index| index.key == row.key), "{}", row.key);
                followed += 1;
            }
        }
        assert_eq!((rows.len(), expected, followed), (9, 6, 6));
    }

    /// A cluster that passed a version has the index whole, and builds it no more.
    #[test]
    fn versions_of_indexes_are_frozen() {
        assert!(INDEXES.iter().all(|index| index.since == 1));
    }
}
