//! The included pages: what they show, what they must not, and how they are framed.

use super::{
    browser::{Browser, flow_in},
    *,
};

const HTML: &str = "text/html";

/// Follows redirects to the page that shows something.
async fn open(browser: &mut Browser<'_>, uri: &str) -> (String, Answer) {
    let mut uri = uri.to_owned();
    for _ in 0..6 {
        let answer = browser.get(&uri, HTML).await;
        if answer.status != 303 {
            return (uri, answer.is(200));
        }
        let place = answer.header("location");
        uri = place.strip_prefix("http://127.0.0.1:4433").unwrap_or(place).to_owned();
    }
    panic!("redirects without end at {uri}");
}

fn html(answer: &Answer) -> &str {
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    answer.body.as_str().unwrap()
}

/// Where a redirect leads, on this host.
fn at(answer: &Answer) -> &str {
    answer.header("location").strip_prefix("http://127.0.0.1:4433").unwrap()
}

/// The value of a hidden field.
fn hidden(page: &str, name: &str) -> String {
    let mark = format!("type=\"hidden\" name=\"{name}\" value=\"");
    let rest = page.split_once(&mark).unwrap_or_else(|| panic!("no {name} in {page}")).1;
    rest.split('"').next().unwrap().replace("&amp;", "&")
}

fn action_of(page: &str) -> String {
    let rest = page.split_once("<form method=\"post\" action=\"").unwrap().1;
    let url = rest.split('"').next().unwrap().replace("&amp;", "&");
    url.strip_prefix("http://127.0.0.1:4433").unwrap_or(&url).to_owned()
}

async fn submit(browser: &mut Browser<'_>, page: &str, fields: &[(&str, &str)]) -> Answer {
    let token = hidden(page, "csrf_token");
    let mut all = vec![("csrf_token", token.as_str())];
    all.extend_from_slice(fields);
    browser.post_form(&action_of(page), &all).await
}

async fn sign_in(browser: &mut Browser<'_>, email: &str, password: &str) -> Answer {
    let (_, page) = open(browser, "/ui/login").await;
    let fields = [("method", "password"), ("identifier", email), ("password", password)];
    submit(browser, html(&page), &fields).await
}

#[tokio::test]
async fn person_signs_up_verifies_signs_out_and_in_by_pages_alone() {
    let world = World::with_codes();
    let mut browser = Browser::new(&world);
    let (place, _) = open(&mut browser, "/").await;
    assert_eq!(place, "/ui/welcome");
    let (_, page) = open(&mut browser, "/ui/registration").await;
    let page = html(&page).to_owned();
    // What the schema calls the address, both where it is given and where it is asked for.
    assert!(page.contains(">Email</label>"));
    let (_, login) = open(&mut browser, "/ui/login").await;
    assert!(html(&login).contains("<label for=\"field-identifier\">Email</label>"));
    assert!(page.contains("Create your account") && page.contains("autocomplete=\"new-password\""));
    let fields =
        [("method", "password"), ("traits.email", "ann@example.org"), ("password", PASSWORD)];
    let done = submit(&mut browser, &page, &fields).await.is(303);
    let place = done.header("location").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    assert!(place.starts_with("/ui/verification?flow="), "{place}");
    let (_, page) = open(&mut browser, &place).await;
    assert!(html(&page).contains("Check your email"));
    assert!(html(&page).contains("ann@example.org"));
    let listed = world.admin(Ask::get("/admin/courier/messages")).await.is(200);
    let body = listed.body[0]["body"].as_str().unwrap();
    let code: String = body.chars().filter(char::is_ascii_digit).take(6).collect();
    submit(&mut browser, html(&page), &[("method", "code"), ("code", "x")]).await.is(303);
    let (_, wrong) = open(&mut browser, &place).await;
    assert!(html(&wrong).contains("The verification code is invalid"));
    submit(&mut browser, html(&page), &[("method", "code"), ("code", &code)]).await.is(303);
    let (_, page) = open(&mut browser, &place).await;
    assert!(html(&page).contains("You successfully verified your email address."));
    assert!(!html(&page).contains("role=\"alert\""), "what was wrong before is forgotten");
    assert!(html(&page).contains("href=\"http://127.0.0.1:4433/ui/welcome\""));

    let (_, page) = open(&mut browser, "/ui/welcome").await;
    assert!(html(&page).contains("You are signed in"));
    let logout = html(&page).split_once("/self-service/logout?token=").unwrap().1;
    let logout = format!("/self-service/logout?token={}", logout.split('"').next().unwrap());
    let (place, page) = open(&mut browser, &logout).await;
    assert_eq!(place, "/ui/welcome");
    assert!(html(&page).contains("Create an account"));
    let wrong = sign_in(&mut browser, "ann@example.org", "not the password").await.is(303);
    let place = wrong.header("location").strip_prefix("http://127.0.0.1:4433").unwrap().to_owned();
    let (_, page) = open(&mut browser, &place).await;
    assert!(html(&page).contains("role=\"alert\""));
    assert!(html(&page).contains("The provided credentials are invalid"));
    assert!(!html(&page).contains("not the password"));
    sign_in(&mut browser, "ann@example.org", PASSWORD).await.is(303);
    browser.whoami().await.is(200);
}

