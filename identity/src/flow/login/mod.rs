//! Completing a login. Each method has a file of its own; what they share is here.
//!
//! The steps, the same for an account that somebody has and one that nobody has:
//! 1. Read the flow; one that was completed before ends here.
//! 2. The method finds out whose account it is about, or the decoy that stands for
//!    nobody.
//! 3. In that account's home, read identity, credential and counters, and charge the
//!    attempt; this commits before any secret is looked at.
//! 4. The method verifies what was sent.
//! 5. On failure, count it for the source. On success, one transaction in the home
//!    asks the method whether identity and credential are still what was verified,
//!    puts the mark of the flow, clears the counters and issues the session.

mod charge;
mod code;
mod failed;
mod hooked;
mod lookup_secret;
mod passkey;
mod password;
pub(in crate::flow) mod second_code;
mod social;
mod submission;
mod totp;
mod webauthn;

use cardea_storage::{Slot, StoreError, Table, Timestamp};
use uuid::Uuid;

use self::charge::Charged;
pub use self::submission::{LoggedIn, LoginRejection, LoginSubmission};
use super::{
    Flow, FlowState, Purpose, organization::Membership, sent_code::Budget, social::Renewal,
};
use crate::{
    Service,
    hook::Edits,
    model::{Client, FlowId, Identity, IdentityId, Issued, Scope},
    session::{Aal, CredentialKind, Proof, issue::Factor},
    table::{
        Attempts, CredentialRecord, Credentials, FlowRecord, Identities, IdentityKey,
        IdentityRecord, id_bytes, id_of,
    },
    ui::Text,
};

/// Who sends something to which flow.
#[derive(Clone, Copy)]
struct Sender<'a> {
    scope: Scope,
    id: FlowId,
    client: &'a Client,
}

/// An attempt to prove oneself to be an account by a method.
pub(super) struct Attempt<'a> {
    pub(super) scope: Scope,
    pub(super) flow: (FlowId, &'a FlowRecord),
    pub(super) client: &'a Client,
    /// Whose account it is about.
    pub(super) account: Uuid,
    /// The digest of where it comes from.
    pub(super) source: [u8; 32],
    /// The session that the caller has already.
    pub(super) proof: Option<&'a Proof>,
    /// What is shown.
    pub(super) factor: Factor<'a>,
    /// What a provider says of the identity now, where it is to become that.
    pub(super) renewal: Option<Renewal<'a>>,
}

/// What a method says of its credential once it is read again to complete the login.
pub(super) enum Settled {
    /// It is not what was verified any more.
    Changed,
    /// It stays as it is.
    Kept,
    /// It becomes this.
    Becomes(Box<CredentialRecord>),
}

/// Judges a credential as it is at the time of the commit. It may be called more than
/// once.
pub(super) type Settle<'a> = &'a (dyn Fn(Option<&CredentialRecord>, Timestamp) -> Settled + Sync);

/// How the completing transaction ended.
enum Ending {
    Issued(Box<Issued>),
    AlreadyCompleted,
    Changed,
    Unverified,
    /// Its organization signs it in.
    Elsewhere(Uuid),
}

impl Service {
    /// Submits a login (`updateLoginFlow`).
    ///
    /// # Errors
    /// See [`LoginRejection`].
    pub async fn submit_login(
        &self,
        scope: Scope,
        id: FlowId,
        submission: LoginSubmission,
        client: &Client,
    ) -> Result<LoggedIn, LoginRejection> {
        let sender = Sender { scope, id, client };
        if let Some(flow) = self.lacking_work(scope, (Purpose::Login, id), client).await? {
            self.keep_form(scope, &flow).await?;
            return Err(LoginRejection::Invalid(Box::new(flow)));
        }
        // Each is large, and would else be part of what stands on the stack for the others.
        let done = match submission.method() {
            "password" => Box::pin(self.log_in_by_password(sender, submission)).await,
            "oidc" if self.offers_social() => {
                Box::pin(self.log_in_by_provider(sender, submission)).await
            }
            "code" => Box::pin(self.log_in_by_code(sender, submission)).await,
            "totp" => Box::pin(self.log_in_by_totp(sender, submission)).await,
            "lookup_secret" => Box::pin(self.log_in_by_lookup_secret(sender, submission)).await,
            "webauthn" => Box::pin(self.log_in_by_webauthn(sender, submission)).await,
            "passkey" => Box::pin(self.log_in_by_passkey(sender, submission)).await,
            _ => self.log_in_by_nothing(sender).await,
        };
        if let Err(LoginRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    /// The answer to a submission that names no method that is there.
    async fn log_in_by_nothing(&self, sender: Sender<'_>) -> Result<LoggedIn, LoginRejection> {
        let (_, flow) = self.open_login(sender).await?;
        Err(LoginRejection::say(flow, Text::login_method_missing()))
    }

    /// Reads a login that can still be completed.
    async fn open_login(&self, sender: Sender<'_>) -> Result<(FlowRecord, Flow), LoginRejection> {
        let record = self.open_flow(sender.scope, Purpose::Login, sender.id).await?;
        let flow = self.show_flow(sender.id, &record);
        if flow.state == FlowState::PassedChallenge {
            return Err(LoginRejection::say(flow, Text::login_already_completed()));
        }
        Ok((record, flow))
    }

    /// Reads a login that asks for a second factor, which a session with a first one may
    /// complete.
    async fn open_second(
        &self,
        sender: Sender<'_>,
        proof: Option<&Proof>,
    ) -> Result<(FlowRecord, Flow), LoginRejection> {
        let (record, flow) = self.open_login(sender).await?;
        if record.requested_aal != 2 {
            return Err(LoginRejection::say(flow, Text::login_method_missing()));
        }
        let me = match proof {
            Some(proof) => self.me(sender.scope, proof).await?,
            None => None,
        };
        let me = me.ok_or(LoginRejection::SessionRequired)?;
        if me.identity_id != id_of(&record.subject) {
            return Err(LoginRejection::IdentityMismatch);
        }
        Ok((record, flow))
    }

    /// An attempt of the subject of a flow to show a second factor, if its source may
    /// try.
    async fn attempt_second<'a>(
        &self,
        sender: Sender<'a>,
        record: &'a FlowRecord,
        proof: Option<&'a Proof>,
        factor: Factor<'a>,
    ) -> Result<Attempt<'a>, LoginRejection> {
        let Sender { scope, id, client } = sender;
        let source = self.source(scope, client);
        self.source_may_try(scope, &source).await?.map_err(LoginRejection::Throttled)?;
        let account = id_of(&record.subject);
        let flow = (id, record);
        Ok(Attempt { scope, flow, client, account, source, proof, factor, renewal: None })
    }

