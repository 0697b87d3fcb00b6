//! Locks, and the prepared rows behind them. Both are rows, so a snapshot of the
//! engine shows data and locks of one instant. Neither expires: only a decision
//! releases them.

use bytes::{Buf, Bytes};
use prost::Message;

use super::staging::Staging;
use crate::{
    clock::Timestamp,
    fault::Fault,
    row::{Revision, Stored},
    txn::{Condition, RequestId, Txn, answer::Lock},
};

/// Who holds a lock.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Holder {
    /// The transaction.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// A key in the shard that decides it.
    #[prost(bytes = "bytes", tag = "2")]
    pub decider: Bytes,
    /// Its `not_after`, in milliseconds.
    #[prost(uint64, tag = "3")]
    pub not_after: u64,
}

/// The locks on a key: one who will write it, or any number who checked it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct LockRow {
    /// Who will write the key.
    #[prost(message, optional, tag = "1")]
    pub exclusive: Option<Holder>,
    /// Who checked the key.
    #[prost(message, repeated, tag = "2")]
    pub shared: Vec<Holder>,
}

/// A row that a prepared transaction will leave.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PreparedRow {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value; `None` if the row will be deleted.
    #[prost(bytes = "bytes", optional, tag = "2")]
    pub value: Option<Bytes>,
    /// Its expiry, in milliseconds; 0 for none.
    #[prost(uint64, tag = "3")]
    pub expires_at: u64,
}

/// A prepared transaction: what it locked and what it will leave.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Prepared {
    /// A key in the shard that decides it.
    #[prost(bytes = "bytes", tag = "1")]
    pub decider: Bytes,
    /// Its `not_after`, in milliseconds.
    #[prost(uint64, tag = "2")]
    pub not_after: u64,
    /// The revision of the prepare.
    #[prost(uint64, tag = "3")]
    pub revision: u64,
    /// The rows to be; each is locked exclusively.
    #[prost(message, repeated, tag = "4")]
    pub rows: Vec<PreparedRow>,
    /// Keys checked and not written; each is locked shared.
    #[prost(bytes = "bytes", repeated, tag = "5")]
    pub checked: Vec<Bytes>,
}

impl Holder {
    /// The holder as an answer names it.
    ///
    /// # Errors
    /// A fault if the row is corrupt.
    pub fn to_lock(&self) -> Result<Lock, Fault> {
        Ok(Lock {
            txn: RequestId::from_slice(&self.request_id)
                .ok_or_else(|| Fault::new("lock row names no transaction"))?,
            decider: self.decider.clone(),
            not_after: Timestamp(self.not_after),
        })
    }
}

impl LockRow {
    /// Whether nobody holds it.
    pub(super) fn is_free(&self) -> bool {
        self.exclusive.is_none() && self.shared.is_empty()
    }

    /// Somebody other than `own` who holds the key exclusively.
    fn writer(&self, own: &Bytes) -> Option<&Holder> {
        self.exclusive.as_ref().filter(|holder| holder.request_id != own)
    }

    /// Somebody other than `own` who holds the key at all.
    fn anyone(&self, own: &Bytes) -> Option<&Holder> {
        self.writer(own).or_else(|| self.shared.iter().find(|holder| holder.request_id != own))
    }
}

impl PreparedRow {
    /// The row as an engine keeps it, once finished at `revision`.
    pub fn to_stored(&self, revision: Revision) -> Option<Stored> {
        self.value.clone().map(|value| Stored {
            revision,
            expires_at: Some(self.expires_at).filter(|at| *at != 0).map(Timestamp),
            value,
        })
    }
}

pub(crate) fn decode_lock(bytes: impl Buf) -> Result<LockRow, Fault> {
    LockRow::decode(bytes).map_err(|error| Fault::caused("lock row", error))
}

pub(crate) fn decode_prepared(bytes: impl Buf) -> Result<Prepared, Fault> {
    Prepared::decode(bytes).map_err(|error| Fault::caused("prepared transaction", error))
}

