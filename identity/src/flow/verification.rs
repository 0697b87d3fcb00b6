//! Showing that an address is one's own: a right code, or a link that is followed, marks
//! it as verified, if the identity still has it. Whoever signs up is sent one at once.

use bytes::Bytes;
use cardea_storage::{Slot, StoreError, Transaction};
use serde_json::json;
use uuid::Uuid;

use super::{
    AddressProof, Flow, FlowState, Purpose,
    code::{CodeOutcome, CodeRejection},
    recovery::after_code,
    sent_code::Budget,
    settings::Change,
    throttle::TooEarly,
};
use crate::{
    Service,
    audit::{Act, Actor},
    courier::{Template, outbox::Letter},
    hook::Occasion,
    identity::{ChangeRejection, IdentityChange, draft::via_number},
    model::{Client, FlowId, Identity, IdentityId, Scope, metadata},
    schema::{Address, Channel},
    table::{
        AddressRecord, Attempts, FlowKey, FlowRecord, Flows, Identities, IdentityKey,
        IdentityRecord, id_bytes, id_of,
    },
    ui::{Node, Text, node::Group},
};

/// The method of settings by which an address changes.
const PROFILE: &str = "profile";

/// A verification that began by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedVerification {
    /// The flow.
    pub flow: FlowId,
    /// The address that a code or link was sent to.
    pub address: String,
}

/// What such a verification needs, drawn once, whatever often the transaction is tried.
pub(super) struct DrawnVerification {
    pub(super) flow: FlowId,
    message: Uuid,
    proof: cardea_storage::Secret<String>,
}

/// How the transaction ended.
enum Ending {
    Verified,
    Gone,
    AlreadyCompleted,
}

/// What ends the transaction without a commit.
enum Unverified {
    /// What waited for the address cannot be: somebody else has it by now, say.
    Refused(Text),
    Store(StoreError),
}

