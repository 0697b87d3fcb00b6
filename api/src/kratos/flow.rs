//! What the flows have in common: how one begins, is shown, and how what was sent to
//! it is looked at, by native clients, scripts and pages.

use std::sync::Arc;

use axum::response::Response;
use cardea_identity::{
    Client, FlowId, Scope,
    flow::{BeginRejection, Flow, Purpose, StartedVerification},
    hook::Asked,
    language::Language,
    ui::Text,
};
use http::{HeaderMap, StatusCode, Uri};
use serde_json::{Map, Value, json as value};

use super::{
    Kratos,
    browser::{refuse_browsers, see_other},
    cookie::TRIED,
    csrf::{CsrfSecret, check_form, check_owner, not_begun_here},
    dry_run,
    manner::Manner,
    rejection::{Refused, not_begun, not_shown, not_taken},
    social,
    urls::with_parameter,
    wire::flow::{ContinueWith, FlowBody},
};
use crate::{
    answer::json,
    error::ApiError,
    query::Query,
    request::{Caller, cookies, is_uuid, language_of},
};

/// The browser that begins a flow.
pub(super) struct Browser {
    /// How it is answered.
    pub(super) manner: Manner,
    /// Its secret: the one it has, or a new one.
    pub(super) secret: CsrfSecret,
}

impl Browser {
    /// The one that sent a request.
    pub(super) fn of(kratos: &Kratos, headers: &HeaderMap) -> Self {
        let secret = CsrfSecret::of(headers, kratos.csrf_cookie())
            .unwrap_or_else(|| CsrfSecret::draw(kratos.service().entropy()));
        Self { manner: Manner::of_browser(headers), secret }
    }
}

/// A flow that something was sent to, by who may.
pub(super) struct Opened {
    pub(super) flow: Flow,
    pub(super) manner: Manner,
    /// The secret of a browser.
    pub(super) secret: Option<CsrfSecret>,
    /// Whether a page of ours sent it.
    pub(super) from_own_page: bool,
    /// The language that it asks for.
    pub(super) language: Option<Language>,
}

/// The longest transient payload, in bytes of JSON.
const TRANSIENT_PAYLOAD_BYTES_MAX: usize = 16 * 1024;

/// The client that begins a flow, with what hooks are told of its request.
pub(super) fn beginner(kratos: &Kratos, client: &Client, uri: &Uri, headers: &HeaderMap) -> Client {
    let asked = asked(kratos, ("GET", &request_url(kratos, uri)), headers);
    Client { asked, ..client.clone() }
}

