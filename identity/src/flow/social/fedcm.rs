//! Federated Credential Management (FedCM, `createFedcmFlow`, `updateFedcmFlow`): the browser
//! itself asks a provider who somebody is, and a page sends what it got: an ID token.
//!
//! 1. A browser is told the providers, and with each a nonce: the id of a flow that is not
//!    there yet and when it was drawn, with a keyed digest of both, of the provider and of the
//!    browser's secret. Nothing is kept of it.
//! 2. The provider signs the nonce into its ID token. So a token counts in the browser that
//!    asked for it alone: nobody signs another browser in with a token of its own, and what was
//!    taken elsewhere is worth nothing here.
//! 3. The token is verified as one that a native application sends. Only then the flow of the
//!    nonce begins, once: that is what makes a token good for one use, whatever comes of it.
//! 4. From there on it is a login like any by a provider.
//!
//! No work is asked for on this way ([`captcha`](crate::flow::captcha)); where an operator wants
//! work done, it is closed.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_storage::{Secret, StoreError, Timestamp};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use uuid::Uuid;

use super::{
    arrive::{ArrivalRejection, Arrived, Guest},
    depart::not_trusted,
};
use crate::{
    Service,
    flow::{BeginRejection, Flow, Purpose, begin::csrf_bytes},
    model::{Client, CsrfDigest, FlowId, Scope},
    session::Proof,
    social::{Provider, Untrusted, claims, exchange::Tokens, jws::Token},
    table::FlowRecord,
    ui::Text,
};

const ID_BYTES: usize = 16;
const TIME_BYTES: usize = 8;
const MAC_BYTES: usize = 32;

/// A provider, as a browser asks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FedcmProvider {
    /// Its id.
    pub id: String,
    /// Our id there.
    pub client_id: String,
    /// Where it says how it is asked.
    pub config_url: String,
    /// What the ID token must bring back.
    pub nonce: String,
    /// What is asked for.
    pub scope: String,
}

/// What a page sent that a browser got from a provider.
#[derive(Debug, Clone)]
pub struct FedcmSubmission {
    /// The ID token; empty if missing.
    pub token: Secret<String>,
    /// The nonce that it was asked for with; `None`: whatever the token has.
    pub nonce: Option<String>,
    /// The browser.
    pub browser: CsrfDigest,
    /// The session that it has already.
    pub proof: Option<Proof>,
    /// The URL that it was sent to.
    pub request_url: String,
    /// Where to go afterwards.
    pub return_to: Option<String>,
}

