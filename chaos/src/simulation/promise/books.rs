//! An index that is whole is exact: every record has its row in it and every row its
//! record, though records are older than it, were changed by nodes that do not know
//! it, and by all while it was built.

use super::{Answered, Promise};
use crate::simulation::cells::{Reply, Request};

/// The shelf that a book stands on is the one that the index has it on.
pub(super) struct WholeIsExact;

impl Promise for WholeIsExact {
    fn name(&self) -> &'static str {
        "an index that is whole is exact"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Book(_), Reply::Both(stands, listed)) if stands != listed => {
                Err(format!("it stands on {stands:b} and is listed on {listed:b}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    #[test]
    fn a_book_that_is_not_listed_and_one_that_is_listed_and_gone_are_told() {
        let told = |stands, listed| {
            !ask(&mut WholeIsExact, Request::Book(1), Reply::Both(stands, listed), 1, 2)
        };
        assert!(!told(0, 0) && !told(2, 2));
        assert!(told(2, 0) && told(0, 2) && told(2, 3) && told(1, 2));
    }
}
