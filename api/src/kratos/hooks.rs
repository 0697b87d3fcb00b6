//! Calls of web hooks, of which nobody waits for the answer: `GET /admin/hooks/calls`,
//! `GET /admin/hooks/calls/{id}`, and `POST /admin/hooks/calls/{id}/retry` for one that was
//! given up. They are our own; Kratos forgets such calls when they fail.

use axum::{extract::State, response::Response};
use cardea_identity::{
    hook::{CallFilter, HookCall, RetryRejection},
    outbox::Status,
    time::rfc3339,
};
use http::{StatusCode, Uri};
use serde_json::{Value, json as value};

use super::Kratos;
use crate::{
    answer::json,
    error::ApiError,
    paging::{by_token, link_by_token},
    query::Query,
    request::{Caller, IdOr404},
};

/// What a call is that was taken.
const ANSWERED: &str = "answered";

pub(super) async fn list(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let status = match query.first("status") {
        None => None,
        Some(name) => Some(Status::parse(name, ANSWERED).ok_or_else(|| {
            ApiError::bad_request("status is one of queued, processing, answered and abandoned.")
        })?),
    };
    let filter = CallFilter { status, hook: query.first("hook").map(str::to_owned) };
    let wanted = by_token(&query)?;
    let found = kratos.service().list_calls(caller.scope, &filter, &wanted).await?;
    let items: Vec<Value> = found.items.iter().map(body).collect();
    let mut response = json(StatusCode::OK, &items);
    link_by_token(response.headers_mut(), &uri, wanted.size, found.next.as_deref());
    Ok(response)
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<uuid::Uuid>,
) -> Result<Response, ApiError> {
    let found = kratos.service().hook_call(caller.scope, id).await?;
    Ok(json(StatusCode::OK, &body(&found.ok_or_else(ApiError::no_such_row)?)))
}

pub(super) async fn retry(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<uuid::Uuid>,
) -> Result<Response, ApiError> {
    match kratos.service().retry_call(caller.scope, id).await {
        Ok(call) => Ok(json(StatusCode::OK, &body(&call))),
        Err(RetryRejection::NotFound) => Err(ApiError::no_such_row()),
        Err(RetryRejection::NotAbandoned) => {
            Err(ApiError::new(StatusCode::CONFLICT).reason("The call was not given up."))
        }
        Err(RetryRejection::Store(error)) => Err(error.into()),
    }
}

fn body(call: &HookCall) -> Value {
    value!({
        "id": call.id.to_string(),
        "status": call.status.name(ANSWERED),
        "hook": call.hook,
        "flow": call.flow,
        "identity_id": call.identity.map(|id| id.to_string()),
        "attempts": call.attempts,
        "created_at": rfc3339(call.created_at),
        "updated_at": rfc3339(call.updated_at),
        "due_at": call.due_at.map(rfc3339),
        "last_status": call.last_status,
        "last_error": call.last_error,
    })
}
