//! Identities, as administrators manage them.

use super::*;

#[tokio::test]
async fn created_identity_is_shown_as_kratos_shows_it() {
    let world = World::new();
    let mut new = new_identity("Ann@Example.org");
    new["metadata_public"] = json!({"plan": "free"});
    new["metadata_admin"] = json!({"note": "vip"});
    new["verifiable_addresses"] = json!([{"value": "ann@example.org", "verified": true,
        "via": "email", "status": "completed"}]);
    let created = world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    let id = created.text("/id").to_owned();
    assert_eq!(created.header("location"), format!("/admin/identities/{id}"));
    assert_eq!(created.header("content-type"), "application/json; charset=utf-8");
    assert!(!created.header("x-cardea-snaptoken").is_empty());
    let expected = json!({
        "id": "<uuid>",
        "credentials": {"password": {"type": "password", "identifiers": ["ann@example.org"],
            "version": 0, "created_at": "<time>", "updated_at": "<time>"}},
        "schema_id": "default",
        "schema_url": "http://127.0.0.1:4433/schemas/ZGVmYXVsdA",
        "state": "active",
        "state_changed_at": "<time>",
        "traits": {"email": "Ann@Example.org", "name": {"first": "Ann"}},
        "verifiable_addresses": [{"id": "<uuid>", "value": "ann@example.org", "verified": true,
            "via": "email", "status": "completed", "verified_at": "<time>",
            "created_at": "<time>", "updated_at": "<time>"}],
        "recovery_addresses": [{"id": "<uuid>", "value": "ann@example.org", "via": "email",
            "created_at": "<time>", "updated_at": "<time>"}],
        "metadata_public": {"plan": "free"},
        "metadata_admin": {"note": "vip"},
        "created_at": "<time>",
        "updated_at": "<time>",
        "organization_id": null,
    });
    assert_eq!(created.golden(), expected);
    assert_eq!(created.text("/created_at"), "2027-01-15T08:00:00Z");

    let read = world.admin(Ask::get(format!("/admin/identities/{id}"))).await.is(200);
    assert_eq!(read.body, created.body);
    let uri = format!("/admin/identities/{id}?include_credential=password");
    let hash = world.admin(Ask::get(uri)).await.is(200);
    let hash = hash.text("/credentials/password/config/hashed_password");
    assert!(hash.starts_with("$argon2id$"), "{hash}");
}

#[tokio::test]
async fn hashed_password_is_imported_and_logs_in() {
    let world = World::new();
    let ann = world.create("ann@example.org").await;
    let uri = format!("/admin/identities/{ann}?include_credential=password");
    let read = world.admin(Ask::get(uri)).await.is(200);
    let hash = read.body["credentials"]["password"]["config"].clone();
    let mut new = new_identity("bob@example.org");
    new["credentials"]["password"]["config"] = hash;
    world.admin(Ask::post("/admin/identities", &new)).await.is(201);
    world.log_in("bob@example.org").await;
}

#[tokio::test]
async fn duplicate_identifier_conflicts() {
    let world = World::new();
    world.create("ann@example.org").await;
    let traits_of = |email: &str| json!({"schema_id": "default", "traits": {"email": email}});
    for email in ["ann@example.org", "ANN@example.org"] {
        let answer = world.admin(Ask::post("/admin/identities", &traits_of(email))).await.is(409);
        let reason = "This identity conflicts with another identity that already exists.";
        let message = "The resource could not be created due to a conflict";
        assert_eq!(answer.body, envelope(409, "Conflict", reason, message));
    }
}

