//! Reading flows, showing them, and what becomes of those that are over. How they begin
//! is in [`begin`](super::begin).

use std::collections::BTreeSet;

use bytes::Bytes;
use cardea_storage::{Consistency, Slot, StoreError, Timestamp, Transaction};
use thiserror::Error;
use uuid::Uuid;

use super::{
    AddressProof, Flow, FlowState, Purpose, login::second_code::shown_as,
    organization::organization_of, social::dry_run,
};
use crate::{
    Service,
    model::{CsrfDigest, FlowId, Scope},
    schema::{Channel, IdentitySchema},
    session::Aal,
    table::{FlowKey, FlowRecord, Flows, UsedFlowKey, UsedFlowRecord, UsedFlows, id_bytes},
    ui::{Container, Text, forms},
};

/// Why a flow is not given.
#[derive(Debug, Error)]
pub enum FlowRejection {
    /// There is no such flow.
    #[error("there is no such flow")]
    NotFound,
    /// It is over (`self_service_flow_expired`).
    #[error("the flow expired")]
    Expired {
        /// When.
        expired_at: Timestamp,
        /// For how long, in milliseconds.
        since_ms: u64,
        /// The flow to go on with, if one could be begun; it says what happened.
        replacement: Option<Box<Flow>>,
    },
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// A flow by its id (`getLoginFlow`, `getRegistrationFlow`).
    ///
    /// # Errors
    /// See [`FlowRejection`]; one that is over is replaced by a new one.
    pub async fn flow(
        &self,
        scope: Scope,
        purpose: Purpose,
        id: FlowId,
    ) -> Result<Flow, FlowRejection> {
        let found = self.peek_flow(scope, id, Consistency::Strong).await?;
        if let Some(tried) = found.as_ref().filter(|record| dry_run::is_one(record)) {
            return self.dry_run(purpose, id, tried);
        }
        let record = self.not_over(scope, purpose, found).await?;
        let mut flow = self.show_flow(id, &record);
        Self::refill(&mut flow, &record);
        Ok(flow)
    }

    /// A flow that something is sent to, for what of it never changes: read here, and
    /// strongly where that may not be all. What comes of it is decided by the commit.
    ///
    /// # Errors
    /// As those of [`flow`](Self::flow).
    pub async fn flow_sent_to(
        &self,
        scope: Scope,
        purpose: Purpose,
        id: FlowId,
    ) -> Result<Flow, FlowRejection> {
        let found = self.peek_flow(scope, id, Consistency::Eventual).await?;
        // Whose browser's it is may have been told elsewhere a moment ago.
        let sure = |record: &&FlowRecord| !record.unclaimed && !dry_run::is_one(record);
        if found.as_ref().filter(sure).is_none() {
            return self.flow(scope, purpose, id).await;
        }
        let record = self.not_over(scope, purpose, found).await?;
        Ok(self.show_flow(id, &record))
    }

    /// Reads a flow that is to be shown, strongly: what somebody is to be told was written a
    /// moment ago, perhaps through another node.
    pub(super) async fn latest_flow(
        &self,
        scope: Scope,
        purpose: Purpose,
        id: FlowId,
    ) -> Result<FlowRecord, FlowRejection> {
        let found = self.peek_flow(scope, id, Consistency::Strong).await?;
        self.not_over(scope, purpose, found).await
    }

    /// Reads a flow that something was sent to: locally first, strongly if it is not there.
    /// What comes of it is decided by the commit.
    pub(super) async fn open_flow(
        &self,
        scope: Scope,
        purpose: Purpose,
        id: FlowId,
    ) -> Result<FlowRecord, FlowRejection> {
        let mut found = self.peek_flow(scope, id, Consistency::Eventual).await?;
        if found.is_none() {
            found = self.peek_flow(scope, id, Consistency::Strong).await?;
        }
        self.not_over(scope, purpose, found).await
    }

    pub(super) async fn peek_flow(
        &self,
        scope: Scope,
        id: FlowId,
        consistency: Consistency,
    ) -> Result<Option<FlowRecord>, StoreError> {
        let key = FlowKey { tenant: scope.tenant, id: id.0 };
        let found = self.store.view(consistency).peek::<Flows>(&key).await?;
        Ok(found.map(|entry| entry.record))
    }

    /// A flow that was read, or a new one in its place.
    async fn not_over(
        &self,
        scope: Scope,
        purpose: Purpose,
        found: Option<FlowRecord>,
    ) -> Result<FlowRecord, FlowRejection> {
        let record = found
            .filter(|record| record.purpose == purpose.number())
            .ok_or(FlowRejection::NotFound)?;
        let now = self.now();
        if now.as_millis() < record.expires_at {
            return Ok(record);
        }
        let expired_at = Timestamp(record.expires_at);
        let since_ms = now.as_millis() - record.expires_at;
        let replacement = self.replace_flow(scope, purpose, record, now).await;
        Err(FlowRejection::Expired { expired_at, since_ms, replacement })
    }

