//! The tuples as of one instant, for one request.
//!
//! Where this node has a replica, an engine snapshot is pinned, and reads wait for
//! nothing. Elsewhere, or where a lock is met, each round of reads goes through the
//! store and may see a later instant than the round before; so at the end what was
//! read earlier is read again, all together, and if anything differs, the whole
//! request begins anew. Either way an answer is one that was true at one instant:
//! nobody is let in by a membership that was given after the membership's group had
//! lost its access.

use std::sync::Arc;

use cardea_storage::{
    Consistency, Fault, KeyRange, Revision, Row, Snaptoken, Store, StoreError, Tenant, Timestamp,
    protocol::{
        pin::{Pinned, PinnedRead},
        shards::ShardId,
    },
    store::{Read, ReadRequest, Rows},
};
use parking_lot::Mutex;

use crate::{language::Language, sets::Usable, table::Place};

/// Most reads that are asked of the store at once.
const READS_MAX: usize = 1024;
/// Most reads that are made again to see whether all was so at one instant, and how often
/// it is tried to find them at one.
const CONFIRMED_MAX: usize = 32 * READS_MAX;
const TRIES_MAX: u32 = 4;

/// How a graph is read.
enum Mode {
    Pinned(Arc<Pinned>),
    Followed(Mutex<Followed>),
}

/// What was read in several rounds.
#[derive(Default)]
struct Followed {
    seen: Snaptoken,
    time: Timestamp,
    rounds: Vec<Round>,
}

/// Whether what was read is so at one instant.
enum Still {
    So(Snaptoken),
    Changed,
    /// Not known: parts were read at different instants.
    Moving,
}

struct Round {
    reads: Vec<Read>,
    rows: Vec<Rows>,
    at: Snaptoken,
}

/// See the [module](self).
pub(crate) struct Graph {
    store: Arc<dyn Store>,
    tenant: Tenant,
    language: Arc<Language>,
    consistency: Consistency,
    mode: Mode,
    locked: Mutex<bool>,
    sets: Option<Usable>,
}

impl Graph {
    /// Over what was pinned; without that, it is followed.
    pub(crate) fn new(
        store: Arc<dyn Store>,
        tenant: Tenant,
        language: Arc<Language>,
        consistency: Consistency,
        pinned: Option<Pinned>,
    ) -> Self {
        let mode = match pinned {
            Some(pinned) => Mode::Pinned(Arc::new(pinned)),
            None => Mode::Followed(Mutex::default()),
        };
        let locked = Mutex::new(false);
        Self { store, tenant, language, consistency, mode, locked, sets: None }
    }

    /// With set indexes that may be used for it.
    pub(crate) fn with_sets(self, sets: Option<Usable>) -> Self {
        Self { sets, ..self }
    }

    /// The set indexes that may be used for it.
    pub(crate) fn sets(&self) -> Option<&Usable> {
        self.sets.as_ref()
    }

    /// Whose tuples they are.
    pub(crate) fn tenant(&self) -> Tenant {
        self.tenant
    }

    /// Whether every read of it is of the same instant.
    pub(crate) fn is_of_one_instant(&self) -> bool {
        matches!(self.mode, Mode::Pinned(_))
    }

    /// What is pinned, where all tuples are in it and no transaction is half done.
    pub(crate) fn pinned_at(&self) -> Option<(ShardId, Revision)> {
        let Mode::Pinned(pinned) = &self.mode else { return None };
        let whole = pinned.is_unlocked() && self.language.is_of_one_slot();
        whole.then(|| (pinned.shard(), pinned.revision()))
    }

    pub(crate) fn language(&self) -> &Language {
        &self.language
    }

    /// The same, to be held beyond the request.
    pub(crate) fn language_held(&self) -> &Arc<Language> {
        &self.language
    }

    /// Where the tuples of a namespace lie.
    pub(crate) fn place(&self, namespace: &str) -> Place {
        Place { tenant: self.tenant, slot: self.language.slot(namespace) }
    }

    /// Everywhere that tuples lie.
    pub(crate) fn places(&self) -> Vec<Place> {
        let slots = self.language.slots();
        slots.into_iter().map(|slot| Place { tenant: self.tenant, slot }).collect()
    }

    /// How many nodes are best looked at together.
    pub(crate) fn batch(&self) -> usize {
        match self.mode {
            Mode::Pinned(_) => 16,
            Mode::Followed(_) => READS_MAX / 4,
        }
    }

    /// Makes a small read at once where nothing is to be waited for; `None` elsewhere.
    pub(crate) fn read_now(&self, read: &Read) -> Result<Option<Rows>, StoreError> {
        let Mode::Pinned(pinned) = &self.mode else { return Ok(None) };
        let rows = self.pinned_rows(pinned.read(std::slice::from_ref(read))?)?;
        Ok(Some(rows.into_iter().next().unwrap_or_default()))
    }

    /// The rows of a range where they are few and can be read at once; `None` elsewhere.
    pub(crate) fn few_now(
        &self,
        range: &KeyRange,
        most: usize,
    ) -> Result<Option<Vec<Row>>, StoreError> {
        let Mode::Pinned(pinned) = &self.mode else { return Ok(None) };
        Ok(pinned.few(range, most)?)
    }

