//! Counts: no increment that was acknowledged is lost, none happens twice, and a
//! read sees as many as its consistency promises.

use std::collections::{BTreeMap, BTreeSet};

use super::{Answered, BackedUp, Promise};
use crate::simulation::cells::{CellKind, Fresh, Reply, Request};

/// How often each count was raised.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<u64, Count>);

#[derive(Debug, Default)]
struct Count {
    /// When increments began that may have happened.
    begun: Vec<u64>,
    /// When increments were acknowledged.
    acknowledged: Vec<u64>,
    /// What they were told.
    told: BTreeSet<u64>,
}

impl Promise for Counts {
    fn name(&self) -> &'static str {
        "counts are as fresh as asked"
    }

    fn began(&mut self, request: &Request, at: u64) {
        if let Request::Increment(n) = request {
            self.0.entry(*n).or_default().begun.push(at);
        }
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        match (&answered.request, &answered.reply) {
            (Request::Increment(n), reply) => {
                self.0.entry(*n).or_default().incremented(answered, reply)
            }
            (Request::Count(n, fresh), Reply::Counted(value, _)) => {
                self.0.entry(*n).or_default().counted(fresh, *value, answered)
            }
            _ => Ok(()),
        }
    }

    fn backed_up(&mut self, backup: &BackedUp) -> Result<(), String> {
        for (n, count) in &self.0 {
            let value = backup.home(CellKind::Count, *n);
            let least = known_by(&count.acknowledged, backup.began);
            let most = known_by(&count.begun, backup.ended);
            if value < least || value > most {
                return Err(format!("count {n} is {value}, not {least} to {most}"));
            }
        }
        Ok(())
    }
}

impl Count {
    fn incremented(&mut self, answered: &Answered, reply: &Reply) -> Result<(), String> {
        match reply {
            Reply::Counted(value, _) => {
                let floor = known_by(&self.acknowledged, answered.began);
                if *value <= floor {
                    return Err(format!("{floor} were acknowledged before it began"));
                }
                if !self.told.insert(*value) {
                    return Err("another increment was told the same".to_owned());
                }
                self.acknowledged.push(answered.ended);
            }
            Reply::Not(_) => {
                if let Some(at) = self.begun.iter().position(|at| *at == answered.began) {
                    self.begun.swap_remove(at);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn counted(&self, fresh: &Fresh, value: u64, answered: &Answered) -> Result<(), String> {
        let most = known_by(&self.begun, answered.ended);
        if value > most {
            return Err(format!("only {most} were ever begun"));
        }
        let least = match fresh {
            Fresh::Strong => known_by(&self.acknowledged, answered.began),
            Fresh::Bounded(ms) => known_by(&self.acknowledged, answered.began.saturating_sub(*ms)),
            Fresh::AtLeast(_, seen) => *seen,
            Fresh::Eventual => 0,
        };
        if value < least {
            return Err(format!("at least {least} had to be seen"));
        }
        Ok(())
    }
}

/// How many of these moments lie at or before `at`.
fn known_by(moments: &[u64], at: u64) -> u64 {
    moments.iter().filter(|moment| **moment <= at).count() as u64
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    fn counted(value: u64) -> Reply {
        Reply::Counted(value, Default::default())
    }

    #[test]
    fn counts_that_break_their_promise_are_told() {
        let mut counts = Counts::default();
        assert!(ask(&mut counts, Request::Increment(1), counted(1), 10, 20));
        assert!(ask(&mut counts, Request::Count(1, Fresh::Strong), counted(1), 20, 40));
        assert!(ask(&mut counts, Request::Count(1, Fresh::Strong), counted(0), 19, 40));
        assert!(ask(&mut counts, Request::Count(1, Fresh::Eventual), counted(0), 30, 40));
        assert!(ask(&mut counts, Request::Count(1, Fresh::Bounded(50)), counted(0), 60, 65));
        assert!(!ask(&mut counts, Request::Count(1, Fresh::Strong), counted(0), 20, 40));
        assert!(!ask(&mut counts, Request::Count(1, Fresh::Bounded(5)), counted(0), 60, 65));
        assert!(!ask(&mut counts, Request::Count(1, Fresh::Eventual), counted(2), 60, 65));
        let token = Fresh::AtLeast(Default::default(), 1);
        assert!(!ask(&mut counts, Request::Count(1, token), counted(0), 60, 65));
        assert!(!ask(&mut counts, Request::Increment(1), counted(1), 15, 90), "told twice");
        assert!(!ask(&mut counts, Request::Increment(1), counted(1), 70, 90), "lost");
    }

    #[test]
    fn an_increment_of_unknown_outcome_may_be_counted_and_a_refused_one_may_not() {
        let mut counts = Counts::default();
        assert!(ask(&mut counts, Request::Increment(1), Reply::Not(String::new()), 10, 20));
        assert!(!ask(&mut counts, Request::Count(1, Fresh::Strong), counted(1), 30, 40));
        assert!(ask(&mut counts, Request::Increment(1), Reply::Unknown, 50, 60));
        assert!(ask(&mut counts, Request::Count(1, Fresh::Strong), counted(1), 70, 80));
    }

    #[test]
    fn a_backup_without_an_acknowledged_increment_is_told() {
        let mut counts = Counts::default();
        assert!(ask(&mut counts, Request::Increment(1), counted(1), 10, 20));
        let mut backup = BackedUp { began: 30, ended: 40, ..BackedUp::default() };
        assert!(counts.backed_up(&backup).is_err());
        backup.put_home(CellKind::Count, 1, 1);
        assert!(counts.backed_up(&backup).is_ok());
        backup.put_home(CellKind::Count, 1, 2);
        assert!(counts.backed_up(&backup).is_err());
    }
}
