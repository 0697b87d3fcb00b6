//! A consistent view of one tablet: rows and the locks on them, of one instant.

use std::{
    ops::{Bound, ControlFlow},
    sync::Arc,
};

use bytes::Bytes;

use super::{
    apply, area,
    decision::{decode_decision, decode_receipt},
    facts::Facts,
    lock::{self, decode_lock, decode_prepared},
    state::State,
};
use crate::{
    clock::Timestamp,
    engine::{Order, View},
    fault::Fault,
    key::{Key, KeyRange, slot_of},
    row::{Row, Stored},
    store::{Read, Rows, SCAN_ROWS_MAX, Scan},
    txn::{Outcome, RequestId},
};

/// A view of a tablet.
pub struct TabletView {
    view: Box<dyn View>,
    facts: Arc<Facts>,
}

/// What reads of one tablet saw.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// One for each read.
    pub results: Vec<Rows>,
    /// The rows that prepared transactions hold among what was read.
    pub pending: Vec<Pending>,
}

/// A row that a prepared transaction will leave if it commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which read met it, from 0.
    pub read: usize,
    /// The transaction.
    pub txn: RequestId,
    /// A key in the shard that decides it.
    pub decider: Bytes,
    /// Its `not_after`.
    pub not_after: Timestamp,
    /// The key.
    pub key: Key,
    /// The row to be, without a revision; `None` if it will be deleted.
    pub row: Option<Row>,
}

/// A transaction that waits for its end in this tablet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outstanding {
    /// Prepared here; its decider knows the rest.
    Prepared {
        /// The transaction.
        txn: RequestId,
        /// A key in the shard that decides it.
        decider: Bytes,
        /// Its `not_after`.
        not_after: Timestamp,
    },
    /// Decided here; these participants have not acknowledged.
    Decided {
        /// The transaction.
        txn: RequestId,
        /// Its `not_after`.
        not_after: Timestamp,
        /// A key in each participant.
        participants: Vec<Bytes>,
    },
}

impl TabletView {
    pub(super) fn new(view: Box<dyn View>) -> Result<Self, Fault> {
        let state = super::read_state(view.as_ref())?;
        Ok(Self::of(view, Facts::of_view(state)))
    }

    /// A view of which the facts are known.
    pub(super) fn of(view: Box<dyn View>, facts: Arc<Facts>) -> Self {
        Self { view, facts }
    }

    /// The tablet's state as of this view.
    pub fn state(&self) -> &State {
        &self.facts.state
    }

