//! Many tuples at once: imports of millions in parts, and exports of one instant.
//!
//! An import writes what it is given whatever was there, so it reads nothing, checks
//! nothing, and can be repeated: who does not know whether a part was taken sends it
//! again. A part is not one transaction; it goes in transactions that are nearly as large
//! as one may be, a few under way at once, so that one is agreed on while another is
//! applied. Whoever watches is told of a tuple again that is written again.
//!
//! An export reads an engine snapshot of this node, where it has a replica of all that
//! is asked for and no transaction is half done; else it reads page by page, and says
//! that it did.

use std::{collections::VecDeque, sync::Arc};

use cardea_storage::{
    Consistency, Fault, KeyRange, Snaptoken, Store, StoreError, Table, Tenant,
    engine::Order,
    key::KEY_BYTES_MAX,
    protocol::pin::{Pinned, PinnedRead},
    store::{Draft, Read, ReadRequest, Rows, Scan, Verdict},
    txn::{Effect, Op, TXN_BYTES_MAX},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    Service,
    language::Language,
    list::{range_of, slots_of},
    model::{Relationship, TupleQuery, TupleRefused},
    rejection::{ReadRejection, WriteRejection},
    table::{DEFAULT_SLOT, Place, TupleKey, TupleRecord, Tuples, read_relationship},
};

/// Most tuples in one part of an import.
pub const PART_MAX: usize = 50_000;

/// Encoded bytes of one transaction of an import, at most; its head and the rounding of
/// the estimate fit into what is left of the bound.
const TRANSACTION_BYTES: usize = TXN_BYTES_MAX / 8 * 7;
/// What encoding adds to each row, in bytes, at most.
const ROW_OVERHEAD: usize = 32;
/// Transactions under way at once.
const UNDER_WAY: usize = 4;
/// Rows of an export that are read together.
const ROWS_TOGETHER: u32 = 2_000;
/// How often an export tries to find no transaction half done.
const PINS_MAX: u32 = 20;

/// A part of an import that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Tuples that are there now.
    pub tuples: u64,
    /// Of those given, how many were given before in the same part.
    pub repeated: u64,
    /// Reads at it see all of them.
    pub snaptoken: Snaptoken,
}

impl Service {
    /// Sees to it that tuples are there as they are given; of one given twice, the last
    /// counts. See the [module](self) for what holds if it fails midway.
    ///
    /// # Errors
    /// See [`WriteRejection`]: more than [`PART_MAX`], or the first that is refused,
    /// before anything is written.
    pub async fn import(
        &self,
        tenant: Tenant,
        part: Vec<Relationship>,
    ) -> Result<Imported, WriteRejection> {
        if part.len() > PART_MAX {
            return Err(WriteRejection::TooMany { given: part.len(), limit: PART_MAX });
        }
        let (held, language_at) = self.language(tenant, &Consistency::Strong).await?;
        let given = part.len();
        let (drafts, tuples) = tokio::task::spawn_blocking(move || {
            let mut part = part;
            for relationship in &part {
                relationship.validate()?;
            }
            // In key order, so that neighbours are written together; the last of equals
            // comes first and is kept.
            part.reverse();
            part.sort_by(|a, b| a.tuple.cmp(&b.tuple));
            part.dedup_by(|again, kept| again.tuple == kept.tuple);
            let tuples = part.len();
            Ok::<_, TupleRefused>((drafts(tenant, &held.language, part)?, tuples))
        })
        .await
        .map_err(|error| StoreError::from(Fault::caused("a part of an import", error)))??;
        let commits = stream::iter(drafts).map(|ops| self.write_over(ops));
        let mut snaptoken = commits
            .buffer_unordered(UNDER_WAY)
            .try_fold(Snaptoken::default(), |mut all, one| async move {
                all.merge(&one);
                Ok(all)
            })
            .await?;
        snaptoken.merge(&language_at);
        let number = |of: usize| u64::try_from(of).unwrap_or(u64::MAX);
        Ok(Imported { tuples: number(tuples), repeated: number(given - tuples), snaptoken })
    }

    async fn write_over(&self, ops: Vec<Op>) -> Result<Snaptoken, StoreError> {
        let draft = Draft { ops, read_time: self.store.clock().now(), ..Draft::default() };
        match self.store.commit(draft).await? {
            Verdict::Committed(committed) => Ok(committed.snaptoken),
            // What checks nothing conflicts with nothing.
            Verdict::Conflict => Err(StoreError::Contended { attempts: 1 }),
        }
    }

