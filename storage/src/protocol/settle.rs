//! Ending what somebody else left: a lock met, a prepared transaction past its
//! time, a decision that participants have not acknowledged.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::{
    plan::slot,
    shards::{Freshness, ShardId, ShardRead, Shards, Terms},
};
use crate::{
    clock::Timestamp,
    error::StoreError,
    machine::view::Outstanding,
    txn::{
        Outcome, RequestId,
        answer::Lock,
        command::{Acknowledge, Action, Finish, Settle},
    },
};

/// Transactions that a sweep ends at a time: one whose decider is silent holds back
/// few others.
const SWEPT_AT_ONCE: usize = 16;

/// Whether what held a lock is gone now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Yes.
    Ended,
    /// No: undecided, and not past its time.
    Undecided,
}

/// What a transaction's decider knows of it, by a linearizable read.
pub(super) async fn ask(
    shards: &dyn Shards,
    decider: &[u8],
    txn: RequestId,
    not_after: Timestamp,
) -> Result<Outcome, StoreError> {
    let shard = shards.locate(slot(decider)?)?;
    let read = ShardRead {
        reads: Vec::new(),
        fates: vec![(txn, not_after)],
        freshness: Freshness::Strong,
    };
    let seen = shards.read(shard, read).await?;
    Ok(seen.and_then(|seen| seen.fates.into_iter().next()).unwrap_or(Outcome::Undecided))
}

/// Settles the holder of a lock that was met at `shard`.
///
/// # Errors
/// See [`StoreError`]; nothing is lost by trying again.
pub async fn settle_lock(
    shards: &Arc<dyn Shards>,
    shard: ShardId,
    lock: &Lock,
    now: Timestamp,
) -> Result<Settled, StoreError> {
    let mut fate = ask(shards.as_ref(), &lock.decider, lock.txn, lock.not_after).await?;
    if fate == Outcome::Undecided && now > lock.not_after {
        fate =
            end_at_decider(shards.as_ref(), &lock.decider, lock.txn, lock.not_after, false).await?;
    }
    let commit = match fate {
        Outcome::Committed { .. } => true,
        // What the decider has forgotten never committed here: a decision lives
        // until this shard acknowledged its finish.
        Outcome::Aborted | Outcome::Unknown => false,
        _ => return Ok(Settled::Undecided),
    };
    finish(shards.as_ref(), shard, lock.txn, lock.not_after, commit, Terms::BYPASS).await?;
    Ok(Settled::Ended)
}

/// Has the decider tell, through its log, the fate of a transaction, and abort it
/// if `refused` or past its `not_after`.
pub(super) async fn end_at_decider(
    shards: &dyn Shards,
    decider: &[u8],
    txn: RequestId,
    not_after: Timestamp,
    refused: bool,
) -> Result<Outcome, StoreError> {
    let shard = shards.locate(slot(decider)?)?;
    let action =
        Action::Settle(Settle { request_id: txn.to_bytes(), not_after: not_after.0, refused });
    shards.propose(shard, action, Terms::BYPASS).await
}

/// Releases a prepared transaction at a shard.
pub(super) async fn finish(
    shards: &dyn Shards,
    shard: ShardId,
    txn: RequestId,
    not_after: Timestamp,
    commit: bool,
    terms: Terms,
) -> Result<Outcome, StoreError> {
    let action =
        Action::Finish(Finish { request_id: txn.to_bytes(), not_after: not_after.0, commit });
    shards.propose(shard, action, terms).await
}

/// Finishes a committed transaction on its participants, and has the decider
/// forget those that did; says how many they were. Claims end with their finish. What fails here is swept later.
pub(super) async fn finish_participants(
    shards: &dyn Shards,
    decider: &[u8],
    txn: RequestId,
    not_after: Timestamp,
    participants: &[Bytes],
    terms: Terms,
) -> Result<usize, StoreError> {
    let finishes = participants.iter().map(|place| async move {
        let shard = shards.locate(slot(place)?)?;
        finish(shards, shard, txn, not_after, true, terms).await.map(|_| place.clone())
    });
    let finished: Vec<Bytes> =
        futures::future::join_all(finishes).await.into_iter().flatten().collect();
    let count = finished.len();
    if count == 0 {
        return Ok(0);
    }
    let acknowledge =
        Action::Acknowledge(Acknowledge { request_id: txn.to_bytes(), participants: finished });
    let shard = shards.locate(slot(decider)?)?;
    shards.propose(shard, acknowledge, Terms::BYPASS).await.map(|_| count)
}

/// Ends what is outstanding at a shard, as its leader does now and then: prepared
/// transactions past their `not_after`, and decisions not yet acknowledged. What
/// cannot be ended now holds nothing else back.
///
/// # Errors
/// The first error; what was not ended is met by the next sweep.
pub async fn sweep(
    shards: &Arc<dyn Shards>,
    shard: ShardId,
    place: &[u8],
    outstanding: Vec<Outstanding>,
    now: Timestamp,
) -> Result<u32, StoreError> {
    let ends: Vec<_> =
        outstanding.into_iter().map(|item| end(shards, shard, place, item, now)).collect();
    let mut ends = stream::iter(ends).buffered(SWEPT_AT_ONCE);
    let (mut ended, mut failed) = (0, None);
    while let Some(end) = ends.next().await {
        match end {
            Ok(is_ended) => ended += u32::from(is_ended),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(ended), Err)
}

/// Ends one; whether it is ended.
async fn end(
    shards: &Arc<dyn Shards>,
    shard: ShardId,
    place: &[u8],
    item: Outstanding,
    now: Timestamp,
) -> Result<bool, StoreError> {
    match item {
        Outstanding::Prepared { txn, decider, not_after } if now > not_after => {
            let lock = Lock { txn, decider, not_after };
            Ok(settle_lock(shards, shard, &lock, now).await? == Settled::Ended)
        }
        Outstanding::Prepared { .. } => Ok(false),
        Outstanding::Decided { txn, not_after, participants } => {
            let finished = finish_participants(
                shards.as_ref(),
                place,
                txn,
                not_after,
                &participants,
                Terms::BYPASS,
            )
            .await?;
            Ok(finished == participants.len())
        }
    }
}