    /// Makes reads, judging expiry at `now`; `None` if a slot is not owned.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn read(&self, reads: &[Read], now: Timestamp) -> Result<Option<Seen>, Fault> {
        self.read_rows(reads, now, self.facts.unlocked != Some(true))
    }

    /// As [`read`](Self::read), without looking for locks: for views that
    /// [have none](Self::is_unlocked).
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn read_unlocked(&self, reads: &[Read], now: Timestamp) -> Result<Option<Seen>, Fault> {
        self.read_rows(reads, now, false)
    }

    /// The rows of a range that is whole in one slot, where they are few: see
    /// [`View::scan_few`]. `None` also if the slot is not owned. For views that
    /// [have no locks](Self::is_unlocked).
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn few_unlocked(
        &self,
        range: &KeyRange,
        most: usize,
        now: Timestamp,
    ) -> Result<Option<Vec<Row>>, Fault> {
        if !range.slot().is_some_and(|slot| self.state().owns(slot)) {
            return Ok(None);
        }
        let now = now.max(self.state().time());
        let (start, end) = (area::key(area::ROW, &range.start), area::key(area::ROW, &range.end));
        let (mut rows, mut failed) = (Vec::new(), None);
        let all = self.view.scan_few(&start, &end, most, &mut |key, value| match live_row(
            &key[1..],
            value,
            now,
        ) {
            Ok(row) => rows.extend(row),
            Err(fault) => failed = Some(fault),
        })?;
        failed.map_or(Ok(all.then_some(rows)), Err)
    }

    /// Whether no transaction holds a lock anywhere in this view.
    ///
    /// # Errors
    /// A fault if the engine fails.
    pub fn is_unlocked(&self) -> Result<bool, Fault> {
        if let Some(unlocked) = self.facts.unlocked {
            return Ok(unlocked);
        }
        let mut unlocked = true;
        self.pairs(&[area::LOCK], &[area::LOCK + 1], Order::Forward, |_, _| {
            unlocked = false;
            Ok(false)
        })?;
        Ok(unlocked)
    }

    fn read_rows(
        &self,
        reads: &[Read],
        now: Timestamp,
        locks: bool,
    ) -> Result<Option<Seen>, Fault> {
        let now = now.max(self.state().time());
        let mut seen = Seen::default();
        for (at, read) in reads.iter().enumerate() {
            let slot = match read {
                Read::Get(key) => Some(key.slot()),
                Read::Scan(scan) => scan.range.slot().or_else(|| {
                    slot_of(&scan.range.start).filter(|_| scan.range.start >= scan.range.end)
                }),
            };
            if !slot.is_some_and(|slot| self.state().owns(slot)) {
                return Ok(None);
            }
            let rows = match read {
                Read::Get(key) => self.get(key, now)?,
                Read::Scan(scan) => self.scan(scan, now)?,
            };
            if locks {
                match read {
                    Read::Get(key) => self.locks_at(at, key, &mut seen.pending)?,
                    Read::Scan(scan) => self.locks_in(at, scan, &rows, &mut seen.pending)?,
                }
            }
            seen.results.push(rows);
        }
        Ok(Some(seen))
    }

    /// What this tablet, as a decider, knows of a transaction.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn fate(&self, id: RequestId, not_after: Timestamp) -> Result<Outcome, Fault> {
        let now = self.state().time();
        let decision =
            self.view.get(&area::txn_key(area::DECISION, id))?.map(decode_decision).transpose()?;
        let receipt = match self.view.get(&area::txn_key(area::RECEIPT, id))? {
            Some(bytes) => decode_receipt(&bytes, now)?,
            None => None,
        };
        Ok(apply::judge(decision.as_ref(), receipt, not_after.0, now))
    }

    /// Transactions that wait for their end here, at most `limit` of each kind.
    ///
    /// # Errors
    /// A fault if the engine fails or holds what it should not.
    pub fn outstanding(&self, limit: usize) -> Result<Vec<Outstanding>, Fault> {
        let mut found = Vec::new();
        self.area(area::PREPARED, limit, |id, value| {
            let prepared = decode_prepared(value)?;
            found.push(Outstanding::Prepared {
                txn: id,
                decider: prepared.decider,
                not_after: Timestamp(prepared.not_after),
            });
            Ok(())
        })?;
        self.area(area::DECISION, limit, |id, value| {
            let decision = decode_decision(value)?;
            found.push(Outstanding::Decided {
                txn: id,
                not_after: Timestamp(decision.not_after),
                participants: decision.outstanding,
            });
            Ok(())
        })?;
        Ok(found)
    }

    /// Visits every live row in key order, for verification and dumps.
    ///
    /// # Errors
    /// What `visit` returns, and a fault if the engine fails.
    pub fn each_row(
        &self,
        now: Timestamp,
        mut visit: impl FnMut(Row) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let now = now.max(self.state().time());
        let start = area::key(area::ROW, &[]);
        self.pairs(&start, &area::key(area::ROW + 1, &[]), Order::Forward, |key, value| {
            if let Some(row) = live_row(&key[1..], value, now)? {
                visit(row)?;
            }
            Ok(true)
        })
    }

    pub(super) fn pairs(
        &self,
        start: &[u8],
        end: &[u8],
        order: Order,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let mut failed = None;
        self.view.scan(
            Bound::Included(start),
            Bound::Excluded(end),
            order,
            &mut |key, value| match visit(key, value) {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => ControlFlow::Break(()),
                Err(fault) => {
                    failed = Some(fault);
                    ControlFlow::Break(())
                }
            },
        )?;
        failed.map_or(Ok(()), Err)
    }

    fn area(
        &self,
        area: u8,
        limit: usize,
        mut visit: impl FnMut(RequestId, &[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut left = limit;
        self.pairs(&[area], &[area + 1], Order::Forward, |key, value| {
            if left == 0 {
                return Ok(false);
            }
            left -= 1;
            let id = RequestId::from_slice(&key[1..])
                .ok_or_else(|| Fault::new("a transaction's row has no request id"))?;
            visit(id, value)?;
            Ok(true)
        })
    }

    fn get(&self, key: &Key, now: Timestamp) -> Result<Rows, Fault> {
        let stored = self.view.get(&area::key(area::ROW, key.as_bytes()))?;
        let row = match stored {
            Some(bytes) => live_at(key, &bytes, now)?,
            None => None,
        };
        Ok(Rows { rows: row.into_iter().collect(), more: false })
    }

    fn locks_at(&self, at: usize, key: &Key, pending: &mut Vec<Pending>) -> Result<(), Fault> {
        if let Some(lock) = self.view.get(&area::key(area::LOCK, key.as_bytes()))? {
            pending.extend(self.pending(at, key, &lock)?);
        }
        Ok(())
    }

    fn scan(&self, scan: &Scan, now: Timestamp) -> Result<Rows, Fault> {
        let limit = usize::try_from(scan.limit.min(SCAN_ROWS_MAX)).unwrap_or(0);
        let mut rows = Rows::default();
        let (start, end) =
            (area::key(area::ROW, &scan.range.start), area::key(area::ROW, &scan.range.end));
        self.pairs(&start, &end, scan.order, |key, value| {
            if let Some(row) = live_row(&key[1..], value, now)? {
                if rows.rows.len() == limit {
                    rows.more = true;
                    return Ok(false);
                }
                rows.rows.push(row);
            }
            Ok(true)
        })?;
        Ok(rows)
    }

    /// Locks within what was seen: up to the last row where the limit cut.
    fn locks_in(
        &self,
        at: usize,
        scan: &Scan,
        rows: &Rows,
        pending: &mut Vec<Pending>,
    ) -> Result<(), Fault> {
        let last = rows.rows.last().filter(|_| rows.more).map(|row| row.key.clone());
        let (start, end) = match (last, scan.order) {
            (Some(last), Order::Forward) => (scan.range.start.clone(), last.successor()),
            (Some(last), Order::Reverse) => (last.as_bytes().clone(), scan.range.end.clone()),
            (None, _) => (scan.range.start.clone(), scan.range.end.clone()),
        };
        let (start, end) = (area::key(area::LOCK, &start), area::key(area::LOCK, &end));
        self.pairs(&start, &end, Order::Forward, |key, value| {
            let key = Key::from_bytes(Bytes::copy_from_slice(&key[1..]))
                .ok_or_else(|| Fault::new("a lock is not on a key"))?;
            pending.extend(self.pending(at, &key, value)?);
            Ok(true)
        })
    }

    /// The row that the exclusive holder of a lock will leave, if there is one.
    fn pending(&self, read: usize, key: &Key, lock: &[u8]) -> Result<Option<Pending>, Fault> {
        let Some(holder) = decode_lock(lock)?.exclusive else { return Ok(None) };
        let lock::Holder { decider, not_after, .. } = holder.clone();
        let txn = holder.to_lock()?.txn;
        let prepared = self
            .view
            .get(&area::txn_key(area::PREPARED, txn))?
            .ok_or_else(|| Fault::new("a lock outlived its prepared transaction"))?;
        let prepared = decode_prepared(prepared)?;
        let row = prepared
            .rows
            .into_iter()
            .find(|row| row.key == key.as_bytes())
            .ok_or_else(|| Fault::new("a prepared transaction lost a row that it locked"))?;
        let row = row.value.map(|value| Row {
            key: key.clone(),
            value,
            revision: None,
            expires_at: Some(row.expires_at).filter(|at| *at != 0).map(Timestamp),
        });
        Ok(Some(Pending {
            read,
            txn,
            decider,
            not_after: Timestamp(not_after),
            key: key.clone(),
            row,
        }))
    }
}

fn live_row(key: &[u8], value: &[u8], now: Timestamp) -> Result<Option<Row>, Fault> {
    let key = Key::from_bytes(Bytes::copy_from_slice(key))
        .ok_or_else(|| Fault::new("a row's key has no valid header"))?;
    live_at(&key, &Bytes::copy_from_slice(value), now)
}

fn live_at(key: &Key, value: &Bytes, now: Timestamp) -> Result<Option<Row>, Fault> {
    let stored = Stored::decode(value)?;
    if !stored.is_live(now) {
        return Ok(None);
    }
    Ok(Some(Row {
        key: key.clone(),
        value: stored.value,
        revision: Some(stored.revision),
        expires_at: stored.expires_at,
    }))
}
