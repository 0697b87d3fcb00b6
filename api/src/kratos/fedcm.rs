//! `createFedcmFlow`, `updateFedcmFlow`: a browser asks a provider itself who somebody is, and
//! a page sends what it got.

use axum::{extract::State, response::Response};
use cardea_identity::flow::{
    Arrived, FedcmProvider, FedcmRejection, FedcmSubmission, Flow, LoggedIn, Purpose, Registered,
};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;

use super::{
    Kratos,
    csrf::{CsrfSecret, check_token, violation},
    flow::{Browser, Opened, place_after, refused, request_url, return_to, sender_to, text},
    login,
    manner::Manner,
    registration,
    rejection::{Refused, location_change_required, not_begun},
    social::{is_from_own_page, not_let_in},
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed},
};

/// `createFedcmFlowResponse`.
#[derive(Serialize)]
struct ParametersBody {
    csrf_token: String,
    providers: Vec<ProviderBody>,
}

/// `Provider`: what `navigator.credentials.get` takes.
#[derive(Serialize)]
struct ProviderBody {
    client_id: String,
    config_url: String,
    nonce: String,
    fields: [&'static str; 3],
    parameters: Parameters,
}

/// What the provider is told. Newer browsers hand on a nonce that is here alone.
#[derive(Serialize)]
struct Parameters {
    nonce: String,
    scope: String,
}

/// What somebody is asked to agree to share.
pub(super) const FIELDS: [&str; 3] = ["name", "email", "picture"];

impl From<FedcmProvider> for ProviderBody {
    fn from(provider: FedcmProvider) -> Self {
        let FedcmProvider { client_id, config_url, nonce, scope, .. } = provider;
        let parameters = Parameters { nonce: nonce.clone(), scope };
        Self { client_id, config_url, nonce, fields: FIELDS, parameters }
    }
}

pub(super) async fn parameters(
    State(kratos): State<Kratos>,
    caller: Caller,
    headers: HeaderMap,
) -> Response {
    let secret = Browser::of(&kratos, &headers).secret;
    let providers = kratos.service().fedcm_providers(caller.scope, secret.digest());
    let body = ParametersBody {
        csrf_token: secret.token(kratos.service().entropy()),
        providers: providers.into_iter().map(ProviderBody::from).collect(),
    };
    let mut response = json(StatusCode::OK, &body);
    kratos.set_csrf(&mut response, &secret);
    response
}

pub(super) async fn submit(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    uri: Uri,
    headers: HeaderMap,
    sent: Sent,
) -> Result<Response, ApiError> {
    let manner = Manner::of_browser(&headers);
    let read = read(&kratos, &query, (&uri, &headers), &sent);
    let done = match read {
        Ok((submission, secret)) => {
            let submission = FedcmSubmission { proof, ..submission };
            take(&kratos, &caller, (submission, secret), (manner, &headers), &sent).await
        }
        Err(error) => Err(error),
    };
    kratos.answer(caller.scope, manner, done).await
}

fn read(
    kratos: &Kratos,
    query: &Query,
    (uri, headers): (&Uri, &HeaderMap),
    sent: &Sent,
) -> Result<(FedcmSubmission, CsrfSecret), ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let csrf_token = text(&mut body, "csrf_token")?;
    let cookie = kratos.csrf_cookie();
    check_token(headers, cookie, csrf_token.as_deref())?;
    let secret = CsrfSecret::of(headers, cookie)
        .ok_or_else(|| violation("The HTTP Cookie Header brought no anti-CSRF cookie."))?;
    let submission = FedcmSubmission {
        token: Secret::new(text(&mut body, "token")?.unwrap_or_default()),
        nonce: text(&mut body, "nonce")?.filter(|nonce| !nonce.is_empty()),
        browser: secret.digest(),
        proof: None,
        request_url: request_url(kratos, uri),
        return_to: return_to(kratos, query)?,
    };
    Ok((submission, secret))
}

async fn take(
    kratos: &Kratos,
    caller: &Caller,
    (submission, secret): (FedcmSubmission, CsrfSecret),
    (manner, headers): (Manner, &HeaderMap),
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (body, _) = sent.json_or_form()?;
    let client = sender_to(kratos, &caller.client, &submission.request_url, headers, &body)?;
    let done = kratos.service().submit_fedcm(caller.scope, submission, &client).await;
    let (flow, arrived) = done.map_err(not_taken)?;
    let opened = |flow: Flow| Opened {
        flow,
        manner,
        secret: Some(secret.clone()),
        from_own_page: is_from_own_page(kratos, headers),
        language: caller.client.language,
    };
    match arrived {
        Arrived::LoggedIn(issued) => {
            login::answered(kratos, caller, &opened(*flow), &LoggedIn { issued: *issued })
        }
        Arrived::Registered(registered) => signed_up(kratos, caller, &opened(*flow), &registered),
        // A script cannot go on with what a login does not ask for.
        Arrived::Form(flow) if flow.purpose != Purpose::Login && manner == Manner::Script => {
            let page = kratos.options().urls.page(flow.purpose, &flow.id.to_string());
            Err(location_change_required(&page))
        }
        Arrived::Form(flow) => {
            let opened = opened(Flow::clone(&flow));
            refused(kratos, caller.scope, &opened, Refused::Flow(flow)).await
        }
        Arrived::Unverified(started) => {
            refused(kratos, caller.scope, &opened(*flow), Refused::Unverified(started)).await
        }
        Arrived::Linked | Arrived::Tried => Err(ApiError::internal()),
    }
}

/// Who has signed up is answered as who logs in: where that does not log in, a script must
/// go on elsewhere.
fn signed_up(
    kratos: &Kratos,
    caller: &Caller,
    opened: &Opened,
    registered: &Registered,
) -> Result<Response, ApiError> {
    if registered.issued.is_some() || opened.manner == Manner::Page {
        return registration::answered(kratos, caller, opened, registered);
    }
    let place = match &registered.verification {
        Some(started) => {
            kratos.options().urls.page(Purpose::Verification, &started.flow.to_string())
        }
        None => place_after(kratos, opened.flow.return_to.as_deref()),
    };
    Err(location_change_required(&place))
}

fn not_taken(rejection: FedcmRejection) -> ApiError {
    match rejection {
        FedcmRejection::NotYours => violation("The token was asked for by another browser."),
        FedcmRejection::Over => ApiError::new(StatusCode::GONE)
            .id("self_service_flow_expired")
            .message("self-service flow expired")
            .reason("The nonce of the token is over, or was used before: ask for new parameters."),
        FedcmRejection::Begin(rejection) => not_begun(rejection, Purpose::Login),
        FedcmRejection::Arrival(rejection) => not_let_in(rejection),
    }
}
