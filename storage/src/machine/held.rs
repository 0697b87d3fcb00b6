//! What transactions hold of a tablet, in memory: its locks, prepared transactions and
//! decisions, and which receipts there may be.
//!
//! Every check and every op asks for the lock of its key, every transaction for its
//! receipt, and mostly there is none. So apply asks here, and the engine only for what
//! may be there. Locks, prepared transactions and decisions are few, for they wait for
//! an end that comes at once: they are held whole. Receipts are many: of them only
//! [prints](super::receipts).
//!
//! Nothing is decided here that the engine does not say: what is held follows from its
//! rows, is read from them whenever a tablet is opened, and goes with every change of
//! them in [`Staging`](super::staging::Staging).

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use super::{
    area,
    decision::{Decision, decode_decision},
    lock::{LockRow, Prepared, decode_lock, decode_prepared},
    receipts::Receipts,
};
use crate::{
    clock::Timestamp,
    engine::{Order, View},
    fault::Fault,
    txn::RequestId,
};

/// Locks, prepared transactions, decisions, and prints of receipts.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// By the key of the row.
    pub(super) locks: BTreeMap<Bytes, LockRow>,
    pub(super) prepared: BTreeMap<RequestId, Prepared>,
    pub(super) decisions: BTreeMap<RequestId, Decision>,
    pub(super) receipts: Receipts,
}

impl Held {
    /// What is held in a view, at this log time of it.
    pub(super) fn load(view: &dyn View, now: Timestamp) -> Result<Self, Fault> {
        let mut held = Self { receipts: Receipts::load(view, now)?, ..Self::default() };
        let mut failed = None;
        view.scan(
            Bound::Included(&[area::LOCK]),
            Bound::Excluded(&[area::DECISION + 1]),
            Order::Forward,
            &mut |key, value| match held.add(key, Bytes::copy_from_slice(value)) {
                Ok(()) => ControlFlow::Continue(()),
                Err(fault) => {
                    failed = Some(fault);
                    ControlFlow::Break(())
                }
            },
        )?;
        failed.map_or(Ok(held), Err)
    }

    fn add(&mut self, key: &[u8], value: Bytes) -> Result<(), Fault> {
        let id = || {
            RequestId::from_slice(&key[1..])
                .ok_or_else(|| Fault::new("a transaction's row has no request id"))
        };
        match key[0] {
            area::LOCK => {
                self.locks.insert(Bytes::copy_from_slice(&key[1..]), decode_lock(value)?);
            }
            area::PREPARED => {
                self.prepared.insert(id()?, decode_prepared(value)?);
            }
            _ => {
                self.decisions.insert(id()?, decode_decision(value)?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