    async fn replace_flow(
        &self,
        scope: Scope,
        purpose: Purpose,
        over: FlowRecord,
        now: Timestamp,
    ) -> Option<Box<Flow>> {
        let expired_at = over.expires_at;
        let record = FlowRecord {
            issued_at: now.as_millis(),
            expires_at: now.after(self.settings.flow_lifespan).as_millis(),
            completed_at: 0,
            form: Bytes::new(),
            active: self.active_at_first(purpose),
            state: 0,
            address: String::new(),
            code_digest: Bytes::new(),
            code_expires_at: 0,
            code_tries: 0,
            social_state: Bytes::new(),
            social_journey: Bytes::new(),
            social_pending: Bytes::new(),
            exchange_init: Bytes::new(),
            exchange_return: Bytes::new(),
            exchange_token: Bytes::new(),
            code_account: Bytes::new(),
            code_traits: Bytes::new(),
            // Whom a code was sent to is not who begins anew, and has no work done for it.
            subject: match purpose {
                Purpose::Recovery | Purpose::Verification => Bytes::new(),
                _ => over.subject.clone(),
            },
            passwordless_keys: if over.subject.is_empty() {
                Vec::new()
            } else {
                over.passwordless_keys.clone()
            },
            // What was drawn for the one is not good for the other.
            challenge: if over.challenge.is_empty() { Bytes::new() } else { self.draw_challenge() },
            lookup_sealed: Bytes::new(),
            lookup_revealed: false,
            ..over
        };
        match self.keep_flow(scope, record).await {
            Ok(mut flow) => {
                let (at, now) = (expired_at, now.as_millis());
                flow.ui.messages.push(Text::flow_expired(purpose, at, now));
                if let Err(error) = self.keep_form(scope, &flow).await {
                    tracing::debug!(%error, "a new flow was not told why it was begun");
                }
                Some(Box::new(flow))
            }
            Err(error) => {
                tracing::warn!(%error, "an expired flow could not be replaced");
                None
            }
        }
    }

    /// The method that a flow has before anybody chose one.
    fn active_at_first(&self, purpose: Purpose) -> String {
        match purpose {
            Purpose::Recovery | Purpose::Verification => self.proof_for(purpose).name().to_owned(),
            _ => String::new(),
        }
    }

    pub(super) fn flow_schema(
        &self,
        record: &FlowRecord,
    ) -> Option<std::sync::Arc<IdentitySchema>> {
        self.schema(&record.schema_id).or_else(|| self.schema(""))
    }

    /// How the addresses are reached that a recovery or verification asks for.
    fn asked_addresses(&self, record: &FlowRecord) -> BTreeSet<Channel> {
        let schema = self.flow_schema(record);
        let named = schema.map(|schema| {
            if record.purpose == Purpose::Recovery.number() {
                schema.recovers().clone()
            } else {
                schema.verifies().clone()
            }
        });
        named.unwrap_or_default()
    }

    /// The flow with an empty form.
    pub(super) fn show_flow(&self, id: FlowId, record: &FlowRecord) -> Flow {
        let purpose = Purpose::from_number(record.purpose).unwrap_or(Purpose::Login);
        let state = FlowState::of(purpose, record);
        let public_url = &self.settings.public_url;
        let action = format!("{public_url}/self-service/{}?flow={id}", purpose.name());
        let proof = AddressProof::of(record);
        let mut ui = match (purpose, self.flow_schema(record)) {
            (Purpose::Login, _) if state == FlowState::SentEmail => {
                forms::login_code(&action, &shown_address(record))
            }
            (Purpose::Registration, _) if state == FlowState::SentEmail => {
                let traits = self.waiting_traits(id, record).unwrap_or_default();
                forms::registration_code(&action, &traits)
            }
            (Purpose::Registration, Some(schema)) => {
                forms::registration(&action, &schema, &self.registration_form(record, &schema))
            }
            (Purpose::Login | Purpose::Registration, _) => {
                forms::login(&action, &self.login_form(record))
            }
            // Made with what the identity says of itself, by who may see that.
            (Purpose::Settings, _) => Container::new(&action),
            (Purpose::Recovery | Purpose::Verification, _) if proof == AddressProof::Link => {
                forms::link(&action, &self.asked_addresses(record), &record.address)
            }
            (Purpose::Recovery | Purpose::Verification, _) if state == FlowState::SentEmail => {
                forms::code(&action, Text::label_code(purpose), &record.address)
            }
            (Purpose::Recovery | Purpose::Verification, _) => {
                forms::address(&action, &self.asked_addresses(record))
            }
        };
        // A second factor is nobody else's to show.
        if record.requested_aal != 2 {
            self.offer_providers(&mut ui, purpose, (id, record));
        }
        self.ask_for_work(&mut ui, purpose, (id, record));
        let by_address = matches!(purpose, Purpose::Recovery | Purpose::Verification);
        let mut flow = Flow {
            id,
            purpose,
            issued_at: Timestamp(record.issued_at),
            expires_at: Timestamp(record.expires_at),
            request_url: record.request_url.clone(),
            return_to: Some(record.return_to.clone()).filter(|url| !url.is_empty()),
            schema_id: record.schema_id.clone(),
            refresh: record.refresh,
            requested_aal: if record.requested_aal == 2 { Aal::Aal2 } else { Aal::Aal1 },
            state,
            organization: organization_of(record),
            active: by_address.then(|| proof.name().to_owned()),
            browser: <[u8; 32]>::try_from(record.csrf_digest.as_ref()).ok().map(CsrfDigest),
            unclaimed: record.unclaimed,
            exchange_code: None,
            identity: None,
            verification: None,
            dry_run: None,
            ui,
        };
        if state == FlowState::PassedChallenge && purpose == Purpose::Verification {
            self.show_verified(&mut flow, record);
        }
        flow
    }

