//! Controls: a row's campaign once more, with a bug planted, which must be found by what
//! it does; and once more by the same binary without the bug, where nothing may be found,
//! so that it is the bug and not another way of building.
//!
//! What is found is said by a checker in words that the bug is known by, or by a node that
//! finds out by itself that it lost what it had confirmed, and stops: by its own words in
//! its log. A node that is silent, or a strike that went wrong, is neither; and what goes
//! wrong before the first strike fails the row.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{SIZE, campaign_in, planned};
use crate::{
    campaign::{Campaign, Report},
    history::Violation,
    lab::{Lab, LabPlan, has_bug},
    nemesis::Nemesis,
    scoreboard::{Bar, Bench, Line},
};

/// A bug, and what it is known by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bug {
    name: &'static str,
    /// Parts of what a checker says of what it breaks.
    breaks: &'static [&'static str],
    /// Parts of what a node writes that finds out by itself.
    refused: &'static [&'static str],
}

/// What is said of writes that were acknowledged and are gone.
const LOST: &[&str] = &[
    "an acknowledged write is lost",
    "an acknowledged login is lost",
    "had been acknowledged: a write is lost",
    "after the revocation",
    "is not linearizable",
    "was read after version",
    "read again after it had been absent",
    "after an earlier answer knew better",
    "against what was acknowledged before",
    "against the change whose token it was given",
    "was acknowledged, node",
];
/// What is said of rows that are gone although nobody took them away.
const EXPIRED: &[&str] = &["an acknowledged write is lost", "an acknowledged login is lost"];
/// What a node says whose log ends before what it confirmed to the leader who asks it, and
/// one whose state is another than that of a majority (`raft/src/peers.rs`,
/// `cluster/src/runtime/heartbeat.rs`).
const SHORT: &str = "its disk lost what it had called durable";
const OUTVOTED: &str = "a majority has another digest at index";
/// What one says that finds no state where it had some (`cluster/src/runtime/error.rs`,
/// `cluster/src/runtime/open.rs`).
const GONE: [&str; 2] =
    ["the directory's state on this node is lost", "the state of this replica is lost"];

/// Parts of what a node writes last that ends by itself.
const ENDED: [&str; 3] = ["fatal fault", "this node stops", "error: "];

impl Bug {
    pub(super) const ANSWERED_BEFORE_QUORUM: Self =
        Self { name: "AnsweredBeforeQuorum", breaks: LOST, refused: &[SHORT, OUTVOTED] };
    pub(super) const SYNC_SKIPPED: Self =
        Self { name: "SyncSkipped", breaks: LOST, refused: &[SHORT, OUTVOTED, GONE[0], GONE[1]] };
    pub(super) const READ_WITHOUT_QUORUM: Self =
        Self { name: "ReadWithoutQuorum", breaks: LOST, refused: &[] };
    /// Whoever judges by a wrong clock takes what lives for expired.
    pub(super) const EXPIRY_BY_WALL_CLOCK: Self =
        Self { name: "ExpiryByWallClock", breaks: EXPIRED, refused: &[] };
}

/// The lines of a control. Without a binary for planted bugs nothing is found, and the
/// line fails.
pub(super) async fn control(
    row: &str,
    bench: &Bench,
    mut plan: LabPlan,
    bug: Bug,
    nemeses: Vec<Nemesis>,
    strikes: usize,
    hold: Duration,
) -> anyhow::Result<Vec<Line>> {
    let say = |what: &str| (bench.say)(&format!("{row}: {what}"));
    let line = |found| {
        let name = format!("{row}.control-{}", bug.name);
        Line::count(&name, found, "findings", Bar::AtLeast(1.0))
    };
    let Some(binary) = &bench.planted else {
        say(&format!("no binary for planted bugs, so no control with {}", bug.name));
        return Ok(vec![line(0)]);
    };
    ensure!(has_bug(binary, bug.name)?, "{} has no bug {}", binary.display(), bug.name);
    plan.plan.binary = binary.clone();
    let campaign = planned(bench, SIZE, nemeses, strikes, hold);

    say("the same by the binary for planted bugs, with none: nothing may be found");
    let (report, refusals) = run(bench, plan.clone(), bug, None, &campaign).await?;
    let unplanted = report.findings.violations.len() + refusals;
    say(&format!("the same with {} planted, which must be found", bug.name));
    let (report, refusals) = run(bench, plan, bug, Some(bug.name), &campaign).await?;
    let found = named(&report.findings.violations, bug.breaks);
    for violation in found.iter().take(3) {
        (bench.say)(&format!("  found: {violation}"));
    }
    say(&format!("{} findings of checkers, {refusals} of nodes themselves", found.len()));
    let name = format!("{row}.control-unplanted");
    let unplanted = Line::count(&name, unplanted, "findings", Bar::Is(0.0));
    Ok(vec![unplanted, line(found.len() + refusals)])
}

