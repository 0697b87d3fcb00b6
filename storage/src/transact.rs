//! Transactions as layers write them: read through a [`Transaction`], decide,
//! write through it. What was read becomes checks; on conflict the closure runs
//! again.
//!
//! ```text
//! let session = store
//!     .transact(|t| async move {
//!         let Some(mut session) = t.get::<Sessions>(&key).await? else {
//!             return Err(Rejection::NotFound);
//!         };
//!         session.record.revoked_at = Some(now.0);
//!         t.put::<Sessions>(&key, &session.record, session.expires_at).await?;
//!         Ok(session)
//!     })
//!     .await?;
//! ```
//!
//! The first attempt is optimistic: what becomes a check is read from the nearest
//! replica as it is, since the commit validates it anyway, and no quorum is asked
//! before the one that commits. What nothing validates is read strongly: reads that
//! do not become checks, and everything whenever the closure refuses or writes
//! nothing, for then it runs again with strong reads before its word counts. A record
//! that only [leads](Transaction::lead) to another, which proves it, is neither.
//!
//! Who loses again and again to others, because they are nearer to the record's leader,
//! [claims](Draft::claimant) it: they wait until he has come again.

mod state;

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use parking_lot::Mutex;

use self::state::{Freshness, State, Write, range_check};
use crate::{
    clock::{Entropy, Timestamp},
    engine::Order,
    error::StoreError,
    key::{Key, KeyRange},
    row::Row,
    store::{
        Committed, Consistency, Draft, Read, ReadAnswer, ReadRequest, Rows, Scan, Snaptoken, Store,
        Verdict,
    },
    table::{Entry, IndexRow, Table},
    txn::Add,
};

/// How often a transaction is tried before it is given up as contended.
///
/// The optimistic attempt is one of them.
pub const ATTEMPTS_MAX: u32 = 24;
/// How many attempts are lost before others are asked to wait for the next.
const CLAIMS_AFTER: u32 = 2;

/// A transaction under way; clones share it.
#[derive(Clone)]
pub struct Transaction {
    store: Arc<dyn Store>,
    /// Whether reads become checks; not in a mere view.
    tracking: bool,
    state: Arc<Mutex<State>>,
}

/// What a transaction gave, and where it committed.
#[derive(Debug, Clone)]
pub struct Transacted<R> {
    /// What the closure returned.
    pub value: R,
    /// Where the transaction committed; for one that wrote nothing, where it read.
    pub snaptoken: Snaptoken,
    /// Log time of the commit; for one that wrote nothing, of its reads.
    pub time: Timestamp,
}

impl dyn Store {
    /// Runs a transaction. See the [module](self).
    ///
    /// # Errors
    /// What the closure returns, and any [`StoreError`].
    pub async fn transact<R, E, F, Fut>(self: &Arc<Self>, run: F) -> Result<Transacted<R>, E>
    where
        F: Fn(Transaction) -> Fut,
        Fut: Future<Output = Result<R, E>>,
        E: From<StoreError>,
    {
        let mut claimant = 0;
        for attempt in 0..ATTEMPTS_MAX {
            if attempt == CLAIMS_AFTER {
                claimant = 1 + self.entropy().below(u64::MAX - 1);
            }
            let optimistic = attempt == 0;
            let freshness = if optimistic {
                Freshness::Optimistic
            } else {
                Freshness::Named(Consistency::Strong)
            };
            let transaction = Transaction::begin(self.clone(), freshness, true);
            let value = match run(transaction.clone()).await {
                Ok(value) => value,
                // It may rest on what is no longer so.
                Err(_) if optimistic && transaction.is_unconfirmed() => continue,
                Err(error) => return Err(error),
            };
            if optimistic && !transaction.writes() && transaction.is_unconfirmed() {
                continue;
            }
            match transaction.commit(claimant).await? {
                Some(Committed { snaptoken, time }) => {
                    return Ok(Transacted { value, snaptoken, time });
                }
                // Strong reads may be all that was missing.
                None if optimistic => {}
                // Whom it lost to waits for it now, but if the leader is of an older version.
                None if claimant != 0 => back_off(self.entropy().as_ref(), CLAIMS_AFTER).await,
                None => back_off(self.entropy().as_ref(), attempt).await,
            }
        }
        Err(StoreError::Contended { attempts: ATTEMPTS_MAX }.into())
    }

