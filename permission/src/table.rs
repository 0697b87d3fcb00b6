//! What is kept: relation tuples in the graph space, each with two index rows that
//! hold the same in another order; and a tenant's language in the directory.
//!
//! | table | key, behind slot, tag and tenant |
//! |---|---|
//! | by object | namespace, object, relation, subject |
//! | by subject | subject, namespace, relation, object |
//! | by relation | namespace, relation, object, subject |
//!
//! A subject is `00` and an id, or `01` and namespace, object, relation. So the ids
//! of a group lie apart from its subject sets, and who looks for sets reads no ids.

use bytes::Bytes;
use cardea_storage::{
    Fault, IndexRow, Key, KeyRange, Row, Slot, Space, Table, TableKey, Tag, Tenant,
    key::{KEY_BYTES_MAX, KeyReader, KeyWriter},
};
use prost::Message;

use crate::{
    condition::Condition,
    model::{Relationship, Subject, SubjectSet, Tuple, TupleRefused},
};

mod languages;

pub use self::languages::{
    LanguageFileRecord, LanguageHeadKey, LanguageHeadRecord, LanguageHeads, LanguageVersionKey,
    LanguageVersionRecord, LanguageVersions,
};

const ID: u8 = 0;
const SET: u8 = 1;

/// Where tuples lie, unless a namespace was created with another slot.
pub const DEFAULT_SLOT: Slot = Slot::new(Space::Graph, 0);

/// Relation tuples, by object.
pub struct Tuples;

/// The key of [`Tuples`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TupleKey {
    /// Where the namespace lies.
    pub slot: Slot,
    /// Whose it is.
    pub tenant: Tenant,
    /// The tuple.
    pub tuple: Tuple,
}

/// What is known of a tuple beyond what it says. Its index rows hold the same.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TupleRecord {
    /// It is there only where this holds.
    #[prost(message, optional, tag = "1")]
    pub condition: Option<ConditionRecord>,
}

/// A condition, see [`Condition`].
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ConditionRecord {
    /// What must be true.
    #[prost(string, tag = "1")]
    pub expression: String,
    /// The kinds of the names in it.
    #[prost(btree_map = "string, string", tag = "2")]
    pub parameters: std::collections::BTreeMap<String, String>,
    /// Values that are fixed, as an object of JSON; empty for none.
    #[prost(string, tag = "3")]
    pub context: String,
}

impl TupleRecord {
    /// The record of a condition.
    pub fn of(condition: Option<&Condition>) -> Self {
        let condition = condition.map(|condition| ConditionRecord {
            expression: condition.expression.clone(),
            parameters: condition.parameters.clone(),
            context: match condition.context.is_empty() {
                true => String::new(),
                false => serde_json::to_string(&condition.context).unwrap_or_default(),
            },
        });
        Self { condition }
    }
}

/// The condition that a tuple's row of any order bears.
///
/// # Errors
/// A fault if it cannot be read: whether the tuple is there is not known then.
pub fn read_condition(row: &Row) -> Result<Option<Condition>, Fault> {
    if row.value.is_empty() {
        return Ok(None);
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Fault::new(format!("the condition of the tuple at {}: {error}", row.key))
    };
    let record = TupleRecord::decode(row.value.clone()).map_err(|error| wrong(&error))?;
    let Some(condition) = record.condition else { return Ok(None) };
    let context = match condition.context.as_str() {
        "" => Default::default(),
        json => serde_json::from_str(json).map_err(|error| wrong(&error))?,
    };
    let ConditionRecord { expression, parameters, .. } = condition;
    Ok(Some(Condition { expression, parameters, context }))
}

/// Reads a tuple with what narrows it from a row of any order; `None` if it is no
/// tuple's.
///
/// # Errors
/// See [`read_condition`].
pub fn read_relationship(row: &Row) -> Result<Option<Relationship>, Fault> {
    let Some(tuple) = read_tuple(row) else { return Ok(None) };
    Ok(Some(Relationship { tuple, expires_at: row.expires_at, condition: read_condition(row)? }))
}

impl TableKey for TupleKey {
    fn slot(&self) -> Slot {
        self.slot
    }

    fn tenant(&self) -> Tenant {
        self.tenant
    }

