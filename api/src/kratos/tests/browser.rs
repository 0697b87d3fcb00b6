//! Flows of browsers: cookies, anti-forgery tokens, redirects, and the same by scripts.

use std::collections::BTreeMap;

use super::*;
use crate::kratos::options::{CookieOptions, SameSite};

const FORM: &str = "application/x-www-form-urlencoded";
const HTML: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
const JSON: &str = "application/json";

/// A browser: it keeps cookies, and sends what a page has it send.
pub(super) struct Browser<'a> {
    pub(super) world: &'a World,
    pub(super) cookies: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self { world, cookies: BTreeMap::new() }
    }

    pub(super) async fn send(&mut self, ask: Ask) -> Answer {
        let jar: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let ask = if jar.is_empty() { ask } else { ask.header("cookie", jar.join("; ")) };
        let answer = self.world.public(ask).await;
        for line in answer.headers.get_all("set-cookie") {
            let (pair, attributes) = line.to_str().unwrap().split_once(';').unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            if attributes.contains("Max-Age=0;") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    pub(super) async fn get(&mut self, uri: &str, accept: &str) -> Answer {
        self.send(Ask::get(uri).header("accept", accept)).await
    }

    pub(super) async fn post_form(&mut self, uri: &str, fields: &[(&str, &str)]) -> Answer {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(fields);
        let ask = Ask::new(Method::POST, uri).text(FORM, body.finish());
        self.send(ask.header("accept", HTML)).await
    }

    pub(super) async fn post_json(&mut self, uri: &str, body: &Value) -> Answer {
        self.send(Ask::post(uri, body).header("accept", JSON)).await
    }

    /// Begins a flow, as a script does.
    pub(super) async fn begin(&mut self, purpose: &str, query: &str) -> Answer {
        self.get(&format!("/self-service/{purpose}/browser{query}"), JSON).await.is(200)
    }

    pub(super) async fn log_in(&mut self, email: &str) -> Answer {
        let flow = self.begin("login", "").await;
        let body = json!({"method": "password", "identifier": email, "password": PASSWORD,
            "csrf_token": csrf(&flow)});
        self.post_json(&action(&flow), &body).await.is(200)
    }

    pub(super) async fn whoami(&mut self) -> Answer {
        self.get("/sessions/whoami", JSON).await
    }

    pub(super) fn session(&self) -> Option<&String> {
        self.cookies.get("ory_kratos_session")
    }
}

/// The path and query that a form is sent to.
pub(super) fn action(flow: &Answer) -> String {
    flow.text("/ui/action").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned()
}

pub(super) fn csrf(flow: &Answer) -> String {
    let nodes = flow.body["ui"]["nodes"].as_array().unwrap();
    let node = nodes.iter().find(|n| n["attributes"]["name"] == "csrf_token").unwrap();
    node["attributes"]["value"].as_str().unwrap().to_owned()
}

/// The flow that a page is asked to show.
pub(super) fn flow_in(location: &str) -> &str {
    location.split_once("flow=").unwrap().1
}

#[tokio::test]
async fn page_signs_up_logs_out_and_logs_in() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let begun = browser.get("/self-service/registration/browser", HTML).await.is(303);
    let location = begun.header("location");
    assert!(location.starts_with("http://127.0.0.1:4433/ui/registration?flow="), "{location}");
    let id = flow_in(location).to_owned();
    let flow =
        browser.get(&format!("/self-service/registration/flows?id={id}"), JSON).await.is(200);
    assert_eq!(flow.text("/type"), "browser");
    let fields = [
        ("csrf_token", csrf(&flow)),
        ("method", "password".to_owned()),
        ("traits.email", "ann@example.org".to_owned()),
        ("password", PASSWORD.to_owned()),
    ];
    let fields: Vec<_> = fields.iter().map(|(n, v)| (*n, v.as_str())).collect();
    let done = browser.post_form(&action(&flow), &fields).await.is(303);
    assert_eq!(done.header("location"), "http://127.0.0.1:4433/ui/welcome");
    let me = browser.whoami().await.is(200);
    assert_eq!(me.text("/identity/traits/email"), "ann@example.org");

    let logout = browser.get("/self-service/logout/browser", JSON).await.is(200);
    let url = logout.text("/logout_url").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    let gone = browser.get(&url, HTML).await.is(303);
    assert_eq!(gone.header("location"), "http://127.0.0.1:4433/ui/welcome");
    assert_eq!(browser.session(), None);
    browser.whoami().await.is(401);
    browser.get("/self-service/logout/browser", JSON).await.is(401);

    let place = browser.get("/self-service/login/browser", HTML).await.is(303);
    let id = flow_in(place.header("location")).to_owned();
    let flow = browser.get(&format!("/self-service/login/flows?id={id}"), JSON).await.is(200);
    let token = csrf(&flow);
    let fields = [
        ("csrf_token", token.as_str()),
        ("method", "password"),
        ("identifier", "ann@example.org"),
        ("password", PASSWORD),
    ];
    browser.post_form(&action(&flow), &fields).await.is(303);
    browser.whoami().await.is(200);
}

