//! Watching, as server-sent events and as a gRPC stream.

use std::time::Duration;

use axum::body::Body;
use cardea_permission::engine::Limits;
use futures::StreamExt as _;
use http::Request;
use serde_json::{Value, json};
use tonic::Code;
use tower::ServiceExt as _;

use super::{
    Options, Usage, World,
    grpc::{transact, tuple},
};
use crate::{
    ApiError, StillAllowed,
    keto::grpc::{
        permission::{self, watch_service_client::WatchServiceClient},
        rts,
    },
};

const WATCH: &str = "/relation-tuples/watch";

/// A stream of events under way.
pub(super) struct Events {
    body: axum::body::BodyDataStream,
    text: String,
}

/// An event: its id, name and data.
pub(super) type Event = (Option<String>, String, Value);

impl Events {
    pub(super) async fn open(
        world: &World,
        uri: &str,
        last: Option<&str>,
        allowed: Option<StillAllowed>,
    ) -> Self {
        let mut request = Request::get(uri).extension(world.tenant);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        if let Some(allowed) = allowed {
            request = request.extension(allowed);
        }
        let request = request.body(Body::empty()).unwrap();
        let answer = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert!(answer.headers()["cache-control"].to_str().unwrap().contains("no-store"));
        Self { body: answer.into_body().into_data_stream(), text: String::new() }
    }

    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (mut id, mut name, mut data) = (None, String::new(), Value::Null);
                for line in event.lines() {
                    match line.split_once(": ").unwrap() {
                        ("id", value) => id = Some(value.to_owned()),
                        ("event", value) => name = value.to_owned(),
                        ("data", value) => data = serde_json::from_str(value).unwrap(),
                        ("retry", _) => {}
                        (other, _) => panic!("{other}"),
                    }
                }
                self.text = rest.to_owned();
                return Some((id, name, data));
            }
            let bytes = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await;
            let bytes = bytes.expect("an event in time")?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The next event that is no progress.
    pub(super) async fn told(&mut self) -> Event {
        loop {
            let event = self.next().await.unwrap();
            if event.1 != "progress" {
                return event;
            }
        }
    }
}

/// An event stands where the write stood that it tells of; that of the language is not
/// said.
fn assert_stands_at(event: &str, write: &str) {
    let [event, write] =
        [event, write].map(|text| crate::consistency::given_snaptoken(text).unwrap());
    assert!(!event.positions.is_empty());
    for position in &event.positions {
        assert!(write.positions.contains(position), "{event:?} {write:?}");
    }
}

pub(super) fn brief() -> World {
    let heartbeat = Duration::from_millis(30);
    World::of(Limits::default(), Options { heartbeat, watchers_max: 2, ..Options::default() })
}

#[tokio::test]
async fn events_are_changes_and_progress_and_are_taken_up_again() {
    let world = brief();
    let mut events = Events::open(&world, &format!("{WATCH}?namespace=Doc"), None, None).await;
    let (start, name, _) = events.next().await.unwrap();
    assert_eq!(name, "progress");
    transact(&world, &["+Doc:1#owners@ann", "+Group:g#members@ann"]).await;
    let (first, name, data) = events.told().await;
    let inserted = json!({"action": "insert", "relation_tuple": super::tuple("Doc:1#owners@ann")});
    assert_eq!((name.as_str(), data), ("change", json!({"changes": [inserted]})));
    let token = transact(&world, &["-Doc:1#owners@ann"]).await;
    let (last, _, data) = events.told().await;
    assert_eq!(data["changes"][0]["action"], "delete");
    assert_stands_at(last.as_deref().unwrap(), &token);
    // Progress goes on, also past what is not meant.
    transact(&world, &["+Group:h#members@ann"]).await;
    let mut moved = events.next().await.unwrap();
    while moved.0 == last {
        moved = events.next().await.unwrap();
    }
    assert_eq!(moved.1, "progress");
    drop(events);
    // From each place, what followed it, and nothing twice.
    let mut again = Events::open(&world, WATCH, first.as_deref(), None).await;
    assert_eq!(again.told().await.2["changes"][0]["action"], "delete");
    let uri = format!("{WATCH}?snaptoken={}", start.unwrap());
    let mut again = Events::open(&world, &uri, None, None).await;
    assert_eq!(again.told().await.2["changes"].as_array().unwrap().len(), 2);
    drop(again);
    // The id of the last event counts before the place where the stream once began.
    let mut again = Events::open(&world, &uri, last.as_deref(), None).await;
    let group = again.told().await.2["changes"][0]["relation_tuple"].clone();
    assert_eq!(group, super::tuple("Group:h#members@ann"));
}

