//! Coming from Ory Keto: the rows of its database as relationships.
//!
//! Keto keeps tuples in `keto_relation_tuples`, with UUIDs (version 5, of the network and
//! the text) for objects and subject ids, and their texts in `keto_uuid_mappings`. It does
//! not mind the same tuple twice; here there is one, so what is merged is counted. Old
//! versions kept texts where newer ones keep UUIDs: what is no UUID is taken for a text.
//!
//! Who reads the database (a dump of PostgreSQL, a file of SQLite) hands its rows over by
//! column; nothing is written here, so a dry run is one that ends with the report.

use std::collections::{BTreeMap, HashMap, HashSet};

use cardea_storage::Tenant;
use uuid::Uuid;

use crate::{
    model::{Relationship, Subject, SubjectSet, Tuple, TupleRefused},
    table::{DEFAULT_SLOT, Place, fits},
};

/// Refused rows that are told one by one; all are counted.
const TOLD_MAX: usize = 20;

/// A row of `keto_relation_tuples`, with the names of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TupleRow {
    /// Whose it is: Keto's network.
    pub nid: String,
    /// As is.
    pub namespace: String,
    /// A UUID.
    pub object: String,
    /// As is.
    pub relation: String,
    /// A UUID; `None` for a subject set.
    pub subject_id: Option<String>,
    /// As is; `None` for a subject id.
    pub subject_set_namespace: Option<String>,
    /// A UUID; `None` for a subject id.
    pub subject_set_object: Option<String>,
    /// As is; `None` for a subject id.
    pub subject_set_relation: Option<String>,
}

/// What became of the rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowsReport {
    /// Rows.
    pub rows: u64,
    /// Tuples that there were once more.
    pub duplicates: u64,
    /// Rows of other networks.
    pub elsewhere: u64,
    /// Rows that name a UUID that nothing maps to a text: its own text was taken.
    pub unmapped: u64,
    /// Rows that are no tuple, or none that is kept.
    pub refused: u64,
    /// Why, of the first few.
    pub told: Vec<String>,
    /// Tuples by namespace.
    pub namespaces: BTreeMap<String, u64>,
}

/// Reads rows one by one; those of a tuple that was read before count as duplicates.
#[derive(Debug, Default)]
pub struct RowReader {
    nid: Option<String>,
    mappings: HashMap<Uuid, String>,
    /// Digests of the tuples there were: millions of them fit into memory.
    seen: HashSet<[u8; 16]>,
    report: RowsReport,
}

impl RowReader {
    /// A reader of the rows of a network; of all without one.
    pub fn new(nid: Option<String>) -> Self {
        Self { nid, ..Self::default() }
    }

    /// Takes a row of `keto_uuid_mappings`: `id` and `string_representation`. All of
    /// them come before the first tuple.
    pub fn mapping(&mut self, id: &str, text: impl Into<String>) {
        if let Ok(id) = Uuid::parse_str(id) {
            self.mappings.insert(id, text.into());
        }
    }

    /// Takes a tuple's row; gives the relationship that it stands for, unless there was
    /// one before, or it is refused.
    pub fn tuple(&mut self, row: TupleRow) -> Option<Relationship> {
        self.report.rows += 1;
        if self.nid.as_ref().is_some_and(|nid| *nid != row.nid) {
            self.report.elsewhere += 1;
            return None;
        }
        match self.read(row) {
            Ok(tuple) => {
                if !self.seen.insert(digest(&tuple)) {
                    self.report.duplicates += 1;
                    return None;
                }
                *self.report.namespaces.entry(tuple.namespace.clone()).or_default() += 1;
                Some(tuple.into())
            }
            Err(refused) => {
                self.report.refused += 1;
                if self.report.told.len() < TOLD_MAX {
                    self.report.told.push(format!("row {}: {refused}", self.report.rows));
                }
                None
            }
        }
    }

    /// What became of the rows so far.
    pub fn report(&self) -> &RowsReport {
        &self.report
    }

