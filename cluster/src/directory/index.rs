//! How far indexes are: rows of the directory, one for each index.
//!
//! 1. A new cluster holds nothing: all its indexes are whole.
//! 2. Once the cluster version has reached that of an index, nobody is left who writes
//!    records without it. Whoever leads the directory gives it a row. What is older than
//!    the rows themselves is whole; what is newer is to be built.
//! 3. It is built from the beginning of its key space to the end, twice (see
//!    [`BuildPhase`]), and the row says where to go on. Everything before that place is
//!    done, and stays so, since all that is written now keeps the index in step. So who
//!    comes later goes on from there, and of two who build at once the one who is
//!    farther counts.
//! 4. At the end it is whole, for good, but for a restore: what a backup brings is as
//!    whole as it was where it was made.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use cardea_storage::{Feature, Index, Meanwhile, Store, Tag, Timestamp, key::slot_of, slot::SLOTS};

use super::{
    edit::EditError,
    records::{BuildPhase, IndexRecord, IndexState},
    tables::{Clusters, IndexKey, Indexes, TheCluster},
};

/// Whether an index is whole, by its row, if it has one.
pub fn is_whole(index: &Index, row: Option<&IndexRecord>) -> bool {
    match row {
        Some(row) => row.state() == IndexState::Whole,
        None => index.since < Feature::Indexes.since(),
    }
}

/// Of the indexes that a node knows those that it refuses to readers.
pub fn lacking(known: &[Index], rows: &BTreeMap<Tag, IndexRecord>) -> Vec<Tag> {
    let refused = known.iter().filter(|index| {
        index.meanwhile == Meanwhile::Refused && !is_whole(index, rows.get(&index.tag))
    });
    refused.map(|index| index.tag).collect()
}

/// The rows of a cluster that holds nothing yet.
pub(crate) fn of_a_new_cluster(
    known: &[Index],
    version: u32,
    now: Timestamp,
) -> Vec<(IndexKey, IndexRecord)> {
    if version < Feature::Indexes.since() {
        return Vec::new();
    }
    let due = known.iter().filter(|index| index.since <= version);
    due.map(|index| (IndexKey(index.tag), IndexRecord::whole(now))).collect()
}

/// Gives rows to indexes that the cluster version has reached and that have none.
/// Gives those that are to be built.
///
/// # Errors
/// See [`EditError`].
pub(crate) async fn declare(
    store: &Arc<dyn Store>,
    known: &[Index],
) -> Result<Vec<Tag>, EditError> {
    let done = store.transact(|t| async move {
        let cluster = t.get::<Clusters>(&TheCluster).await?;
        let version = cluster.map_or(0, |cluster| cluster.record.version);
        let keys: Vec<IndexKey> = known.iter().map(|index| IndexKey(index.tag)).collect();
        let mut to_build = Vec::new();
        for (index, row) in known.iter().zip(t.get_many::<Indexes>(&keys).await?) {
            if row.is_some() || version < index.since.max(Feature::Indexes.since()) {
                continue;
            }
            let row = if is_whole(index, None) {
                IndexRecord::whole(t.now())
            } else {
                to_build.push(index.tag);
                IndexRecord::to_build(1, t.now())
            };
            t.put::<Indexes>(&IndexKey(index.tag), &row, None).await?;
        }
        Ok::<_, EditError>(to_build)
    });
    done.await.map(|done| done.value)
}

/// Has indexes be built from the beginning.
///
/// # Errors
/// See [`EditError`].
pub(crate) async fn build_anew(store: &Arc<dyn Store>, indexes: &[Tag]) -> Result<(), EditError> {
    let done = store.transact(|t| async move {
        for index in indexes {
            let row = t.get::<Indexes>(&IndexKey(*index)).await?;
            let generation = row.map_or(0, |row| row.record.generation) + 1;
            let row = IndexRecord::to_build(generation, t.now());
            t.put::<Indexes>(&IndexKey(*index), &row, None).await?;
        }
        Ok::<_, EditError>(())
    });
    done.await.map(|_| ())
}

