//! Sending what is due.
//!
//! 1. Look through the lanes, locally, for what is due.
//! 2. Claim each: strongly read that it still waits, count the try, and make it due again
//!    after the lease, which is longer than a try may take.
//! 3. Hand it over.
//! 4. Say what became of it, if the claim still stands: taken, due again later, or given
//!    up.
//!
//! Several rows are under way at once. A place that does not answer at all is left alone
//! for the rest of a round: what goes there waits, the rest does not.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use cardea_storage::{
    Consistency, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use futures::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use uuid::Uuid;

use super::{Round, kept_until};
use crate::{
    Service,
    table::{
        lane::lanes,
        outbox::{ABANDONED, Due, Outbox, PostKey, Posted, QUEUED, SENT},
    },
};

/// How much longer than a try may take whoever claimed a row keeps it: the time to say
/// what became of it.
const LEASE_REST: Duration = Duration::from_secs(15);
/// The wait after the first failure; it doubles with each.
const WAIT_FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);
/// Rows that one round takes from a lane.
const AT_ONCE: u32 = 32;
/// Rows under way at a time.
const UNDER_WAY_MAX: usize = 16;
/// The longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 200;

/// Where a row goes.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// What logs call it by. Rows of one name wait together if nobody is there.
    pub(crate) name: String,
    /// How long a try may take.
    pub(crate) within: Duration,
}

/// How a try ended.
#[derive(Debug, Clone)]
pub(crate) struct Tried {
    pub(crate) outcome: Outcome,
    /// The status of the answer; 0 for none.
    pub(crate) status: u32,
}

/// See [`Tried`].
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// It was taken.
    Sent,
    /// There was nothing to send; nobody needs to know.
    Skipped,
    /// It was not taken, and may be later.
    Failed(String),
    /// Nobody was there to take it.
    Unreachable(String),
    /// It never will be taken.
    Refused(String),
}

impl Outcome {
    pub(crate) const fn with(self, status: u32) -> Tried {
        Tried { outcome: self, status }
    }
}

/// Who sends what one outbox holds.
#[async_trait]
pub(crate) trait Sender<T: Outbox>: Send + Sync {
    /// Where a row goes.
    fn place(&self, record: &T::Record) -> Place;

    /// Tries once.
    async fn send(&self, id: Uuid, record: &T::Record) -> Tried;
}

/// How a row ended in a round.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ended {
    Sent,
    Postponed,
    Abandoned,
    /// Somebody else has it, its place does not answer, or there was nothing to send.
    Left,
}

/// Places that do not answer.
type Down = Mutex<BTreeSet<String>>;