    pub(super) fn flow_kept_until(&self, record: &FlowRecord) -> Timestamp {
        Timestamp(record.expires_at).after(self.settings.flow_retention)
    }

    /// Writes what became of a flow on its way, unless it was completed meanwhile. It may
    /// have been read from a replica that lags: tries that were made since stay counted.
    pub(super) async fn rewrite_flow(
        &self,
        scope: Scope,
        id: FlowId,
        turned: &FlowRecord,
    ) -> Result<(), StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self.store.transact(|t| async move {
            let found = t.get::<Flows>(key).await?.map(|entry| entry.record);
            if let Some(found) = found.filter(|found| found.completed_at == 0) {
                let code_tries = found.code_tries.max(turned.code_tries);
                let turned = FlowRecord { code_tries, ..turned.clone() };
                t.put::<Flows>(key, &turned, Some(self.flow_kept_until(&turned))).await?;
            }
            Ok::<_, StoreError>(())
        });
        done.await.map(|_| ())
    }

    /// Puts the mark that a flow was completed; `false` if it was before.
    pub(super) async fn use_flow(
        &self,
        t: &Transaction,
        scope: Scope,
        flow: (FlowId, &FlowRecord),
        subject: Uuid,
    ) -> Result<bool, StoreError> {
        let (id, record) = flow;
        let slot = Slot::of_id(&subject);
        let key = UsedFlowKey { slot, tenant: scope.tenant, flow: id.0 };
        if t.get::<UsedFlows>(&key).await?.is_some() {
            return Ok(false);
        }
        let mark =
            UsedFlowRecord { completed_at: t.now().as_millis(), subject: id_bytes(&subject) };
        // Longer than the flow itself is read.
        let kept = self.flow_kept_until(record).after(self.settings.flow_lifespan);
        t.put::<UsedFlows>(&key, &mark, Some(kept)).await?;
        if self.same_shard(slot, Slot::of_id(&id.0)) {
            self.tell_flow(t, scope, flow).await?;
        }
        Ok(true)
    }

    /// Tells a flow that lives elsewhere that it was completed.
    pub(super) async fn hint_flow(&self, scope: Scope, flow: (FlowId, &FlowRecord), subject: Uuid) {
        if self.same_shard(Slot::of_id(&subject), Slot::of_id(&flow.0.0)) {
            return;
        }
        let told =
            self.store.transact(|t| async move { self.tell_flow(&t, scope, flow).await }).await;
        if let Err(error) = told {
            // The mark in the subject's home decides; this only helps readers.
            tracing::debug!(%error, "a flow was not told that it was completed");
        }
    }

    async fn tell_flow(
        &self,
        t: &Transaction,
        scope: Scope,
        (id, record): (FlowId, &FlowRecord),
    ) -> Result<(), StoreError> {
        let done = FlowRecord { completed_at: t.now().as_millis(), ..record.clone() };
        let key = FlowKey { tenant: scope.tenant, id: id.0 };
        t.put::<Flows>(&key, &done, Some(self.flow_kept_until(record))).await
    }
}

/// The address that a code was sent to, as who logs in may see it.
fn shown_address(record: &FlowRecord) -> String {
    match record.second_addresses.as_slice() {
        [] => record.address.clone(),
        all => shown_as(all, &record.address),
    }
}
