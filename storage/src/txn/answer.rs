//! Answers: what apply says to a command. A refusal is an answer, not an error.

use bytes::Bytes;
use prost::{Enumeration, Message};

use super::RequestId;
use crate::{clock::Timestamp, fault::Fault, row::Revision};

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied, at this revision and log time.
    Committed {
        /// The revision of its rows here.
        revision: Revision,
        /// The log time at which it was applied.
        time: Timestamp,
    },
    /// Validated, locked and kept; released only by the decision.
    Prepared {
        /// The revision of the prepare: a token at it settles the lock it meets.
        revision: Revision,
    },
    /// Released with its effects.
    Finished {
        /// The revision of its rows here; `None` if it was not prepared here.
        revision: Option<Revision>,
    },
    /// Will never be applied.
    Aborted,
    /// The acknowledgements were noted.
    Acknowledged,
    /// Not decided yet, and not past its `not_after`.
    Undecided,
    /// A check failed: somebody was faster. A refusal.
    Conflict {
        /// Which check, from 0.
        check: u32,
    },
    /// An incompatible lock was met: settle it with its decider. A refusal.
    Locked(Lock),
    /// Too late: past `not_after`. A refusal.
    Expired,
    /// Nothing is known of it any more; not a refusal.
    Unknown,
    /// A key lies outside the slots of this shard. A refusal.
    Moved,
    /// A backup is cutting: come back after this log time. A refusal.
    Fenced {
        /// When the fence lapses at the latest.
        until: Timestamp,
    },
    /// The command is malformed. A refusal.
    Rejected,
}

/// A lock that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lock {
    /// The transaction that holds it.
    pub txn: RequestId,
    /// A key in the shard that decides it.
    pub decider: Bytes,
    /// Its `not_after`.
    pub not_after: Timestamp,
}

/// The bytes of an [`Outcome`], in receipts and over the wire.
#[derive(Clone, PartialEq, Message)]
pub struct Answer {
    #[prost(enumeration = "Kind", tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    revision: u64,
    #[prost(uint64, tag = "3")]
    time: u64,
    #[prost(uint32, tag = "4")]
    check: u32,
    #[prost(bytes = "bytes", tag = "5")]
    txn: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    decider: Bytes,
    #[prost(uint64, tag = "7")]
    not_after: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
enum Kind {
    Invalid = 0,
    Committed = 1,
    Prepared = 2,
    Finished = 3,
    Aborted = 4,
    Acknowledged = 5,
    Undecided = 6,
    Conflict = 7,
    Locked = 8,
    Expired = 9,
    Unknown = 10,
    Moved = 11,
    Fenced = 12,
    Rejected = 13,
}

impl Outcome {
    /// The outcome as a message.
    pub fn to_answer(&self) -> Answer {
        let of = |kind: Kind| Answer { kind: kind.into(), ..Answer::default() };
        match self {
            Self::Committed { revision, time } => {
                Answer { revision: revision.0, time: time.0, ..of(Kind::Committed) }
            }
            Self::Prepared { revision } => Answer { revision: revision.0, ..of(Kind::Prepared) },
            Self::Finished { revision } => {
                Answer { revision: revision.map_or(0, |r| r.0), ..of(Kind::Finished) }
            }
            Self::Aborted => of(Kind::Aborted),
            Self::Acknowledged => of(Kind::Acknowledged),
            Self::Undecided => of(Kind::Undecided),
            Self::Conflict { check } => Answer { check: *check, ..of(Kind::Conflict) },
            Self::Locked(lock) => Answer {
                txn: lock.txn.to_bytes(),
                decider: lock.decider.clone(),
                not_after: lock.not_after.0,
                ..of(Kind::Locked)
            },
            Self::Expired => of(Kind::Expired),
            Self::Unknown => of(Kind::Unknown),
            Self::Moved => of(Kind::Moved),
            Self::Fenced { until } => Answer { time: until.0, ..of(Kind::Fenced) },
            Self::Rejected => of(Kind::Rejected),
        }
    }

    /// The outcome's bytes.
    pub fn encode(&self) -> Bytes {
        self.to_answer().encode_to_vec().into()
    }

    /// Adds the outcome's bytes to others.
    #[expect(clippy::expect_used, reason = "a vector has room")]
    pub fn encode_to(&self, bytes: &mut Vec<u8>) {
        self.to_answer().encode(bytes).expect("encode an answer");
    }

    /// Reads an outcome's bytes.
    ///
    /// # Errors
    /// A fault if they are none, or of a kind unknown to this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let answer =
            Answer::decode(bytes).map_err(|error| Fault::caused("answer of a command", error))?;
        Self::from_answer(answer)
    }

    /// Reads an outcome out of its message.
    ///
    /// # Errors
    /// A fault if it is of a kind unknown to this version.
    pub fn from_answer(answer: Answer) -> Result<Self, Fault> {
        let kind = Kind::try_from(answer.kind).unwrap_or(Kind::Invalid);
        Ok(match kind {
            Kind::Committed => Self::Committed {
                revision: Revision(answer.revision),
                time: Timestamp(answer.time),
            },
            Kind::Prepared => Self::Prepared { revision: Revision(answer.revision) },
            Kind::Finished => {
                Self::Finished { revision: Some(answer.revision).filter(|r| *r != 0).map(Revision) }
            }
            Kind::Aborted => Self::Aborted,
            Kind::Acknowledged => Self::Acknowledged,
            Kind::Undecided => Self::Undecided,
            Kind::Conflict => Self::Conflict { check: answer.check },
            Kind::Locked => Self::Locked(Lock {
                txn: RequestId::from_slice(&answer.txn)
                    .ok_or_else(|| Fault::new("lock in an answer names no transaction"))?,
                decider: answer.decider,
                not_after: Timestamp(answer.not_after),
            }),
            Kind::Expired => Self::Expired,
            Kind::Unknown => Self::Unknown,
            Kind::Moved => Self::Moved,
            Kind::Fenced => Self::Fenced { until: Timestamp(answer.time) },
            Kind::Rejected => Self::Rejected,
            Kind::Invalid => {
                return Err(Fault::new(format!("answer of unknown kind {}", answer.kind)));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_outcomes_are_frozen() {
        let lock = Lock {
            txn: RequestId([7; 16]),
            decider: Bytes::from_static(b"k"),
            not_after: Timestamp(3),
        };
        let frozen = [
            (Outcome::Committed { revision: Revision(1), time: Timestamp(2) }, "080110011802"),
            (Outcome::Prepared { revision: Revision(1) }, "08021001"),
            (Outcome::Finished { revision: Some(Revision(1)) }, "08031001"),
            (Outcome::Finished { revision: None }, "0803"),
            (Outcome::Aborted, "0804"),
            (Outcome::Acknowledged, "0805"),
            (Outcome::Undecided, "0806"),
            (Outcome::Conflict { check: 1 }, "08072001"),
            (Outcome::Locked(lock), "08082a100707070707070707070707070707070732016b3803"),
            (Outcome::Expired, "0809"),
            (Outcome::Unknown, "080a"),
            (Outcome::Moved, "080b"),
            (Outcome::Fenced { until: Timestamp(2) }, "080c1802"),
            (Outcome::Rejected, "080d"),
        ];
        for (outcome, expected) in frozen {
            let bytes = outcome.encode();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected, "{outcome:?}");
            assert_eq!(Outcome::decode(&bytes).unwrap(), outcome);
        }
        assert!(Outcome::decode(b"\x08\x63").is_err());
    }
}
