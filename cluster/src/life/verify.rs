//! Verification while serving: do indexes and homes agree, and are the replicas
//! of each group the same.
//!
//! Each shard is read in pieces, linearizably, with pauses: a piece is of many slots at
//! one instant, and of so many rows at most, however they lie in slots. What a row of a
//! table should have as index rows is looked up; what an index row says it leads to is
//! looked up. What seems wrong is read again in one transaction, for somebody may
//! have changed it between the two reads; only what is wrong there is told, by
//! key and table, never by content.
//!
//! On request, index rows that are missing are written, each in the transaction that
//! found its record without it. Whatever else is wrong is only told: which side is
//! right nobody knows. Indexes that are being built are left out: of them nothing is
//! expected yet.
//!
//! Replicas that applied the same entries have the same digest at the same index.
//! What nodes last said of theirs is compared.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId};
use cardea_storage::{
    Key, KeyRange, Row, Slot, Space, Store, StoreError, Tag,
    engine::Order,
    store::{Consistency, Read, ReadAnswer, ReadRequest, SCAN_ROWS_MAX, Scan, Snaptoken},
};
use serde::Serialize;

use super::{
    driver::observe,
    rules::{IndexRules, WholeOnly},
};
use crate::{member::Member, service::proto::StatusResponse};

/// How fast to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Rows read at once, 1 to [`SCAN_ROWS_MAX`]: what is held in memory, with the
    /// rows that they lead to.
    pub rows: u32,
    /// Rest between two pieces.
    pub pause: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { rows: 2_000, pause: Duration::from_millis(5) }
    }
}

/// What is done about what is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mending {
    /// It is told.
    #[default]
    None,
    /// Index rows that are missing are written; the rest is told.
    Missing,
}

/// What does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Problem {
    /// A record lacks an index row.
    Missing {
        /// The record's key.
        record: String,
        /// The key of the index row that should be there.
        index: String,
    },
    /// An index row says something else than its record.
    Differs {
        /// The record's key.
        record: String,
        /// The index row's key.
        index: String,
    },
    /// An index row leads to a record that is not there, or does not expect it.
    Dangling {
        /// The index row's key.
        index: String,
        /// The key that it leads to.
        record: String,
    },
    /// Replicas of a group differ at an index.
    Digest {
        /// The group.
        group: u64,
        /// The log index.
        index: u64,
        /// The nodes, by the digest that they have, the fewest first.
        nodes: Vec<Vec<u64>>,
    },
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Rows of records whose indexes were looked up.
    pub records: u64,
    /// Index rows looked up or followed.
    pub index_rows: u64,
    /// Index rows that were missing and are there now.
    pub filled: u64,
    /// Indexes that are not whole yet, which were left out.
    pub left_out: Vec<String>,
    /// Groups whose digests could be compared at some common index.
    pub groups_compared: u64,
    /// What is wrong; at most [`PROBLEMS_MAX`] of them.
    pub problems: Vec<Problem>,
    /// Whether there were more.
    pub truncated: bool,
}

/// Problems told at most.
pub const PROBLEMS_MAX: usize = 1_000;
/// Slots read at once, at most: so many empty ones cost one question.
const SLOTS_AT_ONCE: usize = 256;
/// Keys looked up at once, at most.
const KEYS_AT_ONCE: usize = 1_000;
/// How often a read is tried, and how long it rests before the next time.
const ATTEMPTS: u32 = 30;
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often what seems wrong is read again.
const LOOKS: u32 = 3;