#[tokio::test]
async fn script_gets_json_and_cookies_and_never_a_token() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let flow = browser.begin("registration", "").await;
    let body = json!({"method": "password", "traits": traits("ann@example.org"),
        "password": PASSWORD, "csrf_token": csrf(&flow)});
    let done = browser.post_json(&action(&flow), &body).await.is(200);
    assert_eq!(done.body.get("session_token"), None);
    let go = json!([{"action": "redirect_browser_to",
        "redirect_browser_to": "http://127.0.0.1:4433/ui/welcome"}]);
    assert_eq!(done.body["continue_with"], go);
    browser.whoami().await.is(200);
    assert!(!done.body.to_string().contains("ory_st_"));

    let mut other = Browser::new(&world);
    let done = other.log_in("ann@example.org").await;
    assert_eq!(done.body["continue_with"], go);
    assert!(!done.body.to_string().contains("ory_st_"));
    let logout = other.get("/self-service/logout/browser", JSON).await.is(200);
    let url = format!("/self-service/logout?token={}", logout.text("/logout_token"));
    other.get(&url, JSON).await.is(204);
    other.whoami().await.is(401);
    browser.whoami().await.is(200);
}

/// A link that another site has of its own logs nobody else out.
#[tokio::test]
async fn links_of_other_sessions_do_not_log_a_browser_out() {
    let world = World::new();
    world.create("ann@example.org").await;
    world.create("eve@example.org").await;
    let (mut ann, mut eve) = (Browser::new(&world), Browser::new(&world));
    ann.log_in("ann@example.org").await;
    eve.log_in("eve@example.org").await;
    let link = eve.get("/self-service/logout/browser", JSON).await.is(200);
    let link = format!("/self-service/logout?token={}", link.text("/logout_token"));
    let refused = ann.get(&link, JSON).await.is(403);
    assert_eq!(refused.text("/error/id"), "security_csrf_violation");
    ann.get(&link, HTML).await.is(303);
    ann.whoami().await.is(200);
    eve.whoami().await.is(200);
    // Where nobody is logged in, it is followed: a browser may have lost its cookie.
    Browser::new(&world).get(&link, JSON).await.is(204);
    eve.whoami().await.is(401);
    ann.whoami().await.is(200);
}

/// Login CSRF and its kin: a form counts only from the browser whose flow it is.
#[tokio::test]
async fn forms_of_other_sites_and_other_browsers_are_refused() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (mut mine, mut other) = (Browser::new(&world), Browser::new(&world));
    for purpose in ["login", "registration"] {
        let flow = mine.begin(purpose, "").await;
        let theirs = other.begin(purpose, "").await;
        let body = |token: &str| {
            json!({"method": "password", "identifier": "ann@example.org", "password": PASSWORD,
                "traits": traits("eve@example.org"), "csrf_token": token})
        };
        for token in ["", "x", &csrf(&theirs)] {
            let refused = mine.post_json(&action(&flow), &body(token)).await.is(403);
            assert_eq!(refused.text("/error/id"), "security_csrf_violation");
        }
        let refused = other.post_json(&action(&flow), &body(&csrf(&theirs))).await.is(403);
        assert_eq!(refused.text("/error/id"), "security_csrf_violation");
        world.public(Ask::post(action(&flow), &body(&csrf(&flow)))).await.is(403);
        let uri = format!("/self-service/{purpose}/flows?id={}", flow.text("/id"));
        other.get(&uri, JSON).await.is(403);
        world.public(Ask::get(&uri)).await.is(403);
        mine.get(&uri, JSON).await.is(200);
        // A page is sent to where the error is shown.
        let refused = mine.post_form(&action(&flow), &[("method", "password")]).await.is(303);
        let place = refused.header("location").to_owned();
        let (page, id) = place.split_once("?id=").unwrap();
        assert_eq!(page, "http://127.0.0.1:4433/ui/error");
        let shown = mine.get(&format!("/self-service/errors?id={id}"), JSON).await.is(200);
        assert_eq!(shown.text("/error/id"), "security_csrf_violation");
        assert_eq!(shown.body["error"]["code"], 403);
        assert_eq!((mine.session(), other.session()), (None, None));
        let mut with_header = Ask::post(action(&flow), &body("")).header("accept", JSON);
        with_header = with_header.header("x-csrf-token", csrf(&flow));
        mine.send(with_header).await.is(200);
        mine.cookies.remove("ory_kratos_session");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_pages_form_is_shown_by_the_flow() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("login", "").await;
    let token = csrf(&flow);
    let wrong = [
        ("csrf_token", token.as_str()),
        ("method", "password"),
        ("identifier", "ann@example.org"),
        ("password", "another password"),
    ];
    let refused = browser.post_form(&action(&flow), &wrong).await.is(303);
    let id = flow_in(refused.header("location")).to_owned();
    assert_eq!(id, flow.text("/id"));
    let uri = format!("/self-service/login/flows?id={id}");
    let shown = browser.get(&uri, JSON).await.is(200);
    assert_eq!(shown.body["ui"]["messages"][0]["id"], 4_000_006);
    assert_eq!(shown.text("/active"), "password");
    assert!(!shown.body.to_string().contains("another password"));
    let identifier = &shown.body["ui"]["nodes"][1]["attributes"];
    assert_eq!(identifier["value"], "ann@example.org");
    // A second attempt starts from a clean form.
    let again = [("csrf_token", token.as_str()), ("method", "password"), ("identifier", "ann")];
    browser.post_form(&action(&flow), &again).await.is(303);
    let shown = browser.get(&uri, JSON).await.is(200);
    assert_eq!(shown.body["ui"].get("messages"), None);
    // Whoever guesses on is told in the form when to come back.
    let mut told = Value::Null;
    for _ in 0..8 {
        browser.post_form(&action(&flow), &wrong).await.is(303);
        told = browser.get(&uri, JSON).await.is(200).body["ui"]["messages"][0]["id"].clone();
        if told == 4_000_001 {
            break;
        }
    }
    assert_eq!(told, 4_000_001);
}

