//! Changing one's own settings: what an identity says of itself, and how it logs in.
//! Each method has a file of its own; what they have in common is here.
//!
//! A settings flow belongs to an identity, lives in its home, and takes as many
//! submissions as somebody likes until it is over. A method looks at what was sent and
//! says what it wants; that is written in one transaction which reads the session
//! again, and it is that session's identity that changes. What changes how one logs in
//! needs a session whose holder was authenticated a short while ago. Where a change
//! ends all other sessions, it does so in the same transaction.

mod changing;
mod hooked;
mod lookup_secret;
mod mine;
mod news;
mod passkey;
mod password;
mod profile;
mod submission;
mod totp;
mod verify;
mod webauthn;

use std::collections::BTreeSet;

use cardea_storage::{Consistency, Slot, StoreError, Timestamp, Transaction};
use serde_json::Value;

pub use self::submission::{BeginSettings, SettingsRejection, SettingsSubmission};
use self::{changing::Changing, hooked::settings_saved};
pub(super) use self::{
    hooked::CONSULTED_MAX,
    news::{Change, News},
    profile::is_reached_elsewhere,
    webauthn::{kept as kept_key, refused_name},
};
use super::{
    Flow, FlowState, Purpose, StartedVerification,
    begin::{BeginRejection, csrf_bytes},
};
use crate::{
    Service,
    audit::Actor,
    factor::totp::Seed,
    hook::Occasion,
    identity::factors::Factors,
    model::{FlowId, Identity, IdentityId, Scope},
    schema::Violation,
    session::{CredentialKind, Proof, check::Found, issue::add_method},
    table::{
        CredentialKey, Credentials, FlowKey, FlowRecord, Flows, Identities, IdentityKey,
        IdentityRecord, SessionRecord, Sessions, id_bytes, id_of,
    },
    ui::{Text, forms},
};

/// What ends the transaction without a commit.
enum Refusal {
    NoSession,
    RefreshRequired,
    SecondFactorRequired,
    Taken,
    /// An organization signs it in.
    Managed,
    Invalid(Vec<Violation>),
    /// Hooks were not asked about what it would become.
    Overtaken,
    /// The field that it is about, or none; and what is wrong.
    Told(&'static str, Text),
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
    record: FlowRecord,
    flow: Flow,
    /// How it can log in.
    factors: Factors,
}

/// What is asked for, once a method has looked at it.
enum Wanted {
    Profile(Value),
    Password(password::NewPassword),
    Totp(totp::Wanted),
    LookupSecret(lookup_secret::Wanted),
    Webauthn(webauthn::Wanted),
    Passkey(passkey::Wanted),
}

impl Wanted {
    /// Whether one could log in by it alone.
    fn is_way_in(&self) -> bool {
        match self {
            Self::Password(_) | Self::Passkey(passkey::Wanted::Add(..)) => true,
            Self::Webauthn(webauthn::Wanted::Add(key, _)) => key.passwordless,
            _ => false,
        }
    }
}

/// What is there once it was written.
struct Changed {
    identity: IdentityRecord,
    record: FlowRecord,
    factors: Factors,
    shows: bool,
    told: bool,
    verification: Option<StartedVerification>,
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
        let view = &self.store.view(Consistency::Strong);
        let me = self.me_in(view, scope, proof).await?.ok_or(BeginRejection::SessionRequired)?;
        if !self.may_see_settings(&me) {
            return Err(BeginRejection::SecondFactorRequired);
        }
        let mut record = self.new_flow(Purpose::Settings, begin.request_url, begin.return_to)?;
        record.schema_id.clone_from(&me.identity.schema_id);
        record.subject = id_bytes(&me.identity_id);
        record.csrf_digest = csrf_bytes(begin.browser);
        let factors = self.factors_of(view, scope, me.identity_id).await?;
        self.draw_offers(&mut record, &factors);
        let flow = self.keep_begun(scope, record.clone(), false, &begin.client).await?;
        let mut flow = self.show_settings(flow.id, &record, &me.identity, &factors);
        self.show_links(view, scope, &mut flow, me.identity_id).await?;
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
        let view = &self.store.view(Consistency::Strong);
        let (record, me) = self.my_settings(view, (scope, id), proof).await?;
        let factors = self.factors_of(view, scope, me.identity_id).await?;
        let mut flow = self.show_settings(id, &record, &me.identity, &factors);
        self.show_links(view, scope, &mut flow, me.identity_id).await?;
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
        let mut done = Err(StoreError::Contended { attempts: CONSULTED_MAX }.into());
        for _ in 0..CONSULTED_MAX {
            if let Some(judged) =
                self.judge_settings(scope, id, submission.clone()).await.transpose()
            {
                done = judged;
                break;
            }
        }
        if let Ok(flow) = &done {
            self.keep_form(scope, flow).await?;
        }
        if let Err(SettingsRejection::Invalid(flow)) = &done {
            self.keep_form(scope, flow).await?;
        }
        done
    }

