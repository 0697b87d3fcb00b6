//! Trying a provider: by an administrator's browser, and by nobody else's.

use cardea_identity::{
    outbound::{Outbound, Question, Reply, Unanswered},
    social::Providers,
};

use super::{
    browser::{Browser, action, csrf, flow_in},
    outside::{cheap, provider},
    *,
};

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const CREATE: &str = "/admin/test-login-flows";
const TRIED: &str = "ory_kratos_test_flow";

/// A provider whose people have strange names.
struct Strange;

#[async_trait]
impl Outbound for Strange {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let said = if question.url.contains("/oauth2/token") {
            json!({"access_token": "hunter2"})
        } else {
            json!({"id": "ann", "email": "ann@example.org", "verified": true,
                "username": "</pre><script>alert(1)</script>"})
        };
        Ok(Reply { status: 200, body: said.to_string().into() })
    }
}

fn world() -> World {
    let providers = Providers::new(vec![provider()]);
    World::reaching(Settings { providers, ..cheap() }, Arc::new(Strange))
}

impl World {
    async fn try_provider(&self) -> Answer {
        let made = self.admin(Ask::post(CREATE, &json!({"provider_id": "discord"}))).await;
        made.is(201)
    }
}

fn read(id: &str) -> String {
    format!("/self-service/login/flows?id={id}")
}

fn delete(id: &str) -> Ask {
    Ask::delete(format!("/self-service/login/test?id={id}"))
}

/// Sends the form by its secret, and comes back; gives where that leads.
async fn goes_through(browser: &mut Browser<'_>, flow: &Answer) -> String {
    let fields = [("csrf_token", csrf(flow)), ("provider", "discord".to_owned())];
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let away = browser.post_form(&action(flow), &fields).await.is(303);
    let place = away.header("location").to_owned();
    assert!(place.starts_with("https://discord.com/"), "{place}");
    let state = place.split_once("state=").unwrap().1.split('&').next().unwrap().to_owned();
    let back = format!("/self-service/methods/oidc/callback/discord?code=c&state={state}");
    let back = browser.get(&back, HTML).await.is(303);
    let cookie = back.headers.get_all("set-cookie").iter().find_map(|line| {
        let line = line.to_str().unwrap();
        line.starts_with(TRIED).then(|| line.to_owned())
    });
    let cookie = cookie.unwrap();
    for attribute in ["; HttpOnly", "; Secure", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(attribute), "{cookie}");
    }
    back.header("location").to_owned()
}

