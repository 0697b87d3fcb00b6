//! The field's things: relation tuples, subjects, queries, as values with bounds.

use std::{fmt, str::FromStr};

use cardea_storage::Timestamp;
use thiserror::Error;

use crate::condition::{Condition, ConditionRefused};

/// Longest name of a namespace or relation, in bytes.
pub const NAME_BYTES_MAX: usize = 128;
/// Longest object or subject id, in bytes.
pub const OBJECT_BYTES_MAX: usize = 512;

/// A subject set: whoever has the relation on the object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectSet {
    /// The object's namespace.
    pub namespace: String,
    /// The object.
    pub object: String,
    /// The relation; empty where the object itself is meant.
    pub relation: String,
}

/// Whom a tuple names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Somebody, by an id that means nothing here.
    Id(String),
    /// A subject set.
    Set(SubjectSet),
}

/// A relation tuple: the subject has the relation on the object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// The object's namespace.
    pub namespace: String,
    /// The object.
    pub object: String,
    /// The relation.
    pub relation: String,
    /// The subject.
    pub subject: Subject,
}

/// A tuple with what narrows it: nothing for most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relationship {
    /// The tuple.
    pub tuple: Tuple,
    /// When it ceases to be there, by the store's time; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// It is there only where this holds; `None`: everywhere.
    pub condition: Option<Condition>,
}

impl From<Tuple> for Relationship {
    fn from(tuple: Tuple) -> Self {
        Self { tuple, expires_at: None, condition: None }
    }
}

impl Relationship {
    /// Whether its parts are within bounds and make sense.
    ///
    /// # Errors
    /// See [`TupleRefused`].
    pub fn validate(&self) -> Result<(), TupleRefused> {
        self.tuple.validate()?;
        if let Some(condition) = &self.condition {
            condition.compile()?;
        }
        Ok(())
    }

    /// Until when the store keeps it. There the beginning of time stands for no end, and
    /// what ended then has ended.
    pub(crate) fn kept_until(&self) -> Option<Timestamp> {
        self.expires_at.map(|at| at.max(Timestamp(1)))
    }
}

/// Tuples that are alike in what is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TupleQuery {
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The object.
    pub object: Option<String>,
    /// The relation.
    pub relation: Option<String>,
    /// The subject.
    pub subject: Option<Subject>,
}

/// What no tuple may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TupleRefused {
    /// A part is longer than is kept.
    #[error("the {part} has {bytes} bytes, at most {limit} are taken")]
    TooLong {
        /// Which part.
        part: &'static str,
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A name is missing.
    #[error("the {part} is empty")]
    Empty {
        /// Which part.
        part: &'static str,
    },
    /// Zero bytes are kept twice, and then it was too long as a whole.
    #[error("the relation tuple as a whole is longer than is kept")]
    Unkept,
    /// The condition makes no sense.
    #[error(transparent)]
    Condition(#[from] ConditionRefused),
    /// The text is no tuple.
    #[error(
        "{0:?} is no relation tuple: namespace:object#relation@subject or \
         namespace:object#relation@(namespace:object#relation)"
    )]
    Malformed(String),
}

impl SubjectSet {
    /// A subject set.
    pub fn new(
        namespace: impl Into<String>,
        object: impl Into<String>,
        relation: impl Into<String>,
    ) -> Self {
        Self { namespace: namespace.into(), object: object.into(), relation: relation.into() }
    }

    /// Whether its parts are within bounds.
    ///
    /// # Errors
    /// See [`TupleRefused`].
    pub fn validate(&self) -> Result<(), TupleRefused> {
        name("subject set's namespace", &self.namespace)?;
        bound("subject set's object", &self.object, OBJECT_BYTES_MAX)?;
        bound("subject set's relation", &self.relation, NAME_BYTES_MAX)
    }
}

impl Subject {
    /// Whether its parts are within bounds.
    ///
    /// # Errors
    /// See [`TupleRefused`].
    pub fn validate(&self) -> Result<(), TupleRefused> {
        match self {
            Self::Id(id) => bound("subject id", id, OBJECT_BYTES_MAX),
            Self::Set(set) => set.validate(),
        }
    }
}

impl Tuple {
    /// A tuple.
    pub fn new(
        namespace: impl Into<String>,
        object: impl Into<String>,
        relation: impl Into<String>,
        subject: Subject,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            object: object.into(),
            relation: relation.into(),
            subject,
        }
    }

    /// Whether its parts are within bounds. Objects and subject ids may be empty, as
    /// in Keto.
    ///
    /// # Errors
    /// See [`TupleRefused`].
    pub fn validate(&self) -> Result<(), TupleRefused> {
        name("namespace", &self.namespace)?;
        bound("object", &self.object, OBJECT_BYTES_MAX)?;
        name("relation", &self.relation)?;
        self.subject.validate()
    }

    /// What its subject is related to.
    pub fn set(&self) -> SubjectSet {
        SubjectSet::new(&*self.namespace, &*self.object, &*self.relation)
    }
}

