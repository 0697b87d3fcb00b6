//! Coming back from a provider of social sign-in, and `exchangeSessionToken`.
//!
//! A provider sends a browser back by `GET`; one that posts a form is sent on to the same
//! place by `GET`, for a form of another site brings no cookies.

use axum::{
    extract::{RawPathParams, State},
    response::Response,
};
use cardea_identity::{
    Client,
    flow::{
        Arrival, ArrivalRejection, Arrived, Brought, ExchangeRejection, Flow, LoggedIn, Purpose,
        SocialSubmission,
    },
    language::Language,
    session::Proof,
};
use cardea_storage::Secret;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde_json::{Map, Value};

use super::{
    Kratos,
    browser::see_other,
    csrf::{self, CsrfSecret},
    dry_run,
    flow::{Opened, asked, place_after, text},
    login,
    manner::Manner,
    pages, registration,
    rejection::{hook_failed, location_change_required, no_active_session, not_taken},
    urls::with_parameter,
    wire::{
        flow::LoggedInBody,
        identity::Reader,
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::json,
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed},
};

/// What a provider may bring, each once.
const BROUGHT: [&str; 6] = ["state", "code", "error", "error_description", "iss", "user"];
/// The longest of it, in bytes.
const BROUGHT_BYTES_MAX: usize = 16 * 1024;

/// Takes what concerns a provider out of a body.
///
/// # Errors
/// 400 if it is malformed.
pub(super) fn submission(body: &mut Map<String, Value>) -> Result<SocialSubmission, ApiError> {
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let upstream_parameters = match body.remove("upstream_parameters") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(parameters)) => parameters,
        Some(_) => {
            return Err(ApiError::bad_request(
                "The member \"upstream_parameters\" of the body is no object.",
            ));
        }
    };
    Ok(SocialSubmission {
        provider: filled(text(body, "provider")?),
        id_token: filled(text(body, "id_token")?).map(Secret::new),
        id_token_nonce: filled(text(body, "id_token_nonce")?),
        traits: Value::Null,
        upstream_parameters,
        transient_payload: body.remove("transient_payload").unwrap_or_default(),
    })
}

/// The method that a body names; a provider's button names none.
///
/// # Errors
/// 400 if it is malformed.
pub(super) fn method(body: &mut Map<String, Value>, of: &[&str]) -> Result<String, ApiError> {
    let named = text(body, "method")?.unwrap_or_default();
    let is_there =
        |name: &&str| body.get(*name).and_then(Value::as_str).is_some_and(|v| !v.is_empty());
    if named.is_empty() && of.iter().any(is_there) {
        return Ok("oidc".to_owned());
    }
    Ok(named)
}

pub(super) async fn arrive(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    params: RawPathParams,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let provider = params.iter().find(|(name, _)| *name == "provider").map(|(_, id)| id.to_owned());
    let done = take_in(&kratos, &caller, proof, (provider, &query), &headers).await;
    kratos.answer(caller.scope, Manner::Page, done).await
}

pub(super) async fn arrive_by_form(
    State(kratos): State<Kratos>,
    caller: Caller,
    uri: Uri,
    sent: Sent,
) -> Result<Response, ApiError> {
    let done = by_get(&kratos, &uri, &sent);
    kratos.answer(caller.scope, Manner::Page, done).await
}

fn by_get(kratos: &Kratos, uri: &Uri, sent: &Sent) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in BROUGHT {
        if let Some(value) = text(&mut body, name)? {
            query.append_pair(name, &value);
        }
    }
    let query = query.finish();
    if query.len() > BROUGHT_BYTES_MAX {
        return Err(ApiError::bad_request("What the provider sent is longer than is taken."));
    }
    see_other(&format!("{}{}?{query}", kratos.public_url(), uri.path()))
}

async fn take_in(
    kratos: &Kratos,
    caller: &Caller,
    proof: Option<Proof>,
    (provider, query): (Option<String>, &Query),
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    // Of two, one would be checked and the other used (Keycloak CVE-2026-9689).
    if BROUGHT.iter().any(|name| query.all(name).count() > 1) {
        return Err(ApiError::bad_request("A parameter is there twice."));
    }
    let brought = |name: &str| query.first(name).unwrap_or_default().to_owned();
    let secret = CsrfSecret::of(headers, kratos.csrf_cookie());
    let brought = Brought {
        provider,
        state: brought("state"),
        code: brought("code"),
        error: brought("error"),
        error_description: brought("error_description"),
        issuer: query.first("iss").map(str::to_owned),
        user: query.first("user").map(str::to_owned),
        browser: secret.as_ref().map(CsrfSecret::digest),
        proof,
    };
    let url = format!("{}/self-service/methods/oidc/callback", kratos.public_url());
    let client = Client { asked: asked(kratos, ("GET", &url), headers), ..caller.client.clone() };
    let arrival = kratos.service().arrive(caller.scope, brought, &client).await;
    let arrival = arrival.map_err(not_let_in)?;
    if arrival.flow.browser.is_none() {
        return back_to_application(kratos, &arrival);
    }
    let Arrival { flow, arrived, .. } = arrival;
    let opened = |flow: Flow| Opened {
        flow,
        manner: Manner::Page,
        secret: secret.clone(),
        from_own_page: false,
        language: caller.client.language,
    };
    match arrived {
        Arrived::LoggedIn(issued) => {
            login::answered(kratos, caller, &opened(*flow), &LoggedIn { issued: *issued })
        }
        Arrived::Registered(registered) => {
            registration::answered(kratos, caller, &opened(*flow), &registered)
        }
        Arrived::Linked => {
            let urls = &kratos.options().urls;
            let page = urls.page(Purpose::Settings, &flow.id.to_string());
            let place = flow.return_to.as_deref().and_then(|url| urls.allow(url).ok());
            see_other(&place.unwrap_or(page))
        }
        Arrived::Form(flow) => {
            see_other(&kratos.options().urls.page(flow.purpose, &flow.id.to_string()))
        }
        Arrived::Tried => dry_run::tried(kratos, caller.scope, Manner::Page, &flow),
        Arrived::Unverified(started) => {
            see_other(&kratos.options().urls.page(Purpose::Verification, &started.flow.to_string()))
        }
    }
}

