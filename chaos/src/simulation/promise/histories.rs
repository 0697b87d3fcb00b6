//! Registers, identifiers and sessions are linearizable. Each is used for a while
//! and then left alone, so that its history stays short enough to be decided.

use std::collections::BTreeMap;

use super::{Answered, Judgement, Promise};
use crate::{
    check::register::{self, Input, Operation, Output},
    history::{Moment, Span},
    simulation::cells::{CellKind, Reply, Request},
};

/// States that the search of one history visits; what is not decided by then stays
/// so.
const STATES_MAX: usize = 1_000_000;

/// The history of each.
#[derive(Debug, Default)]
pub(super) struct Linearizable(BTreeMap<(CellKind, u64), Vec<Operation>>);

impl Promise for Linearizable {
    fn name(&self) -> &'static str {
        "histories are linearizable"
    }

    fn answered(&mut self, answered: &Answered) -> Result<(), String> {
        let Some((subject, input)) = register_of(&answered.request) else { return Ok(()) };
        let output = match (&answered.request, &answered.reply) {
            (_, Reply::Value(value)) => Output::Value(*value),
            (_, Reply::Done) => Output::Done,
            (_, Reply::Differs) => Output::Differs,
            (_, Reply::Unknown) => Output::Unknown,
            // It did not happen: should its effect be seen, nobody wrote it.
            _ => return Ok(()),
        };
        // What is asked in the millisecond of an answer is asked after it.
        let span = Span {
            began: Moment(answered.began * 1_000),
            ended: Moment((answered.ended * 1_000).saturating_sub(1)),
        };
        let operation =
            Operation { client: answered.client, node: answered.machine, input, output, span };
        self.0.entry(subject).or_default().push(operation);
        Ok(())
    }

    fn judge(&self) -> Judgement {
        let mut undecided = None;
        for (subject, history) in &self.0 {
            if let Some((read, later)) = register::first_stale(history) {
                let later = later.map(|later| later.to_string());
                return Judgement::Broken(format!(
                    "{subject:?}: [{read}] is stale or of nobody, for [{later:?}] came before"
                ));
            }
            match register::check_within(history, STATES_MAX) {
                register::Linearizable::Yes => {}
                register::Linearizable::Undecided(states) => {
                    undecided = undecided.or(Some(format!(
                        "{subject:?}, {} operations, after {states} states",
                        history.len()
                    )));
                }
                register::Linearizable::No { longest, stuck } => {
                    let last = longest.last().map(ToString::to_string).unwrap_or_default();
                    let stuck: Vec<String> = stuck.iter().map(ToString::to_string).collect();
                    return Judgement::Broken(format!(
                        "{subject:?}: after [{last}] none can follow of {stuck:?}"
                    ));
                }
            }
        }
        undecided.map_or(Judgement::Kept, Judgement::Undecided)
    }
}

fn register_of(request: &Request) -> Option<((CellKind, u64), Input)> {
    use CellKind::{Identifier, Register, Session};
    Some(match request {
        Request::Read(n) => ((Register, *n), Input::Read),
        Request::Write(n, to) => ((Register, *n), Input::Write(*to)),
        Request::Swap(n, from, to) => ((Register, *n), Input::Swap { from: *from, to: *to }),
        Request::Claim(n, who) => ((Identifier, *n), Input::Swap { from: 0, to: *who }),
        Request::Release(n, who) => ((Identifier, *n), Input::Swap { from: *who, to: 0 }),
        Request::Lookup(n) | Request::Owner(n) => ((Identifier, *n), Input::Read),
        Request::Issue(n) => ((Session, *n), Input::Write(1)),
        Request::Revoke(n) => ((Session, *n), Input::Swap { from: 1, to: 2 }),
        Request::Check(n) => ((Session, *n), Input::Read),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::samples::ask, *};

    fn is_kept(promise: &Linearizable) -> bool {
        promise.judge() == Judgement::Kept
    }

    #[test]
    fn an_identifier_of_two_owners_is_told() {
        let mut claimed = Linearizable::default();
        assert!(ask(&mut claimed, Request::Claim(1, 7), Reply::Done, 1, 9));
        assert!(ask(&mut claimed, Request::Claim(1, 8), Reply::Differs, 1, 9));
        assert!(is_kept(&claimed));
        assert!(ask(&mut claimed, Request::Claim(1, 9), Reply::Done, 1, 9));
        assert!(!is_kept(&claimed));
    }

    #[test]
    fn what_was_answered_in_the_same_millisecond_came_before() {
        let mut read = Linearizable::default();
        assert!(ask(&mut read, Request::Write(1, 5), Reply::Done, 1, 4));
        assert!(ask(&mut read, Request::Read(1), Reply::Value(0), 3, 6));
        assert!(is_kept(&read));
        assert!(ask(&mut read, Request::Read(1), Reply::Value(0), 4, 6));
        assert!(!is_kept(&read));
    }
}
