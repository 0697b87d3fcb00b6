//! `listIdentitySessions`, `deleteIdentitySessions`, `getSession`, `disableSession`,
//! `extendSession`.

use axum::{extract::State, response::Response};
use cardea_identity::{IdentityId, SessionId, model::Session};
use http::{StatusCode, Uri};

use super::{
    Kratos,
    sessions::{legacy_page, reach},
    wire::{
        identity::Reader,
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::{json, no_content},
    consistency::Wanted,
    error::ApiError,
    paging::{Paging, link_by_token},
    query::Query,
    request::{Caller, IdOr400},
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
