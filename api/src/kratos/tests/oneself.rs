//! Taking along all that is held of oneself, and having it erased.

use super::{
    browser::{Browser, csrf},
    *,
};

const HTML: &str = "text/html";
const JSON: &str = "application/json";
const ERASURE: &str = "/self-service/erasure";

#[tokio::test]
async fn copy_holds_all_but_what_is_for_administrators_and_what_must_be_mailed() {
    let world = World::with_codes();
    let mut new = new_identity("ann@example.org");
    new["metadata_admin"] = json!({"score": 7});
    new["metadata_public"] = json!({"plan": "free"});
    world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    let (token, _) = world.log_in("ann@example.org").await;
    let flow = world.flow("verification").await;
    let ask = json!({"method": "code", "email": "ann@example.org"});
    codes::post(&world, "verification", &flow, &ask).await.is(200);
    let code = codes::code_to(&world, "ann@example.org").await;
    let copy = world.public(Ask::get("/self-service/export").token(&token)).await.is(200);
    assert!(copy.header("content-disposition").starts_with("attachment;"));
    assert_eq!(copy.header("cache-control"), "private, no-cache, no-store, must-revalidate");
    assert_eq!(copy.body["complete"], true);
    assert_eq!(copy.text("/identity/traits/email"), "ann@example.org");
    assert_eq!(copy.text("/identity/metadata_public/plan"), "free");
    assert_eq!(copy.body["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(copy.text("/messages/0/recipient"), "ann@example.org");
    assert!(copy.body["events"].as_array().unwrap().len() > 1);
    let text = copy.body.to_string();
    for hidden in ["metadata_admin", "score", &code, "argon2id"] {
        assert!(!text.contains(hidden), "{hidden}: {text}");
    }
    world.public(Ask::get("/self-service/export").header("accept", JSON)).await.is(401);
}

#[tokio::test]
async fn native_client_erases_its_owner_once_it_says_whom() {
    let world = World::new();
    let (ann, bob) = (world.create("ann@example.org").await, world.create("bob@example.org").await);
    let (token, _) = world.log_in("ann@example.org").await;
    for wrong in [json!({}), json!({"confirm": bob}), json!({"confirm": "yes"})] {
        world.public(Ask::post(ERASURE, &wrong).token(&token)).await.is(400);
    }
    let body = json!({"confirm": ann});
    let erased = world.public(Ask::post(ERASURE, &body).token(&token)).await.is(202);
    assert_eq!(erased.text("/identity_id"), ann);
    world.whoami(&token).await.is(401);
    world.admin(Ask::get(format!("/admin/identities/{ann}"))).await.is(404);
    world.admin(Ask::get(format!("/admin/identities/{ann}/erasure"))).await.is(200);
    world.admin(Ask::get(format!("/admin/identities/{bob}"))).await.is(200);
    world.public(Ask::post(ERASURE, &body).token(&token)).await.is(401);
}

/// N24: no other site deletes an account.
#[tokio::test]
async fn browser_erases_by_its_own_form_alone() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let login = browser.log_in("ann@example.org").await;
    assert_eq!(login.text("/session/identity/id"), ann);
    let page = browser.get("/ui/erasure", HTML).await.is(200);
    let page = page.body.as_str().unwrap();
    assert!(
        page.contains("ann@example.org") && page.contains(&format!("value=\"{ann}\"")),
        "{page}"
    );
    let token = page.split("name=\"csrf_token\" value=\"").nth(1).unwrap();
    let token = token.split('"').next().unwrap().to_owned();
    for (without, token) in [("a token", ""), ("the right token", "AAAA")] {
        let body = json!({"confirm": ann, "csrf_token": token});
        let refused = browser.post_json(ERASURE, &body).await;
        assert_eq!(refused.status, 403, "{without}: {}", refused.body);
    }
    let other = csrf(&Browser::new(&world).begin("login", "").await);
    browser.post_json(ERASURE, &json!({"confirm": ann, "csrf_token": other})).await.is(403);
    // The box was not ticked.
    let again = browser.post_form(ERASURE, &[("csrf_token", &token)]).await.is(303);
    assert!(again.header("location").ends_with("/ui/erasure"));
    browser.whoami().await.is(200);
    let done = browser.post_form(ERASURE, &[("csrf_token", &token), ("confirm", &ann)]).await;
    assert!(done.is(303).header("location").ends_with("/ui/erased"));
    assert!(browser.session().is_none());
    let page = browser.get("/ui/erased", HTML).await.is(200);
    assert!(page.body.as_str().unwrap().contains("Your account was deleted"));
    world.admin(Ask::get(format!("/admin/identities/{ann}"))).await.is(404);
}

#[tokio::test]
async fn stale_session_is_sent_to_prove_itself_again() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let mut browser = Browser::new(&world);
    browser.log_in("ann@example.org").await;
    let settings = browser.begin("settings", "").await;
    world.advance(3601);
    let body = json!({"confirm": ann, "csrf_token": csrf(&settings)});
    let refused = browser.post_json(ERASURE, &body).await.is(403);
    assert_eq!(refused.text("/error/id"), "session_refresh_required");
    assert!(refused.text("/redirect_browser_to").contains("refresh=true&return_to="));
    world.public(Ask::post(ERASURE, &body).token(&token)).await.is(403);
    world.public(Ask::get("/self-service/export").token(&token)).await.is(403);
    for (page, back) in [("/ui/erasure", "erasure"), ("/self-service/export", "settings")] {
        let sent = browser.get(page, HTML).await.is(303);
        let to = sent.header("location").to_owned();
        assert!(
            to.contains("/login/browser?refresh=true&return_to=") && to.ends_with(back),
            "{to}"
        );
    }
    browser.get("/self-service/export", JSON).await.is(403);
    world.admin(Ask::get(format!("/admin/identities/{ann}"))).await.is(200);
}

#[tokio::test]
async fn settings_lead_to_both_where_they_are_offered() {
    for offered in [true, false] {
        let argon2 = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
        let (self_export, self_erasure) = (offered, offered);
        let world =
            World::with(Settings { argon2, self_export, self_erasure, ..Settings::default() });
        let ann = world.create("ann@example.org").await;
        let mut browser = Browser::new(&world);
        browser.log_in("ann@example.org").await;
        let flow = browser.begin("settings", "").await.text("/id").to_owned();
        let page = browser.get(&format!("/ui/settings?flow={flow}"), HTML).await.is(200);
        for link in ["href=\"/self-service/export\"", "href=\"/ui/erasure\""] {
            assert_eq!(page.body.as_str().unwrap().contains(link), offered, "{link}");
        }
        let (token, _) = world.log_in("ann@example.org").await;
        let asked = world.public(Ask::get("/self-service/export").token(&token)).await;
        assert_eq!(asked.status, if offered { 200 } else { 404 });
        let body = json!({"confirm": ann});
        let asked = world.public(Ask::post(ERASURE, &body).token(&token)).await;
        assert_eq!(asked.status, if offered { 202 } else { 404 });
    }
}