/// Verifies everything. `progress` is told slots done, of all.
///
/// # Errors
/// See [`StoreError`]; what is wrong with data is no error.
pub async fn verify(
    member: &Arc<Member>,
    rules: &dyn IndexRules,
    pace: Pace,
    mending: Mending,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<VerifyReport, StoreError> {
    let mut report = verify_indexes(member.store(), rules, pace, mending, &mut progress).await?;
    let observed = observe(member);
    let (compared, problems) = compare(&observed.reports);
    report.groups_compared = compared;
    report.problems.extend(problems);
    Ok(report)
}

/// Verifies indexes and homes over any store.
///
/// # Errors
/// See [`StoreError`].
pub async fn verify_indexes(
    store: &Arc<dyn Store>,
    rules: &dyn IndexRules,
    pace: Pace,
    mending: Mending,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<VerifyReport, StoreError> {
    let lacking = store.lacking();
    let left_out = lacking.iter().map(Tag::to_string).collect();
    let report = VerifyReport { left_out, ..VerifyReport::default() };
    let rules = &WholeOnly { rules, lacking: &lacking };
    let mut verifier = Verifier { store, rules, pace, mending, report };
    let spaces = [Space::Home, Space::Index, Space::Graph];
    let shards: Vec<Vec<Slot>> = spaces
        .into_iter()
        .flat_map(|space| store.shards(space))
        .map(|range| (range.first().bits()..=range.last().bits()).filter_map(Slot::from_bits))
        .map(Iterator::collect)
        .collect();
    let all = shards.iter().map(|slots| slots.len() as u64).sum();
    let mut done = 0;
    for slots in shards {
        let one_more = &mut || {
            done += 1;
            progress(done, all);
        };
        verifier.shard(&slots, one_more).await?;
    }
    Ok(verifier.report)
}

struct Verifier<'a> {
    store: &'a Arc<dyn Store>,
    rules: &'a dyn IndexRules,
    pace: Pace,
    mending: Mending,
    report: VerifyReport,
}

impl Verifier<'_> {
    /// Verifies the slots of a shard; each that is done is told.
    async fn shard(
        &mut self,
        slots: &[Slot],
        one_more: &mut (dyn FnMut() + Send),
    ) -> Result<(), StoreError> {
        let of_slot = |slot: &Slot| KeyRange::prefix(&slot.bits().to_be_bytes());
        let mut left: VecDeque<KeyRange> = slots.iter().map(of_slot).collect();
        let rows_max = self.pace.rows.clamp(1, SCAN_ROWS_MAX);
        while !left.is_empty() {
            let together = left.len().min(SLOTS_AT_ONCE).min(rows_max as usize);
            let batch: Vec<KeyRange> = left.drain(..together).collect();
            // Together they give no more rows than one may.
            let limit = rows_max / u32::try_from(together).unwrap_or(rows_max);
            let scan = |range: &KeyRange| {
                Read::Scan(Scan { range: range.clone(), limit, order: Order::Forward })
            };
            let mut request = ReadRequest::new(Consistency::Strong);
            request.reads = batch.iter().map(scan).collect();
            let answer = self.read(request).await?;
            let (mut rows, mut again) = (Vec::new(), Vec::new());
            for (mut range, read) in batch.into_iter().zip(answer.results) {
                match read.rows.last() {
                    Some(last) if read.more => {
                        range.start = last.key.successor();
                        again.push(range);
                    }
                    _ => one_more(),
                }
                rows.extend(read.rows);
            }
            again.into_iter().rev().for_each(|range| left.push_front(range));
            self.piece(&rows, answer.snaptoken).await?;
            if !left.is_empty() {
                tokio::time::sleep(self.pace.pause).await;
            }
        }
        Ok(())
    }

    /// Judges rows of a shard that was read at `seen`.
    async fn piece(&mut self, rows: &[Row], seen: Snaptoken) -> Result<(), StoreError> {
        let mut wanted: BTreeSet<Key> = BTreeSet::new();
        let mut suspects: Vec<&Row> = Vec::new();
        for row in rows {
            let expected = self.rules.expected(row);
            let leads_to = self.rules.leads_to(row);
            self.report.records += u64::from(expected.is_some());
            let keys = expected.iter().flatten().map(|index| index.key.clone());
            wanted.extend(keys.chain(leads_to.iter().flatten().cloned()));
            if expected.is_some() || leads_to.is_some() {
                suspects.push(row);
            }
        }
        let found = self.get(&wanted.into_iter().collect::<Vec<_>>(), seen).await?;
        for row in suspects {
            if self.judge(row, &found).is_empty() {
                self.report.index_rows += self.weight(row);
                continue;
            }
            let (problems, filled) = self.look_again(&row.key).await?;
            self.report.filled += filled;
            self.report.index_rows += self.weight(row);
            for problem in problems {
                if self.report.problems.len() >= PROBLEMS_MAX {
                    self.report.truncated = true;
                } else {
                    self.report.problems.push(problem);
                }
            }
        }
        Ok(())
    }

    fn weight(&self, row: &Row) -> u64 {
        let expected = self.rules.expected(row).map_or(0, |rows| rows.len() as u64);
        expected + u64::from(self.rules.leads_to(row).is_some())
    }

    /// Looks at a row until it is right, or has been wrong too often. What was missing may be
    /// filled meanwhile; it is counted.
    async fn look_again(&self, key: &Key) -> Result<(Vec<Problem>, u64), StoreError> {
        let (mut problems, mut filled) = (Vec::new(), 0);
        for _ in 0..LOOKS {
            let (told, missing) = patiently(|| self.look(key)).await?;
            problems = told;
            filled += missing;
            if problems.is_empty() {
                break;
            }
        }
        Ok((problems, filled))
    }

    /// Reads a row and all that it is compared with at once: what it read was so at one
    /// moment.
    async fn look(&self, key: &Key) -> Result<(Vec<Problem>, u64), StoreError> {
        let (rules, fills) = (self.rules, self.mending == Mending::Missing);
        let judged = self.store.transact(|t| async move {
            let own = t.rows(std::slice::from_ref(key), true).await?;
            let Some(row) = own.into_iter().next().flatten() else {
                return Ok::<_, StoreError>((Vec::new(), 0));
            };
            let expected = rules.expected(&row).unwrap_or_default();
            let keys = expected.into_iter().map(|index| index.key);
            let keys: Vec<Key> = keys.chain(rules.leads_to(&row).unwrap_or_default()).collect();
            let read = t.rows(&keys, true).await?;
            let found: BTreeMap<Key, Row> =
                read.into_iter().flatten().map(|row| (row.key.clone(), row)).collect();
            let mut problems = judge(rules, &row, &found);
            let mut missing = 0;
            if fills {
                let expected = rules.expected(&row).into_iter().flatten();
                for index in expected.filter(|index| !found.contains_key(&index.key)) {
                    t.fill(index, row.expires_at);
                    missing += 1;
                }
                problems.retain(|problem| !matches!(problem, Problem::Missing { .. }));
            }
            Ok((problems, missing))
        });
        judged.await.map(|judged| judged.value)
    }

    fn judge(&self, row: &Row, found: &BTreeMap<Key, Row>) -> Vec<Problem> {
        judge(self.rules, row, found)
    }

    async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        patiently(|| self.store.read(request.clone())).await
    }

    /// Looks keys up, each in its shard as it was when this piece was begun, or later.
    async fn get(
        &self,
        keys: &[Key],
        mut seen: Snaptoken,
    ) -> Result<BTreeMap<Key, Row>, StoreError> {
        let mut found = BTreeMap::new();
        for keys in keys.chunks(KEYS_AT_ONCE) {
            let mut request = ReadRequest::new(Consistency::Strong);
            request.reads = keys.iter().cloned().map(Read::Get).collect();
            request.seen = seen.clone();
            let answer = self.read(request).await?;
            seen.merge(&answer.snaptoken);
            let rows = answer.results.into_iter().flat_map(|rows| rows.rows);
            found.extend(rows.map(|row| (row.key.clone(), row)));
        }
        Ok(found)
    }
}

