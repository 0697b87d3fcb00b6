//! Trying a provider (`createTestLoginFlow`, `deleteTestLoginFlow`): an administrator goes to
//! it and comes back as anybody would, and is shown what it said and what its program made of
//! that. Nobody is logged in, signed up or linked by it; nothing is kept but what is shown.
//!
//! 1. An administrator [begins](Service::begin_dry_run) it, and is told a secret that a form
//!    brings in place of a browser's, for its browser is not known yet.
//! 2. Who brings that, or was shown the form first, [leaves](Service::depart_dry_run) for the
//!    provider: from then on the flow is that browser's.
//! 3. Who comes back to it is not [taken in](super::known): what came of it is kept, sealed,
//!    and is shown to whom a digest of the flow proves that it came back by that browser.
//!
//! On disk it is a flow of a purpose of its own. Whatever completes flows looks for its own
//! purpose, so nothing but what is here ever opens one.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use cardea_storage::{Consistency, Secret, StoreError, Timestamp};
use serde_json::Value;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{
    SocialSubmission,
    arrive::{Arrival, ArrivalRejection, Arrived, Brought},
    depart::Departure,
    form::button,
    rehearsal::{Payload, encoded},
};
use crate::{
    Service,
    flow::{BeginRejection, Flow, FlowRejection, Purpose},
    model::{CsrfDigest, FlowId, Scope},
    social::authorize::State,
    table::{FlowKey, FlowRecord, Flows, TriedRecord, id_bytes},
    ui::{Text, forms},
};

/// The purpose of such a flow, on disk.
const PURPOSE: u32 = 6;
const BEARER_BYTES: usize = 32;

/// What a flow is that tries a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// The provider's id.
    pub provider: String,
    /// What came of it, once it is [told](Service::dry_run_payload).
    pub payload: Option<Value>,
    /// The same, sealed; empty as long as nothing did.
    sealed: Bytes,
}

impl DryRun {
    /// Whether somebody came back.
    pub fn is_captured(&self) -> bool {
        !self.sealed.is_empty()
    }
}

/// Where whoever tries a provider goes.
#[derive(Debug)]
pub enum DryRunDeparture {
    /// To the provider.
    Away(String),
    /// Nowhere: the form says why.
    Stays(Box<Flow>),
    /// Nowhere: it cannot be gone to, which is what came of it.
    Tried(Box<Flow>),
}

/// Why a provider is not tried.
#[derive(Debug, Error)]
pub enum DryRunRejection {
    /// There is no such provider.
    #[error("there is no such sign-in provider")]
    UnknownProvider,
    /// The flow is not there, tries no provider, or is over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// It is another browser's.
    #[error("the flow is another browser's")]
    NotYours,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether a flow tries a provider.
pub(in crate::flow) fn is_one(record: &FlowRecord) -> bool {
    record.purpose == PURPOSE
}

fn tried_of(record: &FlowRecord) -> TriedRecord {
    record.tried.as_deref().cloned().unwrap_or_default()
}

/// Whether somebody came back to it.
fn is_captured(record: &FlowRecord) -> bool {
    record.tried.as_ref().is_some_and(|tried| !tried.payload.is_empty())
}

impl Service {
    /// Begins to try a provider (`createTestLoginFlow`). The form has the secret that it is
    /// sent with, told this once.
    ///
    /// # Errors
    /// See [`DryRunRejection`].
    pub async fn begin_dry_run(
        &self,
        scope: Scope,
        provider: &str,
        request_url: String,
    ) -> Result<Flow, DryRunRejection> {
        let provider = self.settings.providers.get(provider);
        let provider = provider.ok_or(DryRunRejection::UnknownProvider)?;
        let begun = self.new_flow(Purpose::Login, request_url, None);
        let begun = begun.map_err(|rejection| match rejection {
            BeginRejection::Store(error) => DryRunRejection::Store(error),
            _ => DryRunRejection::UnknownProvider,
        })?;
        let bearer: [u8; BEARER_BYTES] = self.store.entropy().bytes();
        let bearer = URL_SAFE_NO_PAD.encode(bearer);
        let tried = TriedRecord {
            provider: provider.id.clone(),
            bearer: digest(&bearer),
            payload: Bytes::new(),
        };
        let record = &FlowRecord {
            purpose: PURPOSE,
            unclaimed: true,
            refresh: true,
            organization: provider.organization.as_ref().map(id_bytes).unwrap_or_default(),
            tried: Some(tried.into()),
            ..begun
        };
        let id = self.mint_local();
        let key = &FlowKey { tenant: scope.tenant, id };
        let kept = self.flow_kept_until(record);
        self.store
            .transact(|t| async move {
                t.insert::<Flows>(key, record, Some(kept));
                Ok::<_, StoreError>(())
            })
            .await?;
        let mut flow = self.show_dry_run(FlowId(id), record);
        flow.ui.fill("csrf_token", bearer.into());
        Ok(flow)
    }