/// A campaign in a laboratory that first stands without the bug, and whose nodes are then
/// started again, with it or without; and how often they then said what the bug is known by.
async fn run(
    bench: &Bench,
    plan: LabPlan,
    bug: Bug,
    planted: Option<&str>,
    campaign: &Campaign,
) -> anyhow::Result<(Report, usize)> {
    let mut lab = Lab::start(plan).await.context("a control that stands")?;
    lab.restart(planted).await.context("the nodes of a control, started again")?;
    let before: Vec<usize> = logs(&lab).iter().map(String::len).collect();
    let report = campaign_in(&mut lab, bench, campaign, Duration::ZERO).await?;
    let mut refusals = 0;
    for (node, (log, before)) in logs(&lab).iter().zip(before).enumerate() {
        let said = log.get(before..).unwrap_or_default();
        let lines = refusing(said, bug.refused);
        refusals += lines.len();
        // Why it ended, if it did, whether the bug is known by that or not.
        let ended = refusing(said, &ENDED);
        let last = ended.len().saturating_sub(2);
        for line in lines.into_iter().take(2).chain(ended[last..].iter().copied()) {
            (bench.say)(&format!("  node {} said: {line}", node + 1));
        }
    }
    Ok((report, refusals))
}

fn logs(lab: &Lab) -> Vec<String> {
    (0..lab.cluster.nodes.len()).map(|node| lab.cluster.log(node)).collect()
}

/// Of what checkers say, that which says one of these.
fn named<'v>(violations: &'v [Violation], parts: &[&str]) -> Vec<&'v Violation> {
    violations.iter().filter(|broken| parts.iter().any(|part| broken.0.contains(part))).collect()
}

/// Of a node's log, the lines that say one of these.
fn refusing<'l>(log: &'l str, parts: &[&str]) -> Vec<&'l str> {
    log.lines().filter(|line| parts.iter().any(|part| line.contains(part))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{
            identity::{self, IdentityStory, Read, Seen},
            session::{self, Check, SessionStory, Verdict},
        },
        history::{Fate, Moment, Span, Write},
    };

    fn span(began: u64) -> Span {
        Span { began: Moment(began), ended: Moment(began + 10) }
    }

    #[test]
    fn a_bug_is_known_by_the_words_of_the_checkers() {
        let done = |began| Write { span: span(began), fate: Fate::Done };
        let read = |began, seen| Read { node: 0, span: span(began), seen };
        let story = |seen| IdentityStory {
            id: "i".to_owned(),
            created: span(0),
            writes: vec![(1, done(20))],
            deletions: Vec::new(),
            reads: vec![read(40, seen)],
        };
        for (seen, known) in [(Seen::Version(1), 0), (Seen::Version(0), 1), (Seen::Absent, 1)] {
            assert_eq!(named(&identity::check(&story(seen)), LOST).len(), known);
        }
        let story = |revoked: bool, verdict| SessionStory {
            id: "s".to_owned(),
            issued: span(0),
            revocations: revoked.then(|| done(20)).into_iter().collect(),
            checks: vec![Check { node: 0, span: span(40), verdict }],
        };
        let stale = session::check(&story(true, Verdict::Accepted));
        let expired = session::check(&story(false, Verdict::Refused));
        assert_eq!((named(&stale, LOST).len(), named(&stale, EXPIRED).len()), (1, 0));
        assert_eq!((named(&expired, LOST).len(), named(&expired, EXPIRED).len()), (1, 1));
    }

    #[test]
    fn silence_and_strikes_that_went_wrong_are_not_what_a_bug_is_known_by() {
        let said = [
            "node 1 ended by itself with exit status: 1",
            "strike 10: kill-all: after kill-all: node 1 ended by itself with exit status: 1",
            "node 1 never answered about identity 71b7e6ff",
            "strike 2: power-cut: no write to group 4 was acknowledged for 60s",
            "session b609, node 1, 7.8 s: refused although nobody had revoked it: an acknowledged \
             login is lost",
            "session b2d5, node 1, 6.9 s: accepted after the revocation of 6.8 s was acknowledged",
        ];
        let violations = said.map(|what| Violation(what.to_owned()));
        assert_eq!(named(&violations[..4], LOST).len(), 0);
        assert_eq!(named(&violations, LOST).len(), 2);
        assert_eq!(named(&violations, EXPIRED).len(), 1);
    }

    #[test]
    fn a_node_that_stops_for_another_reason_did_not_find_the_bug() {
        let log = "{\"level\":\"ERROR\",\"message\":\"fatal fault: this node must stop\",\"fault\":\
                   \"Fault(the log of g3 ends at 7, but this node confirmed entries up to 9: its \
                   disk lost what it had called durable. Replace this node)\"}\nerror: g3 stopped\n";
        assert_eq!(refusing(log, Bug::ANSWERED_BEFORE_QUORUM.refused).len(), 1);
        assert_eq!(refusing("error: g3 stopped\n", Bug::SYNC_SKIPPED.refused).len(), 0);
        assert_eq!(refusing(log, Bug::READ_WITHOUT_QUORUM.refused).len(), 0);
    }
}
