//! Building an index over any store, page by page.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use cardea_storage::{
    Index, IndexRow, Key, KeyRange, Row, Slot, SlotRange, Space, Store, StoreError, Timestamp,
    Transaction,
    engine::Order,
    key::slot_of,
    planted::{self, Bug},
    slot::SLOTS,
    store::{Consistency, Read, ReadRequest, SCAN_ROWS_MAX, Scan, Snaptoken},
};

use crate::{
    directory::{index::Done, records::BuildPhase},
    life::rules::IndexRules,
};

/// A phase, and the key at which it goes on.
pub(super) type Place = (BuildPhase, Bytes);

/// Slots read at once, at most: so many empty ones cost one question.
const SLOTS_AT_ONCE: u16 = 256;
/// Keys looked up at once, at most.
const KEYS_AT_ONCE: usize = 1_000;
/// Records whose rows are written by one transaction, at most.
const RECORDS_AT_ONCE: usize = 64;
/// The last slot that an index or its records may lie in.
pub(super) const LAST: u16 = Slot::new(Space::Graph, SLOTS - 1).bits();

/// Where a building begins.
pub(super) fn first_place() -> Place {
    let phase = match planted::is(Bug::IndexUnstripped) {
        true => BuildPhase::Filling,
        false => BuildPhase::Stripping,
    };
    (phase, Bytes::new())
}

/// Builds one index.
pub(super) struct Builder<'a> {
    store: &'a Arc<dyn Store>,
    rules: &'a dyn IndexRules,
    index: Index,
    rows: u32,
    /// Slots read at once: many while they are empty, few while they are full.
    slots: u16,
    /// Records of one transaction: one by one where others keep changing them.
    records: usize,
}

impl<'a> Builder<'a> {
    /// Pages are of so many rows at most.
    pub(super) fn new(
        store: &'a Arc<dyn Store>,
        rules: &'a dyn IndexRules,
        index: Index,
        rows: u32,
    ) -> Self {
        let rows = rows.clamp(1, SCAN_ROWS_MAX);
        Self { store, rules, index, rows, slots: SLOTS_AT_ONCE, records: RECORDS_AT_ONCE }
    }

    /// Does a page. What it gives says where the next one begins. To do one again does
    /// no harm.
    ///
    /// # Errors
    /// See [`StoreError`]; the page is to be done again then.
    pub(super) async fn page(&mut self, (phase, from): &Place) -> Result<Done, StoreError> {
        let tag = if *phase == BuildPhase::Filling { self.index.of } else { self.index.tag };
        let first = slot_of(from).map_or(0, Slot::bits);
        let together = self.slots.min(LAST - first + 1);
        let limit = (self.rows / u32::from(together)).max(1);
        let mut request = ReadRequest::new(Consistency::Strong);
        request.partial = true;
        request.reads = (first..first + together)
            .map(|slot| {
                let mut range =
                    KeyRange::prefix(&[slot.to_be_bytes(), tag.0.to_be_bytes()].concat());
                range.start = range.start.max(from.clone());
                Read::Scan(Scan { range, limit, order: Order::Forward })
            })
            .collect();
        let answer = self.store.read(request).await?;
        let (mut rows, mut cut) = (Vec::new(), None);
        for read in answer.results {
            rows.extend(read.rows);
            if read.more {
                cut = rows.last().map(|row: &Row| row.key.successor());
                break;
            }
        }
        self.slots = match cut {
            Some(_) => (together / 2).max(1),
            None => self.slots.saturating_mul(2).min(SLOTS_AT_ONCE),
        };
        let next = match (cut, phase) {
            (Some(key), _) => Some((*phase, key)),
            (None, _) if first + together <= LAST => {
                let slot = (first + together).to_be_bytes();
                Some((*phase, Bytes::copy_from_slice(&slot)))
            }
            (None, BuildPhase::Filling) => None,
            (None, _) => Some((BuildPhase::Filling, Bytes::new())),
        };
        let done = if *phase == BuildPhase::Filling {
            self.fill(&rows, answer.snaptoken).await
        } else {
            self.strip(&rows, answer.snaptoken).await
        };
        self.records = if done.is_err() { 1 } else { RECORDS_AT_ONCE };
        Ok(Done { next, ..done? })
    }

    /// Deletes those of the index's rows that no record expects. One that says something
    /// else than its record, or lives for another time, is put right: its record may be
    /// gone before the other phase comes to it.
    async fn strip(&self, rows: &[Row], seen: Snaptoken) -> Result<Done, StoreError> {
        let leads: Vec<(&Row, Vec<Key>)> =
            rows.iter().filter_map(|row| Some((row, self.rules.leads_to(row)?))).collect();
        let records = leads.iter().flat_map(|(_, leads)| leads.iter().cloned());
        let found = self.get(records.collect(), seen).await?;
        let mut done = Done::default();
        for (row, leads) in leads {
            let records = leads.iter().filter_map(|key| found.get(key));
            let claimed = records.flat_map(|record| self.claims(record, &row.key));
            if !claimed.into_iter().any(|(wanted, lives)| is_right(row, &wanted, lives)) {
                let (stripped, filled) = self.strip_one(&row.key).await?;
                done.stripped += stripped;
                done.filled += filled;
            }
        }
        Ok(done)
    }

