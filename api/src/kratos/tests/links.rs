//! Recovery and verification by links that are followed: on another device too, once,
//! for the flow and the address that they were sent for.

use cardea_identity::flow::AddressProof;

use super::{
    browser::{Browser, action, csrf},
    codes::post,
    *,
};

const HTML: &str = "text/html";
const JSON: &str = "application/json";

fn world() -> World {
    World::with(Settings {
        argon2: Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 },
        recovery: true,
        verification: true,
        recovery_proof: AddressProof::Link,
        verification_proof: AddressProof::Link,
        link_lifespan: Duration::from_secs(600),
        ..Settings::default()
    })
}

/// The path and query of the link in the newest message to an address.
pub(super) async fn link_to(world: &World, email: &str) -> String {
    let uri = format!("/admin/courier/messages?recipient={email}&status=queued");
    let listed = world.admin(Ask::get(uri)).await.is(200);
    let body = listed.body[0]["body"].as_str().expect("no message").to_owned();
    let from = body.find("http://127.0.0.1:4433").unwrap();
    let link = body[from..].split_whitespace().next().unwrap();
    link.strip_prefix("http://127.0.0.1:4433").unwrap().to_owned()
}

/// Asks for a link in a browser; gives the flow's id.
async fn ask(browser: &mut Browser<'_>, purpose: &str, email: &str) -> String {
    let flow = browser.begin(purpose, "").await;
    assert_eq!(flow.text("/active"), "link");
    let body = json!({"method": "link", "email": email, "csrf_token": csrf(&flow)});
    let sent = browser.post_json(&action(&flow), &body).await.is(200);
    assert_eq!(sent.text("/state"), "sent_email");
    flow.text("/id").to_owned()
}

fn message(answer: &Answer) -> &Value {
    &answer.body["ui"]["messages"][0]["id"]
}

/// The flow that a page was sent to, as its browser sees it.
async fn sent_to(browser: &mut Browser<'_>, purpose: &str, followed: &Answer) -> Answer {
    let id = followed.header("location").split("flow=").nth(1).unwrap().to_owned();
    browser.get(&format!("/self-service/{purpose}/flows?id={id}"), JSON).await
}

#[tokio::test]
async fn form_is_that_of_kratos_and_stays_once_a_link_was_sent() {
    let world = world();
    world.create("ann@example.org").await;
    let flow = world.flow("recovery").await;
    let shown = world.public(Ask::get(format!("/self-service/recovery/flows?id={flow}"))).await;
    let nodes = shown.is(200).body["ui"]["nodes"].clone();
    assert_eq!(
        nodes[1],
        json!({"type": "input", "group": "link", "messages": [],
            "meta": {"label": {"id": 1070007, "text": "Email", "type": "info"}},
            "attributes": {"name": "email", "type": "email", "required": true,
                "autocomplete": "email", "disabled": false, "node_type": "input"}})
    );
    assert_eq!(nodes[2]["attributes"]["value"], "link");
    let ask = json!({"method": "link", "email": "Ann@example.org"});
    let sent = post(&world, "recovery", &flow, &ask).await.is(200);
    assert_eq!((message(&sent), sent.text("/active")), (&json!(1_060_002), "link"));
    assert_eq!(sent.body["ui"]["nodes"][1]["attributes"]["value"], "ann@example.org");
    let listed = world.admin(Ask::get("/admin/courier/messages")).await.is(200);
    assert_eq!(listed.body[0]["template_type"], "recovery_valid");
    // Codes are not how it is done here.
    let code = json!({"method": "code", "email": "ann@example.org"});
    assert_eq!(message(&post(&world, "recovery", &flow, &code).await.is(400)), 4_010_005);
}

#[tokio::test]
async fn link_lets_its_owner_in_on_another_device_once() {
    let world = world();
    let ann = world.create("ann@example.org").await;
    let mut laptop = Browser::new(&world);
    ask(&mut laptop, "recovery", "ann@example.org").await;
    let link = link_to(&world, "ann@example.org").await;
    // A program that looks at links does not use them up.
    world.public(Ask::new(Method::HEAD, &link)).await.is(204);
    let mut phone = Browser::new(&world);
    let followed = phone.get(&link, HTML).await.is(303);
    assert!(followed.header("location").contains("/ui/settings?flow="));
    assert_eq!(phone.whoami().await.is(200).text("/identity/id"), ann);
    let settings = sent_to(&mut phone, "settings", &followed).await.is(200);
    assert_eq!(message(&settings), 1_060_001);
    // The browser that asked for it gets nothing.
    laptop.whoami().await.is(401);
    let again = Browser::new(&world).get(&link, JSON).await.is(400);
    assert_eq!(message(&again), 4_060_004);
    // It says so on the page of a flow of its own.
    let mut other = Browser::new(&world);
    let again = other.get(&link, HTML).await.is(303);
    let told = sent_to(&mut other, "recovery", &again).await.is(200);
    assert_eq!((message(&told), told.text("/state")), (&json!(4_060_004), "choose_method"));
    assert!(!told.body["request_url"].as_str().unwrap().contains("token"));
    other.whoami().await.is(401);
}