impl From<StoreError> for Unverified {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Service {
    /// Completes a verification whose code was right.
    pub(super) async fn verify(
        &self,
        scope: Scope,
        started: (FlowId, &FlowRecord),
        mut flow: Flow,
        client: &Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let record = started.1;
        let via = via_number(Channel::of_address(&record.address));
        let subject = id_of(&record.subject);
        let occasion = &after_code(Purpose::Verification, started, client);
        let asked = self.consult_code(scope, subject, occasion, &mut flow).await?;
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let waiting = self.waiting(started.0, record);
        if waiting.is_none() && !record.code_traits.is_empty() {
            flow.ui.messages.push(AddressProof::of(record).invalid(Purpose::Verification));
            return Err(CodeRejection::Invalid(Box::new(flow)));
        }
        let (waiting, letters) = (&waiting, &self.draw_news(subject, PROFILE));
        // What waited is saved now, and what runs after that runs.
        let saved = &Occasion { purpose: Purpose::Settings, method: PROFILE, ..*occasion };
        let saved_calls = &self.draw_calls(saved, Slot::of_id(&subject));
        let done = self
            .store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: subject };
                let Some(entry) = t.get::<Identities>(&key).await? else {
                    return Ok(Ending::Gone);
                };
                let before = entry.record;
                if !asked && !before.inactive {
                    return Ok(Ending::Gone);
                }
                let mut identity = match waiting {
                    None => before.clone(),
                    Some(waiting) if !waiting.is_from(&before) || before.inactive => {
                        return Ok(Ending::Gone);
                    }
                    Some(waiting) => {
                        self.become_waiting(&t, key, &before, waiting.traits.clone()).await?
                    }
                };
                let address = identity
                    .verifiable
                    .iter_mut()
                    .find(|address| address.via == via && address.value == record.address);
                let Some(address) = address else { return Ok(Ending::Gone) };
                if !self.use_flow(&t, scope, started, subject).await? {
                    return Ok(Ending::AlreadyCompleted);
                }
                // No session asks any more: there is no other one to be left.
                let ends = waiting.is_some() && self.saving_ends_sessions(PROFILE);
                if address.verified_at == 0 {
                    address.verified_at = t.now().as_millis();
                    address.updated_at = t.now().as_millis();
                    identity.updated_at = t.now().as_millis();
                    identity.session_epoch += u64::from(ends);
                    t.put::<Identities>(&key, &identity, None).await?;
                }
                for budget in [Budget::Sending, Budget::Trying] {
                    t.delete::<Attempts>(&self.budget_key(scope, subject, budget)).await?;
                }
                if waiting.is_some() {
                    let details = json!({"method": PROFILE, "address": true});
                    let what = (Act::IdentityChanged, Actor::Oneself(client));
                    self.audit(&t, scope, subject, what, details).await?;
                    if self.is_news(Change::Address, PROFILE) {
                        self.tell(&t, scope, (&before, &identity), letters, Change::Address);
                    }
                }
                let told = Identity::of(IdentityId(subject), &identity);
                if waiting.is_some() {
                    self.post_calls((&t, scope), saved, saved_calls, Some(&told), None);
                }
                self.post_calls((&t, scope), occasion, calls, Some(&told), None);
                Ok::<_, Unverified>(Ending::Verified)
            })
            .await;
        let ending = match done {
            Ok(done) => done.value,
            Err(Unverified::Refused(text)) => {
                flow.ui.messages.push(text);
                return Err(CodeRejection::Invalid(Box::new(flow)));
            }
            Err(Unverified::Store(error)) => return Err(error.into()),
        };
        match ending {
            Ending::Verified => {
                self.posted();
                self.calls_posted(calls);
                self.calls_posted(saved_calls);
                self.hint_flow(scope, started, subject).await;
                let done = FlowRecord { completed_at: self.now().as_millis(), ..record.clone() };
                let mut flow = self.show_flow(flow.id, &done);
                flow.state = FlowState::PassedChallenge;
                Ok(CodeOutcome::Verified(Box::new(flow)))
            }
            Ending::Gone => {
                flow.ui.messages.push(AddressProof::of(record).invalid(Purpose::Verification));
                Err(CodeRejection::Invalid(Box::new(flow)))
            }
            Ending::AlreadyCompleted => {
                flow.ui.messages.push(Text::code_already_completed(Purpose::Verification));
                Err(CodeRejection::Invalid(Box::new(flow)))
            }
        }
    }

    /// Makes an identity what waited for its address.
    async fn become_waiting(
        &self,
        t: &Transaction,
        key: IdentityKey,
        before: &IdentityRecord,
        traits: serde_json::Value,
    ) -> Result<IdentityRecord, Unverified> {
        let change = IdentityChange {
            traits,
            metadata_public: metadata(&before.metadata_public),
            metadata_admin: metadata(&before.metadata_admin),
            ..IdentityChange::default()
        };
        self.become_changed(t, key, before.clone(), &change, None).await.map_err(|rejection| {
            match rejection {
                ChangeRejection::Store(error) => Unverified::Store(error),
                ChangeRejection::DuplicateIdentifier => {
                    Unverified::Refused(Text::duplicate_identifier())
                }
                // The schema changed while this waited.
                ChangeRejection::InvalidTraits(violations) if !violations.is_empty() => {
                    Unverified::Refused(violations[0].text())
                }
                other => Unverified::Refused(Text::generic(&other.to_string())),
            }
        })?;
        let after = t.get::<Identities>(&key).await?;
        let after = after.ok_or(StoreError::Illegal("what was written is not there"))?.record;
        match self.left_behind(before, &after) {
            Some(text) => Err(Unverified::Refused(text)),
            None => Ok(after),
        }
    }

    /// What is shown of a verification that was completed: that it was, and the way on.
    pub(super) fn show_verified(&self, flow: &mut Flow, record: &FlowRecord) {
        let on = flow.return_to.clone().unwrap_or_else(|| self.settings.default_return_url.clone());
        flow.ui.nodes.clear();
        flow.ui.messages = vec![Text::verified(Channel::of_address(&record.address))];
        let group =
            if AddressProof::of(record) == AddressProof::Link { Group::Link } else { Group::Code };
        let on = Node::anchor(group, "continue", &on, Text::label_continue());
        flow.ui.nodes.push(on);
    }

    /// Draws what verifying an address of a new identity needs.
    pub(super) fn draw_verification(&self, subject: Uuid) -> DrawnVerification {
        let slot = Slot::of_id(&subject);
        DrawnVerification {
            flow: FlowId(self.mint_in(slot)),
            message: self.draw_message(slot),
            proof: self.draw_proof(self.verification_template()),
        }
    }

    /// The message that a verification which begins by itself sends.
    const fn verification_template(&self) -> Template {
        self.proof_for(Purpose::Verification).template(Purpose::Verification)
    }

    /// The first address of an identity that is not verified, and that messages go to.
    fn to_be_verified<'a>(&self, identity: &'a IdentityRecord) -> Option<&'a AddressRecord> {
        let reached = |address: &&AddressRecord| {
            let value = address.value.clone();
            let to = Address { via: Channel::of_address(&value), value };
            self.settings.message_limits.reaches(&to)
        };
        identity.verifiable.iter().filter(|address| address.verified_at == 0).find(reached)
    }

    /// Whether a verification may begin by itself, of the first of these addresses that
    /// messages go to. Once it has, its message is to be counted.
    pub(super) async fn may_verify(
        &self,
        scope: Scope,
        client: &Client,
        addresses: impl Iterator<Item = Address>,
    ) -> Result<Result<(), TooEarly>, StoreError> {
        let mut reached = addresses.filter(|to| self.settings.message_limits.reaches(to));
        match reached.next() {
            Some(to) => self.message_may_go(scope, client, &to).await,
            None => Ok(Ok(())),
        }
    }

    /// Begins to verify the first address of an identity that is not verified, and
    /// writes the message with the code or link; `None` if there is none.
    pub(super) fn start_verification(
        &self,
        t: &Transaction,
        scope: Scope,
        (subject, identity): (Uuid, &IdentityRecord),
        (origin, client): (&FlowRecord, &Client),
        drawn: &DrawnVerification,
    ) -> Option<StartedVerification> {
        let address = self.to_be_verified(identity)?;
        let what = (address.value.as_str(), Bytes::new());
        Some(self.verify_address(t, scope, (subject, identity), (origin, client), (drawn, what)))
    }

    /// Begins to verify an address, with what waits for that, and writes the message.
    pub(super) fn verify_address(
        &self,
        t: &Transaction,
        scope: Scope,
        (subject, identity): (Uuid, &IdentityRecord),
        (origin, client): (&FlowRecord, &Client),
        (drawn, (address, waiting)): (&DrawnVerification, (&str, Bytes)),
    ) -> StartedVerification {
        let template = self.verification_template();
        let digests = self.code_digests(scope.tenant, drawn.flow.0, drawn.proof.expose());
        let now = t.now();
        let record = FlowRecord {
            purpose: Purpose::Verification.number(),
            issued_at: now.as_millis(),
            expires_at: now.after(self.settings.flow_lifespan).as_millis(),
            request_url: origin.request_url.clone(),
            return_to: origin.return_to.clone(),
            schema_id: identity.schema_id.clone(),
            csrf_digest: origin.csrf_digest.clone(),
            subject: id_bytes(&subject),
            active: self.proof_for(Purpose::Verification).name().to_owned(),
            state: 1,
            address: address.to_owned(),
            code_traits: waiting,
            code_digest: digests.first().map(|digest| digest.to_vec().into()).unwrap_or_default(),
            code_expires_at: now.after(self.proof_lifespan(template)).as_millis(),
            ..FlowRecord::default()
        };
        let key = FlowKey { tenant: scope.tenant, id: drawn.flow.0 };
        t.insert::<Flows>(&key, &record, Some(self.flow_kept_until(&record)));
        let letter = Letter {
            id: drawn.message,
            template,
            recipient: address,
            via: Channel::of_address(address),
            language: client.language,
            model: &self.proof_model((template, drawn.flow), address, &drawn.proof, client),
            decoy: false,
        };
        self.post(t, scope, &letter);
        StartedVerification { flow: drawn.flow, address: address.to_owned() }
    }
}
