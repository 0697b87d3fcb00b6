//! Which scans a filter can spare.
//!
//! A check looks on each object and relation for the subject sets that have it, and
//! mostly there are none. The rows of a relation tuple whose subject is a set are filed
//! in the filters of tables and memtables under their key up to and with the byte that
//! says so; a scan of exactly those rows then skips every table that has none of them,
//! as a lookup of one key does. All other scans go by the order of keys alone.

use rocksdb::SliceTransform;

use crate::{machine::area, tag::Tag};

/// Names this rule in files; another rule must have another name.
const NAME: &str = "cardea.subject_sets.1";
/// Area, slot, tag and tenant.
const HEADER: usize = 9;
/// What says that a subject is a set, behind namespace, object and relation.
const SET: u8 = 1;
const ESCAPE: u8 = 0;
const TERMINATOR: u8 = 1;

/// The rule, as RocksDB takes it.
pub(super) fn transform() -> SliceTransform {
    SliceTransform::create(NAME, |key| &key[..length(key).unwrap_or(key.len())], Some(is_filed))
}

/// Whether a scan from `first` up to `beyond` is of one prefix exactly.
pub(super) fn is_one(first: &[u8], beyond: &[u8]) -> bool {
    // The last byte of a prefix is `SET`, so the first key behind it is this.
    length(first) == Some(first.len())
        && beyond.len() == first.len()
        && beyond.last() == Some(&(SET + 1))
        && beyond[..beyond.len() - 1] == first[..first.len() - 1]
}

fn is_filed(key: &[u8]) -> bool {
    length(key).is_some()
}

/// The length of a key's prefix; `None` for a key that is not filed.
fn length(key: &[u8]) -> Option<usize> {
    let head = key.first_chunk::<HEADER>()?;
    if head[0] != area::ROW || [head[3], head[4]] != Tag::RELATION_TUPLE.0.to_be_bytes() {
        return None;
    }
    let mut at = HEADER;
    for _ in 0..3 {
        // Strings end with an escape and the terminator; an escaped zero is another pair.
        loop {
            let escape = at + key.get(at..)?.iter().position(|byte| *byte == ESCAPE)?;
            at = escape + 2;
            if *key.get(escape + 1)? == TERMINATOR {
                break;
            }
        }
    }
    (*key.get(at)? == SET).then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyRange, KeyWriter, Tenant};
    use crate::slot::{Slot, Space};

    fn writer(tag: Tag) -> KeyWriter {
        KeyWriter::new(Slot::new(Space::Graph, 0), tag, Tenant(7))
    }

    #[test]
    fn rows_of_subject_sets_are_filed_up_to_the_byte_that_says_so() {
        let of = |writer: KeyWriter| area::key(area::ROW, writer.finish().as_bytes());
        let mut key = writer(Tag::RELATION_TUPLE);
        key.str("d\0").str("").str("v");
        let without = of(key.clone());
        key.u8(SET);
        let prefix = of(key.clone());
        let range = key.clone().range();
        key.str("g").str("1").str("m");
        let whole = of(key);
        assert_eq!(length(&whole), Some(prefix.len()));
        assert!(whole.starts_with(&prefix));
        assert_eq!(length(&without), None);
        let mut id = writer(Tag::RELATION_TUPLE);
        id.str("d").str("1").str("v").u8(0).str("ann");
        assert_eq!(length(&of(id)), None);
        let mut other = writer(Tag::RELATION_TUPLE_BY_SUBJECT);
        other.str("d").str("1").str("v").u8(SET);
        assert_eq!(length(&of(other)), None);
        let engine_range = |range: &KeyRange| {
            (area::key(area::ROW, &range.start), area::key(area::ROW, &range.end))
        };
        let (first, beyond) = engine_range(&range);
        assert!(is_one(&first, &beyond));
        assert!(!is_one(&whole, &beyond), "begins behind the prefix");
        assert!(!is_one(&first, &[beyond.as_ref(), &[0]].concat()));
        assert!(!is_one(&[], &[]));
    }
}
