//! Indexes as layers declare them: which rows they are, of which records, and since
//! which cluster version.
//!
//! The index rows of a record are written with it by every node that knows the
//! index. Records that are older than an index have none in it, and a node that does
//! not know it leaves rows as they are where it changes or deletes their records. So
//! an index is *whole* only once somebody went through all of it and all records,
//! after the last such node was gone: after the cluster version reached that of the
//! index. Until then a read that would take its silence for an answer is refused
//! ([`StoreError::IndexNotWhole`](crate::StoreError::IndexNotWhole)).
//!
//! An index whose rows change their form is another index, with another tag.

use crate::tag::Tag;

/// An index of a table's records. They and its rows lie in the home, index and graph
/// spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    /// The tag of its rows.
    pub tag: Tag,
    /// The tag of the records that it is of.
    pub of: Tag,
    /// The cluster version that brought it: every binary that knows this version
    /// writes its rows.
    pub since: u32,
    /// What is done about reads until it is whole.
    pub meanwhile: Meanwhile,
}

/// What is done about reads of an index that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
    /// They are refused, to be tried again later: what is missing would be taken for
    /// what is not there.
    Refused,
    /// They are answered. The field that it is made of came with it, so that what is
    /// older has no row in it anyway.
    Read,
}

impl Index {
    /// One that every version has known.
    pub const fn first(tag: Tag, of: Tag) -> Self {
        Self { tag, of, since: 1, meanwhile: Meanwhile::Refused }
    }
}