#[tokio::test]
async fn settings_page_ends_other_sessions_and_only_by_its_own_form() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (mut browser, mut other) = (Browser::new(&world), Browser::new(&world));
    browser.log_in("ann@example.org").await;
    other.log_in("ann@example.org").await;
    let (place, page) = open(&mut browser, "/ui/settings").await;
    let page = html(&page);
    assert!(page.contains("This device"));
    let session = hidden(page, "session");
    let uri = format!("/ui/sessions?flow={}", flow_in(&place));
    // From elsewhere: without the page's token.
    let refused = browser.post_form(&uri, &[("session", &session)]).await.is(303);
    let told = browser.get(at(&refused), HTML).await.is(200);
    assert!(html(&told).contains("Something went wrong"), "a person is told on a page");
    let by_script = json!({"session": session});
    assert_eq!(browser.post_json(&uri, &by_script).await.is(403).body["error"]["code"], 403);
    other.whoami().await.is(200);
    let token = hidden(page, "csrf_token");
    let fields = [("csrf_token", token.as_str()), ("session", session.as_str())];
    let done = browser.post_form(&uri, &fields).await.is(303);
    assert!(done.header("location").contains("/ui/settings?flow="));
    other.whoami().await.is(401);
    browser.whoami().await.is(200);
}

/// Where the settings page is, with what its URL has already.
#[tokio::test]
async fn ending_a_session_leads_back_to_settings_wherever_they_are() {
    let mut options = Options::new("http://127.0.0.1:4433");
    options.urls.settings = "http://127.0.0.1:4433/ui/settings?theme=dark".to_owned();
    let world = World::with_options(options);
    world.create("ann@example.org").await;
    let (mut browser, mut other) = (Browser::new(&world), Browser::new(&world));
    browser.log_in("ann@example.org").await;
    other.log_in("ann@example.org").await;
    let (place, page) = open(&mut browser, "/ui/settings").await;
    let (token, session) = (hidden(html(&page), "csrf_token"), hidden(html(&page), "session"));
    let uri = format!("/ui/sessions?flow={}", flow_in(&place));
    let fields = [("csrf_token", token.as_str()), ("session", session.as_str())];
    let done = browser.post_form(&uri, &fields).await.is(303);
    let back = format!("/ui/settings?theme=dark&flow={}", flow_in(&place));
    assert_eq!(at(&done), back);
}

#[tokio::test]
async fn least_length_of_a_new_password_is_told_before_it_is_typed() {
    let world = World::new();
    let least =
        world.service.settings().password_policy.least(cardea_identity::password::Standing::Alone);
    let told = format!("At least {least} characters.");
    let mut browser = Browser::new(&world);
    let (_, page) = open(&mut browser, "/ui/registration").await;
    let page = html(&page);
    assert!(page.contains(&told) && page.contains("aria-describedby=\"field-password-hint\""));
    let (_, page) = open(&mut browser, "/ui/login").await;
    assert!(!html(&page).contains("At least"), "whoever logs in has one already");
    world.create("ann@example.org").await;
    browser.log_in("ann@example.org").await;
    let (_, page) = open(&mut browser, "/ui/settings").await;
    assert!(html(&page).contains(&told));
}

