//! Permissions: given and taken by one client, one change after the other, and asked
//! for by others. At the latest an answer is as of some moment while it was asked, and
//! never older than an earlier one; at a token it knows at least the change that gave
//! the token, on every node.

use crate::history::{Span, Violation, Write};

/// A change of the permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When, and what became of it.
    pub write: Write,
    /// Whether it gives the permission; else it takes it.
    pub gives: bool,
}

/// How fresh an answer was asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fresh {
    /// Linearizable.
    Latest,
    /// At least as fresh as this change, by its token.
    Since(usize),
    /// As a node has it, since the story began: any state of the story may be seen, and
    /// no mixture of several.
    Begun,
}

/// A question that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The node that answered.
    pub node: usize,
    /// When.
    pub span: Span,
    /// How fresh.
    pub fresh: Fresh,
    /// What it said.
    pub allowed: bool,
}

/// A permission as its clients saw it; nobody has it at first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionStory {
    /// What it is.
    pub name: String,
    /// Its changes, in order. Only the last may be of unknown outcome.
    pub changes: Vec<Change>,
    /// What nodes said.
    pub checks: Vec<Check>,
}

impl PermissionStory {
    /// Whether the permission is there once the first `count` changes are made.
    fn is_given_after(&self, count: usize) -> bool {
        let made = self.changes[..count].iter().rev();
        made.clone().find(|change| change.write.fate.is_possible()).is_some_and(|c| c.gives)
    }

    /// The fewest changes that an answer is possible after, of those from `floor` on
    /// that it may have seen.
    fn fits(&self, check: &Check, floor: usize) -> Option<usize> {
        (floor..=self.changes.len()).find(|count| {
            let seen = *count == floor
                || self.changes[floor..*count]
                    .iter()
                    .all(|c| !c.write.fate.is_possible() || c.write.span.began < check.span.ended);
            seen && self.is_given_after(*count) == check.allowed
        })
    }

    /// How many changes were acknowledged before a question began.
    fn acknowledged(&self, check: &Check) -> usize {
        let done = |change: &Change| change.write.was_done_before(check.span.began);
        self.changes.iter().rposition(done).map_or(0, |at| at + 1)
    }
}