    /// Completes the flow with what was verified; the form says it if that has changed
    /// meanwhile, or the flow was completed.
    pub(super) async fn finish_login(
        &self,
        attempt: &Attempt<'_>,
        mut flow: Flow,
        settle: Settle<'_>,
    ) -> Result<LoggedIn, LoginRejection> {
        let edits = self.consult_login(attempt, &mut flow).await?;
        let ending = match self.complete_login(attempt, settle, edits.as_ref()).await {
            Err(LoginRejection::NotLinked) => {
                return Err(LoginRejection::say(flow, Text::linked_does_not_match()));
            }
            Err(LoginRejection::NotRenewed(text)) => {
                return Err(LoginRejection::say(flow, text));
            }
            Err(LoginRejection::Taken) => {
                // Who chooses what a provider says learns who has an account; that is counted
                // like guessing.
                self.source_failed(attempt.scope, &attempt.source).await?;
                return Err(LoginRejection::say(flow, Text::duplicate_identifier()));
            }
            ending => ending?,
        };
        match ending {
            Ending::Issued(issued) => {
                self.finished(attempt.scope, attempt.flow.0, attempt.account);
                Ok(LoggedIn { issued: *issued })
            }
            Ending::AlreadyCompleted => {
                Err(LoginRejection::say(flow, Text::login_already_completed()))
            }
            Ending::Elsewhere(organization) => {
                let flow = self.lead_to_organization(attempt.scope, attempt.flow, organization);
                Err(LoginRejection::Invalid(Box::new(flow.await?)))
            }
            Ending::Unverified => self.lead_to_verification(attempt, flow).await,
            Ending::Changed => {
                let text = match attempt.factor.kind {
                    CredentialKind::Code => Text::login_code_invalid(),
                    CredentialKind::Totp => Text::totp_wrong(),
                    CredentialKind::LookupSecret => Text::lookup_secret_already_used(),
                    CredentialKind::Webauthn | CredentialKind::Passkey => Text::key_not_verified(),
                    _ => Text::invalid_credentials(),
                };
                Err(LoginRejection::say(flow, text))
            }
        }
    }

