//! Of a pair one side may be taken at most, though each taker writes his own side
//! and only reads the other: transactions are serializable, not merely atomic.

use super::{Answered, BackedUp, Promise};
use crate::simulation::cells::{CellKind, Reply, Request};

/// Never both sides.
pub(super) struct NoWriteSkew;

impl Promise for NoWriteSkew {
    fn name(&self) -> &'static str {
        "no write skew"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Sides(_), Reply::Both(1, 1)) => Err("both sides are taken".to_owned()),
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        let both =
            |n: &u64| (backup.home(CellKind::Pair, *n), backup.index(CellKind::Pair, *n)) == (1, 1);
        let skewed = backup.numbers(CellKind::Pair).find(both);
        skewed.map_or(Ok(()), |n| Err(format!("both sides of pair {n} are taken")))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    #[test]
    fn a_pair_with_both_sides_taken_is_told() {
        assert!(ask(&mut NoWriteSkew, Request::Sides(1), Reply::Both(1, 0), 1, 2));
        assert!(!ask(&mut NoWriteSkew, Request::Sides(1), Reply::Both(1, 1), 1, 2));
        let mut backup = BackedUp::default();
        backup.put_home(CellKind::Pair, 1, 1);
        assert!(NoWriteSkew.backed_up(&backup).is_ok());
        backup.put_index(CellKind::Pair, 1, 1);
        assert!(NoWriteSkew.backed_up(&backup).is_err());
    }
}
