//! Transactions as data: what is replicated, and what comes back.
//!
//! These messages lie in logs and cross versions, so they are protobuf with
//! frozen numbers: fields are added, never reused.

pub mod answer;
pub mod command;
pub mod pack;

use bytes::Bytes;
use prost::{Message, Oneof};

pub use answer::{Answer, Outcome};
pub use command::Command;

use crate::clock::{Entropy, Timestamp};

/// Largest transaction, in encoded bytes.
pub const TXN_BYTES_MAX: usize = 1 << 20;
/// Most shards that one transaction may touch.
pub const TXN_SHARDS_MAX: usize = 8;
/// Furthest `not_after` ahead of the coordinator's clock, in milliseconds.
pub const NOT_AFTER_MS_MAX: u64 = 10_000;
/// How long a receipt outlives `not_after`, in milliseconds of log time.
pub const GRACE_MS: u64 = 60_000;

/// Names one attempt of a transaction; resent bytes keep it, a new attempt
/// after a refusal gets a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub [u8; 16]);

impl std::fmt::Debug for RequestId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl RequestId {
    /// A new one: six bytes of time, ten random ones. What was made together lies
    /// together among the receipts, and expires together.
    pub fn new(now: Timestamp, entropy: &dyn Entropy) -> Self {
        let mut id = [0; 16];
        id[..6].copy_from_slice(&now.0.to_be_bytes()[2..]);
        id[6..].copy_from_slice(&entropy.bytes::<10>());
        Self(id)
    }

    /// Reads the bytes of a message; `None` unless they are sixteen.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The bytes for a message.
    pub fn to_bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

/// A transaction, or the part of one that a shard is to validate and apply.
#[derive(Clone, PartialEq, Message)]
pub struct Txn {
    /// Sixteen bytes, see [`RequestId`].
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// When its reads were made, in milliseconds: log time never falls before it.
    #[prost(uint64, tag = "2")]
    pub read_time: u64,
    /// When it lapses, in milliseconds of each shard's own log time.
    #[prost(uint64, tag = "3")]
    pub not_after: u64,
    /// What must still hold.
    #[prost(message, repeated, tag = "4")]
    pub checks: Vec<Check>,
    /// What it does.
    #[prost(message, repeated, tag = "5")]
    pub ops: Vec<Op>,
}

/// A condition on what was read.
#[derive(Clone, PartialEq, Message)]
pub struct Check {
    /// Which condition.
    #[prost(oneof = "Condition", tags = "1, 2, 3, 4")]
    pub condition: Option<Condition>,
}

/// The conditions.
#[derive(Clone, PartialEq, Oneof)]
pub enum Condition {
    /// No live row has this key.
    #[prost(bytes = "bytes", tag = "1")]
    Absent(Bytes),
    /// A live row has this key.
    #[prost(bytes = "bytes", tag = "2")]
    Present(Bytes),
    /// The live row of this key was written at this revision.
    #[prost(message, tag = "3")]
    At(At),
    /// The live rows of this range are those that were seen.
    #[prost(message, tag = "4")]
    Range(RangeCheck),
}

/// See [`Condition::At`].
#[derive(Clone, PartialEq, Message)]
pub struct At {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// Its revision.
    #[prost(uint64, tag = "2")]
    pub revision: u64,
}

/// See [`Condition::Range`].
#[derive(Clone, PartialEq, Message)]
pub struct RangeCheck {
    /// The first key that may be in the range.
    #[prost(bytes = "bytes", tag = "1")]
    pub start: Bytes,
    /// The first key behind what was seen: the end of the range, or the successor
    /// of the last key seen where a limit cut it short.
    #[prost(bytes = "bytes", tag = "2")]
    pub end: Bytes,
    /// How many live rows were seen; bounds the work of validating.
    #[prost(uint32, tag = "3")]
    pub rows: u32,
    /// See [`Fingerprint`]; sixteen bytes.
    #[prost(bytes = "bytes", tag = "4")]
    pub fingerprint: Bytes,
}

/// A 128-bit hash of keys and revisions, in key order.
#[derive(Default)]
pub struct Fingerprint(blake3::Hasher);

impl Fingerprint {
    /// Of nothing, so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next row.
    pub fn row(&mut self, key: &[u8], revision: u64) {
        self.0.update(&(key.len() as u64).to_be_bytes());
        self.0.update(key);
        self.0.update(&revision.to_be_bytes());
    }

