//! Second factors as clients see them: what a session without one is refused, where it is
//! sent, and the nodes by which factors are added and used.

use cardea_identity::{
    factor::totp::{Seed, step_at},
    session::RequiredAal,
    webauthn::{RelyingParty, script},
};
use cardea_storage::Clock as _;

use super::{
    browser::{Browser, action, csrf},
    codes::{code_to, post},
    *,
};

const HTML: &str = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
const JSON: &str = "application/json";

fn cheap() -> Settings {
    let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
    Settings { argon2, ..Settings::default() }
}

fn with_keys() -> Settings {
    let party = RelyingParty {
        id: "localhost".to_owned(),
        name: "Cardea".to_owned(),
        origins: vec!["http://localhost:4433".to_owned()],
    };
    Settings { relying_party: Some(party), ..cheap() }
}

pub(super) fn seed_in(flow: &Answer) -> Seed {
    let node = node(flow, "totp_secret_key");
    let text = node["attributes"]["text"]["text"].as_str().unwrap();
    let value = |c: char| "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".find(c).unwrap();
    let bits: String = text.chars().map(|c| format!("{:05b}", value(c))).collect();
    let byte = |at: usize| u8::from_str_radix(&bits[at * 8..at * 8 + 8], 2).unwrap();
    Seed::from_bytes(&(0..20).map(byte).collect::<Vec<_>>()).unwrap()
}

fn node(flow: &Answer, name: &str) -> Value {
    let nodes = flow.body["ui"]["nodes"].as_array().unwrap();
    let named = |node: &&Value| {
        let attributes = &node["attributes"];
        attributes["name"] == name || attributes["id"] == name
    };
    nodes.iter().find(named).unwrap_or_else(|| panic!("{name} is not there")).clone()
}

impl World {
    pub(super) fn code(&self, seed: &Seed) -> String {
        seed.code(step_at(self.clock.now()))
    }

    /// Somebody with an authenticator app.
    async fn with_totp(&self, email: &str) -> Seed {
        self.create(email).await;
        self.add_totp(email).await
    }

    async fn add_totp(&self, email: &str) -> Seed {
        let (token, _) = self.log_in(email).await;
        let flow = self.public(Ask::get("/self-service/settings/api").token(&token)).await.is(200);
        let seed = seed_in(&flow);
        let body = json!({"method": "totp", "totp_code": self.code(&seed)});
        let done = self.public(Ask::post(action(&flow), &body).token(&token)).await.is(200);
        assert_eq!(done.text("/state"), "success");
        self.advance(30);
        seed
    }
}

#[tokio::test]
async fn native_client_is_told_nothing_of_whose_session_it_is_before_the_second_factor() {
    let world = World::new();
    let seed = world.with_totp("ann@example.org").await;
    let flow = world.flow("login").await;
    let done = world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(200);
    assert_eq!(done.body["session"]["identity"], Value::Null);
    assert_eq!(done.text("/session/authenticator_assurance_level"), "aal1");
    let token = done.text("/session_token").to_owned();
    let refused = world.whoami(&token).await.is(403);
    let step = "http://127.0.0.1:4433/self-service/login/browser?aal=aal2";
    assert_eq!(
        refused.golden(),
        json!({
            "error": {
                "id": "session_aal2_required",
                "code": 403,
                "status": "Forbidden",
                "reason": "An active session was found but it does not fulfil the requested \
                    Authenticator Assurance Level. Please verify yourself with a second factor \
                    to resolve this issue.",
                "message": "Session does not fulfill the requested Authenticator Assurance Level",
                "details": {"redirect_browser_to": step},
            },
            "redirect_browser_to": step,
        })
    );
    for ask in [
        Ask::get("/sessions"),
        Ask::delete("/sessions"),
        Ask::delete("/sessions/6ba7b810-9dad-41d1-80b4-00c04fd430c8"),
        Ask::get("/self-service/settings/api"),
    ] {
        let refused = world.public(ask.token(&token)).await.is(403);
        assert_eq!(refused.text("/error/id"), "session_aal2_required");
    }
    let begin = || Ask::get("/self-service/login/api?aal=aal2");
    let refused = world.public(begin()).await.is(401);
    assert_eq!(refused.text("/error/id"), "session_aal1_required");
    let flow = world.public(begin().token(&token)).await.is(200);
    assert_eq!(flow.text("/requested_aal"), "aal2");
    assert_eq!(flow.body["ui"]["messages"][0]["id"], 1_010_004);
    let code = node(&flow, "totp_code");
    assert_eq!(
        (code["group"].as_str(), &code["meta"]["label"]["id"]),
        (Some("totp"), &json!(1_010_006))
    );
    let body = json!({"method": "totp", "totp_code": world.code(&seed)});
    let bare = world.public(Ask::post(action(&flow), &body)).await.is(401);
    assert_eq!(bare.text("/error/id"), "session_aal1_required");
    let done = world.public(Ask::post(action(&flow), &body).token(&token)).await.is(200);
    assert_eq!(done.text("/session_token"), token, "a native client keeps its token");
    assert_eq!(done.text("/session/identity/traits/email"), "ann@example.org");
    let me = world.whoami(&token).await.is(200);
    assert_eq!(me.text("/authenticator_assurance_level"), "aal2");
    let again = world.public(begin().token(&token)).await.is(400);
    assert_eq!(again.text("/error/id"), "session_already_available");
}