/// What somebody who builds an index has done since the last note of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Where it goes on; `None` at the end of all.
    pub(crate) next: Option<(BuildPhase, Bytes)>,
    pub(crate) stripped: u64,
    pub(crate) filled: u64,
    pub(crate) records: u64,
    pub(crate) taken: u64,
}

impl Done {
    /// Adds what was done after it.
    pub(crate) fn add(&mut self, later: Self) {
        self.next = later.next;
        self.stripped += later.stripped;
        self.filled += later.filled;
        self.records += later.records;
        self.taken += later.taken;
    }
}

/// Notes what was done of an index that is built under a generation. Gives the row as
/// it is now; `None` if it is not being built under that generation any more.
///
/// # Errors
/// See [`EditError`].
pub(crate) async fn note(
    store: &Arc<dyn Store>,
    index: Tag,
    generation: u64,
    done: &Done,
) -> Result<Option<IndexRecord>, EditError> {
    let noted = store.transact(|t| async move {
        let Some(found) = t.get::<Indexes>(&IndexKey(index)).await? else { return Ok(None) };
        let mut row = found.record;
        if row.state() != IndexState::Building || row.generation != generation {
            return Ok(None);
        }
        match &done.next {
            None => {
                row.set_state(IndexState::Whole);
                row.set_phase(BuildPhase::Unspecified);
                row.next = Bytes::new();
                row.whole_at = t.now().0;
            }
            // Somebody else may be farther.
            Some((phase, next)) if (*phase, next) > (row.phase(), &row.next) => {
                row.set_phase(*phase);
                row.next = next.clone();
            }
            Some(_) => {}
        }
        row.stripped += done.stripped;
        row.filled += done.filled;
        row.records += done.records;
        row.taken += done.taken;
        t.put::<Indexes>(&IndexKey(index), &row, None).await?;
        Ok::<_, EditError>(Some(row))
    });
    noted.await.map(|noted| noted.value)
}

impl IndexRecord {
    /// Of an index that is whole.
    pub(crate) fn whole(now: Timestamp) -> Self {
        let mut row = Self { generation: 1, whole_at: now.0, ..Self::default() };
        row.set_state(IndexState::Whole);
        row
    }

    /// Of an index that is to be built.
    pub(crate) fn to_build(generation: u64, now: Timestamp) -> Self {
        let mut row = Self { generation, declared_at: now.0, ..Self::default() };
        row.set_state(IndexState::Building);
        row
    }
}

/// How many slots of an index are gone through, of how many: all of them twice.
pub fn progress(row: &IndexRecord) -> (u32, u32) {
    let slots = 3 * u32::from(SLOTS);
    let before = slot_of(&row.next).map_or(0, |slot| u32::from(slot.bits()));
    let done = match (row.state(), row.phase()) {
        (IndexState::Whole, _) => 2 * slots,
        (_, BuildPhase::Filling) => slots + before,
        _ => before,
    };
    (done, 2 * slots)
}

#[cfg(test)]
mod tests {
    use cardea_storage::{
        ManualClock, SeededEntropy, StoreError, engine::memory::MemoryDisk, local::LocalShards,
    };

    use super::*;
    use crate::directory::records::ClusterRecord;

    const OLD: Index = Index::first(Tag::TEST_INDEX, Tag::TEST);
    const NEW: Index = Index { tag: Tag(0x7001), since: 3, ..OLD };
    const NEXT: Index = Index { tag: Tag(0x7002), since: 4, ..OLD };
    const HARMLESS: Index = Index { tag: Tag(0x7003), meanwhile: Meanwhile::Read, ..NEW };
    const KNOWN: [Index; 4] = [OLD, NEW, NEXT, HARMLESS];

    async fn at_version(store: &Arc<dyn Store>, version: u32) {
        let row = &ClusterRecord { version, ..ClusterRecord::default() };
        let put = store.transact(|t| async move {
            t.put::<Clusters>(&TheCluster, row, None).await?;
            Ok::<_, StoreError>(())
        });
        put.await.unwrap();
    }

