//! What is refused while more is asked for than can be done, and what is not.

use super::*;
use crate::listener::admission::{Admission, Class};

/// A gate whose only place for what asks is taken.
async fn full_gate() -> (Gate, Admission, crate::listener::admission::Place) {
    let admission = Admission::within(|_| 1, 1);
    let place = admission.enter(Class::Read, &Method::GET, "/sessions/whoami").await.unwrap();
    (gate(Side::Admin, true).admitting(admission.clone()), admission, place)
}

#[tokio::test(start_paused = true)]
async fn who_finds_no_place_is_told_to_come_again() {
    let (gate, _, place) = full_gate().await;
    let ask = async || {
        let asked = request(&Method::GET, "/sessions/whoami").header("x-request-id", "abc-1");
        send(&gate, asked.body(Body::empty()).unwrap()).await
    };
    let response = ask().await;
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
    let body: serde_json::Value = serde_json::from_str(&text(response).await).unwrap();
    assert_eq!(
        body,
        serde_json::json!({"error": {
            "id": "cluster_overloaded",
            "code": 503,
            "status": "Service Unavailable",
            "request": "abc-1",
            "reason": "This node is asked for more than it can do.",
            "message": "The service is unavailable for a moment, please try again",
        }})
    );
    drop(place);
    assert_eq!(ask().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn what_a_node_says_of_itself_and_what_operators_tell_it_is_never_refused() {
    let (gate, _, _place) = full_gate().await;
    for (method, path) in [
        (Method::GET, "/health/alive"),
        (Method::GET, "/version"),
        (Method::GET, "/metrics"),
        (Method::POST, "/clusterless/drain"),
    ] {
        assert_eq!(status(&gate, &method, path, None).await, 200, "{path}");
    }
    assert!(health::routes().iter().all(|route| route.class.is_none()));
    assert!(crate::operator::routes::routes().iter().all(|route| route.class.is_none()));
    assert!(crate::listener::grpc::routes().iter().all(|route| route.class.is_none()));
    // And all that the layers answer may be.
    assert!(crate::layers::routes().iter().all(|route| route.class.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_given_back_with_the_answer_and_by_whoever_goes() {
    let (gate, admission, place) = full_gate().await;
    drop(place);
    for _ in 0..3 {
        assert_eq!(status(&gate, &Method::GET, "/sessions/whoami", None).await, 200);
    }
    let under_way = async || {
        let samples = Metrics::new(|_| {});
        samples.add(Arc::new(admission.clone()));
        let text = samples.encode();
        let line = "cardea_http_under_way{class=\"write\"} ";
        text.lines().find_map(|one| one.strip_prefix(line)).unwrap().to_owned()
    };
    let mut gone =
        Box::pin(send(&gate, request(&Method::POST, "/slow").body(Body::empty()).unwrap()));
    assert!(futures::poll!(&mut gone).is_pending());
    assert_eq!(under_way().await, "1.0");
    drop(gone);
    assert_eq!(under_way().await, "0.0");
}
