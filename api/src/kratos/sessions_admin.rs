//! `listSessions`, `manageSessions`, `listIdentitySessions`, `deleteIdentitySessions`,
//! `getSession`, `disableSession`, `extendSession`.

use std::str::FromStr;

use axum::{extract::State, response::Response};
use cardea_identity::{
    IdentityId, SessionId,
    model::Session,
    session::{BulkAction, BulkRejection, BulkTargets, bulk::IDS_MAX},
};
use http::{HeaderValue, StatusCode, Uri};

use super::{
    Kratos,
    sessions::{legacy_page, reach},
    wire::{
        identity::Reader,
        session::{Expand, ManageSessionsBody, ManagedBody, SessionBody},
    },
};
use crate::{
    answer::{json, no_content},
    body::Sent,
    consistency::Wanted,
    error::ApiError,
    paging::{Paging, TOTAL_COUNT, by_token, link_by_token},
    query::Query,
    request::{Caller, IdOr400, is_uuid},
};

pub(super) async fn list_of_identity(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr400(id): IdOr400<IdentityId>,
    Wanted(consistency): Wanted,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let active = query.flag("active")?;
    let page = |page| {
        let consistency = consistency.clone();
        let service = kratos.service();
        async move { service.list_identity_sessions(caller.scope, id, active, &page, consistency).await }
    };
    let body = |items: &[Session]| {
        let body = |s| SessionBody::of(s, Expand::ALL, Reader::Administrator, kratos.public_url());
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

pub(super) async fn list(
    State(kratos): State<Kratos>,
    caller: Caller,
    Wanted(consistency): Wanted,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let (active, expand) = (query.flag("active")?, expand(&query)?);
    let wanted = by_token(&query)?;
    let size = wanted.size;
    let found = kratos.service().list_sessions(caller.scope, active, &wanted, consistency).await?;
    let body = |s| SessionBody::of(s, expand, Reader::Administrator, kratos.public_url());
    let items: Vec<_> = found.items.iter().map(body).collect();
    let mut response = json(StatusCode::OK, &items);
    link_by_token(response.headers_mut(), &uri, size, found.next.as_deref());
    if found.next.is_none() && wanted.token.is_none() {
        response.headers_mut().insert(TOTAL_COUNT, HeaderValue::from(items.len()));
    }
    Ok(response)
}

pub(super) async fn manage(
    State(kratos): State<Kratos>,
    caller: Caller,
    sent: Sent,
) -> Result<Response, ApiError> {
    let body: ManageSessionsBody = sent.json()?;
    let action = match body.action.as_deref() {
        Some("disable") => BulkAction::Disable,
        Some("delete") => BulkAction::Delete,
        _ => return Err(ApiError::bad_request("action must be one of: disable, delete.")),
    };
    let given = |ids: Option<Vec<String>>| ids.filter(|ids| !ids.is_empty());
    let targets = match (given(body.identities), given(body.sessions)) {
        (Some(ids), None) if ids == ["*"] => BulkTargets::All,
        (Some(ids), None) => BulkTargets::Identities(parsed(&ids)?),
        (None, Some(ids)) => BulkTargets::Sessions(parsed(&ids)?),
        _ => {
            return Err(ApiError::bad_request(
                "Exactly one of identities and sessions must be provided.",
            ));
        }
    };
    let done = kratos.service().manage_sessions(caller.scope, action, targets).await;
    let done = done.map_err(|rejection| match rejection {
        BulkRejection::TooManyIds => {
            ApiError::bad_request(format!("At most {IDS_MAX} ids are accepted per call."))
        }
        BulkRejection::Store(error) => error.into(),
    })?;
    Ok(json(StatusCode::OK, &ManagedBody { processed: done.processed, more: done.more }))
}

/// Ids in a body. The wildcard stands alone, and only for identities.
fn parsed<T: FromStr>(ids: &[String]) -> Result<Vec<T>, ApiError> {
    let read = |id: &String| {
        id.parse().ok().filter(|_| is_uuid(id)).ok_or_else(|| {
            ApiError::bad_request(match id.as_str() {
                "*" => "The wildcard must be the only entry of identities.".to_owned(),
                id => format!("Invalid UUID value `{id}`."),
            })
        })
    };
    ids.iter().map(read).collect()
}

/// Which parts of sessions are asked for.
fn expand(query: &Query) -> Result<Expand, ApiError> {
    let mut expand = Expand::NOTHING;
    for name in query.all("expand") {
        match name.to_ascii_lowercase().as_str() {
            "identity" => expand.identity = true,
            "devices" => expand.devices = true,
            _ => {
                let reason = format!("Could not parse expand option: {name}");
                return Err(ApiError::bad_request(reason));
            }
        }
    }
    Ok(expand)
}

pub(super) async fn delete_of_identity(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr400(id): IdOr400<IdentityId>,
) -> Result<Response, ApiError> {
    kratos.service().revoke_identity_sessions(caller.scope, id).await?;
    Ok(no_content())
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr400(id): IdOr400<SessionId>,
    Wanted(consistency): Wanted,
    query: Query,
) -> Result<Response, ApiError> {
    let expand = expand(&query)?;
    let session = kratos.service().session(caller.scope, id, consistency).await?;
    let body = SessionBody::of(&session, expand, Reader::Administrator, kratos.public_url());
    Ok(json(StatusCode::OK, &body))
}

pub(super) async fn disable(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr400(id): IdOr400<SessionId>,
) -> Result<Response, ApiError> {
    kratos.service().revoke_session(caller.scope, id).await?;
    Ok(no_content())
}

pub(super) async fn extend(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr400(id): IdOr400<SessionId>,
) -> Result<Response, ApiError> {
    let session = kratos.service().extend_session(caller.scope, id).await?;
    let expand = Expand { identity: true, devices: false };
    let body = SessionBody::of(&session, expand, Reader::Holder, kratos.public_url());
    Ok(json(StatusCode::OK, &body))
}