impl TupleQuery {
    /// Whether a tuple is meant.
    pub fn matches(&self, tuple: &Tuple) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == tuple.namespace)
            && self.object.as_ref().is_none_or(|object| *object == tuple.object)
            && self.relation.as_ref().is_none_or(|relation| *relation == tuple.relation)
            && self.subject.as_ref().is_none_or(|subject| *subject == tuple.subject)
    }

    /// Whether its parts are within bounds.
    ///
    /// # Errors
    /// See [`TupleRefused`].
    pub fn validate(&self) -> Result<(), TupleRefused> {
        let parts = [
            ("namespace", &self.namespace, NAME_BYTES_MAX),
            ("object", &self.object, OBJECT_BYTES_MAX),
            ("relation", &self.relation, NAME_BYTES_MAX),
        ];
        for (part, text, limit) in parts {
            text.as_ref().map_or(Ok(()), |text| bound(part, text, limit))?;
        }
        self.subject.as_ref().map_or(Ok(()), Subject::validate)
    }
}

fn name(part: &'static str, text: &str) -> Result<(), TupleRefused> {
    if text.is_empty() {
        return Err(TupleRefused::Empty { part });
    }
    bound(part, text, NAME_BYTES_MAX)
}

fn bound(part: &'static str, text: &str, limit: usize) -> Result<(), TupleRefused> {
    if text.len() > limit {
        return Err(TupleRefused::TooLong { part, bytes: text.len(), limit });
    }
    Ok(())
}

impl fmt::Display for SubjectSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.object)?;
        if self.relation.is_empty() { Ok(()) } else { write!(f, "#{}", self.relation) }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Set(set) => write!(f, "({set})"),
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}@{}", self.namespace, self.object, self.relation, self.subject)
    }
}

impl FromStr for SubjectSet {
    type Err = TupleRefused;

    /// Reads `namespace:object#relation`, or `namespace:object`.
    fn from_str(text: &str) -> Result<Self, TupleRefused> {
        let malformed = || TupleRefused::Malformed(text.chars().take(200).collect());
        let (namespace, rest) = text.split_once(':').ok_or_else(malformed)?;
        let (object, relation) = rest.split_once('#').unwrap_or((rest, ""));
        Ok(Self::new(namespace, object, relation))
    }
}

impl FromStr for Subject {
    type Err = TupleRefused;

    /// Reads `id`, or `(namespace:object#relation)`.
    fn from_str(text: &str) -> Result<Self, TupleRefused> {
        match text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
            Some(set) => set.parse().map(Self::Set),
            // Keto also takes a subject set without parentheses.
            None if text.contains('#') => text.parse().map(Self::Set),
            None => Ok(Self::Id(text.to_owned())),
        }
    }
}

impl FromStr for Tuple {
    type Err = TupleRefused;

    /// Reads `namespace:object#relation@subject`.
    fn from_str(text: &str) -> Result<Self, TupleRefused> {
        let malformed = || TupleRefused::Malformed(text.chars().take(200).collect());
        let (namespace, rest) = text.split_once(':').ok_or_else(malformed)?;
        let (object, rest) = rest.split_once('#').ok_or_else(malformed)?;
        let (relation, subject) = rest.split_once('@').ok_or_else(malformed)?;
        let tuple = Self::new(namespace, object, relation, subject.parse()?);
        tuple.validate()?;
        Ok(tuple)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tuples_are_read_as_they_are_written() {
        for text in ["d:1#view@ann", "d:a:b#view@(g:x#member)", "d:#r@", "d:1#p@(f:2)"] {
            assert_eq!(text.parse::<Tuple>().unwrap().to_string(), text);
        }
        assert_eq!(
            "d:1#v@g:1#m".parse::<Tuple>().unwrap().subject,
            Subject::Set(SubjectSet::new("g", "1", "m"))
        );
        for text in ["", "d", "d:1", "d:1#v", ":1#v@a", "d:1#@a", "d:1#v@(x)"] {
            assert!(text.parse::<Tuple>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_bounded() {
        let tuple = |object: usize, relation: usize, id: usize| {
            let text = |n| "x".repeat(n);
            Tuple::new("n", text(object), text(relation), Subject::Id(text(id))).validate()
        };
        assert_eq!(tuple(512, 128, 512), Ok(()));
        for bad in [tuple(513, 1, 1), tuple(1, 129, 1), tuple(1, 1, 513), tuple(1 << 20, 1, 1)] {
            assert!(matches!(bad, Err(TupleRefused::TooLong { .. })));
        }
        assert_eq!(tuple(1, 0, 1), Err(TupleRefused::Empty { part: "relation" }));
        assert_eq!(tuple(0, 1, 0), Ok(()));
    }
}
