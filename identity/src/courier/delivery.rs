//! Handing messages over to whoever carries them.

use std::time::Duration;

use async_trait::async_trait;
use cardea_storage::StoreError;
use serde_json::{Map, Value};
use thiserror::Error;
use uuid::Uuid;

use super::Template;
use crate::{
    Service,
    language::Language,
    outbox::{
        Round,
        delivery::{Outcome, Place, Sender, Tried},
    },
    schema::Channel,
    table::message::{MessageRecord, Messages},
};

/// How long handing over a message may take: a mail server is spoken to in several
/// turns.
const WITHIN: Duration = Duration::from_secs(45);

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
    /// What the template was filled with.
    pub model: Map<String, Value>,
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
    /// Nobody is there who could; others that go the same way need not be tried.
    #[error("nobody is there: {0}")]
    Unreachable(String),
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

struct Courier<'a> {
    service: &'a Service,
    carrier: &'a dyn Carrier,
}

#[async_trait]
impl Sender<Messages> for Courier<'_> {
    fn place(&self, record: &MessageRecord) -> Place {
        Place { name: via_of(record.via).name().to_owned(), within: WITHIN }
    }

    async fn send(&self, id: Uuid, record: &MessageRecord) -> Tried {
        if record.decoy {
            // Nobody has the address.
            return Outcome::Skipped.with(0);
        }
        let Some(mail) = self.service.mail(id, record) else {
            let why = "what it says cannot be read any more".to_owned();
            return Outcome::Refused(why).with(0);
        };
        let outcome = match self.carrier.carry(&mail).await {
            Ok(()) => Outcome::Sent,
            Err(Undelivered::Failed(why)) => Outcome::Failed(why),
            Err(Undelivered::Unreachable(why)) => Outcome::Unreachable(why),
            Err(Undelivered::Refused(why)) => Outcome::Refused(why),
        };
        outcome.with(0)
    }
}

impl Service {
    /// Sends the messages that are due, once.
    ///
    /// # Errors
    /// See [`StoreError`]; what was claimed meanwhile is due again after its lease.
    pub async fn deliver_due(&self, carrier: &dyn Carrier) -> Result<Round, StoreError> {
        self.send_due_posts::<Messages>(&Courier { service: self, carrier }).await
    }

    /// A message as it is sent or shown; `None` if what it said was erased.
    pub(super) fn mail(&self, id: Uuid, record: &MessageRecord) -> Option<Mail> {
        let template = Template::parse(&record.template)?;
        let Value::Object(model) = self.body_of::<Messages>(id, record)? else { return None };
        let language = Language::from_number(record.language).unwrap_or(self.settings.language);
        let filled = self.settings.templates.fill(template, language, &model);
        let (via, recipient) = (via_of(record.via), record.recipient.clone());
        let (subject, text, html) = match via {
            Channel::Email => (filled.subject, filled.text, filled.html),
            Channel::Sms => (String::new(), filled.sms, String::new()),
        };
        Some(Mail { id, via, template, recipient, subject, text, html, model })
    }
}

/// How a message goes, by the number on disk.
pub(super) const fn via_of(number: u32) -> Channel {
    match number {
        2 => Channel::Sms,
        _ => Channel::Email,
    }
}