    async fn complete_login(
        &self,
        attempt: &Attempt<'_>,
        settle: Settle<'_>,
        edits: Option<&Edits>,
    ) -> Result<Ending, LoginRejection> {
        let Attempt { scope, account, client, factor, .. } = *attempt;
        let drawn = &self.draw_session(scope, account);
        let occasion = &attempt.occasion();
        let calls = &self.draw_calls(occasion, Slot::of_id(&account));
        let done = self
            .store
            .transact(|t| async move {
                let identity_key = IdentityKey { tenant: scope.tenant, id: account };
                let credential_key = attempt.credential_key();
                let (shared, own) = attempt.counters();
                let keys = [
                    Identities::key(&identity_key),
                    Credentials::key(&credential_key),
                    Attempts::key(&shared),
                    Attempts::key(&own),
                ];
                let rows = t.rows(&keys, true).await?;
                let identity = decode::<Identities>(rows.first())?;
                let credential = decode::<Credentials>(rows.get(1))?;
                let Some(mut identity) = identity else { return Ok(Ending::Changed) };
                if identity.inactive {
                    return Err(LoginRejection::Disabled);
                }
                // The address may have been given up since the code was sent.
                let address = attempt.flow.1.address.as_str();
                if factor.kind == CredentialKind::Code
                    && !self.holds_code_address(&identity, address)
                {
                    return Ok(Ending::Changed);
                }
                let settled = settle(credential.as_ref(), t.now());
                if matches!(settled, Settled::Changed) {
                    return Ok(Ending::Changed);
                }
                let membership = self.membership(attempt, &identity);
                if let Membership::Elsewhere(organization) = membership {
                    return Ok(Ending::Elsewhere(organization));
                }
                // What it has become stays, whether it gets in or not.
                if let Some(renewal) = attempt.renewal {
                    identity = self.renew_identity(&t, attempt, identity, renewal).await?;
                }
                if self.lacks_verified_address(attempt, &identity) {
                    return Ok(Ending::Unverified);
                }
                // It could not have got in when hooks were to be asked, and can by now.
                let Some(edits) = edits else { return Ok(Ending::Changed) };
                let mut present = match attempt.proof.filter(|_| !attempt.flow.1.subject.is_empty())
                {
                    Some(proof) => self
                        .find_session(&t, scope, proof, true)
                        .await?
                        .filter(|found| found.identity_id == account)
                        .filter(|found| found.accepted(t.now()).is_some())
                        .map(|found| (found, proof)),
                    None => None,
                };
                if factor.kind == CredentialKind::Code && factor.aal == Aal::Aal2 {
                    let shown = present.as_ref().map(|(found, _)| found.shown());
                    let known = self.second_addresses(&identity, &shown.unwrap_or_default());
                    if !known.iter().any(|known| known.value == address) {
                        return Ok(Ending::Changed);
                    }
                }
                // A second factor makes no session of its own.
                if present.is_none() && factor.aal == Aal::Aal2 {
                    return Err(LoginRejection::SessionRequired);
                }
                if !self.use_flow(&t, scope, attempt.flow, account).await? {
                    return Ok(Ending::AlreadyCompleted);
                }
                if let Settled::Becomes(mut credential) = settled {
                    credential.updated_at = t.now().as_millis();
                    t.put::<Credentials>(&credential_key, &credential, None).await?;
                }
                if factor.kind == CredentialKind::Code {
                    let budgets = match factor.aal {
                        Aal::Aal2 => [Budget::SendingSecond, Budget::TryingSecond],
                        _ => [Budget::Sending, Budget::Trying],
                    };
                    for budget in budgets {
                        t.delete::<Attempts>(&self.budget_key(scope, account, budget)).await?;
                    }
                    if show_address(&mut identity, address, t.now()) {
                        // What others set up with it before it was shown to be theirs.
                        identity.session_epoch += 1;
                        identity.second_factor = false;
                        self.forget_factors(&t, scope, (account, client)).await?;
                        t.put::<Identities>(&identity_key, &identity, None).await?;
                    }
                }
                // Behind that: what is linked now is nothing that others set up.
                let linked = self.link_pending(&t, scope, attempt.flow, (account, client)).await?;
                if !linked {
                    return Err(LoginRejection::NotLinked);
                }
                let throttle = &self.settings.throttle;
                let known = throttle.known(t.now());
                t.delete::<Attempts>(&shared).await?;
                t.put::<Attempts>(&own, &known, Some(throttle.kept_until(&known, t.now()))).await?;
                let mut changed = self.after_login(attempt, edits, &mut identity);
                if let Membership::Joins(organization) = membership {
                    identity.organization = id_bytes(&organization);
                    changed = true;
                }
                if changed {
                    t.put::<Identities>(&identity_key, &identity, None).await?;
                }
                if let Some((found, _)) = &mut present {
                    found.session.epoch = identity.session_epoch;
                    found.identity = identity.clone();
                }
                let owner = (account, &identity);
                let issued = match present {
                    Some(present) => {
                        let shown = (factor, client);
                        self.strengthen_session(&t, scope, present, drawn, shown).await?
                    }
                    None => self.issue_session(&t, scope, owner, drawn, (factor, client)).await?,
                };
                let told = Identity::of(IdentityId(account), &identity);
                self.post_calls((&t, scope), occasion, calls, Some(&told), Some(&issued.session));
                Ok(Ending::Issued(Box::new(issued)))
            })
            .await?;
        if matches!(done.value, Ending::Issued(_)) {
            self.calls_posted(calls);
        }
        Ok(done.value)
    }
}

/// Marks an address as shown to be its owner's; `false` if it was before, or is not
/// among those that are verified.
fn show_address(identity: &mut IdentityRecord, address: &str, now: Timestamp) -> bool {
    let found = identity.verifiable.iter_mut().find(|known| known.value == address);
    let Some(found) = found.filter(|found| found.verified_at == 0) else { return false };
    found.verified_at = now.as_millis();
    found.updated_at = now.as_millis();
    identity.updated_at = now.as_millis();
    true
}

fn decode<T: Table>(
    row: Option<&Option<cardea_storage::Row>>,
) -> Result<Option<T::Record>, StoreError> {
    match row {
        Some(Some(row)) => Ok(Some(T::decode(row)?.record)),
        _ => Ok(None),
    }
}
