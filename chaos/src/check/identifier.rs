//! Identifiers: of all who claim one, exactly one gets it.

use std::collections::BTreeSet;

use crate::history::{Span, Violation};

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Acknowledged: this identity has it.
    Won(String),
    /// Refused, because somebody has it.
    Taken,
    /// Refused for another reason: it was not looked at.
    NotDone,
    /// Nobody said.
    Unknown,
}

/// A claim of an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The node that was asked.
    pub node: usize,
    /// When.
    pub span: Span,
    /// What became of it.
    pub claimed: Claimed,
}

/// An identifier, who claimed it, and who had it in the end. Nobody gave it up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contest {
    /// The identifier.
    pub identifier: String,
    /// The claims.
    pub claims: Vec<Claim>,
    /// Who has it, as each node says after all claims ended, strongly asked.
    pub holders: Vec<(usize, Vec<String>)>,
}

/// Every promise that this contest breaks.
pub fn check(contest: &Contest) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut say = |what: String| {
        violations.push(Violation(format!("identifier {}: {what}", contest.identifier)));
    };
    let winners: Vec<&String> = contest
        .claims
        .iter()
        .filter_map(|claim| match &claim.claimed {
            Claimed::Won(identity) => Some(identity),
            _ => None,
        })
        .collect();
    let is_open = contest.claims.iter().any(|claim| claim.claimed == Claimed::Unknown);
    let is_taken = contest.claims.iter().any(|claim| claim.claimed == Claimed::Taken);
    if winners.len() > 1 {
        say(format!("{} claims were acknowledged: {winners:?}", winners.len()));
    }
    if winners.is_empty() && !is_open && is_taken {
        say("somebody was told that it is taken, and nobody has it".to_owned());
    }
    if contest.holders.is_empty() {
        say("no node was asked who has it: the contest proves nothing".to_owned());
    }
    let mut said = BTreeSet::new();
    for (node, holders) in &contest.holders {
        said.insert(holders);
        if holders.len() > 1 {
            say(format!("node {} names {} holders: {holders:?}", node + 1, holders.len()));
        }
        match (winners.first(), holders.first()) {
            (Some(winner), holder) if holder != Some(winner) => {
                say(format!("{winner} was acknowledged, node {} says {holder:?}", node + 1));
            }
            (None, Some(holder)) if !is_open => {
                say(format!("no claim was acknowledged or open, node {} says {holder}", node + 1));
            }
            (None, None) if is_taken && is_open => {
                say(format!(
                    "somebody was told that it is taken, node {} says nobody has it",
                    node + 1
                ));
            }
            _ => {}
        }
    }
    // An open claim may still be decided between two questions, but only once.
    if said.len() > 1 && !is_open {
        say("the nodes name different holders".to_owned());
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Moment;

    fn contest(claims: &[Claimed], holders: &[&[&str]]) -> Contest {
        let span = Span { began: Moment(0), ended: Moment(1) };
        Contest {
            identifier: "a@b.c".to_owned(),
            claims: claims
                .iter()
                .enumerate()
                .map(|(node, claimed)| Claim { node, span, claimed: claimed.clone() })
                .collect(),
            holders: holders
                .iter()
                .enumerate()
                .map(|(node, ids)| (node, ids.iter().map(|id| (*id).to_owned()).collect()))
                .collect(),
        }
    }

    fn won(id: &str) -> Claimed {
        Claimed::Won(id.to_owned())
    }

    use Claimed::{NotDone, Taken, Unknown};

    #[test]
    fn good_contests_pass() {
        let good = [
            contest(&[won("1"), Taken], &[&["1"], &["1"], &["1"]]),
            contest(&[won("1"), Unknown], &[&["1"], &["1"]]),
            contest(&[Taken, Unknown], &[&["2"], &["2"]]),
            contest(&[NotDone, Unknown], &[&[], &[]]),
            contest(&[NotDone, NotDone], &[&[]]),
        ];
        for contest in good {
            assert_eq!(check(&contest), [], "{contest:?}");
        }
    }

    #[test]
    fn bad_contests_are_found() {
        let bad = [
            contest(&[won("1"), won("2")], &[&["1"], &["1"]]),
            contest(&[Taken, Taken], &[&[]]),
            contest(&[won("1"), Taken], &[&["1"], &[]]),
            contest(&[won("1"), Unknown], &[&["2"]]),
            contest(&[Unknown, Unknown], &[&["1", "2"]]),
            contest(&[NotDone, Taken], &[&["1"]]),
            contest(&[NotDone], &[&["1"]]),
            contest(&[Taken, Unknown], &[&[]]),
            contest(&[won("1")], &[]),
        ];
        for contest in bad {
            assert_ne!(check(&contest), [], "{contest:?}");
        }
    }
}
