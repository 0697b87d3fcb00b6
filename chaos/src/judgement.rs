//! The end of a run: every node is asked about everything once more, then every
//! story goes through its checker. A run that proved nothing is no pass.

use std::{fmt, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};

use crate::{
    check::{
        identifier, identity,
        permission::{self, Fresh},
        register::{self, Linearizable, Operation},
        session,
    },
    history::{Moment, Violation},
    workload::{
        Ledger, Life, Run,
        contest::ask_holders,
        person::{Proof, ask, read_again},
    },
};

/// Questions under way at once.
const AT_ONCE: usize = 24;
/// How often a node is asked before its silence is a finding.
const TRIES: usize = 100;
/// Between two tries.
const BETWEEN_TRIES: Duration = Duration::from_millis(50);

/// What a run showed.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// What was proved.
    pub proof: Proof,
    /// Identities.
    pub identities: usize,
    /// Sessions.
    pub sessions: usize,
    /// Contests for an identifier.
    pub contests: usize,
    /// Contests in which more than one claim was looked at.
    pub contested: usize,
    /// Registers, and operations on them.
    pub registers: (usize, usize),
    /// Changes of permissions, and answers about them.
    pub permissions: (usize, usize),
    /// Answers as of a change's token, and answers about new enemies as of their beginning.
    pub as_of: (usize, usize),
}

impl Findings {
    /// Fails with every violation.
    pub fn expect_kept(&self) -> anyhow::Result<()> {
        let violations: Vec<String> =
            self.violations.iter().take(40).map(ToString::to_string).collect();
        anyhow::ensure!(
            violations.is_empty(),
            "{} promises were broken:\n  {}",
            self.violations.len(),
            violations.join("\n  ")
        );
        Ok(())
    }

    /// Fails with every violation, or if the run proved too little.
    pub fn expect_good(&self) -> anyhow::Result<()> {
        self.expect_kept()?;
        let lacks = self.lacks();
        anyhow::ensure!(lacks.is_empty(), "the run proves nothing: no {}", lacks.join(", no "));
        Ok(())
    }

    /// What the run never saw, and so proves nothing about.
    pub fn lacks(&self) -> Vec<&'static str> {
        let proof = self.proof;
        let shown = [
            ("acknowledged writes", proof.acknowledged),
            ("acknowledged revocations", proof.revocations),
            ("questions after a revocation", proof.asked_after),
            ("accepted sessions", proof.accepted),
            ("contested identifiers", self.contested as u64),
            ("operations on registers", self.registers.1 as u64),
            ("changes of permissions", self.permissions.0 as u64),
            ("answers about permissions", self.permissions.1 as u64),
            ("answers as of a token", self.as_of.0 as u64),
            ("answers about new enemies", self.as_of.1 as u64),
        ];
        shown.into_iter().filter(|(_, count)| *count == 0).map(|(what, _)| what).collect()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Findings { proof, .. } = self;
        writeln!(
            f,
            "  {} identities, {} sessions; {} writes acknowledged, {} of unknown outcome",
            self.identities, self.sessions, proof.acknowledged, proof.unknown
        )?;
        writeln!(
            f,
            "  {} revocations acknowledged, {} questions after one; {} sessions accepted before",
            proof.revocations, proof.asked_after, proof.accepted
        )?;
        writeln!(f, "  {} identifiers contested, of {}", self.contested, self.contests)?;
        writeln!(f, "  {} registers with {} operations", self.registers.0, self.registers.1)?;
        let (changes, answers) = self.permissions;
        writeln!(f, "  {changes} changes of permissions, {answers} answers about them")?;
        write!(f, "  {} promises broken", self.violations.len())
    }
}