    /// Begins an export of the tuples that a query means.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn export(
        &self,
        tenant: Tenant,
        query: &TupleQuery,
        consistency: Consistency,
    ) -> Result<Export, ReadRejection> {
        query.validate()?;
        let (held, language_at) = self.language(tenant, &consistency).await?;
        let language = &held.language;
        if let Some(namespace) = query.namespace.as_ref().filter(|name| !language.has(name)) {
            return Err(ReadRejection::UnknownNamespace(namespace.clone()));
        }
        let ranges: VecDeque<KeyRange> = slots_of(language, query)
            .into_iter()
            .map(|slot| range_of(Place { tenant, slot }, query))
            .collect();
        let pinned = self.pinned_for(&ranges, &consistency).await?;
        let mut snaptoken = pinned.as_ref().map(|pinned| pinned.snaptoken()).unwrap_or_default();
        snaptoken.merge(&language_at);
        Ok(Export {
            store: self.store.clone(),
            query: query.clone(),
            consistency,
            ranges,
            pinned,
            snaptoken,
        })
    }

    /// A view of one instant that has all ranges and no transaction half done.
    async fn pinned_for(
        &self,
        ranges: &VecDeque<KeyRange>,
        consistency: &Consistency,
    ) -> Result<Option<Arc<Pinned>>, StoreError> {
        for _ in 0..PINS_MAX {
            let Some(pinned) = self.store.pin(DEFAULT_SLOT, consistency).await? else { break };
            if !pinned.is_unlocked() {
                tokio::task::yield_now().await;
                continue;
            }
            let first = |range: &KeyRange| {
                Read::Scan(Scan { range: range.clone(), limit: 1, order: Order::Forward })
            };
            let firsts: Vec<Read> = ranges.iter().map(first).collect();
            let pinned = Arc::new(pinned);
            return Ok(match pinned.read(&firsts)? {
                PinnedRead::Rows(_) => Some(pinned),
                PinnedRead::Locked | PinnedRead::Elsewhere => None,
            });
        }
        Ok(None)
    }
}

/// An export under way. Holds an engine snapshot, and with it what that has on disk,
/// until it is dropped.
pub struct Export {
    store: Arc<dyn Store>,
    query: TupleQuery,
    consistency: Consistency,
    ranges: VecDeque<KeyRange>,
    pinned: Option<Arc<Pinned>>,
    snaptoken: Snaptoken,
}

impl std::fmt::Debug for Export {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = self.is_of_one_instant();
        f.debug_struct("Export").field("query", &self.query).field("one_instant", &one).finish()
    }
}

impl Export {
    /// Whether all of it is of one instant.
    pub fn is_of_one_instant(&self) -> bool {
        self.pinned.is_some()
    }

    /// Where it stands; if it is not of one instant, where it began at the earliest.
    pub fn snaptoken(&self) -> &Snaptoken {
        &self.snaptoken
    }

    /// The next tuples, in the order of objects where the query names no subject;
    /// `None` behind the last. May be none for a while.
    ///
    /// # Errors
    /// See [`ReadRejection`].
    pub async fn next(&mut self) -> Result<Option<Vec<Relationship>>, ReadRejection> {
        let Some(mut range) = self.ranges.pop_front() else { return Ok(None) };
        let scan = Scan { range: range.clone(), limit: ROWS_TOGETHER, order: Order::Forward };
        let rows = self.read(Read::Scan(scan)).await?;
        if let Some(last) = rows.rows.last().filter(|_| rows.more) {
            range.start = last.key.successor();
            self.ranges.push_front(range);
        }
        let mut found = Vec::with_capacity(rows.rows.len());
        for row in &rows.rows {
            let read = read_relationship(row)?;
            found.extend(read.filter(|one| self.query.matches(&one.tuple)));
        }
        Ok(Some(found))
    }

    async fn read(&self, read: Read) -> Result<Rows, ReadRejection> {
        let mut results = match &self.pinned {
            Some(pinned) => {
                let pinned = pinned.clone();
                let read = tokio::task::spawn_blocking(move || pinned.read(&[read])).await;
                match read.map_err(|error| cardea_storage::Fault::caused("an export", error))?? {
                    PinnedRead::Rows(rows) => rows,
                    PinnedRead::Locked | PinnedRead::Elsewhere => {
                        return Err(StoreError::unavailable("the pinned view was lost").into());
                    }
                }
            }
            None => {
                let mut request = ReadRequest::new(self.consistency.clone());
                request.reads.push(read);
                self.store.read(request).await?.results
            }
        };
        Ok(results.pop().unwrap_or_default())
    }
}

/// The changes that make tuples, in portions, each as much as one transaction holds.
fn drafts(
    tenant: Tenant,
    language: &Language,
    part: Vec<Relationship>,
) -> Result<Vec<Vec<Op>>, TupleRefused> {
    let mut portions = Vec::new();
    let (mut portion, mut bytes) = (Vec::new(), 0);
    for relationship in part {
        let expires_at = relationship.kept_until();
        let Relationship { tuple, condition, .. } = relationship;
        let slot = language.slot(&tuple.namespace);
        let record = TupleRecord::of(condition.as_ref());
        let ops = Tuples::puts(&TupleKey { slot, tenant, tuple }, &record, expires_at);
        let put_bytes = |op: &Op| match &op.effect {
            Some(Effect::Put(put)) => put.key.len() + put.value.len() + ROW_OVERHEAD,
            _ => 0,
        };
        let longest = ops.iter().filter_map(|op| op.effect.as_ref()).map(|e| e.key().len()).max();
        if longest.is_some_and(|longest| longest > KEY_BYTES_MAX) {
            return Err(TupleRefused::Unkept);
        }
        let more: usize = ops.iter().map(put_bytes).sum();
        if bytes + more > TRANSACTION_BYTES && !portion.is_empty() {
            portions.push(std::mem::take(&mut portion));
            bytes = 0;
        }
        bytes += more;
        portion.extend(ops);
    }
    if !portion.is_empty() {
        portions.push(portion);
    }
    Ok(portions)
}
