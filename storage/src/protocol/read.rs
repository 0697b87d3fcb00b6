//! Reading over shards.
//!
//! Each shard is read in one snapshot of rows and locks, taken after the index
//! wait. About each transaction met that holds a row read, its decider is asked,
//! at a read index requested after the read began:
//!
//! - committed: the prepared row is what counts;
//! - aborted, or undecided: the old row counts;
//! - unknown: the decider has forgotten it, so either it is finished here, or it
//!   never committed. A new snapshot tells: a lock still there never committed.
//!
//! A read of more than one key that learned of a commit takes a new snapshot and
//! asks again about what was undecided, until a round brings nothing new. A commit
//! that takes a row from a list that the limit cut short is finished first: who goes
//! through a list in pages goes on behind its last row.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::future::{join_all, try_join_all};

use super::{
    plan::slot,
    settle,
    shards::{Freshness, ShardId, ShardRead, ShardSeen, Shards, Terms},
};
use crate::{
    engine::Order,
    error::StoreError,
    machine::view::Pending,
    store::{Consistency, Read, ReadAnswer, ReadRequest, Rows, SCAN_ROWS_MAX, Snaptoken},
    txn::{Outcome, RequestId},
};

/// Rounds of asking after which a read is given up.
const ROUNDS_MAX: u32 = 32;
/// Most reads in one request.
const READS_MAX: usize = 1024;

pub(super) struct Reader {
    pub(super) shards: Arc<dyn Shards>,
}

impl Reader {
    pub(super) async fn read(&self, request: ReadRequest) -> Result<ReadAnswer, StoreError> {
        legal(&request)?;
        for _ in 0..ROUNDS_MAX {
            let mut by_shard: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
            for (at, read) in request.reads.iter().enumerate() {
                let place = match read {
                    Read::Get(key) => key.as_bytes(),
                    Read::Scan(scan) => &scan.range.start,
                };
                by_shard.entry(self.shards.locate(slot(place)?)?).or_default().push(at);
            }
            let reads = by_shard.iter().map(|(shard, which)| {
                let reads = which.iter().map(|at| request.reads[*at].clone()).collect();
                self.read_shard(*shard, reads, &request)
            });
            let Some(seen) = try_join_all(reads).await?.into_iter().collect::<Option<Vec<_>>>()
            else {
                self.shards.refresh().await;
                continue;
            };
            return Ok(self.answer(&request, &by_shard, seen));
        }
        Err(StoreError::unavailable("slots move faster than they are found"))
    }

    fn answer(
        &self,
        request: &ReadRequest,
        by_shard: &BTreeMap<ShardId, Vec<usize>>,
        seen: Vec<ShardSeen>,
    ) -> ReadAnswer {
        let mut answer = ReadAnswer {
            results: vec![Rows::default(); request.reads.len()],
            snaptoken: Snaptoken { incarnation: self.shards.incarnation(), ..Snaptoken::default() },
            time: crate::clock::Timestamp::default(),
        };
        for ((shard, which), shard_seen) in by_shard.iter().zip(seen) {
            answer.snaptoken.note(shard.0, shard_seen.revision);
            answer.time = answer.time.max(shard_seen.time);
            for (at, rows) in which.iter().zip(shard_seen.seen.results) {
                answer.results[*at] = rows;
            }
        }
        answer
    }

