//! What clients were promised, one file each: taken down as they are answered, and
//! judged at once where that is possible, at the end where a whole history is
//! needed. Each is shown a bad answer that it must reject.

mod backups;
mod books;
mod counts;
mod histories;
mod identifiers;
mod loans;
mod pairs;
mod purses;
mod sessions;

pub use backups::BackedUp;

use super::cells::{Reply, Request};
use crate::history::Violation;

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
    /// When it was asked, in milliseconds. What was answered in the same millisecond
    /// was answered before.
    pub began: u64,
    /// When it was answered.
    pub ended: u64,
}

/// What is found when all is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing is amiss.
    Kept,
    /// It was broken.
    Broken(String),
    /// Nobody can tell: the search was given up.
    Undecided(String),
}

/// A promise.
pub trait Promise {
    /// Its name, as a sentence.
    fn name(&self) -> &'static str;

    /// A request was sent.
    fn began(&mut self, _request: &Request, _at: u64) {}

    /// A request was answered.
    ///
    /// # Errors
    /// How the answer breaks the promise.
    fn answered(&mut self, _answered: &Answered) -> Result<(), String> {
        Ok(())
    }

    /// A backup was made.
    ///
    /// # Errors
    /// How it breaks the promise.
    fn backed_up(&mut self, _backup: &BackedUp) -> Result<(), String> {
        Ok(())
    }

    /// Judges when all is over.
    fn judge(&self) -> Judgement {
        Judgement::Kept
    }
}

/// What is told first of a backup that breaks a promise.
const CUT: &str = "a backup is of one cut";

/// All of them.
fn all() -> Vec<Box<dyn Promise>> {
    vec![
        Box::new(counts::Counts::default()),
        Box::new(identifiers::OneOwner),
        Box::new(pairs::NoWriteSkew),
        Box::new(sessions::RevokedForGood::default()),
        Box::new(loans::LoansEnd::default()),
        Box::new(loans::IndexedAsLong),
        Box::new(purses::SumKept),
        Box::new(books::WholeIsExact),
        Box::new(histories::Linearizable::default()),
    ]
}

/// Everything that was promised.
pub struct Promises {
    promises: Vec<Box<dyn Promise>>,
    /// Answers that say something.
    pub answered: u64,
    /// Answers that say nothing.
    pub unknown: u64,
    /// Requests that were not done.
    pub refused: u64,
    /// Backups that were looked at.
    pub backups: u64,
}

impl Default for Promises {
    fn default() -> Self {
        Self { promises: all(), answered: 0, unknown: 0, refused: 0, backups: 0 }
    }
}

impl Promises {
    /// A request was sent.
    pub fn began(&mut self, request: &Request, at: u64) {
        self.promises.iter_mut().for_each(|promise| promise.began(request, at));
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
        let Answered { client, machine, request, reply, began, ended } = answered;
        let asked = || format!("client {client} at n{machine}, {began}…{ended} ms, {request:?}");
        if let Reply::Absurd(what) = reply {
            let asked = asked();
            return Err(Violation(format!("no store may answer so: {asked} → {what}")));
        }
        for promise in &mut self.promises {
            promise.answered(answered).map_err(|what| {
                Violation(format!("{}: {} → {reply:?}: {what}", promise.name(), asked()))
            })?;
        }
        Ok(())
    }

    /// A backup was made.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn backed_up(&mut self, backup: &BackedUp) -> Result<(), Violation> {
        self.backups += 1;
        for promise in &mut self.promises {
            promise.backed_up(backup).map_err(|what| {
                let (began, ended) = (backup.began, backup.ended);
                let name = promise.name();
                Violation(format!("{CUT}: that of {began}…{ended} ms: {name}: {what}"))
            })?;
        }
        Ok(())
    }

    /// Judges when all is over: what is broken, and what nobody can tell.
    pub fn judge(&self) -> (Option<Violation>, Option<String>) {
        let (mut broken, mut undecided) = (None, None);
        for promise in &self.promises {
            match promise.judge() {
                Judgement::Kept => {}
                Judgement::Broken(what) => {
                    broken = broken.or(Some(Violation(format!("{}: {what}", promise.name()))));
                }
                Judgement::Undecided(what) => {
                    undecided = undecided.or(Some(format!("{}: {what}", promise.name())));
                }
            }
        }
        (broken, undecided)
    }
}

#[cfg(test)]
mod samples {
    use super::*;

    /// Asks and is answered; whether the promise still holds.
    pub(super) fn ask(
        promise: &mut impl Promise,
        request: Request,
        reply: Reply,
        began: u64,
        ended: u64,
    ) -> bool {
        promise.began(&request, began);
        let answered = Answered { client: 0, machine: 0, request, reply, began, ended };
        promise.answered(&answered).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_store_may_answer_is_told() {
        let mut promises = Promises::default();
        let reply = Reply::Absurd("a fault of the reader".to_owned());
        let request = Request::Read(1);
        let answered = Answered { client: 0, machine: 0, request, reply, began: 1, ended: 2 };
        assert!(promises.answered(&answered).is_err());
    }

    #[test]
    fn what_breaks_a_promise_is_told_by_its_name() {
        let mut promises = Promises::default();
        let (request, reply) = (Request::Sides(1), Reply::Both(1, 1));
        let answered = Answered { client: 3, machine: 0, request, reply, began: 1, ended: 2 };
        let told = promises.answered(&answered).unwrap_err().0;
        assert!(told.starts_with("no write skew: client 3 at n0"), "{told}");
    }
}
