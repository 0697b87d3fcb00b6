//! Native registration and login, step by step.

use super::*;

#[tokio::test]
async fn login_flow_is_shown_as_kratos_shows_it() {
    let world = World::new();
    let uri = "/self-service/login/api?return_to=/ui/welcome";
    let flow = world.public(Ask::get(uri)).await.is(200);
    let id = flow.text("/id").to_owned();
    assert_eq!(flow.header("content-type"), "application/json; charset=utf-8");
    let mut golden = flow.golden();
    let nodes = golden["ui"]["nodes"].take();
    let names: Vec<_> =
        nodes.as_array().unwrap().iter().map(|n| n["attributes"]["name"].clone()).collect();
    assert_eq!(json!(names), json!(["csrf_token", "identifier", "password", "method"]));
    assert_eq!(
        golden,
        json!({
            "id": "<uuid>",
            "organization_id": null,
            "type": "api",
            "expires_at": "<time>",
            "issued_at": "<time>",
            "request_url": format!("http://127.0.0.1:4433{uri}"),
            "return_to": "http://127.0.0.1:4433/ui/welcome",
            "ui": {"action": "http://127.0.0.1:4433/self-service/login?flow=<uuid>",
                "method": "POST", "nodes": null},
            "created_at": "<time>",
            "updated_at": "<time>",
            "refresh": false,
            "requested_aal": "aal1",
            "state": "choose_method",
        })
    );
    let read = world.public(Ask::get(format!("/self-service/login/flows?id={id}"))).await.is(200);
    assert_eq!(read.body, flow.body);
    let other = format!("/self-service/registration/flows?id={id}");
    world.public(Ask::get(other)).await.is(404);
}

#[tokio::test]
async fn who_signs_up_gets_a_session_and_can_log_in() {
    let world = World::new();
    let flow = world.flow("registration").await;
    let done = world.submit_registration(&flow, "ann@example.org").await.is(200);
    assert!(!done.header("x-cardea-snaptoken").is_empty());
    let token = done.text("/session_token").to_owned();
    let session = world.whoami(&token).await.is(200);
    assert_eq!(session.body["identity"], done.body["identity"]);
    assert_eq!(session.body, done.body["session"]);
    assert_eq!(
        done.body["continue_with"],
        json!([{"action": "set_ory_session_token", "ory_session_token": token}])
    );
    assert_eq!(done.body["identity"].get("credentials"), None);
    assert_eq!(done.body["identity"].get("metadata_admin"), None);

    let flow = world.flow("login").await;
    let done = world.submit_login(&flow, "ANN@example.org", PASSWORD).await.is(200);
    let mut golden = done.golden();
    assert_eq!(golden["session"].take()["active"], true);
    assert_eq!(golden, json!({"session_token": "<token>", "session": null}));
}

#[tokio::test]
async fn forms_are_taken_like_json() {
    let world = World::new();
    let form = "application/x-www-form-urlencoded";
    let flow = world.flow("registration").await;
    let body = "method=password&traits.email=ann%40example.org&traits.name.first=Ann&\
                password=correct+horse+battery&csrf_token=";
    let uri = format!("/self-service/registration?flow={flow}");
    let done = world.public(Ask::new(Method::POST, uri).text(form, body)).await.is(200);
    assert_eq!(done.body["identity"]["traits"], traits("ann@example.org"));
    let flow = world.flow("login").await;
    let body =
        "method=password&password_identifier=ann%40example.org&password=correct+horse+battery";
    let uri = format!("/self-service/login?flow={flow}");
    world.public(Ask::new(Method::POST, uri).text(form, body)).await.is(200);
}