    /// Gives how many rows were deleted, and how many written.
    async fn strip_one(&self, key: &Key) -> Result<(u64, u64), StoreError> {
        let stripped = self.store.transact(|t| async move {
            t.for_upkeep();
            let row = t.rows(std::slice::from_ref(key), true).await?.pop().flatten();
            let Some(row) = row else { return Ok((0, 0)) };
            let Some(leads) = self.rules.leads_to(&row) else { return Ok((0, 0)) };
            let records = t.rows(&leads, true).await?;
            let claims: Vec<(IndexRow, Option<Timestamp>)> =
                records.iter().flatten().flat_map(|record| self.claims(record, key)).collect();
            if claims.iter().any(|(wanted, lives)| is_right(&row, wanted, *lives)) {
                return Ok((0, 0));
            }
            match claims.into_iter().next() {
                Some((wanted, lives)) => {
                    t.fill(wanted, lives);
                    Ok((0, 1))
                }
                None => {
                    t.strip(row.key);
                    Ok::<_, StoreError>((1, 0))
                }
            }
        });
        stripped.await.map(|stripped| stripped.value)
    }

    /// Writes the rows that records lack in the index.
    async fn fill(&self, rows: &[Row], seen: Snaptoken) -> Result<Done, StoreError> {
        let wanted: Vec<(&Row, Vec<IndexRow>)> =
            rows.iter().map(|row| (row, self.wanted(row))).collect();
        let keys = wanted.iter().flat_map(|(_, rows)| rows.iter().map(|row| row.key.clone()));
        let found = self.get(keys.collect(), seen).await?;
        // What one transaction writes lies on the same few shards.
        let shards: Vec<SlotRange> = [Space::Home, Space::Index, Space::Graph]
            .into_iter()
            .flat_map(|space| self.store.shards(space))
            .collect();
        let shard = |key: &Key| shards.iter().position(|range| range.contains(key.slot()));
        let mut together: BTreeMap<BTreeSet<Option<usize>>, Vec<Key>> = BTreeMap::new();
        for (record, wanted) in &wanted {
            let right = |row: &IndexRow| {
                found.get(&row.key).is_some_and(|there| is_right(there, row, record.expires_at))
            };
            if !wanted.iter().all(right) {
                let keys = wanted.iter().map(|row| &row.key).chain([&record.key]);
                together.entry(keys.map(shard).collect()).or_default().push(record.key.clone());
            }
        }
        let mut done = Done { records: rows.len() as u64, ..Done::default() };
        for records in together.values().flat_map(|records| records.chunks(self.records)) {
            let (filled, taken) = self.fill_some(records).await?;
            done.filled += filled;
            done.taken += taken;
        }
        Ok(done)
    }

    /// Gives how many rows were written, and how many could not be.
    async fn fill_some(&self, records: &[Key]) -> Result<(u64, u64), StoreError> {
        let done = self.store.transact(|t| async move {
            t.for_upkeep();
            let records: Vec<Row> = t.rows(records, true).await?.into_iter().flatten().collect();
            let wanted: Vec<(&Row, IndexRow)> = records
                .iter()
                .flat_map(|record| self.wanted(record).into_iter().map(move |row| (record, row)))
                .collect();
            let keys: Vec<Key> = wanted.iter().map(|(_, row)| row.key.clone()).collect();
            // All in one round; below, one by one, they are there, or just written.
            t.rows(&keys, true).await?;
            let (mut filled, mut taken) = (0, 0);
            for ((record, row), key) in wanted.into_iter().zip(keys) {
                let there = t.rows(&[key], true).await?.pop().flatten();
                if let Some(there) = there {
                    if is_right(&there, &row, record.expires_at) {
                        continue;
                    }
                    let own =
                        self.rules.leads_to(&there).is_some_and(|to| to.contains(&record.key));
                    if !own && self.is_expected(&t, &there).await? {
                        taken += 1;
                        continue;
                    }
                }
                t.fill(row, record.expires_at);
                filled += 1;
            }
            Ok::<_, StoreError>((filled, taken))
        });
        done.await.map(|done| done.value)
    }

    /// The rows of the index that a record should have.
    fn wanted(&self, record: &Row) -> Vec<IndexRow> {
        let mut wanted = self.rules.expected(record).unwrap_or_default();
        wanted.retain(|row| row.key.tag() == self.index.tag);
        wanted
    }

    /// The row that a record wants at a key, with how long it is to live.
    fn claims(&self, record: &Row, key: &Key) -> Option<(IndexRow, Option<Timestamp>)> {
        let wanted = self.wanted(record).into_iter().find(|row| row.key == *key)?;
        Some((wanted, record.expires_at))
    }

    /// Whether any record that a row leads to expects it; of a row that cannot be read
    /// nobody knows.
    async fn is_expected(&self, t: &Transaction, row: &Row) -> Result<bool, StoreError> {
        let Some(leads) = self.rules.leads_to(row) else { return Ok(true) };
        let records = t.rows(&leads, true).await?;
        Ok(records.iter().flatten().any(|record| self.claims(record, &row.key).is_some()))
    }

    /// Looks keys up, each in its shard as it was when this page was begun, or later.
    async fn get(
        &self,
        keys: BTreeSet<Key>,
        mut seen: Snaptoken,
    ) -> Result<BTreeMap<Key, Row>, StoreError> {
        let (keys, mut found) = (Vec::from_iter(keys), BTreeMap::new());
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut request = ReadRequest::new(Consistency::Strong);
            request.partial = true;
            request.reads = keys.iter().cloned().map(Read::Get).collect();
            request.seen = seen.clone();
            let answer = self.store.read(request).await?;
            seen.merge(&answer.snaptoken);
            let rows = answer.results.into_iter().flat_map(|rows| rows.rows);
            found.extend(rows.map(|row| (row.key.clone(), row)));
        }
        Ok(found)
    }
}

/// Whether the row that is there is what the record wants: it lives as long, too.
fn is_right(there: &Row, wanted: &IndexRow, expires_at: Option<Timestamp>) -> bool {
    there.value == wanted.value && there.expires_at == expires_at
}