    fn pinned_rows(&self, read: PinnedRead) -> Result<Vec<Rows>, StoreError> {
        match read {
            PinnedRead::Rows(rows) => Ok(rows),
            PinnedRead::Locked | PinnedRead::Elsewhere => {
                *self.locked.lock() = true;
                Err(StoreError::Contended { attempts: 1 })
            }
        }
    }

    /// Makes reads. `large` ones are handed to a thread that may block for longer.
    pub(crate) async fn read(
        &self,
        reads: Vec<Read>,
        large: bool,
    ) -> Result<Vec<Rows>, StoreError> {
        match &self.mode {
            Mode::Pinned(pinned) => {
                let read = if large {
                    let pinned = pinned.clone();
                    let read = tokio::task::spawn_blocking(move || pinned.read(&reads));
                    read.await.map_err(|error| Fault::caused("a read", error))??
                } else {
                    pinned.read(&reads)?
                };
                self.pinned_rows(read)
            }
            Mode::Followed(followed) => {
                let mut rows = Vec::new();
                for part in reads.chunks(READS_MAX) {
                    let request = ReadRequest {
                        reads: part.to_vec(),
                        consistency: self.consistency.clone(),
                        seen: followed.lock().seen.clone(),
                        tracked: false,
                        partial: false,
                    };
                    let answer = self.store.read(request).await?;
                    rows.extend(answer.results.iter().cloned());
                    let mut followed = followed.lock();
                    followed.seen.merge(&answer.snaptoken);
                    followed.time = followed.time.max(answer.time);
                    let round =
                        Round { reads: part.to_vec(), rows: answer.results, at: answer.snaptoken };
                    followed.rounds.push(round);
                }
                Ok(rows)
            }
        }
    }

    /// Whether a lock ended the walk, so that it is to be followed instead.
    pub(crate) fn met_lock(&self) -> bool {
        *self.locked.lock()
    }

    /// Whether all that was read was so at one instant.
    pub(crate) async fn confirm(&self) -> Result<bool, StoreError> {
        let Mode::Followed(followed) = &self.mode else { return Ok(true) };
        let (reads, rows, seen) = {
            let followed = followed.lock();
            let behind = |round: &&Round| {
                let newer = |p: &cardea_storage::store::Position| {
                    followed.seen.revision(p.shard).is_some_and(|seen| seen.0 > p.revision)
                };
                round.at.positions.iter().any(newer)
                    || round.at.positions.len() < followed.seen.positions.len()
            };
            let (mut reads, mut rows) = (Vec::new(), Vec::new());
            if followed.rounds.iter().any(|round| behind(&round)) {
                for round in &followed.rounds {
                    reads.extend(round.reads.iter().cloned());
                    rows.extend(round.rows.iter().cloned());
                }
            }
            (reads, rows, followed.seen.clone())
        };
        if reads.is_empty() {
            return Ok(true);
        }
        if reads.len() > CONFIRMED_MAX {
            return Ok(false);
        }
        for _ in 0..TRIES_MAX {
            match self.is_still_so(&reads, &rows, &seen).await? {
                Still::So(at) => {
                    followed.lock().seen.merge(&at);
                    return Ok(true);
                }
                Still::Changed => return Ok(false),
                Still::Moving => {}
            }
        }
        Ok(false)
    }

    /// Makes reads again: whether they find the same, and all of it at one instant.
    async fn is_still_so(
        &self,
        reads: &[Read],
        rows: &[Rows],
        seen: &Snaptoken,
    ) -> Result<Still, StoreError> {
        let parts = reads.chunks(READS_MAX).map(|part| {
            let request = ReadRequest {
                reads: part.to_vec(),
                consistency: self.consistency.clone(),
                seen: seen.clone(),
                tracked: false,
                partial: false,
            };
            self.store.read(request)
        });
        let again = futures::future::try_join_all(parts).await?;
        let found: Vec<&Rows> = again.iter().flat_map(|part| &part.results).collect();
        let same = found.len() == rows.len()
            && found.into_iter().zip(rows).all(|(a, b)| {
                let said = |row: &Row| (row.key.clone(), row.value.clone());
                a.more == b.more && a.rows.iter().map(said).eq(b.rows.iter().map(said))
            });
        if !same {
            return Ok(Still::Changed);
        }
        // What is asked for together is of one instant, and parts are where they stand alike.
        let Some((first, others)) = again.split_first() else { return Ok(Still::Changed) };
        let alike = others.iter().all(|part| part.snaptoken == first.snaptoken);
        Ok(if alike { Still::So(first.snaptoken.clone()) } else { Still::Moving })
    }

    /// The time by which expiry is judged, and conditions are.
    pub(crate) fn time(&self) -> Timestamp {
        match &self.mode {
            Mode::Pinned(pinned) => pinned.time(),
            Mode::Followed(followed) => followed.lock().time,
        }
    }

    /// Where the graph stood.
    pub(crate) fn snaptoken(&self) -> Snaptoken {
        match &self.mode {
            Mode::Pinned(pinned) => pinned.snaptoken(),
            Mode::Followed(followed) => followed.lock().seen.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
