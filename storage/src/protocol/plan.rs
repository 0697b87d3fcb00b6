//! Which part of a transaction goes to which shard, and which shard decides.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::shards::{ShardId, Shards};
use crate::{
    error::StoreError,
    key::slot_of,
    slot::{Slot, Space},
    store::Draft,
    txn::{Check, Condition, Op, TXN_BYTES_MAX, TXN_SHARDS_MAX},
};

/// A transaction, divided.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// The shard that decides.
    pub(super) decider: Part,
    /// The others, in shard order.
    pub(super) participants: Vec<Part>,
}

/// What one shard does.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    pub(super) shard: ShardId,
    /// A key in the shard, by which it is named in rows that outlive its place.
    pub(super) place: Bytes,
    pub(super) checks: Vec<Check>,
    pub(super) ops: Vec<Op>,
}

impl Part {
    fn has_range(&self) -> bool {
        self.checks.iter().any(|check| matches!(check.condition, Some(Condition::Range(_))))
    }
}

/// Divides a draft over the shards as they are known now. The decider is the
/// shard with the range checks; else a home, for there the work is; else the
/// first that writes.
pub(super) fn divide(draft: &Draft, shards: &dyn Shards) -> Result<Plan, StoreError> {
    let mut parts: BTreeMap<ShardId, Part> = BTreeMap::new();
    let mut part_of = |place: &Bytes| -> Result<ShardId, StoreError> {
        let slot = slot(place)?;
        let shard = shards.locate(slot)?;
        parts.entry(shard).or_insert_with(|| Part {
            shard,
            place: place.slice(..place.len().min(8)),
            checks: Vec::new(),
            ops: Vec::new(),
        });
        Ok(shard)
    };
    let mut checks = Vec::with_capacity(draft.checks.len());
    for check in &draft.checks {
        let condition = check.condition.as_ref().ok_or(StoreError::Illegal("an empty check"))?;
        checks.push((part_of(condition.place())?, check));
    }
    let mut ops = Vec::with_capacity(draft.ops.len());
    for op in &draft.ops {
        let effect = op.effect.as_ref().ok_or(StoreError::Illegal("an empty op"))?;
        ops.push((part_of(effect.key())?, op));
    }
    for (shard, check) in checks {
        if let Some(part) = parts.get_mut(&shard) {
            part.checks.push(check.clone());
        }
    }
    for (shard, op) in ops {
        if let Some(part) = parts.get_mut(&shard) {
            part.ops.push(op.clone());
        }
    }
    limits(draft, parts.len())?;
    let mut parts: Vec<Part> = parts.into_values().collect();
    if parts.iter().filter(|part| part.has_range()).count() > 1 {
        return Err(StoreError::Illegal("range checks in more than one shard"));
    }
    let rank = |part: &Part| {
        let home = slot(&part.place).is_ok_and(|slot| slot.space() == Space::Home);
        (part.has_range(), home && !part.ops.is_empty(), !part.ops.is_empty())
    };
    let decider = (0..parts.len())
        .rev()
        .max_by_key(|at| rank(&parts[*at]))
        .ok_or(StoreError::Illegal("an empty transaction"))?;
    let decider = parts.remove(decider);
    Ok(Plan { decider, participants: parts })
}

/// The slot of a key's bytes.
pub(super) fn slot(key: &[u8]) -> Result<Slot, StoreError> {
    slot_of(key).ok_or(StoreError::Illegal("a key without a slot"))
}

fn limits(draft: &Draft, shards: usize) -> Result<(), StoreError> {
    let bytes = draft.checks.iter().map(Message::encoded_len).sum::<usize>()
        + draft.ops.iter().map(Message::encoded_len).sum::<usize>();
    if bytes > TXN_BYTES_MAX {
        return Err(StoreError::TooLarge {
            what: "transaction in bytes",
            size: bytes,
            limit: TXN_BYTES_MAX,
        });
    }
    if shards > TXN_SHARDS_MAX {
        return Err(StoreError::TooLarge {
            what: "transaction in shards",
            size: shards,
            limit: TXN_SHARDS_MAX,
        });
    }
    Ok(())
}
