//! Somebody comes back from a provider.

use bytes::Bytes;
use cardea_storage::{Consistency, Secret, StoreError};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{
    depart::{journey_of, say_untrusted},
    dry_run,
    exchange::ReturnCode,
};
use crate::{
    Service,
    flow::{
        Flow, FlowRejection, Purpose, Registered, SettingsRejection, StartedVerification, TooEarly,
        organization::organization_of,
    },
    hook::HookFailed,
    model::{Client, CsrfDigest, FlowId, Issued, Scope},
    session::Proof,
    social::{
        Provider,
        authorize::{Journey, State, callback_url},
        claims::{Expected, Stranger},
        exchange::{Tokens, Trace},
    },
    table::{FlowKey, FlowRecord, Flows},
    ui::Text,
};

/// The longest part of a provider's error that is shown, in characters.
const ERROR_CHARS_MAX: usize = 200;

/// What a browser brought from a provider.
#[derive(Debug, Clone, Default)]
pub struct Brought {
    /// The provider in the URL; `None` where it names none.
    pub provider: Option<String>,
    /// `state`.
    pub state: String,
    /// `code`.
    pub code: String,
    /// `error`.
    pub error: String,
    /// `error_description`.
    pub error_description: String,
    /// `iss` (RFC 9207); `None` if missing.
    pub issuer: Option<String>,
    /// `user`: what Apple tells of somebody once, in JSON.
    pub user: Option<String>,
    /// The browser's secret.
    pub browser: Option<CsrfDigest>,
    /// The browser's session.
    pub proof: Option<Proof>,
}

/// What became of somebody who came back.
#[derive(Debug, Clone)]
pub enum Arrived {
    /// It is logged in.
    LoggedIn(Box<Issued>),
    /// It signed up.
    Registered(Box<Registered>),
    /// Its settings changed.
    Linked,
    /// Something is to be said or done in the form of this flow first.
    Form(Box<Flow>),
    /// None of its addresses is verified, and a hook requires it; a verification has begun.
    Unverified(StartedVerification),
    /// Its provider was tried, and nobody is let in.
    Tried,
}

/// Somebody who came back.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The flow that it had left from.
    pub flow: Box<Flow>,
    /// What became of it.
    pub arrived: Arrived,
    /// The code for the native client that began the flow.
    pub return_code: Option<ReturnCode>,
}

