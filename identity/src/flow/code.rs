//! What recovery and verification share: a code of six digits goes to an address, and
//! comes back; or a link does (see [`link`](super::link)). What every flow that sends codes
//! shares is in [`sent_code`](super::sent_code).
//!
//! The steps, the same for an address that somebody has and one that nobody has:
//! 1. To send: find whose address it is, or the decoy that stands for nobody; charge
//!    the sending at that account, which commits before anything else is done. Then the
//!    flow keeps the code's keyed digest, and a message is written beside it; for nobody
//!    a code that was never drawn, and a message that is never sent.
//! 2. To try: charge the account, then the flow; both commit before the code is looked
//!    at. Whose code it is says the flow as it is charged. A wrong one counts at the source
//!    that it came from, as a wrong password does. A flow has five tries over all its
//!    codes, an account as many as its throttle lets through.
//! 3. A right code brings about what the flow is for in one transaction in the
//!    subject's home, once.

use cardea_storage::{Secret, StoreError};
use thiserror::Error;

use super::{
    AddressProof, Flow, FlowState, Purpose,
    begin::{BeginRejection, csrf_bytes},
    lifecycle::FlowRejection,
    sent_code::{Budget, Sending, Tried},
    throttle::TooEarly,
};
use crate::{
    Service,
    hook::HookFailed,
    model::{CsrfDigest, FlowId, Issued, Scope},
    schema::{Rule, Violation},
    session::Proof,
    table::{FlowRecord, id_bytes, id_of},
    ui::{Text, forms},
};

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
        let done = match self.lacking_work(scope, (purpose, id), client).await? {
            Some(flow) => Err(CodeRejection::Invalid(Box::new(flow))),
            None => self.judge_code(scope, (purpose, id), submission, client).await,
        };
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
        // Nobody guesses links, and old ones are followed by mistake.
        let source = follower.is_none().then(|| self.source(scope, client));
        if let Some(source) = &source {
            self.source_may_try(scope, source).await?.map_err(CodeRejection::Throttled)?;
        }
        let mut record = match self.try_code_of(scope, id, (subject, Budget::Trying), code).await? {
            Tried::Right(record) => *record,
            Tried::Wrong => {
                if let Some(source) = &source {
                    self.source_failed(scope, source).await?;
                }
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
}

/// How long a session that recovered an account may change how one logs in, in minutes.
pub(super) fn privileged_minutes(service: &Service) -> u64 {
    service.settings.privileged_session_max_age.as_secs() / 60
}
