//! Recovery and verification by codes, the messages that bring them, and what they
//! never tell.

use super::{
    browser::{Browser, action, csrf, flow_in},
    *,
};

/// The code in the newest message to an address.
pub(super) async fn code_to(world: &World, email: &str) -> String {
    let uri = format!("/admin/courier/messages?recipient={email}&status=queued");
    let listed = world.admin(Ask::get(uri)).await.is(200);
    let body = listed.body[0]["body"].as_str().expect("no message").to_owned();
    let code: String = body.chars().filter(char::is_ascii_digit).take(6).collect();
    assert_eq!(code.len(), 6, "{body}");
    code
}

pub(super) async fn post(world: &World, purpose: &str, flow: &str, body: &Value) -> Answer {
    world.public(Ask::post(format!("/self-service/{purpose}?flow={flow}"), body)).await
}

fn message(answer: &Answer) -> &Value {
    &answer.body["ui"]["messages"][0]["id"]
}

/// A code that is not the right one.
fn other(code: &str) -> String {
    if code == "000000" { "000001".to_owned() } else { "000000".to_owned() }
}

#[tokio::test]
async fn who_signs_up_verifies_the_address_by_the_code_that_was_sent() {
    let world = World::with_codes();
    let flow = world.flow("registration").await;
    let done = world.submit_registration(&flow, "ann@example.org").await.is(200);
    let step = &done.body["continue_with"][1];
    assert_eq!(step["action"], "show_verification_ui");
    assert_eq!(step["flow"]["verifiable_address"], "ann@example.org");
    let flow = step["flow"]["id"].as_str().unwrap().to_owned();
    let shown = world.public(Ask::get(format!("/self-service/verification/flows?id={flow}"))).await;
    assert_eq!(shown.is(200).text("/state"), "sent_email");
    let code = code_to(&world, "ann@example.org").await;
    let wrong = json!({"method": "code", "code": other(&code)});
    let told = post(&world, "verification", &flow, &wrong).await.is(400);
    assert_eq!(message(&told), 4_070_006);
    let right = json!({"method": "code", "code": code});
    let told = post(&world, "verification", &flow, &right).await.is(200);
    assert_eq!(told.text("/state"), "passed_challenge");
    assert_eq!(message(&told), 1_080_002);
    let id = done.text("/identity/id");
    let identity = world.admin(Ask::get(format!("/admin/identities/{id}"))).await.is(200);
    assert_eq!(identity.body["verifiable_addresses"][0]["verified"], true);
    assert_eq!(identity.body["verifiable_addresses"][0]["status"], "completed");
    // Spent.
    let again = post(&world, "verification", &flow, &right).await.is(400);
    assert_eq!(message(&again), 4_070_002);
}

#[tokio::test]
async fn code_lets_its_owner_in_once_and_leads_to_settings() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let flow = world.flow("recovery").await;
    let ask = json!({"method": "code", "email": " Ann@Example.org "});
    let sent = post(&world, "recovery", &flow, &ask).await.is(200);
    assert_eq!((sent.text("/state"), message(&sent)), ("sent_email", &json!(1_060_003)));
    let code = code_to(&world, "ann@example.org").await;
    let right = json!({"method": "code", "code": code});
    let done = post(&world, "recovery", &flow, &right).await.is(200);
    assert_eq!(done.text("/state"), "passed_challenge");
    let steps = done.body["continue_with"].as_array().unwrap();
    assert_eq!(steps[0]["action"], "set_ory_session_token");
    assert_eq!(steps[1]["action"], "show_settings_ui");
    let token = steps[0]["ory_session_token"].as_str().unwrap();
    let me = world.whoami(token).await.is(200);
    assert_eq!(me.text("/authenticator_assurance_level"), "aal1");
    assert_eq!(me.body["authentication_methods"][0]["method"], "code_recovery");
    let settings = steps[1]["flow"]["id"].as_str().unwrap();
    let uri = format!("/self-service/settings?flow={settings}");
    let new = json!({"method": "password", "password": "an even better horse"});
    world.public(Ask::post(uri, &new).token(token)).await.is(200);
    let again = post(&world, "recovery", &flow, &right).await.is(400);
    assert_eq!(message(&again), 4_060_001);
    let login = world.flow("login").await;
    world.submit_login(&login, "ann@example.org", "an even better horse").await.is(200);
}

