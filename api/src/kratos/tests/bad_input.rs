//! Input that is not what it should be: a clear answer, and nothing half done.

use super::*;
use crate::body::BODY_BYTES_MAX;

#[tokio::test]
async fn bad_bodies_are_refused_with_what_is_wrong() {
    let world = World::new();
    let table = [
        ("", "unexpected EOF"),
        ("{", "unexpected EOF"),
        ("{\"schema_id\": \"default\",}", "invalid JSON at line 1 column 25"),
        ("nonsense", "invalid JSON at line 1 column 2"),
        ("[]", "json: a value at line 1 column 0 is of the wrong type"),
        ("{\"schema_id\": 7}", "json: a value at line 1 column 15 is of the wrong type"),
        ("{\"state\": true}", "json: a value at line 1 column 14 is of the wrong type"),
        ("{\"pasword\": \"secret\"}", "json: unknown field \"pasword\""),
    ];
    for (body, message) in table {
        let ask = Ask::new(Method::POST, "/admin/identities").text("application/json", body);
        let answer = world.admin(ask).await.is(400);
        let told = answer.text("/error/message");
        let wrong_type = message.ends_with("wrong type") && told.ends_with("wrong type");
        assert!(told == message || wrong_type, "{body}: {told}");
    }
    let listed = world.admin(Ask::get("/admin/identities")).await.is(200);
    assert_eq!(listed.body, json!([]));
}

#[tokio::test]
async fn bad_identities_are_refused_with_a_reason() {
    let world = World::new();
    let with = |name: &str, value: Value| {
        let mut new = new_identity("ann@example.org");
        new[name] = value;
        new
    };
    let credentials = |config: Value| with("credentials", json!({"password": {"config": config}}));
    let table = [
        (with("schema_id", json!("nobody's")), "Unable to find JSON Schema ID: nobody's"),
        (with("state", json!("asleep")), "identity state is not valid"),
        (with("traits", json!("text")), "I[#/traits]"),
        (with("traits", json!(null)), "I[#/traits/email] Property email is missing."),
        (with("traits", json!({"email": "no address"})), "is not a valid email address"),
        (with("traits", json!({"email": "a@b.co", "age": 3})), "additionalProperties"),
        (with("external_id", json!("x".repeat(257))), "external_id may have at most 256 bytes."),
        (with("organization_id", json!("acme")), "organization_id is no UUID."),
        (with("organization_id", json!(7)), "organization_id is no UUID."),
        (with("region", json!("eu-central")), "region is not supported."),
        (with("credentials", json!({"saml": {"config": {"x": 1}}})), "\"saml\" cannot be imported"),
        (
            with(
                "credentials",
                json!({"oidc": {"config": {"providers": [{"provider": "x", "subject": "s"}]}}}),
            ),
            "there is no provider \"x\" here",
        ),
        (with("credentials", json!({"totp": {"config": {"totp_url": "x"}}})), "totp_url is no URL"),
        (with("credentials", json!("x")), "credentials"),
        (credentials(json!({"password": 7})), "not a string"),
        (credentials(json!({"password": "a", "hashed_password": "b"})), "exclude each other"),
        (credentials(json!({"hashed_password": "clear"})), "no known form"),
        (credentials(json!({"hashed_password": "$md5$AAAA"})), "malformed"),
        (
            credentials(json!({"hashed_password": format!("$2b$16${}", "a".repeat(53))})),
            "at most 15",
        ),
        (with("verifiable_addresses", json!([{"via": "pigeon"}])), "via is neither"),
        (with("metadata_public", json!("m".repeat(70_000))), "Metadata"),
    ];
    for (body, reason) in table {
        let answer = world.admin(Ask::post("/admin/identities", &body)).await;
        assert_eq!(answer.status, 400, "{reason}: {}", answer.body);
        let told = answer.text("/error/reason");
        assert!(told.contains(reason), "{reason}: {told}");
        assert!(!told.contains(PASSWORD));
    }
    let listed = world.admin(Ask::get("/admin/identities")).await.is(200);
    assert_eq!(listed.body, json!([]));
}

#[tokio::test]
async fn ids_that_are_no_uuid_are_refused_as_kratos_does() {
    let world = World::new();
    let body = json!({"schema_id": "default", "traits": traits("a@b.co"), "state": "active"});
    for id in ["x", "6ba7b8109dad41d180b400c04fd430c8", "%7Bx%7D", "..%2F..%2Fetc", "%00"] {
        let identity = format!("/admin/identities/{id}");
        world.admin(Ask::get(&identity)).await.is(404);
        world.admin(Ask::delete(&identity)).await.is(404);
        world.admin(Ask::new(Method::PUT, &identity).json(&body)).await.is(404);
        world.admin(Ask::new(Method::PATCH, &identity).json(&json!([]))).await.is(404);
        world.admin(Ask::get(format!("{identity}/sessions"))).await.is(400);
        world.admin(Ask::delete(format!("{identity}/sessions"))).await.is(400);
        let session = format!("/admin/sessions/{id}");
        world.admin(Ask::get(&session)).await.is(400);
        world.admin(Ask::delete(&session)).await.is(400);
        world.admin(Ask::new(Method::PATCH, format!("{session}/extend"))).await.is(400);
        for purpose in ["login", "registration"] {
            let get = format!("/self-service/{purpose}/flows?id={id}");
            world.public(Ask::get(get)).await.is(404);
            let post = format!("/self-service/{purpose}?flow={id}");
            let refused = world.public(Ask::post(post, &json!({}))).await.is(400);
            let reason = "The flow query parameter is missing or malformed.";
            assert_eq!(refused.body, envelope(400, "Bad Request", reason, BAD_REQUEST));
        }
        world.admin(Ask::get(format!("/admin/identities?ids={id}"))).await.is(400);
    }
    let absent = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
    world.admin(Ask::get(format!("/admin/identities/{absent}/sessions"))).await.is(404);
    world.admin(Ask::get(format!("/admin/sessions/{absent}"))).await.is(404);
    world.admin(Ask::delete(format!("/admin/sessions/{absent}"))).await.is(404);
    let uri = format!("/self-service/login?flow={absent}");
    let body = json!({"method": "password", "identifier": "a@b.co", "password": PASSWORD});
    world.public(Ask::post(uri, &body)).await.is(404);
}