/// The client that sends something to a flow, with what hooks are told of it.
///
/// # Errors
/// 400 if it sends along more than is taken.
pub(super) fn sender(
    kratos: &Kratos,
    client: &Client,
    flow: &Flow,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Client, ApiError> {
    let name = flow.purpose.name();
    let url = format!("{}/self-service/{name}?flow={}", kratos.public_url(), flow.id);
    sender_to(kratos, client, &url, headers, body)
}

/// The same, where there is no flow yet.
///
/// # Errors
/// 400 if it sends along more than is taken.
pub(super) fn sender_to(
    kratos: &Kratos,
    client: &Client,
    url: &str,
    headers: &HeaderMap,
    body: &Map<String, Value>,
) -> Result<Client, ApiError> {
    let transient_payload = match body.get("transient_payload") {
        // In a form it is a text.
        Some(Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        sent => sent.cloned().unwrap_or_default(),
    };
    if transient_payload.to_string().len() > TRANSIENT_PAYLOAD_BYTES_MAX {
        return Err(ApiError::bad_request(format!(
            "The transient payload may have at most {TRANSIENT_PAYLOAD_BYTES_MAX} bytes of JSON."
        )));
    }
    let asked = asked(kratos, ("POST", url), headers);
    let proof_of_work = match body.get("captcha_proof") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    Ok(Client { asked, transient_payload, proof_of_work, ..client.clone() })
}

/// What hooks are told of a request; nothing where there are none.
pub(super) fn asked(
    kratos: &Kratos,
    what: (&str, &str),
    headers: &HeaderMap,
) -> Option<Arc<Asked>> {
    if kratos.service().settings().hooks.is_empty() {
        return None;
    }
    let told =
        headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    let hidden = [kratos.options().cookies.name.as_str(), kratos.csrf_cookie(), TRIED];
    Some(Arc::new(Asked::new(what, told, cookies(headers), &hidden)))
}

/// Where a query asks to be sent afterwards, as a whole URL.
///
/// # Errors
/// 400 if that is not allowed.
pub(super) fn return_to(kratos: &Kratos, query: &Query) -> Result<Option<String>, ApiError> {
    let Some(wanted) = query.first("return_to") else { return Ok(None) };
    match kratos.options().urls.allow(wanted) {
        Ok(url) => Ok(Some(url)),
        Err(super::urls::Forbidden) => Err(ApiError::bad_request(
            "Requested return_to URL is not allowed: it must be of this host, or be listed \
             exactly among the allowed return URLs.",
        )
        .id("self_service_flow_return_to_forbidden")
        .message("unable to redirect back because the return_to URL is not allowed")),
    }
}

/// Where a browser goes after a flow.
pub(super) fn place_after(kratos: &Kratos, return_to: Option<&str>) -> String {
    let urls = &kratos.options().urls;
    // The list may have changed since the flow began.
    let allowed = return_to.and_then(|url| urls.allow(url).ok());
    allowed.unwrap_or_else(|| urls.default_return.clone())
}

/// Answers a browser for whom a flow began, or did not.
pub(super) async fn begun(
    kratos: &Kratos,
    (scope, purpose): (Scope, Purpose),
    browser: Browser,
    return_to: Option<&str>,
    result: Result<Flow, BeginRejection>,
) -> Result<Response, ApiError> {
    let Browser { manner, secret } = browser;
    let mut response = match result {
        Ok(flow) if manner == Manner::Page => {
            see_other(&kratos.options().urls.page(purpose, &flow.id.to_string()))?
        }
        Ok(flow) => shown(kratos, StatusCode::OK, flow, Some(&secret)),
        Err(BeginRejection::AlreadyLoggedIn) if manner == Manner::Page => {
            see_other(&place_after(kratos, return_to))?
        }
        Err(rejection) => {
            let refused = Err(not_begun(rejection, purpose));
            return kratos.answer(scope, manner, refused).await;
        }
    };
    kratos.set_csrf(&mut response, &secret);
    Ok(response)
}

/// A flow by its id in the query, for the browser or client whose it is.
pub(super) async fn show(
    kratos: &Kratos,
    caller: Caller,
    (query, headers): (&Query, &HeaderMap),
    purpose: Purpose,
) -> Result<Response, ApiError> {
    let id = flow_id(query, "id").ok_or_else(ApiError::no_such_row)?;
    let (flow, secret, is_new) = owned(kratos, caller.scope, purpose, id, headers).await?;
    let mut response = shown(kratos, StatusCode::OK, flow, secret.as_ref());
    if let Some(secret) = secret.filter(|_| is_new) {
        kratos.set_csrf(&mut response, &secret);
    }
    Ok(response)
}

/// A flow for the browser or client whose it is, with the browser's secret, and whether
/// that is a new one.
///
/// # Errors
/// Why it is not shown.
pub(super) async fn owned(
    kratos: &Kratos,
    scope: Scope,
    purpose: Purpose,
    id: FlowId,
    headers: &HeaderMap,
) -> Result<(Flow, Option<CsrfSecret>, bool), ApiError> {
    let found = kratos.service().flow(scope, purpose, id).await;
    let flow = found.map_err(|rejection| not_shown(rejection, purpose, kratos.public_url()))?;
    if flow.dry_run.as_ref().is_some_and(|run| run.is_captured()) {
        return Ok((dry_run::told(kratos, scope, flow, headers)?, None, false));
    }
    if flow.unclaimed {
        let secret = Browser::of(kratos, headers).secret;
        if !kratos.service().claim_flow(scope, id, secret.digest()).await? {
            return Err(not_begun_here());
        }
        return Ok((flow, Some(secret), true));
    }
    let secret = match flow.browser {
        Some(digest) => Some(check_owner(headers, kratos.csrf_cookie(), digest)?),
        None => None,
    };
    Ok((flow, secret, false))
}

/// Looks up the flow that something is sent to. The answer is ready if there is none.
pub(super) async fn open(
    kratos: &Kratos,
    scope: Scope,
    purpose: Purpose,
    query: &Query,
    headers: &HeaderMap,
) -> Result<(Flow, Manner), Result<Response, ApiError>> {
    let manner = Manner::of_browser(headers);
    let id = match submitted_flow(query) {
        Ok(id) => id,
        Err(error) => return Err(kratos.answer(scope, manner, Err(error)).await),
    };
    match kratos.service().flow_sent_to(scope, purpose, id).await {
        Ok(flow) if flow.browser.is_some() || flow.dry_run.is_some() => Ok((flow, manner)),
        Ok(flow) => Ok((flow, Manner::Native)),
        Err(rejection) => {
            let (error, next) = not_taken(rejection);
            let browsers = next.as_ref().is_some_and(|next| next.browser.is_some());
            match next {
                Some(next) if browsers && manner == Manner::Page => {
                    Err(see_other(&kratos.options().urls.page(purpose, &next.id.to_string())))
                }
                _ => Err(kratos.answer(scope, manner, Err(error)).await),
            }
        }
    }
}

/// Checks that what was sent to a flow was sent by who may.
///
/// # Errors
/// 400 where a browser sends to a native flow, 403 without a browser's secret.
pub(super) fn admit(
    kratos: &Kratos,
    (flow, manner): (Flow, Manner),
    headers: &HeaderMap,
    body: &mut Map<String, Value>,
) -> Result<Opened, ApiError> {
    let token = text(body, "csrf_token")?;
    let secret = match flow.browser {
        Some(digest) => {
            let cookie = kratos.csrf_cookie();
            Some(check_form(headers, cookie, digest, token.as_deref())?)
        }
        None if flow.unclaimed => {
            return Err(ApiError::bad_request("The flow was not shown to a browser yet."));
        }
        None => {
            refuse_browsers(headers)?;
            None
        }
    };
    let from_own_page = social::is_from_own_page(kratos, headers);
    let language = language_of(headers);
    Ok(Opened { flow, manner, secret, from_own_page, language })
}

fn submitted_flow(query: &Query) -> Result<FlowId, ApiError> {
    flow_id(query, "flow")
        .ok_or_else(|| ApiError::bad_request("The flow query parameter is missing or malformed."))
}

pub(super) fn flow_id(query: &Query, name: &str) -> Option<FlowId> {
    query.first(name).filter(|text| is_uuid(text))?.parse().ok()
}

/// A URL that leads back to another.
pub(super) fn with_return(url: &str, back: &str) -> String {
    let escaped: String = form_urlencoded::byte_serialize(back.as_bytes()).collect();
    with_parameter(url, "return_to", &escaped)
}

/// A flow as JSON; a browser's with the token for its form.
pub(super) fn shown(
    kratos: &Kratos,
    status: StatusCode,
    flow: Flow,
    secret: Option<&CsrfSecret>,
) -> Response {
    shown_with(kratos, status, flow, secret, Vec::new())
}

/// A flow as JSON, with what to do next.
pub(super) fn shown_with(
    kratos: &Kratos,
    status: StatusCode,
    mut flow: Flow,
    secret: Option<&CsrfSecret>,
    steps: Vec<ContinueWith<'_>>,
) -> Response {
    if let Some(secret) = secret {
        flow.ui.fill("csrf_token", secret.token(kratos.service().entropy()).into());
    }
    let default = kratos.service().schemas();
    let body = FlowBody::of(&flow, &default.default_id().0, kratos.public_url());
    json(status, &body.then(steps))
}

/// Answers what earned nothing: the form says why, or an error does.
pub(super) async fn refused(
    kratos: &Kratos,
    scope: Scope,
    opened: &Opened,
    refused: Refused,
) -> Result<Response, ApiError> {
    let to_page = || {
        let Opened { flow, .. } = opened;
        see_other(&kratos.options().urls.page(flow.purpose, &flow.id.to_string()))
    };
    match refused {
        Refused::Flow(_) if opened.manner == Manner::Page => to_page(),
        Refused::Flow(flow) => {
            Ok(shown(kratos, StatusCode::BAD_REQUEST, *flow, opened.secret.as_ref()))
        }
        Refused::Unverified(started) => unverified(kratos, opened, &started),
        Refused::Away(url) => {
            social::depart(kratos, opened.manner, (opened.from_own_page, opened.language), &url)
        }
        Refused::Error(error) => {
            // People wait better in front of their form than on a page of errors.
            let wait = error.wait().filter(|_| opened.manner == Manner::Page);
            if let Some(wait) = wait {
                let text = Text::come_back_later(wait);
                kratos.service().say(scope, opened.flow.purpose, opened.flow.id, text).await?;
                return to_page();
            }
            Err(error)
        }
    }
}

/// Leads who may not log in before an address is verified to the verification that has
/// begun.
fn unverified(
    kratos: &Kratos,
    opened: &Opened,
    started: &StartedVerification,
) -> Result<Response, ApiError> {
    let id = started.flow.to_string();
    let page = kratos.options().urls.page(Purpose::Verification, &id);
    if opened.manner == Manner::Page {
        return see_other(&page);
    }
    let mut flow = value!({"id": id, "verifiable_address": started.address});
    if opened.manner != Manner::Native {
        flow["url"] = page.into();
    }
    let step = value!([{"action": "show_verification_ui", "flow": flow}]);
    Err(ApiError::new(StatusCode::FORBIDDEN)
        .id("session_verified_address_required")
        .message("account address not yet verified")
        .reason("Account not active yet. Did you forget to verify your email address?")
        .detail("continue_with", step))
}

/// The URL that began a flow, as clients reach it.
pub(super) fn request_url(kratos: &Kratos, uri: &Uri) -> String {
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    format!("{}{path}", kratos.public_url())
}

/// The organization whose flow is asked for.
///
/// # Errors
/// 400 for what is no id.
pub(super) fn organization(query: &Query) -> Result<Option<uuid::Uuid>, ApiError> {
    let id = query.first("organization").map(str::parse);
    id.transpose().map_err(|_| ApiError::bad_request("organization is no UUID."))
}

/// Whether a native client asks for a code to exchange for its session.
pub(super) fn wants_exchange(query: &Query) -> bool {
    query.flag("return_session_token_exchange_code").unwrap_or_default().unwrap_or_default()
}

/// Takes a text out of a body; null is as good as absent.
pub(super) fn text(body: &mut Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => {
            Err(ApiError::bad_request(format!("The member \"{name}\" of the body is no string.")))
        }
    }
}

/// Takes an answer out of a body that a script fills in; an empty one is as good as
/// absent.
pub(super) fn answer_text(
    body: &mut Map<String, Value>,
    name: &str,
) -> Result<Option<String>, ApiError> {
    Ok(text(body, name)?.filter(|text| !text.is_empty()))
}

/// Takes a choice out of a body: `true`, or the text that a form's button sends.
pub(super) fn choice(body: &mut Map<String, Value>, name: &str) -> Result<bool, ApiError> {
    match body.remove(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(chosen)) => Ok(chosen),
        Some(Value::String(text)) if matches!(text.as_str(), "true" | "on" | "1") => Ok(true),
        Some(Value::String(text)) if matches!(text.as_str(), "" | "false" | "0") => Ok(false),
        Some(_) => Err(ApiError::bad_request(format!(
            "The member \"{name}\" of the body is neither true nor false."
        ))),
    }
}

/// Where a session gets its second factor, and is sent on from.
pub(super) fn second_step(kratos: &Kratos, return_to: Option<&str>) -> String {
    let step = format!("{}/self-service/login/browser?aal=aal2", kratos.public_url());
    return_to.map_or_else(|| step.clone(), |back| with_return(&step, back))
}

/// A session that needs a second factor, in the words of Kratos.
pub(super) fn second_factor_required(kratos: &Kratos, return_to: Option<&str>) -> ApiError {
    let step = second_step(kratos, return_to);
    ApiError::new(StatusCode::FORBIDDEN)
        .id("session_aal2_required")
        .message("Session does not fulfill the requested Authenticator Assurance Level")
        .reason(
            "An active session was found but it does not fulfil the requested Authenticator \
             Assurance Level. Please verify yourself with a second factor to resolve this issue.",
        )
        .detail("redirect_browser_to", step.clone())
        .beside("redirect_browser_to", step)
}