/// N13: neither answers nor messages tell who has an account.
#[tokio::test]
async fn address_that_nobody_has_is_told_the_same() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    for purpose in ["recovery", "verification"] {
        let mut answers = Vec::new();
        for email in ["ann@example.org", "eve@example.org"] {
            let flow = world.flow(purpose).await;
            let ask = json!({"method": "code", "email": email});
            let sent = post(&world, purpose, &flow, &ask).await.is(200);
            let wrong = json!({"method": "code", "code": "12345x"});
            let refused = post(&world, purpose, &flow, &wrong).await.is(400);
            let both = format!("{}{}", sent.golden(), refused.golden());
            answers.push(both.replace(email, "<email>"));
        }
        assert_eq!(answers[0], answers[1]);
    }
    let listed = world.admin(Ask::get("/admin/courier/messages")).await.is(200);
    let recipients: Vec<_> =
        listed.body.as_array().unwrap().iter().map(|m| m["recipient"].clone()).collect();
    assert_eq!(recipients, [json!("ann@example.org"), json!("ann@example.org")]);
}

/// N12: a flow has five tries, whatever codes were sent for it.
#[tokio::test]
async fn flow_takes_five_codes_and_then_not_even_the_right_one() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let flow = world.flow("recovery").await;
    let ask = json!({"method": "code", "email": "ann@example.org"});
    post(&world, "recovery", &flow, &ask).await.is(200);
    for _ in 0..3 {
        let code = code_to(&world, "ann@example.org").await;
        let wrong = json!({"method": "code", "code": other(&code)});
        post(&world, "recovery", &flow, &wrong).await.is(400);
    }
    world.advance(1);
    post(&world, "recovery", &flow, &ask).await.is(200);
    let code = code_to(&world, "ann@example.org").await;
    let wrong = json!({"method": "code", "code": other(&code)});
    for _ in 0..2 {
        let told = post(&world, "recovery", &flow, &wrong).await.is(400);
        assert_eq!(message(&told), 4_060_006);
    }
    world.advance(60);
    let right = json!({"method": "code", "code": code});
    let told = post(&world, "recovery", &flow, &right).await.is(400);
    assert_eq!(message(&told), 4_060_002);
}

/// N12: another flow is no way round an account's budget.
#[tokio::test]
async fn guesses_over_many_flows_are_slowed_down() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let mut slowed = false;
    for _ in 0..3 {
        let flow = world.flow("recovery").await;
        let ask = json!({"method": "code", "email": "ann@example.org"});
        post(&world, "recovery", &flow, &ask).await.is(200);
        let code = code_to(&world, "ann@example.org").await;
        let wrong = json!({"method": "code", "code": other(&code)});
        for _ in 0..4 {
            slowed |= post(&world, "recovery", &flow, &wrong).await.status == 429;
        }
    }
    assert!(slowed);
}

#[tokio::test]
async fn code_is_good_for_its_own_flow_and_for_an_hour() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let (mine, other) = (world.flow("recovery").await, world.flow("recovery").await);
    let ask = json!({"method": "code", "email": "ann@example.org"});
    post(&world, "recovery", &mine, &ask).await.is(200);
    let code = code_to(&world, "ann@example.org").await;
    world.advance(1);
    post(&world, "recovery", &other, &ask).await.is(200);
    let right = json!({"method": "code", "code": code});
    post(&world, "recovery", &other, &right).await.is(400);
    world.advance(3600);
    post(&world, "recovery", &mine, &right).await.is(410);
}

/// Pre-hijacking: what somebody else set up on an address that was never verified
/// ends when its owner comes.
#[tokio::test]
async fn owner_of_an_address_inherits_no_strangers_password_and_session() {
    let world = World::with_codes();
    let flow = world.flow("registration").await;
    let stranger = world.submit_registration(&flow, "ann@example.org").await.is(200);
    let token = stranger.text("/session_token").to_owned();
    world.whoami(&token).await.is(200);
    world.advance(1);
    let flow = world.flow("recovery").await;
    let ask = json!({"method": "code", "email": "ann@example.org"});
    post(&world, "recovery", &flow, &ask).await.is(200);
    let code = code_to(&world, "ann@example.org").await;
    post(&world, "recovery", &flow, &json!({"method": "code", "code": code})).await.is(200);
    world.whoami(&token).await.is(401);
    let login = world.flow("login").await;
    world.submit_login(&login, "ann@example.org", PASSWORD).await.is(400);
}

#[tokio::test]
async fn inactive_identity_gets_no_code() {
    let world = World::with_codes();
    let id = world.create("ann@example.org").await;
    let patch = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
    world
        .admin(Ask::new(Method::PATCH, format!("/admin/identities/{id}")).json(&patch))
        .await
        .is(200);
    let flow = world.flow("recovery").await;
    let ask = json!({"method": "code", "email": "ann@example.org"});
    post(&world, "recovery", &flow, &ask).await.is(200);
    let listed = world.admin(Ask::get("/admin/courier/messages")).await.is(200);
    assert_eq!(listed.body, json!([]));
}

