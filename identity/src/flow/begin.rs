//! Beginning flows: what is asked of whoever begins one, where its record lies, and the
//! hooks that may stand before it.

use bytes::Bytes;
use cardea_storage::{Consistency, Slot, StoreError};
use thiserror::Error;
use uuid::Uuid;

use super::{Flow, Purpose};
use crate::{
    Service,
    hook::{HookFailed, Moment, Occasion, outbox::Calls},
    model::{Client, CsrfDigest, FlowId, Scope},
    session::{Aal, CredentialKind, check::Proof},
    table::{FlowKey, FlowRecord, Flows, id_bytes},
};

/// The longest URL that a flow keeps, in bytes.
const URL_BYTES_MAX: usize = 4096;

/// How a login is to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginLogin {
    /// The URL that was asked for.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// Whether somebody who is logged in is asked again.
    pub refresh: bool,
    /// The level that is asked for; `None`: aal1.
    pub aal: Option<Aal>,
    /// The session that the caller has already.
    pub proof: Option<Proof>,
    /// The browser that begins it; `None` for a native flow.
    pub browser: Option<CsrfDigest>,
    /// Whether a native client wants a code to exchange for the session.
    pub exchange: bool,
    /// The organization whose flow it is to be.
    pub organization: Option<Uuid>,
    /// Who begins it.
    pub client: Client,
}

/// How a registration is to begin.
#[derive(Debug, Clone, Default)]
pub struct BeginRegistration {
    /// The URL that was asked for.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
    /// The schema of the new identity; empty for the default.
    pub schema_id: String,
    /// The session that the caller has already.
    pub proof: Option<Proof>,
    /// The browser that begins it; `None` for a native flow.
    pub browser: Option<CsrfDigest>,
    /// Whether a native client wants a code to exchange for the session.
    pub exchange: bool,
    /// The organization whose flow it is to be.
    pub organization: Option<Uuid>,
    /// Who begins it.
    pub client: Client,
}