/// Why nobody is let in who came back.
#[derive(Debug, Error)]
pub enum ArrivalRejection {
    /// The state is of no flow, was spent, or is another browser's
    /// (`security_csrf_violation`).
    #[error("the state is of no flow that this browser began")]
    BadState,
    /// It came back from another provider than it was sent to.
    #[error("the answer is another provider's")]
    MixedUp,
    /// The flow is not there, or over.
    #[error(transparent)]
    Flow(#[from] FlowRejection),
    /// The identity is inactive (`identity_disabled`).
    #[error("this account was disabled")]
    Disabled,
    /// Another identity than the one that was to prove itself
    /// (`security_identity_mismatch`).
    #[error("the account is another identity's than the session")]
    IdentityMismatch,
    /// The browser has no session for these settings (`session_inactive`).
    #[error("no active session")]
    NoSession,
    /// Too many attempts.
    #[error("too many attempts, retry after {:?}", .0.retry_after)]
    Throttled(TooEarly),
    /// A hook did not answer as it must.
    #[error(transparent)]
    Hook(#[from] HookFailed),
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who came back to which flow.
pub(in crate::flow) struct Guest<'a> {
    pub(in crate::flow) scope: Scope,
    pub(in crate::flow) id: FlowId,
    pub(in crate::flow) record: &'a FlowRecord,
    pub(in crate::flow) provider: &'a Provider,
    pub(in crate::flow) client: &'a Client,
    pub(in crate::flow) proof: Option<&'a Proof>,
    /// Whether it came by a browser that is not known to be of who began the flow.
    pub(in crate::flow) elsewhere: bool,
}

impl Service {
    /// Takes in who comes back from a provider.
    ///
    /// # Errors
    /// See [`ArrivalRejection`].
    pub async fn arrive(
        &self,
        scope: Scope,
        brought: Brought,
        client: &Client,
    ) -> Result<Arrival, ArrivalRejection> {
        let state = State::parse(&brought.state).ok_or(ArrivalRejection::BadState)?;
        let id = FlowId(state.flow);
        let key = FlowKey { tenant: scope.tenant, id: state.flow };
        let found = self.store.view(Consistency::Strong).peek::<Flows>(&key).await?;
        let record = found.ok_or(ArrivalRejection::BadState)?.record;
        if !state.is(&record.social_state) || !is_of(&record, brought.browser) {
            return Err(ArrivalRejection::BadState);
        }
        if dry_run::is_one(&record) {
            return self.arrive_dry(scope, (id, &state), record, &brought).await;
        }
        let purpose = Purpose::from_number(record.purpose).ok_or(ArrivalRejection::BadState)?;
        // Answers with the flow's expiry where it is over.
        self.open_flow(scope, purpose, id).await?;
        let journey = self.journey(id, &record).ok_or(ArrivalRejection::BadState)?;
        let provider = self.came_from(&record, &journey, &brought)?;
        if !self.spend(scope, id, &state).await? {
            return Err(ArrivalRejection::BadState);
        }
        let record =
            FlowRecord { social_state: Bytes::new(), social_journey: Bytes::new(), ..record };
        let proof = brought.proof.as_ref();
        let payload = journey.transient_payload.clone();
        let client = &Client { transient_payload: payload, ..client.clone() };
        let elsewhere = record.csrf_digest.is_empty();
        let guest = Guest { scope, id, record: &record, provider, client, proof, elsewhere };
        // What a native client sent along somebody else may have made it send.
        let typed = if elsewhere { Value::Object(Map::new()) } else { journey.traits.clone() };
        let mut flow = match (purpose, proof) {
            (Purpose::Settings, Some(proof)) => {
                let shown = self.settings_flow(scope, id, Some(proof)).await;
                shown.map_err(not_shown)?
            }
            (Purpose::Settings, None) => return Err(ArrivalRejection::NoSession),
            _ => self.show_flow(id, &record),
        };
        flow.active = Some("oidc".to_owned());
        let left = Box::new(flow.clone());
        let arrived = match self.identify(&mut flow, provider, &journey, &brought).await? {
            None => Arrived::Form(Box::new(flow)),
            Some((stranger, tokens)) if purpose == Purpose::Settings => {
                self.link_mine(&guest, flow, &stranger, tokens).await?
            }
            Some((stranger, tokens)) => {
                self.take_in(&guest, flow, (stranger, tokens), typed).await?
            }
        };
        if let Arrived::Form(flow) = &arrived {
            self.keep_form(scope, flow).await?;
        }
        let return_code = self.hand_over(&guest, &arrived).await?;
        Ok(Arrival { flow: left, arrived, return_code })
    }

    /// Takes in who an ID token means that an application got by itself. The nonce is
    /// the one that it was got with; a provider that brings it back must.
    pub(in crate::flow) async fn take_token(
        &self,
        guest: &Guest<'_>,
        mut flow: Flow,
        (id_token, nonce): (&Secret<String>, Option<&str>),
        typed: Value,
    ) -> Result<Arrived, ArrivalRejection> {
        let provider = guest.provider;
        if !provider.preset.native_tokens || provider.audiences.is_empty() {
            let label = &provider.label;
            let text = format!("ID tokens of {label} are not taken by themselves.");
            flow.ui.messages.push(Text::generic_about(&text, "takes_no_tokens", label.as_str()));
            return Ok(Arrived::Form(Box::new(flow)));
        }
        let Some(nonce) = nonce.filter(|nonce| !nonce.is_empty()) else {
            flow.ui.messages.push(Text::property_missing("id_token_nonce"));
            return Ok(Arrived::Form(Box::new(flow)));
        };
        let desk = self.desk(provider);
        let expected = Expected { nonce: Some(nonce), access_token: None, now: self.now() };
        let read = async {
            let metadata = desk.metadata().await?;
            desk.read(&metadata, id_token.expose(), expected).await
        };
        match read.await {
            Ok(stranger) => {
                let tokens = Tokens { id_token: id_token.expose().clone(), ..Tokens::default() };
                self.take_in(guest, flow, (stranger, tokens), typed).await
            }
            Err(untrusted) => {
                say_untrusted(&mut flow, provider, &untrusted);
                let source = self.source(guest.scope, guest.client);
                self.source_failed(guest.scope, &source).await?;
                Ok(Arrived::Form(Box::new(flow)))
            }
        }
    }

    /// The provider that somebody was sent to, and came back from.
    pub(super) fn came_from(
        &self,
        record: &FlowRecord,
        journey: &Journey,
        brought: &Brought,
    ) -> Result<&Provider, ArrivalRejection> {
        let provider = self.settings.providers.get(&journey.provider);
        let provider = provider.ok_or(ArrivalRejection::MixedUp)?;
        let elsewhere = brought.provider.as_ref().is_some_and(|named| *named != journey.provider);
        let of_another = provider.organization != organization_of(record);
        if elsewhere || of_another || provider.issuer != journey.issuer {
            return Err(ArrivalRejection::MixedUp);
        }
        Ok(provider)
    }

    pub(super) fn journey(&self, id: FlowId, record: &FlowRecord) -> Option<Journey> {
        let opened = self.keys.seal.open(&journey_of(id), &record.social_journey).ok()?;
        serde_json::from_slice(opened.expose()).ok()
    }

    /// Spends a state; `false` if it was before.
    pub(super) async fn spend(
        &self,
        scope: Scope,
        id: FlowId,
        state: &State,
    ) -> Result<bool, StoreError> {
        let key = &FlowKey { tenant: scope.tenant, id: id.0 };
        let done = self
            .store
            .transact(|t| async move {
                let Some(found) = t.get::<Flows>(key).await? else { return Ok(false) };
                if !state.is(&found.record.social_state) {
                    return Ok(false);
                }
                let record = FlowRecord {
                    social_state: Bytes::new(),
                    social_journey: Bytes::new(),
                    ..found.record
                };
                t.put::<Flows>(key, &record, Some(self.flow_kept_until(&record))).await?;
                Ok::<_, StoreError>(true)
            })
            .await?;
        Ok(done.value)
    }

    /// Who came back; `None` if the form is told why nobody did.
    async fn identify(
        &self,
        flow: &mut Flow,
        provider: &Provider,
        journey: &Journey,
        brought: &Brought,
    ) -> Result<Option<(Stranger, Tokens)>, ArrivalRejection> {
        let desk = self.desk(provider);
        let metadata = match desk.metadata().await {
            Ok(metadata) => metadata,
            Err(untrusted) => {
                say_untrusted(flow, provider, &untrusted);
                return Ok(None);
            }
        };
        // RFC 9207 § 2.4: who answers says who it is, if it said that it would.
        let says_so = metadata.authorization_response_iss_parameter_supported;
        match &brought.issuer {
            Some(issuer) if *issuer != metadata.issuer => return Err(ArrivalRejection::MixedUp),
            None if says_so => return Err(ArrivalRejection::MixedUp),
            _ => {}
        }
        if !brought.error.is_empty() {
            flow.ui.messages.push(refused_there(provider, brought));
            return Ok(None);
        }
        if brought.code.is_empty() {
            let label = &provider.label;
            let reason = format!("{label} sent you back without an answer.");
            flow.ui.messages.push(Text::generic_about(&reason, "silent", label.as_str()));
            return Ok(None);
        }
        let back = callback_url(&self.settings.public_url, &provider.id);
        match desk.redeem(journey, &brought.code, &back, &mut Trace::default()).await {
            Ok((mut stranger, tokens)) => {
                add_name(&mut stranger, brought.user.as_deref());
                Ok(Some((stranger, tokens)))
            }
            Err(untrusted) => {
                say_untrusted(flow, provider, &untrusted);
                Ok(None)
            }
        }
    }
}

/// Why nothing is linked in settings that are not shown.
pub(super) fn not_shown(rejection: SettingsRejection) -> ArrivalRejection {
    match rejection {
        SettingsRejection::Flow(rejection) => rejection.into(),
        SettingsRejection::IdentityMismatch => ArrivalRejection::IdentityMismatch,
        SettingsRejection::Hook(failed) => failed.into(),
        SettingsRejection::Store(error) => error.into(),
        _ => ArrivalRejection::NoSession,
    }
}

/// A name that came beside the ID token, by the browser: it is what somebody says of
/// itself, and overrides nothing that the provider signed.
pub(super) fn add_name(stranger: &mut Stranger, user: Option<&str>) {
    let user = user.and_then(|user| serde_json::from_str::<Value>(user).ok());
    let name = user.as_ref().map(|user| &user["name"]);
    for (claim, member) in [("given_name", "firstName"), ("family_name", "lastName")] {
        let told = name.and_then(|name| name[member].as_str());
        if let Some(told) = told.filter(|_| !stranger.claims.contains_key(claim)) {
            stranger.claims.insert(claim.to_owned(), told.into());
        }
    }
}

/// Whether a flow is the browser's. A native client's is any browser's: what it brings
/// is worth nothing without the code that the client has.
fn is_of(record: &FlowRecord, browser: Option<CsrfDigest>) -> bool {
    if record.csrf_digest.is_empty() {
        return !record.exchange_init.is_empty();
    }
    browser.is_some_and(|browser| bool::from(browser.0.ct_eq(record.csrf_digest.as_ref())))
}

/// What a provider says, without what could be markup, and not too long.
pub(super) fn plain(text: &str) -> String {
    let kept = text.chars().filter(|c| !c.is_control() && !"<>\"'&`".contains(*c));
    kept.take(ERROR_CHARS_MAX).collect()
}

/// A provider's error, in words that it may choose, but neither how long nor of what.
pub(super) fn refused_there(provider: &Provider, brought: &Brought) -> Text {
    let label = &provider.label;
    let (error, description) = (plain(&brought.error), plain(&brought.error_description));
    let more = if description.is_empty() { String::new() } else { format!(" ({description})") };
    let reason = format!("{label} did not let you in: {error}{more}.");
    let told = Text::generic_about(&reason, "refusing", label.as_str());
    let said = format!("{error}{more}");
    let mut context = told.context.clone().unwrap_or_default();
    context.insert("said".to_owned(), said.into());
    told.with(Value::Object(context))
}