#[tokio::test]
async fn identities_are_listed_in_pages() {
    let world = World::new();
    let mut ids = Vec::new();
    for at in 0..7 {
        ids.push(world.create(&format!("a{at}@example.org")).await);
    }
    ids.sort();
    let mut found = Vec::new();
    let mut uri = "/admin/identities?page_size=3".to_owned();
    let mut pages = 0;
    loop {
        let page = world.admin(Ask::get(&uri)).await.is(200);
        pages += 1;
        for identity in page.body.as_array().unwrap() {
            assert_eq!(identity.get("credentials"), None);
            assert!(identity.get("metadata_admin").is_some());
            found.push(identity["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(page.header("x-total-count"), "");
        let link = page.header("link");
        assert!(link.starts_with("</admin/identities?page_size=3>; rel=\"first\""), "{link}");
        let Some(next) = link.split(',').find(|part| part.ends_with("rel=\"next\"")) else { break };
        uri = next.split(['<', '>']).nth(1).unwrap().to_owned();
    }
    assert_eq!((pages, found), (3, ids.clone()));

    let legacy = world.admin(Ask::get("/admin/identities?page=2&per_page=3")).await.is(200);
    let shown: Vec<_> = legacy.body.as_array().unwrap().iter().map(|i| i["id"].clone()).collect();
    assert_eq!(json!(shown), json!(ids[3..6]));
    assert_eq!(legacy.header("x-total-count"), "7");
}

#[tokio::test]
async fn identities_are_found_by_identifier_and_by_ids() {
    let world = World::new();
    let (ann, bob) = (world.create("ann@example.org").await, world.create("bob@example.org").await);
    let list = |query: String| world.admin(Ask::get(format!("/admin/identities?{query}")));
    let found = list("credentials_identifier=ANN%40example.org".to_owned()).await.is(200);
    assert_eq!(found.body.as_array().unwrap().len(), 1);
    assert_eq!(found.text("/0/id"), ann);
    assert_eq!(found.text("/0/credentials/password/identifiers/0"), "ann@example.org");
    assert_eq!(found.body[0]["credentials"]["password"].get("config"), None);
    let none = list("credentials_identifier=eve%40example.org".to_owned()).await.is(200);
    assert_eq!(none.body, json!([]));
    let both = list(format!("ids={ann}&ids={bob}")).await.is(200);
    assert_eq!(both.body.as_array().unwrap().len(), 2);
    let ids = format!("ids={ann}&credentials_identifier=x");
    let refused = list(ids).await.is(400);
    assert_eq!(refused.text("/error/reason"), "You cannot combine multiple filters in this API");
    let many = vec!["ids=6ba7b810-9dad-41d1-80b4-00c04fd430c8"; 501].join("&");
    list(many).await.is(400);
}

#[tokio::test]
async fn identity_is_replaced_and_patched() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let uri = format!("/admin/identities/{id}");
    let change = json!({"schema_id": "default", "traits": {"email": "ann2@example.org"},
        "state": "inactive", "metadata_public": {"a": 1}, "unknown": "is ignored"});
    let put = Ask::new(Method::PUT, &uri).json(&change);
    let answer = world.admin(put).await.is(200);
    assert_eq!(answer.text("/state"), "inactive");
    assert_eq!(answer.text("/credentials/password/identifiers/0"), "ann2@example.org");
    assert_eq!(answer.body["metadata_public"], json!({"a": 1}));
    assert!(!answer.header("x-cardea-snaptoken").is_empty());

    let patch = |ops: Value| Ask::new(Method::PATCH, &uri).json(&ops);
    let ops = json!([{"op": "replace", "path": "/state", "value": "active"},
        {"op": "add", "path": "/metadata_public/b", "value": 2},
        {"op": "replace", "path": "/traits/email", "value": "ann3@example.org"}]);
    let answer = world.admin(patch(ops)).await.is(200);
    assert_eq!(answer.text("/state"), "active");
    assert_eq!(answer.body["metadata_public"], json!({"a": 1, "b": 2}));
    world.log_in("ann3@example.org").await;

    for bad in [
        json!([{"op": "replace", "path": "/id", "value": "x"}]),
        json!([{"op": "replace", "path": "/credentials", "value": {}}]),
        json!([{"op": "remove", "path": "/metadata_public/z"}]),
        json!([{"op": "replace", "path": "/state", "value": "asleep"}]),
        json!([{"op": "replace", "path": "/traits/email", "value": "no address"}]),
        json!([{"op": "jump", "path": "/traits"}]),
        json!({"op": "remove", "path": "/traits"}),
    ] {
        world.admin(patch(bad)).await.is(400);
    }
    let unchanged = world.admin(Ask::get(&uri)).await.is(200);
    assert_eq!(unchanged.text("/traits/email"), "ann3@example.org");
}

#[tokio::test]
async fn deleted_identity_is_gone_with_its_sessions() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    world.whoami(&token).await.is(200);
    let uri = format!("/admin/identities/{id}");
    let answer = world.admin(Ask::delete(&uri)).await.is(204);
    assert_eq!(answer.body, Value::Null);
    world.whoami(&token).await.is(401);
    world.admin(Ask::get(&uri)).await.is(404);
    world.admin(Ask::delete(&uri)).await.is(404);
    world.create("ann@example.org").await;
}

#[tokio::test]
async fn inactive_identity_has_no_sessions_and_gets_none() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let ops = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
    let uri = format!("/admin/identities/{id}");
    world.admin(Ask::new(Method::PATCH, uri).json(&ops)).await.is(200);
    world.whoami(&token).await.is(401);
    let flow = world.flow("login").await;
    let refused = world.submit_login(&flow, "ann@example.org", PASSWORD).await.is(401);
    assert_eq!(refused.text("/error/id"), "identity_disabled");
    let flow = world.flow("login").await;
    let wrong = world.submit_login(&flow, "ann@example.org", "another password").await.is(400);
    assert_eq!(wrong.body["ui"]["messages"][0]["id"], 4_000_006, "only the owner learns it");
}

