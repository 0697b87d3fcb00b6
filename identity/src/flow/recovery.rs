//! Getting back in: a right code logs the owner of the address in, once, and leads to
//! its settings.
//!
//! An address that was never verified may have been put there by somebody else, who
//! waits for its owner to move in. So recovering by one ends all sessions and all that
//! one could log in by before; recovering shows that the address is one's own. By an
//! address that was verified, recovering is one factor: a second one is asked for as ever.

use std::time::Duration;

use bytes::Bytes;
use cardea_storage::{Consistency, Secret, Slot, StoreError, Timestamp};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{
    AddressProof, Flow, FlowState, Purpose,
    code::{CodeOutcome, CodeRejection, privileged_minutes},
    sent_code::Budget,
};
use crate::{
    Service,
    audit::{Act, Actor},
    hook::{Action, Moment, Occasion},
    identity::{draft::via_number, factors::Factors},
    model::{Client, CsrfDigest, FlowId, Identity, IdentityId, Issued, Scope},
    schema::Channel,
    session::{CredentialKind, issue::Factor},
    table::{
        AddressRecord, Attempts, CredentialKey, Credentials, FlowKey, FlowRecord, Flows,
        Identities, IdentityKey, IdentityRecord, id_bytes, id_of,
    },
    ui::Text,
};

/// What hooks run on once a code or a link was right.
pub(super) fn after_code<'a>(
    purpose: Purpose,
    flow: (FlowId, &'a FlowRecord),
    client: &'a Client,
) -> Occasion<'a> {
    let method = AddressProof::of(flow.1).name();
    Occasion { moment: Moment::After, purpose, method, flow, client }
}

/// How the transaction ended.
enum Ending {
    Recovered(Box<(Issued, IdentityRecord, FlowRecord, Factors)>),
    Gone,
    Disabled,
    /// Its organization signs it in.
    Elsewhere(uuid::Uuid),
    AlreadyCompleted,
}

/// A code, or the token of a link, that an administrator hands to somebody.
#[derive(Debug, Clone)]
pub struct RecoveryCode {
    /// The flow that it is good for.
    pub flow: FlowId,
    /// The code, or the token.
    pub code: Secret<String>,
    /// Until when.
    pub expires_at: Timestamp,
}

/// What an administrator asks for.
#[derive(Debug, Clone, Default)]
pub struct NewRecovery {
    /// How long it is good; `None`: as long as codes are.
    pub lifespan: Option<Duration>,
    /// Whether it is for a native client.
    pub is_native: bool,
    /// The URL that asked for it.
    pub request_url: String,
    /// Where to go afterwards; empty for nowhere.
    pub return_to: String,
}

/// Why there is no code.
#[derive(Debug, Error)]
pub enum RecoveryCodeRejection {
    /// There is no such identity.
    #[error("there is no such identity")]
    NotFound,
    /// Recovery is not offered.
    #[error("recovery is not offered")]
    NotOffered,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Begins a recovery for somebody, and gives its code to the administrator who
    /// asks (`createRecoveryCodeForIdentity`).
    ///
    /// # Errors
    /// See [`RecoveryCodeRejection`].
    pub async fn create_recovery_code(
        &self,
        scope: Scope,
        id: IdentityId,
        new: NewRecovery,
    ) -> Result<RecoveryCode, RecoveryCodeRejection> {
        self.begin_for(scope, id, new, (AddressProof::Code, self.draw_code())).await
    }

    /// The same with a token that stands in a link (`createRecoveryLinkForIdentity`): who
    /// follows it is let in, once.
    ///
    /// # Errors
    /// See [`RecoveryCodeRejection`].
    pub async fn create_recovery_link(
        &self,
        scope: Scope,
        id: IdentityId,
        new: NewRecovery,
    ) -> Result<RecoveryCode, RecoveryCodeRejection> {
        self.begin_for(scope, id, new, (AddressProof::Link, self.draw_token())).await
    }