/// Why a flow does not begin.
#[derive(Debug, Error)]
pub enum BeginRejection {
    /// The caller is logged in already, and did not ask to refresh
    /// (`session_already_available`).
    #[error("a valid session was detected, so logging in or signing up is not possible")]
    AlreadyLoggedIn,
    /// A second factor was asked for without a first (`session_aal1_required`).
    #[error("a second factor needs a session with a first one")]
    SessionRequired,
    /// A second factor was asked for, and the identity has none.
    #[error("the identity has no second factor")]
    NoSecondFactor,
    /// The session needs a second factor for this (`session_aal2_required`).
    #[error("the session does not have the assurance level that is required")]
    SecondFactorRequired,
    /// This kind of flow is not offered (`self_service_flow_disabled`).
    #[error("this kind of flow is not offered")]
    Disabled,
    /// There is no such schema, or it is not for whoever signs up.
    #[error("there is no identity schema {0:?}")]
    UnknownSchema(String),
    /// There is no such organization, or it has no provider.
    #[error("there is no organization {0} that signs its people in")]
    UnknownOrganization(Uuid),
    /// A URL is longer than is kept.
    #[error("a URL is longer than {URL_BYTES_MAX} bytes")]
    UrlTooLong,
    /// A hook does not let it.
    #[error(transparent)]
    Hook(#[from] HookFailed),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Begins a login (`createNativeLoginFlow`, `createBrowserLoginFlow`).
    ///
    /// # Errors
    /// See [`BeginRejection`].
    pub async fn begin_login(
        &self,
        scope: Scope,
        begin: BeginLogin,
    ) -> Result<Flow, BeginRejection> {
        let view = self.store.view(Consistency::Strong);
        let mut me = None;
        if let Some(proof) = &begin.proof {
            let found = self.find_session(&view, scope, proof, false).await?;
            let now = view.judged_at();
            me = found.and_then(|found| Some((found.accepted(now)?.aal, found)));
        }
        let wanted = begin.aal.unwrap_or(Aal::Aal1);
        match &me {
            None if wanted > Aal::Aal1 => return Err(BeginRejection::SessionRequired),
            Some((has, _)) if !begin.refresh && *has >= wanted => {
                return Err(BeginRejection::AlreadyLoggedIn);
            }
            _ => {}
        }
        let mut record = self.new_flow(Purpose::Login, begin.request_url, begin.return_to)?;
        record.csrf_digest = csrf_bytes(begin.browser);
        if begin.browser.is_some() {
            record.challenge = self.draw_challenge();
        }
        let mut organization = begin.organization;
        if let Some((_, found)) = me {
            let subject = found.identity_id;
            organization = self.bound_to(found.identity.organization()).or(organization);
            record.refresh = begin.refresh;
            record.subject = id_bytes(&subject);
            record.requested_aal = if wanted == Aal::Aal2 { 2 } else { 1 };
            let factors = self.factors_of(&view, scope, subject).await?;
            self.offer_factors(&mut record, &factors);
            let known = factors.get(CredentialKind::Password);
            if let Some(known) = known.and_then(|record| record.identifiers.first())
                && wanted < Aal::Aal2
                && begin.browser.is_some()
            {
                self.name_holder(&mut record, known);
            }
            if wanted == Aal::Aal2 {
                let addresses = self.second_addresses(&found.identity, &found.shown());
                if !addresses.is_empty() {
                    record.offered.push(CredentialKind::Code.number().into());
                }
                record.second_addresses = addresses.into_iter().map(|one| one.value).collect();
            }
            if wanted == Aal::Aal2 && record.offered.is_empty() {
                return Err(BeginRejection::NoSecondFactor);
            }
        }
        if wanted < Aal::Aal2 {
            self.scope_begun(&mut record, organization)?;
        }
        self.keep_begun(scope, record, begin.exchange, &begin.client).await
    }

    /// Begins a registration (`createNativeRegistrationFlow`,
    /// `createBrowserRegistrationFlow`).
    ///
    /// # Errors
    /// See [`BeginRejection`].
    pub async fn begin_registration(
        &self,
        scope: Scope,
        begin: BeginRegistration,
    ) -> Result<Flow, BeginRejection> {
        // Others are an operator's own: for its staff, say.
        let schema = self.schema(&begin.schema_id).filter(|schema| {
            let id = &schema.id().0;
            *id == self.schemas().default_id().0 || self.settings.selectable_schemas.contains(id)
        });
        let schema =
            schema.ok_or_else(|| BeginRejection::UnknownSchema(begin.schema_id.clone()))?;
        if let Some(proof) = &begin.proof {
            let view = self.store.view(Consistency::Strong);
            let found = self.find_session(&view, scope, proof, false).await?;
            if found.is_some_and(|f| f.accepted(view.judged_at()).is_some()) {
                return Err(BeginRejection::AlreadyLoggedIn);
            }
        }
        let mut record =
            self.new_flow(Purpose::Registration, begin.request_url, begin.return_to)?;
        record.schema_id = schema.id().0.clone();
        self.scope_begun(&mut record, begin.organization)?;
        record.csrf_digest = csrf_bytes(begin.browser);
        if begin.browser.is_some() {
            record.challenge = self.draw_challenge();
            record.user_handle = self.draw_user_handle();
        }
        self.keep_begun(scope, record, begin.exchange, &begin.client).await
    }

    pub(super) fn new_flow(
        &self,
        purpose: Purpose,
        request_url: String,
        return_to: Option<String>,
    ) -> Result<FlowRecord, BeginRejection> {
        let return_to = return_to.unwrap_or_default();
        if request_url.len().max(return_to.len()) > URL_BYTES_MAX {
            return Err(BeginRejection::UrlTooLong);
        }
        let now = self.now();
        Ok(FlowRecord {
            purpose: purpose.number(),
            issued_at: now.as_millis(),
            expires_at: now.after(self.settings.flow_lifespan).as_millis(),
            schema_id: self.schemas().default_id().0.clone(),
            request_url,
            return_to,
            ..FlowRecord::default()
        })
    }

    /// Keeps a flow that somebody begins, if hooks let it.
    pub(super) async fn keep_begun(
        &self,
        scope: Scope,
        record: FlowRecord,
        exchange: bool,
        client: &Client,
    ) -> Result<Flow, BeginRejection> {
        let exchange = exchange && record.csrf_digest.is_empty();
        let id = self.mint_flow(&record);
        let purpose = Purpose::from_number(record.purpose).unwrap_or(Purpose::Login);
        let begun = &record.clone();
        let flow = (FlowId(id), begun);
        let occasion = Occasion { moment: Moment::Before, purpose, method: "", flow, client };
        self.ask_hooks(&occasion, None, None).await?;
        let calls = self.draw_calls(&occasion, Slot::of_id(&id));
        let flow = self.keep_new(scope, (id, record), exchange, Some((&occasion, &calls))).await?;
        self.calls_posted(&calls);
        Ok(flow)
    }

    /// Keeps a flow that somebody begins under an id that was drawn before, if hooks let it;
    /// `None` if one began under it already.
    pub(super) async fn keep_begun_once(
        &self,
        scope: Scope,
        (id, record): (Uuid, FlowRecord),
        client: &Client,
    ) -> Result<Option<Flow>, BeginRejection> {
        let (record, purpose, moment) = (&record, Purpose::Login, Moment::Before);
        let flow = (FlowId(id), record);
        let key = &FlowKey { tenant: scope.tenant, id };
        if self.store.view(Consistency::Strong).peek::<Flows>(key).await?.is_some() {
            return Ok(None);
        }
        let occasion = &Occasion { moment, purpose, method: "", flow, client };
        self.ask_hooks(occasion, None, None).await?;
        let calls = &self.draw_calls(occasion, Slot::of_id(&id));
        let kept = self.flow_kept_until(record);
        let done = self.store.transact(|t| async move {
            if t.get::<Flows>(key).await?.is_some() {
                return Ok(false);
            }
            t.put::<Flows>(key, record, Some(kept)).await?;
            self.post_calls((&t, scope), occasion, calls, None, None);
            Ok::<_, StoreError>(true)
        });
        if !done.await?.value {
            return Ok(None);
        }
        self.calls_posted(calls);
        Ok(Some(self.show_flow(FlowId(id), record)))
    }

    pub(super) async fn keep_flow(
        &self,
        scope: Scope,
        record: FlowRecord,
    ) -> Result<Flow, StoreError> {
        self.keep_new(scope, (self.mint_flow(&record), record), false, None).await
    }

    fn mint_flow(&self, record: &FlowRecord) -> Uuid {
        // What only somebody known may use lives at home.
        let purpose = Purpose::from_number(record.purpose);
        let at_home = matches!(purpose, Some(Purpose::Settings | Purpose::Login));
        match Uuid::from_slice(&record.subject) {
            Ok(subject) if at_home => self.mint_in(Slot::of_id(&subject)),
            _ => self.mint_local(),
        }
    }

    async fn keep_new(
        &self,
        scope: Scope,
        (id, mut record): (Uuid, FlowRecord),
        exchange: bool,
        hooks: Option<(&Occasion<'_>, &Calls)>,
    ) -> Result<Flow, StoreError> {
        let drawn = exchange.then(|| self.draw_exchange(id));
        if let Some((_, digest)) = &drawn {
            record.exchange_init = digest.clone();
        }
        let kept = self.flow_kept_until(&record);
        let record = &record;
        self.store
            .transact(|t| async move {
                t.insert::<Flows>(&FlowKey { tenant: scope.tenant, id }, record, Some(kept));
                if let Some((occasion, calls)) = hooks {
                    self.post_calls((&t, scope), occasion, calls, None, None);
                }
                Ok::<_, StoreError>(())
            })
            .await?;
        let exchange_code = drawn.map(|(code, _)| code);
        let mut flow = Flow { exchange_code, ..self.show_flow(FlowId(id), record) };
        Self::refill(&mut flow, record);
        Ok(flow)
    }
}

pub(super) fn csrf_bytes(browser: Option<CsrfDigest>) -> Bytes {
    browser.map_or_else(Bytes::new, |digest| Bytes::copy_from_slice(&digest.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Settings,
        schema::{NewSchema, preset},
        testing::{World, settings},
    };

    /// Who signs up chooses among what is meant to be chosen, and is nobody's staff.
    #[tokio::test]
    async fn nobody_signs_up_by_a_schema_that_is_not_for_that() {
        let selectable_schemas = vec!["customer".to_owned()];
        let world = World::with(Settings { selectable_schemas, ..settings() });
        for id in ["customer", "staff"] {
            let (id, document) = (id.to_owned(), preset::email());
            world.service.put_schema(NewSchema { id, document, is_default: false }).await.unwrap();
        }
        let begin = async |schema_id: &str| {
            let schema_id = schema_id.to_owned();
            let begin = BeginRegistration { schema_id, ..BeginRegistration::default() };
            let begun = world.service.begin_registration(world.scope, begin).await;
            begun.map(|flow| flow.schema_id)
        };
        assert_eq!(begin("").await.unwrap(), "default");
        assert_eq!(begin("default").await.unwrap(), "default");
        assert_eq!(begin("customer").await.unwrap(), "customer");
        for other in ["staff", "nonsense"] {
            let refused = begin(other).await;
            assert!(matches!(refused, Err(BeginRejection::UnknownSchema(_))), "{refused:?}");
        }
    }
}