    fn write(&self, key: &mut KeyWriter) {
        let tuple = &self.tuple;
        key.str(&tuple.namespace).str(&tuple.object).str(&tuple.relation);
        write_subject(key, &tuple.subject);
    }

    fn read(slot: Slot, tenant: Tenant, rest: &mut KeyReader<'_>) -> Option<Self> {
        let (namespace, object, relation) = (rest.str()?, rest.str()?, rest.str()?);
        let subject = read_subject(rest)?;
        Some(Self { slot, tenant, tuple: Tuple { namespace, object, relation, subject } })
    }
}

impl Table for Tuples {
    const TAG: Tag = Tag::RELATION_TUPLE;
    const INDEXED: bool = true;
    type Key = TupleKey;
    type Record = TupleRecord;

    fn index_rows(key: &TupleKey, record: &TupleRecord) -> Vec<IndexRow> {
        let tuple = &key.tuple;
        let mut by_subject = KeyWriter::new(key.slot, Tag::RELATION_TUPLE_BY_SUBJECT, key.tenant);
        write_subject(&mut by_subject, &tuple.subject);
        by_subject.str(&tuple.namespace).str(&tuple.relation).str(&tuple.object);
        let mut by_relation = KeyWriter::new(key.slot, Tag::RELATION_TUPLE_BY_RELATION, key.tenant);
        by_relation.str(&tuple.namespace).str(&tuple.relation).str(&tuple.object);
        write_subject(&mut by_relation, &tuple.subject);
        let value = Bytes::from(record.encode_to_vec());
        [by_subject, by_relation]
            .map(|writer| IndexRow { key: writer.finish(), value: value.clone() })
            .into()
    }
}

fn write_subject(key: &mut KeyWriter, subject: &Subject) {
    match subject {
        Subject::Id(id) => key.u8(ID).str(id),
        Subject::Set(set) => key.u8(SET).str(&set.namespace).str(&set.object).str(&set.relation),
    };
}

fn read_subject(key: &mut KeyReader<'_>) -> Option<Subject> {
    match key.u8()? {
        ID => key.str().map(Subject::Id),
        SET => Some(Subject::Set(SubjectSet {
            namespace: key.str()?,
            object: key.str()?,
            relation: key.str()?,
        })),
        _ => None,
    }
}

/// Where the rows of a tenant's tuples lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Whose they are.
    pub tenant: Tenant,
    /// The slot.
    pub slot: Slot,
}

/// In which order rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// The rows themselves.
    Object,
    /// See the [module](self).
    Subject,
    /// See the [module](self).
    Relation,
}

impl Place {
    fn writer(self, index: Index) -> KeyWriter {
        let tag = match index {
            Index::Object => Tag::RELATION_TUPLE,
            Index::Subject => Tag::RELATION_TUPLE_BY_SUBJECT,
            Index::Relation => Tag::RELATION_TUPLE_BY_RELATION,
        };
        KeyWriter::new(self.slot, tag, self.tenant)
    }

    /// The key of a tuple.
    pub fn key(self, tuple: &Tuple) -> TupleKey {
        TupleKey { slot: self.slot, tenant: self.tenant, tuple: tuple.clone() }
    }

    /// The row of `set@subject`.
    pub fn tuple_key(self, set: &SubjectSet, subject: &Subject) -> Key {
        let mut key = self.writer(Index::Object);
        key.str(&set.namespace).str(&set.object).str(&set.relation);
        write_subject(&mut key, subject);
        key.finish()
    }

