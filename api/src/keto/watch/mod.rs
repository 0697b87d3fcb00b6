//! `watchRelationships`: changes as they are made, as server-sent events; and the
//! places that a node has for those who watch, over gRPC too.
//!
//! ```text
//! id: <snaptoken>
//! event: change
//! data: {"changes":[{"action":"insert","relation_tuple":{…}}]}
//! ```
//!
//! `progress` has no changes and a token that has moved on. `reload` ends the stream
//! where what follows is no longer held: list again, and watch from the token of that
//! list. `ended` ends it where a client may come back with its last token, here or at
//! another node, as an `EventSource` does by itself.
//!
//! Each watch has a task of its own, so that it ends in time, with its place and whatever
//! let the client in, though the client takes nothing: on a connection of several streams
//! nobody would notice.

mod follow;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State,
    response::Response,
};
use cardea_permission::{TupleQuery, watch::TupleChange};
use cardea_storage::{Snaptoken, Tenant};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};

pub(super) use follow::Event;

use self::follow::Follow;
use super::{
    Asked, Keto,
    flow::{TAKEN_WITHIN, not_taken, parts},
    read::query_of,
    wire::{ChangeBody, ChangesBody, RelationshipBody},
};
use crate::{
    consistency::{given_snaptoken, text_of},
    error::ApiError,
    request::StillAllowed,
};

/// Takes a stream up again.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How long a client waits before it comes back.
const RETRY_MS: u32 = 1_000;

/// The places of a node for those who watch.
#[derive(Debug)]
pub(super) struct Watchers {
    places: Arc<Semaphore>,
    places_max: usize,
    refused: AtomicU64,
    too_old: Arc<AtomicU64>,
    heartbeat: Duration,
    stop: watch::Sender<bool>,
}

impl Watchers {
    pub(super) fn new(places: usize, heartbeat: Duration) -> Self {
        let places_max = places.min(Semaphore::MAX_PERMITS);
        Self {
            places: Arc::new(Semaphore::new(places_max)),
            places_max,
            refused: AtomicU64::new(0),
            too_old: Arc::default(),
            heartbeat,
            stop: watch::channel(false).0,
        }
    }

    /// Watches under way, those that found no place, and those that were too late.
    pub(super) fn usage(&self) -> (usize, u64, u64) {
        let watches = self.places_max - self.places.available_permits();
        (watches, self.refused.load(Ordering::Relaxed), self.too_old.load(Ordering::Relaxed))
    }

    /// Ends every watch, now and from now on.
    pub(super) fn close(&self) {
        self.stop.send_replace(true);
    }
}

impl Keto {
    /// Follows changes from behind a token, from now on without one. Ends with an error.
    pub(super) async fn follow(
        &self,
        tenant: Tenant,
        filter: TupleQuery,
        after: Option<Snaptoken>,
        allowed: Option<StillAllowed>,
    ) -> Result<BoxStream<'static, Result<Event, ApiError>>, ApiError> {
        let watchers = &self.shared().watchers;
        let place = watchers.places.clone().try_acquire_owned().map_err(|_| {
            watchers.refused.fetch_add(1, Ordering::Relaxed);
            ApiError::too_many_requests(Duration::from_secs(5))
                .id("too_many_watchers")
                .reason("This node serves as many watches as it may.")
        })?;
        let watching = self.service().watch(tenant, filter, after).await;
        let too_old = watchers.too_old.clone();
        let watching = watching.map_err(|rejection| follow::refused(rejection, &too_old))?;
        let stop = watchers.stop.subscribe();
        let place = Place(Arc::new(Mutex::new(Some(place))));
        let held = place.clone();
        let follow = Follow::new(watching, watchers.heartbeat, stop, allowed, too_old, place);
        let events = parts(|out| give(follow, out));
        let events = events.map(move |event| {
            let _held = &held;
            event
        });
        Ok(events.boxed())
    }
}

/// A place that is given back as soon as either lets go: the watch, or who takes from it.
#[derive(Debug, Clone)]
pub(super) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lock().take();
    }
}

/// Gives what happens to whoever takes it. Nothing is made before there is room for it: who
/// is slow has no more of it waiting here than one event.
async fn give(mut follow: Follow, out: mpsc::Sender<Event>) -> Result<(), ApiError> {
    loop {
        let room = timeout(TAKEN_WITHIN, out.reserve()).await;
        let room = room.map_err(|_| not_taken())?.map_err(|_| not_taken())?;
        room.send(follow.next().await?);
    }
}

pub(super) async fn watch(
    State(keto): State<Keto>,
    allowed: Option<Extension<StillAllowed>>,
    headers: HeaderMap,
    asked: Asked,
) -> Result<Response, ApiError> {
    let filter = query_of(&asked.query)?;
    let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or_default());
    let token = last.filter(|last| !last.is_empty()).or(asked.query.first("snaptoken"));
    let token = token.map(given_snaptoken).transpose()?;
    let allowed = allowed.map(|Extension(allowed)| allowed);
    let follow = keto.follow(asked.tenant, filter, token, allowed).await?;
    let told = follow.map(|event| match event {
        Ok(event) => event_text(&event),
        Err(error) => end_text(&error),
    });
    let texts = stream::iter([format!("retry: {RETRY_MS}\n")]).chain(told);
    let events = texts.map(|text| Ok::<_, std::convert::Infallible>(Bytes::from(text)));
    let mut response = Response::new(Body::from_stream(events));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // For proxies that would wait until they have much to pass on.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn event_text(event: &Event) -> String {
    let (name, data) = if event.changes.is_empty() {
        ("progress", json!({}))
    } else {
        let changes = event.changes.iter().map(change_body).collect();
        ("change", serde_json::to_value(ChangesBody { changes }).unwrap_or_default())
    };
    frame(Some(&event.snaptoken), name, &data)
}

fn end_text(error: &ApiError) -> String {
    let name = if error.status() == StatusCode::GONE { "reload" } else { "ended" };
    frame(None, name, &json!({ "error": error.shown() }))
}

/// JSON has no line breaks of its own here.
fn frame(snaptoken: Option<&Snaptoken>, name: &str, data: &Value) -> String {
    let id = snaptoken.map_or_else(String::new, |token| format!("id: {}\n", text_of(token)));
    format!("{id}event: {name}\ndata: {data}\n\n")
}

fn change_body(change: &TupleChange) -> ChangeBody {
    let (action, relation_tuple) = match change {
        TupleChange::Inserted(inserted) => ("insert", RelationshipBody::from(inserted)),
        TupleChange::Deleted(tuple) => ("delete", tuple.into()),
    };
    ChangeBody { action, relation_tuple }
}