#[tokio::test]
async fn browsers_are_sent_to_the_second_step_and_on_from_there() {
    let world = World::new();
    let seed = world.with_totp("ann@example.org").await;
    let step = "http://127.0.0.1:4433/self-service/login/browser?aal=aal2";
    // A script is told where to send its browser.
    let mut script = Browser::new(&world);
    let flow = script.begin("login", "").await;
    let body = json!({"method": "password", "identifier": "ann@example.org",
        "password": PASSWORD, "csrf_token": csrf(&flow)});
    let told = script.post_json(&action(&flow), &body).await.is(422);
    assert_eq!(told.text("/error/id"), "browser_location_change_required");
    assert_eq!(told.text("/redirect_browser_to"), step);
    script.whoami().await.is(403);
    // A page is sent there, and comes back where it wanted to go.
    let mut page = Browser::new(&world);
    let flow = page.begin("login", "?return_to=/ui/settings").await;
    let token = csrf(&flow);
    let fields = [
        ("method", "password"),
        ("identifier", "ann@example.org"),
        ("password", PASSWORD),
        ("csrf_token", token.as_str()),
    ];
    let sent = page.post_form(&action(&flow), &fields).await.is(303);
    let next = sent.header("location").to_owned();
    assert!(next.starts_with(step) && next.contains("return_to="), "{next}");
    let before = page.cookies.clone();
    let path = next.trim_start_matches("http://127.0.0.1:4433").to_owned();
    let flow = page.get(&path, JSON).await.is(200);
    let (code, token) = (world.code(&seed), csrf(&flow));
    let fields = [("method", "totp"), ("totp_code", code.as_str()), ("csrf_token", token.as_str())];
    let sent = page.post_form(&action(&flow), &fields).await.is(303);
    assert_eq!(sent.header("location"), "http://127.0.0.1:4433/ui/settings");
    page.whoami().await.is(200);
    // The cookie that knew the password alone has not risen with it.
    let mut thief = Browser { world: &world, cookies: before };
    thief.whoami().await.is(401);
    // Settings of a session without it.
    let refused = script.get("/self-service/settings/browser", JSON).await.is(403);
    assert_eq!(refused.text("/error/id"), "session_aal2_required");
    let sent = script.get("/self-service/settings/browser", HTML).await.is(303);
    assert!(sent.header("location").starts_with(step), "{}", sent.header("location"));
}

