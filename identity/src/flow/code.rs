//! What recovery and verification share: a code of six digits goes to an address, and
//! comes back; or a link does (see [`link`](super::link)).
//!
//! The steps, the same for an address that somebody has and one that nobody has:
//! 1. To send: find whose address it is, or the decoy that stands for nobody; charge
//!    the sending at that account, which commits before anything else is done. Then the
//!    flow keeps the code's keyed digest, and a message is written beside it; for nobody
//!    a code that was never drawn, and a message that is never sent.
//! 2. To try: charge the account, then the flow; both commit before the code is looked
//!    at. A flow has five tries over all its codes, an account as many as its throttle
//!    lets through.
//! 3. A right code brings about what the flow is for in one transaction in the
//!    subject's home, once.

use cardea_storage::{Consistency, Secret, Slot, StoreError, Table};
use serde_json::json;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use uuid::Uuid;

use super::{
    AddressProof, Flow, FlowState, Purpose,
    lifecycle::{BeginRejection, FlowRejection, csrf_bytes},
    throttle::TooEarly,
};
use crate::{
    Service,
    courier::{Template, outbox::Letter},
    hook::HookFailed,
    identity::draft::via_number,
    model::{CsrfDigest, FlowId, Issued, Scope, session_epoch},
    schema::{Address, Channel, Rule, Violation, read_address},
    session::Proof,
    table::{
        AddressIndexKey, AddressIndexRecord, Attempts, AttemptsKey, FlowKey, FlowRecord, Flows,
        Identities, IdentityKey, RecoveryAddresses, VerifiableAddresses, id_bytes, id_of,
    },
    ui::{Text, forms},
};

/// Tries of a flow, over all codes that were sent for it.
pub const TRIES_MAX: u32 = 5;
/// How an e-mail address is kept; see [`AddressRecord::via`](crate::table::AddressRecord).
pub(super) const EMAIL: u32 = 1;

/// How a recovery or verification is to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginCode {
    /// The URL that was asked for.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// The session that the caller has already.
    pub proof: Option<Proof>,
    /// The browser that begins it; `None` for a native flow.
    pub browser: Option<CsrfDigest>,
    /// Who begins it.
    pub client: crate::Client,
}

/// What somebody sent to recover an account, or to verify an address.
#[derive(Debug, Clone, Default)]
pub struct CodeSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The address to send a code to, as it was typed.
    pub email: Option<String>,
    /// The code.
    pub code: Option<Secret<String>>,
    /// The token of a link, and the browser that follows it.
    pub token: Option<(Secret<String>, CsrfDigest)>,
}

/// What a submission brought about.
#[derive(Debug, Clone)]
pub enum CodeOutcome {
    /// A code was sent, if somebody has the address; the form asks for it.
    Sent(Box<Flow>),
    /// The address was verified.
    Verified(Box<Flow>),
    /// Somebody is back in, and may set a new password in these settings.
    Recovered {
        /// The recovery.
        flow: Box<Flow>,
        /// The session and its tokens.
        issued: Box<Issued>,
        /// The settings flow to go on with.
        settings: Box<Flow>,
    },
}

/// Why a submission brought about nothing.
#[derive(Debug, Error)]
pub enum CodeRejection {
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// Something is wrong with what was sent; the flow's form says what. Status 400.
    #[error("the submission was refused; the form says why")]
    Invalid(Box<Flow>),
    /// The code is right, and the identity is inactive (`identity_disabled`).
    #[error("this account was disabled")]
    Disabled,
    /// Too many attempts.
    #[error("too many attempts, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
    /// A hook did not answer as it must.
    #[error(transparent)]
    Hook(HookFailed),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A code on its way.
pub(super) struct Sending<'a> {
    /// Whether somebody has the address who may log in.
    pub(super) known: bool,
    pub(super) via: Channel,
    pub(super) address: &'a str,
    pub(super) template: Template,
    /// Who asks for it.
    pub(super) client: &'a crate::Client,
}

/// How a try at a code ended.
pub(super) enum Tried {
    /// It is right; the flow as it is now.
    Right(Box<FlowRecord>),
    /// It is wrong, or over.
    Wrong,
    /// The flow takes no more.
    NoneLeft,
}

/// What is counted at an account.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Budget {
    Sending,
    Trying,
    /// The same of second factors: no first factor clears them.
    SendingSecond,
    TryingSecond,
    /// Copies of all that is held.
    Copying,
}

