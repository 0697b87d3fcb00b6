//! A session whose revocation was acknowledged is never found good again, at
//! whichever node it is looked up.

use std::collections::BTreeMap;

use super::{Answered, BackedUp, Promise};
use crate::simulation::cells::{CellKind, Reply, Request};

/// When the revocation of each session was acknowledged first.
#[derive(Debug, Default)]
pub(super) struct RevokedForGood(BTreeMap<u64, u64>);

impl RevokedForGood {
    fn is_revoked_by(&self, session: u64, at: u64) -> bool {
        self.0.get(&session).is_some_and(|acknowledged| *acknowledged <= at)
    }
}

impl Promise for RevokedForGood {
    fn name(&self) -> &'static str {
        "a revoked session stays revoked"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Revoke(session), Reply::Done) => {
                self.0.entry(*session).or_insert(answered.ended);
                Ok(())
            }
            (Request::Check(session), Reply::Value(1))
                if self.is_revoked_by(*session, answered.began) =>
            {
                Err("its revocation was acknowledged before".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        let good = |session: &u64| {
            backup.home(CellKind::Session, *session) == 1
                && self.is_revoked_by(*session, backup.began)
        };
        let revived = backup.numbers(CellKind::Session).find(good);
        revived.map_or(Ok(()), |session| Err(format!("session {session} is good in it")))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    #[test]
    fn a_session_that_is_good_after_its_revocation_is_told() {
        let mut sessions = RevokedForGood::default();
        assert!(ask(&mut sessions, Request::Check(1), Reply::Value(1), 1, 2));
        assert!(ask(&mut sessions, Request::Revoke(1), Reply::Done, 3, 6));
        // It may have been looked up before it was revoked.
        assert!(ask(&mut sessions, Request::Check(1), Reply::Value(1), 5, 9));
        assert!(ask(&mut sessions, Request::Check(1), Reply::Value(2), 6, 9));
        assert!(!ask(&mut sessions, Request::Check(1), Reply::Value(1), 6, 9));
        assert!(ask(&mut sessions, Request::Check(2), Reply::Value(1), 6, 9));
    }
}