    fn store() -> Arc<dyn Store> {
        let clock = Arc::new(ManualClock::new(Timestamp(5)));
        let disk = MemoryDisk::new(1);
        let shards = LocalShards::open(&disk, std::path::Path::new("/d"), 1, clock).unwrap();
        shards.store(Arc::new(SeededEntropy::new(1)))
    }

    async fn rows(store: &Arc<dyn Store>) -> BTreeMap<Tag, IndexRecord> {
        let view = store.view(cardea_storage::Consistency::Strong);
        let keys = KNOWN.map(|index| IndexKey(index.tag));
        let found = view.get_many::<Indexes>(&keys).await.unwrap();
        found.into_iter().flatten().map(|row| (row.key.0, row.record)).collect()
    }

    #[tokio::test]
    async fn what_is_older_than_the_rows_is_whole_and_what_is_newer_is_built() {
        let store = store();
        at_version(&store, 2).await;
        assert_eq!(declare(&store, &KNOWN).await.unwrap(), []);
        assert_eq!(rows(&store).await, BTreeMap::new());
        // Without rows what is new is refused, unless what it lacks is no answer.
        assert_eq!(lacking(&KNOWN, &BTreeMap::new()), [NEW.tag, NEXT.tag]);
        at_version(&store, 3).await;
        assert_eq!(declare(&store, &KNOWN).await.unwrap(), [NEW.tag, HARMLESS.tag]);
        let declared = rows(&store).await;
        assert_eq!(declared.keys().copied().collect::<Vec<_>>(), [OLD.tag, NEW.tag, HARMLESS.tag]);
        assert_eq!(lacking(&KNOWN, &declared), [NEW.tag, NEXT.tag]);
        assert_eq!(declared[&OLD.tag], IndexRecord::whole(Timestamp(5)));
        assert_eq!(declared[&NEW.tag], IndexRecord::to_build(1, Timestamp(5)));
        // Once is enough.
        assert_eq!(declare(&store, &KNOWN).await.unwrap(), []);
        assert_eq!(rows(&store).await, declared);
    }

    #[test]
    fn a_new_cluster_has_nothing_to_build() {
        assert_eq!(of_a_new_cluster(&KNOWN, 2, Timestamp(5)), []);
        let rows: BTreeMap<Tag, IndexRecord> = of_a_new_cluster(&KNOWN, 3, Timestamp(5))
            .into_iter()
            .map(|(key, row)| (key.0, row))
            .collect();
        assert_eq!(rows.len(), 3);
        assert_eq!(lacking(&KNOWN, &rows), [NEXT.tag]);
    }

    #[tokio::test]
    async fn of_two_who_build_the_farther_counts_and_of_an_older_generation_neither() {
        let store = store();
        at_version(&store, 3).await;
        declare(&store, &KNOWN).await.unwrap();
        let at = |phase, next: &'static [u8]| Done {
            next: Some((phase, Bytes::from_static(next))),
            filled: 1,
            ..Done::default()
        };
        let strip = at(BuildPhase::Stripping, b"\x10\x00");
        let row = note(&store, NEW.tag, 1, &strip).await.unwrap().unwrap();
        assert_eq!(progress(&row), (4_096, 24_576));
        let fill = at(BuildPhase::Filling, b"");
        let row = note(&store, NEW.tag, 1, &fill).await.unwrap().unwrap();
        assert_eq!(progress(&row), (12_288, 24_576));
        let row = note(&store, NEW.tag, 1, &strip).await.unwrap().unwrap();
        assert_eq!((row.phase(), row.filled), (BuildPhase::Filling, 3));

        build_anew(&store, &[NEW.tag]).await.unwrap();
        assert_eq!(note(&store, NEW.tag, 1, &Done::default()).await.unwrap(), None);
        assert_eq!(rows(&store).await[&NEW.tag], IndexRecord::to_build(2, Timestamp(5)));
        let row = note(&store, NEW.tag, 2, &Done::default()).await.unwrap().unwrap();
        assert_eq!((row.state(), row.whole_at), (IndexState::Whole, 5));
        assert_eq!(progress(&row), (24_576, 24_576));
        // What is whole is not begun again by somebody who comes late.
        assert_eq!(note(&store, NEW.tag, 2, &strip).await.unwrap(), None);
    }
}
