//! `performNativeLogout`, `createBrowserLogoutFlow`, `updateLogoutFlow`.
//!
//! A browser logs out by following a link that carries a token which can end its
//! session and nothing else: no other site can guess one, and one that it has itself is of
//! another session than the browser's.

use axum::{extract::State, response::Response};
use cardea_identity::session::{Proof, RevokeRejection};
use cardea_storage::Secret;
use http::{HeaderMap, StatusCode};
use serde_json::json as value;

use super::{
    Kratos,
    browser::see_other,
    flow::{place_after, return_to},
    manner::Manner,
    rejection::no_session,
    urls::with_parameter,
    wire::session::LogoutBody,
};
use crate::{
    answer::{json, no_content},
    body::Sent,
    error::ApiError,
    query::Query,
    request::{Caller, Claimed},
};

pub(super) async fn native(
    State(kratos): State<Kratos>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: LogoutBody = sent.json()?;
    let token = Secret::new(body.session_token.unwrap_or_default());
    match kratos.service().log_out(caller.scope, &token).await {
        Ok(()) => Ok(no_content()),
        Err(RevokeRejection::NotFound) => Err(ApiError::new(StatusCode::FORBIDDEN).reason(
            "The provided Ory Session Token could not be found, is invalid, or otherwise \
             malformed.",
        )),
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn create(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
) -> Result<Response, ApiError> {
    let back = return_to(&kratos, &query)?;
    let proof = proof.ok_or_else(no_session)?;
    let token = kratos.service().logout_token(caller.scope, &proof).await?;
    let base = format!("{}/self-service/logout", kratos.public_url());
    let mut url = with_parameter(&base, "token", token.expose());
    if let Some(back) = back {
        let escaped: String = form_urlencoded::byte_serialize(back.as_bytes()).collect();
        url = with_parameter(&url, "return_to", &escaped);
    }
    Ok(json(StatusCode::OK, &value!({"logout_url": url, "logout_token": token.expose()})))
}

pub(super) async fn perform(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let manner = Manner::of_browser(&headers);
    let done = log_out(&kratos, &caller, &query, (proof.as_ref(), manner)).await;
    kratos.answer(caller.scope, manner, done).await
}

async fn log_out(
    kratos: &Kratos,
    caller: &Caller,
    query: &Query,
    (shown, manner): (Option<&Proof>, Manner),
) -> Result<Response, ApiError> {
    let back = return_to(kratos, query)?;
    let token = Secret::new(query.first("token").unwrap_or_default().to_owned());
    match kratos.service().log_out_by_logout_token(caller.scope, &token, shown).await {
        Ok(()) => {}
        Err(RevokeRejection::NotFound) => {
            return Err(ApiError::new(StatusCode::FORBIDDEN)
                .id("security_csrf_violation")
                .reason("The logout token is missing, malformed, or not of this session."));
        }
        Err(error) => return Err(error.into()),
    }
    let mut response = match manner {
        Manner::Page => see_other(&place_after(kratos, back.as_deref()))?,
        Manner::Script | Manner::Native => no_content(),
    };
    kratos.clear_session(&mut response);
    Ok(response)
}
