//! The batch being built: reads see what the entries before wrote.

use std::{
    cell::Cell,
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use bytes::Bytes;

use super::held::Held;
use crate::{
    engine::{Batch, Engine, Order},
    fault::Fault,
};

/// Changes over an engine, not yet written.
pub(super) struct Staging<'a> {
    engine: &'a dyn Engine,
    /// As of the changes.
    held: &'a mut Held,
    changes: BTreeMap<Bytes, Option<Bytes>>,
}

impl<'a> Staging<'a> {
    pub(super) fn new(engine: &'a dyn Engine, held: &'a mut Held) -> Self {
        Self { engine, held, changes: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        if self.held.lacks(key) {
            return Ok(None);
        }
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.engine.get(key),
        }
    }

    pub(super) fn put(&mut self, key: Bytes, value: impl Into<Bytes>) {
        self.held.note_put(&key);
        self.changes.insert(key, Some(value.into()));
    }

    pub(super) fn delete(&mut self, key: Bytes) {
        self.held.note_delete(&key);
        self.changes.insert(key, None);
    }

    /// Visits pairs of `start..end` in key order while `visit` says so.
    pub(super) fn scan(
        &self,
        start: &Bytes,
        end: &Bytes,
        mut visit: impl FnMut(&[u8], &Bytes) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        if start >= end {
            return Ok(());
        }
        if Held::knows(start, end) {
            for key in self.held.range(start, end) {
                let value = self.get(key)?;
                if let Some(value) = value
                    && !visit(key, &value)?
                {
                    break;
                }
            }
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
        let mut batch = Batch::new();
        for (key, change) in self.changes {
            match change {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        batch
    }
}
