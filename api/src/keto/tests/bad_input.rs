//! What is not taken, and what is said then.

use axum::body::Body;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use super::{CYCLIC, World, tuple};
use crate::{
    Scope,
    consistency::{given_snaptoken, text_of},
};

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

/// What reads of an object there are, each with a relation of it.
fn reads_of(namespace: &str, relation: &str) -> [String; 6] {
    let about = format!("namespace={namespace}&object=1&relation={relation}");
    [
        format!("/relation-tuples/check?{about}&subject_id=ann"),
        format!("/relation-tuples/check/openapi?{about}&subject_id=ann"),
        format!("/relation-tuples/explain?{about}&subject_id=ann"),
        format!(
            "/relation-tuples/objects?namespace={namespace}&relation={relation}&subject_id=ann"
        ),
        format!("/relation-tuples/subjects?{about}"),
        format!("/relation-tuples/expand?{about}"),
    ]
}

#[tokio::test]
async fn unknown_relation_is_told_by_every_read() {
    let world = World::speaking().await;
    world.tuple("Doc:1#fly@ann").await;
    for uri in reads_of("Doc", "fly") {
        let told = world.get(&uri).await.is(400);
        let why = "The namespace \"Doc\" has no relation or permission \"fly\".";
        assert_eq!(told.reason(), why, "{uri}");
    }
    let body = json!({"tuples": [tuple("Doc:1#fly@ann")]});
    let told = world.post("/relation-tuples/batch/check", &body).await.is(200).body;
    assert_eq!(told["results"][0]["allowed"], false);
    assert!(told["results"][0]["error"].as_str().unwrap().contains("\"fly\""), "{told}");
}

#[tokio::test]
async fn cyclic_language_grants_nothing_and_says_so_under_negations() {
    let world = World::new();
    world.speak(CYCLIC).await.is(200);
    world.tuple("Cyclic:1#x@ann").await;
    let [check, openapi, explain, objects, subjects, expand] = reads_of("Cyclic", "a");
    world.get(&check).await.is(403);
    for uri in [openapi, explain] {
        assert_eq!(world.get(&uri).await.is(200).body["allowed"], false, "{uri}");
    }
    assert_eq!(world.get(&objects).await.is(200).body["objects"], json!([]));
    assert_eq!(world.get(&subjects).await.is(200).body["subject_ids"], json!([]));
    // As in Keto where no tuple is found.
    world.get(&expand).await.is(404);
    let [check, openapi, explain, objects, ..] = reads_of("Cyclic", "odd");
    for uri in [check, openapi, explain, objects] {
        let told = world.get(&uri).await.is(422);
        assert_eq!(told.reason(), "cycle_under_negation", "{uri}");
    }
}

#[tokio::test]
async fn forged_page_tokens_are_refused_by_every_list() {
    let world = World::speaking().await;
    for object in ["1", "2", "3"] {
        world.tuple(&format!("Doc:{object}#owners@ann")).await;
        world.tuple(&format!("Doc:1#owners@ann-{object}")).await;
    }
    let lists = [
        "/relation-tuples?namespace=Doc",
        "/relation-tuples/objects?namespace=Doc&relation=view&subject_id=ann",
        "/relation-tuples/subjects?namespace=Doc&object=1&relation=view",
    ];
    let mut tokens = Vec::new();
    for uri in lists {
        let page = world.get(&format!("{uri}&page_size=1")).await.is(200).body;
        tokens.push(page["next_page_token"].as_str().unwrap().to_owned());
    }
    for (uri, token) in lists.iter().zip(&tokens) {
        world.get(&format!("{uri}&page_token={token}")).await.is(200);
        let altered = (0..token.len()).step_by(5).map(|at| {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        });
        let short = [token[..token.len() / 2].to_owned(), format!("{token}AAAA")];
        let others = tokens.iter().filter(|other| *other != token).cloned();
        let made = ["0", "MQ", "eyJvZmZzZXQiOjF9"].map(str::to_owned);
        for forged in altered.chain(short).chain(others).chain(made) {
            let told = world.get(&format!("{uri}&page_token={forged}")).await;
            assert_eq!(told.status, 400, "{uri} {forged}: {}", told.body);
        }
    }
}

#[tokio::test]
async fn snaptokens_of_the_future_or_of_another_cluster_are_refused_by_every_read() {
    let world = World::speaking().await;
    let token = world.tuple("Doc:1#owners@ann").await.token();
    let mut future = given_snaptoken(&token).unwrap();
    future.positions.iter_mut().for_each(|position| position.revision += 1_000_000);
    let mut another = given_snaptoken(&token).unwrap();
    another.incarnation += 1;
    let lists = ["/relation-tuples?namespace=Doc", "/namespaces?x=", "/admin/opl?x="];
    for uri in reads_of("Doc", "view").into_iter().chain(lists.map(str::to_owned)) {
        world.get(&format!("{uri}&snaptoken={token}")).await.is(200);
        for strange in [&future, &another] {
            let told = world.get(&format!("{uri}&snaptoken={}", text_of(strange))).await.is(400);
            let why = "The snaptoken was not given by this cluster.";
            assert_eq!(told.reason(), why, "{uri} {strange:?}");
        }
    }
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
