//! What is not taken, and what is said then.

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use super::{World, tuple};
use crate::Scope;

#[tokio::test]
async fn subjects_are_given_in_one_form_and_whole() {
    let world = World::speaking().await;
    let base = "/relation-tuples/check?namespace=Doc&object=1&relation=view";
    for (rest, message) in [
        ("", "subject is not allowed to be nil"),
        (
            "&subject_set.namespace=Group&subject_set.object=g",
            "incomplete subject, provide \"subject_id\" or a complete \"subject_set.*\"",
        ),
        (
            "&subject_id=a&subject_set.namespace=G&subject_set.object=g&subject_set.relation=m",
            "exactly one of subject_set or subject_id has to be provided",
        ),
    ] {
        assert_eq!(world.get(&format!("{base}{rest}")).await.is(400).message(), message);
    }
    let dropped = world.get(&format!("{base}&subject=ann")).await.is(400);
    assert!(dropped.reason().contains("support for \"subject\" was dropped"));
    world.get("/relation-tuples/check?namespace=Doc&subject_id=ann").await.is(400);
    let mut both = tuple("Doc:1#viewers@ann");
    both["subject_set"] = json!({"namespace": "G", "object": "g", "relation": "m"});
    world.put(&both).await.is(400);
    world.put(&json!({"namespace": "Doc", "object": "1", "relation": "viewers"})).await.is(400);
    world.put(&json!({"object": "1", "relation": "viewers", "subject_id": "a"})).await.is(400);
}

#[tokio::test]
async fn names_that_are_too_long_are_refused() {
    let world = World::speaking().await;
    let mut body = tuple("Doc:1#viewers@ann");
    body["object"] = json!("x".repeat(1 << 19));
    let told = world.put(&body).await.is(400);
    assert_eq!(told.reason(), "the object has 524288 bytes, at most 512 are taken.");
    body["object"] = json!("x".repeat(1 << 20));
    world.put(&body).await.is(413);
    let long = "x".repeat(600);
    let uri =
        format!("/relation-tuples/check?namespace=Doc&object={long}&relation=view&subject_id=a");
    world.get(&uri).await.is(400);
    world.get(&format!("/relation-tuples?object={long}")).await.is(400);
}

#[tokio::test]
async fn bodies_that_are_no_json_and_sizes_that_are_no_numbers_are_refused() {
    let world = World::speaking().await;
    for (method, uri) in [
        (Method::PUT, "/admin/relation-tuples"),
        (Method::PATCH, "/admin/relation-tuples"),
        (Method::POST, "/relation-tuples/check"),
        (Method::POST, "/relation-tuples/batch/check"),
        (Method::PUT, "/admin/opl"),
    ] {
        for body in ["", "{", "null", "[1]", "\u{0}"] {
            let answer = world.send(method.clone(), uri, body.to_owned(), &[]).await;
            assert_eq!(answer.status, 400, "{method} {uri} {body}: {}", answer.body);
        }
    }
    for query in ["page_size=x", "page_size=-1", "page_token=forged", "subject=ann"] {
        world.get(&format!("/relation-tuples?{query}")).await.is(400);
    }
    world.get("/relation-tuples?page_size=99999999999").await.is(200);
}

#[tokio::test]
async fn request_without_a_tenant_is_answered_by_nobody() {
    let world = World::speaking().await;
    for route in crate::keto::routes().filter(|route| route.scope.is_some()) {
        if route.path.contains(".v1") {
            // Over gRPC, and with a test of its own.
            continue;
        }
        let request = Request::builder().method(route.method.clone()).uri(route.path);
        let request = request.body(Body::empty()).unwrap();
        let answer = world.router.clone().oneshot(request).await.unwrap();
        assert_eq!(answer.status(), 500, "{} {}", route.method, route.path);
        let changes = ["PUT", "PATCH", "DELETE"].contains(&route.method.as_str())
            || route.path.ends_with("/import");
        let scope = if changes { Scope::Write("permission") } else { Scope::Read("permission") };
        assert_eq!(route.scope, Some(scope), "{} {}", route.method, route.path);
    }
}
