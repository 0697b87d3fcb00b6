//! Changing one's own settings: what an identity says of itself, and how it logs in.
//! Each method has a file of its own; what they have in common is here.
//!
//! A settings flow belongs to an identity, lives in its home, and takes as many
//! submissions as somebody likes until it is over. A method looks at what was sent and
//! says what it wants; that is written in one transaction which reads the session
//! again, and it is that session's identity that changes. What changes how one logs in
//! needs a session whose holder was authenticated a short while ago. Where a change
//! ends all other sessions, it does so in the same transaction.

mod password;
mod profile;

use cardea_storage::{Consistency, Secret, StoreError, Timestamp, Transaction};
use serde_json::Value;
use thiserror::Error;

use super::{
    Flow, FlowState, Purpose, SocialSubmission,
    lifecycle::{BeginRejection, FlowRejection, csrf_bytes},
};
use crate::{
    Service,
    model::{CsrfDigest, FlowId, Identity, IdentityId, Scope, json_of},
    password::{Overloaded, PasswordHash},
    schema::Violation,
    session::{Proof, check::Found},
    table::{
        FlowRecord, Identities, IdentityKey, IdentityRecord, SessionRecord, Sessions, id_bytes,
        id_of,
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

/// What somebody sent to change its settings: the members of all methods, of which each
/// reads its own.
#[derive(Debug, Clone, Default)]
pub struct SettingsSubmission {
    /// The method; empty if missing.
    pub method: String,
    /// The caller's session.
    pub proof: Option<Proof>,
    /// The traits; null if missing.
    pub traits: Value,
    /// The new password; `None` if missing.
    pub password: Option<Secret<String>>,
    /// The provider where another account is to be linked.
    pub link: Option<String>,
    /// The account to unlink: its provider, or provider and subject.
    pub unlink: Option<String>,
    /// What else concerns a provider.
    pub social: SocialSubmission,
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
    /// The browser must go to a provider (`browser_location_change_required`).
    #[error("the change goes on elsewhere")]
    Away(String),
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

/// A settings flow that something was sent to, by who may.
struct Opened {
    scope: Scope,
    me: Found,
    flow: Flow,
}

/// What is asked for, once a method has looked at it.
enum Wanted {
    Profile(Value),
    Password(PasswordHash),
}

/// What a method has written.
struct Applied {
    /// The identity as it is then.
    identity: IdentityRecord,
    /// Whether all other sessions end.
    ends_other_sessions: bool,
}

impl Opened {
    /// The form, as it says what is wrong.
    fn refuse(self) -> SettingsRejection {
        SettingsRejection::Invalid(Box::new(self.flow))
    }
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
        let mut flow = self.show_settings(flow.id, &record, &me.identity);
        self.show_links(scope, &mut flow, me.identity_id).await?;
        Ok(flow)
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
        let (mut flow, record) = self.fresh_settings(scope, id, proof).await?;
        Self::refill(&mut flow, &record);
        Ok(flow)
    }

    /// A settings flow with the form of what is now, whatever was refused before.
    pub(super) async fn fresh_settings(
        &self,
        scope: Scope,
        id: FlowId,
        proof: Option<&Proof>,
    ) -> Result<(Flow, FlowRecord), SettingsRejection> {
        let (record, me) = self.my_settings(scope, id, proof).await?;
        let mut flow = self.show_settings(id, &record, &me.identity);
        self.show_links(scope, &mut flow, me.identity_id).await?;
        Ok((flow, record))
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
        let proof = submission.proof.clone();
        let (record, me) = self.my_settings(scope, id, proof.as_ref()).await?;
        let Some(proof) = &proof else { return Err(SettingsRejection::NoSession) };
        let subject = me.identity_id;
        let mut flow = self.show_settings(id, &record, &me.identity);
        self.show_links(scope, &mut flow, subject).await?;
        let method = submission.method.clone();
        flow.active = Some(method.clone());
        if method == "oidc" && self.offers_social() {
            let SettingsSubmission { link, unlink, social, .. } = submission;
            let asked = (proof, link, unlink);
            return self.change_links(scope, (id, &record), (flow, &me), asked, social).await;
        }
        let mut opened = Opened { scope, me, flow };
        let wanted = match method.as_str() {
            "profile" => Self::want_profile(&mut opened, submission),
            "password" => match self.want_password(&mut opened, submission).await? {
                Some(wanted) => wanted,
                None => return Err(opened.refuse()),
            },
            _ => {
                opened.flow.active = None;
                opened.flow.ui.messages.push(Text::settings_method_missing());
                return Err(opened.refuse());
            }
        };
        let wanted = &wanted;
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
                self.show_links(scope, &mut flow, subject).await?;
                flow.state = FlowState::Success;
                flow.active = Some(method);
                flow.ui.messages.push(Text::settings_saved());
                Ok(flow)
            }
            Err(Refusal::NoSession) => Err(SettingsRejection::NoSession),
            Err(Refusal::RefreshRequired) => Err(SettingsRejection::RefreshRequired),
            Err(Refusal::Taken) => {
                opened.flow.ui.messages.push(Text::duplicate_identifier());
                Err(opened.refuse())
            }
            Err(Refusal::Invalid(violations)) => {
                forms::say_violations(&mut opened.flow.ui, &violations);
                Err(opened.refuse())
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
        let applied = match wanted {
            Wanted::Profile(traits) => self.apply_profile(t, scope, &me, traits).await?,
            Wanted::Password(hash) => self.apply_password(t, scope, &me, hash).await?,
        };
        let mut identity = applied.identity;
        if applied.ends_other_sessions {
            let key = IdentityKey { tenant: scope.tenant, id: me.identity_id };
            identity.session_epoch += 1;
            t.put::<Identities>(&key, &identity, None).await?;
            let session = SessionRecord { epoch: identity.session_epoch, ..me.session };
            let kept = self.kept_until(Timestamp(session.expires_at));
            t.put::<Sessions>(&me.key, &session, Some(kept)).await?;
        }
        Ok(identity)
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

    pub(super) fn is_privileged(&self, me: &Found, now: Timestamp) -> bool {
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