/// Asks every node about everything that the clients left, and judges all of it.
/// The clients have ended, the nodes are up.
pub async fn judge(run: &Arc<Run>) -> anyhow::Result<Findings> {
    let mut ledger = run.take_ledger();
    let last = run.now();
    ledger.lives = stream::iter(ledger.lives)
        .map(|life| ask_all(run, life))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    ledger.contests = stream::iter(ledger.contests)
        .map(|mut contest| async move {
            ask_holders(run, &mut contest, TRIES).await;
            contest
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    // What the questions themselves brought up.
    ledger.odd.append(&mut run.take_ledger().odd);
    let nodes = run.nodes.len();
    // The search for an order is computation, not waiting.
    Ok(tokio::task::spawn_blocking(move || find(&ledger, nodes, last)).await?)
}

async fn ask_all(run: &Run, mut life: Life) -> Life {
    for node in &run.nodes {
        for _ in 0..TRIES {
            if read_again(run, &mut life, node).await {
                break;
            }
            tokio::time::sleep(BETWEEN_TRIES).await;
        }
        for (token, story) in &mut life.sessions {
            for _ in 0..TRIES {
                if ask(run, node, token, story).await {
                    break;
                }
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
        }
    }
    life
}

/// `last` is when the last questions began.
fn find(ledger: &Ledger, nodes: usize, last: Moment) -> Findings {
    let mut findings = Findings::default();
    for life in &ledger.lives {
        findings.violations.extend(identity::check(&life.identity));
        findings.violations.extend(unasked(life, nodes, last));
        for (_, story) in &life.sessions {
            findings.violations.extend(session::check(story));
        }
        findings.proof = findings.proof.and(Proof::of(life));
        findings.sessions += life.sessions.len();
    }
    findings.identities = ledger.lives.len();
    for contest in &ledger.contests {
        findings.violations.extend(identifier::check(contest));
        let asked = |node| contest.holders.iter().any(|(at, _)| *at == node);
        findings.violations.extend(silent(nodes, "identifier", &contest.identifier, &asked));
        let looked_at = contest.claims.iter().filter(|claim| {
            !matches!(claim.claimed, identifier::Claimed::NotDone | identifier::Claimed::Unknown)
        });
        findings.contested += usize::from(looked_at.count() > 1);
    }
    findings.contests = ledger.contests.len();
    for (id, history) in &ledger.registers {
        findings.violations.extend(not_linearizable(id, history));
        findings.registers.0 += 1;
        findings.registers.1 += history.len();
    }
    for story in &ledger.permissions {
        findings.violations.extend(permission::check(story));
        findings.permissions.0 += story.changes.len();
        findings.permissions.1 += story.checks.len();
        for check in &story.checks {
            findings.as_of.0 += usize::from(matches!(check.fresh, Fresh::Since(_)));
            findings.as_of.1 += usize::from(check.fresh == Fresh::Begun);
        }
    }
    findings.violations.extend(ledger.odd.iter().cloned().map(Violation));
    findings
}

/// Nodes that did not answer the last questions.
fn unasked(life: &Life, nodes: usize, last: Moment) -> Vec<Violation> {
    let reads = &life.identity.reads;
    let asked = |node| reads.iter().any(|read| read.node == node && read.span.began >= last);
    let mut violations = silent(nodes, "identity", &life.identity.id, &asked);
    for (_, story) in &life.sessions {
        let checks = &story.checks;
        let asked =
            |node| checks.iter().any(|check| check.node == node && check.span.began >= last);
        violations.extend(silent(nodes, "session", &story.id, &asked));
    }
    violations
}

fn silent(nodes: usize, what: &str, id: &str, asked: &dyn Fn(usize) -> bool) -> Vec<Violation> {
    (0..nodes)
        .filter(|node| !asked(*node))
        .map(|node| Violation(format!("node {} never answered about {what} {id}", node + 1)))
        .collect()
}

fn not_linearizable(id: &str, history: &[Operation]) -> Option<Violation> {
    match register::check(history) {
        Linearizable::Yes => None,
        Linearizable::No { longest, stuck } => {
            let told = |operations: &[Operation]| {
                operations.iter().map(|o| format!("\n      {o}")).collect::<String>()
            };
            Some(Violation(format!(
                "register {id} is not linearizable: after{}\n    none of these can follow:{}",
                told(&longest[longest.len().saturating_sub(6)..]),
                told(&stuck)
            )))
        }
        Linearizable::Undecided(states) => {
            Some(Violation(format!("register {id}: undecided after {states} states")))
        }
    }
}