#[tokio::test]
async fn page_of_a_flow_that_is_over_or_another_browsers_begins_anew() {
    let world = World::new();
    let (mut mine, mut other) = (Browser::new(&world), Browser::new(&world));
    let (place, _) = open(&mut mine, "/ui/login?return_to=/ui/settings").await;
    for browser in [&mut other, &mut mine] {
        let again = browser.get(&place, HTML).await;
        world.advance(3600);
        if again.status == 303 {
            let url = again.header("location");
            assert!(url.contains("/self-service/login/browser"), "{url}");
        }
    }
    let over = mine.get(&place, HTML).await.is(303);
    assert!(over.header("location").contains("/self-service/login/browser"));
    let none = mine.get("/ui/login?return_to=%2Fui%2Fsettings", HTML).await.is(303);
    assert!(none.header("location").ends_with("?return_to=%2Fui%2Fsettings"));
    let native = world.flow("login").await;
    mine.get(&format!("/ui/login?flow={native}"), HTML).await.is(303);
}

/// N24: nothing that somebody says of itself becomes markup, and nothing may run.
#[tokio::test]
async fn what_people_say_is_text_and_pages_run_nothing() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let (_, page) = open(&mut browser, "/ui/registration").await;
    let evil = "\"><script>alert(1)</script>";
    let fields = [
        ("method", "password"),
        ("traits.email", "ann@example.org"),
        ("traits.name.first", evil),
        ("password", PASSWORD),
    ];
    submit(&mut browser, html(&page), &fields).await.is(303);
    let (_, page) = open(&mut browser, "/ui/settings").await;
    assert!(!html(&page).contains("<script"), "{}", html(&page));
    assert!(html(&page).contains("&quot;&gt;&lt;script&gt;"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("script-src") && !policy.contains("unsafe"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
    // No page needs what its own policy forbids.
    for uri in ["/ui/login", "/ui/registration", "/ui/welcome", "/ui/error?id=x"] {
        let mut fresh = Browser::new(&world);
        let (_, page) = open(&mut fresh, uri).await;
        for forbidden in ["<script", " style=", " onclick", "<style", "javascript:"] {
            assert!(!html(&page).contains(forbidden), "{uri}: {forbidden}");
        }
    }
}

#[tokio::test]
async fn error_page_shows_what_was_kept_and_nothing_of_the_house() {
    let world = World::new();
    let mut browser = Browser::new(&world);
    let uri = "/self-service/login/browser?return_to=https://evil.example/";
    let (_, page) = open(&mut browser, uri).await;
    assert!(html(&page).contains("Requested return_to URL is not allowed"));
    assert!(!html(&page).contains("https://evil.example"));
    let (_, page) = open(&mut browser, "/ui/error?id=6ba7b810-9dad-41d1-80b4-00c04fd430c8").await;
    assert!(html(&page).contains("not known any more"));
}

#[tokio::test]
async fn stylesheet_is_that_of_the_theme() {
    let mut options = Options::new("http://127.0.0.1:4433");
    options.theme.accent = "#ffcc00".parse().unwrap();
    options.theme.name = "Acme".to_owned();
    options.theme.css = ".card { border: 0 }".to_owned();
    let world = World::with_options(options);
    let mut browser = Browser::new(&world);
    let (_, page) = open(&mut browser, "/ui/login").await;
    assert!(html(&page).contains("<title>Sign in · Acme</title>"));
    let style = browser.get("/ui/style.css", "text/css").await.is(200);
    let text = style.body.as_str().unwrap();
    assert!(text.starts_with(":root{--accent:#ffcc00;--on-accent:#000000;"), "{text}");
    assert!(text.ends_with(".card { border: 0 }"));
}

#[tokio::test]
async fn who_is_lost_is_shown_a_page_in_its_language() {
    let world = World::new();
    let kratos = Kratos::new(world.service.clone(), Options::new("http://127.0.0.1:4433"));
    let lost = crate::kratos::pages::lost(kratos);
    for (language, told) in [("en", "There is no page here"), ("de-AT", "Hier ist keine Seite")] {
        let request = Request::get("/nowhere").header("accept-language", language);
        let request = request.body(Body::empty()).unwrap();
        let answer = lost.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        assert!(answer.headers()["content-security-policy"].to_str().unwrap().contains("'none'"));
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let body = std::str::from_utf8(&body).unwrap();
        assert!(body.contains(told) && body.contains("/ui/welcome"), "{body}");
    }
}
