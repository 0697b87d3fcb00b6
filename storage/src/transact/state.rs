//! What a transaction under way has read and written, and the draft that comes of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use crate::{
    clock::Timestamp,
    engine::Order,
    key::{Key, KeyRange},
    planted::{self, Bug},
    row::Row,
    store::{Consistency, Draft, Rows, Snaptoken},
    table::IndexRow,
    txn::{Add, At, Condition, Effect, Fingerprint, Put, RangeCheck},
};

pub(super) struct State {
    pub(super) freshness: Freshness,
    /// Where the reads so far stood.
    pub(super) seen: Snaptoken,
    /// Where those of them stood that were as fresh as asked, when they were made.
    pub(super) confirmed: Snaptoken,
    pub(super) read_time: Timestamp,
    /// The time by which the reads so far judged expiry.
    pub(super) judged_at: Option<Timestamp>,
    pub(super) reads: u32,
    /// Whether indexes that are not whole are read as they are.
    pub(super) partial: bool,
    /// Point reads that become checks; what was seen.
    pub(super) points: BTreeMap<Key, Option<Row>>,
    pub(super) ranges: Vec<RangeCheck>,
    pub(super) absent: Vec<Key>,
    /// Writes by key, the last wins; counters apart, for they add up.
    pub(super) writes: BTreeMap<Key, Write>,
    pub(super) adds: Vec<Add>,
}

/// How fresh the reads of an attempt are.
#[derive(Clone)]
pub(super) enum Freshness {
    /// What becomes a check: whatever the nearest replica has. The rest: strong.
    Optimistic,
    /// All alike.
    Named(Consistency),
}

#[derive(Clone)]
pub(super) enum Write {
    Put { value: Bytes, expires_at: Option<Timestamp> },
    Delete,
}

impl State {
    /// Nothing read or written yet.
    pub(super) fn new(freshness: Freshness, began: Timestamp) -> Self {
        Self {
            freshness,
            seen: Snaptoken::default(),
            confirmed: Snaptoken::default(),
            read_time: began,
            judged_at: None,
            reads: 0,
            partial: false,
            points: BTreeMap::new(),
            ranges: Vec::new(),
            absent: Vec::new(),
            writes: BTreeMap::new(),
            adds: Vec::new(),
        }
    }

    /// What this transaction itself wrote at a key: nothing, a row or a deletion.
    pub(super) fn written(&self, key: &Key) -> Option<Option<Row>> {
        self.writes.get(key).map(|write| match write {
            Write::Delete => None,
            Write::Put { value, expires_at } => Some(Row {
                key: key.clone(),
                value: value.clone(),
                revision: None,
                expires_at: *expires_at,
            }),
        })
    }

    pub(super) fn put(
        &mut self,
        key: Key,
        record: &impl Message,
        expires_at: Option<Timestamp>,
        index_rows: Vec<IndexRow>,
    ) {
        let value = Bytes::from(record.encode_to_vec());
        self.writes.insert(key, Write::Put { value, expires_at });
        let expires_at = expires_at.filter(|_| !planted::is(Bug::IndexOutlived));
        for row in index_rows {
            self.writes.insert(row.key, Write::Put { value: row.value, expires_at });
        }
    }

    pub(super) fn draft(&self) -> Draft {
        let points = self.points.iter().map(|(key, row)| {
            let key = key.as_bytes().clone();
            match row.as_ref().map(|row| row.revision) {
                None => Condition::Absent(key),
                Some(Some(revision)) => Condition::At(At { key, revision: revision.0 }),
                Some(None) => Condition::Present(key),
            }
        });
        let absent = self
            .absent
            .iter()
            .filter(|key| !self.points.contains_key(key))
            .map(|key| Condition::Absent(key.as_bytes().clone()));
        let ranges = self.ranges.iter().cloned().map(Condition::Range);
        let writes = self.writes.iter().map(|(key, write)| {
            let key = key.as_bytes().clone();
            match write {
                Write::Delete => Effect::Delete(key),
                Write::Put { value, expires_at } => Effect::Put(Put {
                    key,
                    value: value.clone(),
                    expires_at: expires_at.map_or(0, Timestamp::as_millis),
                }),
            }
        });
        let adds = self.adds.iter().cloned().map(Effect::Add);
        Draft {
            checks: points.chain(absent).chain(ranges).map(Into::into).collect(),
            ops: writes.chain(adds).map(Into::into).collect(),
            read_time: self.read_time,
            claimant: 0,
        }
    }
}

pub(super) fn range_check(range: &KeyRange, rows: &Rows, order: Order) -> RangeCheck {
    let (mut start, mut end) = (range.start.clone(), range.end.clone());
    if let (true, Some(last)) = (rows.more, rows.rows.last()) {
        match order {
            Order::Forward => end = last.key.successor(),
            Order::Reverse => start = last.key.as_bytes().clone(),
        }
    }
    let mut print = Fingerprint::new();
    let mut add = |row: &Row| print.row(row.key.as_bytes(), row.revision.map_or(0, |r| r.0));
    match order {
        Order::Forward => rows.rows.iter().for_each(&mut add),
        Order::Reverse => rows.rows.iter().rev().for_each(&mut add),
    }
    RangeCheck {
        start,
        end,
        rows: u32::try_from(rows.rows.len()).unwrap_or(u32::MAX),
        fingerprint: print.finish(),
    }
}