#[tokio::test]
async fn provider_is_tried_in_one_browser_and_shown_in_that_alone() {
    let world = world();
    let flow = world.try_provider().await;
    let id = flow.text("/id").to_owned();
    assert_eq!(flow.body["test_context"], json!({"provider_id": "discord"}));
    assert_eq!((flow.text("/type"), flow.text("/state")), ("browser", "choose_method"));
    let names: Vec<_> = flow.body["ui"]["nodes"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(names[1]["attributes"]["value"], "discord");
    let mut browser = Browser::new(&world);
    let place = goes_through(&mut browser, &flow).await;
    assert_eq!(flow_in(&place), id);

    let told = browser.get(&read(&id), JSON).await.is(200);
    assert_eq!(told.text("/state"), "passed_challenge");
    let payload = &told.body["test_context"]["debug_payload"];
    assert_eq!(payload["userinfo"]["id"], "ann", "{payload:#}");
    let traits = json!({"email": "ann@example.org"});
    assert_eq!(payload["jsonnet_output"]["identity"]["traits"], traits);
    assert_eq!(payload.get("error"), None, "{payload:#}");
    assert!(!told.body.to_string().contains("hunter2"));
    let page = browser.get(&format!("/ui/login?flow={id}"), HTML).await.is(200);
    let page = page.body.as_str().unwrap().to_owned();
    assert!(page.contains("&lt;script&gt;alert(1)") && !page.contains("<script"), "{page}");
    assert!(page.contains("What came of the test"));

    // Nobody came of it.
    browser.whoami().await.is(401);
    assert_eq!(browser.session(), None);
    assert_eq!(world.admin(Ask::get("/admin/identities")).await.is(200).body, json!([]));
    let happened = world.admin(Ask::get("/admin/audit/events")).await.is(200);
    assert_eq!(happened.body, json!([]));

    let mut other = Browser::new(&world);
    for cookie in [None, Some("x"), Some("AAAA")] {
        if let Some(cookie) = cookie {
            other.cookies.insert(TRIED.to_owned(), cookie.to_owned());
        }
        other.get(&read(&id), JSON).await.is(403);
        let elsewhere = other.get(&format!("/ui/login?flow={id}"), HTML).await.is(303);
        assert!(elsewhere.header("location").ends_with("/self-service/login/browser"));
        other.send(delete(&id)).await.is(403);
    }
    // What another flow gave is no proof of this one.
    let second = world.try_provider().await;
    goes_through(&mut other, &second).await;
    other.get(&read(&id), JSON).await.is(403);
    other.send(delete(&id)).await.is(403);
    browser.send(delete(&id)).await.is(204);
    assert!(!browser.cookies.contains_key(TRIED));
    browser.send(delete(&id)).await.is(404);
    browser.get(&read(&id), JSON).await.is(404);
}

#[tokio::test]
async fn page_leads_through_the_test_in_the_readers_language() {
    let world = world();
    let flow = world.try_provider().await;
    let id = flow.text("/id").to_owned();
    let mut browser = Browser::new(&world);
    let ask = Ask::get(format!("/ui/login?flow={id}")).header("accept", HTML);
    let page = browser.send(ask.header("accept-language", "de")).await.is(200);
    let page = page.body.as_str().unwrap().to_owned();
    assert!(page.contains("Anmeldung testen") && page.contains("value=\"discord\""), "{page}");
    assert!(!page.contains("type=\"password\""), "{page}");
    // It was shown to that browser, which sends it as any other form.
    let shown = browser.get(&read(&id), JSON).await.is(200);
    let body = json!({"method": "oidc", "provider": "discord", "csrf_token": csrf(&shown)});
    let away = browser.post_json(&action(&shown), &body).await.is(422);
    assert!(away.text("/redirect_browser_to").starts_with("https://discord.com/"));
    // And no other.
    let mut other = Browser::new(&world);
    other.get(&read(&id), JSON).await.is(403);
    other.post_json(&action(&shown), &body).await.is(403);
}

#[tokio::test]
async fn flow_that_tries_a_provider_takes_no_password_and_no_other() {
    let world = world();
    world.create("ann@example.org").await;
    let flow = world.try_provider().await;
    let token = csrf(&flow);
    let mut browser = Browser::new(&world);
    let uri = action(&flow);
    for (body, status) in [
        (json!({"provider": "discord"}), 403),
        (json!({"provider": "discord", "csrf_token": "x"}), 403),
        (json!({"provider": "google", "csrf_token": token}), 400),
        (
            json!({"method": "password", "identifier": "ann@example.org", "password": PASSWORD,
            "csrf_token": token}),
            400,
        ),
        (json!({"method": "password", "provider": "discord", "csrf_token": token}), 400),
    ] {
        let answer = browser.post_json(&uri, &body).await.is(status);
        if status == 400 {
            assert_eq!(answer.text("/test_context/provider_id"), "discord");
        }
    }
    browser.whoami().await.is(401);
    world.advance(3600);
    browser.get(&read(flow.text("/id")), JSON).await.is(410);
    let late = json!({"provider": "discord", "csrf_token": token});
    browser.post_json(&uri, &late).await.is(410);
    world.public(delete(flow.text("/id"))).await.is(204);
}

#[tokio::test]
async fn what_is_no_provider_and_what_is_no_test_is_refused() {
    let world = world();
    for (body, status) in [
        (json!({"provider_id": "google"}), 404),
        (json!({"provider_id": "x".repeat(255)}), 404),
        (json!({"provider_id": "x".repeat(256)}), 400),
        (json!({"provider_id": ""}), 400),
        (json!({"provider_id": 7}), 400),
        (json!({}), 400),
        (json!([]), 400),
    ] {
        world.admin(Ask::post(CREATE, &body)).await.is(status);
    }
    let login = world.flow("login").await;
    world.public(delete(&login)).await.is(404);
    world.public(Ask::get(read(&login))).await.is(200);
    world.public(delete("6ba7b810-9dad-41d1-80b4-00c04fd430c8")).await.is(404);
    for malformed in ["", "x", "6ba7b8109dad41d180b400c04fd430c8"] {
        world.public(delete(malformed)).await.is(400);
    }
    world.public(Ask::delete("/self-service/login/test")).await.is(400);
}
