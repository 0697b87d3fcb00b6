//! Claims: who lost often goes first.
//!
//! A transaction is validated against what it read. Whoever is far from a shard's leader
//! reads early and proposes late, so that writers near the leader, who go on writing the same
//! record, would win for ever. So a transaction that lost again and again is proposed under a
//! claim: if it loses once more, its leader keeps what it touches for it, and holds others'
//! proposals back until it has come again, for a moment at most. Those who claim the same
//! stand in line.
//!
//! Claims are in the leader's memory alone, and only decide who waits for whom: what a
//! transaction reads is validated in any case, and one whose claim was forgotten is tried as
//! before. CockroachDB's unreplicated locks serve the same end.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use bytes::Bytes;
use cardea_storage::txn::{Condition, Txn, command::Action};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// How long others are held back for one that claims, at most: what it takes to hear that it
/// lost, to read anew and to come again from the farthest region, several times over.
const KEPT_MAX: Duration = Duration::from_secs(1);
/// How long a proposal is held back, at most, and how long one stands in line.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// Claims at one shard; who comes later has none.
const CLAIMS_MAX: usize = 256;
/// Keys and ranges of a transaction that may claim.
const SPANS_MAX: usize = 256;

/// The claims at a shard's leader.
#[derive(Default)]
pub(crate) struct Claims {
    /// In the order in which they came.
    line: Mutex<Vec<Claim>>,
    /// How many there are, for those who need not look.
    count: AtomicUsize,
    news: Notify,
}

struct Claim {
    /// Who claims: names a transaction over its attempts.
    claimant: u64,
    touches: Touched,
    /// Until when it stands in line or, once it is its turn, is kept.
    until: Instant,
    is_kept: bool,
}

impl Claims {
    /// Waits while what an action would disturb is kept for others. `claimant` is 0 for one
    /// without a claim.
    pub(crate) async fn pass(&self, claimant: u64, action: &Action) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let Some((touched, locks)) = Touched::by(action) else { return };
        let latest = Instant::now() + WAIT_MAX;
        self.wait(latest, |line| {
            let disturbed = line.iter().filter(|claim| {
                claim.is_kept
                    && claim.claimant != claimant
                    && touched.disturbs(locks, &claim.touches)
            });
            disturbed.map(|claim| claim.until).max()
        })
        .await;
    }

    /// Claims what an action touches that has just lost, and waits until it is its turn.
    pub(crate) async fn take(&self, claimant: u64, action: &Action) {
        let Some((touches, _)) = Touched::by(action) else { return };
        let latest = Instant::now() + WAIT_MAX;
        {
            let mut line = self.line.lock();
            lapse(&mut line);
            match line.iter().position(|claim| claim.claimant == claimant) {
                // It keeps its place, and its turn: what it lost to was under way before.
                Some(at) => {
                    line[at].touches = touches;
                    line[at].until = latest;
                    line[at].is_kept = false;
                }
                None if line.len() < CLAIMS_MAX && touches.len() <= SPANS_MAX => {
                    line.push(Claim { claimant, touches, until: latest, is_kept: false });
                }
                None => return,
            }
            self.settle(&mut line);
        }
        self.wait(latest, |line| {
            let own = line.iter().find(|claim| claim.claimant == claimant)?;
            (!own.is_kept).then_some(own.until)
        })
        .await;
    }

    /// Ends the claim of one that has come through, or has given up.
    pub(crate) fn end(&self, claimant: u64) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut line = self.line.lock();
        line.retain(|claim| claim.claimant != claimant);
        self.settle(&mut line);
    }

    /// Waits as long as something stands in the way, until when is told.
    async fn wait(&self, latest: Instant, in_the_way: impl Fn(&[Claim]) -> Option<Instant>) {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            // Registered before looking, so that no news is missed.
            news.as_mut().enable();
            let until = {
                let mut line = self.line.lock();
                if lapse(&mut line) {
                    self.settle(&mut line);
                }
                match in_the_way(&line) {
                    Some(until) => until.min(latest),
                    None => return,
                }
            };
            if timeout_at(until, news).await.is_err() && Instant::now() >= latest {
                return;
            }
        }
    }

    /// After the line has changed: whose turn it is, and that others look again.
    fn settle(&self, line: &mut [Claim]) {
        for at in 0..line.len() {
            let waits = line.iter().enumerate().any(|(other_at, other)| {
                // A later one may be kept where this one has come to touch the same.
                let goes_first = other_at < at || other_at > at && other.is_kept;
                goes_first && line[at].touches.meets(&other.touches)
            });
            if !line[at].is_kept && !waits {
                line[at].is_kept = true;
                line[at].until = Instant::now() + KEPT_MAX;
            }
        }
        self.count.store(line.len(), Ordering::Release);
        self.news.notify_waiters();
    }
}

/// Drops claims whose time is over; whether there were any.
fn lapse(line: &mut Vec<Claim>) -> bool {
    let (now, before) = (Instant::now(), line.len());
    line.retain(|claim| claim.until > now);
    line.len() < before
}

/// What a transaction touches at a shard.
struct Touched {
    checked: Vec<Span>,
    written: Vec<Span>,
}

/// A key, or the keys from one to before another.
enum Span {
    Key(Bytes),
    Range(Bytes, Bytes),
}

impl Touched {
    /// What an action touches, and whether it locks that; `None` if it is no transaction.
    fn by(action: &Action) -> Option<(Self, bool)> {
        let (txn, locks) = match action {
            Action::Commit(txn) => (txn, false),
            Action::Prepare(prepare) => (prepare.txn.as_ref()?, true),
            Action::Decide(decide) => (decide.txn.as_ref()?, false),
            _ => return None,
        };
        Some((Self::of(txn), locks))
    }

    fn of(txn: &Txn) -> Self {
        let conditions = txn.checks.iter().filter_map(|check| check.condition.as_ref());
        let checked = conditions.map(|condition| match condition {
            Condition::Absent(key) | Condition::Present(key) => Span::Key(key.clone()),
            Condition::At(at) => Span::Key(at.key.clone()),
            Condition::Range(range) => Span::Range(range.start.clone(), range.end.clone()),
        });
        let effects = txn.ops.iter().filter_map(|op| op.effect.as_ref());
        Self {
            checked: checked.collect(),
            written: effects.map(|effect| Span::Key(effect.key().clone())).collect(),
        }
    }

    fn len(&self) -> usize {
        self.checked.len() + self.written.len()
    }

    /// Whether this would make a transaction lose that touches `other`: by writing what that
    /// one touches, or by a lock on what it writes.
    fn disturbs(&self, locks: bool, other: &Self) -> bool {
        meet(&self.written, &other.checked)
            || meet(&self.written, &other.written)
            || locks && meet(&self.checked, &other.written)
    }

    /// Whether one of two would make the other lose.
    fn meets(&self, other: &Self) -> bool {
        self.disturbs(true, other)
    }
}

fn meet(these: &[Span], those: &[Span]) -> bool {
    these.iter().any(|this| those.iter().any(|that| this.meets(that)))
}

impl Span {
    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(one), Self::Key(other)) => one == other,
            (Self::Key(key), Self::Range(start, end))
            | (Self::Range(start, end), Self::Key(key)) => start <= key && key < end,
            (Self::Range(start, end), Self::Range(from, to)) => start < to && from < end,
        }
    }
}

#[cfg(test)]
mod tests;