#[tokio::test]
async fn page_recovers_an_account() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("recovery", "").await;
    let token = csrf(&flow);
    let fields = [("csrf_token", token.as_str()), ("method", "code"), ("email", "ann@example.org")];
    let sent = browser.post_form(&action(&flow), &fields).await.is(303);
    let id = flow_in(sent.header("location")).to_owned();
    let uri = format!("/self-service/recovery/flows?id={id}");
    let shown = browser.get(&uri, "application/json").await.is(200);
    assert_eq!((shown.text("/state"), message(&shown)), ("sent_email", &json!(1_060_003)));
    let code = code_to(&world, "ann@example.org").await;
    let fields = [("csrf_token", token.as_str()), ("method", "code"), ("code", code.as_str())];
    let done = browser.post_form(&action(&flow), &fields).await.is(303);
    let place = done.header("location").to_owned();
    assert!(place.starts_with("http://127.0.0.1:4433/ui/settings?flow="), "{place}");
    let uri = format!("/self-service/settings/flows?id={}", flow_in(&place));
    let settings = browser.get(&uri, "application/json").await.is(200);
    assert_eq!(message(&settings), 1_060_001);
    browser.whoami().await.is(200);
}

#[tokio::test]
async fn script_is_told_where_to_send_its_browser() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("recovery", "").await;
    let body = json!({"method": "code", "email": "ann@example.org", "csrf_token": csrf(&flow)});
    browser.post_json(&action(&flow), &body).await.is(200);
    let code = code_to(&world, "ann@example.org").await;
    let body = json!({"method": "code", "code": code, "csrf_token": csrf(&flow)});
    let done = browser.post_json(&action(&flow), &body).await.is(422);
    assert_eq!(done.text("/error/id"), "browser_location_change_required");
    assert!(done.text("/redirect_browser_to").contains("/ui/settings?flow="));
    browser.whoami().await.is(200);
    let refused = browser.get("/self-service/recovery/browser", "application/json").await.is(400);
    assert_eq!(refused.text("/error/id"), "session_already_available");
}

#[tokio::test]
async fn administrators_code_is_the_last_browsers_that_shows_its_flow_until_it_is_tried() {
    let world = World::with_codes();
    let id = world.create("ann@example.org").await;
    let body = json!({"identity_id": id, "expires_in": "12h"});
    let made = world.admin(Ask::post("/admin/recovery/code", &body)).await.is(201);
    assert_eq!(made.text("/expires_at"), "2027-01-15T20:00:00Z");
    let flow = flow_in(made.text("/recovery_link")).to_owned();
    let uri = format!("/self-service/recovery/flows?id={flow}");
    let code = json!({"method": "code", "code": made.text("/recovery_code")});
    post(&world, "recovery", &flow, &code).await.is(400);
    // A scanner of mails, and then whom it is for.
    let mut scanner = Browser::new(&world);
    let scanned = scanner.get(&uri, "application/json").await.is(200);
    let mut browser = Browser::new(&world);
    let shown = browser.get(&uri, "application/json").await.is(200);
    let with = |code: &Value, shown: &Answer| {
        let mut body = code.clone();
        body["csrf_token"] = csrf(shown).into();
        body
    };
    scanner.post_json(&action(&scanned), &with(&code, &scanned)).await.is(403);
    let wrong = json!({"method": "code", "code": other(made.text("/recovery_code"))});
    browser.post_json(&action(&shown), &with(&wrong, &shown)).await.is(400);
    scanner.get(&uri, "application/json").await.is(403);
    browser.get(&uri, "application/json").await.is(200);
    browser.post_json(&action(&shown), &with(&code, &shown)).await.is(422);
    let unknown = json!({"identity_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"});
    world.admin(Ask::post("/admin/recovery/code", &unknown)).await.is(404);
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    let world = World::new();
    for purpose in ["recovery", "verification"] {
        let refused = world.public(Ask::get(format!("/self-service/{purpose}/api"))).await.is(400);
        assert_eq!(refused.text("/error/id"), "self_service_flow_disabled");
    }
}

#[tokio::test]
async fn messages_are_listed_page_by_page_the_newest_first() {
    let world = World::with_codes();
    for n in 0..5 {
        let flow = world.flow("registration").await;
        world.submit_registration(&flow, &format!("p{n}@example.org")).await.is(200);
        world.advance(1);
    }
    let mut seen = Vec::new();
    let mut uri = "/admin/courier/messages?page_size=2".to_owned();
    loop {
        let page = world.admin(Ask::get(&uri)).await.is(200);
        let items = page.body.as_array().unwrap();
        seen.extend(items.iter().map(|m| m["recipient"].as_str().unwrap().to_owned()));
        let Some(next) = page.header("link").split(',').find(|l| l.contains("rel=\"next\"")) else {
            break;
        };
        uri = next.split(['<', '>']).nth(1).unwrap().to_owned();
    }
    let expected: Vec<_> = (0..5).rev().map(|n| format!("p{n}@example.org")).collect();
    assert_eq!(seen, expected);
    let one = world.admin(Ask::get("/admin/courier/messages?page_size=1")).await.is(200);
    let id = one.body[0]["id"].as_str().unwrap();
    let message = world.admin(Ask::get(format!("/admin/courier/messages/{id}"))).await.is(200);
    assert_eq!(message.text("/template_type"), "verification_code_valid");
    assert_eq!(message.text("/status"), "queued");
    world.admin(Ask::get("/admin/courier/messages?status=lost")).await.is(400);
    world.admin(Ask::get("/admin/courier/messages?page_token=x")).await.is(400);
}