    /// Reads one shard; `None` if slots have moved.
    async fn read_shard(
        &self,
        shard: ShardId,
        reads: Vec<Read>,
        request: &ReadRequest,
    ) -> Result<Option<ShardSeen>, StoreError> {
        let mut freshness = freshness(shard, &request.consistency, &request.seen);
        let several = reads.len() > 1 || matches!(reads.first(), Some(Read::Scan(_)));
        let (mut committed, mut dead) = (BTreeSet::new(), BTreeSet::new());
        for _ in 0..ROUNDS_MAX {
            let read = ShardRead { reads: reads.clone(), fates: Vec::new(), freshness };
            let Some(mut seen) = self.shards.read(shard, read).await? else { return Ok(None) };
            if freshness == Freshness::Eventual {
                return Ok(Some(seen));
            }
            let unknown = self.unasked(&seen.seen.pending, &committed, &dead);
            let answers = join_all(unknown.iter().map(|pending| {
                settle::ask(self.shards.as_ref(), &pending.decider, pending.txn, pending.not_after)
            }))
            .await;
            let (mut learned, mut retake) = (false, false);
            for (pending, answer) in unknown.iter().zip(answers) {
                match answer? {
                    Outcome::Committed { .. } => {
                        committed.insert(pending.txn);
                        learned = true;
                    }
                    Outcome::Unknown => {
                        dead.insert(pending.txn);
                        retake = true;
                    }
                    _ => {}
                }
            }
            let hollows = |pending: &Pending| {
                let of_it = seen.seen.pending.iter().filter(|item| item.txn == pending.txn);
                of_it.into_iter().any(|item| is_hollow(&seen.seen.results, item, seen.time))
            };
            let finish: Vec<Pending> = unique(&seen.seen.pending)
                .into_iter()
                .filter(|pending| committed.contains(&pending.txn))
                .filter(|pending| request.tracked || hollows(pending))
                .cloned()
                .collect();
            if !finish.is_empty() {
                for pending in &finish {
                    settle::finish(
                        self.shards.as_ref(),
                        shard,
                        pending.txn,
                        pending.not_after,
                        true,
                        Terms::BYPASS,
                    )
                    .await?;
                }
                retake = true;
            }
            if retake || learned && several {
                if retake {
                    freshness = Freshness::Strong;
                }
                continue;
            }
            let pending = std::mem::take(&mut seen.seen.pending);
            for item in pending.into_iter().filter(|item| committed.contains(&item.txn)) {
                overlay(&reads[item.read], &mut seen.seen.results, item, seen.time);
            }
            return Ok(Some(seen));
        }
        Err(StoreError::unavailable("locks change faster than they are asked about"))
    }

    /// One of each transaction whose fate is not known yet.
    fn unasked(
        &self,
        pending: &[Pending],
        committed: &BTreeSet<RequestId>,
        dead: &BTreeSet<RequestId>,
    ) -> Vec<Pending> {
        unique(pending)
            .into_iter()
            .filter(|item| !committed.contains(&item.txn) && !dead.contains(&item.txn))
            .cloned()
            .collect()
    }
}

/// How fresh a shard must be for a consistency, if it was seen before.
pub(super) fn freshness(shard: ShardId, consistency: &Consistency, seen: &Snaptoken) -> Freshness {
    match consistency {
        Consistency::Eventual => Freshness::Eventual,
        Consistency::Bounded(age) => Freshness::Bounded(*age),
        Consistency::AtLeast(token) => {
            token.revision(shard.0).map_or(Freshness::Eventual, Freshness::AtLeast)
        }
        Consistency::Strong => seen.revision(shard.0).map_or(Freshness::Strong, Freshness::AtLeast),
    }
}

fn unique(pending: &[Pending]) -> Vec<&Pending> {
    let mut met = BTreeSet::new();
    pending.iter().filter(|item| met.insert(item.txn)).collect()
}

fn legal(request: &ReadRequest) -> Result<(), StoreError> {
    if request.reads.len() > READS_MAX {
        return Err(StoreError::TooLarge {
            what: "number of reads",
            size: request.reads.len(),
            limit: READS_MAX,
        });
    }
    for read in &request.reads {
        if let Read::Scan(scan) = read {
            if scan.limit > SCAN_ROWS_MAX || scan.limit == 0 {
                return Err(StoreError::Illegal("a scan without a limit within bounds"));
            }
            if scan.range.slot().is_none() && scan.range.start < scan.range.end {
                return Err(StoreError::Illegal("a scan over more than one slot"));
            }
        }
    }
    Ok(())
}

/// Whether a transaction takes a row from a list that was cut short. Without it the
/// list would be shorter than asked for, or empty, and yet not at its end.
fn is_hollow(results: &[Rows], item: &Pending, now: crate::clock::Timestamp) -> bool {
    let rows = &results[item.read];
    rows.more
        && item.row.as_ref().is_none_or(|row| row.expires_at.is_some_and(|at| at <= now))
        && rows.rows.iter().any(|row| row.key == item.key)
}

/// Lays the row that a committed transaction will leave over what was read.
fn overlay(read: &Read, results: &mut [Rows], item: Pending, now: crate::clock::Timestamp) {
    let rows = &mut results[item.read].rows;
    rows.retain(|row| row.key != item.key);
    let live = item.row.filter(|row| row.expires_at.is_none_or(|at| now < at));
    rows.extend(live);
    match read {
        Read::Scan(scan) if scan.order == Order::Reverse => rows.sort_by(|a, b| b.key.cmp(&a.key)),
        _ => rows.sort_by(|a, b| a.key.cmp(&b.key)),
    }
}
