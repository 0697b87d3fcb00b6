//! Committing a transaction.
//!
//! 1. Divide it. One shard: a single command is all.
//! 2. Prepare on every participant, all at once; after the second lock met, in
//!    shard order.
//! 3. All prepared: decide. The answer of the decider is the answer.
//! 4. A refusal anywhere: have the decider record the abort, release those that
//!    prepared, and answer or come back under a new id.
//! 5. Committed: answer; finish the participants behind the answer.
//!
//! An outcome that was not seen is asked for again with the same bytes, until
//! `not_after` and the grace have passed at the shard.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;

use super::{
    plan::{self, Part, Plan},
    settle::{self, Settled},
    shards::{ShardId, Shards, Terms},
};
use crate::{
    clock::{Clock, Entropy, Timestamp},
    error::StoreError,
    row::Revision,
    store::{Committed, Draft, Snaptoken, Verdict},
    txn::{
        Outcome, RequestId, Txn,
        answer::Lock,
        command::{Action, Decide, Prepare},
    },
};

/// How far ahead of the coordinator's clock a transaction's `not_after` is set.
pub const NOT_AFTER: Duration = Duration::from_secs(6);
/// How long a commit is pursued before its caller is answered.
pub const PATIENCE: Duration = Duration::from_secs(8);

const RESEND_FIRST: Duration = Duration::from_millis(5);
const RESEND_LAST: Duration = Duration::from_millis(200);

pub(super) struct Coordinator {
    pub(super) shards: Arc<dyn Shards>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) entropy: Arc<dyn Entropy>,
}

/// Where one attempt ended.
enum Attempt {
    Done(Verdict),
    /// Refused for a reason that passes; try under a new id.
    Again(Again),
}

enum Again {
    /// A lock was met, and settled or not.
    Locked,
    /// Slots moved, a fence stands, or it came too late.
    Later,
}

/// The identity of one attempt.
struct Ticket {
    id: RequestId,
    not_after: Timestamp,
    read_time: Timestamp,
    claimant: u64,
}

impl Coordinator {
    pub(super) async fn commit(&self, draft: Draft) -> Result<Verdict, StoreError> {
        let deadline = self.clock.monotonic() + PATIENCE;
        let (mut attempts, mut locked) = (0_u32, 0_u32);
        loop {
            let plan = plan::divide(&draft, self.shards.as_ref())?;
            let ticket = Ticket {
                id: RequestId::new(self.clock.now(), self.entropy.as_ref()),
                not_after: self.clock.now().after(NOT_AFTER),
                read_time: draft.read_time,
                claimant: draft.claimant,
            };
            let attempt = if plan.participants.is_empty() {
                self.commit_single(plan.decider, &ticket, deadline).await?
            } else {
                self.commit_over_shards(plan, &ticket, locked >= 2, deadline).await?
            };
            attempts += 1;
            match attempt {
                Attempt::Done(verdict) => return Ok(verdict),
                Attempt::Again(again) => {
                    match again {
                        Again::Locked => locked += 1,
                        Again::Later => self.shards.refresh().await,
                    }
                    if self.clock.monotonic() >= deadline {
                        return Err(StoreError::Contended { attempts });
                    }
                    self.pause(attempts).await;
                }
            }
        }
    }

    /// Waits a random time that grows with the number of attempts.
    async fn pause(&self, attempts: u32) {
        let bound_us = 1_000_u64 << attempts.min(7);
        let wait = Duration::from_micros(200 + self.entropy.as_ref().below(bound_us));
        tokio::time::sleep(wait).await;
    }

    async fn commit_single(
        &self,
        part: Part,
        ticket: &Ticket,
        deadline: Duration,
    ) -> Result<Attempt, StoreError> {
        let shard = part.shard;
        let action = Action::Commit(ticket.txn(part));
        let terms = Terms::ORDINARY.of(ticket.claimant);
        let outcome = self.propose(shard, action, terms, deadline).await?;
        match outcome {
            Outcome::Committed { revision, time } => {
                Ok(Attempt::Done(self.committed(&[(shard, revision)], time)))
            }
            refusal => self.refused(shard, refusal).await,
        }
    }

