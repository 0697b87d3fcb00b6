//! Administration of many identities and sessions.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::{ApiError, StillAllowed};

const NOBODY: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

#[tokio::test]
async fn external_id_and_organization_are_kept_shown_and_found_by() {
    let world = World::new();
    let mut new = new_identity("ann@example.org");
    new["external_id"] = json!("crm/1 é");
    new["organization_id"] = json!(NOBODY);
    let created = world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    assert_eq!(created.text("/external_id"), "crm/1 é");
    assert_eq!(created.text("/organization_id"), NOBODY);
    let id = created.text("/id").to_owned();
    world.create("bob@example.org").await;

    let uri = "/admin/identities/by/external/crm%2F1%20%C3%A9";
    let found = world.admin(Ask::get(uri)).await.is(200);
    assert_eq!(found.text("/id"), id);
    assert_eq!(found.text("/credentials/password/identifiers/0"), "ann@example.org");
    let with = world.admin(Ask::get(format!("{uri}?include_credential=password"))).await.is(200);
    assert!(with.text("/credentials/password/config/hashed_password").starts_with("$argon2id$"));
    world.admin(Ask::get("/admin/identities/by/external/crm")).await.is(404);
    new["traits"]["email"] = json!("eve@example.org");
    world.admin(Ask::post("/admin/identities", &new)).await.is(409);

    let of = |organization: &str| {
        world.admin(Ask::get(format!("/admin/identities?organization_id={organization}")))
    };
    let listed = of(NOBODY).await.is(200);
    assert_eq!(listed.body.as_array().unwrap().len(), 1);
    assert_eq!(listed.text("/0/id"), id);
    assert_eq!(of("00000000-0000-4000-8000-000000000001").await.is(200).body, json!([]));
    let both = format!("/admin/identities?organization_id={NOBODY}&ids={id}");
    world.admin(Ask::get(both)).await.is(400);

    // PUT replaces the external id, and a patch may change both.
    let uri = format!("/admin/identities/{id}");
    let change = json!({"schema_id": "default", "traits": {"email": "ann@example.org"},
        "state": "active"});
    let put = world.admin(Ask::new(Method::PUT, &uri).json(&change)).await.is(200);
    assert_eq!(put.body.get("external_id"), None);
    assert_eq!(put.text("/organization_id"), NOBODY);
    let patch = json!([{"op": "add", "path": "/external_id", "value": "2"},
        {"op": "replace", "path": "/organization_id", "value": null}]);
    let patched = world.admin(Ask::new(Method::PATCH, &uri).json(&patch)).await.is(200);
    assert_eq!(patched.text("/external_id"), "2");
    assert_eq!(patched.body["organization_id"], Value::Null);
    let bad = json!([{"op": "add", "path": "/organization_id", "value": "acme"}]);
    world.admin(Ask::new(Method::PATCH, &uri).json(&bad)).await.is(400);
}

#[tokio::test]
async fn identifiers_are_searched_for() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    world.create("bob@example.com").await;
    let search = |text: &str| {
        let name = "preview_credentials_identifier_similar";
        world.admin(Ask::get(format!("/admin/identities?{name}={text}&page_size=1")))
    };
    let found = search("AN").await.is(200);
    assert_eq!(found.body.as_array().unwrap().len(), 1);
    assert_eq!(found.text("/0/id"), ann);
    assert_eq!(found.text("/0/credentials/password/identifiers/0"), "ann@example.org");
    assert!(!found.header("link").contains("next"));
    let both = search("example").await.is(200);
    assert!(both.header("link").contains("rel=\"next\""), "{}", both.header("link"));
}

