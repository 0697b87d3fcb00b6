//! Signing in by a token that the browser got from a provider itself.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cardea_identity::{
    outbound::{Outbound, Question, Reply, Unanswered},
    social::{Provider, Providers, preset},
};
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::{
    browser::{Browser, action, csrf, flow_in},
    outside::{cheap, provider},
    *,
};

const ISSUER: &str = "https://idp.example";
const PARAMETERS: &str = "/self-service/fed-cm/parameters";
const TOKEN: &str = "/self-service/fed-cm/token";
const HTML: &str = "text/html";
const JSON: &str = "application/json";

struct Idp;

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap()
}

#[async_trait]
impl Outbound for Idp {
    async fn ask(&self, question: Question) -> Result<Reply, Unanswered> {
        let said = if question.url.ends_with("/jwks") {
            let x = URL_SAFE_NO_PAD.encode(pair().public_key().as_ref());
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "k"}]})
        } else {
            json!({"issuer": ISSUER, "authorization_endpoint": format!("{ISSUER}/auth"),
                "token_endpoint": format!("{ISSUER}/token"), "jwks_uri": format!("{ISSUER}/jwks")})
        };
        Ok(Reply { status: 200, body: said.to_string().into() })
    }
}

fn idp() -> Provider {
    Provider {
        id: "idp".to_owned(),
        label: "Idp".to_owned(),
        preset: preset::find("generic").unwrap(),
        issuer: ISSUER.to_owned(),
        fedcm_config_url: Some(format!("{ISSUER}/fedcm.json")),
        ..provider()
    }
}

fn world() -> World {
    let providers = Providers::new(vec![idp(), provider()]);
    World::reaching(Settings { providers, ..cheap() }, Arc::new(Idp))
}