#[tokio::test]
async fn operators_may_ask_for_one_factor_only() {
    let aal1 = RequiredAal::Aal1;
    let settings = Settings { session_required_aal: aal1, settings_required_aal: aal1, ..cheap() };
    let world = World::with(settings);
    world.with_totp("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    world.whoami(&token).await.is(200);
    world.public(Ask::get("/self-service/settings/api").token(&token)).await.is(200);
}

#[tokio::test]
async fn backup_codes_are_shown_and_kept_by_buttons() {
    let world = World::new();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    let flow = browser.begin("settings", "?return_to=/ui/welcome").await;
    let token = csrf(&flow);
    let fields = [("lookup_secret_regenerate", "true"), ("csrf_token", token.as_str())];
    let shown = browser.post_form(&action(&flow), &fields).await.is(303);
    assert!(shown.header("location").contains("/ui/settings?flow="), "not away: codes are there");
    let uri = format!("/self-service/settings/flows?id={}", flow.text("/id"));
    let read = browser.get(&uri, JSON).await.is(200);
    assert_eq!(read.text("/state"), "show_form");
    let codes = node(&read, "lookup_secret_codes");
    let text = &codes["attributes"]["text"];
    assert_eq!(text["id"], 1_050_015);
    let secrets = text["context"]["secrets"].as_array().unwrap();
    assert_eq!((secrets.len(), &secrets[0]["id"]), (12, &json!(1_050_009)));
    assert_eq!(node(&read, "lookup_secret_confirm")["meta"]["label"]["id"], 1_050_011);
    let fields = [("lookup_secret_confirm", "true"), ("csrf_token", token.as_str())];
    let kept = browser.post_form(&action(&flow), &fields).await.is(303);
    assert_eq!(kept.header("location"), "http://127.0.0.1:4433/ui/welcome");
    let me = browser.whoami().await.is(200);
    assert_eq!(me.text("/authenticator_assurance_level"), "aal2");
    let odd = json!({"lookup_secret_disable": 7, "csrf_token": token});
    browser.post_json(&action(&flow), &odd).await.is(400);
}

#[tokio::test]
async fn forms_of_keys_name_the_script_and_its_functions() {
    let world = World::with(with_keys());
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let login = browser.begin("login", "").await;
    let identifier = node(&login, "identifier");
    assert_eq!(identifier["attributes"]["autocomplete"], "username webauthn");
    let trigger = &node(&login, "passkey_login_trigger")["attributes"];
    assert_eq!(trigger["type"], "button");
    assert_eq!(trigger["onclick"], "window.oryPasskeyLogin()");
    assert_eq!(trigger["onclickTrigger"], "oryPasskeyLogin");
    let answer = &node(&login, "passkey_login")["attributes"];
    assert_eq!(answer["onload"], "window.oryPasskeyLoginAutocompleteInit()");
    assert_eq!(answer["onloadTrigger"], "oryPasskeyLoginAutocompleteInit");
    let named = node(&login, "webauthn_script");
    assert_eq!(
        named,
        json!({"type": "script", "group": "webauthn", "messages": [], "meta": {}, "attributes": {
            "src": "http://127.0.0.1:4433/.well-known/ory/webauthn.js",
            "async": true,
            "referrerpolicy": "no-referrer",
            "crossorigin": "anonymous",
            "integrity": script::integrity(),
            "type": "text/javascript",
            "id": "webauthn_script",
            "nonce": "",
            "node_type": "script",
        }})
    );
    let served = world.public(Ask::get("/.well-known/ory/webauthn.js")).await.is(200);
    assert_eq!(served.header("content-type"), "text/javascript; charset=utf-8");
    assert_eq!(served.header("access-control-allow-origin"), "*");
    assert_eq!(served.body, script::TEXT);

    let sign_up = browser.begin("registration", "").await;
    let trigger = &node(&sign_up, "passkey_register_trigger")["attributes"];
    assert_eq!(trigger["onclickTrigger"], "oryPasskeyRegistration");
    browser.log_in("ann@example.org").await;
    let flow = browser.begin("settings", "").await;
    let trigger = &node(&flow, "passkey_register_trigger")["attributes"];
    assert_eq!(trigger["onclickTrigger"], "oryPasskeySettingsRegistration");
    let trigger = &node(&flow, "webauthn_register_trigger")["attributes"];
    assert_eq!(trigger["onclickTrigger"], "oryWebAuthnRegistration");
    let options = trigger["value"].as_str().unwrap();
    assert_eq!(trigger["onclick"], format!("window.oryWebAuthnRegistration({options})"));
    // Native clients have no browser that could.
    let native = world.flow("login").await;
    let native = world.public(Ask::get(format!("/self-service/login/flows?id={native}"))).await;
    assert!(!native.body.to_string().contains("passkey"), "{}", native.body);
    // What a script never filled in is not there.
    let body = json!({"method": "password", "identifier": "ann@example.org", "password": "no",
        "passkey_login": "", "csrf_token": csrf(&login)});
    let refused = Browser::new(&world).post_json(&action(&login), &body).await;
    assert_eq!(refused.status, 403, "another browser's");
}

#[tokio::test]
async fn pages_load_one_script_and_only_where_they_need_it() {
    let world = World::with(with_keys());
    let mut browser = Browser::new(&world);
    for (purpose, scripted) in [("login", true), ("registration", true), ("welcome", false)] {
        let uri = if purpose == "welcome" {
            "/ui/welcome".to_owned()
        } else {
            let sent = browser.get(&format!("/self-service/{purpose}/browser"), HTML).await.is(303);
            sent.header("location").trim_start_matches("http://127.0.0.1:4433").to_owned()
        };
        let page = browser.get(&uri, HTML).await.is(200);
        let policy = page.header("content-security-policy");
        let allowed = "script-src http://127.0.0.1:4433/.well-known/ory/webauthn.js; ";
        assert_eq!(policy.contains(allowed), scripted, "{purpose}: {policy}");
        assert!(policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"));
        let body = page.body.as_str().unwrap();
        assert_eq!(body.matches("<script").count(), usize::from(scripted), "{purpose}");
        assert!(!body.contains("onclick=") && !body.contains("onload="), "{purpose}");
        assert_eq!(body.contains(script::integrity()), scripted);
    }
}

#[tokio::test]
async fn second_step_has_a_page_of_its_own() {
    let world = World::new();
    world.with_totp("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("login", "").await;
    let body = json!({"method": "password", "identifier": "ann@example.org",
        "password": PASSWORD, "csrf_token": csrf(&flow)});
    browser.post_json(&action(&flow), &body).await.is(422);
    let sent = browser.get("/self-service/login/browser?aal=aal2", HTML).await.is(303);
    let uri = sent.header("location").trim_start_matches("http://127.0.0.1:4433").to_owned();
    let page = browser.get(&uri, HTML).await.is(200);
    let text = page.body.as_str().unwrap();
    for part in
        ["Confirm that it is you", "name=\"totp_code\"", "one-time-code", "/self-service/logout"]
    {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains("name=\"password\"") && !text.contains("ann@example.org"));
    let welcome = browser.get("/ui/welcome", HTML).await.is(303);
    assert!(welcome.header("location").contains("aal=aal2"));
}

/// Gets back in by a mailed code, and gives the session's token.
async fn recovered(world: &World, email: &str) -> String {
    let flow = world.flow("recovery").await;
    post(world, "recovery", &flow, &json!({"method": "code", "email": email})).await.is(200);
    let right = json!({"method": "code", "code": code_to(world, email).await});
    let done = post(world, "recovery", &flow, &right).await.is(200);
    done.text("/continue_with/0/ory_session_token").to_owned()
}

#[tokio::test]
async fn recovery_is_one_factor_and_neither_shows_nor_changes_a_second_one() {
    let world = World::with_codes();
    let mut body = new_identity("ann@example.org");
    body["verifiable_addresses"] =
        json!([{"value": "ann@example.org", "verified": true, "via": "email"}]);
    world.admin(Ask::post("/admin/identities", &body)).await.is(201);
    let seed = world.add_totp("ann@example.org").await;
    let token = recovered(&world, "ann@example.org").await;
    world.whoami(&token).await.is(403);
    let settings = Ask::get("/self-service/settings/api").token(&token);
    assert_eq!(world.public(settings).await.is(403).text("/error/id"), "session_aal2_required");
    let flow = world.public(Ask::get("/self-service/login/api?aal=aal2").token(&token)).await;
    let flow = flow.is(200);
    let body = json!({"method": "totp", "totp_code": world.code(&seed)});
    world.public(Ask::post(action(&flow), &body).token(&token)).await.is(200);
    let me = world.whoami(&token).await.is(200);
    assert_eq!(me.text("/authenticator_assurance_level"), "aal2");
}

/// Whoever put an address there before its owner moved in has put factors there, too.
#[tokio::test]
async fn recovery_by_an_address_that_was_never_verified_forgets_all_factors() {
    let world = World::with_codes();
    world.with_totp("ann@example.org").await;
    let token = recovered(&world, "ann@example.org").await;
    let me = world.whoami(&token).await.is(200);
    assert_eq!(me.text("/authenticator_assurance_level"), "aal1");
    let flow = world.public(Ask::get("/self-service/login/api?aal=aal2").token(&token)).await;
    flow.is(400);
    let flow = world.flow("login").await;
    world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(400);
}