    async fn commit_over_shards(
        &self,
        plan: Plan,
        ticket: &Ticket,
        in_order: bool,
        deadline: Duration,
    ) -> Result<Attempt, StoreError> {
        let Plan { decider, participants } = plan;
        let places: Vec<_> = participants.iter().map(|part| part.place.clone()).collect();
        let ids: Vec<ShardId> = participants.iter().map(|part| part.shard).collect();
        let prepares = participants.into_iter().map(|part| {
            let (shard, place) = (part.shard, decider.place.clone());
            let action = Action::Prepare(Prepare { txn: Some(ticket.txn(part)), decider: place });
            let terms = Terms::ORDINARY.of(ticket.claimant);
            async move { (shard, self.propose(shard, action, terms, deadline).await) }
        });
        let mut prepared = Vec::with_capacity(ids.len());
        let mut stopped = None;
        if in_order {
            for prepare in prepares {
                let (shard, answer) = prepare.await;
                let refused = !matches!(answer, Ok(Outcome::Prepared { .. }));
                prepared.push((shard, answer));
                if refused {
                    break;
                }
            }
        } else {
            prepared = join_all(prepares).await;
        }
        let mut positions = Vec::with_capacity(ids.len() + 1);
        for (shard, answer) in prepared {
            match answer {
                Ok(Outcome::Prepared { revision }) => positions.push((shard, revision)),
                other if stopped.is_none() => stopped = Some((shard, other)),
                _ => {}
            }
        }
        if let Some((shard, answer)) = stopped {
            return self.give_up(&decider, ticket, &ids, shard, answer).await;
        }
        let (shard, place) = (decider.shard, decider.place.clone());
        let named = Part { checks: Vec::new(), ops: Vec::new(), ..decider.clone() };
        let decide =
            Action::Decide(Decide { txn: Some(ticket.txn(decider)), participants: places.clone() });
        let terms = Terms::BYPASS.of(ticket.claimant);
        let outcome = match self.propose(shard, decide, terms, deadline).await {
            Ok(outcome) => outcome,
            Err(StoreError::Unknown) => return Err(StoreError::Unknown),
            Err(error) => return self.give_up(&named, ticket, &ids, shard, Err(error)).await,
        };
        if let Outcome::Committed { revision, time } = outcome {
            positions.push((shard, revision));
            let (shards, id, not_after) = (self.shards.clone(), ticket.id, ticket.not_after);
            tokio::spawn(async move {
                let end = settle::finish_participants(
                    shards.as_ref(),
                    &place,
                    id,
                    not_after,
                    &places,
                    terms,
                );
                if let Err(error) = end.await {
                    tracing::debug!(%error, "participants are left to the sweep");
                }
            });
            return Ok(Attempt::Done(self.committed(&positions, time)));
        }
        // The decider refused, and its receipt is the abort.
        self.release(&ids, ticket).await;
        self.refused(shard, outcome).await
    }

    /// A participant refused, or its answer was not seen: brings the abort about
    /// and releases the others.
    async fn give_up(
        &self,
        decider: &Part,
        ticket: &Ticket,
        ids: &[ShardId],
        shard: ShardId,
        answer: Result<Outcome, StoreError>,
    ) -> Result<Attempt, StoreError> {
        let fate = settle::end_at_decider(
            self.shards.as_ref(),
            &decider.place,
            ticket.id,
            ticket.not_after,
            true,
        )
        .await;
        if matches!(fate, Ok(Outcome::Aborted)) {
            self.release(ids, ticket).await;
        }
        match answer {
            Ok(outcome) => self.refused(shard, outcome).await,
            // Not decided by us, and nobody else can: it is certainly not done.
            Err(StoreError::Unknown) => {
                Err(StoreError::unavailable(format!("shard {shard} did not answer a prepare")))
            }
            Err(error) => Err(error),
        }
    }

    async fn release(&self, ids: &[ShardId], ticket: &Ticket) {
        let releases = ids.iter().map(|shard| {
            settle::finish(
                self.shards.as_ref(),
                *shard,
                ticket.id,
                ticket.not_after,
                false,
                Terms::BYPASS,
            )
        });
        for result in join_all(releases).await {
            if let Err(error) = result {
                tracing::debug!(%error, "a prepared transaction is left to the sweep");
            }
        }
    }

    /// What a refusal by `shard` means for the transaction.
    async fn refused(&self, shard: ShardId, refusal: Outcome) -> Result<Attempt, StoreError> {
        Ok(match refusal {
            Outcome::Conflict { .. } => Attempt::Done(Verdict::Conflict),
            Outcome::Locked(lock) => {
                self.settle(shard, &lock).await?;
                Attempt::Again(Again::Locked)
            }
            Outcome::Expired | Outcome::Moved | Outcome::Fenced { .. } | Outcome::Aborted => {
                Attempt::Again(Again::Later)
            }
            Outcome::Rejected => return Err(StoreError::Illegal("a malformed transaction")),
            // `Unknown`, and what no shard answers to a transaction.
            _ => return Err(StoreError::Unknown),
        })
    }

    async fn settle(&self, shard: ShardId, lock: &Lock) -> Result<Settled, StoreError> {
        settle::settle_lock(&self.shards, shard, lock, self.clock.now()).await
    }

    /// Proposes until the outcome is seen, with the same bytes.
    async fn propose(
        &self,
        shard: ShardId,
        action: Action,
        terms: Terms,
        deadline: Duration,
    ) -> Result<Outcome, StoreError> {
        let mut perhaps_done = false;
        let mut wait = RESEND_FIRST;
        loop {
            let error = match self.shards.propose(shard, action.clone(), terms).await {
                // Lapsed here, but an earlier sending may have been applied and its
                // receipt forgotten: not a refusal.
                Ok(Outcome::Unknown) => return Err(StoreError::Unknown),
                Ok(outcome) => return Ok(outcome),
                Err(error) => error,
            };
            match error {
                StoreError::Unknown => perhaps_done = true,
                StoreError::Unavailable { .. } => {}
                StoreError::Overloaded { .. } if perhaps_done => {}
                other => return Err(other),
            }
            if self.clock.monotonic() >= deadline {
                return Err(if perhaps_done { StoreError::Unknown } else { error });
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RESEND_LAST);
        }
    }

    fn committed(&self, positions: &[(ShardId, Revision)], time: Timestamp) -> Verdict {
        let mut snaptoken =
            Snaptoken { incarnation: self.shards.incarnation(), ..Snaptoken::default() };
        for (shard, revision) in positions {
            snaptoken.note(shard.0, *revision);
        }
        Verdict::Committed(Committed { snaptoken, time })
    }
}

impl Ticket {
    fn txn(&self, part: Part) -> Txn {
        Txn {
            request_id: self.id.to_bytes(),
            read_time: self.read_time.0,
            not_after: self.not_after.0,
            checks: part.checks,
            ops: part.ops,
        }
    }
}
