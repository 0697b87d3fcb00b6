//! Linearizability of one register (Wing and Gong's search with Lowe's memory of
//! visited states, as in Porcupine).
//!
//! A register holds a number, 0 at first. Clients read it, write it, or swap it if
//! it still holds what they expect. Registers are independent, so each is checked
//! alone (P-compositionality). The search takes, in every possible order, an
//! operation that began before every remaining answered one ended, and applies it
//! to the model; a set of taken operations with a value that was met before is not
//! entered twice. An operation of unknown outcome may take effect at any moment
//! after it began, or never.

use std::{collections::HashSet, fmt};

use crate::history::{Moment, Span};

/// What was asked of the register.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Its value.
    Read,
    /// To hold this, whatever it held.
    Write(u64),
    /// To hold `to` if it holds `from`.
    Swap {
        /// What is expected.
        from: u64,
        /// What it becomes.
        to: u64,
    },
}

/// What was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// The value that was read.
    Value(u64),
    /// The write or swap was done.
    Done,
    /// The register held something else than the swap expected.
    Differs,
    /// Nothing that says whether it happened.
    Unknown,
}

/// An operation of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: usize,
    /// The node that was asked.
    pub node: usize,
    /// What was asked.
    pub input: Input,
    /// What was answered.
    pub output: Output,
    /// When.
    pub span: Span,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {} node {} {}: {:?} → {:?}",
            self.client,
            self.node + 1,
            self.span,
            self.input,
            self.output
        )
    }
}

/// What the search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Linearizable {
    /// There is an order.
    Yes,
    /// There is none: the longest order found, and what could not follow it.
    No {
        /// The operations in the longest order that works.
        longest: Vec<Operation>,
        /// Those that had to come next, of which none could.
        stuck: Vec<Operation>,
    },
    /// The search was given up after this many states.
    Undecided(usize),
}

/// States that the search visits before it gives up.
const STATES_MAX: usize = 4_000_000;

struct Node {
    operation: Operation,
    /// `None`: it may take effect at any time, or never.
    ended: Option<Moment>,
}

/// Whether the operations on one register are linearizable.
pub fn check(operations: &[Operation]) -> Linearizable {
    check_within(operations, STATES_MAX)
}

/// As [`check`], but gives up after so many states.
pub fn check_within(operations: &[Operation], states_max: usize) -> Linearizable {
    Search::new(operations).run(states_max)
}

/// A read that cannot be right whatever the rest is, where no value but 0 was
/// written twice: of a value that nobody wrote, or that was overwritten before the
/// read began. Cheap, where the search may be long.
pub fn first_stale(operations: &[Operation]) -> Option<(Operation, Option<Operation>)> {
    let written = |operation: &Operation| match operation.input {
        Input::Write(to) | Input::Swap { to, .. } => Some(to),
        Input::Read => None,
    };
    operations.iter().find_map(|read| {
        let Output::Value(value) = read.output else { return None };
        if value == 0 {
            return None;
        }
        let may_write = |o: &&Operation| {
            written(o) == Some(value)
                && o.output != Output::Differs
                && o.span.began <= read.span.ended
        };
        let Some(writer) = operations.iter().find(may_write) else { return Some((*read, None)) };
        let overwrites = |o: &&Operation| {
            o.output == Output::Done
                && written(o).is_some_and(|to| to != value)
                && writer.output == Output::Done
                && o.span.began > writer.span.ended
                && o.span.ended < read.span.began
        };
        operations.iter().find(overwrites).map(|later| (*read, Some(*later)))
    })
}

struct Search {
    nodes: Vec<Node>,
    taken: Vec<u64>,
    answered_left: usize,
    visited: HashSet<(Vec<u64>, u64)>,
    longest: Vec<usize>,
    stuck: Vec<usize>,
}

/// A step of the search: who was taken from which value, and who is tried next.
struct Step {
    value: u64,
    candidates: Vec<usize>,
    next: usize,
    taken: Option<usize>,
}