    /// Reads outside a transaction: each read at `consistency`, and none earlier
    /// than the reads before it. What is written to it goes nowhere.
    pub fn view(self: &Arc<Self>, consistency: Consistency) -> Transaction {
        Transaction::begin(self.clone(), Freshness::Named(consistency), false)
    }
}

async fn back_off(entropy: &dyn Entropy, attempt: u32) {
    let bound_us = 500_u64 << attempt.min(7);
    tokio::time::sleep(Duration::from_micros(entropy.below(bound_us))).await;
}

impl Transaction {
    fn begin(store: Arc<dyn Store>, freshness: Freshness, tracking: bool) -> Self {
        let state = State::new(freshness, store.clock().now());
        Self { store, tracking, state: Arc::new(Mutex::new(state)) }
    }

    /// The time that this transaction's decisions should use: when it began, or
    /// the log time of what it read if that is later.
    pub fn now(&self) -> Timestamp {
        self.state.lock().read_time
    }

    /// The time by which the store judged the expiry of what was read so far: of a
    /// strong read the leader's, of others the reader's own if that is later than
    /// the log's. What a layer judges itself, it judges by the same. When the
    /// transaction began, if nothing was read yet.
    pub fn judged_at(&self) -> Timestamp {
        let state = self.state.lock();
        state.judged_at.unwrap_or(state.read_time)
    }

    /// Where the reads so far stood.
    pub fn seen(&self) -> Snaptoken {
        self.state.lock().seen.clone()
    }