#[tokio::test]
async fn forged_and_foreign_page_tokens_are_refused() {
    let world = World::new();
    for at in 0..3 {
        world.create(&format!("a{at}@example.org")).await;
    }
    let page = world.admin(Ask::get("/admin/identities?page_size=1")).await.is(200);
    let link = page.header("link");
    let token = link.rsplit("page_token=").next().unwrap().split('>').next().unwrap().to_owned();
    let list = |token: &str| Ask::get(format!("/admin/identities?page_token={token}"));
    world.admin(list(&token)).await.is(200);
    let other = world.of_tenant(2);
    other.admin(list(&token)).await.is(400);
    let altered = token.replacen(&token[20..21], if &token[20..21] == "A" { "B" } else { "A" }, 1);
    let long = "A".repeat(5000);
    for forged in ["x", "eyJwYWdlIjoiMSJ9", &altered, &token[1..], &long] {
        let refused = world.admin(list(forged)).await.is(400);
        let reason = "The page token is not valid for this list.";
        assert_eq!(refused.text("/error/reason"), reason, "{forged}");
    }
    let (session, _) = {
        let created = new_identity("s@example.org");
        world.admin(Ask::post("/admin/identities", &created)).await.is(201);
        world.log_in("s@example.org").await
    };
    let ask = Ask::get(format!("/sessions?page_token={token}")).token(&session);
    world.public(ask).await.is(400);
    for bad in ["page_size=x", "page_size=-1", "page=x", "page=9&per_page=500"] {
        world.admin(Ask::get(format!("/admin/identities?{bad}"))).await.is(400);
    }
}

#[tokio::test]
async fn body_over_the_bound_is_refused_everywhere() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let large = || format!("{{\"x\": \"{}\"}}", "x".repeat(BODY_BYTES_MAX));
    let flow = world.flow("login").await;
    let public = [
        (Method::POST, format!("/self-service/login?flow={flow}")),
        (Method::POST, format!("/self-service/registration?flow={flow}")),
        (Method::DELETE, "/self-service/logout/api".to_owned()),
    ];
    for (method, uri) in public {
        let ask = Ask::new(method, uri).text("application/json", large());
        let answer = world.public(ask).await.is(413);
        assert_eq!(answer.text("/error/message"), "The request body is too large");
    }
    let admin = [
        (Method::POST, "/admin/identities".to_owned()),
        (Method::PUT, format!("/admin/identities/{id}")),
        (Method::PATCH, format!("/admin/identities/{id}")),
    ];
    for (method, uri) in admin {
        world.admin(Ask::new(method, uri).text("application/json", large())).await.is(413);
    }
}

#[tokio::test]
async fn unknown_media_types_are_refused() {
    let world = World::new();
    let id = world.create("ann@example.org").await;
    let flow = world.flow("login").await;
    for content_type in ["text/plain", "application/xml", "multipart/form-data; boundary=x", ""] {
        let uri = format!("/self-service/login?flow={flow}");
        let ask = Ask::new(Method::POST, uri).text(content_type, "{}");
        let answer = world.public(ask).await.is(400);
        let reason = answer.text("/error/reason");
        assert!(reason.starts_with("HTTP POST Request used unknown HTTP Header"), "{reason}");
        let uri = format!("/admin/identities/{id}");
        world.admin(Ask::new(Method::PUT, uri).text(content_type, "{}")).await.is(400);
    }
    let form = "application/x-www-form-urlencoded";
    let uri = format!("/admin/identities/{id}");
    world.admin(Ask::new(Method::PUT, uri).text(form, "state=inactive")).await.is(400);
}

#[tokio::test]
async fn members_of_the_wrong_type_are_refused_in_flows() {
    let world = World::new();
    for (purpose, body) in [
        ("login", json!({"method": 1})),
        ("login", json!({"method": "password", "identifier": ["a"], "password": "x"})),
        ("login", json!({"method": "password", "identifier": "a", "password": {"$ne": ""}})),
        ("registration", json!({"method": "password", "password": 12345678})),
    ] {
        let flow = world.flow(purpose).await;
        let uri = format!("/self-service/{purpose}?flow={flow}");
        let answer = world.public(Ask::post(uri, &body)).await.is(400);
        assert_eq!(answer.text("/error/message"), BAD_REQUEST, "{body}");
    }
    for body in ["[]", "null", "7", "{\"method\": \"password\""] {
        let flow = world.flow("login").await;
        let uri = format!("/self-service/login?flow={flow}");
        world.public(Ask::new(Method::POST, uri).text("application/json", body)).await.is(400);
    }
}

#[tokio::test]
async fn parameters_that_are_not_supported_are_not_ignored() {
    let world = World::new();
    for uri in [
        "/self-service/login/api?organization=6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "/self-service/registration/api?organization=acme",
        "/self-service/registration/api?identity_schema=other",
    ] {
        world.public(Ask::get(uri)).await.is(400);
    }
    for query in [
        "preview_credentials_identifier_similar=a",
        "organization_id=acme",
        "ids=x",
        "include_credential=x",
    ] {
        world.admin(Ask::get(format!("/admin/identities?{query}"))).await.is(400);
    }
}
