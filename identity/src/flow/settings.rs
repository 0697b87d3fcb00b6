//! Changing one's own settings: what an identity says of itself, and its password.
//!
//! A settings flow belongs to an identity, lives in its home, and takes as many
//! submissions as somebody likes until it is over. Each is by a session of that
//! identity, read again in the transaction that changes something. What changes how
//! one logs in needs a session whose holder was authenticated a short while ago. A new
//! password ends all other sessions, in the same transaction.

use cardea_storage::{Consistency, Secret, StoreError, Timestamp, Transaction};
use serde_json::Value;
use thiserror::Error;

use super::{
    Flow, FlowState, Purpose,
    lifecycle::{BeginRejection, FlowRejection, csrf_bytes},
};
use crate::{
    Service,
    identity::{ChangeRejection, IdentityChange},
    model::{CsrfDigest, FlowId, Identity, IdentityId, IdentityState, Scope, json_of},
    password::{Overloaded, PasswordHash},
    schema::{Rule, Violation},
    session::{CredentialKind, Proof, check::Found},
    table::{
        CredentialKey, Credentials, FlowRecord, Identities, IdentityKey, IdentityRecord,
        SessionRecord, Sessions, id_bytes, id_of,
    },
    ui::{Text, forms},
};

/// How a settings flow is to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginSettings {
    /// The URL that was asked for.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// The caller's session.
    pub proof: Option<Proof>,
    /// The browser that begins it; `None` for a native flow.
    pub browser: Option<CsrfDigest>,
}

/// What somebody sent to change its settings.
#[derive(Debug, Clone)]
pub struct SettingsSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The traits, for the method `profile`; null if missing.
    pub traits: Value,
    /// The new password, for the method `password`; `None` if missing.
    pub password: Option<Secret<String>>,
    /// The caller's session.
    pub proof: Option<Proof>,
}

/// Why settings are not shown or changed.
#[derive(Debug, Error)]
pub enum SettingsRejection {
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// The caller has no session (`session_inactive`).
    #[error("no active session")]
    NoSession,
    /// The session is another identity's (`security_identity_mismatch`).
    #[error("the flow is another identity's")]
    IdentityMismatch,
    /// The holder of the session must prove itself again first
    /// (`session_refresh_required`).
    #[error("the session is too old for this change")]
    RefreshRequired,
    /// Something is wrong with what was sent; the flow's form says what. Status 400.
    #[error("the change was refused; the form says why")]
    Invalid(Box<Flow>),
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What ends the transaction without a commit.
enum Refusal {
    NoSession,
    RefreshRequired,
    Taken,
    Invalid(Vec<Violation>),
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What is asked for, once it was looked at.
enum Wanted {
    Traits(Value),
    Password(PasswordHash),
}

impl Service {
    /// Begins a settings flow (`createNativeSettingsFlow`, `createBrowserSettingsFlow`).
    ///
    /// # Errors
    /// [`BeginRejection::SessionRequired`] without a session; see [`BeginRejection`].
    pub async fn begin_settings(
        &self,
        scope: Scope,
        begin: BeginSettings,
    ) -> Result<Flow, BeginRejection> {
        let proof = begin.proof.as_ref().ok_or(BeginRejection::SessionRequired)?;
        let me = self.me(scope, proof).await?.ok_or(BeginRejection::SessionRequired)?;
        let mut record = self.new_flow(Purpose::Settings, begin.request_url, begin.return_to)?;
        record.schema_id.clone_from(&me.identity.schema_id);
        record.subject = id_bytes(&me.identity_id);
        record.csrf_digest = csrf_bytes(begin.browser);
        let flow = self.keep_flow(scope, record.clone()).await?;
        Ok(self.show_settings(flow.id, &record, &me.identity))
    }

    /// A settings flow by its id (`getSettingsFlow`).
    ///
    /// # Errors
    /// See [`SettingsRejection`].
    pub async fn settings_flow(
        &self,
        scope: Scope,
        id: FlowId,
        proof: Option<&Proof>,
    ) -> Result<Flow, SettingsRejection> {
        let (record, me) = self.my_settings(scope, id, proof).await?;
        let mut flow = self.show_settings(id, &record, &me.identity);
        Self::refill(&mut flow, &record);
        Ok(flow)
    }