    /// `None` if it was overtaken, and is to be judged again.
    async fn judge_settings(
        &self,
        scope: Scope,
        id: FlowId,
        submission: SettingsSubmission,
    ) -> Result<Option<Flow>, SettingsRejection> {
        let (proof, client) = (submission.proof.clone(), submission.client.clone());
        let view = &self.store.view(Consistency::Strong);
        let (record, me) = self.my_settings(view, (scope, id), proof.as_ref()).await?;
        let Some(proof) = &proof else { return Err(SettingsRejection::NoSession) };
        // What hooks are asked and waited for is decided by the schema that the transaction
        // will take, though another node may have put it in force a moment ago.
        self.newest_schema(&me.identity.schema_id).await?;
        let subject = me.identity_id;
        let factors = self.factors_of(view, scope, subject).await?;
        let mut flow = self.show_settings(id, &record, &me.identity, &factors);
        self.show_links(view, scope, &mut flow, subject).await?;
        let method = submission.method().to_owned();
        flow.active = Some(method.clone());
        if method == "oidc" && self.offers_social() {
            let SettingsSubmission { link, unlink, social, .. } = submission;
            let asked = (proof, link, unlink, &client);
            return self.change_links(scope, (id, &record), (flow, &me), asked, social).await;
        }
        let mut opened = Opened { scope, me, record, flow, factors };
        let source = &self.source(scope, &client);
        if method == "profile"
            && let Err(early) = self.source_may_try(scope, source).await?
        {
            // It would learn by whom addresses are taken.
            opened.flow.ui.messages.push(Text::come_back_later(early.retry_after));
            return Err(opened.refuse());
        }
        let wanted = match method.as_str() {
            "profile" => Some(Self::want_profile(&mut opened, submission)),
            "password" => self.want_password(&mut opened, submission).await?,
            "totp" => self.want_totp(&mut opened, submission),
            "lookup_secret" => self.want_lookup_secret(&mut opened, &submission),
            "webauthn" => self.want_webauthn(&mut opened, submission),
            "passkey" => self.want_passkey(&mut opened, submission),
            _ => {
                opened.flow.active = None;
                opened.flow.ui.messages.push(Text::settings_method_missing());
                None
            }
        };
        let Some(mut wanted) = wanted else { return Err(opened.refuse()) };
        let started = &opened.record.clone();
        let occasion = &settings_saved(&method, (id, started), &client);
        let consulted = &{
            let Opened { me, flow, .. } = &mut opened;
            let traits = match &mut wanted {
                Wanted::Profile(traits) => Some(traits),
                _ => None,
            };
            self.consult_settings((me, flow), occasion, traits).await?
        };
        let mut drawn = None;
        if let Wanted::Profile(traits) = &wanted {
            if let Some(address) = self.waits_for(&opened.me.identity, &method, traits) {
                if !self.still_stands(consulted, occasion, &opened.me.identity) {
                    return Ok(None);
                }
                let what = (traits, &address);
                return self.wait_for_address(opened, proof, what, &client).await.map(Some);
            }
            drawn = self.draw_for_new(&opened, occasion, traits).await?;
        }
        let drawn = &drawn;
        let calls = &self.draw_calls(occasion, Slot::of_id(&subject));
        let (wanted, letters) = (&wanted, &self.draw_news(subject, &method));
        let changed = self
            .store
            .transact(|t| async move {
                let me = self
                    .find_session(&t, scope, proof, true)
                    .await?
                    .filter(|me| me.accepted(t.now()).is_some() && me.identity_id == subject)
                    .ok_or(Refusal::NoSession)?;
                let (session, before) = (me.view(t.now()), me.identity.clone());
                let mut changed =
                    self.change_mine(&t, scope, (id, me), wanted, (letters, occasion)).await?;
                if !changed.shows {
                    let waits = |traits| self.waits_for(&before, occasion.method, traits).is_some();
                    if !self.still_stands(consulted, occasion, &before)
                        || matches!(wanted, Wanted::Profile(traits) if waits(traits))
                    {
                        return Err(Refusal::Overtaken);
                    }
                    let identity = &mut changed.identity;
                    self.write_edits(&t, scope, (subject, identity), &consulted.edits).await?;
                    let origin = (started, occasion.client);
                    changed.verification = drawn.as_ref().and_then(|drawn| {
                        let owner = (subject, &before, &*identity);
                        self.verify_brought(&t, scope, owner, origin, drawn)
                    });
                    let told = Identity::of(IdentityId(subject), identity);
                    self.post_calls((&t, scope), occasion, calls, Some(&told), Some(&session));
                }
                Ok(changed)
            })
            .await;
        match changed {
            Ok(done) => {
                let Changed { identity, record, factors, shows, told, verification } = done.value;
                if told || verification.is_some() {
                    self.posted();
                }
                if let Some(started) = &verification {
                    self.message_went(scope, &client, &started.address).await;
                }
                if !shows {
                    self.calls_posted(calls);
                }
                let mut flow = self.show_settings(id, &record, &identity, &factors);
                let view = &self.store.view(Consistency::Strong);
                self.show_links(view, scope, &mut flow, subject).await?;
                flow.active = Some(occasion.method.to_owned());
                if !shows {
                    flow.state = FlowState::Success;
                    flow.ui.messages.push(Text::settings_saved());
                }
                flow.verification = verification;
                Ok(Some(flow))
            }
            Err(Refusal::Overtaken) => Ok(None),
            Err(Refusal::NoSession) => Err(SettingsRejection::NoSession),
            Err(Refusal::RefreshRequired) => Err(SettingsRejection::RefreshRequired),
            Err(Refusal::SecondFactorRequired) => Err(SettingsRejection::SecondFactorRequired),
            Err(Refusal::Taken) => {
                self.source_failed(scope, source).await?;
                opened.flow.ui.messages.push(Text::duplicate_identifier());
                Err(opened.refuse())
            }
            Err(Refusal::Managed) => {
                opened.flow.ui.say_once(Text::managed_by_organization());
                Err(opened.refuse())
            }
            Err(Refusal::Invalid(violations)) => {
                forms::say_violations(&mut opened.flow.ui, &violations);
                Err(opened.refuse())
            }
            Err(Refusal::Told(field, text)) => {
                opened.flow.ui.say(field, text);
                Err(opened.refuse())
            }
            Err(Refusal::Store(error)) => Err(error.into()),
        }
    }

