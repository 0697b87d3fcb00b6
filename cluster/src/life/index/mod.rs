//! Indexes that an upgrade brought are built, at the node that leads the directory.
//!
//! 1. The cluster version reaches that of the index: every node writes its rows. The
//!    index gets a row in the directory (see [`index`]).
//! 2. A while later nothing is under way any more that a node of before has begun.
//! 3. Page by page, all that is kept of the index is gone through, and rows that no
//!    record expects as they are are deleted or put right; then all its records, and rows that they lack are
//!    written. Each is done by a transaction that has read what it judges: who changes
//!    it at the same time is met, and wins.
//! 4. Every second the directory notes how far that is. Whoever leads it next goes on
//!    from there.
//!
//! Half of the time is left to others: after a page, the builder rests for as long as
//! the page took.

mod build;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cardea_storage::{Feature, Index, Tag};

use self::build::{Builder, Place, first_place};
use super::rules::{IndexRules, NoIndexes};
use crate::{
    DIRECTORY,
    directory::{
        DirectoryView,
        index::{self, Done},
        records::{BuildPhase, IndexRecord, IndexState},
    },
    member::Member,
};

/// Between two looks at whether there is something to build.
const PERIOD: Duration = Duration::from_millis(500);
/// Between two notes of how far a building is.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// The rest after what the store could not do.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a node knows of its layers' indexes, and how it builds them.
#[derive(Clone)]
pub struct Indexing {
    /// What its layers know.
    pub rules: Arc<dyn IndexRules>,
    /// How fast to go.
    pub pace: BuildPace,
}

impl Default for Indexing {
    fn default() -> Self {
        Self { rules: Arc::new(NoIndexes), pace: BuildPace::default() }
    }
}

/// How fast indexes are built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildPace {
    /// Rows read at once, at least 1: what is held in memory, with the rows that they
    /// lead to.
    pub rows: u32,
    /// Rest between two pages, at least.
    pub pause: Duration,
    /// For how long an index that is declared is left alone. A transaction ends within
    /// ten seconds; one that was begun by a node of an older version is to be over.
    pub grace: Duration,
}

impl Default for BuildPace {
    fn default() -> Self {
        Self { rows: 1_000, pause: Duration::from_millis(5), grace: Duration::from_secs(15) }
    }
}

/// Runs on every node until it stops.
pub(crate) async fn run(member: Arc<Member>) {
    let known = member.indexing.rules.indexes();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = Seen::new();
    while !known.is_empty() {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        note_seen(&member, &mut seen);
        if !is_in_office(&member) {
            continue;
        }
        tokio::select! {
            () = member.stopping.cancelled() => return,
            () = look(&member, &known, &seen) => {}
        }
    }
}

/// Since when this node knows that indexes are to be built, by its monotonic clock: a
/// wall clock that jumps is not to cut the time short for which they are left alone.
type Seen = BTreeMap<(Tag, u64), Duration>;

fn note_seen(member: &Member, seen: &mut Seen) {
    let (view, now) = (member.directory.view(), member.clock.monotonic());
    let building = view.indexes.iter().filter(|(_, row)| row.state() == IndexState::Building);
    let building = building.map(|(tag, row)| (*tag, row.generation));
    *seen = building.map(|key| (key, seen.get(&key).copied().unwrap_or(now))).collect();
}

/// Whether this node leads the directory, and what it holds of it counts.
fn is_in_office(member: &Member) -> bool {
    leads(member) && member.directory.is_confirmed()
}

/// Whether this node leads the directory, and nothing is being restored.
fn leads(member: &Member) -> bool {
    let leads = member.host.status(DIRECTORY).is_some_and(|status| status.leads());
    leads && !member.directory.view().is_restoring()
}

/// Declares what is to be declared, and builds what is to be built.
async fn look(member: &Arc<Member>, known: &[Index], seen: &Seen) {
    let view = member.directory.view();
    if known.iter().any(|index| is_due(index, &view)) {
        match index::declare(&member.store, known).await {
            Ok(indexes) if indexes.is_empty() => {}
            Ok(indexes) => tracing::info!(?indexes, "indexes are to be built"),
            Err(error) => tracing::info!(?error, "indexes are declared later"),
        }
        return;
    }
    for index in known {
        let Some(row) = view.indexes.get(&index.tag) else { continue };
        let Some(since) = seen.get(&(index.tag, row.generation)) else { continue };
        let age = member.clock.monotonic().saturating_sub(*since);
        let is_begun = row.phase() != BuildPhase::Unspecified;
        if is_begun || age >= member.indexing.pace.grace {
            build(member, *index, row).await;
        }
    }
}

/// Whether the cluster version has reached an index that has no row.
fn is_due(index: &Index, view: &DirectoryView) -> bool {
    let reached = view.version() >= index.since.max(Feature::Indexes.since());
    view.cluster.is_some() && reached && !view.indexes.contains_key(&index.tag)
}

/// Builds an index from where its row says, until it is whole or this node is not the
/// one to do it any more.
async fn build(member: &Arc<Member>, index: Index, row: &IndexRecord) {
    let Indexing { rules, pace } = &member.indexing;
    let mut builder = Builder::new(&member.store, rules.as_ref(), index, pace.rows);
    let mut at = Some(place_of(row));
    let (mut done, mut noted) = (Done::default(), member.clock.monotonic());
    tracing::info!(index = %index.tag, from = ?at, "an index is being built");
    while leads(member) {
        if !member.directory.is_confirmed() {
            tokio::time::sleep(RETRY_AFTER).await;
            continue;
        }
        let began = member.clock.monotonic();
        if let Some(place) = &at {
            match builder.page(place).await {
                Ok(page) => {
                    at = page.next.clone();
                    done.add(page);
                }
                Err(error) => {
                    tracing::warn!(index = %index.tag, %error, "an index is built on later");
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
            }
        }
        let now = member.clock.monotonic();
        if at.is_none() || now.saturating_sub(noted) >= NOTE_EVERY {
            match index::note(&member.store, index.tag, row.generation, &done).await {
                Ok(None) => return,
                Ok(Some(row)) if row.state() == IndexState::Whole => return tell(&index, &row),
                Ok(Some(row)) => {
                    at = at.max(Some(place_of(&row)));
                    (done, noted) = (Done { next: at.clone(), ..Done::default() }, now);
                }
                Err(error) => {
                    tracing::info!(index = %index.tag, ?error, "how far an index is is noted later");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
            }
        }
        tokio::time::sleep(pace.pause.max(now.saturating_sub(began))).await;
    }
}

/// Where a building goes on.
fn place_of(row: &IndexRecord) -> Place {
    first_place().max((row.phase(), row.next.clone()))
}

fn tell(index: &Index, row: &IndexRecord) {
    let index = index.tag;
    let IndexRecord { records, filled, stripped, taken, .. } = row;
    tracing::info!(%index, records, filled, stripped, "an index is whole");
    if *taken > 0 {
        tracing::error!(%index, taken, "records lack rows in an index, since others have them");
    }
}

#[cfg(test)]
mod tests;