/// Calls again and again while nobody answers: an election is no reason to throw away what was
/// verified before it.
async fn patiently<T, F: Future<Output = Result<T, StoreError>>>(
    call: impl Fn() -> F,
) -> Result<T, StoreError> {
    for _ in 1..ATTEMPTS {
        match call().await {
            Err(
                StoreError::Unavailable { .. }
                | StoreError::Overloaded { .. }
                | StoreError::Contended { .. }
                | StoreError::Unknown,
            ) => tokio::time::sleep(RETRY_AFTER).await,
            answered => return answered,
        }
    }
    call().await
}

/// What is wrong with a row, given what was found at the keys it names.
fn judge(rules: &dyn IndexRules, row: &Row, found: &BTreeMap<Key, Row>) -> Vec<Problem> {
    let mut problems = Vec::new();
    for index in rules.expected(row).into_iter().flatten() {
        let (record, at) = (row.key.to_string(), index.key.to_string());
        match found.get(&index.key) {
            None => problems.push(Problem::Missing { record, index: at }),
            Some(there) if there.value != index.value => {
                problems.push(Problem::Differs { record, index: at });
            }
            Some(_) => {}
        }
    }
    for record in rules.leads_to(row).into_iter().flatten() {
        let expects = found.get(&record).and_then(|home| rules.expected(home));
        let expects = expects.into_iter().flatten().any(|index| index.key == row.key);
        if !expects {
            let (index, record) = (row.key.to_string(), record.to_string());
            problems.push(Problem::Dangling { index, record });
        }
    }
    problems
}

/// Compares the digests that nodes reported: how many groups could be compared,
/// and where replicas differ.
fn compare(reports: &BTreeMap<NodeId, StatusResponse>) -> (u64, Vec<Problem>) {
    let mut at: BTreeMap<(u64, u64), BTreeMap<Bytes, Vec<u64>>> = BTreeMap::new();
    for (node, report) in reports {
        for replica in &report.replicas {
            for mark in &replica.marks {
                let digests = at.entry((replica.group, mark.index)).or_default();
                digests.entry(mark.digest.clone()).or_default().push(node.0);
            }
        }
    }
    let compared: BTreeSet<u64> = at
        .iter()
        .filter(|(_, digests)| digests.values().map(Vec::len).sum::<usize>() > 1)
        .map(|((group, _), _)| *group)
        .collect();
    let mut told = BTreeSet::new();
    let problems = at
        .into_iter()
        .filter(|((group, _), digests)| digests.len() > 1 && told.insert(GroupId(*group)))
        .map(|((group, index), digests)| {
            let mut nodes: Vec<Vec<u64>> = digests.into_values().collect();
            nodes.sort_by_key(Vec::len);
            Problem::Digest { group, index, nodes }
        })
        .collect();
    (compared.len() as u64, problems)
}

#[cfg(test)]
mod tests;
