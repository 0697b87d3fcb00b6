//! Making calls that are due, as the courier sends messages: claim for a while, call,
//! say what became of it.
//!
//! Several calls are made at once. A hook that does not answer at all is left alone for
//! the rest of a round: its calls wait, others' do not.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use cardea_storage::{
    Consistency, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{WebHook, call::CallFailed, outbox::kept_until};
use crate::{
    Service,
    outbound::Unanswered,
    table::{
        hook_call::{
            ABANDONED, ANSWERED, HookCallKey, HookCallRecord, HookCalls, HookCallsDue, QUEUED,
        },
        lane::lanes,
    },
};

/// How much longer than a call may take whoever claimed it may keep it.
const LEASE: Duration = Duration::from_secs(30);
/// The wait after the first failure; it doubles with each.
const WAIT_FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);
/// Tries of a call: with these waits about seven hours.
pub const TRIES_MAX: u32 = 20;
/// Calls that one round takes from a lane.
const AT_ONCE: u32 = 32;
/// Calls under way at a time.
const UNDER_WAY_MAX: usize = 16;
/// The longest error that is kept, in characters.
const ERROR_CHARS_MAX: usize = 200;

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CallRound {
    /// Calls that were answered well.
    pub answered: u32,
    /// Calls that are due again later.
    pub postponed: u32,
    /// Calls given up.
    pub abandoned: u32,
}

/// How a call ended.
enum Ended {
    Answered,
    Postponed,
    Abandoned,
    /// Somebody else has it, or its hook is not there just now.
    Left,
}

/// How a try ended: the status, and what is wrong.
struct Tried {
    status: u32,
    wrong: Option<String>,
    /// Whether trying again is of no use.
    is_final: bool,
}

type Down = Arc<Mutex<BTreeSet<String>>>;

impl Service {
    /// Makes the calls that are due, once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was claimed meanwhile is due again after its lease.
    pub async fn make_calls(self: &Arc<Self>) -> Result<CallRound, StoreError> {
        let mut round = CallRound::default();
        let down = Down::default();
        let mut under_way = JoinSet::new();
        let mut due = self.due_calls().await?.into_iter();
        loop {
            while under_way.len() < UNDER_WAY_MAX
                && let Some(key) = due.next()
            {
                let (service, down) = (self.clone(), down.clone());
                under_way.spawn(async move { service.make_call(key, &down).await });
            }
            match under_way.join_next().await {
                None => return Ok(round),
                // A call that panicked is due again after its lease.
                Some(Err(_)) | Some(Ok(Ok(Ended::Left))) => {}
                Some(Ok(Ok(Ended::Answered))) => round.answered += 1,
                Some(Ok(Ok(Ended::Postponed))) => round.postponed += 1,
                Some(Ok(Ok(Ended::Abandoned))) => round.abandoned += 1,
                Some(Ok(Err(error))) => {
                    tracing::debug!(%error, "what became of a call could not be written");
                }
            }
        }
    }