    /// The hash of all rows added.
    pub fn finish(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.finalize().as_bytes()[..16])
    }
}

/// A change.
#[derive(Clone, PartialEq, Message)]
pub struct Op {
    /// Which change.
    #[prost(oneof = "Effect", tags = "1, 2, 3")]
    pub effect: Option<Effect>,
}

/// The changes.
#[derive(Clone, PartialEq, Oneof)]
pub enum Effect {
    /// Sets a row.
    #[prost(message, tag = "1")]
    Put(Put),
    /// Removes a row; an absent one is no error.
    #[prost(bytes = "bytes", tag = "2")]
    Delete(Bytes),
    /// Adds to a counter.
    #[prost(message, tag = "3")]
    Add(Add),
}

/// See [`Effect::Put`].
#[derive(Clone, PartialEq, Message)]
pub struct Put {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// The value.
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
    /// When the row ceases to exist, in milliseconds; 0 for never.
    #[prost(uint64, tag = "3")]
    pub expires_at: u64,
}

/// See [`Effect::Add`]: an absent or expired counter starts from zero with the
/// expiry given here, a live one keeps its own. Sums stop at the bounds of i64.
#[derive(Clone, PartialEq, Message)]
pub struct Add {
    /// The key.
    #[prost(bytes = "bytes", tag = "1")]
    pub key: Bytes,
    /// What is added.
    #[prost(sint64, tag = "2")]
    pub delta: i64,
    /// When a counter that starts now ceases to exist; 0 for never.
    #[prost(uint64, tag = "3")]
    pub expires_at: u64,
}

impl Condition {
    /// The key it is about; `None` for a range.
    pub fn key(&self) -> Option<&Bytes> {
        match self {
            Self::Absent(key) | Self::Present(key) => Some(key),
            Self::At(at) => Some(&at.key),
            Self::Range(_) => None,
        }
    }

    /// The key, or the first key of the range, that places it on a shard.
    pub fn place(&self) -> &Bytes {
        match self {
            Self::Range(range) => &range.start,
            Self::Absent(key) | Self::Present(key) => key,
            Self::At(at) => &at.key,
        }
    }
}

impl Effect {
    /// The key it changes.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(put) => &put.key,
            Self::Delete(key) => key,
            Self::Add(add) => &add.key,
        }
    }
}

impl From<Condition> for Check {
    fn from(condition: Condition) -> Self {
        Self { condition: Some(condition) }
    }
}

impl From<Effect> for Op {
    fn from(effect: Effect) -> Self {
        Self { effect: Some(effect) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_transaction_are_frozen() {
        let key = || Bytes::from_static(b"k");
        let txn = Txn {
            request_id: Bytes::from_static(b"0123456789abcdef"),
            read_time: 1,
            not_after: 2,
            checks: vec![
                Condition::Absent(key()).into(),
                Condition::Present(key()).into(),
                Condition::At(At { key: key(), revision: 3 }).into(),
                Condition::Range(RangeCheck {
                    start: key(),
                    end: Bytes::from_static(b"l"),
                    rows: 4,
                    fingerprint: Bytes::from_static(b"f"),
                })
                .into(),
            ],
            ops: vec![
                Effect::Put(Put { key: key(), value: Bytes::from_static(b"v"), expires_at: 5 })
                    .into(),
                Effect::Delete(key()).into(),
                Effect::Add(Add { key: key(), delta: -6, expires_at: 7 }).into(),
            ],
        };
        let hex: String = txn.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "0a1030313233343536373839616263646566\
             10011802\
             22030a016b\
             220312016b\
             22071a050a016b1003\
             220d220b0a016b12016c1804220166\
             2a0a0a080a016b1201761805\
             2a0312016b\
             2a091a070a016b100b1807"
        );
        assert_eq!(Txn::decode(txn.encode_to_vec().as_slice()).unwrap(), txn);
    }

    #[test]
    fn fingerprints_tell_rows_apart() {
        let of = |rows: &[(&[u8], u64)]| {
            let mut print = Fingerprint::new();
            rows.iter().for_each(|(key, revision)| print.row(key, *revision));
            print.finish()
        };
        assert_eq!(of(&[]), of(&[]));
        assert_ne!(of(&[(b"a", 1)]), of(&[(b"a", 2)]));
        assert_ne!(of(&[(b"ab", 1)]), of(&[(b"a", 1)]));
        assert_ne!(of(&[]), of(&[(b"", 0)]));
    }
}
