//! Sessions: accepted from the acknowledged login until the acknowledged
//! revocation, and never again.

use crate::history::{Span, Violation, Write};

/// What a node said to a session token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// 200.
    Accepted,
    /// 401.
    Refused,
}

/// A question about a session that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The node that answered.
    pub node: usize,
    /// When.
    pub span: Span,
    /// What it said.
    pub verdict: Verdict,
}

/// A session as its clients saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStory {
    /// Its id.
    pub id: String,
    /// The login that was acknowledged with it.
    pub issued: Span,
    /// Every attempt to end it, by whatever means.
    pub revocations: Vec<Write>,
    /// What nodes said to its token, strongly asked.
    pub checks: Vec<Check>,
}

/// Every promise that this story breaks.
pub fn check(story: &SessionStory) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |check: &Check, what: String| {
        violations.push(Violation(format!(
            "session {}, node {}, {}: {what}",
            story.id,
            check.node + 1,
            check.span
        )));
    };
    for check in &story.checks {
        match check.verdict {
            Verdict::Accepted => {
                let ended = story.revocations.iter().find(|r| r.was_done_before(check.span.began));
                if let Some(revocation) = ended {
                    say(
                        check,
                        format!(
                            "accepted after the revocation of {} was acknowledged",
                            revocation.span
                        ),
                    );
                }
                let refused = story.checks.iter().find(|other| {
                    other.verdict == Verdict::Refused && other.span.ended < check.span.began
                });
                if let Some(refused) = refused {
                    say(
                        check,
                        format!(
                            "accepted again after node {} refused it at {}",
                            refused.node + 1,
                            refused.span
                        ),
                    );
                }
            }
            Verdict::Refused => {
                if check.span.began < story.issued.ended {
                    continue;
                }
                if !story.revocations.iter().any(|r| r.is_visible_by(check.span.ended)) {
                    say(
                        check,
                        "refused although nobody had revoked it: an acknowledged login is lost"
                            .to_owned(),
                    );
                }
            }
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

    fn story(revocations: &[(u64, u64, Fate)], checks: &[(u64, u64, Verdict)]) -> SessionStory {
        SessionStory {
            id: "s".to_owned(),
            issued: span(0, 10),
            revocations: revocations
                .iter()
                .map(|(began, ended, fate)| Write { span: span(*began, *ended), fate: *fate })
                .collect(),
            checks: checks
                .iter()
                .enumerate()
                .map(|(node, (b, e, verdict))| Check {
                    node,
                    span: span(*b, *e),
                    verdict: *verdict,
                })
                .collect(),
        }
    }

    use Verdict::{Accepted, Refused};

    #[test]
    fn good_sessions_pass() {
        let good = [
            story(&[], &[(20, 30, Accepted)]),
            story(&[(40, 50, Fate::Done)], &[(20, 30, Accepted), (60, 70, Refused)]),
            // Overlapping the revocation, both answers are right, even in this order.
            story(&[(40, 50, Fate::Done)], &[(42, 44, Refused), (41, 48, Accepted)]),
            story(&[(40, 50, Fate::Unknown)], &[(60, 70, Accepted), (80, 90, Refused)]),
            story(&[(40, 50, Fate::NotDone)], &[(60, 70, Accepted)]),
        ];
        for story in good {
            assert_eq!(check(&story), []);
        }
    }

    #[test]
    fn a_session_accepted_after_its_revocation_is_found() {
        let bad = story(&[(40, 50, Fate::Done)], &[(51, 60, Accepted)]);
        assert_eq!(check(&bad).len(), 1);
    }

    #[test]
    fn a_session_that_comes_back_is_found_though_its_revocation_was_unknown() {
        let bad = story(&[(40, 50, Fate::Unknown)], &[(60, 70, Refused), (71, 90, Accepted)]);
        assert_eq!(check(&bad).len(), 1);
    }

    #[test]
    fn a_lost_session_is_found() {
        assert_eq!(check(&story(&[], &[(20, 30, Refused)])).len(), 1);
        assert_eq!(check(&story(&[(40, 50, Fate::Done)], &[(20, 30, Refused)])).len(), 1);
        assert_eq!(check(&story(&[(5, 9, Fate::NotDone)], &[(20, 30, Refused)])).len(), 1);
    }
}
