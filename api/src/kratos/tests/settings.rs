//! Settings: what changes how one logs in is asked of a fresh session only, and ends
//! the other ones.

use super::{
    browser::{Browser, action, csrf, flow_in},
    *,
};

const OTHER: &str = "an even better horse";

fn password(flow: &Answer) -> Value {
    json!({"method": "password", "password": OTHER, "csrf_token": csrf(flow)})
}

fn profile(flow: &Answer, email: &str, first: &str) -> Value {
    json!({"method": "profile", "csrf_token": csrf(flow),
        "traits": {"email": email, "name": {"first": first}}})
}

#[tokio::test]
async fn new_password_ends_the_other_sessions_and_keeps_this_one() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (mut browser, mut other) = (Browser::new(&world), Browser::new(&world));
    browser.log_in("ann@example.org").await;
    other.log_in("ann@example.org").await;
    let (native, _) = world.log_in("ann@example.org").await;
    let flow = browser.begin("settings", "").await;
    assert_eq!(flow.text("/state"), "show_form");
    assert_eq!(flow.text("/identity/traits/email"), "ann@example.org");
    let names: Vec<_> = flow.body["ui"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|n| format!("{} {}", n["group"], n["attributes"]["name"]).replace('"', ""))
        .collect();
    assert_eq!(
        names,
        [
            "default csrf_token",
            "profile traits.email",
            "profile traits.name.first",
            "profile traits.name.last",
            "profile method",
            "password password",
            "password method",
            // A picture and a text have no name.
            "totp null",
            "totp null",
            "totp totp_code",
            "totp method",
            "lookup_secret lookup_secret_regenerate",
        ]
    );
    let done = browser.post_json(&action(&flow), &password(&flow)).await.is(200);
    assert_eq!(done.text("/state"), "success");
    assert_eq!(done.body["ui"]["messages"][0]["id"], 1_050_001);
    browser.whoami().await.is(200);
    other.whoami().await.is(401);
    world.whoami(&native).await.is(401);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(400);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.org", OTHER).await.is(200);
}

#[tokio::test]
async fn what_changes_how_one_logs_in_needs_a_fresh_session() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    world.advance(3600 + 1);
    let flow = browser.begin("settings", "").await;
    for body in [password(&flow), profile(&flow, "ann@example.net", "Ann")] {
        let refused = browser.post_json(&action(&flow), &body).await.is(403);
        assert_eq!(refused.text("/error/id"), "session_refresh_required");
        let again = refused.text("/redirect_browser_to");
        assert!(again.contains("/self-service/login/browser?refresh=true&return_to="), "{again}");
    }
    let me = browser.whoami().await.is(200);
    assert_eq!(me.text("/identity/traits/email"), "ann@example.org");
    // A name is no way to log in.
    let body = profile(&flow, "ann@example.org", "Anna");
    let done = browser.post_json(&action(&flow), &body).await.is(200);
    assert_eq!(done.text("/identity/traits/name/first"), "Anna");
    // Having proved it again, it may.
    let login = browser.begin("login", "?refresh=true").await;
    let body = json!({"method": "password", "identifier": "ann@example.org",
        "password": PASSWORD, "csrf_token": csrf(&login)});
    browser.post_json(&action(&login), &body).await.is(200);
    let body = profile(&flow, "ann@example.net", "Anna");
    browser.post_json(&action(&flow), &body).await.is(200);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.net", PASSWORD).await.is(200);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(400);
}