impl Service {
    /// Begins a recovery or a verification (`createNativeRecoveryFlow`,
    /// `createBrowserRecoveryFlow`, `createNativeVerificationFlow`,
    /// `createBrowserVerificationFlow`).
    ///
    /// # Errors
    /// [`BeginRejection::Disabled`] if it is not offered; see [`BeginRejection`].
    pub async fn begin_code(
        &self,
        scope: Scope,
        purpose: Purpose,
        begin: BeginCode,
    ) -> Result<Flow, BeginRejection> {
        let offered = match purpose {
            Purpose::Recovery => self.settings.recovery,
            _ => self.settings.verification,
        };
        if !offered {
            return Err(BeginRejection::Disabled);
        }
        if let (Purpose::Recovery, Some(proof)) = (purpose, &begin.proof)
            && self.me(scope, proof).await?.is_some()
        {
            return Err(BeginRejection::AlreadyLoggedIn);
        }
        let mut record = self.new_flow(purpose, begin.request_url, begin.return_to)?;
        record.csrf_digest = csrf_bytes(begin.browser);
        record.active = self.proof_for(purpose).name().to_owned();
        self.keep_begun(scope, record, false, &begin.client).await
    }

    /// Submits a recovery or a verification (`updateRecoveryFlow`,
    /// `updateVerificationFlow`).
    ///
    /// # Errors
    /// See [`CodeRejection`].
    pub async fn submit_code(
        &self,
        scope: Scope,
        (purpose, id): (Purpose, FlowId),
        submission: CodeSubmission,
        client: &crate::Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let done = self.judge_code(scope, (purpose, id), submission, client).await;
        match &done {
            Err(CodeRejection::Invalid(flow))
            | Ok(CodeOutcome::Sent(flow) | CodeOutcome::Verified(flow)) => {
                self.keep_form(scope, flow).await?;
            }
            _ => {}
        }
        done
    }

    async fn judge_code(
        &self,
        scope: Scope,
        (purpose, id): (Purpose, FlowId),
        submission: CodeSubmission,
        client: &crate::Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let record = self.open_flow(scope, purpose, id).await?;
        let mut flow = self.show_flow(id, &record);
        let invalid = |flow| Err(CodeRejection::Invalid(Box::new(flow)));
        if flow.state == FlowState::PassedChallenge {
            flow.ui.messages = vec![Text::code_already_completed(purpose)];
            return invalid(flow);
        }
        let proof = AddressProof::of(&record);
        if let Some((token, follower)) = submission.token {
            if proof != AddressProof::Link || flow.state != FlowState::SentEmail {
                flow.ui.messages.push(Text::link_invalid(purpose));
                return invalid(flow);
            }
            let follower = Some(follower);
            return self.try_code(scope, (id, &record), (flow, follower), &token, client).await;
        }
        if !submission.method.is_empty() && submission.method != proof.name() {
            flow.ui.messages.push(Text::code_method_missing(purpose));
            return invalid(flow);
        }
        let code = submission.code.filter(|code| !code.expose().trim().is_empty());
        let email = submission.email.filter(|email| !email.trim().is_empty());
        match (code, email) {
            (Some(code), _)
                if flow.state == FlowState::SentEmail && proof == AddressProof::Code =>
            {
                self.try_code(scope, (id, &record), (flow, None), &code, client).await
            }
            (_, Some(email)) => self.send_code(scope, (id, &record), flow, &email, client).await,
            _ => {
                let sent = flow.state == FlowState::SentEmail && proof == AddressProof::Code;
                let field = if sent { "code" } else { "email" };
                forms::say_violations(&mut flow.ui, &[Violation::required("#", field)]);
                invalid(flow)
            }
        }
    }

    async fn send_code(
        &self,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        mut flow: Flow,
        email: &str,
        client: &crate::Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let address = match self.deliverable(email) {
            Ok(address) => address,
            Err(via) => {
                flow.ui.say("email", Rule::address(via, email).text());
                flow.ui.fill("email", email.into());
                return Err(CodeRejection::Invalid(Box::new(flow)));
            }
        };
        self.count_message(scope, client, &address).await?.map_err(CodeRejection::Throttled)?;
        let proof = AddressProof::of(record);
        // An address that nobody has yet, and for which a change of settings waits.
        let waits = !record.code_traits.is_empty() && record.address == address.value;
        let account = match waits {
            true => id_of(&record.subject),
            false => self.holder(scope, flow.purpose, &address).await?,
        };
        let known = self.charge_code(scope, account, Budget::Sending).await?;
        let sending = Sending {
            known,
            via: address.via,
            address: &address.value,
            template: proof.template(flow.purpose),
            client,
        };
        let code_traits = if waits { record.code_traits.clone() } else { bytes::Bytes::new() };
        let subject = id_bytes(&account);
        let changed = FlowRecord { subject, code_traits, ..record.clone() };
        let changed = &self.write_code(scope, id, changed, &sending).await?;
        let mut flow = self.show_flow(id, changed);
        flow.ui.messages.push(proof.sent(flow.purpose, &address));
        Ok(CodeOutcome::Sent(Box::new(flow)))
    }