    /// Reads a record, and checks at commit that it is still as it was, present or
    /// absent.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get<T: Table>(&self, key: &T::Key) -> Result<Option<Entry<T>>, StoreError> {
        let rows = self.rows(&[T::key(key)], true).await?;
        Ok(rows.into_iter().flatten().next().map(|row| T::decode(&row)).transpose()?)
    }

    /// Reads a record without a check: its changing meanwhile does not matter.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn peek<T: Table>(&self, key: &T::Key) -> Result<Option<Entry<T>>, StoreError> {
        let rows = self.rows(&[T::key(key)], false).await?;
        Ok(rows.into_iter().flatten().next().map(|row| T::decode(&row)).transpose()?)
    }

    /// Reads a record that leads to others, without a check: its caller takes nothing from it
    /// that they do not prove. The optimistic attempt takes what the nearest replica has, and
    /// asks for more only where that has nothing; so who finds that it leads nowhere must
    /// [`peek`](Self::peek) before he says so, if [`may_mislead`](Self::may_mislead).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn lead<T: Table>(&self, key: &T::Key) -> Result<Option<Entry<T>>, StoreError> {
        if self.may_mislead() && self.state.lock().written(&T::key(key)).is_none() {
            let seen = self.state.lock().seen.clone();
            let mut request = ReadRequest::new(Consistency::AtLeast(seen)).get(T::key(key));
            request.partial = self.state.lock().partial;
            let answer = self.store.read(request).await?;
            if let Some(row) = answer.results.into_iter().next().and_then(Rows::into_row) {
                return Ok(Some(T::decode(&row)?));
            }
        }
        self.peek::<T>(key).await
    }

    /// Whether what [leads](Self::lead) may be older than what a [`peek`](Self::peek) finds.
    pub fn may_mislead(&self) -> bool {
        matches!(self.state.lock().freshness, Freshness::Optimistic)
    }

    /// Reads several records at once, each with a check.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn get_many<T: Table>(
        &self,
        keys: &[T::Key],
    ) -> Result<Vec<Option<Entry<T>>>, StoreError> {
        let keys: Vec<Key> = keys.iter().map(T::key).collect();
        let rows = self.rows(&keys, true).await?;
        rows.into_iter().map(|row| Ok(row.map(|r| T::decode(&r)).transpose()?)).collect()
    }

    /// Reads rows of any tables by key, in one round; `tracked` ones are checked at
    /// commit.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rows(&self, keys: &[Key], tracked: bool) -> Result<Vec<Option<Row>>, StoreError> {
        let missing: Vec<Key> = {
            let state = self.state.lock();
            let known =
                |key: &&Key| state.written(key).is_none() && !state.points.contains_key(key);
            keys.iter().filter(known).cloned().collect()
        };
        let mut fetched = BTreeMap::new();
        if !missing.is_empty() {
            let reads = missing.iter().cloned().map(Read::Get).collect();
            let answer = self.read(reads, tracked).await?;
            for (key, rows) in missing.into_iter().zip(answer.results) {
                fetched.insert(key, rows.into_row());
            }
        }
        let mut state = self.state.lock();
        if tracked {
            state.points.extend(fetched.iter().map(|(key, row)| (key.clone(), row.clone())));
        }
        Ok(keys
            .iter()
            .map(|key| match state.written(key) {
                Some(written) => written,
                None => match state.points.get(key) {
                    Some(row) => row.clone(),
                    None => fetched.get(key).cloned().flatten(),
                },
            })
            .collect())
    }

    /// Reads rows of a range, at most `limit`, and checks at commit that nothing
    /// appeared, changed or vanished in what was seen. Sees this transaction's own
    /// writes only if it wrote before the scan; says whether there is more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scan<T: Table>(
        &self,
        range: KeyRange,
        limit: u32,
        order: Order,
    ) -> Result<(Vec<Entry<T>>, bool), StoreError> {
        let rows = self.scan_rows(range, limit, order, true).await?;
        let entries = rows.rows.iter().map(T::decode).collect::<Result<_, _>>()?;
        Ok((entries, rows.more))
    }

    /// Reads rows of a range without a check.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn peek_range<T: Table>(
        &self,
        range: KeyRange,
        limit: u32,
        order: Order,
    ) -> Result<(Vec<Entry<T>>, bool), StoreError> {
        let rows = self.scan_rows(range, limit, order, false).await?;
        let entries = rows.rows.iter().map(T::decode).collect::<Result<_, _>>()?;
        Ok((entries, rows.more))
    }

    /// Reads rows of any tables in a range; see [`scan`](Self::scan).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scan_rows(
        &self,
        range: KeyRange,
        limit: u32,
        order: Order,
        tracked: bool,
    ) -> Result<Rows, StoreError> {
        let scan = Scan { range: range.clone(), limit, order };
        let answer = self.read(vec![Read::Scan(scan)], tracked).await?;
        let mut rows = answer.results.into_iter().next().unwrap_or_default();
        let mut state = self.state.lock();
        if tracked {
            state.ranges.push(range_check(&range, &rows, order));
        }
        for (key, write) in &state.writes {
            if !range.contains(key.as_bytes()) {
                continue;
            }
            rows.rows.retain(|row| row.key != *key);
            if let Write::Put { value, expires_at } = write {
                rows.rows.push(Row {
                    key: key.clone(),
                    value: value.clone(),
                    revision: None,
                    expires_at: *expires_at,
                });
            }
        }
        rows.rows.sort_by(|a, b| match order {
            Order::Forward => a.key.cmp(&b.key),
            Order::Reverse => b.key.cmp(&a.key),
        });
        Ok(rows)
    }

    /// Sets a record and its index rows. Where the table is indexed, the record
    /// that was there is read first, with a check; index rows that stay as they are
    /// are not written, so that a change of nothing that is indexed stays where the
    /// record lives.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn put<T: Table>(
        &self,
        key: &T::Key,
        record: &T::Record,
        expires_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let mut new = T::index_rows(key, record);
        let (old, lasts_as_long) = match self.old_record::<T>(key, &new).await? {
            Some(old) => (T::index_rows(key, &old.record), old.expires_at == expires_at),
            None => (Vec::new(), false),
        };
        let mut state = self.state.lock();
        for row in &old {
            if !new.iter().any(|kept| kept.key == row.key) {
                state.writes.insert(row.key.clone(), Write::Delete);
            }
        }
        new.retain(|row| !lasts_as_long || !old.contains(row));
        state.put(T::key(key), record, expires_at, new);
        Ok(())
    }

    /// Sets a record that must not be there yet, and its index rows.
    pub fn insert<T: Table>(
        &self,
        key: &T::Key,
        record: &T::Record,
        expires_at: Option<Timestamp>,
    ) {
        let rows = T::index_rows(key, record);
        let mut state = self.state.lock();
        let key = T::key(key);
        state.absent.push(key.clone());
        state.put(key, record, expires_at, rows);
    }

    /// From now on reads indexes that are not whole as they are. For upkeep alone,
    /// which makes them whole.
    pub fn for_upkeep(&self) {
        self.state.lock().partial = true;
    }

    /// Deletes an index row that no record expects: one that was left by a node that did
    /// not know the index. For upkeep alone, which has read both here.
    pub fn strip(&self, index: Key) {
        self.state.lock().writes.insert(index, Write::Delete);
    }

    /// Sets an index row that a record lacks, with the record's expiry: one that was
    /// written before the index was declared. For upkeep alone, which has read both here.
    pub fn fill(&self, row: IndexRow, expires_at: Option<Timestamp>) {
        let IndexRow { key, value } = row;
        self.state.lock().writes.insert(key, Write::Put { value, expires_at });
    }

    /// Deletes a record with its index rows; an absent one is no error.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn delete<T: Table>(&self, key: &T::Key) -> Result<(), StoreError> {
        let old = self.get::<T>(key).await?;
        let mut state = self.state.lock();
        if let Some(old) = old {
            for row in T::index_rows(key, &old.record) {
                state.writes.insert(row.key, Write::Delete);
            }
        }
        state.writes.insert(T::key(key), Write::Delete);
        Ok(())
    }

    /// Adds to a counter; one that starts now ceases to exist at `expires_at`.
    pub fn add(&self, key: &Key, delta: i64, expires_at: Option<Timestamp>) {
        let expires_at = expires_at.map_or(0, Timestamp::as_millis);
        self.state.lock().adds.push(Add { key: key.as_bytes().clone(), delta, expires_at });
    }

    /// Checks at commit that a key has no live row, without reading it now.
    pub fn expect_absent(&self, key: Key) {
        self.state.lock().absent.push(key);
    }

    async fn old_record<T: Table>(
        &self,
        key: &T::Key,
        new: &[IndexRow],
    ) -> Result<Option<Entry<T>>, StoreError> {
        let known = self.state.lock().points.contains_key(&T::key(key));
        if !known && !T::INDEXED && new.is_empty() {
            return Ok(None);
        }
        self.get::<T>(key).await
    }

    /// Whether anything was read that only a commit would validate.
    fn is_unconfirmed(&self) -> bool {
        let state = self.state.lock();
        !state.points.is_empty() || !state.ranges.is_empty()
    }

    fn writes(&self) -> bool {
        let state = self.state.lock();
        !state.writes.is_empty() || !state.adds.is_empty()
    }

    async fn read(&self, reads: Vec<Read>, tracked: bool) -> Result<ReadAnswer, StoreError> {
        let tracked = tracked && self.tracking;
        let (partial, (consistency, seen, confirms)) = {
            let state = self.state.lock();
            let how = match &state.freshness {
                // Never earlier than the reads before.
                Freshness::Optimistic if tracked => {
                    (Consistency::AtLeast(state.seen.clone()), Snaptoken::default(), false)
                }
                Freshness::Optimistic => (Consistency::Strong, state.confirmed.clone(), true),
                Freshness::Named(consistency) => {
                    (consistency.clone(), state.confirmed.clone(), true)
                }
            };
            (state.partial, how)
        };
        let request = ReadRequest { reads, consistency, seen, tracked, partial };
        let answer = self.store.read(request).await?;
        let mut state = self.state.lock();
        state.reads += 1;
        state.seen.merge(&answer.snaptoken);
        if confirms {
            state.confirmed.merge(&answer.snaptoken);
        }
        state.read_time = state.read_time.max(answer.time);
        state.judged_at = state.judged_at.max(Some(answer.time));
        Ok(answer)
    }

    /// Commits; `None` on a conflict. What wrote nothing and read at most once
    /// needs no commit.
    async fn commit(&self, claimant: u64) -> Result<Option<Committed>, StoreError> {
        let (draft, seen, reads) = {
            let state = self.state.lock();
            (Draft { claimant, ..state.draft() }, state.seen.clone(), state.reads)
        };
        let read_time = draft.read_time;
        if draft.ops.is_empty()
            && (draft.checks.is_empty() || reads <= 1 && seen.positions.len() <= 1)
        {
            return Ok(Some(Committed { snaptoken: seen, time: read_time }));
        }
        match self.store.commit(draft).await? {
            Verdict::Committed(committed) => Ok(Some(committed)),
            Verdict::Conflict => Ok(None),
        }
    }
}
