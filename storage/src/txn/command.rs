//! Commands: the entries of a shard's log.

use bytes::Bytes;
use prost::{Message, Oneof};

use super::Txn;

/// An entry of a shard's log.
#[derive(Clone, PartialEq, Message)]
pub struct Command {
    /// The proposing leader's time, in milliseconds; apply clamps it.
    #[prost(uint64, tag = "1")]
    pub stamp: u64,
    /// The cluster version under which it was proposed.
    #[prost(uint32, tag = "2")]
    pub version: u32,
    /// What to do.
    #[prost(oneof = "Action", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13")]
    pub action: Option<Action>,
}

/// What a command does.
#[derive(Clone, PartialEq, Oneof)]
pub enum Action {
    /// A transaction of one shard: validate and apply.
    #[prost(message, tag = "3")]
    Commit(Txn),
    /// Validate, lock, keep the rows to be.
    #[prost(message, tag = "4")]
    Prepare(Prepare),
    /// Validate and apply the decider's part, and record the decision.
    #[prost(message, tag = "5")]
    Decide(Decide),
    /// Tell, or bring about, the fate of a transaction at its decider.
    #[prost(message, tag = "6")]
    Settle(Settle),
    /// Release a prepared transaction, with or without its effects.
    #[prost(message, tag = "7")]
    Finish(Finish),
    /// Note that a participant finished.
    #[prost(message, tag = "8")]
    Acknowledge(Acknowledge),
    /// Move log time, farther than a stamp may.
    #[prost(message, tag = "9")]
    Time(Time),
    /// Refuse new prepares until the log time given; 0 lifts the fence.
    #[prost(message, tag = "10")]
    Fence(Fence),
    /// Take slots into, or out of, what this group owns.
    #[prost(message, tag = "11")]
    Own(Own),
    /// Raise the cluster version that this group honours.
    #[prost(message, tag = "12")]
    Raise(Raise),
    /// Several commands, one after another. Not within another.
    #[prost(message, tag = "13")]
    Pack(Pack),
}

/// See [`Action::Prepare`].
#[derive(Clone, PartialEq, Message)]
pub struct Prepare {
    /// This participant's checks and ops.
    #[prost(message, optional, tag = "1")]
    pub txn: Option<Txn>,
    /// A key in the deciding shard: deciders are named by key, for slots move.
    #[prost(bytes = "bytes", tag = "2")]
    pub decider: Bytes,
}

/// See [`Action::Decide`].
#[derive(Clone, PartialEq, Message)]
pub struct Decide {
    /// The decider's checks and ops.
    #[prost(message, optional, tag = "1")]
    pub txn: Option<Txn>,
    /// A key in each participant.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub participants: Vec<Bytes>,
}

/// See [`Action::Settle`].
#[derive(Clone, PartialEq, Message)]
pub struct Settle {
    /// The transaction.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// Its `not_after`.
    #[prost(uint64, tag = "2")]
    pub not_after: u64,
    /// Asked by who saw a refusal: abort it at once, not only past `not_after`.
    #[prost(bool, tag = "3")]
    pub refused: bool,
}

/// See [`Action::Finish`].
#[derive(Clone, PartialEq, Message)]
pub struct Finish {
    /// The transaction.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// Its `not_after`.
    #[prost(uint64, tag = "2")]
    pub not_after: u64,
    /// Whether the decider committed it.
    #[prost(bool, tag = "3")]
    pub commit: bool,
}

/// See [`Action::Acknowledge`].
#[derive(Clone, PartialEq, Message)]
pub struct Acknowledge {
    /// The transaction.
    #[prost(bytes = "bytes", tag = "1")]
    pub request_id: Bytes,
    /// The participants that finished, by the key that named each.
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub participants: Vec<Bytes>,
}

/// See [`Action::Time`]: the stamp of the command was confirmed by a majority.
#[derive(Clone, PartialEq, Message)]
pub struct Time {}

/// See [`Action::Fence`].
#[derive(Clone, PartialEq, Message)]
pub struct Fence {
    /// When the fence lapses, in milliseconds of log time; 0 lifts it.
    #[prost(uint64, tag = "1")]
    pub until: u64,
}

/// See [`Action::Own`].
#[derive(Clone, PartialEq, Message)]
pub struct Own {
    /// The slot ranges that the group owns from now on, as pairs of first and
    /// last bits.
    #[prost(uint32, repeated, tag = "1")]
    pub ranges: Vec<u32>,
    /// The group's base: added to log indexes to give revisions. Only the first
    /// such command of a group sets it.
    #[prost(uint64, tag = "2")]
    pub base: u64,
}

/// See [`Action::Raise`].
#[derive(Clone, PartialEq, Message)]
pub struct Raise {
    /// The new version.
    #[prost(uint32, tag = "1")]
    pub version: u32,
}

/// See [`Action::Pack`] and [`pack`](super::pack).
#[derive(Clone, PartialEq, Message)]
pub struct Pack {
    /// Encoded [`Command`]s, in order.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub commands: Vec<Bytes>,
}

impl Command {
    /// A command stamped with this time, in milliseconds, under version 1.
    pub fn new(stamp: u64, action: Action) -> Self {
        Self { stamp, version: 1, action: Some(action) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_commands_are_frozen() {
        let id = || Bytes::from_static(b"i");
        let key = || Bytes::from_static(b"k");
        let txn = || Some(Txn { not_after: 2, ..Txn::default() });
        let frozen: [(Action, &str); 11] = [
            (Action::Commit(txn().unwrap()), "080110011a021802"),
            (Action::Prepare(Prepare { txn: txn(), decider: key() }), "0801100122070a02180212016b"),
            (
                Action::Decide(Decide { txn: txn(), participants: vec![key()] }),
                "080110012a070a02180212016b",
            ),
            (
                Action::Settle(Settle { request_id: id(), not_after: 2, refused: true }),
                "0801100132070a016910021801",
            ),
            (
                Action::Finish(Finish { request_id: id(), not_after: 2, commit: true }),
                "080110013a070a016910021801",
            ),
            (
                Action::Acknowledge(Acknowledge { request_id: id(), participants: vec![key()] }),
                "0801100142060a016912016b",
            ),
            (Action::Time(Time {}), "080110014a00"),
            (Action::Fence(Fence { until: 3 }), "0801100152020803"),
            (Action::Own(Own { ranges: vec![0, 4095], base: 9 }), "080110015a070a0300ff1f1009"),
            (Action::Raise(Raise { version: 2 }), "0801100162020802"),
            (Action::Pack(Pack { commands: vec![key(), id()] }), "080110016a060a016b0a0169"),
        ];
        for (action, expected) in frozen {
            let bytes = Command::new(1, action).encode_to_vec();
            let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(hex, expected);
        }
    }
}