#[tokio::test]
async fn one_tenant_sees_nothing_of_another() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (token, session) = world.log_in("ann@example.org").await;
    let other = world.of_tenant(2);
    other.admin(Ask::get(format!("/admin/identities/{id}"))).await.is(404);
    assert_eq!(other.admin(Ask::get("/admin/identities")).await.is(200).body, json!([]));
    other.admin(Ask::get(format!("/admin/sessions/{session}"))).await.is(404);
    other.admin(Ask::delete(format!("/admin/identities/{id}"))).await.is(404);
    other.whoami(&token).await.is(401);
    other.create("ann@example.org").await;
    world.whoami(&token).await.is(200);
}

#[tokio::test]
async fn unknown_outcome_is_told_as_such() {
    let world = World::new();
    *world.store.commits.lock() = Some(StoreError::Unknown);
    let ask = Ask::post("/admin/identities", &new_identity("ann@example.org"));
    let answer = world.admin(ask).await.is(503);
    assert_eq!(answer.text("/error/id"), "outcome_unknown");
    assert_eq!(answer.header("ory-error-id"), "outcome_unknown");
    assert_eq!(answer.header("retry-after"), "");
}

#[tokio::test]
async fn schemas_are_read_by_name_and_by_url() {
    let world = World::new();
    let all = world.public(Ask::get("/schemas")).await.is(200);
    let ids: Vec<_> = all.body.as_array().unwrap().iter().map(|s| s["id"].clone()).collect();
    assert_eq!(json!(ids), json!(["default", "preset://email"]));
    let schema = &all.body[0]["schema"];
    for id in ["default", "ZGVmYXVsdA", "preset%3A%2F%2Femail", "cHJlc2V0Oi8vZW1haWw"] {
        let one = world.public(Ask::get(format!("/schemas/{id}"))).await.is(200);
        assert_eq!(&one.body, schema, "{id}");
    }
    world.public(Ask::get("/schemas/other")).await.is(404);
}

/// Who says nothing of the state wants it to stay, whatever it becomes meanwhile.
#[tokio::test]
async fn replacing_somebody_who_is_deactivated_meanwhile_activates_nobody() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let (service, who) = (world.service.clone(), id.parse().unwrap());
    let scope = cardea_identity::Scope { tenant: world.tenant };
    *world.store.meanwhile.lock() = Some(Box::pin(async move {
        let off = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
        service.patch_identity(scope, who, &off).await.unwrap();
    }));
    let body = json!({"schema_id": "default", "traits": traits("ann@example.org")});
    let uri = format!("/admin/identities/{id}");
    let replaced = world.admin(Ask::new(Method::PUT, uri).json(&body)).await.is(200);
    assert_eq!(replaced.text("/state"), "inactive");
    world.whoami(&token).await.is(401);
}
