//! Sending what is due.
//!
//! 1. Look through the lanes, locally, for what is due.
//! 2. Claim each: strongly read that it still waits, count the sending, and make it
//!    due again after the lease.
//! 3. Hand it to the carrier.
//! 4. Say what became of it, if the claim still stands: sent, due again later, or
//!    abandoned; the first and the last erase what it was filled with.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cardea_storage::{
    Consistency, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};
use thiserror::Error;
use uuid::Uuid;

use super::{Template, outbox::kept_until};
use crate::{
    Service,
    language::Language,
    schema::Channel,
    table::message::{
        ABANDONED, MessageKey, MessageRecord, Messages, MessagesDue, QUEUED, SENT, lanes,
    },
};

/// How long whoever claimed a message may take to send it.
const LEASE: Duration = Duration::from_secs(60);
/// The wait after the first failure; it doubles with each.
const WAIT_FIRST: Duration = Duration::from_secs(5);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30 * 60);
/// Sendings of a message.
const SENDINGS_MAX: u32 = 12;
/// Messages that one round takes from a lane.
const AT_ONCE: u32 = 32;
/// The longest error that is kept, in bytes.
const ERROR_BYTES_MAX: usize = 500;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    /// The message: the same each time it is sent.
    pub id: Uuid,
    /// How it goes.
    pub via: Channel,
    /// What it is about.
    pub template: Template,
    /// Where it goes.
    pub recipient: String,
    /// One line; empty for a text message.
    pub subject: String,
    /// The body as plain text, or the whole text message.
    pub text: String,
    /// The body in HTML; empty for a text message.
    pub html: String,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Undelivered {
    /// It never will be: there is no such address, or it is not wanted.
    #[error("refused: {0}")]
    Refused(String),
    /// It may be, later.
    #[error("not now: {0}")]
    Failed(String),
}

/// Who carries messages to where they go.
#[async_trait]
pub trait Carrier: Send + Sync {
    /// Hands a message over. When it returns, the next hop has it.
    ///
    /// # Errors
    /// See [`Undelivered`].
    async fn carry(&self, mail: &Mail) -> Result<(), Undelivered>;
}

/// What one round did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    /// Messages sent.
    pub sent: u32,
    /// Messages that are due again later.
    pub postponed: u32,
    /// Messages given up.
    pub abandoned: u32,
}

impl Service {
    /// Sends what is due, once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was claimed meanwhile is due again after its lease.
    pub async fn deliver_due(&self, carrier: &dyn Carrier) -> Result<Round, StoreError> {
        let mut round = Round::default();
        for key in self.due().await? {
            let Some((record, claim)) = self.claim_message(key).await? else { continue };
            let Some(mail) = self.mail(key.id, &record).filter(|_| !record.decoy) else {
                // Nobody has the address, or what it said cannot be read any more.
                let fate = if record.decoy { SENT } else { ABANDONED };
                self.settle(key, &claim, fate, "").await?;
                continue;
            };
            match carrier.carry(&mail).await {
                Ok(()) => {
                    round.sent += 1;
                    self.settle(key, &claim, SENT, "").await?;
                }
                Err(Undelivered::Failed(why)) if record.send_count < SENDINGS_MAX => {
                    tracing::warn!(message = %key.id, why, "a message was not sent; it is tried again");
                    round.postponed += 1;
                    self.settle(key, &claim, QUEUED, &why).await?;
                }
                Err(Undelivered::Failed(why) | Undelivered::Refused(why)) => {
                    tracing::error!(message = %key.id, why, "a message was given up");
                    round.abandoned += 1;
                    self.settle(key, &claim, ABANDONED, &why).await?;
                }
            }
        }
        Ok(round)
    }

    /// What is due, as far as this node knows.
    async fn due(&self) -> Result<Vec<MessageKey>, StoreError> {
        let mut request = ReadRequest::new(Consistency::Eventual);
        for lane in lanes() {
            let range = MessagesDue::lane(lane);
            request.reads.push(Read::Scan(Scan { range, limit: AT_ONCE, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let now = self.now().as_millis();
        let mut due = Vec::new();
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            let key = MessagesDue::decode(row)?.key;
            if key.due_at <= now {
                due.push((key.due_at, MessageKey { tenant: key.tenant, id: key.message }));
            }
        }
        due.sort_unstable();
        Ok(due.into_iter().map(|(_, key)| key).collect())
    }

    async fn claim_message(
        &self,
        key: MessageKey,
    ) -> Result<Option<(MessageRecord, Bytes)>, StoreError> {
        let drawn: [u8; 16] = self.store.entropy().bytes();
        let claim = &Bytes::copy_from_slice(&drawn);
        let done = self
            .store
            .transact(|t| async move {
                let Some(entry) = t.get::<Messages>(&key).await? else { return Ok(None) };
                let (mut record, now) = (entry.record, t.now());
                if record.status != QUEUED || record.due_at > now.as_millis() {
                    return Ok(None);
                }
                record.due_at = now.after(LEASE).as_millis();
                record.claim = claim.clone();
                record.send_count += 1;
                record.updated_at = now.as_millis();
                t.put::<Messages>(&key, &record, Some(kept_until(&record))).await?;
                Ok::<_, StoreError>(Some(record))
            })
            .await?;
        Ok(done.value.map(|record| (record, claim.clone())))
    }

    async fn settle(
        &self,
        key: MessageKey,
        claim: &Bytes,
        fate: u32,
        why: &str,
    ) -> Result<(), StoreError> {
        self.store
            .transact(|t| async move {
                let Some(entry) = t.get::<Messages>(&key).await? else { return Ok(()) };
                let (mut record, now) = (entry.record, t.now());
                if record.status != QUEUED || record.claim != *claim {
                    return Ok(());
                }
                record.status = fate;
                record.updated_at = now.as_millis();
                record.claim = Bytes::new();
                record.last_error = why.chars().take(ERROR_BYTES_MAX / 4).collect();
                if fate == QUEUED {
                    record.due_at = now.after(wait(record.send_count)).as_millis();
                } else {
                    record.model = Bytes::new();
                }
                t.put::<Messages>(&key, &record, Some(kept_until(&record))).await
            })
            .await
            .map(|done| done.value)
    }

    /// A message as it is sent or shown; `None` if what it said was erased.
    pub(super) fn mail(&self, id: Uuid, record: &MessageRecord) -> Option<Mail> {
        let template = Template::parse(&record.template)?;
        let model = self.model_of(id, record)?;
        let language = Language::from_number(record.language).unwrap_or(self.settings.language);
        let filled = self.settings.templates.fill(template, language, model.as_object()?);
        let via = via_of(record.via);
        let (subject, text, html) = match via {
            Channel::Email => (filled.subject, filled.text, filled.html),
            Channel::Sms => (String::new(), filled.sms, String::new()),
        };
        Some(Mail { id, via, template, recipient: record.recipient.clone(), subject, text, html })
    }
}

/// How a message goes, by the number on disk.
pub(super) const fn via_of(number: u32) -> Channel {
    match number {
        2 => Channel::Sms,
        _ => Channel::Email,
    }
}

fn wait(sendings: u32) -> Duration {
    let factor = 1_u32.checked_shl(sendings.saturating_sub(1)).unwrap_or(u32::MAX);
    WAIT_FIRST.saturating_mul(factor).min(WAIT_MAX)
}