/// Why nobody is let in by a token of a browser.
#[derive(Debug, Error)]
pub enum FedcmRejection {
    /// It was asked for by another browser (`security_csrf_violation`).
    #[error("the nonce was given to another browser")]
    NotYours,
    /// The nonce is over, or brought somebody in before (`self_service_flow_expired`).
    #[error("the nonce is over, or was used")]
    Over,
    /// No flow begins.
    #[error(transparent)]
    Begin(#[from] BeginRejection),
    /// As of anybody who comes from a provider.
    #[error(transparent)]
    Arrival(#[from] ArrivalRejection),
}

impl From<StoreError> for FedcmRejection {
    fn from(error: StoreError) -> Self {
        Self::Arrival(error.into())
    }
}

/// A nonce, taken apart.
struct Nonce {
    flow: Uuid,
    drawn_at: Timestamp,
    mac: [u8; MAC_BYTES],
}

impl Nonce {
    fn read(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (flow, rest) = bytes.split_at_checked(ID_BYTES)?;
        let (drawn_at, mac) = rest.split_at_checked(TIME_BYTES)?;
        Some(Self {
            flow: Uuid::from_slice(flow).ok()?,
            drawn_at: Timestamp(u64::from_be_bytes(drawn_at.try_into().ok()?)),
            mac: mac.try_into().ok()?,
        })
    }
}

/// What a nonce is digested with.
fn bound(provider: &Provider, browser: CsrfDigest, flow: Uuid, drawn_at: Timestamp) -> Vec<u8> {
    let mut bytes = [flow.as_bytes().as_slice(), &drawn_at.as_millis().to_be_bytes()].concat();
    bytes.extend_from_slice(&browser.0);
    // Lengths tell where each part ends.
    let (id, issuer) = (&provider.id, &provider.issuer);
    bytes.extend_from_slice(format!("{} {id}{issuer}", id.len()).as_bytes());
    bytes
}

impl Service {
    /// The providers that browsers ask themselves: those that are anybody's.
    fn fedcm(&self) -> impl Iterator<Item = &Provider> {
        let asks_work = &self.settings.proof_of_work.flows;
        let closed = [Purpose::Login, Purpose::Registration].iter().any(|p| asks_work.contains(p));
        let anybodys = self.settings.providers.of(None);
        anybodys.filter(move |provider| provider.fedcm_config_url.is_some() && !closed)
    }

    /// The providers that a browser may ask, each with a nonce of its own (`createFedcmFlow`).
    pub fn fedcm_providers(&self, scope: Scope, browser: CsrfDigest) -> Vec<FedcmProvider> {
        let asked = |provider: &Provider| {
            let (flow, now) = (self.mint_local(), self.now());
            let bound = bound(provider, browser, flow, now);
            let mac = *self.fedcm_digests(scope.tenant, &bound).first()?;
            let time = now.as_millis().to_be_bytes();
            let nonce = [flow.as_bytes().as_slice(), &time, &mac].concat();
            Some(FedcmProvider {
                id: provider.id.clone(),
                client_id: provider.client_id.clone(),
                config_url: provider.fedcm_config_url.clone()?,
                nonce: URL_SAFE_NO_PAD.encode(nonce),
                scope: provider.scope.join(" "),
            })
        };
        self.fedcm().filter_map(asked).collect()
    }

    /// Whether a nonce was drawn for that browser to ask that provider with.
    fn drew(&self, scope: Scope, provider: &Provider, browser: CsrfDigest, nonce: &Nonce) -> bool {
        let bound = bound(provider, browser, nonce.flow, nonce.drawn_at);
        let digests = self.fedcm_digests(scope.tenant, &bound);
        digests.iter().any(|digest| bool::from(digest.ct_eq(&nonce.mac)))
    }

    /// Takes in who an ID token means that a browser got from a provider
    /// (`updateFedcmFlow`); gives the flow that it came by, too.
    ///
    /// # Errors
    /// See [`FedcmRejection`].
    pub async fn submit_fedcm(
        &self,
        scope: Scope,
        submission: FedcmSubmission,
        client: &Client,
    ) -> Result<(Box<Flow>, Arrived), FedcmRejection> {
        if let Some(proof) = &submission.proof
            && self.check_session(scope, proof, cardea_storage::Consistency::Strong).await.is_ok()
        {
            return Err(BeginRejection::AlreadyLoggedIn.into());
        }
        let source = self.source(scope, client);
        let may = self.source_may_try(scope, &source).await?;
        may.map_err(ArrivalRejection::Throttled)?;
        let token = submission.token.expose();
        if token.is_empty() {
            let text = |_| Text::property_missing("token");
            return self.refuse_fedcm(scope, &submission, (client, &source), text).await;
        }
        let said = Token::read(token).ok().and_then(|token| token.unverified());
        let said = said.unwrap_or_default();
        let addressed: Vec<_> =
            self.fedcm().filter(|provider| claims::addressed(provider, &said).is_ok()).collect();
        let Some(first) = addressed.first() else {
            let text = |_| Text::generic("There is no such sign-in provider.");
            return self.refuse_fedcm(scope, &submission, (client, &source), text).await;
        };
        let untrusted = async |provider: &Provider, why: Untrusted| {
            let text = |id| not_trusted(id, provider, &why);
            self.refuse_fedcm(scope, &submission, (client, &source), text).await
        };
        // Whatever it is, it is nothing that was asked for here.
        let stranger = Untrusted::Token("it is the answer to another question");
        let text = said.get("nonce").and_then(Value::as_str).unwrap_or_default();
        let Some(nonce) = Nonce::read(text) else { return untrusted(first, stranger).await };
        let drew = |provider: &&Provider| self.drew(scope, provider, submission.browser, &nonce);
        let Some(provider) = addressed.iter().copied().find(drew) else {
            return Err(FedcmRejection::NotYours);
        };
        if submission.nonce.as_ref().is_some_and(|asked| *asked != text) {
            return untrusted(provider, stranger).await;
        }
        if self.now() >= nonce.drawn_at.after(self.settings.flow_lifespan) {
            return Err(FedcmRejection::Over);
        }
        let desk = self.desk(provider);
        let expected = claims::Expected { nonce: Some(text), access_token: None, now: self.now() };
        let read = async {
            let metadata = desk.metadata().await?;
            desk.read(&metadata, token, expected).await
        };
        let stranger = match read.await {
            Ok(stranger) => stranger,
            Err(why) => return untrusted(provider, why).await,
        };
        let record = self.fedcm_record(&submission)?;
        let begun = self.keep_begun_once(scope, (nonce.flow, record.clone()), client).await?;
        let Some(mut flow) = begun else { return Err(FedcmRejection::Over) };
        flow.active = Some("oidc".to_owned());
        let came_by = Box::new(flow.clone());
        let (id, proof, elsewhere) = (flow.id, None, false);
        let guest = Guest { scope, id, record: &record, provider, client, proof, elsewhere };
        let tokens = Tokens { id_token: token.clone(), ..Tokens::default() };
        let nothing = Value::Object(Map::new());
        let arrived = self.take_in(&guest, flow, (stranger, tokens), nothing).await?;
        if let Arrived::Form(flow) = &arrived {
            self.keep_form(scope, flow).await?;
        }
        Ok((came_by, arrived))
    }

    fn fedcm_record(&self, submission: &FedcmSubmission) -> Result<FlowRecord, BeginRejection> {
        let (url, back) = (submission.request_url.clone(), submission.return_to.clone());
        let mut record = self.new_flow(Purpose::Login, url, back)?;
        record.csrf_digest = csrf_bytes(Some(submission.browser));
        record.challenge = self.draw_challenge();
        Ok(record)
    }

    /// A login that says why a token was not taken, and may be gone on with by other ways.
    async fn refuse_fedcm(
        &self,
        scope: Scope,
        submission: &FedcmSubmission,
        (client, source): (&Client, &[u8; 32]),
        text: impl FnOnce(FlowId) -> Text,
    ) -> Result<(Box<Flow>, Arrived), FedcmRejection> {
        self.source_failed(scope, source).await?;
        let record = self.fedcm_record(submission)?;
        let mut flow = self.keep_begun(scope, record, false, client).await?;
        flow.active = Some("oidc".to_owned());
        let text = text(flow.id);
        flow.ui.messages.push(text);
        self.keep_form(scope, &flow).await?;
        Ok((Box::new(flow.clone()), Arrived::Form(Box::new(flow))))
    }
}