    /// Such a flow, where a login is asked for.
    pub(in crate::flow) fn dry_run(
        &self,
        purpose: Purpose,
        id: FlowId,
        record: &FlowRecord,
    ) -> Result<Flow, FlowRejection> {
        if purpose != Purpose::Login {
            return Err(FlowRejection::NotFound);
        }
        self.not_over_dry(record)?;
        let mut flow = self.show_dry_run(id, record);
        Self::refill(&mut flow, record);
        Ok(flow)
    }

    fn not_over_dry(&self, record: &FlowRecord) -> Result<(), FlowRejection> {
        let now = self.now().as_millis();
        if now < record.expires_at {
            return Ok(());
        }
        let (expired_at, since_ms) = (Timestamp(record.expires_at), now - record.expires_at);
        Err(FlowRejection::Expired { expired_at, since_ms, replacement: None })
    }

    fn show_dry_run(&self, id: FlowId, record: &FlowRecord) -> Flow {
        let mut flow = self.show_flow(id, record);
        flow.ui = forms::begin(&flow.ui.action);
        let TriedRecord { provider: tried, payload, .. } = &tried_of(record);
        let label = self.settings.providers.get(tried).map_or(tried, |provider| &provider.label);
        if payload.is_empty() {
            flow.ui.nodes.push(button("provider", tried, Text::sign_in_with(label, tried)));
        }
        let (provider, sealed) = (tried.clone(), payload.clone());
        flow.dry_run = Some(Box::new(DryRun { provider, payload: None, sealed }));
        flow
    }

    /// Sends a browser to the provider that is tried. It was shown the form, or brings the
    /// secret that was told when this began.
    ///
    /// # Errors
    /// See [`DryRunRejection`].
    pub async fn depart_dry_run(
        &self,
        scope: Scope,
        id: FlowId,
        (browser, bearer): (CsrfDigest, Option<&str>),
        submission: &SocialSubmission,
    ) -> Result<DryRunDeparture, DryRunRejection> {
        let found = self.peek_flow(scope, id, Consistency::Strong).await?;
        let record = found.filter(is_one).ok_or(FlowRejection::NotFound)?;
        self.not_over_dry(&record)?;
        let mine = match bearer {
            Some(bearer) => digest(bearer).ct_eq(&tried_of(&record).bearer),
            None => browser.0.ct_eq(record.csrf_digest.as_ref()),
        };
        if !bool::from(mine) {
            return Err(DryRunRejection::NotYours);
        }
        let Some(record) = self.bind_dry_run(scope, id, browser).await? else {
            let mut flow = self.show_dry_run(id, &record);
            flow.ui.messages.push(Text::login_already_completed());
            return Ok(DryRunDeparture::Stays(Box::new(flow)));
        };
        let tried = tried_of(&record).provider;
        let mut flow = self.show_dry_run(id, &record);
        flow.active = Some("oidc".to_owned());
        if submission.provider.as_ref().is_none_or(|named| *named != tried) {
            flow.ui.messages.push(match &submission.provider {
                None => Text::property_missing("provider"),
                Some(_) => Text::generic("There is no such sign-in provider."),
            });
            self.keep_form(scope, &flow).await?;
            return Ok(DryRunDeparture::Stays(Box::new(flow)));
        }
        let provider = self.settings.providers.get(&tried);
        let provider = provider.ok_or(DryRunRejection::UnknownProvider)?;
        if let Err(untrusted) = self.desk(provider).metadata().await {
            self.capture(scope, id, Payload::undiscovered(&untrusted)).await?;
            return Ok(DryRunDeparture::Tried(Box::new(flow)));
        }
        let leaves = SocialSubmission {
            upstream_parameters: submission.upstream_parameters.clone(),
            ..SocialSubmission::default()
        };
        match self.depart(scope, &mut flow, (&record, provider), &leaves).await? {
            Departure::Away(url) => Ok(DryRunDeparture::Away(url)),
            Departure::Stays => {
                self.keep_form(scope, &flow).await?;
                Ok(DryRunDeparture::Stays(Box::new(flow)))
            }
        }
    }

    /// Makes the flow the browser's; `None` if somebody came back to it before.
    async fn bind_dry_run(
        &self,
        scope: Scope,
        id: FlowId,
        browser: CsrfDigest,
    ) -> Result<Option<FlowRecord>, StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self.store.transact(|t| async move {
            let found = t.get::<Flows>(key).await?.map(|entry| entry.record);
            let Some(found) = found.filter(|found| is_one(found) && !is_captured(found)) else {
                return Ok(None);
            };
            let record = FlowRecord {
                csrf_digest: Bytes::copy_from_slice(&browser.0),
                unclaimed: false,
                form: Bytes::new(),
                ..found
            };
            t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
            Ok::<_, StoreError>(Some(record))
        });
        Ok(done.await?.value)
    }