#[tokio::test]
async fn who_is_too_late_is_told_to_load_again() {
    let world = brief();
    let mut events = Events::open(&world, WATCH, None, None).await;
    let start = events.next().await.unwrap().0.unwrap();
    for at in 0..7 {
        let texts: Vec<String> = (0..900).map(|i| format!("+Doc:{at}-{i}#owners@ann")).collect();
        transact(&world, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    // One that was made in time is given before.
    let (_, name, data) = loop {
        let event = events.told().await;
        if event.1 != "change" {
            break event;
        }
    };
    assert_eq!((name.as_str(), &data["error"]["code"]), ("reload", &json!(410)));
    assert_eq!(events.next().await, None);
    let gone = world.get(&format!("{WATCH}?snaptoken={start}")).await.is(410);
    assert_eq!(gone.body["error"]["id"], "watch_too_old");
    let request = permission::WatchRequest { snaptoken: start, ..Default::default() };
    let status = WatchServiceClient::new(world.grpc()).watch(request).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(world.shared.usage(), Usage { too_old: 3, ..Usage::default() });
}

#[tokio::test]
async fn places_are_bounded_and_given_back() {
    let world = brief();
    let one = Events::open(&world, WATCH, None, None).await;
    let mut two = WatchServiceClient::new(world.grpc());
    let two = two.watch(permission::WatchRequest::default()).await.unwrap();
    let full = world.get(WATCH).await.is(429);
    assert_eq!(full.body["error"]["id"], "too_many_watchers");
    let mut three = WatchServiceClient::new(world.grpc());
    let status = three.watch(permission::WatchRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(world.shared.usage(), Usage { watches: 2, refused: 2, ..Usage::default() });
    drop((one, two));
    assert_eq!(world.shared.usage().watches, 0);
    let mut events = Events::open(&world, WATCH, None, None).await;
    assert_eq!(events.next().await.unwrap().1, "progress");
}

#[tokio::test]
async fn watch_ends_when_the_node_stops_or_the_key_is_revoked() {
    let world = brief();
    let revoked = StillAllowed::new(|| {
        Box::pin(async { Err(ApiError::unauthorized("The API key is no longer valid.")) })
    });
    let mut events = Events::open(&world, WATCH, None, Some(revoked)).await;
    let (_, name, data) = events.told().await;
    assert_eq!((name.as_str(), &data["error"]["code"]), ("ended", &json!(401)));
    let mut events = Events::open(&world, WATCH, None, None).await;
    assert_eq!(events.next().await.unwrap().1, "progress");
    world.shared.close();
    let (_, name, data) = events.told().await;
    assert_eq!((name.as_str(), &data["error"]["id"]), ("ended", &json!("watch_interrupted")));
    assert_eq!(events.next().await, None);
    let mut late = WatchServiceClient::new(world.grpc());
    let mut late = late.watch(permission::WatchRequest::default()).await.unwrap().into_inner();
    assert!(late.message().await.unwrap().unwrap().changes.is_empty());
    assert_eq!(late.message().await.unwrap_err().code(), Code::Unavailable);
}

/// On a connection of several streams one may stand still while the others go on.
#[tokio::test(start_paused = true)]
async fn watch_that_nobody_reads_gives_its_place_back_and_ends_with_its_key() {
    let wait = |time: Duration| tokio::time::timeout(time, std::future::pending::<()>());
    let world = brief();
    let mut unread = Events::open(&world, WATCH, None, None).await;
    wait(Duration::from_secs(30)).await.unwrap_err();
    assert_eq!(world.shared.usage().watches, 1);
    wait(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(world.shared.usage().watches, 0);
    assert_eq!(unread.next().await.unwrap().1, "progress");
    let (_, name, data) = unread.next().await.unwrap();
    assert_eq!((name.as_str(), &data["error"]["id"]), ("ended", &json!("answer_not_taken")));
    assert_eq!(unread.next().await, None);
    // Who reads but little stays.
    let mut slow = Events::open(&world, WATCH, None, None).await;
    for at in 0..4 {
        wait(Duration::from_secs(45)).await.unwrap_err();
        let (_, name, _) = slow.next().await.unwrap();
        assert_eq!(name, "progress", "{at}");
    }
    assert_eq!(world.shared.usage().watches, 1);
}

#[tokio::test]
async fn stream_of_grpc_gives_the_same() {
    let world = brief();
    let query = rts::RelationQuery { object: Some("1".to_owned()), ..Default::default() };
    let request =
        permission::WatchRequest { relation_query: Some(query), snaptoken: String::new() };
    let mut client = WatchServiceClient::new(world.grpc());
    let mut stream = client.watch(request.clone()).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.changes.is_empty() && !first.snaptoken.is_empty());
    transact(&world, &["+Doc:2#owners@ann"]).await;
    let token = transact(&world, &["+Doc:1#owners@ann"]).await;
    let change = loop {
        let message = stream.message().await.unwrap().unwrap();
        if !message.changes.is_empty() {
            break message;
        }
    };
    assert_stands_at(&change.snaptoken, &token);
    assert_eq!(change.changes.len(), 1);
    assert_eq!(change.changes[0].relation_tuple, Some(tuple("Doc:1#owners@ann")));
    assert_eq!(change.changes[0].action, 1);
    for bad in ["x", "CAc", "EgkIBBCAgICAgCA"] {
        let request = permission::WatchRequest { snaptoken: bad.to_owned(), ..request.clone() };
        let status = client.watch(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{bad}");
        world.get(&format!("{WATCH}?snaptoken={bad}")).await.is(400);
    }
}