    /// Writes what is wanted.
    async fn change_mine(
        &self,
        t: &Transaction,
        scope: Scope,
        (id, me): (FlowId, Found),
        wanted: &Wanted,
        (letters, occasion): (&News, &Occasion<'_>),
    ) -> Result<Changed, Refusal> {
        let method = occasion.method;
        // It may have got a second factor since the flow was opened.
        if !self.may_see_settings(&me) {
            return Err(Refusal::SecondFactorRequired);
        }
        let flow_key = FlowKey { tenant: scope.tenant, id: id.0 };
        let flow = t.get::<Flows>(&flow_key).await?.ok_or(Refusal::NoSession)?.record;
        let key = IdentityKey { tenant: scope.tenant, id: me.identity_id };
        let had_second = me.identity.second_factor;
        let mut changing = Changing {
            t,
            scope,
            privileged: self.is_privileged(&me, t.now()),
            factors: self.checked_factors(t, scope, me.identity_id).await?,
            me,
            record: flow.clone(),
            touched: BTreeSet::new(),
            proven: None,
            ends_other_sessions: false,
            news: None,
            shows: false,
        };
        let bound = self.bound_to(changing.me.identity.organization());
        if bound.is_some() && wanted.is_way_in() {
            return Err(Refusal::Managed);
        }
        let now = match wanted {
            Wanted::Profile(traits) => Some(self.apply_profile(&mut changing, traits).await?),
            Wanted::Password(new) => Some(self.apply_password(&mut changing, new).await?),
            Wanted::Totp(wanted) => self.apply_totp(&mut changing, wanted).map(|()| None)?,
            Wanted::LookupSecret(wanted) => {
                self.apply_lookup_secret(&mut changing, wanted).map(|()| None)?
            }
            Wanted::Webauthn(wanted) => {
                self.apply_webauthn(&mut changing, wanted).map(|()| None)?
            }
            Wanted::Passkey(wanted) => self.apply_passkey(&mut changing, wanted).map(|()| None)?,
        };
        changing.ends_other_sessions |= !changing.shows && self.saving_ends_sessions(method);
        for kind in &changing.touched {
            let identity = changing.me.identity_id;
            let key = CredentialKey { tenant: scope.tenant, identity, kind: kind.number() };
            match changing.factors.get(*kind) {
                Some(record) => t.put::<Credentials>(&key, record, None).await?,
                None => t.delete::<Credentials>(&key).await?,
            }
        }
        if changing.record != flow {
            let kept = self.flow_kept_until(&changing.record);
            t.put::<Flows>(&flow_key, &changing.record, Some(kept)).await?;
        }
        let mut identity = now.unwrap_or_else(|| changing.me.identity.clone());
        let has_second = changing.factors.has_second();
        let touched = !changing.touched.is_empty();
        if changing.ends_other_sessions || has_second != had_second || touched {
            identity.second_factor = has_second;
            // An import that runs again leaves alone who has changed here.
            identity.updated_at = t.now().as_millis();
            identity.session_epoch += u64::from(changing.ends_other_sessions);
            t.put::<Identities>(&key, &identity, None).await?;
        }
        if changing.ends_other_sessions || changing.proven.is_some() {
            let mut session =
                SessionRecord { epoch: identity.session_epoch, ..changing.me.session };
            if let Some(factor) = changing.proven {
                add_method(&mut session, factor, t.now());
            }
            let kept = self.kept_until(Timestamp(session.expires_at));
            t.put::<Sessions>(&changing.me.key, &session, Some(kept)).await?;
        }
        if !changing.shows {
            let (act, details) = news::event(changing.news, method, &changing.factors);
            let what = (act, Actor::Oneself(occasion.client));
            self.audit(t, scope, changing.me.identity_id, what, details).await?;
        }
        let news = changing.news.as_ref();
        let told = news.filter(|change| self.is_news(**change, method)).is_some_and(|change| {
            self.tell(t, scope, (&changing.me.identity, &identity), letters, *change)
        });
        Ok(Changed {
            identity,
            record: changing.record,
            factors: changing.factors,
            shows: changing.shows,
            told,
            verification: None,
        })
    }

    /// Draws what the flow offers: a seed for an app, a challenge for keys, what a passkey
    /// will know its owner by.
    pub(super) fn draw_offers(&self, record: &mut FlowRecord, factors: &Factors) {
        let subject = id_of(&record.subject);
        if self.settings.totp.is_some() {
            let seed = Seed::draw(self.store.entropy().as_ref());
            record.totp_seed = self.seal_seed(subject, &seed);
        }
        record.challenge = self.draw_challenge();
        let known = factors.get(CredentialKind::Passkey).map(|record| record.user_handle.clone());
        let known = known.filter(|handle| !handle.is_empty());
        record.user_handle = known.unwrap_or_else(|| self.draw_user_handle());
    }
}
