//! Addresses that are new by a change of settings: a verification of them begins, and
//! where the hook `verify_new_address` says so, the change waits for it.
//!
//! What waits is sealed in the verification, beside what the traits were: once the new
//! address is verified they become the identity's, unless they have changed since. Until
//! then nothing has changed, so a mistyped address locks nobody out, and one that is
//! somebody else's is never held. Where the sessions of the identity are ended, so is what
//! one of them asked for: whoever is put out takes no account along. Sending is charged at
//! the identity, for anybody's address may be typed.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Opened, Refusal, SettingsRejection};
use crate::{
    Service,
    flow::{
        CodeRejection, Flow, Purpose, StartedVerification, TooEarly, sent_code::Budget,
        verification::DrawnVerification,
    },
    hook::{Action, Occasion},
    identity::draft::via_number,
    model::{Client, FlowId, Scope, json_of},
    schema::Address,
    session::Proof,
    table::{FlowRecord, IdentityRecord},
    ui::Text,
};

/// The largest traits that wait, in bytes of JSON.
const WAITING_BYTES_MAX: usize = 16 * 1024;

/// Traits that wait for an address to be verified.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::flow) struct Waiting {
    /// What they become.
    pub(in crate::flow) traits: Value,
    /// What they were.
    from: Value,
    /// The epoch of the session that asked for it; `None` if an older node wrote it.
    #[serde(default)]
    epoch: Option<u64>,
}

impl Waiting {
    /// Whether nothing has changed since, and no sessions were ended.
    pub(in crate::flow) fn is_from(&self, identity: &IdentityRecord) -> bool {
        self.from == json_of(&identity.traits)
            && self.epoch.is_none_or(|epoch| epoch == identity.session_epoch)
    }
}

impl Service {
    /// Whether addresses that are new by a method are verified.
    fn verifies_new(&self, method: &str) -> bool {
        let hooks = &self.settings.hooks;
        self.settings.verification || hooks.runs(Purpose::Settings, method, Action::verifies)
    }

    /// What a verification of an address that is new by these traits needs; `None` if none
    /// is, or no more messages may be sent for now: its owner may ask for one later.
    pub(super) async fn draw_for_new(
        &self,
        opened: &Opened,
        occasion: &Occasion<'_>,
        traits: &Value,
    ) -> Result<Option<DrawnVerification>, SettingsRejection> {
        let new = self.new_addresses(&opened.me.identity, traits).into_iter().next();
        let Some(new) = new.filter(|_| self.verifies_new(occasion.method)) else {
            return Ok(None);
        };
        match self.may_send(opened, occasion.client, &new).await? {
            Ok(()) => Ok(Some(self.draw_verification(opened.me.identity_id))),
            Err(_) => Ok(None),
        }
    }

    /// Charges a message to a new address at the identity, and asks whether it may go by all
    /// else that limits messages; that counts it once it does.
    async fn may_send(
        &self,
        opened: &Opened,
        client: &Client,
        to: &Address,
    ) -> Result<Result<(), TooEarly>, SettingsRejection> {
        let (scope, subject) = (opened.scope, opened.me.identity_id);
        match self.charge_code(scope, subject, Budget::Sending).await {
            Ok(_) => Ok(self.message_may_go(scope, client, to).await?),
            Err(CodeRejection::Throttled(early)) => Ok(Err(early)),
            Err(CodeRejection::Store(error)) => Err(error.into()),
            Err(_) => Err(SettingsRejection::NoSession),
        }
    }

    /// The address for which a change to these traits waits; `None`: it does not.
    pub(super) fn waits_for(
        &self,
        identity: &IdentityRecord,
        method: &str,
        traits: &Value,
    ) -> Option<Address> {
        let waits = self.settings.hooks.runs(Purpose::Settings, method, Action::verifies_first);
        if !waits {
            return None;
        }
        self.new_addresses(identity, traits).into_iter().next()
    }

    /// The addresses to be verified that an identity does not have yet, and that messages
    /// go to.
    fn new_addresses(&self, identity: &IdentityRecord, traits: &Value) -> Vec<Address> {
        let schema = self.schema(&identity.schema_id).or_else(|| self.schema(""));
        let Some(Ok(found)) = schema.map(|schema| schema.check(traits)) else {
            return Vec::new();
        };
        let is_new = |new: &Address| {
            let mut known = identity.verifiable.iter();
            known.all(|known| known.via != via_number(new.via) || known.value != new.value)
        };
        let reached = |address: &Address| self.settings.message_limits.reaches(address);
        found.verifiable.into_iter().filter(is_new).filter(reached).collect()
    }