impl Service {
    /// Sends what is due, once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was claimed meanwhile is due again after its lease.
    pub(crate) async fn send_due_posts<T: Outbox>(
        &self,
        sender: &dyn Sender<T>,
    ) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let down = Down::default();
        let mut due = self.due_posts::<T>().await?.into_iter();
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < UNDER_WAY_MAX
                && let Some(key) = due.next()
            {
                under_way.push(self.send_post(sender, key, &down));
            }
            let ended = under_way.next().await;
            if let Some(Ok(ended)) = &ended {
                T::tally(&self.tallies).note(*ended);
            }
            match ended {
                None => return Ok(round),
                Some(Ok(Ended::Left)) => {}
                Some(Ok(Ended::Sent)) => round.sent += 1,
                Some(Ok(Ended::Postponed)) => round.postponed += 1,
                Some(Ok(Ended::Abandoned)) => round.abandoned += 1,
                Some(Err(error)) => {
                    tracing::debug!(outbox = T::NAME, %error, "what became of it is not written");
                }
            }
        }
    }

    /// What is due, as far as this node knows, the longest first.
    async fn due_posts<T: Outbox>(&self) -> Result<Vec<PostKey>, StoreError> {
        let mut request = ReadRequest::new(Consistency::Eventual);
        for lane in lanes() {
            let range = Due::<T>::lane(lane);
            request.reads.push(Read::Scan(Scan { range, limit: AT_ONCE, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let now = self.now().as_millis();
        let mut due = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            let key = Due::<T>::decode(row)?.key;
            if key.due_at <= now {
                due.push((key.due_at, PostKey { tenant: key.tenant, id: key.id }));
            }
        }
        due.sort_unstable();
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }

    async fn send_post<T: Outbox>(
        &self,
        sender: &dyn Sender<T>,
        key: PostKey,
        down: &Down,
    ) -> Result<Ended, StoreError> {
        let Some((record, claim)) = self.claim_post(sender, key, down).await? else {
            return Ok(Ended::Left);
        };
        let Place { name: place, within } = sender.place(&record);
        let tried = tokio::time::timeout(within, sender.send(key.id, &record)).await;
        let tried = tried.unwrap_or_else(|_| {
            Outcome::Unreachable(format!("it took longer than {} s", within.as_secs())).with(0)
        });
        if let Outcome::Unreachable(_) = tried.outcome {
            down.lock().insert(place.clone());
        }
        let (fate, wrong) = match &tried.outcome {
            Outcome::Sent | Outcome::Skipped => (SENT, None),
            Outcome::Refused(why) => (ABANDONED, Some(why)),
            Outcome::Failed(why) | Outcome::Unreachable(why) => {
                let is_last = record.standing().tries >= T::TRIES_MAX;
                (if is_last { ABANDONED } else { QUEUED }, Some(why))
            }
        };
        let (outbox, id) = (T::NAME, key.id);
        match (wrong, fate) {
            (Some(why), ABANDONED) => {
                tracing::error!(outbox, %id, place, why, "not sent, and given up");
            }
            (Some(why), _) => {
                tracing::warn!(outbox, %id, place, why, "not sent; it is tried again");
            }
            (None, _) => {}
        }
        let wrong = wrong.map(String::as_str).unwrap_or_default();
        self.settle_post::<T>(key, &claim, fate, (tried.status, wrong)).await?;
        Ok(match (fate, &tried.outcome) {
            (_, Outcome::Skipped) => Ended::Left,
            (SENT, _) => Ended::Sent,
            (ABANDONED, _) => Ended::Abandoned,
            _ => Ended::Postponed,
        })
    }

    async fn claim_post<T: Outbox>(
        &self,
        sender: &dyn Sender<T>,
        key: PostKey,
        down: &Down,
    ) -> Result<Option<(T::Record, Bytes)>, StoreError> {
        let drawn: [u8; 16] = self.store.entropy().bytes();
        let claim = &Bytes::copy_from_slice(&drawn);
        let done = self
            .store
            .transact(|t| async move {
                let Some(entry) = t.get::<T>(&key).await? else { return Ok(None) };
                let (mut record, now) = (entry.record, t.now());
                let mut standing = record.standing();
                let place = sender.place(&record);
                let waits = standing.status == QUEUED && standing.due_at <= now.as_millis();
                if !waits || down.lock().contains(&place.name) {
                    return Ok(None);
                }
                standing.due_at = now.after(place.within + LEASE_REST).as_millis();
                standing.claim = claim.clone();
                standing.tries += 1;
                standing.updated_at = now.as_millis();
                record.stand(standing);
                t.put::<T>(&key, &record, Some(kept_until::<T>(&record))).await?;
                Ok::<_, StoreError>(Some(record))
            })
            .await?;
        Ok(done.value.map(|record| (record, claim.clone())))
    }

    async fn settle_post<T: Outbox>(
        &self,
        key: PostKey,
        claim: &Bytes,
        fate: u32,
        (status, wrong): (u32, &str),
    ) -> Result<(), StoreError> {
        self.store
            .transact(|t| async move {
                let Some(entry) = t.get::<T>(&key).await? else { return Ok(()) };
                let (mut record, now) = (entry.record, t.now());
                let mut standing = record.standing();
                if standing.status != QUEUED || standing.claim != *claim {
                    return Ok(());
                }
                standing.status = fate;
                standing.updated_at = now.as_millis();
                standing.claim = Bytes::new();
                standing.last_error = wrong.chars().take(ERROR_CHARS_MAX).collect();
                match fate {
                    QUEUED => standing.due_at = now.after(wait(standing.tries)).as_millis(),
                    ABANDONED if T::ABANDONED_KEEPS_BODY => {}
                    _ => standing.body = Bytes::new(),
                }
                record.stand(standing);
                record.answered(status);
                t.put::<T>(&key, &record, Some(kept_until::<T>(&record))).await
            })
            .await
            .map(|done| done.value)
    }
}

fn wait(tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound() {
        let waits: Vec<u64> = [1, 2, 3, 9, 10, 40].map(|tries| wait(tries).as_secs()).into();
        assert_eq!(waits, [5, 10, 20, 1280, 1800, 1800]);
    }
}
