//! Reads and what they saw, as messages of `proto/cluster.proto`, and back.

use std::time::Duration;

use bytes::Bytes;
use cardea_storage::{
    Fault, Key, KeyRange, Revision, Row, Timestamp,
    engine::Order,
    machine::view::{Pending, Seen},
    protocol::shards::{Freshness, ShardRead, ShardSeen},
    store::{Change, Read, Rows, Scan},
    txn::{Outcome, RequestId},
};

use crate::service::proto;

/// The message of a read.
pub(crate) fn read_request(
    caller: proto::Caller,
    group: u64,
    read: &ShardRead,
) -> proto::ReadRequest {
    use proto::freshness::Kind;
    let kind = match read.freshness {
        Freshness::Strong => Kind::Strong(true),
        Freshness::AtLeast(revision) => Kind::AtLeast(revision.0),
        Freshness::Bounded(age) => {
            Kind::BoundedMs(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
        }
        Freshness::Eventual => Kind::Eventual(true),
    };
    proto::ReadRequest {
        caller: Some(caller),
        group,
        reads: read.reads.iter().map(row_read).collect(),
        fates: read
            .fates
            .iter()
            .map(|(txn, not_after)| proto::FateQuestion {
                txn: txn.to_bytes(),
                not_after: not_after.0,
            })
            .collect(),
        freshness: Some(proto::Freshness { kind: Some(kind) }),
    }
}

fn row_read(read: &Read) -> proto::RowRead {
    use proto::row_read::What;
    let what = match read {
        Read::Get(key) => What::Get(key.as_bytes().clone()),
        Read::Scan(scan) => What::Scan(proto::Scan {
            start: scan.range.start.clone(),
            end: scan.range.end.clone(),
            limit: scan.limit,
            reverse: scan.order == Order::Reverse,
        }),
    };
    proto::RowRead { what: Some(what) }
}

/// The read that a message asks for; `None` if it is malformed.
pub(crate) fn shard_read(request: proto::ReadRequest) -> Option<ShardRead> {
    use proto::{freshness::Kind, row_read::What};
    let freshness = match request.freshness?.kind? {
        Kind::Strong(_) => Freshness::Strong,
        Kind::AtLeast(revision) => Freshness::AtLeast(Revision(revision)),
        Kind::BoundedMs(ms) => Freshness::Bounded(Duration::from_millis(ms)),
        Kind::Eventual(_) => Freshness::Eventual,
    };
    let read = |read: proto::RowRead| {
        Some(match read.what? {
            What::Get(key) => Read::Get(Key::from_bytes(key)?),
            What::Scan(scan) => Read::Scan(Scan {
                range: KeyRange { start: scan.start, end: scan.end },
                limit: scan.limit,
                order: if scan.reverse { Order::Reverse } else { Order::Forward },
            }),
        })
    };
    let fate = |fate: proto::FateQuestion| {
        Some((RequestId::from_slice(&fate.txn)?, Timestamp(fate.not_after)))
    };
    Some(ShardRead {
        reads: request.reads.into_iter().map(read).collect::<Option<_>>()?,
        fates: request.fates.into_iter().map(fate).collect::<Option<_>>()?,
        freshness,
    })
}

/// The message of what was seen.
pub(crate) fn seen_message(seen: ShardSeen) -> proto::Seen {
    proto::Seen {
        results: seen
            .seen
            .results
            .into_iter()
            .map(|rows| proto::Rows {
                rows: rows.rows.into_iter().map(row_message).collect(),
                more: rows.more,
            })
            .collect(),
        pending: seen.seen.pending.into_iter().map(pending_message).collect(),
        fates: seen.fates.iter().map(Outcome::encode).collect(),
        revision: seen.revision.0,
        time: seen.time.0,
    }
}

fn row_message(row: Row) -> proto::Row {
    proto::Row {
        key: row.key.as_bytes().clone(),
        value: row.value,
        revision: row.revision.map(|revision| revision.0),
        expires_at: row.expires_at.map(|at| at.0),
    }
}

fn pending_message(pending: Pending) -> proto::Pending {
    proto::Pending {
        read: u32::try_from(pending.read).unwrap_or(u32::MAX),
        txn: pending.txn.to_bytes(),
        decider: pending.decider,
        not_after: pending.not_after.0,
        key: pending.key.as_bytes().clone(),
        row: pending.row.map(row_message),
    }
}

/// What a message says was seen.
///
/// # Errors
/// A fault if it is malformed.
pub(crate) fn shard_seen(message: proto::Seen) -> Result<ShardSeen, Fault> {
    let results = message
        .results
        .into_iter()
        .map(|rows| {
            let read = rows.rows.into_iter().map(row).collect::<Result<_, _>>()?;
            Ok(Rows { rows: read, more: rows.more })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    let pending = message.pending.into_iter().map(pending).collect::<Result<Vec<_>, Fault>>()?;
    if pending.iter().any(|item| item.read >= results.len()) {
        return Err(Fault::new("a pending row of no read"));
    }
    Ok(ShardSeen {
        seen: Seen { results, pending },
        fates: message
            .fates
            .iter()
            .map(|bytes| Outcome::decode(bytes))
            .collect::<Result<_, _>>()?,
        revision: Revision(message.revision),
        time: Timestamp(message.time),
    })
}

/// The message of what a revision changed.
pub(crate) fn changes_message(revision: Revision, changes: &[Change]) -> proto::Changes {
    let row = |change: &Change| proto::RowChange {
        key: change.key.as_bytes().clone(),
        row: change.row.clone().map(row_message),
    };
    proto::Changes { revision: revision.0, rows: changes.iter().map(row).collect() }
}

/// What a message says was changed.
///
/// # Errors
/// A fault if it is malformed.
pub(crate) fn changes(message: proto::Changes) -> Result<Vec<Change>, Fault> {
    let revision = Revision(message.revision);
    let change = |change: proto::RowChange| {
        Ok(Change { key: key(change.key)?, row: change.row.map(row).transpose()?, revision })
    };
    message.rows.into_iter().map(change).collect()
}

fn key(bytes: Bytes) -> Result<Key, Fault> {
    Key::from_bytes(bytes).ok_or_else(|| Fault::new("a key from another node has no header"))
}

fn row(row: proto::Row) -> Result<Row, Fault> {
    Ok(Row {
        key: key(row.key)?,
        value: row.value,
        revision: row.revision.map(Revision),
        expires_at: row.expires_at.map(Timestamp),
    })
}

fn pending(message: proto::Pending) -> Result<Pending, Fault> {
    Ok(Pending {
        read: usize::try_from(message.read).unwrap_or(usize::MAX),
        txn: RequestId::from_slice(&message.txn)
            .ok_or_else(|| Fault::new("a pending row of no transaction"))?,
        decider: message.decider,
        not_after: Timestamp(message.not_after),
        key: key(message.key)?,
        row: message.row.map(row).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use cardea_storage::{Slot, Space, Tag, Tenant, key::KeyWriter};

    use super::*;

    fn a_key(number: u64) -> Key {
        let mut writer = KeyWriter::new(Slot::new(Space::Home, 1), Tag::TEST, Tenant(0));
        writer.u64(number);
        writer.finish()
    }

    #[test]
    fn reads_survive_the_wire() {
        let range = KeyWriter::new(Slot::new(Space::Home, 1), Tag::TEST, Tenant(0)).range();
        for freshness in [
            Freshness::Strong,
            Freshness::AtLeast(Revision(0)),
            Freshness::Bounded(Duration::ZERO),
            Freshness::Eventual,
        ] {
            let read = ShardRead {
                reads: vec![
                    Read::Get(a_key(1)),
                    Read::Scan(Scan { range: range.clone(), limit: 7, order: Order::Reverse }),
                ],
                fates: vec![(RequestId([3; 16]), Timestamp(4))],
                freshness,
            };
            let message = read_request(proto::Caller::default(), 5, &read);
            assert_eq!(shard_read(message), Some(read));
        }
        assert_eq!(shard_read(proto::ReadRequest::default()), None);
    }

    #[test]
    fn changes_survive_the_wire() {
        let revision = Revision(7);
        let row = Row {
            key: a_key(1),
            value: Bytes::from_static(b"v"),
            revision: Some(revision),
            expires_at: None,
        };
        let changed = vec![
            Change { key: a_key(1), row: Some(row), revision },
            Change { key: a_key(2), row: None, revision },
        ];
        assert_eq!(changes(changes_message(revision, &changed)).unwrap(), changed);
        let mut stray = changes_message(revision, &changed);
        stray.rows[0].key = Bytes::new();
        assert!(changes(stray).is_err());
    }

    #[test]
    fn what_was_seen_survives_the_wire() {
        let row = |revision| Row {
            key: a_key(1),
            value: Bytes::from_static(b"v"),
            revision,
            expires_at: Some(Timestamp(9)),
        };
        let seen = ShardSeen {
            seen: Seen {
                results: vec![Rows { rows: vec![row(Some(Revision(0)))], more: true }],
                pending: vec![Pending {
                    read: 0,
                    txn: RequestId([1; 16]),
                    decider: Bytes::from_static(b"d"),
                    not_after: Timestamp(2),
                    key: a_key(1),
                    row: Some(row(None)),
                }],
            },
            fates: vec![Outcome::Aborted],
            revision: Revision(3),
            time: Timestamp(4),
        };
        assert_eq!(shard_seen(seen_message(seen.clone())).unwrap(), seen);
        let mut stray = seen_message(seen);
        stray.pending[0].read = 1;
        assert!(shard_seen(stray).is_err());
    }
}