#[tokio::test]
async fn batch_creates_what_it_can_and_says_what_it_could_not() {
    let world = World::new();
    world.create("taken@example.org").await;
    let items = json!({"identities": [
        {"create": new_identity("ann@example.org"), "patch_id": NOBODY},
        {"create": new_identity("taken@example.org")},
        {"create": {"schema_id": "default", "traits": {"email": "no address"}}},
        {"create": {"schema_id": "default", "traits": {}, "surprise": 1}},
        {"create": null},
        {"create": new_identity("bob@example.org")},
    ]});
    let patch = |body: &Value| Ask::new(Method::PATCH, "/admin/identities").json(body);
    let done = world.admin(patch(&items)).await.is(200);
    let items = done.body["identities"].as_array().unwrap();
    let actions: Vec<_> = items.iter().map(|item| item["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "error", "error", "error", "error", "create"]);
    assert_eq!(items[0]["patch_id"], NOBODY);
    assert_eq!(items[1]["error"]["code"], 409);
    assert_eq!(items[1]["error"]["status"], "Conflict");
    assert_eq!(items[2]["error"]["code"], 400);
    assert_eq!(items[1].get("identity"), None);
    assert_eq!(items[1].get("patch_id"), None);
    let id = items[0]["identity"].as_str().unwrap();
    world.admin(Ask::get(format!("/admin/identities/{id}"))).await.is(200);
    world.log_in("bob@example.org").await;

    let empty = world.admin(patch(&json!({"identities": []}))).await.is(200);
    assert_eq!(empty.body, json!({"identities": []}));
    let all = json!({"identities": [{"create": new_identity("taken@example.org")}]});
    let refused = world.admin(patch(&all)).await.is(409);
    assert_eq!(refused.body["identities"][0]["action"], "error");
}

#[tokio::test]
async fn batch_that_is_sent_again_makes_nothing_twice() {
    let world = World::new();
    let items = json!({"identities": [
        {"create": new_identity("ann@example.org"), "patch_id": NOBODY},
        {"create": new_identity("bob@example.org"),
            "patch_id": "00000000-0000-4000-8000-000000000001"},
    ]});
    let send = |id: &str| {
        let ask = Ask::new(Method::PATCH, "/admin/identities").json(&items);
        world.admin(ask.header("x-request-id", id))
    };
    let first = send("import-1").await.is(200);
    let again = send("import-1").await.is(200);
    assert_eq!(first.body, again.body);
    // Another request means other identities, and those are taken.
    send("import-2").await.is(409);
    let all = world.admin(Ask::get("/admin/identities")).await.is(200);
    assert_eq!(all.body.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn batches_are_bounded() {
    let world = World::new();
    let patch = |body: Value| world.admin(Ask::new(Method::PATCH, "/admin/identities").json(&body));
    let many =
        |create: Value, count: usize| json!({"identities": vec![json!({"create": create}); count]});
    let told = patch(many(Value::Null, 1001)).await.is(400);
    assert!(told.text("/error/reason").contains("1000"));
    let told = patch(many(new_identity("a@b.co"), 201)).await.is(400);
    assert!(told.text("/error/reason").contains("200"));
    let bad_id = json!({"identities": [{"create": new_identity("a@b.co"), "patch_id": "1"}]});
    patch(bad_id).await.is(400);
    for bad in [json!([]), json!({"identities": 1}), json!({"identities": [1]})] {
        patch(bad).await.is(400);
    }
    assert_eq!(world.admin(Ask::get("/admin/identities")).await.body, json!([]));
}

#[tokio::test]
async fn credentials_are_removed_but_the_last_way_in() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let remove = |id: &str, kind: &str| {
        world.admin(Ask::delete(format!("/admin/identities/{id}/credentials/{kind}")))
    };
    let last = remove(&id, "password").await.is(400);
    let told = "You cannot remove the last first factor credential.";
    assert_eq!(last.text("/error/reason"), told);
    remove(&id, "totp").await.is(404);
    remove(&id, "saml").await.is(404);
    remove(&id, "nonsense").await.is(400);
    remove(NOBODY, "password").await.is(404);
    remove("x", "password").await.is(404);
    world
        .of_tenant(2)
        .admin(Ask::delete(format!("/admin/identities/{id}/credentials/totp")))
        .await
        .is(404);
    world.log_in("ann@example.org").await;
}

#[tokio::test]
async fn all_sessions_are_listed() {
    let world = World::new();
    world.create("ann@example.org").await;
    let (token, first) = world.log_in("ann@example.org").await;
    world.advance(1);
    let (_, second) = world.log_in("ann@example.org").await;
    let list = |query: &str| world.admin(Ask::get(format!("/admin/sessions{query}")));
    let all = list("").await.is(200);
    assert_eq!((all.text("/0/id"), all.text("/1/id")), (&*second, &*first));
    assert_eq!(all.header("x-total-count"), "2");
    assert_eq!((&all.body[0]["identity"], &all.body[0]["devices"]), (&Value::Null, &Value::Null));
    let whole = list("?expand=Identity&expand=devices&page_size=1").await.is(200);
    assert_eq!(whole.text("/0/identity/traits/email"), "ann@example.org");
    assert_eq!(whole.body[0]["devices"].as_array().unwrap().len(), 1);
    assert_eq!(whole.header("x-total-count"), "");
    let next = whole.header("link").split(',').find(|part| part.ends_with("rel=\"next\""));
    let next = next.unwrap().split(['<', '>']).nth(1).unwrap().to_owned();
    assert_eq!(world.admin(Ask::get(next)).await.is(200).text("/0/id"), first);
    world.whoami(&token).await.is(200);
    world.admin(Ask::delete(format!("/admin/sessions/{first}"))).await.is(204);
    assert_eq!(list("?active=true").await.body.as_array().unwrap().len(), 1);
    assert_eq!(list("?active=false").await.text("/0/id"), first);
    list("?active=maybe").await.is(400);
    list("?expand=all").await.is(400);
    list("?page_token=forged").await.is(400);
    let foreign = world.of_tenant(2).admin(Ask::get("/admin/sessions")).await.is(200);
    assert_eq!(foreign.body, json!([]));
}

#[tokio::test]
async fn sessions_are_ended_in_bulk() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let manage = |body: Value| world.admin(Ask::post("/admin/sessions", &body));
    for bad in [
        json!({}),
        json!({"action": "disable"}),
        json!({"action": "explode", "sessions": [session]}),
        json!({"action": "disable", "sessions": []}),
        json!({"action": "disable", "sessions": ["*"]}),
        json!({"action": "disable", "sessions": ["x"]}),
        json!({"action": "disable", "identities": ["*", ann]}),
        json!({"action": "disable", "identities": [ann], "sessions": [session]}),
        json!({"action": "disable", "identities": vec![NOBODY; 501]}),
    ] {
        manage(bad).await.is(400);
    }
    world.whoami(&token).await.is(200);
    let done = manage(json!({"action": "disable", "sessions": [session, NOBODY]})).await.is(200);
    assert_eq!(done.body, json!({"processed": 1, "more": false}));
    world.whoami(&token).await.is(401);

    let (token, _) = world.log_in("ann@example.org").await;
    let done = manage(json!({"action": "disable", "identities": [ann]})).await.is(200);
    assert_eq!(done.body, json!({"processed": 1, "more": false}));
    world.whoami(&token).await.is(401);

    let (token, _) = world.log_in("ann@example.org").await;
    let done = manage(json!({"action": "disable", "identities": ["*"]})).await.is(200);
    assert_eq!(done.body, json!({"processed": 1, "more": false}));
    world.whoami(&token).await.is(401);
    let (token, _) = world.log_in("ann@example.org").await;
    world.whoami(&token).await.is(200);
    let done = manage(json!({"action": "delete", "identities": ["*"]})).await.is(200);
    assert_eq!(done.body, json!({"processed": 4, "more": false}));
    world.whoami(&token).await.is(401);
}

#[tokio::test]
async fn schemas_are_put_in_force_and_removed() {
    let world = World::new();
    let schema = json!({"type": "object", "properties": {"traits": {"type": "object",
        "properties": {"name": {"type": "string"}}, "additionalProperties": false}}});
    let put = |uri: &str, body: &Value| world.admin(Ask::new(Method::PUT, uri).json(body));
    let done = put("/admin/schemas/bot%20v1", &schema).await.is(200);
    assert_eq!(done.body, json!({"id": "bot v1", "schema": schema}));
    assert_eq!(world.public(Ask::get("/schemas/bot%20v1")).await.is(200).body, schema);
    let new = json!({"schema_id": "bot v1", "traits": {"name": "a"}});
    let made = world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    assert_eq!(made.text("/schema_url"), "http://127.0.0.1:4433/schemas/Ym90IHYx");
    let remove = |uri: &str| world.admin(Ask::delete(uri));
    remove("/admin/schemas/bot%20v1").await.is(409);
    remove("/admin/schemas/default").await.is(409);
    remove("/admin/schemas/other").await.is(404);
    put("/admin/schemas/bad", &json!({"type": "object"})).await.is(400);
    put("/admin/schemas/preset%3A%2F%2Femail", &schema).await.is(400);
    put("/admin/schemas/x?default=perhaps", &schema).await.is(400);
    world.of_tenant(2).admin(Ask::new(Method::PUT, "/admin/schemas/x").json(&schema)).await.is(403);
    put("/admin/schemas/bot%20v1?default=true", &schema).await.is(200);
    let new = json!({"traits": {"name": "b"}});
    let made = world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    assert_eq!(made.text("/schema_id"), "bot v1");
}

#[tokio::test]
async fn what_happened_is_listed_verified_and_exported() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    world.log_in("ann@example.org").await;
    world.create("bob@example.org").await;
    let list = |query: String| world.admin(Ask::get(format!("/admin/audit/events{query}")));
    let all = list(String::new()).await.is(200);
    assert_eq!(all.body.as_array().unwrap().len(), 3);
    let anns = list(format!("?identity_id={ann}&page_size=1")).await.is(200);
    assert_eq!(anns.text("/0/kind"), "session.issued");
    assert_eq!((anns.text("/0/actor"), anns.text("/0/ip_address")), ("self", "192.0.2.1"));
    assert_eq!((&anns.body[0]["sequence"], anns.text("/0/identity_id")), (&json!(2), &*ann));
    assert!(anns.header("link").contains("rel=\"next\""));
    let created = list("?kind=identity.created".to_owned()).await.is(200);
    assert_eq!(created.body.as_array().unwrap().len(), 2);
    for bad in ["?kind=nonsense", "?identity_id=x", "?page_token=forged"] {
        list(bad.to_owned()).await.is(400);
    }
    let verify = |query: &str| world.admin(Ask::get(format!("/admin/audit/verify{query}")));
    let holds = verify(&format!("?identity_id={ann}")).await.is(200);
    let expected = json!({"holds": true, "events": 2, "broken_at": null, "seals": 0,
        "broken_seals": []});
    assert_eq!(holds.body, expected);
    verify("").await.is(400);

    let export = |id: &str| world.admin(Ask::get(format!("/admin/identities/{id}/export")));
    let all = export(&ann).await.is(200);
    assert_eq!(all.text("/identity/traits/email"), "ann@example.org");
    assert_eq!(all.body["sessions"].as_array().unwrap().len(), 1);
    let kinds: Vec<_> =
        all.body["events"].as_array().unwrap().iter().map(|e| e["kind"].clone()).collect();
    assert_eq!(json!(kinds), json!(["identity.exported", "session.issued", "identity.created"]));
    assert_eq!(all.body["complete"], true);
    for secret in ["argon2", "hashed_password", "ory_st_"] {
        assert!(!all.body.to_string().contains(secret), "{secret}");
    }
    export(NOBODY).await.is(404);
    let other = world.of_tenant(2);
    other.admin(Ask::get(format!("/admin/identities/{ann}/export"))).await.is(404);
    let foreign = other.admin(Ask::get("/admin/audit/events")).await.is(200);
    assert_eq!(foreign.body, json!([]));
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens() {
    use futures::StreamExt as _;
    let world = World::new();
    world.create("ann@example.org").await;
    world.advance(1);
    let open = async |from: Option<String>| {
        let mut request = Request::get("/admin/audit/events").header("accept", "text/event-stream");
        if let Some(from) = from {
            request = request.header("last-event-id", from);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(world.tenant);
        let response = world.admin.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        response.into_body().into_data_stream()
    };
    let mut stream = open(None).await;
    world.create("bob@example.org").await;
    let told = stream.next().await.unwrap().unwrap();
    let told = String::from_utf8(told.to_vec()).unwrap();
    assert!(told.contains("event: identity.created"), "{told}");
    let id = told.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(stream);
    world.advance(60);
    world.log_in("bob@example.org").await;
    // Who comes back misses nothing.
    let mut stream = open(Some(id)).await;
    let mut seen = String::new();
    while !seen.contains("event: session.issued") {
        seen.push_str(std::str::from_utf8(&stream.next().await.unwrap().unwrap()).unwrap());
    }
    assert!(seen.contains("\"kind\":\"session.issued\""), "{seen}");
}

#[tokio::test]
async fn what_happens_is_told_no_longer_than_the_key_holds() {
    use futures::StreamExt as _;
    let world = World::new();
    let holds = Arc::new(AtomicBool::new(true));
    let asked = holds.clone();
    let allowed = StillAllowed::new(move || {
        let holds = asked.load(Ordering::Relaxed);
        let told = if holds { Ok(()) } else { Err(ApiError::unauthorized("It is revoked.")) };
        Box::pin(async { told })
    });
    let request = Request::get("/admin/audit/events").header("accept", "text/event-stream");
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(world.tenant);
    request.extensions_mut().insert(allowed);
    let response = world.admin.clone().oneshot(request).await.unwrap();
    let mut stream = response.into_body().into_data_stream();
    world.create("ann@example.org").await;
    assert!(stream.next().await.is_some());
    holds.store(false, Ordering::Relaxed);
    world.create("bob@example.org").await;
    let rest = tokio::time::timeout(Duration::from_secs(10), stream.next()).await;
    assert!(rest.expect("the stream goes on").is_none(), "the key holds no longer");
}

#[tokio::test]
async fn identity_is_erased_and_the_erasure_can_be_shown() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let uri = format!("/admin/identities/{ann}/erasure");
    world.admin(Ask::get(&uri)).await.is(404);
    world.of_tenant(2).admin(Ask::new(Method::POST, &uri)).await.is(404);
    let asked = world.admin(Ask::new(Method::POST, &uri)).await.is(202);
    assert_eq!(asked.text("/identity_id"), ann);
    assert_eq!(asked.body["done_at"], Value::Null);
    world.whoami(&token).await.is(401);
    world.admin(Ask::get(format!("/admin/identities/{ann}"))).await.is(404);
    world.admin(Ask::new(Method::POST, &uri)).await.is(404);
    assert_eq!(world.admin(Ask::get(&uri)).await.is(200).body, asked.body);
    world.create("ann@example.org").await;
}