    async fn due_calls(&self) -> Result<Vec<HookCallKey>, StoreError> {
        let mut request = ReadRequest::new(Consistency::Eventual);
        for lane in lanes() {
            let range = HookCallsDue::lane(lane);
            request.reads.push(Read::Scan(Scan { range, limit: AT_ONCE, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let now = self.now().as_millis();
        let mut due = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            let key = HookCallsDue::decode(row)?.key;
            if key.due_at <= now {
                due.push((key.due_at, HookCallKey { tenant: key.tenant, id: key.call }));
            }
        }
        due.sort_unstable();
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }

    async fn make_call(&self, key: HookCallKey, down: &Down) -> Result<Ended, StoreError> {
        let Some((record, claim)) = self.claim_call(key, down).await? else {
            return Ok(Ended::Left);
        };
        let hook = self.settings.hooks.web_hook(&record.hook);
        let tried = match hook {
            Some(hook) => self.try_record(key, &record, hook, down).await,
            None => Tried {
                status: 0,
                wrong: Some("the configuration has no such hook any more".to_owned()),
                is_final: false,
            },
        };
        let fate = match &tried.wrong {
            None => ANSWERED,
            Some(_) if tried.is_final || record.attempts >= TRIES_MAX => ABANDONED,
            Some(_) => QUEUED,
        };
        let (call, hook) = (key.id, record.hook.as_str());
        match (&tried.wrong, fate) {
            (Some(why), ABANDONED) => {
                tracing::error!(%call, hook, why, "a call of a web hook was given up");
            }
            (Some(why), _) => {
                tracing::warn!(%call, hook, why, "a call of a web hook failed; it is tried again");
            }
            (None, _) => {}
        }
        self.settle_call(key, &claim, fate, &tried).await?;
        Ok(match fate {
            ANSWERED => Ended::Answered,
            ABANDONED => Ended::Abandoned,
            _ => Ended::Postponed,
        })
    }

    async fn try_record(
        &self,
        key: HookCallKey,
        record: &HookCallRecord,
        hook: &WebHook,
        down: &Down,
    ) -> Tried {
        let fails = |status, why: String, is_final| Tried { status, wrong: Some(why), is_final };
        let Some(ctx) = self.context_of(key.id, record) else {
            return fails(0, "what it says cannot be read any more".to_owned(), true);
        };
        let body = match hook.body(ctx).await {
            Ok(Some(body)) => body,
            // There is nothing to tell.
            Ok(None) => return Tried { status: 0, wrong: None, is_final: false },
            Err(failed) => return fails(0, failed.to_string(), false),
        };
        match self.try_call(hook, key.id, &body).await {
            Ok(reply) if reply.is_success() => {
                Tried { status: reply.status.into(), wrong: None, is_final: false }
            }
            Ok(reply) => {
                let status = reply.status;
                fails(status.into(), format!("it answered with status {status}"), false)
            }
            Err(unanswered) => {
                if matches!(unanswered, Unanswered::Unreachable(_) | Unanswered::TooLate) {
                    down.lock().insert(record.hook.clone());
                }
                fails(0, CallFailed::from(unanswered).to_string(), false)
            }
        }
    }

    async fn claim_call(
        &self,
        key: HookCallKey,
        down: &Down,
    ) -> Result<Option<(HookCallRecord, Bytes)>, StoreError> {
        let drawn: [u8; 16] = self.store.entropy().bytes();
        let claim = &Bytes::copy_from_slice(&drawn);
        let done = self
            .store
            .transact(|t| async move {
                let Some(entry) = t.get::<HookCalls>(&key).await? else { return Ok(None) };
                let (mut record, now) = (entry.record, t.now());
                let waits = record.status == QUEUED && record.due_at <= now.as_millis();
                if !waits || down.lock().contains(&record.hook) {
                    return Ok(None);
                }
                let hook = self.settings.hooks.web_hook(&record.hook);
                let within = hook.map_or(Duration::ZERO, |hook| hook.within);
                record.due_at = now.after(within + LEASE).as_millis();
                record.claim = claim.clone();
                record.attempts += 1;
                record.updated_at = now.as_millis();
                t.put::<HookCalls>(&key, &record, Some(kept_until(&record))).await?;
                Ok::<_, StoreError>(Some(record))
            })
            .await?;
        Ok(done.value.map(|record| (record, claim.clone())))
    }

    async fn settle_call(
        &self,
        key: HookCallKey,
        claim: &Bytes,
        fate: u32,
        tried: &Tried,
    ) -> Result<(), StoreError> {
        self.store
            .transact(|t| async move {
                let Some(entry) = t.get::<HookCalls>(&key).await? else { return Ok(()) };
                let (mut record, now) = (entry.record, t.now());
                if record.status != QUEUED || record.claim != *claim {
                    return Ok(());
                }
                record.status = fate;
                record.updated_at = now.as_millis();
                record.claim = Bytes::new();
                record.last_status = tried.status;
                let wrong = tried.wrong.as_deref().unwrap_or_default();
                record.last_error = wrong.chars().take(ERROR_CHARS_MAX).collect();
                match fate {
                    QUEUED => record.due_at = now.after(wait(record.attempts)).as_millis(),
                    // What was given up may be tried again by hand.
                    ABANDONED => {}
                    _ => record.context = Bytes::new(),
                }
                t.put::<HookCalls>(&key, &record, Some(kept_until(&record))).await
            })
            .await
            .map(|done| done.value)
    }
}

fn wait(tries: u32) -> Duration {
    let factor = 1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX);
    WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX)
}