#[tokio::test]
async fn what_is_wrong_is_told_in_the_form() {
    let world = World::new();
    world.create("ann@example.org").await;
    world.create("eve@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    let flow = browser.begin("settings", "").await;
    let node = |answer: &Answer, name: &str| -> Value {
        let nodes = answer.body["ui"]["nodes"].as_array().unwrap();
        nodes.iter().find(|n| n["attributes"]["name"] == name).unwrap()["messages"][0]["id"].clone()
    };
    let send = json!({"method": "password", "password": "short", "csrf_token": csrf(&flow)});
    let told = browser.post_json(&action(&flow), &send).await.is(400);
    assert_eq!(node(&told, "password"), 4_000_032);
    let send = json!({"method": "password", "csrf_token": csrf(&flow)});
    let told = browser.post_json(&action(&flow), &send).await.is(400);
    assert_eq!(node(&told, "password"), 4_000_002);
    let told =
        browser.post_json(&action(&flow), &profile(&flow, "no address", "Ann")).await.is(400);
    assert_eq!(node(&told, "traits.email"), 4_000_040);
    let body = profile(&flow, "eve@example.org", "Ann");
    let told = browser.post_json(&action(&flow), &body).await.is(400);
    assert_eq!(told.body["ui"]["messages"][0]["id"], 4_000_007);
    let send = json!({"method": "totp", "csrf_token": csrf(&flow)});
    let told = browser.post_json(&action(&flow), &send).await.is(400);
    assert_eq!(node(&told, "totp_code"), 4_000_002);
    let send = json!({"method": "saml", "csrf_token": csrf(&flow)});
    let told = browser.post_json(&action(&flow), &send).await.is(400);
    assert_eq!(told.body["ui"]["messages"][0]["id"], 4_010_004);
}

#[tokio::test]
async fn settings_are_those_of_their_identity_alone() {
    let world = World::new();
    world.create("ann@example.org").await;
    world.create("eve@example.org").await;
    let (ann, _) = world.log_in("ann@example.org").await;
    let (eve, _) = world.log_in("eve@example.org").await;
    let flow = world.public(Ask::get("/self-service/settings/api").token(&ann)).await.is(200);
    let id = flow.text("/id");
    let body = json!({"method": "password", "password": OTHER});
    let get = || Ask::get(format!("/self-service/settings/flows?id={id}"));
    let post = || Ask::post(format!("/self-service/settings?flow={id}"), &body);
    for ask in [get(), post()] {
        let refused = world.public(ask.token(&eve)).await.is(403);
        assert_eq!(refused.text("/error/id"), "security_identity_mismatch");
    }
    for ask in [get(), post(), Ask::get("/self-service/settings/api")] {
        let refused = world.public(ask).await.is(401);
        assert_eq!(refused.text("/error/id"), "session_inactive");
    }
    world.public(get().token(&ann)).await.is(200);
    world.public(post().token(&ann)).await.is(200);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "eve@example.org", PASSWORD).await.is(200);
}

#[tokio::test]
async fn page_without_a_session_is_sent_to_log_in_and_comes_back() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let html = "text/html";
    let sent = browser.get("/self-service/settings/browser", html).await.is(303);
    let login = sent.header("location").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    let sent = browser.get(&login, html).await.is(303);
    let id = flow_in(sent.header("location")).to_owned();
    let uri = format!("/self-service/login/flows?id={id}");
    let flow = browser.get(&uri, "application/json").await.is(200);
    let token = csrf(&flow);
    let fields = [
        ("csrf_token", token.as_str()),
        ("method", "password"),
        ("identifier", "ann@example.org"),
        ("password", PASSWORD),
    ];
    let done = browser.post_form(&action(&flow), &fields).await.is(303);
    assert_eq!(done.header("location"), "http://127.0.0.1:4433/self-service/settings/browser");
    let page = browser.get("/self-service/settings/browser", html).await.is(303);
    assert!(page.header("location").starts_with("http://127.0.0.1:4433/ui/settings?flow="));
    // Saving shows the same page again, with the news.
    let id = flow_in(page.header("location")).to_owned();
    let uri = format!("/self-service/settings/flows?id={id}");
    let flow = browser.get(&uri, "application/json").await.is(200);
    let token = csrf(&flow);
    let fields = [
        ("csrf_token", token.as_str()),
        ("method", "profile"),
        ("traits.email", "ann@example.org"),
        ("traits.name.first", "Anna"),
    ];
    let saved = browser.post_form(&action(&flow), &fields).await.is(303);
    assert_eq!(flow_in(saved.header("location")), id);
    let flow = browser.get(&uri, "application/json").await.is(200);
    assert_eq!(flow.text("/state"), "success");
    assert_eq!(flow.body["ui"]["messages"][0]["id"], 1_050_001);
    assert_eq!(flow.text("/identity/traits/name/first"), "Anna");
}
