//! What clients were promised, taken down as they are answered, and judged: at
//! once where that is possible, at the end where a whole history is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::cells::{Fresh, Reply, Request};
use crate::{
    check::register::{self, Input, Linearizable, Operation, Output},
    history::{Moment, Span, Violation},
};

/// What a history is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Register(u64),
    Identifier(u64),
    Session(u64),
}

/// A request with its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// Who asked.
    pub client: usize,
    /// The machine that was asked.
    pub machine: usize,
    /// What was asked.
    pub request: Request,
    /// The answer.
    pub reply: Reply,
    /// When it was asked, in milliseconds.
    pub began: u64,
    /// When it was answered.
    pub ended: u64,
}

/// How often a count was raised.
#[derive(Debug, Default)]
struct Count {
    /// When increments began that may have happened.
    begun: Vec<u64>,
    /// When increments were acknowledged.
    acknowledged: Vec<u64>,
    /// What they were told.
    told: BTreeSet<u64>,
}

/// Everything that was promised.
#[derive(Debug, Default)]
pub struct Promises {
    histories: BTreeMap<Subject, Vec<Operation>>,
    counts: BTreeMap<u64, Count>,
    /// Answers that say something.
    pub answered: u64,
    /// Answers that say nothing.
    pub unknown: u64,
    /// Requests that were not done.
    pub refused: u64,
}

/// States that the search of one history visits; what is not decided by then
/// stays so.
const STATES_MAX: usize = 100_000;
/// A read may have seen what was acknowledged in the tick in which it began.
const TICK_MS: u64 = 2;

impl Promises {
    /// A request was sent.
    pub fn began(&mut self, request: &Request, at: u64) {
        if let Request::Increment(n) = request {
            self.counts.entry(*n).or_default().begun.push(at);
        }
    }

    /// A request was answered.
    ///
    /// # Errors
    /// The promise that the answer breaks.
    pub fn answered(&mut self, answered: &Answered) -> Result<(), Violation> {
        match &answered.reply {
            Reply::Unknown => self.unknown += 1,
            Reply::Not(_) => self.refused += 1,
            _ => self.answered += 1,
        }
        let broken = |what: String| {
            Err(Violation(format!(
                "client {} at n{}, {}…{} ms, {:?} → {:?}: {what}",
                answered.client,
                answered.machine,
                answered.began,
                answered.ended,
                answered.request,
                answered.reply
            )))
        };
        if let Reply::Absurd(what) = &answered.reply {
            return broken(format!("no store may say so: {what}"));
        }
        match (&answered.request, &answered.reply) {
            (Request::Audit(_), Reply::Both(index, home)) if index != home => {
                broken("index and home differ".to_owned())
            }
            (Request::Loan(_), Reply::Both(row, index)) if row != index => {
                broken("a row and its index row live for different times".to_owned())
            }
            (Request::Sides(_), Reply::Both(1, 1)) => broken("both sides are taken".to_owned()),
            (Request::Lent(_), Reply::Until(until, judged)) if until <= judged => {
                broken("a row is read past its expiry".to_owned())
            }
            (Request::Increment(n), reply) => match self.incremented(*n, answered, reply) {
                Ok(()) => Ok(()),
                Err(what) => broken(what),
            },
            (Request::Count(n, fresh), Reply::Counted(value, _)) => {
                match self.counted(*n, fresh, *value, answered) {
                    Ok(()) => Ok(()),
                    Err(what) => broken(what),
                }
            }
            _ => {
                self.remember(answered);
                Ok(())
            }
        }
    }