#[tokio::test]
async fn link_verifies_the_address_of_who_signs_up() {
    let world = world();
    let flow = world.flow("registration").await;
    let done = world.submit_registration(&flow, "ann@example.org").await.is(200);
    let link = link_to(&world, "ann@example.org").await;
    let id = done.body["continue_with"][1]["flow"]["id"].as_str().unwrap();
    assert!(link.contains(id) && link.starts_with("/self-service/verification?flow="), "{link}");
    let mut phone = Browser::new(&world);
    let followed = phone.get(&link, HTML).await.is(303);
    assert!(followed.header("location").contains("/ui/verification?flow="));
    let shown = sent_to(&mut phone, "verification", &followed).await.is(200);
    assert_eq!((message(&shown), shown.text("/state")), (&json!(1_080_002), "passed_challenge"));
    assert_eq!(shown.body["ui"]["nodes"][0]["group"], "link");
    let id = done.text("/identity/id");
    let identity = world.admin(Ask::get(format!("/admin/identities/{id}"))).await.is(200);
    assert_eq!(identity.body["verifiable_addresses"][0]["verified"], true);
    // Nobody is logged in by that, and a second visit says that it is done.
    phone.whoami().await.is(401);
    let again = phone.get(&link, HTML).await.is(303);
    let shown = sent_to(&mut phone, "verification", &again).await.is(200);
    assert_eq!(shown.text("/state"), "passed_challenge");
}

/// N9, N12: a token is good for the flow that it was sent for, whole, and not for long.
#[tokio::test]
async fn token_is_bound_to_its_flow_and_ends() {
    let world = world();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    ask(&mut browser, "recovery", "ann@example.org").await;
    let first = link_to(&world, "ann@example.org").await;
    world.advance(1);
    let second = ask(&mut browser, "recovery", "ann@example.org").await;
    let token = first.split("token=").nth(1).unwrap();
    let swapped = format!("/self-service/recovery?flow={second}&token={token}");
    assert_eq!(message(&browser.get(&swapped, JSON).await.is(400)), 4_060_004);
    let elsewhere = swapped.replace("recovery", "verification");
    browser.get(&elsewhere, JSON).await.is(404);
    let cut = &first[..first.len() - 1];
    assert_eq!(message(&browser.get(cut, JSON).await.is(400)), 4_060_004);
    // A token is no code.
    let id = first.split(['=', '&']).nth(1).unwrap();
    let typed = json!({"method": "link", "code": token, "csrf_token": ""});
    browser.post_json(&format!("/self-service/recovery?flow={id}"), &typed).await.is(403);
    world.advance(600);
    let late = browser.get(&first, JSON).await.is(400);
    assert_eq!(message(&late), 4_060_004);
    browser.whoami().await.is(401);
}

#[tokio::test]
async fn link_to_an_address_that_was_changed_since_lets_nobody_in() {
    let world = world();
    let ann = world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    ask(&mut browser, "recovery", "ann@example.org").await;
    let link = link_to(&world, "ann@example.org").await;
    let patch = json!([{"op": "replace", "path": "/traits/email", "value": "eve@example.org"}]);
    let uri = format!("/admin/identities/{ann}");
    let ask = Ask::new(Method::PATCH, &uri).json(&patch);
    world.admin(ask).await.is(200);
    assert_eq!(message(&browser.get(&link, JSON).await.is(400)), 4_060_004);
    browser.whoami().await.is(401);
}

/// N13: neither answers nor messages tell who has an account.
#[tokio::test]
async fn link_to_an_address_that_nobody_has_is_told_the_same() {
    let world = world();
    world.create("ann@example.org").await;
    for purpose in ["recovery", "verification"] {
        let mut answers = Vec::new();
        for email in ["ann@example.org", "eve@example.org"] {
            let flow = world.flow(purpose).await;
            let ask = json!({"method": "link", "email": email});
            let sent = post(&world, purpose, &flow, &ask).await.is(200);
            answers.push(sent.golden().to_string().replace(email, "<email>"));
        }
        assert_eq!(answers[0], answers[1]);
    }
    let listed = world.admin(Ask::get("/admin/courier/messages")).await.is(200);
    assert_eq!(listed.body.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn pages_say_where_the_link_went() {
    let world = world();
    world.create("ann@example.org").await;
    let mut browser = Browser::new(&world);
    let flow = browser.begin("recovery", "").await.text("/id").to_owned();
    let uri = format!("/ui/recovery?flow={flow}");
    let page = browser.get(&uri, HTML).await.is(200);
    assert!(page.body.as_str().unwrap().contains("and we send you a link."), "{}", page.body);
    ask(&mut browser, "recovery", "ann@example.org").await;
    let flow = ask(&mut browser, "recovery", "ann@example.org").await;
    let page = browser.get(&format!("/ui/recovery?flow={flow}"), HTML).await.is(200);
    assert!(
        page.body.as_str().unwrap().contains("<strong>ann@example.org</strong>"),
        "{}",
        page.body
    );
    assert!(page.body.as_str().unwrap().contains("Send another link"), "{}", page.body);
}
