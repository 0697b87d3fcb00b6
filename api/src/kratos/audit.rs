//! What happened, and what is held of somebody; ours.
//!
//! `GET /admin/audit/events` lists events, the latest first; with `Accept:
//! text/event-stream` it tells them as they happen (server-sent events), from the last
//! one that `Last-Event-ID` names on, as long as the key that let the client in holds.
//! `GET /admin/audit/verify` says whether the chain of
//! an identity holds, and the seals of its lane. `GET /admin/identities/{id}/export`
//! hands out what is held of an identity.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use cardea_identity::{
    IdentityId, PageRequest, Scope,
    audit::{Act, Actor, AuditEvent, AuditFilter, ListEventsRejection},
    identity::{Export, ExportRejection},
    time::rfc3339,
};
use cardea_storage::{Consistency, Slot, Timestamp};
use futures::{Stream, stream};
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json as value};

use super::{
    Kratos, courier,
    wire::{
        identity::{IdentityBody, Reader},
        session::{Expand, SessionBody},
    },
};
use crate::{
    answer::json,
    consistency::Wanted,
    error::ApiError,
    paging::{by_token, link_by_token},
    query::Query,
    request::{Caller, IdOr404, StillAllowed, is_uuid},
};

/// How often a stream looks for what happened.
const EVERY: Duration = Duration::from_secs(1);
/// Events that a stream tells at once.
const TOLD_AT_ONCE: u32 = 500;
/// How far back a stream looks again, for what committed late: longer than a transaction
/// may take.
const LOOK_BACK: Duration = Duration::from_secs(15);

pub(super) async fn events(
    State(kratos): State<Kratos>,
    caller: Caller,
    Wanted(consistency): Wanted,
    allowed: Option<Extension<StillAllowed>>,
    query: Query,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let filter = filter(&query)?;
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains("text/event-stream")) {
        let from = headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let allowed = allowed.map(|Extension(allowed)| allowed);
        return Ok(told(kratos, caller.scope, filter, allowed, from));
    }
    let wanted = by_token(&query)?;
    let size = wanted.size;
    let found =
        kratos.service().list_audit_events(caller.scope, filter, &wanted, consistency).await;
    let found = found.map_err(not_listed)?;
    let items: Vec<Value> = found.items.iter().map(body).collect();
    let mut response = json(StatusCode::OK, &items);
    link_by_token(response.headers_mut(), &uri, size, found.next.as_deref());
    Ok(response)
}

pub(super) async fn verify(
    State(kratos): State<Kratos>,
    caller: Caller,
    query: Query,
) -> Result<Response, ApiError> {
    let id = filter(&query)?
        .identity
        .ok_or_else(|| ApiError::bad_request("The parameter identity_id is missing."))?;
    let chain = kratos.service().verify_audit(caller.scope, id.0).await?;
    let lane = cardea_identity::table::lane::lane_of(Slot::of_id(&id.0));
    let (broken, holding) = kratos.service().verify_seals(lane, caller.scope.tenant).await?;
    let broken: Vec<String> = broken.into_iter().map(rfc3339).collect();
    let body = value!({
        "holds": chain.broken_at.is_none() && broken.is_empty(),
        "events": chain.events,
        "broken_at": chain.broken_at,
        "seals": holding,
        "broken_seals": broken,
    });
    Ok(json(StatusCode::OK, &body))
}

pub(super) async fn export(
    State(kratos): State<Kratos>,
    caller: Caller,
    IdOr404(id): IdOr404<IdentityId>,
) -> Result<Response, ApiError> {
    let done = kratos.service().export_identity(caller.scope, id, Actor::Administrator).await;
    let export = done.map_err(|rejection| match rejection {
        ExportRejection::NotFound => ApiError::no_such_row(),
        ExportRejection::Store(error) => error.into(),
    })?;
    Ok(json(StatusCode::OK, &copy(&kratos, &export)))
}

/// What an export holds.
fn copy(kratos: &Kratos, export: &Export) -> Value {
    let url = kratos.public_url();
    let expand = Expand { identity: false, devices: true };
    let sessions: Vec<_> = export
        .sessions
        .iter()
        .map(|session| SessionBody::of(session, expand, Reader::Administrator, url))
        .collect();
    let messages: Vec<_> = export.messages.iter().map(|m| courier::body(m, true)).collect();
    value!({
        "exported_at": rfc3339(export.at),
        "complete": !export.is_cut,
        "identity": IdentityBody::of(&export.identity, Reader::Administrator, url),
        "sessions": sessions,
        "messages": messages,
        "events": export.events.iter().map(body).collect::<Vec<_>>(),
    })
}

/// What of it is handed out to whom it is about: not what is for administrators alone, and
/// no message before it was sent, for whoever has the address must show it.
pub(super) fn own_copy(kratos: &Kratos, export: &Export) -> Value {
    let mut copy = copy(kratos, export);
    if let Some(identity) = copy["identity"].as_object_mut() {
        identity.remove("metadata_admin");
    }
    for message in copy["messages"].as_array_mut().into_iter().flatten() {
        for secret in ["body", "subject"] {
            message[secret] = Value::from("");
        }
    }
    copy
}