#[tokio::test]
async fn wrong_password_and_unknown_identifier_are_told_alike() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut answers = Vec::new();
    for email in ["ann@example.org", "eve@example.org"] {
        let flow = world.flow("login").await;
        let answer = world.submit_login(&flow, email, "another password").await.is(400);
        assert_eq!(answer.body["ui"]["messages"][0]["id"], 4_000_006);
        assert_eq!(answer.text("/id"), flow);
        assert_eq!(answer.text("/active"), "password");
        assert!(!answer.body.to_string().contains("another password"));
        answers.push(answer.golden().to_string().replace(email, "<email>"));
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_told_in_the_form() {
    let world = World::new();
    let submit = |purpose: &'static str, body: Value| {
        let world = &world;
        async move {
            let flow = world.flow(purpose).await;
            world.public(Ask::post(format!("/self-service/{purpose}?flow={flow}"), &body)).await
        }
    };
    let node = |answer: &Answer, name: &str| -> Value {
        let nodes = answer.body["ui"]["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["attributes"]["name"] == name).unwrap()["messages"].clone()
    };
    let answer = submit("login", json!({"method": "password"})).await.is(400);
    assert_eq!(node(&answer, "identifier")[0]["id"], 4_000_002);
    assert_eq!(node(&answer, "password")[0]["id"], 4_000_002);
    let answer = submit("login", json!({"method": "totp"})).await.is(400);
    assert_eq!(answer.body["ui"]["messages"][0]["id"], 4_010_002);
    let answer = submit("registration", json!({})).await.is(400);
    assert_eq!(answer.body["ui"]["messages"][0]["id"], 4_010_003);
    let body = json!({"method": "password", "password": "short", "traits": {"email": "x"}});
    let answer = submit("registration", body).await.is(400);
    assert_eq!(node(&answer, "password")[0]["id"], 4_000_032);
    assert!(!node(&answer, "traits.email").as_array().unwrap().is_empty());
}

#[tokio::test]
async fn taken_identifier_is_told_in_the_form() {
    let world = World::new();
    world.create("ann@example.org").await;
    let flow = world.flow("registration").await;
    let answer = world.submit_registration(&flow, "ann@example.org").await.is(400);
    assert_eq!(answer.body["ui"]["messages"][0]["id"], 4_000_007);
}

#[tokio::test]
async fn flow_completes_once() {
    let world = World::new();
    world.create("ann@example.org").await;
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(200);
    let again = world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(400);
    assert_eq!(again.body["ui"]["messages"][0]["id"], 4_010_007);
}

#[tokio::test]
async fn expired_flow_is_gone_and_names_its_successor() {
    let world = World::new();
    world.create("ann@example.org").await;
    let flow = world.flow("login").await;
    world.advance(3600 + 90);
    let shown =
        world.public(Ask::get(format!("/self-service/login/flows?id={flow}"))).await.is(410);
    assert_eq!(
        shown.body,
        json!({"error": {
            "id": "self_service_flow_expired",
            "code": 410,
            "status": "Gone",
            "reason": "The login flow has expired. Call the login flow init API endpoint to \
                       initialize a new login flow.",
            "details": {"api": "http://127.0.0.1:4433/self-service/login/api"},
            "message": "The requested resource is no longer available because it has expired or \
                        is otherwise invalid.",
        }})
    );
    let sent = world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(410);
    assert_eq!(sent.header("ory-error-id"), "self_service_flow_expired");
    assert_eq!(sent.body["since"], 90_000_000_000_u64);
    assert_eq!(sent.text("/expired_at"), "2027-01-15T09:00:00Z");
    let reason = "The self-service flow expired 1.50 minutes ago, initialize a new one.";
    assert_eq!(sent.text("/error/reason"), reason);
    let next = sent.text("/use_flow_id");
    world.submit_login(next, "ann@example.org", PASSWORD).await.is(200);
}

#[tokio::test]
async fn browsers_may_not_complete_native_flows() {
    let world = World::new();
    world.create("ann@example.org").await;
    let body = json!({"method": "password", "identifier": "ann@example.org", "password": PASSWORD});
    for purpose in ["login", "registration"] {
        let flow = world.flow(purpose).await;
        let uri = format!("/self-service/{purpose}?flow={flow}");
        let origin = Ask::post(&uri, &body).header("origin", "https://evil.example");
        let refused = world.public(origin).await.is(400);
        assert!(refused.text("/error/reason").contains("included the \"Origin\" key"));
        let cookie =
            Ask::post(&uri, &body).header("cookie", "__cf_bm=1; sid=2; ory_kratos_session=3");
        let refused = world.public(cookie).await.is(400);
        assert!(refused.text("/error/reason").contains("included the \"Cookie\" key"));
        let found = json!({"found cookies": ["sid", "ory_kratos_session"]});
        assert_eq!(refused.body["error"]["details"], found);
    }
    let flow = world.flow("login").await;
    let uri = format!("/self-service/login?flow={flow}");
    let harmless = Ask::post(uri, &body).header("cookie", "__cf_bm=1; _cfuvid=2; cf_clearance=3");
    world.public(harmless).await.is(200);
}

#[tokio::test]
async fn who_is_logged_in_must_ask_to_refresh() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    for purpose in ["login", "registration"] {
        let ask = Ask::get(format!("/self-service/{purpose}/api")).token(&token);
        let refused = world.public(ask).await.is(400);
        assert_eq!(refused.text("/error/id"), "session_already_available");
        assert_eq!(refused.text("/error/message"), "you are already logged in");
    }
    let ask = Ask::get("/self-service/login/api?refresh=true").token(&token);
    let flow = world.public(ask).await.is(200);
    assert_eq!(flow.body["refresh"], true);
    assert_eq!(flow.body["ui"]["messages"][0]["id"], 1_010_003);
    let expired = Ask::get("/self-service/login/api").token("ory_st_x");
    world.public(expired).await.is(200);
}

#[tokio::test]
async fn assurance_level_that_cannot_be_reached_is_refused() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let ask = |aal: &str| Ask::get(format!("/self-service/login/api?aal={aal}"));
    let refused = world.public(ask("aal2")).await.is(401);
    assert_eq!(refused.text("/error/id"), "session_aal1_required");
    world.public(ask("aal2").token(&token)).await.is(400);
    world.public(ask("aal1")).await.is(200);
    for bad in ["aal0", "aal3", "2"] {
        world.public(ask(bad)).await.is(400);
    }
}

#[tokio::test]
async fn guesser_is_told_when_to_come_back() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut slowed = None;
    for _ in 0..8 {
        let flow = world.flow("login").await;
        let answer = world.submit_login(&flow, "ann@example.org", "another password").await;
        if answer.status == 429 {
            slowed = Some(answer);
            break;
        }
        answer.is(400);
    }
    let slowed = slowed.unwrap();
    assert_eq!(slowed.text("/error/message"), "Too many requests");
    let seconds: u64 = slowed.header("retry-after").parse().unwrap();
    world.advance(seconds);
    world.log_in("ann@example.org").await;
}
