//! An identifier has one owner, and index and home agree on who it is. That nobody
//! else was told to own it meanwhile is for the history to show.

use super::{Answered, BackedUp, Promise};
use crate::simulation::cells::{CellKind, Reply, Request};

/// Index and home agree.
pub(super) struct OneOwner;

impl Promise for OneOwner {
    fn name(&self) -> &'static str {
        "an identifier has one owner"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Audit(_), Reply::Both(index, home)) if index != home => {
                Err("index and home differ".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        let torn = backup.numbers(CellKind::Identifier).find(|n| {
            backup.index(CellKind::Identifier, *n) != backup.home(CellKind::Identifier, *n)
        });
        torn.map_or(Ok(()), |n| Err(format!("index and home differ about identifier {n}")))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    #[test]
    fn an_index_that_differs_from_its_home_is_told() {
        assert!(ask(&mut OneOwner, Request::Audit(1), Reply::Both(7, 7), 1, 2));
        assert!(!ask(&mut OneOwner, Request::Audit(1), Reply::Both(7, 0), 1, 2));
        let mut backup = BackedUp::default();
        backup.put_home(CellKind::Identifier, 1, 7);
        assert!(OneOwner.backed_up(&backup).is_err());
        backup.put_index(CellKind::Identifier, 1, 7);
        assert!(OneOwner.backed_up(&backup).is_ok());
    }
}
