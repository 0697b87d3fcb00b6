//! Validating a transaction's checks and working out the rows it leaves.

use bytes::Bytes;

use super::{apply::Changed, area, staging::Staging};
use crate::{
    clock::Timestamp,
    fault::Fault,
    key::{KEY_BYTES_MAX, slot_of},
    row::{self, Revision, Stored},
    txn::{Condition, Effect, Fingerprint, RangeCheck, Txn},
};

fn conditions(txn: &Txn) -> impl Iterator<Item = &Condition> {
    txn.checks.iter().filter_map(|check| check.condition.as_ref())
}

fn effects(txn: &Txn) -> impl Iterator<Item = &Effect> {
    txn.ops.iter().filter_map(|op| op.effect.as_ref())
}

/// Whether every check and op is of a known kind, with keys of legal length and
/// ranges within one slot.
pub(super) fn is_well_formed(txn: &Txn) -> bool {
    let key_fits = |key: &Bytes| key.len() >= 8 && key.len() <= KEY_BYTES_MAX;
    let known =
        conditions(txn).count() == txn.checks.len() && effects(txn).count() == txn.ops.len();
    let in_order = conditions(txn).all(|condition| match condition {
        Condition::Range(range) => range.start <= range.end && is_within_a_slot(range),
        other => other.key().is_some_and(key_fits),
    });
    known && in_order && effects(txn).all(|effect| key_fits(effect.key()))
}

fn is_within_a_slot(range: &RangeCheck) -> bool {
    range.start == range.end
        || crate::key::KeyRange { start: range.start.clone(), end: range.end.clone() }
            .slot()
            .is_some()
            && slot_of(&range.start).is_some()
}

/// Whether a participant may take it: range checks belong to the decider.
pub(super) fn participates(txn: &Txn) -> bool {
    !conditions(txn).any(|condition| matches!(condition, Condition::Range(_)))
}

/// The keys that say which slots a transaction touches.
pub(super) fn places(txn: &Txn) -> impl Iterator<Item = &Bytes> {
    conditions(txn).map(Condition::place).chain(effects(txn).map(Effect::key))
}

/// The keys that are checked and not written.
pub(super) fn checked_only(txn: &Txn) -> Vec<Bytes> {
    let mut written: Vec<&Bytes> = effects(txn).map(Effect::key).collect();
    written.sort_unstable();
    let mut keys: Vec<Bytes> = conditions(txn)
        .filter_map(Condition::key)
        .filter(|key| written.binary_search(key).is_err())
        .cloned()
        .collect();
    keys.sort();
    keys.dedup();
    keys
}

/// The live row of a key.
fn live(staging: &Staging<'_>, key: &[u8], now: Timestamp) -> Result<Option<Stored>, Fault> {
    let Some(bytes) = staging.row(key)? else { return Ok(None) };
    let stored = Stored::decode(&bytes)?;
    Ok(stored.is_live(now).then_some(stored))
}

/// The first check that does not hold.
pub(super) fn first_failed_check(
    staging: &Staging<'_>,
    txn: &Txn,
    now: Timestamp,
) -> Result<Option<u32>, Fault> {
    for (at, condition) in (0_u32..).zip(conditions(txn)) {
        let holds = match condition {
            Condition::Absent(key) => live(staging, key, now)?.is_none(),
            Condition::Present(key) => live(staging, key, now)?.is_some(),
            Condition::At(expected) => live(staging, &expected.key, now)?
                .is_some_and(|row| row.revision == Revision(expected.revision)),
            Condition::Range(range) => range_holds(staging, range, now)?,
        };
        if !holds {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

fn range_holds(staging: &Staging<'_>, check: &RangeCheck, now: Timestamp) -> Result<bool, Fault> {
    let mut print = Fingerprint::new();
    let mut rows = 0_u32;
    let (start, end) = (area::key(area::ROW, &check.start), area::key(area::ROW, &check.end));
    staging.scan(&start, &end, |key, value| {
        let stored = Stored::decode(value)?;
        if stored.is_live(now) {
            rows += 1;
            print.row(&key[1..], stored.revision.0);
        }
        Ok(rows <= check.rows)
    })?;
    Ok(rows == check.rows && print.finish() == check.fingerprint)
}

/// The rows that the ops leave, one for each key written, in key order; their
/// revision is set when they are written.
pub(super) fn resolve(
    staging: &Staging<'_>,
    txn: &Txn,
    now: Timestamp,
) -> Result<Vec<Changed>, Fault> {
    // What ops do to a key depends on those before them of the same key alone: so they
    // are taken key by key.
    let mut ordered: Vec<&Effect> = effects(txn).collect();
    ordered.sort_by(|one, other| one.key().cmp(other.key()));
    let mut rows: Vec<Changed> = Vec::with_capacity(ordered.len());
    let expiry = |at: u64| Some(at).filter(|at| *at != 0).map(Timestamp);
    for effect in ordered {
        let before = rows.pop_if(|(key, _)| key == effect.key());
        let row = match effect {
            Effect::Put(put) => Some(Stored {
                revision: Revision::default(),
                expires_at: expiry(put.expires_at),
                value: put.value.clone(),
            }),
            Effect::Delete(_) => None,
            Effect::Add(add) => {
                let old = match before {
                    Some((_, row)) => row.filter(|row| row.is_live(now)),
                    None => live(staging, &add.key, now)?,
                };
                let sum =
                    row::counter(old.as_ref().map(|old| &old.value)).saturating_add(add.delta);
                Some(Stored {
                    revision: Revision::default(),
                    expires_at: match old {
                        Some(old) => old.expires_at,
                        None => expiry(add.expires_at),
                    },
                    value: Bytes::copy_from_slice(&sum.to_be_bytes()),
                })
            }
        };
        rows.push((effect.key().clone(), row));
    }
    Ok(rows)
}