    /// Takes in who comes back from a provider that is tried: nobody is let in.
    pub(super) async fn arrive_dry(
        &self,
        scope: Scope,
        (id, state): (FlowId, &State),
        record: FlowRecord,
        brought: &Brought,
    ) -> Result<Arrival, ArrivalRejection> {
        self.not_over_dry(&record)?;
        let journey = self.journey(id, &record).ok_or(ArrivalRejection::BadState)?;
        let provider = self.came_from(&record, &journey, brought)?;
        if provider.id != tried_of(&record).provider || is_captured(&record) {
            return Err(ArrivalRejection::MixedUp);
        }
        if !self.spend(scope, id, state).await? {
            return Err(ArrivalRejection::BadState);
        }
        let payload = self.rehearse(&record, provider, &journey, brought).await;
        self.capture(scope, id, payload).await?;
        let flow = Box::new(self.show_dry_run(id, &record));
        Ok(Arrival { flow, arrived: Arrived::Tried, return_code: None })
    }

    /// Keeps what came of it, unless something did before.
    async fn capture(&self, scope: Scope, id: FlowId, payload: Payload) -> Result<(), StoreError> {
        let plain = encoded(payload);
        let entropy = self.store.entropy().as_ref();
        let sealed = &self.keys.seal.seal(entropy, &payload_of(id), &plain);
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        self.store
            .transact(|t| async move {
                let found = t.get::<Flows>(key).await?.map(|entry| entry.record);
                let Some(found) = found.filter(|found| is_one(found) && !is_captured(found)) else {
                    return Ok(());
                };
                let tried = TriedRecord { payload: sealed.clone(), ..tried_of(&found) };
                let record = FlowRecord {
                    tried: Some(tried.into()),
                    completed_at: t.now().as_millis(),
                    active: "oidc".to_owned(),
                    social_state: Bytes::new(),
                    social_journey: Bytes::new(),
                    form: Bytes::new(),
                    ..found
                };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(())
    }

    /// What proves to have come back to such a flow.
    pub fn dry_run_proof(&self, scope: Scope, id: FlowId) -> Secret<String> {
        let digests = self.dry_run_digests(scope.tenant, id.0);
        Secret::new(digests.first().map(|d| URL_SAFE_NO_PAD.encode(d)).unwrap_or_default())
    }

    fn proves_dry_run(&self, scope: Scope, id: FlowId, proof: Option<&str>) -> bool {
        let brought = proof.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()).unwrap_or_default();
        let digests = self.dry_run_digests(scope.tenant, id.0);
        digests.iter().any(|digest| bool::from(digest.ct_eq(brought.as_slice())))
    }

    /// What came of a flow, for whom that proof shows to have come back to it.
    ///
    /// # Errors
    /// [`DryRunRejection::NotYours`] without it; [`FlowRejection::NotFound`] if nothing did.
    pub fn dry_run_payload(
        &self,
        scope: Scope,
        flow: &Flow,
        proof: Option<&str>,
    ) -> Result<Value, DryRunRejection> {
        if !self.proves_dry_run(scope, flow.id, proof) {
            return Err(DryRunRejection::NotYours);
        }
        let sealed = flow.dry_run.as_ref().map(|run| run.sealed.clone()).unwrap_or_default();
        let opened = self.keys.seal.open(&payload_of(flow.id), &sealed);
        let opened = opened.map_err(|_| FlowRejection::NotFound)?;
        Ok(serde_json::from_slice(opened.expose()).unwrap_or_default())
    }

    /// Forgets such a flow (`deleteTestLoginFlow`): once somebody came back to it, for whom
    /// that proof shows to be the one.
    ///
    /// # Errors
    /// See [`DryRunRejection`].
    pub async fn delete_dry_run(
        &self,
        scope: Scope,
        id: FlowId,
        proof: Option<&str>,
    ) -> Result<(), DryRunRejection> {
        let proven = self.proves_dry_run(scope, id, proof);
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let found = t.get::<Flows>(key).await?.map(|entry| entry.record);
                let Some(found) = found.filter(is_one) else { return Ok(None) };
                if is_captured(&found) && !proven {
                    return Ok(Some(false));
                }
                t.delete::<Flows>(key).await?;
                Ok::<_, StoreError>(Some(true))
            })
            .await?;
        match done.value {
            Some(true) => Ok(()),
            Some(false) => Err(DryRunRejection::NotYours),
            None => Err(FlowRejection::NotFound.into()),
        }
    }
}

/// What is kept of a secret that has enough random bits for a plain digest.
fn digest(bearer: &str) -> Bytes {
    Bytes::copy_from_slice(&blake3::derive_key("cardea tried provider v1", bearer.as_bytes()))
}

fn payload_of(id: FlowId) -> String {
    format!("what came of trying a provider in flow {id}")
}
