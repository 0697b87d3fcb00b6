//! What moves between the two parts of a purse is never lost and never doubled.

use super::{Answered, BackedUp, Promise};
use crate::simulation::cells::{CellKind, PURSE, Reply, Request};

/// The sum stays.
pub(super) struct SumKept;

/// A purse that nobody touched holds nothing.
pub(super) fn is_whole(home: u64, beside: u64) -> bool {
    (home, beside) == (0, 0) || home + beside == PURSE
}

impl Promise for SumKept {
    fn name(&self) -> &'static str {
        "a purse keeps its sum"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Purse(_), Reply::Both(home, beside)) if !is_whole(*home, *beside) => {
                Err(format!("it holds {}", home + beside))
            }
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        let torn = backup.numbers(CellKind::Purse).find(|n| {
            !is_whole(backup.home(CellKind::Purse, *n), backup.index(CellKind::Purse, *n))
        });
        torn.map_or(Ok(()), |n| Err(format!("purse {n} holds another sum in it")))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    #[test]
    fn a_purse_with_another_sum_is_told() {
        assert!(ask(&mut SumKept, Request::Purse(1), Reply::Both(0, 0), 1, 2));
        assert!(ask(&mut SumKept, Request::Purse(1), Reply::Both(PURSE - 3, 3), 1, 2));
        assert!(!ask(&mut SumKept, Request::Purse(1), Reply::Both(PURSE - 3, 0), 1, 2));
        let mut backup = BackedUp::default();
        backup.put_home(CellKind::Purse, 1, PURSE - 3);
        assert!(SumKept.backed_up(&backup).is_err());
        backup.put_index(CellKind::Purse, 1, 3);
        assert!(SumKept.backed_up(&backup).is_ok());
    }
}