#[tokio::test]
async fn expired_flow_of_a_page_leads_to_its_successor() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("login", "").await;
    world.advance(3600 + 1);
    let token = csrf(&flow);
    let fields = [
        ("csrf_token", token.as_str()),
        ("method", "password"),
        ("identifier", "ann@example.org"),
        ("password", PASSWORD),
    ];
    let sent = browser.post_form(&action(&flow), &fields).await.is(303);
    let next = flow_in(sent.header("location")).to_owned();
    assert_ne!(next, flow.text("/id"));
    let shown = browser.get(&format!("/self-service/login/flows?id={next}"), JSON).await.is(200);
    assert_eq!(shown.body["ui"]["messages"][0]["id"], 4_010_001);
    browser.post_form(&action(&shown), &fields).await.is(303);
    browser.whoami().await.is(200);
    let over = format!("/self-service/login/flows?id={}", flow.text("/id"));
    let gone = browser.get(&over, JSON).await.is(410);
    assert_eq!(
        gone.text("/error/details/redirect_to"),
        "http://127.0.0.1:4433/self-service/login/browser"
    );
}

#[tokio::test]
async fn who_is_logged_in_is_sent_on_or_told() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    for purpose in ["login", "registration"] {
        let uri = format!("/self-service/{purpose}/browser?return_to=/ui/settings");
        let sent_on = browser.get(&uri, HTML).await.is(303);
        assert_eq!(sent_on.header("location"), "http://127.0.0.1:4433/ui/settings");
        let told = browser.get(&uri, JSON).await.is(400);
        assert_eq!(told.text("/error/id"), "session_already_available");
    }
}

/// N14: who knew the token before (session fixation) does not rise with the session.
#[tokio::test]
async fn refreshing_keeps_the_session_and_changes_its_token() {
    let world = World::new();
    world.create("ann@example.org").await;
    world.create("eve@example.org").await;
    let mut browser = Browser::new(&world);
    let first = browser.log_in("ann@example.org").await;
    let old = browser.session().unwrap().clone();
    world.advance(600);
    let flow = browser.begin("login", "?refresh=true").await;
    assert_eq!(flow.body["refresh"], true);
    let body = |email: &str| {
        json!({"method": "password", "identifier": email, "password": PASSWORD,
            "csrf_token": csrf(&flow)})
    };
    let mismatch = browser.post_json(&action(&flow), &body("eve@example.org")).await.is(400);
    assert_eq!(mismatch.text("/error/id"), "security_identity_mismatch");
    let done = browser.post_json(&action(&flow), &body("ann@example.org")).await.is(200);
    assert_eq!(done.text("/session/id"), first.text("/session/id"));
    assert_ne!(done.text("/session/authenticated_at"), first.text("/session/authenticated_at"));
    assert_eq!(done.body["session"]["authentication_methods"].as_array().unwrap().len(), 1);
    browser.whoami().await.is(200);
    let mut stale = Browser::new(&world);
    stale.cookies.insert("ory_kratos_session".to_owned(), old);
    stale.whoami().await.is(401);
    // The token to log out belongs to the new one.
    let logout = browser.get("/self-service/logout/browser", JSON).await.is(200);
    browser
        .get(&format!("/self-service/logout?token={}", logout.text("/logout_token")), JSON)
        .await
        .is(204);
    browser.whoami().await.is(401);
}