impl Search {
    fn new(operations: &[Operation]) -> Self {
        let has_refused_swap = operations.iter().any(|o| o.output == Output::Differs);
        let is_wanted = |value: u64| {
            // A refused swap may owe its refusal to a write that nobody read.
            has_refused_swap
                || operations.iter().any(|o| {
                    o.output == Output::Value(value)
                        || matches!(o.input, Input::Swap { from, .. } if from == value)
                })
        };
        let mut nodes: Vec<Node> = operations
            .iter()
            .filter(|operation| match (operation.output, operation.input) {
                (Output::Unknown, Input::Read) => false,
                (Output::Unknown, Input::Write(to) | Input::Swap { to, .. }) => is_wanted(to),
                _ => true,
            })
            .map(|operation| Node {
                operation: *operation,
                ended: (operation.output != Output::Unknown).then_some(operation.span.ended),
            })
            .collect();
        // Who ends first is tried first; the open ones last.
        nodes.sort_by_key(|node| (node.ended.is_none(), node.ended, node.operation.span.began));
        let answered_left = nodes.iter().filter(|node| node.ended.is_some()).count();
        Self {
            taken: vec![0; nodes.len().div_ceil(64)],
            nodes,
            answered_left,
            visited: HashSet::new(),
            longest: Vec::new(),
            stuck: Vec::new(),
        }
    }

    fn run(mut self, states_max: usize) -> Linearizable {
        let mut steps = vec![self.step(0)];
        while let Some(step) = steps.last_mut() {
            if self.answered_left == 0 {
                return Linearizable::Yes;
            }
            if self.visited.len() > states_max {
                return Linearizable::Undecided(self.visited.len());
            }
            if let Some(taken) = step.taken.take() {
                self.put_back(taken);
            }
            let Some(candidate) = step.candidates.get(step.next).copied() else {
                steps.pop();
                continue;
            };
            step.next += 1;
            let Some(value) = apply(step.value, &self.nodes[candidate].operation) else { continue };
            self.take(candidate);
            if !self.visited.insert((self.taken.clone(), value)) {
                self.put_back(candidate);
                continue;
            }
            step.taken = Some(candidate);
            let depth = steps.iter().filter(|step| step.taken.is_some()).count();
            let next = self.step(value);
            if depth > self.longest.len() {
                self.longest = steps.iter().filter_map(|step| step.taken).collect();
                self.stuck = next.candidates.clone();
            }
            steps.push(next);
        }
        let operations = |at: &[usize]| at.iter().map(|at| self.nodes[*at].operation).collect();
        Linearizable::No { longest: operations(&self.longest), stuck: operations(&self.stuck) }
    }

    /// Who may come next: began before every remaining answered one ended.
    fn step(&self, value: u64) -> Step {
        let open = || (0..self.nodes.len()).filter(|at| !self.is_taken(*at));
        let bound = open().filter_map(|at| self.nodes[at].ended).min();
        let candidates = open()
            .filter(|at| bound.is_none_or(|bound| self.nodes[*at].operation.span.began <= bound))
            .collect();
        Step { value, candidates, next: 0, taken: None }
    }

    fn is_taken(&self, at: usize) -> bool {
        self.taken[at / 64] & (1 << (at % 64)) != 0
    }

    fn take(&mut self, at: usize) {
        self.taken[at / 64] |= 1 << (at % 64);
        self.answered_left -= usize::from(self.nodes[at].ended.is_some());
    }

    fn put_back(&mut self, at: usize) {
        self.taken[at / 64] &= !(1 << (at % 64));
        self.answered_left += usize::from(self.nodes[at].ended.is_some());
    }
}