    fn incremented(&mut self, n: u64, answered: &Answered, reply: &Reply) -> Result<(), String> {
        let count = self.counts.entry(n).or_default();
        match reply {
            Reply::Counted(value, _) => {
                let floor = known_by(&count.acknowledged, answered.began.saturating_sub(TICK_MS));
                if *value <= floor {
                    return Err(format!("{floor} were acknowledged before it began"));
                }
                if !count.told.insert(*value) {
                    return Err("another increment was told the same".to_owned());
                }
                count.acknowledged.push(answered.ended);
                Ok(())
            }
            Reply::Not(_) => {
                if let Some(at) = count.begun.iter().position(|at| *at == answered.began) {
                    count.begun.swap_remove(at);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn counted(
        &mut self,
        n: u64,
        fresh: &Fresh,
        value: u64,
        answered: &Answered,
    ) -> Result<(), String> {
        let count = self.counts.entry(n).or_default();
        let most = known_by(&count.begun, answered.ended);
        if value > most {
            return Err(format!("only {most} were ever begun"));
        }
        let began = answered.began.saturating_sub(TICK_MS);
        let least = match fresh {
            Fresh::Strong => known_by(&count.acknowledged, began),
            Fresh::Bounded(ms) => known_by(&count.acknowledged, began.saturating_sub(*ms)),
            Fresh::AtLeast(_, seen) => *seen,
            Fresh::Eventual => 0,
        };
        if value < least {
            return Err(format!("at least {least} had to be seen"));
        }
        Ok(())
    }

    fn remember(&mut self, answered: &Answered) {
        let Some((subject, input)) = register_of(&answered.request) else { return };
        let output = match (&answered.request, &answered.reply) {
            (_, Reply::Value(value)) => Output::Value(*value),
            (_, Reply::Done) => Output::Done,
            (_, Reply::Differs) => Output::Differs,
            (_, Reply::Unknown) => Output::Unknown,
            // It did not happen: should its effect be seen, nobody wrote it.
            _ => return,
        };
        let span = Span {
            began: Moment(answered.began * 1_000),
            ended: Moment(answered.ended * 1_000 + 999),
        };
        let operation =
            Operation { client: answered.client, node: answered.machine, input, output, span };
        self.histories.entry(subject).or_default().push(operation);
    }

    /// Judges the whole histories.
    pub fn judge(&self) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (subject, history) in &self.histories {
            if let Some((read, later)) = register::first_stale(history) {
                let later = later.map(|later| later.to_string());
                violations.push(Violation(format!(
                    "{subject:?}: [{read}] is stale or of nobody, for [{later:?}] came before"
                )));
                continue;
            }
            match register::check_within(history, STATES_MAX) {
                Linearizable::Yes | Linearizable::Undecided(_) => {}
                Linearizable::No { longest, stuck } => {
                    let last = longest.last().map(ToString::to_string).unwrap_or_default();
                    let stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
                    violations.push(Violation(format!(
                        "{subject:?} is not linearizable: after [{last}] none can follow of {stuck:?}"
                    )));
                }
            }
        }
        violations
    }
}

/// How many of these moments lie at or before `at`.
fn known_by(moments: &[u64], at: u64) -> u64 {
    moments.iter().filter(|moment| **moment <= at).count() as u64
}

fn register_of(request: &Request) -> Option<(Subject, Input)> {
    Some(match request {
        Request::Read(n) => (Subject::Register(*n), Input::Read),
        Request::Write(n, to) => (Subject::Register(*n), Input::Write(*to)),
        Request::Swap(n, from, to) => (Subject::Register(*n), Input::Swap { from: *from, to: *to }),
        Request::Claim(n, who) => (Subject::Identifier(*n), Input::Swap { from: 0, to: *who }),
        Request::Release(n, who) => (Subject::Identifier(*n), Input::Swap { from: *who, to: 0 }),
        Request::Lookup(n) => (Subject::Identifier(*n), Input::Read),
        Request::Issue(n) => (Subject::Session(*n), Input::Write(1)),
        Request::Revoke(n) => (Subject::Session(*n), Input::Swap { from: 1, to: 2 }),
        Request::Check(n) => (Subject::Session(*n), Input::Read),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(
        promises: &mut Promises,
        request: Request,
        reply: Reply,
        began: u64,
        ended: u64,
    ) -> bool {
        promises.began(&request, began);
        let answered = Answered { client: 0, machine: 0, request, reply, began, ended };
        promises.answered(&answered).is_ok()
    }

    fn counted(value: u64) -> Reply {
        Reply::Counted(value, Default::default())
    }

    #[test]
    fn counts_that_break_their_promise_are_told() {
        let mut promises = Promises::default();
        assert!(ask(&mut promises, Request::Increment(1), counted(1), 10, 20));
        assert!(ask(&mut promises, Request::Count(1, Fresh::Strong), counted(1), 30, 40));
        assert!(ask(&mut promises, Request::Count(1, Fresh::Eventual), counted(0), 30, 40));
        assert!(ask(&mut promises, Request::Count(1, Fresh::Bounded(50)), counted(0), 60, 65));
        assert!(!ask(&mut promises, Request::Count(1, Fresh::Strong), counted(0), 30, 40));
        assert!(!ask(&mut promises, Request::Count(1, Fresh::Bounded(5)), counted(0), 60, 65));
        assert!(!ask(&mut promises, Request::Count(1, Fresh::Eventual), counted(2), 60, 65));
        let token = Fresh::AtLeast(Default::default(), 1);
        assert!(!ask(&mut promises, Request::Count(1, token), counted(0), 60, 65));
        assert!(!ask(&mut promises, Request::Increment(1), counted(1), 15, 90), "told twice");
        assert!(!ask(&mut promises, Request::Increment(1), counted(1), 70, 90), "lost");
    }

    #[test]
    fn an_increment_of_unknown_outcome_may_be_counted_and_a_refused_one_may_not() {
        let mut promises = Promises::default();
        assert!(ask(&mut promises, Request::Increment(1), Reply::Not(String::new()), 10, 20));
        assert!(!ask(&mut promises, Request::Count(1, Fresh::Strong), counted(1), 30, 40));
        assert!(ask(&mut promises, Request::Increment(1), Reply::Unknown, 50, 60));
        assert!(ask(&mut promises, Request::Count(1, Fresh::Strong), counted(1), 70, 80));
    }

    #[test]
    fn torn_pairs_and_expired_rows_are_told() {
        use cardea_storage::Timestamp;
        let mut promises = Promises::default();
        assert!(ask(&mut promises, Request::Audit(1), Reply::Both(7, 7), 1, 2));
        assert!(!ask(&mut promises, Request::Audit(1), Reply::Both(7, 0), 1, 2));
        assert!(!ask(&mut promises, Request::Loan(1), Reply::Both(7, 0), 1, 2));
        assert!(ask(&mut promises, Request::Sides(1), Reply::Both(1, 0), 1, 2));
        assert!(!ask(&mut promises, Request::Sides(1), Reply::Both(1, 1), 1, 2));
        let until = |until, judged| Reply::Until(Timestamp(until), Timestamp(judged));
        assert!(ask(&mut promises, Request::Lent(1), until(10, 9), 1, 2));
        assert!(!ask(&mut promises, Request::Lent(1), until(10, 10), 1, 2));
        assert!(!ask(&mut promises, Request::Read(1), Reply::Absurd("no".to_owned()), 1, 2));
    }

    #[test]
    fn a_session_read_after_its_acknowledged_revocation_and_an_identifier_of_two_are_told() {
        let mut revoked = Promises::default();
        assert!(ask(&mut revoked, Request::Issue(1), Reply::Done, 1, 2));
        assert!(ask(&mut revoked, Request::Revoke(1), Reply::Done, 3, 4));
        assert!(revoked.judge().is_empty());
        assert!(ask(&mut revoked, Request::Check(1), Reply::Value(1), 5, 6));
        assert_eq!(revoked.judge().len(), 1);

        let mut claimed = Promises::default();
        assert!(ask(&mut claimed, Request::Claim(1, 7), Reply::Done, 1, 9));
        assert!(ask(&mut claimed, Request::Claim(1, 8), Reply::Differs, 1, 9));
        assert!(claimed.judge().is_empty());
        assert!(ask(&mut claimed, Request::Claim(1, 9), Reply::Done, 1, 9));
        assert_eq!(claimed.judge().len(), 1);
    }
}