    /// The subject sets that have a relation on an object.
    pub fn sets_of(self, set: &SubjectSet) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(&set.namespace).str(&set.object).str(&set.relation).u8(SET);
        key.range()
    }

    /// All subjects that have a relation on an object.
    pub fn subjects_of(self, set: &SubjectSet) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(&set.namespace).str(&set.object).str(&set.relation);
        key.range()
    }

    /// All tuples of a namespace, by object; of all namespaces without one.
    pub fn namespace(self, namespace: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Object);
        if let Some(namespace) = namespace {
            key.str(namespace);
        }
        key.range()
    }

    /// All tuples of an object.
    pub fn object(self, namespace: &str, object: &str) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(namespace).str(object);
        key.range()
    }

    /// All tuples of a namespace, by relation.
    pub fn relations(self, namespace: &str) -> KeyRange {
        let mut key = self.writer(Index::Relation);
        key.str(namespace);
        key.range()
    }

    /// All tuples of a relation.
    pub fn relation(self, namespace: &str, relation: &str) -> KeyRange {
        let mut key = self.writer(Index::Relation);
        key.str(namespace).str(relation);
        key.range()
    }

    /// All tuples of a subject, or those in a namespace, or with a relation in it.
    pub fn subject(
        self,
        subject: &Subject,
        namespace: Option<&str>,
        relation: Option<&str>,
    ) -> KeyRange {
        let mut key = self.writer(Index::Subject);
        write_subject(&mut key, subject);
        if let Some(namespace) = namespace {
            key.str(namespace);
            if let Some(relation) = relation {
                key.str(relation);
            }
        }
        key.range()
    }

    /// The objects of a namespace that a subject is named on with a relation, in their
    /// order, behind a name.
    pub fn objects_of(
        self,
        subject: &Subject,
        namespace: &str,
        relation: &str,
        after: Option<&str>,
    ) -> KeyRange {
        let mut key = self.writer(Index::Subject);
        write_subject(&mut key, subject);
        key.str(namespace).str(relation);
        behind(key, after)
    }

    /// The subject ids that have a relation on an object, in their order, behind one.
    pub fn ids_of(self, set: &SubjectSet, after: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(&set.namespace).str(&set.object).str(&set.relation).u8(ID);
        behind(key, after)
    }

    /// The subject sets on objects of a namespace that have a relation on an object, by
    /// their objects, behind one.
    pub fn sets_within(self, set: &SubjectSet, namespace: &str, after: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(&set.namespace).str(&set.object).str(&set.relation).u8(SET).str(namespace);
        behind(key, after)
    }

    /// All tuples of an object.
    pub fn tuples_of(self, namespace: &str, object: &str) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(namespace).str(object);
        key.range()
    }

    /// All tuples of a namespace by object, behind an object.
    pub fn objects_behind(self, namespace: &str, after: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Object);
        key.str(namespace);
        behind(key, after)
    }

    /// All tuples whose subject is a subject set on an object of a namespace, by those
    /// objects, behind one.
    pub fn named_behind(self, namespace: &str, after: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Subject);
        key.u8(SET).str(namespace);
        behind(key, after)
    }

    /// All tuples whose subject is a subject set on an object, with any relation; of
    /// all objects of the namespace without one.
    pub fn naming(self, namespace: &str, object: Option<&str>) -> KeyRange {
        let mut key = self.writer(Index::Subject);
        key.u8(SET).str(namespace);
        if let Some(object) = object {
            key.str(object);
        }
        key.range()
    }
}

/// What begins with a key so far, behind all that goes on with a name.
fn behind(mut key: KeyWriter, after: Option<&str>) -> KeyRange {
    let range = key.clone().range();
    match after {
        None => range,
        Some(after) => {
            key.str(after);
            KeyRange { start: key.range().end, ..range }
        }
    }
}

/// Reads a tuple from a row of any of the three orders.
pub fn read_tuple(row: &Row) -> Option<Tuple> {
    let mut key = row.key.reader();
    let tuple = match row.key.tag() {
        Tag::RELATION_TUPLE => Tuple {
            namespace: key.str()?,
            object: key.str()?,
            relation: key.str()?,
            subject: read_subject(&mut key)?,
        },
        Tag::RELATION_TUPLE_BY_SUBJECT => {
            let subject = read_subject(&mut key)?;
            let (namespace, relation, object) = (key.str()?, key.str()?, key.str()?);
            Tuple { namespace, object, relation, subject }
        }
        Tag::RELATION_TUPLE_BY_RELATION => {
            let (namespace, relation, object) = (key.str()?, key.str()?, key.str()?);
            Tuple { namespace, object, relation, subject: read_subject(&mut key)? }
        }
        _ => return None,
    };
    key.end()?;
    Some(tuple)
}