fn token(nonce: &str, claims: Value) -> String {
    let now = START.as_millis() / 1000;
    let mut said = json!({"iss": ISSUER, "aud": "us", "sub": "ann", "nonce": nonce, "iat": now,
        "exp": now + 300});
    said.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(json!({"alg": "EdDSA", "kid": "k"})), part(said));
    let signature = URL_SAFE_NO_PAD.encode(pair().sign(message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

fn ann() -> Value {
    json!({"email": "ann@example.org", "email_verified": true})
}

/// Asks for parameters; gives the anti-forgery token and the nonce.
async fn asks(browser: &mut Browser<'_>) -> (String, String) {
    let told = browser.get(PARAMETERS, JSON).await.is(200);
    let nonce = told.text("/providers/0/nonce").to_owned();
    (told.text("/csrf_token").to_owned(), nonce)
}

async fn sends(browser: &mut Browser<'_>, claims: Value) -> Answer {
    let (csrf_token, nonce) = asks(browser).await;
    let token = token(&nonce, claims);
    let body = json!({"csrf_token": csrf_token, "token": token, "nonce": nonce});
    browser.post_json(TOKEN, &body).await
}

#[tokio::test]
async fn parameters_are_those_that_a_browser_takes() {
    let world = world();
    let mut browser = Browser::new(&world);
    let told = browser.get(PARAMETERS, JSON).await.is(200);
    let nonce = told.text("/providers/0/nonce").to_owned();
    let expected = json!([{
        "client_id": "us",
        "config_url": "https://idp.example/fedcm.json",
        "nonce": nonce,
        "fields": ["name", "email", "picture"],
        "parameters": {"nonce": nonce, "scope": "identify"},
    }]);
    assert_eq!(told.body["providers"], expected, "one of two providers");
    assert!(
        told.headers.get("cache-control").is_some_and(|v| v.to_str().unwrap().contains("no-store"))
    );
    let none = World::new();
    let told = none.public(Ask::get(PARAMETERS)).await.is(200);
    assert_eq!(told.body["providers"], json!([]));
    assert!(
        !told.text("/csrf_token").is_empty() && told.header("set-cookie").contains("csrf_token")
    );
}

#[tokio::test]
async fn script_signs_up_and_in_by_a_token_and_gets_a_cookie() {
    let world = world();
    for _ in 0..2 {
        let mut browser = Browser::new(&world);
        let done = sends(&mut browser, ann()).await.is(200);
        assert_eq!(done.text("/session/identity/traits/email"), "ann@example.org");
        assert_eq!(done.text("/session/authentication_methods/0/provider"), "idp");
        assert_eq!(done.body.get("session_token"), None, "it is in the cookie alone");
        assert!(!done.body.to_string().contains("ory_st_"), "{:#}", done.body);
        browser.whoami().await.is(200);
        // Who is logged in already is told so.
        assert_eq!(
            sends(&mut browser, ann()).await.is(400).text("/error/id"),
            "session_already_available"
        );
    }
    let all = world.admin(Ask::get("/admin/identities")).await.is(200);
    assert_eq!(all.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn form_is_led_where_flows_end_or_where_it_was_to_return() {
    let world = world();
    for (query, place) in [
        ("", "http://127.0.0.1:4433/ui/welcome"),
        ("?return_to=/ui/settings", "http://127.0.0.1:4433/ui/settings"),
    ] {
        let mut browser = Browser::new(&world);
        let (csrf_token, nonce) = asks(&mut browser).await;
        let token = token(&nonce, ann());
        let fields = [("csrf_token", csrf_token.as_str()), ("token", token.as_str())];
        let done = browser.post_form(&format!("{TOKEN}{query}"), &fields).await.is(303);
        assert_eq!(done.header("location"), place);
        browser.whoami().await.is(200);
    }
    let mut browser = Browser::new(&world);
    let (csrf_token, nonce) = asks(&mut browser).await;
    let token = token(&nonce, ann());
    let fields = [("csrf_token", csrf_token.as_str()), ("token", token.as_str())];
    let evil = format!("{TOKEN}?return_to=https://evil.example/");
    let refused = browser.post_form(&evil, &fields).await.is(303);
    assert!(refused.header("location").contains("/ui/error?id="));
    browser.whoami().await.is(401);
}

/// Login CSRF, and everything else that is not this browser's.
#[tokio::test]
async fn what_this_browser_did_not_ask_for_is_refused() {
    let world = world();
    let (mut mine, mut theirs) = (Browser::new(&world), Browser::new(&world));
    let (csrf_token, nonce) = asks(&mut mine).await;
    let (their_csrf, their_nonce) = asks(&mut theirs).await;
    let good = token(&nonce, ann());
    for (csrf_token, token, status) in [
        (Some(&their_csrf), &good, 403),
        (None, &good, 403),
        (Some(&csrf_token), &token(&their_nonce, ann()), 403),
        (Some(&csrf_token), &token("x", ann()), 400),
        (Some(&csrf_token), &token(&nonce, json!({"aud": "them"})), 400),
        (Some(&csrf_token), &token(&nonce, json!({"iss": "https://evil.example"})), 400),
        (Some(&csrf_token), &token(&nonce, json!({"exp": 1})), 400),
        (Some(&csrf_token), &"x".to_owned(), 400),
    ] {
        let body = json!({"csrf_token": csrf_token, "token": token});
        let answer = mine.post_json(TOKEN, &body).await.is(status);
        let is_flow = answer.body["ui"]["messages"][0]["id"] == 4_000_001;
        assert_eq!(is_flow, status == 400, "{:#}", answer.body);
    }
    for body in [json!({"csrf_token": csrf_token}), json!({"csrf_token": csrf_token, "token": 7})] {
        mine.post_json(TOKEN, &body).await.is(400);
    }
    mine.whoami().await.is(401);
    world.public(Ask::post(TOKEN, &json!({"csrf_token": csrf_token, "token": good}))).await.is(403);
    assert_eq!(world.admin(Ask::get("/admin/identities")).await.is(200).body, json!([]));
    let body = json!({"csrf_token": csrf_token, "token": good, "nonce": nonce});
    mine.post_json(TOKEN, &body).await.is(200);
    // It is worth nothing once more, in whichever browser.
    mine.cookies.remove("ory_kratos_session");
    mine.post_json(TOKEN, &body).await.is(403);
    let (csrf_token, _) = asks(&mut theirs).await;
    let again = json!({"csrf_token": csrf_token, "token": good});
    theirs.post_json(TOKEN, &again).await.is(403);
    theirs.whoami().await.is(401);
}

#[tokio::test]
async fn nonce_that_is_over_or_spent_is_gone() {
    let world = world();
    let mut browser = Browser::new(&world);
    let (csrf_token, nonce) = asks(&mut browser).await;
    let eve = token(&nonce, json!({"sub": "eve"}));
    let body = json!({"csrf_token": csrf_token, "token": eve});
    // The address is missing: a script must go on where it is asked for.
    let more = browser.post_json(TOKEN, &body).await.is(422);
    let place = more.text("/redirect_browser_to").to_owned();
    assert!(place.starts_with("http://127.0.0.1:4433/ui/registration?flow="), "{place}");
    let shown = format!("/self-service/registration/flows?id={}", flow_in(&place));
    let shown = browser.get(&shown, JSON).await.is(200);
    let spent = browser.post_json(TOKEN, &body).await.is(410);
    assert_eq!(spent.text("/error/id"), "self_service_flow_expired");
    let rest = json!({"method": "oidc", "provider": "idp", "csrf_token": csrf(&shown),
        "traits": {"email": "eve@example.org"}});
    browser.post_json(&action(&shown), &rest).await.is(200);
    browser.whoami().await.is(200);
    let mut late = Browser::new(&world);
    let (csrf_token, nonce) = asks(&mut late).await;
    world.advance(3600);
    let body = json!({"csrf_token": csrf_token, "token": token(&nonce, ann())});
    late.post_json(TOKEN, &body).await.is(410);
}

/// Somebody has the address, and no provider speaks for it.
#[tokio::test]
async fn account_that_somebody_has_is_logged_in_to_first() {
    let world = world();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = sends(&mut browser, ann()).await.is(400);
    assert_eq!(flow.body["ui"]["messages"][0]["id"], 1_010_016);
    let body = json!({"method": "password", "identifier": "ann@example.org",
        "password": PASSWORD, "csrf_token": csrf(&flow)});
    browser.post_json(&action(&flow), &body).await.is(200);
    let mut page = Browser::new(&world);
    sends(&mut page, ann()).await.is(200);
}

#[tokio::test]
async fn login_page_has_the_browser_ask_where_it_can() {
    let world = world();
    let mut browser = Browser::new(&world);
    let begun = browser.get("/self-service/login/browser?return_to=/ui/settings", HTML).await;
    let path = begun.header("location").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    let page = browser.get(&path, HTML).await.is(200);
    let policy = page.header("content-security-policy").to_owned();
    assert!(policy.contains("connect-src https://idp.example; "), "{policy}");
    assert!(policy.contains("http://127.0.0.1:4433/ui/fedcm.js"), "{policy}");
    assert!(!policy.contains("unsafe") && policy.starts_with("default-src 'none'"), "{policy}");
    let html = page.body.as_str().unwrap();
    assert!(html.contains("id=\"fedcm\"") && html.contains("integrity=\"sha512-"), "{html}");
    assert!(html.contains("action=\"/self-service/fed-cm/token?return_to=http%3A%2F%2F"), "{html}");
    assert!(!html.contains("<script>"), "no script of its own: {html}");
    let script = world.public(Ask::get("/ui/fedcm.js")).await.is(200);
    assert!(script.header("content-type").starts_with("text/javascript"));
    assert!(script.body.as_str().unwrap().contains("IdentityCredential"));
    // What is in the page is good for that browser.
    let told = html.split_once("data-providers=\"").unwrap().1.split_once('"').unwrap().0;
    let told: Value = serde_json::from_str(&told.replace("&quot;", "\"")).unwrap();
    assert_eq!(told[0]["params"]["nonce"], told[0]["nonce"]);
    let form = html.split_once("id=\"fedcm\"").unwrap().1;
    let sent =
        form.split_once("name=\"csrf_token\" value=\"").unwrap().1.split_once('"').unwrap().0;
    let token = token(told[0]["nonce"].as_str().unwrap(), ann());
    let fields = [("csrf_token", sent), ("token", token.as_str())];
    let done = browser.post_form(&format!("{TOKEN}?return_to=/ui/settings"), &fields).await;
    assert_eq!(done.is(303).header("location"), "http://127.0.0.1:4433/ui/settings");
    // Whoever proves itself again is asked by its own flow.
    let again = browser.get("/self-service/login/browser?refresh=true", HTML).await.is(303);
    let path = again.header("location").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    let page = browser.get(&path, HTML).await.is(200);
    assert!(!page.body.as_str().unwrap().contains("fedcm"));
    assert!(!page.header("content-security-policy").contains("connect-src"));
}