#[tokio::test]
async fn native_refresh_keeps_the_token() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let flow = world.public(Ask::get("/self-service/login/api?refresh=true").token(&token)).await;
    let uri = format!("/self-service/login?flow={}", flow.is(200).text("/id"));
    let body = json!({"method": "password", "identifier": "ann@example.org", "password": PASSWORD});
    let done = world.public(Ask::post(uri, &body).token(&token)).await.is(200);
    assert_eq!(done.text("/session_token"), token);
    assert_eq!(done.text("/session/id"), session);
}

#[tokio::test]
async fn places_that_are_not_listed_are_refused_before_a_flow_begins() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    for (uri, accept) in [
        ("/self-service/login/browser?return_to=https://evil.example/", JSON),
        ("/self-service/registration/browser?return_to=//evil.example/", JSON),
        ("/self-service/login/api?return_to=https://evil.example/", JSON),
        ("/self-service/logout?token=x&return_to=https://evil.example/", JSON),
    ] {
        let refused = browser.get(uri, accept).await.is(400);
        assert_eq!(refused.text("/error/id"), "self_service_flow_return_to_forbidden", "{uri}");
    }
    let uri = "/self-service/login/browser?return_to=https://evil.example/";
    let refused = browser.get(uri, HTML).await.is(303);
    assert!(refused.header("location").starts_with("http://127.0.0.1:4433/ui/error?id="));
}

#[tokio::test]
async fn cookies_are_set_as_configured() {
    let mut options = Options::new("http://127.0.0.1:4433");
    options.cookies = CookieOptions {
        name: "sid".to_owned(),
        domain: Some("example.org".to_owned()),
        same_site: SameSite::Strict,
        secure: true,
        persistent: false,
    };
    let world = World::with_options(options);
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let done = browser.log_in("ann@example.org").await;
    let cookies: Vec<_> =
        done.headers.get_all("set-cookie").iter().map(|v| v.to_str().unwrap()).collect();
    let session = cookies.iter().find(|line| line.starts_with("sid=")).unwrap();
    let attributes = session.split_once(';').unwrap().1;
    assert_eq!(attributes, " Path=/; Domain=example.org; HttpOnly; Secure; SameSite=Strict");
    browser.whoami().await.is(200);

    let world = World::new();
    world.create("ann@example.org").await;
    let done = Browser::new(&world).log_in("ann@example.org").await;
    let session = done.headers.get("set-cookie").unwrap().to_str().unwrap();
    let attributes = session.split_once(';').unwrap().1;
    assert_eq!(attributes, " Path=/; Max-Age=86400; HttpOnly; Secure; SameSite=Lax");
}

#[tokio::test]
async fn cookie_is_set_anew_where_the_session_was_extended() {
    let mut options = Options::new("http://127.0.0.1:4433");
    options.session_cache = Duration::from_secs(60);
    let world = World::with_options(options);
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let done = browser.log_in("ann@example.org").await;
    let quiet = browser.whoami().await.is(200);
    assert!(quiet.headers.get("set-cookie").is_none());
    assert_eq!(quiet.header("ory-session-cache-for"), "60");
    world.advance(3600);
    let uri = format!("/admin/sessions/{}/extend", done.text("/session/id"));
    world.admin(Ask::new(Method::PATCH, uri)).await.is(200);
    let told = browser.whoami().await.is(200);
    assert!(told.header("set-cookie").contains("Max-Age=86400"));
    assert!(browser.whoami().await.is(200).headers.get("set-cookie").is_none());
}

#[tokio::test]
async fn logout_takes_a_token_that_can_do_nothing_else() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    let logout = browser.get("/self-service/logout/browser", JSON).await.is(200);
    let token = logout.text("/logout_token").to_owned();
    assert!(token.starts_with("ory_lo_"));
    world.public(Ask::get("/sessions/whoami").token(&token)).await.is(401);
    for wrong in ["", "x", "ory_lo_x"] {
        browser.get(&format!("/self-service/logout?token={wrong}"), JSON).await.is(403);
    }
    browser.whoami().await.is(200);
    // The cookie need not come along: the token says whose session it is.
    let done = world.public(Ask::get(format!("/self-service/logout?token={token}"))).await.is(303);
    assert!(done.header("set-cookie").contains("Max-Age=0"));
    browser.whoami().await.is(401);
}