    fn read(&mut self, row: TupleRow) -> Result<Tuple, TupleRefused> {
        let subject = match (
            row.subject_id,
            row.subject_set_namespace,
            row.subject_set_object,
            row.subject_set_relation,
        ) {
            (Some(id), None, None, None) => Subject::Id(self.text(id)),
            (None, Some(namespace), Some(object), Some(relation)) => {
                Subject::Set(SubjectSet { namespace, object: self.text(object), relation })
            }
            _ => return Err(TupleRefused::Malformed("neither a subject id nor a set".to_owned())),
        };
        let object = self.text(row.object);
        let tuple = Tuple { namespace: row.namespace, object, relation: row.relation, subject };
        tuple.validate()?;
        fits(&tuple)?;
        Ok(tuple)
    }

    fn text(&mut self, id: String) -> String {
        let Ok(uuid) = Uuid::parse_str(&id) else { return id };
        match self.mappings.get(&uuid) {
            Some(text) => text.clone(),
            None => {
                self.report.unmapped += 1;
                id
            }
        }
    }
}

/// Of the tuple's key, which tells all tuples apart.
fn digest(tuple: &Tuple) -> [u8; 16] {
    let place = Place { tenant: Tenant::default(), slot: DEFAULT_SLOT };
    let key = place.tuple_key(&tuple.set(), &tuple.subject);
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(key.as_bytes()).as_bytes()[..16]);
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NID: &str = "11111111-1111-4111-8111-111111111111";
    const DOC: &str = "5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a01";
    const ANN: &str = "5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a02";
    const GROUP: &str = "5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a03";
    const LOST: &str = "5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a04";

    fn row(object: &str, subject_id: Option<&str>, group: Option<&str>) -> TupleRow {
        TupleRow {
            nid: NID.to_owned(),
            namespace: "Doc".to_owned(),
            object: object.to_owned(),
            relation: "viewers".to_owned(),
            subject_id: subject_id.map(str::to_owned),
            subject_set_namespace: group.map(|_| "Group".to_owned()),
            subject_set_object: group.map(str::to_owned),
            subject_set_relation: group.map(|_| "members".to_owned()),
        }
    }

    #[test]
    fn rows_become_tuples_once_and_everything_is_counted() {
        let mut reader = RowReader::new(Some(NID.to_owned()));
        for (id, text) in [(DOC, "1"), (&ANN.to_uppercase(), "ann"), (GROUP, "g")] {
            reader.mapping(id, text);
        }
        let mut shown = |row: TupleRow| reader.tuple(row).map(|one| one.tuple.to_string());
        assert_eq!(shown(row(DOC, Some(ANN), None)).as_deref(), Some("Doc:1#viewers@ann"));
        assert_eq!(shown(row(DOC, Some(ANN), None)), None);
        let set = shown(row(DOC, None, Some(GROUP)));
        assert_eq!(set.as_deref(), Some("Doc:1#viewers@(Group:g#members)"));
        let lost = shown(row(LOST, Some("bob"), None));
        assert_eq!(lost, Some(format!("Doc:{LOST}#viewers@bob")));
        assert_eq!(shown(row(DOC, Some(ANN), Some(GROUP))), None);
        assert_eq!(shown(row(DOC, None, None)), None);
        assert_eq!(shown(TupleRow { nid: LOST.to_owned(), ..row(DOC, Some(ANN), None) }), None);
        assert_eq!(shown(row(&"x".repeat(600), Some("bob"), None)), None);
        let RowsReport { rows, duplicates, elsewhere, unmapped, refused, told, namespaces } =
            reader.report().clone();
        assert_eq!((rows, duplicates, elsewhere, unmapped, refused), (8, 1, 1, 1, 3));
        assert!(told[2].contains("at most 512"), "{told:?}");
        assert_eq!(namespaces, [("Doc".to_owned(), 3)].into());
    }
}