    async fn try_code(
        &self,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
        (mut flow, follower): (Flow, Option<CsrfDigest>),
        code: &Secret<String>,
        client: &crate::Client,
    ) -> Result<CodeOutcome, CodeRejection> {
        let purpose = flow.purpose;
        let subject = id_of(&record.subject);
        let mut record = match self.try_code_of(scope, id, (subject, Budget::Trying), code).await? {
            Tried::Right(record) => *record,
            Tried::Wrong => {
                flow.ui.messages.push(AddressProof::of(record).invalid(purpose));
                return Err(CodeRejection::Invalid(Box::new(flow)));
            }
            Tried::NoneLeft => {
                flow.ui.messages.push(Text::code_flow_failed(purpose));
                return Err(CodeRejection::Invalid(Box::new(flow)));
            }
        };
        if follower.is_some() {
            record.csrf_digest = csrf_bytes(follower);
        }
        match purpose {
            Purpose::Recovery => self.recover(scope, (id, &record), flow, client).await,
            _ => self.verify(scope, (id, &record), flow, client).await,
        }
    }

    /// Keeps a new code's digest with the flow, and writes the message that brings it;
    /// gives the flow as it is then. What was tried before stays counted.
    pub(super) async fn write_code(
        &self,
        scope: Scope,
        id: FlowId,
        record: FlowRecord,
        sending: &Sending<'_>,
    ) -> Result<FlowRecord, StoreError> {
        let template = sending.template;
        let proof = self.draw_proof(template);
        let digests = self.code_digests(scope.tenant, id.0, proof.expose());
        // Nobody's code is one that nobody can know.
        let unknown: [u8; 32] = self.store.entropy().bytes();
        let digest = digests.first().filter(|_| sending.known).copied().unwrap_or(unknown);
        let changed = &FlowRecord {
            state: 1,
            address: sending.address.to_owned(),
            code_digest: digest.to_vec().into(),
            code_expires_at: self.now().after(self.proof_lifespan(template)).as_millis(),
            ..record
        };
        let letter = &Letter {
            id: self.draw_message(Slot::of_id(&id.0)),
            template,
            recipient: sending.address,
            via: sending.via,
            language: sending.client.language,
            model: &self.proof_model((template, id), sending.address, &proof, sending.client),
            decoy: !sending.known,
        };
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(()) };
                let changed = FlowRecord { code_tries: found.record.code_tries, ..changed.clone() };
                t.put::<Flows>(key, &changed, Some(self.flow_kept_until(&changed))).await?;
                self.post(&t, scope, letter);
                Ok::<_, StoreError>(())
            })
            .await?;
        self.posted();
        Ok(changed.clone())
    }

    /// Tries a code: charges the account, then the flow, and only then looks at it.
    pub(super) async fn try_code_of(
        &self,
        scope: Scope,
        id: FlowId,
        (account, budget): (Uuid, Budget),
        code: &Secret<String>,
    ) -> Result<Tried, CodeRejection> {
        self.charge_code(scope, account, budget).await?;
        let Some(record) = self.charge_flow(scope, id).await? else { return Ok(Tried::NoneLeft) };
        let typed: String = code.expose().chars().filter(|c| !c.is_whitespace()).collect();
        let digests = self.code_digests(scope.tenant, id.0, &typed);
        let is_right =
            digests.iter().any(|digest| bool::from(digest.ct_eq(record.code_digest.as_ref())));
        if !is_right || self.now().as_millis() >= record.code_expires_at {
            return Ok(Tried::Wrong);
        }
        Ok(Tried::Right(Box::new(record)))
    }

    /// What somebody typed as an address that messages go to.
    ///
    /// # Errors
    /// What it looks like, and is not, or does not go.
    pub(super) fn deliverable(&self, typed: &str) -> Result<Address, Channel> {
        let address = read_address(typed)?;
        if self.settings.message_limits.reaches(&address) { Ok(address) } else { Err(address.via) }
    }

    /// Whose address it is, or the decoy.
    pub(super) async fn holder(
        &self,
        scope: Scope,
        purpose: Purpose,
        address: &Address,
    ) -> Result<Uuid, StoreError> {
        let Address { via, value } = address;
        let keys: Vec<_> = self
            .address_digests(scope.tenant, via_number(*via), value)
            .into_iter()
            .map(|digest| AddressIndexKey { tenant: scope.tenant, digest })
            .map(|key| match purpose {
                Purpose::Recovery => RecoveryAddresses::key(&key),
                _ => VerifiableAddresses::key(&key),
            })
            .collect();
        let rows = self.store.view(Consistency::Strong).rows(&keys, false).await?;
        let found = rows.into_iter().flatten().next();
        let found = found.and_then(|row| {
            <AddressIndexRecord as prost::Message>::decode(row.value.as_ref()).ok()
        });
        Ok(found.map_or_else(|| self.decoy(scope.tenant, value), |record| record.id()))
    }

    /// Charges an account; says whether it is somebody's who may log in.
    pub(crate) async fn charge_code(
        &self,
        scope: Scope,
        account: Uuid,
        budget: Budget,
    ) -> Result<bool, CodeRejection> {
        let counter = &self.budget_key(scope, account, budget);
        let done = self
            .store
            .transact(|t| async move {
                let identity = IdentityKey { tenant: scope.tenant, id: account };
                let keys = [Identities::key(&identity), Attempts::key(counter)];
                let rows = t.rows(&keys, true).await?;
                let decoded = |row: &Option<cardea_storage::Row>| row.clone();
                let identity = match rows.first().and_then(decoded) {
                    Some(row) => Some(Identities::decode(&row).map_err(StoreError::from)?.record),
                    None => None,
                };
                let before = match rows.get(1).and_then(decoded) {
                    Some(row) => Some(Attempts::decode(&row).map_err(StoreError::from)?.record),
                    None => None,
                };
                let throttle = &self.settings.throttle;
                let charged =
                    throttle.charge(before.as_ref(), t.now()).map_err(CodeRejection::Throttled)?;
                let kept = throttle.kept_until(&charged, t.now());
                t.put::<Attempts>(counter, &charged, Some(kept)).await?;
                Ok::<_, CodeRejection>(session_epoch(identity.as_ref()).is_some())
            })
            .await?;
        Ok(done.value)
    }

    pub(super) fn budget_key(&self, scope: Scope, account: Uuid, budget: Budget) -> AttemptsKey {
        let name: &[u8] = match budget {
            Budget::Sending => b"codes sent",
            Budget::Trying => b"codes tried",
            Budget::SendingSecond => b"second codes sent",
            Budget::TryingSecond => b"second codes tried",
            Budget::Copying => b"copies taken",
        };
        AttemptsKey::own(scope.tenant, account, &self.source_digest(scope.tenant, name))
    }

    /// Charges a flow; gives it as it is then, or nothing if it has no tries left.
    async fn charge_flow(
        &self,
        scope: Scope,
        id: FlowId,
    ) -> Result<Option<FlowRecord>, StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(None) };
                let mut record = found.record;
                if record.code_tries >= TRIES_MAX {
                    return Ok(None);
                }
                record.code_tries += 1;
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(Some(record))
            })
            .await?;
        Ok(done.value)
    }

    /// Six digits.
    pub(super) fn draw_code(&self) -> Secret<String> {
        Secret::new(format!("{:06}", self.store.entropy().below(1_000_000)))
    }

    /// The host of the public API, which is what codes are good for.
    pub(super) fn public_host(&self) -> &str {
        let url = self.settings.public_url.as_str();
        let place = url.split_once("://").map_or(url, |(_, place)| place);
        place.split(['/', ':']).next().unwrap_or_default()
    }

    pub(super) fn code_model(
        &self,
        template: Template,
        address: &str,
        code: &Secret<String>,
        client: &crate::Client,
    ) -> serde_json::Value {
        let minutes = self.settings.code_lifespan.as_secs().div_ceil(60);
        json!({
            "TransientPayload": client.transient_payload,
            "To": address,
            template.proof_field(): code.expose(),
            "ExpiresInMinutes": minutes,
            "RequestURLDomain": self.public_host(),
        })
    }
}

/// How long a session that recovered an account may change how one logs in, in minutes.
pub(super) fn privileged_minutes(service: &Service) -> u64 {
    service.settings.privileged_session_max_age.as_secs() / 60
}