    /// Submits a settings flow (`updateSettingsFlow`).
    ///
    /// # Errors
    /// See [`SettingsRejection`].
    pub async fn submit_settings(
        &self,
        scope: Scope,
        id: FlowId,
        submission: SettingsSubmission,
    ) -> Result<Flow, SettingsRejection> {
        let done = self.judge_settings(scope, id, submission).await;
        if let Ok(flow) = &done {
            self.keep_form(scope, flow).await?;
        }
        if let Err(SettingsRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    async fn judge_settings(
        &self,
        scope: Scope,
        id: FlowId,
        submission: SettingsSubmission,
    ) -> Result<Flow, SettingsRejection> {
        let proof = submission.proof.as_ref();
        let (record, me) = self.my_settings(scope, id, proof).await?;
        let Some(proof) = proof else { return Err(SettingsRejection::NoSession) };
        let mut flow = self.show_settings(id, &record, &me.identity);
        flow.active = Some(submission.method.clone());
        let wanted = match submission.method.as_str() {
            "profile" => {
                forms::refill_traits(&mut flow.ui, &submission.traits);
                Wanted::Traits(submission.traits)
            }
            "password" => {
                if !self.is_privileged(&me, self.now()) {
                    return Err(SettingsRejection::RefreshRequired);
                }
                let password = submission.password;
                match self.new_password(scope, &me, &mut flow, password).await? {
                    Some(hash) => Wanted::Password(hash),
                    None => return Err(SettingsRejection::Invalid(Box::new(flow))),
                }
            }
            _ => {
                flow.active = None;
                flow.ui.messages.push(Text::settings_method_missing());
                return Err(SettingsRejection::Invalid(Box::new(flow)));
            }
        };
        let (wanted, subject) = (&wanted, me.identity_id);
        let changed = self
            .store
            .transact(|t| async move {
                let me = self
                    .find_session(&t, scope, proof, true)
                    .await?
                    .filter(|me| me.accepted(t.now()).is_some() && me.identity_id == subject)
                    .ok_or(Refusal::NoSession)?;
                self.change_mine(&t, scope, me, wanted).await
            })
            .await;
        match changed {
            Ok(done) => {
                let mut flow = self.show_settings(id, &record, &done.value);
                flow.state = FlowState::Success;
                flow.active = Some(submission.method);
                flow.ui.messages.push(Text::settings_saved());
                Ok(flow)
            }
            Err(Refusal::NoSession) => Err(SettingsRejection::NoSession),
            Err(Refusal::RefreshRequired) => Err(SettingsRejection::RefreshRequired),
            Err(Refusal::Taken) => {
                flow.ui.messages.push(Text::duplicate_identifier());
                Err(SettingsRejection::Invalid(Box::new(flow)))
            }
            Err(Refusal::Invalid(violations)) => {
                forms::say_violations(&mut flow.ui, &violations);
                Err(SettingsRejection::Invalid(Box::new(flow)))
            }
            Err(Refusal::Store(error)) => Err(error.into()),
        }
    }

    /// Writes what is wanted; gives the identity as it is then.
    async fn change_mine(
        &self,
        t: &Transaction,
        scope: Scope,
        me: Found,
        wanted: &Wanted,
    ) -> Result<IdentityRecord, Refusal> {
        let key = IdentityKey { tenant: scope.tenant, id: me.identity_id };
        let before = me.identity.clone();
        let privileged = self.is_privileged(&me, t.now());
        let (traits, hash) = match wanted {
            Wanted::Traits(traits) => (traits.clone(), None),
            Wanted::Password(hash) => (json_of(&before.traits), Some(hash)),
        };
        let change = IdentityChange {
            schema_id: String::new(),
            traits,
            state: IdentityState::Active,
            metadata_public: as_metadata(&before.metadata_public),
            metadata_admin: as_metadata(&before.metadata_admin),
            password: None,
        };
        let credential = CredentialKey {
            tenant: scope.tenant,
            identity: me.identity_id,
            kind: CredentialKind::Password.number(),
        };
        let identifiers = async || -> Result<Vec<String>, StoreError> {
            let found = t.get::<Credentials>(&credential).await?;
            Ok(found.map(|entry| entry.record.identifiers).unwrap_or_default())
        };
        let known_as = identifiers().await?;
        let changed = self.become_changed(t, key, before.clone(), &change, hash).await;
        changed.map_err(|rejection| match rejection {
            ChangeRejection::InvalidTraits(violations) => Refusal::Invalid(violations),
            ChangeRejection::DuplicateIdentifier => Refusal::Taken,
            ChangeRejection::Store(error) => Refusal::Store(error),
            other => {
                let rule = Rule::Other { reason: other.to_string() };
                Refusal::Invalid(vec![Violation::new("#", rule)])
            }
        })?;
        let mut after = match t.get::<Identities>(&key).await? {
            Some(entry) => entry.record,
            None => return Err(Refusal::NoSession),
        };
        let moved = is_reached_elsewhere(&before, &after) || known_as != identifiers().await?;
        if (hash.is_some() || moved) && !privileged {
            return Err(Refusal::RefreshRequired);
        }
        if hash.is_some() {
            after.session_epoch += 1;
            t.put::<Identities>(&key, &after, None).await?;
            let session = SessionRecord { epoch: after.session_epoch, ..me.session };
            let kept = self.kept_until(Timestamp(session.expires_at));
            t.put::<Sessions>(&me.key, &session, Some(kept)).await?;
        }
        Ok(after)
    }

    /// The hash of a new password; `None` if the form is told what is wrong.
    async fn new_password(
        &self,
        scope: Scope,
        me: &Found,
        flow: &mut Flow,
        password: Option<Secret<String>>,
    ) -> Result<Option<PasswordHash>, SettingsRejection> {
        let Some(password) = password.filter(|password| !password.expose().is_empty()) else {
            forms::say_violations(&mut flow.ui, &[Violation::required("#", "password")]);
            return Ok(None);
        };
        let key = CredentialKey {
            tenant: scope.tenant,
            identity: me.identity_id,
            kind: CredentialKind::Password.number(),
        };
        let credential = self.store.view(Consistency::Strong).peek::<Credentials>(&key).await?;
        let identifiers = credential.map(|entry| entry.record.identifiers).unwrap_or_default();
        if let Err(violation) = self.settings.password_policy.check(password.expose(), &identifiers)
        {
            flow.ui.say("password", violation.text());
            return Ok(None);
        }
        let permit = self.passwords.admit()?;
        let entropy = self.store.entropy().as_ref();
        Ok(Some(self.passwords.hash(&permit, password, entropy).await?))
    }

    async fn my_settings(
        &self,
        scope: Scope,
        id: FlowId,
        proof: Option<&Proof>,
    ) -> Result<(FlowRecord, Found), SettingsRejection> {
        let record = self.open_flow(scope, Purpose::Settings, id).await?;
        let me = match proof {
            Some(proof) => self.me(scope, proof).await?,
            None => None,
        };
        let me = me.ok_or(SettingsRejection::NoSession)?;
        if me.identity_id != id_of(&record.subject) {
            return Err(SettingsRejection::IdentityMismatch);
        }
        Ok((record, me))
    }

    /// The session of a proof, if it is accepted now.
    pub(super) async fn me(
        &self,
        scope: Scope,
        proof: &Proof,
    ) -> Result<Option<Found>, StoreError> {
        let view = self.store.view(Consistency::Strong);
        let found = self.find_session(&view, scope, proof, false).await?;
        let now = view.judged_at();
        Ok(found.filter(|found| found.accepted(now).is_some()))
    }

    fn is_privileged(&self, me: &Found, now: Timestamp) -> bool {
        let age = now.since(Timestamp(me.session.authenticated_at));
        age <= self.settings.privileged_session_max_age
    }

    /// The flow with a form of what the identity says now.
    pub(super) fn show_settings(
        &self,
        id: FlowId,
        record: &FlowRecord,
        identity: &IdentityRecord,
    ) -> Flow {
        let mut flow = self.show_flow(id, record);
        if let Some(schema) = self.schema(&identity.schema_id).or_else(|| self.schema("")) {
            let traits = json_of(&identity.traits);
            flow.ui = forms::settings(&flow.ui.action, &schema, &traits);
        }
        let owner = IdentityId(id_of(&record.subject));
        flow.identity = Some(Identity::public(owner, identity));
        flow
    }
}

fn as_metadata(bytes: &[u8]) -> Option<Value> {
    (!bytes.is_empty()).then(|| json_of(bytes))
}

/// Whether an identity is found or reached by other addresses than before.
fn is_reached_elsewhere(before: &IdentityRecord, after: &IdentityRecord) -> bool {
    let values = |record: &IdentityRecord| -> Vec<String> {
        let all = record.verifiable.iter().chain(&record.recovery);
        all.map(|address| address.value.clone()).collect()
    };
    values(before) != values(after)
}
