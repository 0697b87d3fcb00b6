//! The batch being built: reads see what the entries before wrote.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;
use prost::Message;

use super::{
    area,
    decision::{Decision, decode_decision},
    held::Held,
    lock::{LockRow, Prepared},
};
use crate::{
    clock::Timestamp,
    engine::{Batch, Engine, Order},
    fault::Fault,
    planted::{self, Bug},
    row::Stored,
    txn::RequestId,
};

/// Changes over an engine, not yet written.
pub(super) struct Staging<'a> {
    engine: &'a dyn Engine,
    /// As of the changes.
    held: &'a mut Held,
    changes: BTreeMap<Bytes, Option<Bytes>>,
    /// The engine key that is being looked for.
    probe: RefCell<Vec<u8>>,
}

impl<'a> Staging<'a> {
    pub(super) fn new(engine: &'a dyn Engine, held: &'a mut Held) -> Self {
        Self { engine, held, changes: BTreeMap::new(), probe: RefCell::default() }
    }

    fn get(&self, area: u8, rest: &[u8]) -> Result<Option<Bytes>, Fault> {
        let mut key = self.probe.borrow_mut();
        key.clear();
        key.push(area);
        key.extend_from_slice(rest);
        match self.changes.get(key.as_slice()) {
            Some(change) => Ok(change.clone()),
            None => self.engine.get(&key),
        }
    }

    /// The row of a key, which may have expired.
    pub(super) fn row(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        self.get(area::ROW, key)
    }

    /// Puts or deletes the row of a key.
    pub(super) fn set_row(&mut self, key: &[u8], row: Option<Bytes>) {
        self.changes.insert(area::key(area::ROW, key), row);
    }

    /// The receipt of a transaction, while it lives.
    pub(super) fn receipt(&self, id: RequestId, now: Timestamp) -> Result<Option<Stored>, Fault> {
        let lacks = self.held.receipts.lacks(id);
        if lacks && !cfg!(debug_assertions) {
            return Ok(None);
        }
        let Some(bytes) = self.get(area::RECEIPT, &id.0)? else { return Ok(None) };
        let stored = Stored::decode(&bytes)?;
        let live = stored.is_live(now);
        debug_assert!(
            !(lacks && live) || planted::is(Bug::ExpiryByWallClock),
            "a receipt was lost"
        );
        Ok(live.then_some(stored))
    }

    pub(super) fn put_receipt(&mut self, id: RequestId, expires_at: Timestamp, bytes: Bytes) {
        self.held.receipts.note(id, expires_at);
        self.changes.insert(area::txn_key(area::RECEIPT, id), Some(bytes));
    }

    /// The locks, by the key of the row.
    pub(super) fn locks(&self) -> &BTreeMap<Bytes, LockRow> {
        &self.held.locks
    }

    /// Sets the locks on a key, perhaps none.
    pub(super) fn set_lock(&mut self, key: &Bytes, lock: LockRow) {
        let free = lock.is_free();
        let bytes = (!free).then(|| lock.encode_to_vec().into());
        self.changes.insert(area::key(area::LOCK, key), bytes);
        if free {
            self.held.locks.remove(key);
        } else {
            self.held.locks.insert(key.clone(), lock);
        }
    }

    pub(super) fn prepared(&self, id: RequestId) -> Option<&Prepared> {
        self.held.prepared.get(&id)
    }

    /// Keeps a prepared transaction, which these are the bytes of.
    pub(super) fn put_prepared(&mut self, id: RequestId, prepared: Prepared, bytes: Bytes) {
        self.changes.insert(area::txn_key(area::PREPARED, id), Some(bytes));
        self.held.prepared.insert(id, prepared);
    }

    /// Takes a prepared transaction out, if there is one.
    pub(super) fn take_prepared(&mut self, id: RequestId) -> Option<Prepared> {
        let prepared = self.held.prepared.remove(&id)?;
        self.changes.insert(area::txn_key(area::PREPARED, id), None);
        Some(prepared)
    }

    pub(super) fn decision(&self, id: RequestId) -> Option<&Decision> {
        self.held.decisions.get(&id)
    }

    pub(super) fn put_decision(&mut self, id: RequestId, decision: &Decision) -> Result<(), Fault> {
        let bytes = Bytes::from(decision.encode_to_vec());
        self.held.decisions.insert(id, decode_decision(bytes.clone())?);
        self.changes.insert(area::txn_key(area::DECISION, id), Some(bytes));
        Ok(())
    }

    pub(super) fn delete_decision(&mut self, id: RequestId) {
        self.held.decisions.remove(&id);
        self.changes.insert(area::txn_key(area::DECISION, id), None);
    }

    /// Visits pairs of `start..end`, which hold rows, in key order while `visit` says so.
    pub(super) fn scan(
        &self,
        start: &Bytes,
        end: &Bytes,
        mut visit: impl FnMut(&[u8], &Bytes) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        if start >= end {
            return Ok(());
        }
        let mut staged = self.changes.range(start.clone()..end.clone()).peekable();
        let stopped = Cell::new(false);
        let mut failed = None;
        let mut step = |key: &[u8], value: &Bytes| {
            let go_on = visit(key, value).unwrap_or_else(|fault| {
                failed = Some(fault);
                false
            });
            stopped.set(!go_on);
            go_on
        };
        self.engine.view()?.scan(
            Bound::Included(start),
            Bound::Excluded(end),
            Order::Forward,
            &mut |key, value| {
                while let Some((staged_key, change)) = staged.next_if(|(k, _)| k.as_ref() < key) {
                    if let Some(staged_value) = change
                        && !step(staged_key, staged_value)
                    {
                        return ControlFlow::Break(());
                    }
                }
                let seen = match staged.next_if(|(k, _)| k.as_ref() == key) {
                    Some((_, None)) => true,
                    Some((_, Some(staged_value))) => step(key, staged_value),
                    None => step(key, &Bytes::copy_from_slice(value)),
                };
                if seen { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            },
        )?;
        for (key, change) in staged {
            if stopped.get() {
                break;
            }
            if let Some(value) = change {
                step(key, value);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The changes as a batch, in key order.
    pub(super) fn into_batch(self) -> Batch {
        // And one for the state row.
        let mut batch = Batch::with_capacity(self.changes.len() + 1);
        for (key, change) in self.changes {
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }
}