/// The first lock of another transaction that is incompatible with `txn`.
pub(super) fn incompatible(staging: &Staging<'_>, txn: &Txn) -> Result<Option<Lock>, Fault> {
    let locks = staging.locks();
    if locks.is_empty() {
        return Ok(None);
    }
    let own = &txn.request_id;
    let mut conditions = txn.checks.iter().filter_map(|check| check.condition.as_ref());
    let checked = conditions.find_map(|condition| match condition {
        Condition::Range(range) if range.start >= range.end => None,
        Condition::Range(range) => {
            locks.range(range.start.clone()..range.end.clone()).find_map(|(_, row)| row.writer(own))
        }
        other => locks.get(other.key()?)?.writer(own),
    });
    let mut effects = txn.ops.iter().filter_map(|op| op.effect.as_ref());
    let met = checked.or_else(|| effects.find_map(|effect| locks.get(effect.key())?.anyone(own)));
    met.map(Holder::to_lock).transpose()
}

/// Locks what a prepared transaction writes and checks, and keeps its rows.
pub(super) fn hold(
    staging: &mut Staging<'_>,
    id: RequestId,
    prepared: &Prepared,
) -> Result<(), Fault> {
    // What is held shares bytes of its own, where this may be a part of a large entry.
    let bytes = Bytes::from(prepared.encode_to_vec());
    let prepared = decode_prepared(bytes.clone())?;
    let holder = Holder {
        request_id: id.to_bytes(),
        decider: prepared.decider.clone(),
        not_after: prepared.not_after,
    };
    for row in &prepared.rows {
        let mut lock = staging.locks().get(&row.key).cloned().unwrap_or_default();
        assert!(lock.anyone(&holder.request_id).is_none(), "an exclusive lock meets another");
        lock.exclusive = Some(holder.clone());
        staging.set_lock(&row.key, lock);
    }
    for key in &prepared.checked {
        let mut lock = staging.locks().get(key).cloned().unwrap_or_default();
        assert!(lock.writer(&holder.request_id).is_none(), "a shared lock meets a writer");
        lock.shared.push(holder.clone());
        staging.set_lock(key, lock);
    }
    staging.put_prepared(id, prepared, bytes);
    Ok(())
}

/// Releases what [`hold`] locked, for a prepared transaction that was
/// [taken out](Staging::take_prepared).
pub(super) fn release(
    staging: &mut Staging<'_>,
    id: RequestId,
    prepared: &Prepared,
) -> Result<(), Fault> {
    let own = id.to_bytes();
    let keys = prepared.rows.iter().map(|row| &row.key).chain(&prepared.checked);
    for key in keys {
        let mut lock = staging
            .locks()
            .get(key)
            .cloned()
            .ok_or_else(|| Fault::new("a prepared transaction has lost a lock"))?;
        if lock.exclusive.as_ref().is_some_and(|holder| holder.request_id == own) {
            lock.exclusive = None;
        }
        lock.shared.retain(|holder| holder.request_id != own);
        staging.set_lock(key, lock);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_lock_rows_are_frozen() {
        let holder = Holder {
            request_id: Bytes::from_static(b"i"),
            decider: Bytes::from_static(b"d"),
            not_after: 1,
        };
        let lock = LockRow { exclusive: Some(holder.clone()), shared: vec![holder] };
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(lock.encode_to_vec()),
            "0a080a01691201641801\
                                               12080a01691201641801"
        );
        let prepared = Prepared {
            decider: Bytes::from_static(b"d"),
            not_after: 1,
            revision: 2,
            rows: vec![PreparedRow {
                key: Bytes::from_static(b"k"),
                value: Some(Bytes::from_static(b"v")),
                expires_at: 3,
            }],
            checked: vec![Bytes::from_static(b"c")],
        };
        assert_eq!(hex(prepared.encode_to_vec()), "0a01641001180222080a016b12017618032a0163");
    }
}
