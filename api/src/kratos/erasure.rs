//! Erasing an identity, and how far that is; ours.

use axum::{extract::State, response::Response};
use cardea_identity::{
    IdentityId,
    audit::Actor,
    identity::{EraseRejection, Erasure},
    time::rfc3339,
};
use http::StatusCode;
use serde_json::{Value, json as value};

use super::Kratos;
use crate::{
    answer::json,
    error::ApiError,
    request::{Caller, IdOr404},
};

pub(super) async fn request(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
) -> Result<Response, ApiError> {
    let done = kratos.service().erase_identity(caller.scope, id, Actor::Administrator).await;
    let erasure = done.map_err(|rejection| match rejection {
        EraseRejection::NotFound | EraseRejection::NoSession => ApiError::no_such_row(),
        EraseRejection::Store(error) => error.into(),
    })?;
    Ok(json(StatusCode::ACCEPTED, &body(&erasure)))
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
) -> Result<Response, ApiError> {
    let found = kratos.service().erasure(caller.scope, id).await?;
    Ok(json(StatusCode::OK, &body(&found.ok_or_else(ApiError::no_such_row)?)))
}

pub(super) fn body(erasure: &Erasure) -> Value {
    value!({
        "identity_id": erasure.identity.to_string(),
        "requested_at": rfc3339(erasure.requested_at),
        "done_at": erasure.done_at.map(rfc3339),
    })
}