/// Every promise that this story breaks.
pub fn check(story: &PermissionStory) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |check: &Check, what: &str| {
        let (said, node) = (if check.allowed { "yes" } else { "no" }, check.node + 1);
        let text = format!("{}, node {node}, {}: {said} {what}", story.name, check.span);
        violations.push(Violation(text));
    };
    let mut latest: Vec<&Check> =
        story.checks.iter().filter(|check| check.fresh == Fresh::Latest).collect();
    latest.sort_by_key(|check| check.span.ended);
    // What each answer proves to have been made by then.
    let mut proved: Vec<(&Check, usize)> = Vec::new();
    for check in latest {
        let acknowledged = story.acknowledged(check);
        let earlier = proved.iter().filter(|(other, _)| other.span.ended < check.span.began);
        let known = earlier.map(|(_, count)| *count).max().unwrap_or(0);
        match story.fits(check, acknowledged.max(known)) {
            Some(count) => proved.push((check, count)),
            None if story.fits(check, acknowledged).is_some() => {
                say(check, "after an earlier answer knew better");
            }
            None => say(check, "at the latest, against what was acknowledged before"),
        }
    }
    for check in &story.checks {
        match check.fresh {
            Fresh::Since(change) if story.fits(check, change + 1).is_none() => {
                say(check, "against the change whose token it was given");
            }
            Fresh::Begun if story.fits(check, 0).is_none() => {
                say(check, "which was so at no time");
            }
            Fresh::Latest | Fresh::Since(_) | Fresh::Begun => {}
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Fate, Moment};

    fn span(began: u64, ended: u64) -> Span {
        Span { began: Moment(began), ended: Moment(ended) }
    }

    /// Changes give and take in turn.
    fn story(changes: &[(u64, u64, Fate)], checks: &[(u64, u64, Fresh, bool)]) -> PermissionStory {
        let change = |(at, (began, ended, fate)): (usize, &(u64, u64, Fate))| Change {
            write: Write { span: span(*began, *ended), fate: *fate },
            gives: at % 2 == 0,
        };
        let asked = |(node, (began, ended, fresh, allowed)): (usize, &(u64, u64, Fresh, bool))| {
            Check { node, span: span(*began, *ended), fresh: *fresh, allowed: *allowed }
        };
        PermissionStory {
            name: "p".to_owned(),
            changes: changes.iter().enumerate().map(change).collect(),
            checks: checks.iter().enumerate().map(asked).collect(),
        }
    }

    use Fate::{Done, NotDone, Unknown};
    use Fresh::{Begun, Latest, Since};

    const GIVEN_AND_TAKEN: [(u64, u64, Fate); 2] = [(0, 10, Done), (40, 50, Done)];

    #[test]
    fn good_histories_pass() {
        let good = [
            story(&GIVEN_AND_TAKEN, &[(20, 30, Latest, true), (60, 70, Latest, false)]),
            // While the revocation is made, both are right.
            story(&GIVEN_AND_TAKEN, &[(41, 43, Latest, true), (44, 46, Latest, false)]),
            story(&GIVEN_AND_TAKEN, &[(45, 70, Latest, true), (44, 46, Latest, false)]),
            // A token asks for no more than its change.
            story(&GIVEN_AND_TAKEN, &[(60, 70, Since(0), true), (60, 70, Since(1), false)]),
            story(&[(0, 10, Unknown)], &[(20, 30, Latest, false), (40, 50, Latest, true)]),
            story(&[(0, 10, Done), (20, 30, NotDone)], &[(40, 50, Latest, true)]),
            story(&[], &[(20, 30, Latest, false)]),
        ];
        for story in good {
            assert_eq!(check(&story), [], "{story:?}");
        }
    }

    #[test]
    fn grant_after_an_acknowledged_revocation_is_found() {
        let bad = story(&GIVEN_AND_TAKEN, &[(51, 60, Latest, true)]);
        assert_eq!(check(&bad).len(), 1);
        let bad = story(&GIVEN_AND_TAKEN, &[(45, 60, Since(1), true)]);
        assert_eq!(check(&bad).len(), 1, "the token is honoured, however early it is used");
    }

    #[test]
    fn new_enemy_is_found_however_stale_the_answer() {
        // A group loses its access, and then somebody joins it: nobody ever has it.
        assert_eq!(check(&story(&[], &[(20, 30, Begun, false)])), []);
        assert_eq!(check(&story(&[], &[(20, 30, Begun, true)])).len(), 1);
        let stale = [(20, 30, Begun, false), (60, 70, Begun, true)];
        assert_eq!(check(&story(&GIVEN_AND_TAKEN, &stale)), [], "each was so once");
    }

    #[test]
    fn lost_grant_is_found() {
        assert_eq!(check(&story(&[(0, 10, Done)], &[(20, 30, Latest, false)])).len(), 1);
        assert_eq!(check(&story(&[(0, 10, Done)], &[(20, 30, Since(0), false)])).len(), 1);
        let refused = [(0, 10, Done), (20, 30, NotDone)];
        assert_eq!(check(&story(&refused, &[(40, 50, Latest, false)])).len(), 1);
    }

    #[test]
    fn answer_that_goes_back_is_found() {
        // Overlapping the revocation either answer is right, but not in this order.
        let bad = story(&GIVEN_AND_TAKEN, &[(41, 43, Latest, false), (44, 46, Latest, true)]);
        assert_eq!(check(&bad).len(), 1);
        let unknown = [(0, 10, Unknown)];
        let bad = story(&unknown, &[(20, 30, Latest, true), (40, 50, Latest, false)]);
        assert_eq!(check(&bad).len(), 1);
    }

    #[test]
    fn grant_that_nobody_gave_is_found() {
        assert_eq!(check(&story(&[], &[(20, 30, Latest, true)])).len(), 1);
        assert_eq!(check(&story(&[(0, 10, NotDone)], &[(20, 30, Latest, true)])).len(), 1);
        assert_eq!(check(&story(&[(40, 50, Done)], &[(20, 30, Latest, true)])).len(), 1);
    }
}
