//! What a hook is told of a request.

use super::*;

#[tokio::test]
async fn hooks_are_told_the_request_and_what_was_sent_along_but_not_our_cookies() {
    let source = "function(ctx) ctx";
    let body = Program::parse(source, Limits::default()).unwrap();
    let called = with_request(Response::Ignored, |request| request.body = body);
    let (world, receiver) = world(Purpose::Login, Moment::After, called);
    world.register("ann@example.com").await;
    let asked = Asked::new(
        ("POST", "https://id.example/self-service/login?flow=1"),
        [
            ("user-agent", "x"),
            ("authorization", "Bearer secret"),
            ("x-session-token", "secret"),
            ("true-client-ip", "198.51.100.9"),
        ]
        .into_iter(),
        [("ory_kratos_session", "secret"), ("csrf", "secret"), ("theme", "dark")].into_iter(),
        &["ory_kratos_session", "csrf"],
    );
    let flow = world.begin_login().await;
    let client = Client {
        asked: Some(Arc::new(asked)),
        transient_payload: json!({"campaign": 7}),
        ..client("192.0.2.1")
    };
    let submission = crate::flow::LoginSubmission {
        method: "password".to_owned(),
        identifier: Some("ann@example.com".to_owned()),
        password: Some(secret(PASSWORD)),
        ..Default::default()
    };
    world.service.submit_login(world.scope, flow.id, submission, &client).await.unwrap();
    world.service.make_calls().await.unwrap();
    let told = receiver.body(0);
    assert_eq!(told["request_headers"]["User-Agent"], json!(["x"]));
    assert_eq!(told["request_headers"]["True-Client-Ip"], json!(["192.0.2.1"]));
    assert_eq!(told["request_cookies"], json!({"theme": "dark"}));
    assert_eq!(told["flow"]["transient_payload"], json!({"campaign": 7}));
    assert_eq!(told["transient_payload"], json!({"campaign": 7}));
    assert_eq!(told["request_method"], "POST");
    let text = told.to_string();
    assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
    assert!(traits("ann@example.com") == told["identity"]["traits"]);
}