fn filter(query: &Query) -> Result<AuditFilter, ApiError> {
    let identity = match query.first("identity_id") {
        None => None,
        Some(text) => Some(text.parse().ok().filter(|_| is_uuid(text)).ok_or_else(|| {
            ApiError::bad_request(format!("Invalid UUID value `{text}` for `identity_id`."))
        })?),
    };
    let act = match query.first("kind") {
        None => None,
        Some(name) => Some(
            Act::parse(name)
                .ok_or_else(|| ApiError::bad_request(format!("There is no kind `{name}`.")))?,
        ),
    };
    Ok(AuditFilter { identity, act })
}

fn not_listed(rejection: ListEventsRejection) -> ApiError {
    match rejection {
        ListEventsRejection::BadPageToken(error) => error.into(),
        ListEventsRejection::Store(error) => error.into(),
    }
}

/// Names an event: when it was, and which one of its identity.
fn id_of(event: &AuditEvent) -> String {
    let identity = event.identity.map_or_else(|| "tenant".to_owned(), |id| id.to_string());
    format!("{}.{identity}.{}", event.at.as_millis(), event.sequence)
}

fn body(event: &AuditEvent) -> Value {
    let link: String = event.link.iter().map(|byte| format!("{byte:02x}")).collect();
    value!({
        "id": id_of(event),
        "at": rfc3339(event.at),
        "kind": event.kind,
        "actor": event.actor,
        "identity_id": event.identity.map(|id| id.to_string()),
        "sequence": event.sequence,
        "ip_address": event.ip_address,
        "user_agent": event.user_agent,
        "details": event.details,
        "link": link,
    })
}

/// Where a stream is.
struct Listener {
    kratos: Kratos,
    scope: Scope,
    filter: AuditFilter,
    allowed: Option<StillAllowed>,
    /// Nothing from before is told.
    floor: Timestamp,
    /// The latest that was told.
    latest: Timestamp,
    /// What was told of the time that is looked at again, by when it was.
    told: BTreeSet<(u64, String)>,
    /// To be told, the oldest last.
    waiting: Vec<AuditEvent>,
}

/// A stream of what happens from now on, or from an event on: each is told at least once,
/// those of the last [`LOOK_BACK`] before that event perhaps again.
fn told(
    kratos: Kratos,
    scope: Scope,
    filter: AuditFilter,
    allowed: Option<StillAllowed>,
    from: Option<&str>,
) -> Response {
    let now = kratos.service().now();
    // An id that is none of ours begins now.
    let at = from.and_then(|id| id.split('.').next()?.parse().ok()).map(Timestamp);
    let told = from.zip(at).map(|(id, at)| (at.as_millis(), id.to_owned()));
    let listener = Listener {
        kratos,
        scope,
        filter,
        allowed,
        floor: at.map_or(now, back),
        latest: at.unwrap_or(now),
        told: told.into_iter().collect(),
        waiting: Vec::new(),
    };
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Sse::new(telling(listener)).keep_alive(keep_alive).into_response()
}

fn telling(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> {
    stream::unfold(listener, |mut listener| async move {
        loop {
            if let Some(event) = listener.waiting.pop() {
                let told = Event::default().id(id_of(&event)).event(&event.kind);
                return Some((Ok(told.data(body(&event).to_string())), listener));
            }
            if let Err(error) = listener.look().await {
                tracing::debug!(?error, "a stream of audit events ends");
                // The client comes back with the last id that it saw.
                return None;
            }
            if listener.waiting.is_empty() {
                tokio::time::sleep(EVERY).await;
            }
        }
    })
}

impl Listener {
    /// Reads what happened since, if it may still be told.
    async fn look(&mut self) -> Result<(), ApiError> {
        let service = self.kratos.service();
        let floor = self.floor.max(back(self.latest));
        let mut page = PageRequest { size: TOLD_AT_ONCE, token: None };
        let mut found: Vec<AuditEvent> = Vec::new();
        loop {
            let read = service
                .list_audit_events(self.scope, self.filter, &page, Consistency::Eventual)
                .await
                .map_err(not_listed)?;
            let reached = read.items.last().is_some_and(|event| event.at < floor);
            found.extend(read.items.into_iter().filter(|event| event.at >= floor));
            page.token = read.next;
            if reached || page.token.is_none() {
                break;
            }
        }
        if let Some(allowed) = &self.allowed {
            allowed.ask().await?;
        }
        found.retain(|event| self.told.insert((event.at.as_millis(), id_of(event))));
        if let Some(event) = found.first() {
            self.latest = self.latest.max(event.at);
        }
        let forgotten = (back(back(self.latest)).as_millis(), String::new());
        self.told = self.told.split_off(&forgotten);
        self.waiting = found;
        Ok(())
    }
}

/// Somewhat earlier: a transaction may commit after a later one was told.
fn back(from: Timestamp) -> Timestamp {
    let back = u64::try_from(LOOK_BACK.as_millis()).unwrap_or(u64::MAX);
    Timestamp(from.as_millis().saturating_sub(back))
}
