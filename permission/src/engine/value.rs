//! What is known of a question: four answers in a row, so that "one of these" is the
//! greatest and "all of these" the least.

use crate::model::SubjectSet;

/// An answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// It does not hold.
    No,
    /// It does not hold, but for a reason that must not be turned into a grant by
    /// `!`: it rests on a cycle, or on something that is not declared.
    Doubt,
    /// Not found out, since a limit was met, or since it would contradict itself.
    Undecided,
    /// It holds.
    Yes,
}

/// Why a question was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Why {
    /// More hops than the request or the node allows.
    #[error("max_depth_exceeded")]
    Depth,
    /// More subject sets on one object than are looked at.
    #[error("max_width_exceeded")]
    Width,
    /// More objects than are looked at for one request.
    #[error("max_size_exceeded")]
    Size,
    /// What is negated depends on itself.
    #[error("cycle_under_negation")]
    Cycle,
    /// What is negated rests on a relation or namespace that is not declared.
    #[error("undeclared_under_negation")]
    Undeclared,
    /// A tuple's condition asks for what the request did not give.
    #[error("missing_context")]
    Context,
    /// A tuple's condition could not be worked out with what the request gave.
    #[error("condition_failed")]
    Condition,
}

/// What was found out, and why no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) value: Value,
    pub(crate) why: Option<Why>,
}

impl Finding {
    pub(crate) const NO: Self = Self { value: Value::No, why: None };
    pub(crate) const YES: Self = Self { value: Value::Yes, why: None };

    pub(crate) const fn doubt(why: Why) -> Self {
        Self { value: Value::Doubt, why: Some(why) }
    }

    pub(crate) const fn undecided(why: Why) -> Self {
        Self { value: Value::Undecided, why: Some(why) }
    }

    /// The greater one.
    pub(crate) fn or(self, other: Self) -> Self {
        if other.value > self.value { other } else { self }
    }

    /// The lesser one.
    pub(crate) fn and(self, other: Self) -> Self {
        if other.value < self.value { other } else { self }
    }

    pub(crate) fn not(self) -> Self {
        match self.value {
            Value::Yes => Self::NO,
            Value::No => Self::YES,
            Value::Doubt | Value::Undecided => Self { value: Value::Undecided, ..self },
        }
    }
}

/// Between which two answers the truth lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Between {
    pub(crate) low: Finding,
    pub(crate) high: Finding,
}

impl Between {
    pub(crate) const ANYTHING: Self = Self { low: Finding::NO, high: Finding::YES };

    pub(crate) fn just(finding: Finding) -> Self {
        Self { low: finding, high: finding }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self { low: self.low.or(other.low), high: self.high.or(other.high) }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self { low: self.low.and(other.low), high: self.high.and(other.high) }
    }

    pub(crate) fn not(self) -> Self {
        Self { low: self.high.not(), high: self.low.not() }
    }

    pub(crate) fn decided(self) -> Option<Finding> {
        (self.low.value == self.high.value).then_some(self.low)
    }
}

/// Bounds of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most hops from the object asked about.
    pub depth: u32,
    /// Most subject sets that are looked at on one object and relation, at most
    /// [`WIDTH_MAX`].
    pub width: u32,
    /// Most objects and relations that are looked at in all.
    pub size: usize,
}

/// The largest [`Limits::width`].
pub const WIDTH_MAX: u32 = cardea_storage::store::SCAN_ROWS_MAX;

impl Default for Limits {
    /// 256 hops, 10,000 subject sets on one object, 200,000 in all.
    fn default() -> Self {
        Self { depth: 256, width: WIDTH_MAX, size: 200_000 }
    }
}

/// A question that was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why} at {at}")]
pub struct Unanswered {
    /// Why.
    pub why: Why,
    /// What was asked.
    pub at: SubjectSet,
    /// For conditions, the parameters that had no value, or what else was wrong.
    pub lacking: Vec<String>,
}

impl Unanswered {
    pub(crate) fn new(why: Why, at: &SubjectSet) -> Self {
        Self { why, at: at.clone(), lacking: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negation_never_makes_a_grant_of_a_doubt() {
        for doubtful in [Finding::doubt(Why::Cycle), Finding::undecided(Why::Depth)] {
            assert_eq!(doubtful.not().value, Value::Undecided);
            assert_eq!(doubtful.not().not().value, Value::Undecided);
            assert_eq!(doubtful.or(Finding::YES), Finding::YES);
            assert_eq!(doubtful.and(Finding::NO), Finding::NO);
        }
        assert_eq!(Finding::YES.not(), Finding::NO);
        assert_eq!(Finding::NO.not(), Finding::YES);
    }

    #[test]
    fn intervals_turn_around_under_negation() {
        let no_or_doubt = Between { low: Finding::NO, high: Finding::doubt(Why::Cycle) };
        let turned = no_or_doubt.not();
        assert_eq!((turned.low.value, turned.high.value), (Value::Undecided, Value::Yes));
        assert_eq!(Between::ANYTHING.and(Between::just(Finding::NO)).decided(), Some(Finding::NO));
        assert_eq!(Between::ANYTHING.or(Between::just(Finding::YES)).decided(), Some(Finding::YES));
        assert_eq!(Between::ANYTHING.or(Between::just(Finding::NO)).decided(), None);
    }
}
