//! `toSession`, `listMySessions`, `disableMySession`, `disableMyOtherSessions`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    PageRequest, Scope, SessionId,
    model::{Page, Session},
    session::{CheckRejection, Proof},
};
use cardea_storage::Consistency;
use http::{HeaderName, HeaderValue, StatusCode, Uri};

use super::{
    Kratos,
    flow::second_factor_required,
    rejection::{no_session, no_session_credentials},
    wire::{
        identity::Reader,
        session::{Expand, RevokedBody, SessionBody},
    },
};
use crate::{
    answer::{json, no_content},
    consistency::WantedInHeader,
    error::ApiError,
    paging::{LEGACY_ITEMS_MAX, Paging, link_by_number, link_by_token},
    query::Query,
    request::{Caller, Claimed, is_uuid},
};

/// Tells proxies for how many seconds they may keep the answer.
const CACHE_FOR: HeaderName = HeaderName::from_static("ory-session-cache-for");
/// Tells proxies whose session it is.
const IDENTITY_ID: HeaderName = HeaderName::from_static("x-kratos-authenticated-identity-id");

pub(super) async fn whoami(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    WantedInHeader(consistency): WantedInHeader,
    query: Query,
) -> Result<Response, ApiError> {
    let proof = proof.ok_or_else(no_session_credentials)?;
    let service = kratos.service();
    let template = query.first("tokenize_as").filter(|template| !template.is_empty());
    // What a token says is believed by those who cannot ask: of a session that has ended none
    // is made, however stale an answer may be.
    let consistency = if template.is_some() { Consistency::Strong } else { consistency };
    let session = service.check_session(caller.scope, &proof, consistency).await?;
    if !session.satisfies(service.settings().session_required_aal) {
        return Err(second_factor_required(&kratos, None));
    }
    let session = service.slide_session(caller.scope, session).await;
    let tokenized = match template {
        Some(template) => Some(service.tokenize(&session, template).await?),
        None => None,
    };
    let mut body = SessionBody::of(&session, Expand::ALL, Reader::Holder, kratos.public_url());
    body.tokenized = tokenized;
    let mut response = json(StatusCode::OK, &body);
    if let Proof::Cookie(value) = &proof {
        // Its end has moved since the browser was told, or the cookie was not of our making:
        // give it another.
        let opened = service.keys().cookies.open(caller.scope.tenant, value.expose());
        let expires_at = session.expires_at;
        if opened.is_none_or(|opened| opened.expires_at != expires_at)
            && let Some(token) = service.session_token(caller.scope, &proof)
        {
            kratos.set_session(&mut response, caller.scope, &token, expires_at);
        }
    }
    let left = session.expires_at.since(service.now());
    let cached = kratos.options().session_cache.min(left).as_secs();
    // A token has an end of its own.
    if cached > 0 && body.tokenized.is_none() {
        response.headers_mut().insert(CACHE_FOR, HeaderValue::from(cached));
    }
    if let Ok(id) = HeaderValue::from_str(&session.identity_id.to_string()) {
        response.headers_mut().insert(IDENTITY_ID, id);
    }
    Ok(response)
}

pub(super) async fn list(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    WantedInHeader(consistency): WantedInHeader,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let proof = &proof.ok_or_else(no_session)?;
    need_all_factors(&kratos, caller.scope, proof).await?;
    let page = |page| {
        let consistency = consistency.clone();
        let service = kratos.service();
        async move { service.list_my_sessions(caller.scope, proof, &page, consistency).await }
    };
    let expand = Expand { identity: false, devices: true };
    let body = |items: &[Session]| {
        let body = |s| SessionBody::of(s, expand, Reader::Holder, kratos.public_url());
        json(StatusCode::OK, &items.iter().map(body).collect::<Vec<_>>())
    };
    match Paging::of(&query)? {
        Paging::Token(wanted) => {
            let size = wanted.size;
            let found = page(wanted).await?;
            let mut response = body(&found.items);
            link_by_token(response.headers_mut(), &uri, size, found.next.as_deref());
            Ok(response)
        }
        Paging::Legacy { page: number, size } => {
            Ok(legacy_page(page(reach()).await?, &uri, number, size, body))
        }
    }
}

pub(super) async fn disable(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
    axum::extract::Path(id): axum::extract::Path<String>,
) -> Result<Response, ApiError> {
    // Who has no session does not learn what an id looks like.
    let proof = proof.ok_or_else(no_session)?;
    let id: Option<SessionId> = id.parse().ok().filter(|_| is_uuid(&id));
    let Some(id) = id else {
        let strong = Consistency::Strong;
        let known = kratos.service().check_session(caller.scope, &proof, strong).await;
        return Err(match known {
            Ok(_) => ApiError::malformed("uuid: the id in the path is no UUID"),
            Err(cardea_identity::session::CheckRejection::NoSession) => no_session(),
            Err(error) => error.into(),
        });
    };
    need_all_factors(&kratos, caller.scope, &proof).await?;
    kratos.service().revoke_my_session(caller.scope, &proof, id).await?;
    Ok(no_content())
}

pub(super) async fn disable_others(
    State(kratos): State<Kratos>,
    caller: Caller,
    Claimed(proof): Claimed,
) -> Result<Response, ApiError> {
    let proof = proof.ok_or_else(no_session)?;
    need_all_factors(&kratos, caller.scope, &proof).await?;
    let count = kratos.service().revoke_my_other_sessions(caller.scope, &proof).await?;
    Ok(json(StatusCode::OK, &RevokedBody { count }))
}

/// Refuses a session that lacks the second factor of its identity: who knows a password
/// alone neither sees nor ends the sessions of its owner.
pub(super) async fn need_all_factors(
    kratos: &Kratos,
    scope: Scope,
    proof: &Proof,
) -> Result<(), ApiError> {
    let strong = Consistency::Strong;
    let required = kratos.service().settings().session_required_aal;
    match kratos.service().check_session(scope, proof, strong).await {
        Ok(session) if !session.satisfies(required) => Err(second_factor_required(kratos, None)),
        Ok(_) | Err(CheckRejection::NoSession) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// All that legacy pages reach.
pub(super) fn reach() -> PageRequest {
    PageRequest { size: LEGACY_ITEMS_MAX, token: None }
}

/// Cuts a legacy page out of all that legacy pages reach.
pub(super) fn legacy_page(
    found: Page<Session>,
    uri: &Uri,
    page: u32,
    size: u32,
    body: impl FnOnce(&[Session]) -> Response,
) -> Response {
    let total = u32::try_from(found.items.len()).unwrap_or(u32::MAX);
    let from = ((page * size) as usize).min(found.items.len());
    let to = (from + size as usize).min(found.items.len());
    let mut response = body(&found.items[from..to]);
    let total = found.next.is_none().then_some(total);
    link_by_number(response.headers_mut(), uri, page, size, total);
    response
}
