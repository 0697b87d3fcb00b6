//! The table of routes, and what holds on all of them.

use std::collections::BTreeSet;

use super::*;
use crate::{Scope, Surface, kratos};

/// A path with something in place of its parameters.
fn filled(path: &str) -> String {
    path.replace("{id}", "6ba7b810-9dad-41d1-80b4-00c04fd430c8")
        .replace("{kind}", "password")
        .replace("{external_id}", "x")
        .replace("{provider}", "p")
}

#[test]
fn administrative_routes_are_below_admin_and_name_their_scope() {
    for route in kratos::routes() {
        let below = route.path.starts_with("/admin/");
        assert_eq!(below, route.surface == Surface::Admin, "{}", route.path);
        assert_eq!(below, route.scope.is_some(), "{}", route.path);
        let reads = matches!(route.scope, Some(Scope::Read(_)));
        assert!(!below || reads == (route.method == Method::GET), "{}", route.path);
    }
}

#[test]
fn whoami_answers_every_method() {
    let methods: BTreeSet<_> = kratos::routes()
        .filter(|route| route.path == "/sessions/whoami")
        .map(|route| route.method.to_string())
        .collect();
    let expected = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"];
    assert_eq!(methods.iter().map(String::as_str).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn every_route_is_answered_by_its_own_router_only() {
    let world = World::new();
    for route in kratos::routes() {
        let ask = || Ask::new(route.method.clone(), filled(route.path));
        let (own, other) = match route.surface {
            Surface::Public => (&world.public, &world.admin),
            Surface::Admin => (&world.admin, &world.public),
        };
        let answer = world.send(own, ask()).await;
        let routed = answer.body.is_object()
            || answer.body.is_array()
            || answer.status == 303
            || answer.header("content-type").starts_with("text/")
            || route.method == Method::HEAD;
        assert!(routed, "{} {}: {}", route.method, route.path, answer.status);
        assert_eq!(world.send(other, ask()).await.status, 404, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn request_without_a_tenant_is_answered_by_nobody() {
    let world = World::new();
    world.create("ann@example.org").await;
    for route in kratos::routes() {
        let router = match route.surface {
            Surface::Public => &world.public,
            Surface::Admin => &world.admin,
        };
        let request = Request::builder().method(route.method.clone()).uri(filled(route.path));
        let request = request.body(Body::empty()).unwrap();
        let answer = router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 500, "{} {}", route.method, route.path);
    }
}

#[tokio::test]
async fn every_operation_tells_what_the_store_tells() {
    let world = World::with_codes();
    world.create("ann@example.org").await;
    let (token, _) = world.log_in("ann@example.org").await;
    let (recovery, verification) = (world.flow("recovery").await, world.flow("verification").await);
    let (login, registration) = (world.flow("login").await, world.flow("registration").await);
    let logout = world.public(Ask::get("/self-service/logout/browser").token(&token)).await;
    let logout = logout.is(200).text("/logout_token").to_owned();
    // Pages tell it as pages do.
    let reads_nothing = [
        "listIdentitySchemas",
        "getIdentitySchema",
        "getWebAuthnJavaScript",
        "getWellKnownChangePassword",
        "socialCallbackByForm",
        // There is no such provider.
        "createTestLoginFlow",
        // What it gives is kept nowhere, and what was not given is refused first.
        "createFedcmFlow",
        "updateFedcmFlow",
    ];
    let unavailable = StoreError::unavailable("node 3");
    *world.store.reads.lock() = Some(unavailable.clone());
    *world.store.commits.lock() = Some(unavailable);
    for route in kratos::routes()
        .filter(|route| !reads_nothing.contains(&route.operation_id))
        .filter(|route| !route.operation_id.starts_with("page"))
    {
        let body = match route.operation_id {
            "patchIdentity" => json!([]),
            "updateLoginFlow" => {
                json!({"method": "password", "identifier": "a@b.c", "password": PASSWORD})
            }
            "updateRegistrationFlow" => {
                json!({"method": "password", "traits": traits("a@b.c"), "password": PASSWORD})
            }
            "updateRecoveryFlow" | "updateVerificationFlow" => {
                json!({"method": "code", "email": "ann@example.org"})
            }
            "createRecoveryCodeForIdentity" | "createRecoveryLinkForIdentity" => {
                json!({"identity_id": "6ba7b810-9dad-41d1-80b4-00c04fd430c8"})
            }
            "batchPatchIdentities" => json!({"identities": [{"create": new_identity("a@b.c")}]}),
            "manageSessions" => json!({"action": "disable", "identities": ["*"]}),
            "importIdentities" => {
                let id = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";
                json!({"identities": [{"id": id, "traits": traits("a@b.c")}]})
            }
            "putIdentitySchema" => json!({"properties": {"traits": {"type": "object"}}}),
            "performNativeLogout" => json!({"session_token": token}),
            _ => json!({"schema_id": "default", "traits": traits("a@b.c"), "state": "active"}),
        };
        let query = match route.operation_id {
            "updateLoginFlow" => format!("?flow={login}"),
            "updateRegistrationFlow" => format!("?flow={registration}"),
            "getLoginFlow" => format!("?id={login}"),
            "getRegistrationFlow" => format!("?id={registration}"),
            "getRecoveryFlow" => format!("?id={recovery}"),
            "updateRecoveryFlow" => format!("?flow={recovery}"),
            "verifyAudit" => "?identity_id=6ba7b810-9dad-41d1-80b4-00c04fd430c8".to_owned(),
            "followRecoveryLink" => format!("?flow={recovery}&token=x"),
            "followVerificationLink" => format!("?flow={verification}&token=x"),
            "getVerificationFlow" => format!("?id={verification}"),
            "updateVerificationFlow" => format!("?flow={verification}"),
            "getSettingsFlow" => format!("?id={login}"),
            "updateSettingsFlow" => format!("?flow={login}"),
            "deleteTestLoginFlow" => format!("?id={login}"),
            "getFlowError" => format!("?id={login}"),
            "updateLogoutFlow" => format!("?token={logout}"),
            "socialCallback" => format!("?state={}", "A".repeat(64)),
            "exchangeSessionToken" => {
                format!("?init_code={}&return_to_code=x", "A".repeat(64))
            }
            _ => String::new(),
        };
        let uri = format!("{}{query}", filled(route.path));
        let ask = Ask::new(route.method.clone(), uri).json(&body);
        let begins = route.operation_id.starts_with("create") && route.path.contains("/self-");
        let begins = begins && !route.operation_id.contains("Logout");
        let begins = begins && !route.operation_id.contains("Settings");
        let ask = if begins { ask } else { ask.token(&token) };
        let router = match route.surface {
            Surface::Public => &world.public,
            Surface::Admin => &world.admin,
        };
        let answer = world.send(router, ask).await;
        let what = format!("{} {}: {}", route.method, route.path, answer.body);
        assert_eq!(answer.status, 503, "{what}");
        assert_eq!(answer.header("retry-after"), "1", "{what}");
        assert_eq!(answer.header("ory-error-id"), "cluster_unavailable", "{what}");
        assert!(!answer.body.to_string().contains("node 3"), "{what}");
    }
}

#[tokio::test]
async fn errors_name_their_request_and_reads_are_not_cached() {
    let world = World::new();
    let ask = Ask::get("/admin/identities/x").header("x-request-id", "r-1");
    let answer = world.admin(ask).await.is(404);
    assert_eq!(
        answer.body,
        json!({"error": {"code": 404, "status": "Not Found", "request": "r-1",
            "message": "Unable to locate the resource"}})
    );
    assert_eq!(answer.header("content-type"), "application/json");
    let never = "private, no-cache, no-store, must-revalidate";
    assert_eq!(answer.header("cache-control"), never);
    let answer = world.admin(Ask::get("/admin/identities")).await.is(200);
    assert_eq!(answer.header("cache-control"), never);
    assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
}