/// The path and query of a link.
fn path_of(link: &str) -> String {
    link.strip_prefix("http://127.0.0.1:4433").unwrap().to_owned()
}

#[tokio::test]
async fn link_of_an_administrator_lets_its_owner_in_once() {
    let world = World::with_codes();
    let ann = world.create("ann@example.org").await;
    let ask = json!({"identity_id": ann, "expires_in": "1h"});
    let made = world.admin(Ask::post("/admin/recovery/link", &ask)).await.is(200);
    assert_eq!(made.text("/expires_at"), "2027-01-15T09:00:00Z");
    let path = path_of(made.text("/recovery_link"));
    assert!(path.starts_with("/self-service/recovery?flow="), "{path}");
    let page = || Ask::get(&path).header("accept", "text/html");

    let followed = world.public(page()).await.is(303);
    assert!(followed.header("location").contains("/ui/settings?flow="));
    let cookies: Vec<_> =
        followed.headers.get_all("set-cookie").iter().map(|c| c.to_str().unwrap()).collect();
    let session = cookies.iter().find(|cookie| cookie.starts_with("ory_kratos_session="));
    let session = session.unwrap().split(';').next().unwrap();
    assert!(cookies.iter().any(|cookie| cookie.starts_with("csrf_token_")), "{cookies:?}");
    let me = world.public(Ask::get("/sessions/whoami").header("cookie", session)).await.is(200);
    assert_eq!(me.text("/identity/id"), ann);
    assert_eq!(me.text("/authentication_methods/0/method"), "code_recovery");

    // Of another browser, and used.
    world.public(page()).await.is(303);
    let again = world.public(Ask::get(&path).header("accept", "application/json")).await;
    assert_eq!(message(&again.is(400)), 4_060_004);
}

/// N9, N12: a token that was cut or altered lets nobody in, and a flow has five tries.
#[tokio::test]
async fn altered_token_of_a_link_is_refused() {
    let world = World::with_codes();
    let ann = world.create("ann@example.org").await;
    let made =
        world.admin(Ask::post("/admin/recovery/link", &json!({"identity_id": ann}))).await.is(200);
    let path = path_of(made.text("/recovery_link"));
    let cut = path[..path.len() - 1].to_owned();
    let first = world.public(Ask::get(&cut).header("accept", "application/json")).await.is(400);
    assert_eq!(message(&first), 4_060_004);
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    let follow = |path: &str| {
        let ask = Ask::get(path).header("accept", "application/json");
        world.public(ask.header("cookie", cookie.clone()))
    };
    for _ in 0..4 {
        follow(&cut).await.is(400);
    }
    let spent = follow(&path).await;
    assert!(matches!(spent.status.as_u16(), 400 | 429), "{}", spent.status);
    for bad in [
        "/self-service/recovery",
        "/self-service/recovery?flow=x&token=y",
        path.split("&token").next().unwrap(),
    ] {
        let answer = world.public(Ask::get(bad).header("accept", "application/json")).await;
        assert!(matches!(answer.status.as_u16(), 400 | 403 | 404), "{bad}: {}", answer.status);
    }
}

#[tokio::test]
async fn link_is_over_when_it_says_and_is_for_identities_that_are_there() {
    let world = World::with_codes();
    let ann = world.create("ann@example.org").await;
    let post = |body: Value| world.admin(Ask::post("/admin/recovery/link", &body));
    let made = post(json!({"identity_id": ann, "expires_in": "1m"})).await.is(200);
    world.advance(61);
    let path = path_of(made.text("/recovery_link"));
    let late = world.public(Ask::get(&path).header("accept", "application/json")).await;
    assert_eq!(late.status, 410, "{}", late.body);
    post(json!({"identity_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"})).await.is(404);
    post(json!({"identity_id": ann, "expires_in": "soon"})).await.is(400);
    post(json!({})).await.is(404);
    let other = world.of_tenant(2);
    let foreign = other.admin(Ask::post("/admin/recovery/link", &json!({"identity_id": ann})));
    foreign.await.is(404);
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let off = world.admin(Ask::post("/admin/recovery/link", &json!({"identity_id": ann}))).await;
    assert_eq!(
        off.is(400).text("/error/reason"),
        "Recovery is not allowed because it was disabled."
    );
}