/// Sends the browser back to the native application that began the flow, with the code
/// that it exchanges, or the flow that it must go on with.
fn back_to_application(kratos: &Kratos, arrival: &Arrival) -> Result<Response, ApiError> {
    let place = place_after(kratos, arrival.flow.return_to.as_deref());
    match (&arrival.return_code, &arrival.arrived) {
        (Some(code), _) => see_other(&with_parameter(&place, "code", code.expose())),
        (None, Arrived::Form(flow)) => {
            see_other(&with_parameter(&place, "flow", &flow.id.to_string()))
        }
        (None, Arrived::Unverified(started)) => {
            see_other(&with_parameter(&place, "flow", &started.flow.to_string()))
        }
        (None, _) => see_other(&place),
    }
}

pub(super) fn not_let_in(rejection: ArrivalRejection) -> ApiError {
    match rejection {
        ArrivalRejection::BadState => csrf::violation(
            "The state is of no flow that this browser began, or was brought before.",
        ),
        ArrivalRejection::MixedUp => {
            csrf::violation("The answer is not of the provider that this browser was sent to.")
        }
        ArrivalRejection::Flow(rejection) => not_taken(rejection).0,
        ArrivalRejection::Disabled => ApiError::unauthorized("This account was disabled.")
            .id("identity_disabled")
            .message("identity is disabled"),
        ArrivalRejection::IdentityMismatch => {
            ApiError::bad_request("The account is that of another identity.")
                .id("security_identity_mismatch")
        }
        ArrivalRejection::NoSession => no_active_session(),
        ArrivalRejection::Hook(failed) => hook_failed(failed),
        ArrivalRejection::Throttled(early) => ApiError::too_many_requests(early.retry_after),
        ArrivalRejection::Store(error) => error.into(),
    }
}

/// Sends a browser to a provider.
///
/// A page of ours may send its forms to this origin only, and browsers hold redirects of
/// a form to that. So from there the way is over a page of its own, which leads on by
/// itself; nobody has to allow every place that a provider may pass a browser through.
pub(super) fn depart(
    kratos: &Kratos,
    manner: Manner,
    (from_own_page, language): (bool, Option<Language>),
    url: &str,
) -> Result<Response, ApiError> {
    match manner {
        Manner::Page if from_own_page => {
            let mut response = pages::onward(kratos, language, url);
            let refresh = HeaderValue::from_str(&format!("0;url={url}"));
            let refresh = refresh.map_err(|_| ApiError::internal())?;
            response.headers_mut().insert(header::REFRESH, refresh);
            Ok(response)
        }
        Manner::Page => see_other(url),
        Manner::Script | Manner::Native => Err(location_change_required(url)),
    }
}

pub(super) async fn exchange(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    let code = |name: &str| {
        query.first(name).ok_or_else(|| {
            ApiError::bad_request(format!("The query parameter \"{name}\" is missing."))
        })
    };
    let (init, returned) = (code("init_code")?, code("return_to_code")?);
    match kratos.service().exchange_session(caller.scope, init, returned).await {
        Ok((token, session)) => {
            // As in `login`: who has one factor alone learns nothing else of whose it is.
            let enough = session.satisfies(kratos.service().settings().session_required_aal);
            let expand = Expand { identity: enough, devices: true };
            let body = LoggedInBody {
                session_token: Some(token.expose()),
                session: SessionBody::of(&session, expand, Reader::Holder, kratos.public_url()),
                continue_with: None,
            };
            Ok(json(StatusCode::OK, &body))
        }
        Err(ExchangeRejection::NotFound) => {
            Err(ApiError::new(StatusCode::NOT_FOUND).reason("no session yet for this \"code\""))
        }
        Err(ExchangeRejection::Store(error)) => Err(error.into()),
    }
}

/// Whether a form was sent by a page of ours.
pub(super) fn is_from_own_page(kratos: &Kratos, headers: &HeaderMap) -> bool {
    let referer = headers.get(header::REFERER).and_then(|value| value.to_str().ok());
    let pages = format!("{}/ui/", kratos.public_url());
    referer.is_some_and(|referer| referer.starts_with(&pages))
}
