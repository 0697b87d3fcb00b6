//! `createTestLoginFlow`, `deleteTestLoginFlow`, and what is sent to such a flow: an
//! administrator tries a provider, and nobody is logged in by it.

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use cardea_identity::{
    Scope,
    flow::{DryRunDeparture, DryRunRejection, Flow, Purpose, SocialSubmission},
};
use http::{HeaderMap, StatusCode, Uri};
use serde::Deserialize;

use super::{
    Kratos,
    browser::see_other,
    cookie::TRIED,
    csrf::{brought, check_form, violation},
    flow::{Browser, flow_id, shown, text},
    manner::Manner,
    rejection::{location_change_required, not_taken},
    social::{self, is_from_own_page},
};
use crate::{
    answer::no_content,
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, cookies, language_of},
};

/// The longest id of a provider, in characters.
const PROVIDER_CHARS_MAX: usize = 255;

/// `createTestLoginFlowBody`.
#[derive(Deserialize)]
struct CreateBody {
    provider_id: Option<String>,
}

pub(super) async fn create(
    State(kratos): State<Kratos>,
    caller: Caller,
    uri: Uri,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: CreateBody = sent.json()?;
    let provider = body.provider_id.unwrap_or_default();
    if provider.is_empty() {
        return Err(ApiError::bad_request("The member \"provider_id\" of the body is missing."));
    }
    if provider.chars().count() > PROVIDER_CHARS_MAX {
        return Err(ApiError::bad_request(format!(
            "provider_id may have at most {PROVIDER_CHARS_MAX} characters."
        )));
    }
    let url = format!("{}{}", kratos.public_url(), uri.path());
    let flow = kratos.service().begin_dry_run(caller.scope, &provider, url).await;
    Ok(shown(&kratos, StatusCode::CREATED, flow.map_err(refused)?, None))
}

pub(super) async fn delete(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = flow_id(&query, "id");
    let id = id.ok_or_else(|| ApiError::bad_request("The query parameter \"id\" is no UUID."))?;
    let proof = proof(&headers);
    kratos.service().delete_dry_run(caller.scope, id, proof).await.map_err(refused)?;
    let mut response = no_content();
    if proof.is_some() {
        kratos.clear_tried(&mut response);
    }
    Ok(response)
}

/// Takes what was sent to the form: there is nothing to do but to go to the provider.
pub(super) async fn submit(
    kratos: &Kratos,
    caller: &Caller,
    (flow, manner): (Flow, Manner),
    headers: &HeaderMap,
    sent: &Sent,
) -> Result<Response, ApiError> {
    let (mut body, _) = sent.json_or_form()?;
    let token = text(&mut body, "csrf_token")?;
    let secret = Browser::of(kratos, headers).secret;
    // A browser that was shown the form sends it as any other; else whoever sends it brings
    // what was told when the flow began.
    let own = flow.browser.is_some_and(|flow| {
        check_form(headers, kratos.csrf_cookie(), flow, token.as_deref()).is_ok()
    });
    let bearer = brought(headers, token.as_deref());
    let Some(bearer) = bearer.map(|bearer| Some(bearer).filter(|_| !own)) else {
        return Err(violation("The form and the header X-CSRF-Token brought no token."));
    };
    let method = social::method(&mut body, &["provider"])?;
    let submission = social::submission(&mut body)?;
    let provider = submission.provider.filter(|_| method == "oidc");
    let submission = SocialSubmission { provider, ..submission };
    let by = (secret.digest(), bearer);
    let left = kratos.service().depart_dry_run(caller.scope, flow.id, by, &submission).await;
    let mut response = match left.map_err(refused)? {
        DryRunDeparture::Away(url) => {
            let from = (is_from_own_page(kratos, headers), language_of(headers));
            social::depart(kratos, manner, from, &url).unwrap_or_else(ApiError::into_response)
        }
        DryRunDeparture::Stays(flow) if manner == Manner::Page => {
            see_other(&kratos.options().urls.page(Purpose::Login, &flow.id.to_string()))?
        }
        DryRunDeparture::Stays(flow) => {
            shown(kratos, StatusCode::BAD_REQUEST, *flow, Some(&secret))
        }
        DryRunDeparture::Tried(flow) => tried(kratos, caller.scope, manner, &flow)?,
    };
    kratos.set_csrf(&mut response, &secret);
    Ok(response)
}

/// Sends whoever tried a provider to where it is shown what came of it.
pub(super) fn tried(
    kratos: &Kratos,
    scope: Scope,
    manner: Manner,
    flow: &Flow,
) -> Result<Response, ApiError> {
    let page = kratos.options().urls.page(Purpose::Login, &flow.id.to_string());
    let mut response = match manner {
        Manner::Page => see_other(&page)?,
        Manner::Script | Manner::Native => location_change_required(&page).into_response(),
    };
    kratos.set_tried(&mut response, scope, flow.id);
    Ok(response)
}

/// A flow with what came of it, for the browser that came back to it.
///
/// # Errors
/// 403 for everybody else.
pub(super) fn told(
    kratos: &Kratos,
    scope: Scope,
    mut flow: Flow,
    headers: &HeaderMap,
) -> Result<Flow, ApiError> {
    let told = kratos.service().dry_run_payload(scope, &flow, proof(headers)).map_err(refused)?;
    if let Some(run) = &mut flow.dry_run {
        run.payload = Some(told);
    }
    Ok(flow)
}

fn proof(headers: &HeaderMap) -> Option<&str> {
    cookies(headers).find(|(name, _)| *name == TRIED).map(|(_, value)| value)
}

fn refused(rejection: DryRunRejection) -> ApiError {
    match rejection {
        DryRunRejection::UnknownProvider => ApiError::new(StatusCode::NOT_FOUND)
            .reason("There is no sign-in provider of that provider_id."),
        DryRunRejection::Flow(rejection) => not_taken(rejection).0,
        DryRunRejection::NotYours => ApiError::new(StatusCode::FORBIDDEN)
            .reason("The flow tries a provider, and was gone through in another browser."),
        DryRunRejection::Store(error) => error.into(),
    }
}