/// The subject set of a tuple's own row; `None` if it names a subject id, or is no
/// tuple's own row.
pub fn read_set(row: &Row) -> Option<SubjectSet> {
    let mut key = row.key.reader();
    if row.key.tag() != Tag::RELATION_TUPLE {
        return None;
    }
    for _ in ["namespace", "object", "relation"] {
        key.skip()?;
    }
    match read_subject(&mut key)? {
        Subject::Set(set) => key.end().map(|()| set),
        Subject::Id(_) => None,
    }
}

/// Whether a tuple's keys are within what the store takes.
///
/// # Errors
/// [`TupleRefused::Unkept`].
pub fn fits(tuple: &Tuple) -> Result<(), TupleRefused> {
    let place = Place { tenant: Tenant::default(), slot: DEFAULT_SLOT };
    let longest = Tuples::key(&place.key(tuple)).as_bytes().len();
    if longest > KEY_BYTES_MAX { Err(TupleRefused::Unkept) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use cardea_storage::Revision;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn place_of_tests() -> Place {
        Place { tenant: Tenant(7), slot: DEFAULT_SLOT }
    }

    #[test]
    fn bytes_of_the_keys_are_frozen_and_all_orders_are_read_back() {
        let tuple: Tuple = "d:1#v@(g:2#m)".parse().unwrap();
        let key = place_of_tests().key(&tuple);
        let mut keys = vec![Tuples::key(&key)];
        keys.extend(
            Tuples::index_rows(&key, &TupleRecord::default()).into_iter().map(|row| row.key),
        );
        let shown: Vec<String> = keys.iter().map(|key| hex(key.as_bytes())).collect();
        assert_eq!(
            shown,
            [
                "2000050100000007640001310001760001016700013200016d0001",
                "2000050200000007016700013200016d0001640001760001310001",
                "2000050300000007640001760001310001016700013200016d0001",
            ]
        );
        for key in keys {
            let row =
                Row { key, value: Bytes::new(), revision: Some(Revision(1)), expires_at: None };
            assert_eq!(read_tuple(&row), Some(tuple.clone()));
            let own = row.key.tag() == Tag::RELATION_TUPLE;
            assert_eq!(read_set(&row), own.then(|| SubjectSet::new("g", "2", "m")));
        }
        assert_eq!(Tuples::read_key(&Tuples::key(&key)), Some(key));
        let head = LanguageHeads::key(&LanguageHeadKey(Tenant(7)));
        assert_eq!(hex(head.as_bytes()), "3000010700000007");
        let version = LanguageVersionKey { tenant: Tenant(7), version: 2 };
        assert_eq!(
            hex(LanguageVersions::key(&version).as_bytes()),
            "30000108000000070000000000000002"
        );
        assert_eq!(LanguageVersions::read_key(&LanguageVersions::key(&version)), Some(version));
    }

    #[test]
    fn bytes_of_the_records_are_frozen() {
        let file = LanguageFileRecord { name: "a".to_owned(), text: "b".to_owned() };
        let version = LanguageVersionRecord {
            files: vec![file],
            created_at: 3,
            slots: [("d".to_owned(), 0x2001)].into(),
        };
        assert_eq!(hex(&version.encode_to_vec()), "0a060a016112016210031a060a0164108140");
        assert_eq!(hex(&LanguageHeadRecord { version: 300 }.encode_to_vec()), "08ac02");
        assert_eq!(hex(&TupleRecord::default().encode_to_vec()), "");
        let condition = Condition {
            expression: "a".to_owned(),
            parameters: [("a".to_owned(), "bool".to_owned())].into(),
            context: [("a".to_owned(), serde_json::Value::Bool(true))].into(),
        };
        let record = TupleRecord::of(Some(&condition));
        let bytes = record.encode_to_vec();
        assert_eq!(hex(&bytes), "0a1a0a016112090a01611204626f6f6c1a0a7b2261223a747275657d");
        let key = place_of_tests().key(&"d:1#v@a".parse().unwrap());
        let row = Row {
            key: Tuples::key(&key),
            value: bytes.into(),
            revision: Some(Revision(1)),
            expires_at: None,
        };
        assert_eq!(read_condition(&row).unwrap(), Some(condition));
        let corrupt = Row { value: Bytes::from_static(b"\x0a\xff"), ..row };
        assert!(read_condition(&corrupt).is_err());
    }
}