    /// Begins the verification for which a change waits.
    pub(super) async fn wait_for_address(
        &self,
        mut opened: Opened,
        proof: &Proof,
        (traits, address): (&Value, &Address),
        client: &Client,
    ) -> Result<Flow, SettingsRejection> {
        let (scope, subject) = (opened.scope, opened.me.identity_id);
        let told = |mut opened: Opened, text: Text| {
            opened.flow.ui.messages.push(text);
            Err(opened.refuse())
        };
        // Nobody outside is written to for it; completing it decides once more.
        let new = std::iter::once(address.value.clone());
        if let Some(text) = self.outside_of_its_own(&opened.me.identity, new) {
            return told(opened, text);
        }
        if self.new_addresses(&opened.me.identity, traits).len() > 1 {
            return told(opened, Text::generic("Please change one address at a time."));
        }
        let schema = self.schema(&opened.me.identity.schema_id).or_else(|| self.schema(""));
        if let Some(Ok(found)) = schema.map(|schema| schema.check(traits)) {
            let holders = self.holders_of(scope, &found).await?;
            if holders.iter().any(|holder| *holder != subject) {
                self.source_failed(scope, &self.source(scope, client)).await?;
                return told(opened, Text::duplicate_identifier());
            }
        }
        // The transaction decides; what it will refuse is charged to nobody.
        if !self.is_privileged(&opened.me, self.now()) {
            return Err(SettingsRejection::RefreshRequired);
        }
        if let Err(early) = self.may_send(&opened, client, address).await? {
            return told(opened, Text::come_back_later(early.retry_after));
        }
        let drawn = &self.draw_verification(subject);
        let from = json_of(&opened.me.identity.traits);
        let epoch = Some(opened.me.identity.session_epoch);
        let waiting = Waiting { traits: traits.clone(), from, epoch };
        let Some(waiting) = self.seal_waiting(drawn.flow, &waiting) else {
            return told(opened, Text::traits_too_large());
        };
        let (origin, waiting) = (&opened.record.clone(), &waiting);
        let done = self
            .store
            .transact(|t| async move {
                let me = self.find_session(&t, scope, proof, true).await?;
                let me = me.filter(|me| me.accepted(t.now()).is_some());
                let me = me.filter(|me| me.identity_id == subject).ok_or(Refusal::NoSession)?;
                if !self.may_see_settings(&me) {
                    return Err(Refusal::SecondFactorRequired);
                }
                if !self.is_privileged(&me, t.now()) {
                    return Err(Refusal::RefreshRequired);
                }
                let (owner, origin) = ((subject, &me.identity), (origin, client));
                let what = (address.value.as_str(), waiting.clone());
                Ok(self.verify_address(&t, scope, owner, origin, (drawn, what)))
            })
            .await;
        match done {
            Ok(done) => {
                self.posted();
                self.message_went(scope, client, &address.value).await;
                opened.flow.verification = Some(done.value);
                let proof = self.proof_for(Purpose::Verification);
                opened.flow.ui.messages = vec![proof.sent(Purpose::Verification, address)];
                Ok(opened.flow)
            }
            Err(Refusal::RefreshRequired) => Err(SettingsRejection::RefreshRequired),
            Err(Refusal::SecondFactorRequired) => Err(SettingsRejection::SecondFactorRequired),
            Err(Refusal::Store(error)) => Err(error.into()),
            Err(_) => Err(SettingsRejection::NoSession),
        }
    }

    /// Seals what waits; `None` if it is too large.
    fn seal_waiting(&self, flow: FlowId, waiting: &Waiting) -> Option<Bytes> {
        let plain = serde_json::to_vec(waiting).ok()?;
        let fits = plain.len() <= 2 * WAITING_BYTES_MAX;
        fits.then(|| self.keys.seal.seal(self.store.entropy().as_ref(), &waiting_in(flow), &plain))
    }

    /// What waits for a verification.
    pub(in crate::flow) fn waiting(&self, id: FlowId, record: &FlowRecord) -> Option<Waiting> {
        if record.code_traits.is_empty() {
            return None;
        }
        let plain = self.keys.seal.open(&waiting_in(id), &record.code_traits).ok()?;
        serde_json::from_slice(plain.expose()).ok()
    }

    /// Begins to verify an address that a change of settings brought.
    pub(super) fn verify_brought(
        &self,
        t: &cardea_storage::Transaction,
        scope: Scope,
        (subject, before, after): (Uuid, &IdentityRecord, &IdentityRecord),
        (origin, client): (&FlowRecord, &Client),
        drawn: &DrawnVerification,
    ) -> Option<StartedVerification> {
        let new = self.new_addresses(before, &json_of(&after.traits)).into_iter().next()?;
        let mut unverified = after.verifiable.iter().filter(|a| a.verified_at == 0);
        unverified.find(|address| address.value == new.value)?;
        let what = (new.value.as_str(), Bytes::new());
        Some(self.verify_address(t, scope, (subject, after), (origin, client), (drawn, what)))
    }
}

fn waiting_in(id: FlowId) -> String {
    format!("traits that wait for verification {id}")
}