/// The value after the operation; `None`: it cannot have been answered so.
fn apply(value: u64, operation: &Operation) -> Option<u64> {
    match (operation.input, operation.output) {
        (Input::Read, Output::Value(read)) => (read == value).then_some(value),
        (Input::Write(to), Output::Done | Output::Unknown) => Some(to),
        (Input::Swap { from, to }, Output::Done | Output::Unknown) => (from == value).then_some(to),
        (Input::Swap { from, .. }, Output::Differs) => (from != value).then_some(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn operation(client: usize, began: u64, ended: u64, input: Input, output: Output) -> Operation {
        let span = Span { began: Moment(began), ended: Moment(ended) };
        Operation { client, node: 0, input, output, span }
    }

    fn read(client: usize, began: u64, ended: u64, value: u64) -> Operation {
        operation(client, began, ended, Input::Read, Output::Value(value))
    }

    fn write(client: usize, began: u64, ended: u64, value: u64) -> Operation {
        operation(client, began, ended, Input::Write(value), Output::Done)
    }

    fn lost(client: usize, began: u64, value: u64) -> Operation {
        operation(client, began, began + 1, Input::Write(value), Output::Unknown)
    }

    fn swap(
        client: usize,
        began: u64,
        ended: u64,
        from: u64,
        to: u64,
        output: Output,
    ) -> Operation {
        operation(client, began, ended, Input::Swap { from, to }, output)
    }

    #[test]
    fn good_histories_are_accepted() {
        use Output::{Differs, Done, Unknown};
        let good: [&[Operation]; 8] = [
            &[],
            &[write(0, 0, 10, 1), read(1, 11, 12, 1)],
            // While a write runs, old and new may both be read, in this order.
            &[write(0, 0, 100, 1), read(1, 10, 20, 0), read(1, 30, 40, 1)],
            &[write(0, 0, 10, 1), swap(1, 11, 20, 1, 2, Done), read(0, 21, 22, 2)],
            &[write(0, 0, 10, 1), swap(1, 11, 20, 7, 2, Differs), read(0, 21, 22, 1)],
            // An unknown write takes effect long after it was given up…
            &[lost(0, 0, 1), read(1, 10, 20, 0), read(1, 30, 40, 1)],
            // …or never.
            &[lost(0, 0, 1), swap(2, 5, 6, 0, 3, Unknown), read(1, 10, 20, 0)],
            // A refused swap owes its refusal to a write that nobody read.
            &[lost(0, 0, 1), swap(1, 10, 20, 0, 2, Differs)],
        ];
        for history in good {
            assert_eq!(check(history), Linearizable::Yes, "{history:?}");
        }
    }

    #[test]
    fn bad_histories_are_rejected() {
        use Output::{Differs, Done};
        let bad: [&[Operation]; 9] = [
            // A stale read.
            &[write(0, 0, 10, 1), read(1, 11, 12, 0)],
            // A value that nobody wrote.
            &[read(0, 0, 1, 5)],
            // Back in time while the write still runs.
            &[write(0, 0, 100, 1), read(1, 10, 20, 1), read(2, 30, 40, 0)],
            // Two swaps from one value.
            &[swap(0, 0, 50, 0, 1, Done), swap(1, 0, 50, 0, 2, Done)],
            // A swap refused though nothing changed.
            &[swap(0, 0, 10, 0, 1, Differs)],
            // A swap from a value that was overwritten.
            &[write(0, 0, 10, 1), write(1, 11, 20, 2), swap(0, 21, 30, 1, 3, Done)],
            // An unknown write that took effect twice.
            &[lost(0, 0, 1), read(1, 5, 6, 1), write(1, 10, 20, 2), read(1, 21, 22, 1)],
            // An unknown write seen before it began.
            &[read(1, 0, 10, 1), lost(0, 20, 1)],
            // A lost write, seen by nobody but the one who acknowledged it.
            &[write(0, 0, 10, 1), write(1, 20, 30, 2), read(0, 40, 50, 1), read(1, 60, 70, 1)],
        ];
        for history in bad {
            assert!(matches!(check(history), Linearizable::No { .. }), "{history:?}");
        }
    }

    #[test]
    fn a_stale_read_is_seen_without_a_search() {
        let stale = [write(0, 0, 10, 1), write(0, 11, 20, 2), read(1, 21, 22, 1)];
        assert_eq!(first_stale(&stale), Some((stale[2], Some(stale[1]))));
        let invented = [write(0, 0, 10, 1), read(1, 21, 22, 7)];
        assert_eq!(first_stale(&invented), Some((invented[1], None)));
        let good = [
            write(0, 0, 10, 1),
            lost(0, 11, 2),
            read(1, 21, 22, 1),
            read(1, 23, 24, 2),
            write(0, 30, 50, 3),
            read(1, 31, 32, 2),
        ];
        assert_eq!(first_stale(&good), None);
        for seed in 0..20 {
            assert_eq!(first_stale(&simulate(seed, 40)), None, "seed {seed}");
        }
    }

    /// Runs clients against a real register in an invented time; every operation
    /// takes effect at a moment inside its span, or is lost on the way.
    fn simulate(seed: u64, count: usize) -> Vec<Operation> {
        let mut dice = Dice::new(seed);
        let mut held = 0;
        // Operations as (moment of effect, operation), then run in that order.
        let mut planned: Vec<(u64, Operation)> = Vec::new();
        for client in 0..4 {
            let mut at = dice.below(50) as u64;
            for step in 0..count {
                let (began, effect) = (at, at + 1 + dice.below(40) as u64);
                let ended = effect + 1 + dice.below(40) as u64;
                at = ended + 1 + dice.below(20) as u64;
                let unique = (client * count + step + 1) as u64;
                let input = match dice.below(3) {
                    0 => Input::Read,
                    1 => Input::Write(unique),
                    _ => Input::Swap { from: 0, to: unique },
                };
                planned.push((effect, operation(client, began, ended, input, Output::Unknown)));
            }
        }
        planned.sort_by_key(|(effect, _)| *effect);
        let mut history = Vec::new();
        let mut newest = 0;
        for (_, mut operation) in planned {
            if let Input::Swap { to, .. } = operation.input {
                // As clients do: from what they last heard of.
                let from = if dice.percent(60) { newest } else { to };
                operation.input = Input::Swap { from, to };
            }
            let is_lost = dice.percent(5);
            let happens = !is_lost || dice.percent(50);
            let output = match operation.input {
                Input::Read => Output::Value(held),
                Input::Write(to) => {
                    held = if happens { to } else { held };
                    Output::Done
                }
                Input::Swap { from, to } if from == held => {
                    held = if happens { to } else { held };
                    Output::Done
                }
                Input::Swap { .. } => Output::Differs,
            };
            newest = held;
            operation.output = if is_lost { Output::Unknown } else { output };
            history.push(operation);
        }
        history
    }

    #[test]
    fn histories_of_a_real_register_are_accepted_and_forged_ones_rejected() {
        for seed in 0..20 {
            let mut history = simulate(seed, 40);
            assert_eq!(check(&history), Linearizable::Yes, "seed {seed}");
            // A read of a value that had been overwritten before the read began.
            let stale = history.iter().enumerate().rev().find_map(|(at, last)| {
                let Output::Value(now) = last.output else { return None };
                let old = history.iter().find(|o| {
                    matches!(o.output, Output::Value(then) if then != now)
                        && history.iter().any(|w| {
                            w.output == Output::Done
                                && matches!(w.input, Input::Write(_))
                                && w.span.began > o.span.ended
                                && w.span.ended < last.span.began
                        })
                })?;
                let Output::Value(then) = old.output else { return None };
                Some((at, then))
            });
            if let Some((at, then)) = stale {
                history[at].output = Output::Value(then);
                assert!(matches!(check(&history), Linearizable::No { .. }), "seed {seed}");
            }
        }
    }
}