    async fn begin_for(
        &self,
        scope: Scope,
        id: IdentityId,
        new: NewRecovery,
        (proof, code): (AddressProof, Secret<String>),
    ) -> Result<RecoveryCode, RecoveryCodeRejection> {
        if !self.settings.recovery {
            return Err(RecoveryCodeRejection::NotOffered);
        }
        let flow = FlowId(self.mint_in(Slot::of_id(&id.0)));
        let digests = self.code_digests(scope.tenant, flow.0, code.expose());
        let lifespan = new.lifespan.unwrap_or(self.settings.code_lifespan);
        let (digests, new) = (&digests, &new);
        let done = self
            .store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: id.0 };
                let identity = t.get::<Identities>(&key).await?;
                let identity = identity.ok_or(RecoveryCodeRejection::NotFound)?.record;
                let expires_at = t.now().after(lifespan);
                let record = FlowRecord {
                    purpose: Purpose::Recovery.number(),
                    issued_at: t.now().as_millis(),
                    expires_at: expires_at.as_millis(),
                    request_url: new.request_url.clone(),
                    return_to: new.return_to.clone(),
                    schema_id: identity.schema_id,
                    subject: id_bytes(&id.0),
                    active: proof.name().to_owned(),
                    state: 1,
                    code_digest: digests.first().map(|d| d.to_vec().into()).unwrap_or_default(),
                    code_expires_at: expires_at.as_millis(),
                    unclaimed: !new.is_native,
                    ..FlowRecord::default()
                };
                let key = FlowKey { tenant: scope.tenant, id: flow.0 };
                t.insert::<Flows>(&key, &record, Some(self.flow_kept_until(&record)));
                let what = (Act::RecoveryIssued, Actor::Administrator);
                self.audit(&t, scope, id.0, what, json!({"method": proof.name()})).await?;
                Ok::<_, RecoveryCodeRejection>(expires_at)
            })
            .await?;
        Ok(RecoveryCode { flow, code, expires_at: done.value })
    }

    /// Makes a flow that an administrator began the browser's that shows it, and says
    /// whether it is this one's. Until a code is tried it may become another's: what looks
    /// ahead into mails must not lock out whom they are for.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim_flow(
        &self,
        scope: Scope,
        id: FlowId,
        browser: CsrfDigest,
    ) -> Result<bool, StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(false) };
                let is_its = found.record.csrf_digest.ct_eq(&browser.0).into();
                if is_its || !found.record.unclaimed {
                    return Ok(is_its);
                }
                let record =
                    FlowRecord { csrf_digest: Bytes::copy_from_slice(&browser.0), ..found.record };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok(true)
            })
            .await
            .map(|done| done.value)
    }

    /// Completes a recovery whose code was right.
    pub(super) async fn recover(
        &self,
        scope: Scope,
        started: (FlowId, &FlowRecord),
        mut flow: Flow,
        client: &Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let record = started.1;
        let via = via_number(Channel::of_address(&record.address));
        let subject = id_of(&record.subject);
        let occasion = &after_code(Purpose::Recovery, started, client);
        let asked = self.consult_code(scope, subject, occasion, &mut flow).await?;
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let revokes = self.settings.hooks.runs(Purpose::Recovery, occasion.method, Action::revokes);
        let drawn = &self.draw_session(scope, subject);
        let settings_id = self.mint_in(Slot::of_id(&subject));
        let done = self
            .store
            .transact(|t| async move {
                let key = IdentityKey { tenant: scope.tenant, id: subject };
                let Some(entry) = t.get::<Identities>(&key).await? else {
                    return Ok(Ending::Gone);
                };
                let mut identity = entry.record;
                let is_ours =
                    |address: &AddressRecord| address.via == via && address.value == record.address;
                // An administrator's code is good without an address.
                if !record.address.is_empty() && !identity.recovery.iter().any(is_ours) {
                    return Ok(Ending::Gone);
                }
                // One that became active since hooks were to be asked waits for another try.
                if identity.inactive || !asked {
                    return Ok(Ending::Disabled);
                }
                // An administrator's code is the way in when the organization's is broken.
                if let Some(organization) = self.bound_to(identity.organization())
                    && !record.address.is_empty()
                {
                    return Ok(Ending::Elsewhere(organization));
                }
                if !self.use_flow(&t, scope, started, subject).await? {
                    return Ok(Ending::AlreadyCompleted);
                }
                let now = t.now().as_millis();
                let mut unverified = false;
                if let Some(address) = identity.verifiable.iter_mut().find(|a| is_ours(a)) {
                    unverified = address.verified_at == 0;
                    if unverified {
                        address.verified_at = now;
                        address.updated_at = now;
                    }
                }
                identity.session_epoch += u64::from(unverified || revokes);
                if unverified {
                    identity.updated_at = now;
                    identity.second_factor = false;
                    self.forget_factors(&t, scope, (subject, client)).await?;
                }
                t.put::<Identities>(&key, &identity, None).await?;
                for budget in [Budget::Sending, Budget::Trying] {
                    t.delete::<Attempts>(&self.budget_key(scope, subject, budget)).await?;
                }
                let came = Some(&record.address).filter(|address| !address.is_empty());
                let factor = Factor {
                    via: came.map(|address| Channel::of_address(address)),
                    ..Factor::first(CredentialKind::CodeRecovery)
                };
                let owner = (subject, &identity);
                let issued = self.issue_session(&t, scope, owner, drawn, (factor, client)).await?;
                let lifespan = self.settings.flow_lifespan;
                let mut settings = FlowRecord {
                    purpose: Purpose::Settings.number(),
                    issued_at: now,
                    expires_at: t.now().after(lifespan).as_millis(),
                    request_url: record.request_url.clone(),
                    return_to: record.return_to.clone(),
                    schema_id: identity.schema_id.clone(),
                    subject: id_bytes(&subject),
                    csrf_digest: record.csrf_digest.clone(),
                    ..FlowRecord::default()
                };
                let factors = if unverified {
                    Factors::default()
                } else {
                    self.factors_of(&t, scope, subject).await?
                };
                self.draw_offers(&mut settings, &factors);
                let key = FlowKey { tenant: scope.tenant, id: settings_id };
                t.insert::<Flows>(&key, &settings, Some(self.flow_kept_until(&settings)));
                let told = Identity::of(IdentityId(subject), &identity);
                self.post_calls((&t, scope), occasion, calls, Some(&told), Some(&issued.session));
                let done = (issued, identity, settings, factors);
                Ok::<_, StoreError>(Ending::Recovered(Box::new(done)))
            })
            .await?;
        match done.value {
            Ending::Recovered(recovered) => {
                let (issued, identity, settings, factors) = *recovered;
                self.calls_posted(calls);
                self.hint_flow(scope, started, subject).await;
                let mut settings =
                    self.show_settings(FlowId(settings_id), &settings, &identity, &factors);
                settings.ui.messages.push(Text::recovered(privileged_minutes(self)));
                self.keep_form(scope, &settings).await?;
                flow.state = FlowState::PassedChallenge;
                flow.ui.nodes.clear();
                Ok(CodeOutcome::Recovered {
                    flow: Box::new(flow),
                    issued: Box::new(issued),
                    settings: Box::new(settings),
                })
            }
            Ending::Disabled => Err(CodeRejection::Disabled),
            Ending::Elsewhere(organization) => {
                flow.ui.messages.push(self.managed_by(organization));
                Err(CodeRejection::Invalid(Box::new(flow)))
            }
            Ending::Gone => {
                flow.ui.messages.push(AddressProof::of(record).invalid(Purpose::Recovery));
                Err(CodeRejection::Invalid(Box::new(flow)))
            }
            Ending::AlreadyCompleted => {
                flow.ui.messages.push(Text::code_already_completed(Purpose::Recovery));
                Err(CodeRejection::Invalid(Box::new(flow)))
            }
        }
    }

    /// Asks blocking hooks about who has shown a right code. `false` if they were not asked,
    /// since it is inactive, or gone.
    pub(super) async fn consult_code(
        &self,
        scope: Scope,
        subject: uuid::Uuid,
        occasion: &Occasion<'_>,
        flow: &mut Flow,
    ) -> Result<bool, CodeRejection> {
        if !self.asks_hooks(occasion) {
            return Ok(true);
        }
        let key = IdentityKey { tenant: scope.tenant, id: subject };
        let found = self.store.view(Consistency::Strong).peek::<Identities>(&key).await?;
        let Some(entry) = found.filter(|entry| !entry.record.inactive) else { return Ok(false) };
        let identity = Identity::of(IdentityId(subject), &entry.record);
        match self.ask_hooks(occasion, Some(identity), None).await {
            Ok(_) => Ok(true),
            Err(failed) => Err(match failed.tell(flow) {
                None => CodeRejection::Invalid(Box::new(flow.clone())),
                Some(failed) => CodeRejection::Hook(failed),
            }),
        }
    }

    /// Takes away all that one could log in by, and leaves an event of each; the identifiers
    /// stay.
    pub(super) async fn forget_factors(
        &self,
        t: &cardea_storage::Transaction,
        scope: Scope,
        (identity, client): (uuid::Uuid, &Client),
    ) -> Result<(), StoreError> {
        let factors = self.factors_of(t, scope, identity).await?;
        for kind in factors.kinds() {
            let key = CredentialKey { tenant: scope.tenant, identity, kind: kind.number() };
            // Checked at commit: one that was added meanwhile is forgotten, too.
            let Some(entry) = t.get::<Credentials>(&key).await? else { continue };
            if kind == CredentialKind::Password {
                let mut credential = entry.record;
                credential.password_hash.clear();
                credential.imported_hash = Bytes::new();
                credential.updated_at = t.now().as_millis();
                t.put::<Credentials>(&key, &credential, None).await?;
            } else {
                t.delete::<Credentials>(&key).await?;
            }
            if factors.has(kind) {
                let what = (Act::CredentialRemoved, Actor::Oneself(client));
                self.audit(t, scope, identity, what, json!({"type": kind.name()})).await?;
            }
        }
        Ok(())
    }
}
