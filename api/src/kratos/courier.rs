//! `listCourierMessages`, `getCourierMessage`.

use axum::{extract::State, response::Response};
use cardea_identity::{
    courier::{MessageFilter, SentMessage},
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

/// What a message is that was taken.
const SENT: &str = "sent";

pub(super) async fn list(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
    uri: Uri,
) -> Result<Response, ApiError> {
    let status = match query.first("status") {
        None => None,
        Some(name) => Some(
            Status::parse(name, SENT)
                .ok_or_else(|| ApiError::bad_request("Unable to parse the message status."))?,
        ),
    };
    let filter = MessageFilter { status, recipient: query.first("recipient").map(str::to_owned) };
    let wanted = by_token(&query)?;
    let size = wanted.size;
    let found = kratos.service().list_messages(caller.scope, &filter, &wanted).await?;
    let items: Vec<Value> = found.items.iter().map(|message| body(message, false)).collect();
    let mut response = json(StatusCode::OK, &items);
    link_by_token(response.headers_mut(), &uri, size, found.next.as_deref());
    Ok(response)
}

pub(super) async fn get(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<uuid::Uuid>,
) -> Result<Response, ApiError> {
    let found = kratos.service().message(caller.scope, id).await?;
    let found = found.ok_or_else(ApiError::no_such_row)?;
    Ok(json(StatusCode::OK, &body(&found, true)))
}

/// `message`.
pub(super) fn body(message: &SentMessage, with_dispatches: bool) -> Value {
    let mut body = value!({
        "id": message.id.to_string(),
        "status": message.status.name(SENT),
        // The name that the newest clients know; older ones say "phone" for "sms".
        "type": message.via.name(),
        "recipient": message.recipient,
        "body": message.body,
        "subject": message.subject,
        "template_type": message.template,
        "channel": message.via.name(),
        "send_count": message.send_count,
        "created_at": rfc3339(message.created_at),
        "updated_at": rfc3339(message.updated_at),
    });
    if let Some(last) = message.last.as_ref().filter(|_| with_dispatches) {
        let mut dispatch = value!({
            "id": message.id.to_string(),
            "message_id": message.id.to_string(),
            "status": if last.error.is_some() { "failed" } else { "success" },
            "created_at": rfc3339(message.updated_at),
            "updated_at": rfc3339(message.updated_at),
        });
        if let Some(error) = &last.error {
            dispatch["error"] = value!({"message": error});
        }
        body["dispatches"] = value!([dispatch]);
    }
    body
}
