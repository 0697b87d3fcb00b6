//! Namespaces, syntax, the language in force.

use http::Method;
use serde_json::json;

use super::{LANGUAGE, World};

#[tokio::test]
async fn namespaces_are_listed_in_order() {
    let world = World::speaking().await;
    let answer = world.get("/namespaces").await.is(200);
    assert_eq!(
        answer.body,
        json!({"namespaces": [{"name": "Doc"}, {"name": "Group"}, {"name": "User"}]})
    );
    let empty = World::new().get("/namespaces").await.is(200);
    assert_eq!(empty.body, json!({"namespaces": []}));
}

#[tokio::test]
async fn syntax_errors_come_with_their_places() {
    let world = World::new();
    let check = async |text: &str| {
        let headers = [("content-type", "text/plain")];
        world.send(Method::POST, "/opl/syntax/check", text.to_owned(), &headers).await.is(200).body
    };
    assert_eq!(check(LANGUAGE).await, json!({}));
    assert_eq!(
        check("class A implements Namespace {\n  related: { x: B[] }\n}").await,
        json!({"errors": [{"message": "the namespace B is not declared",
            "start": {"Line": 2, "column": 17}, "end": {"Line": 2, "column": 18}}]})
    );
}

#[tokio::test]
async fn language_is_changed_while_running() {
    let world = World::speaking().await;
    let now = world.get("/admin/opl").await.is(200);
    assert!(!now.token().is_empty());
    let now = now.body;
    assert_eq!((&now["version"], &now["files"][0]["text"]), (&json!(1), &json!(LANGUAGE)));
    assert_eq!(world.speak(LANGUAGE).await.is(200).body, json!({"version": 1}));
    world.tuple("Doc:1#owners@ann").await;
    let stranding = world.speak("class User implements Namespace {}").await.is(409);
    assert_eq!(stranding.body["error"]["details"], json!({"stranded": ["Doc"]}));
    let put = async |body: serde_json::Value| {
        world.send(Method::PUT, "/admin/opl", body.to_string(), &[]).await
    };
    let file = json!([{"name": "u.ts", "text": "class User implements Namespace {}"}]);
    let outdated = put(json!({"files": file, "follows": 7, "force": true})).await.is(409);
    assert_eq!(outdated.body["error"]["details"], json!({"version": 1}));
    let forced = put(json!({"files": file, "follows": 1, "force": true})).await.is(200);
    assert_eq!(forced.body, json!({"version": 2}));
    let token = forced.token();
    let namespaces = world.get(&format!("/namespaces?snaptoken={token}")).await.is(200);
    assert_eq!(namespaces.body, json!({"namespaces": [{"name": "User"}]}));
    let bad = put(json!({"files": [{"name": "bad.ts", "text": "class"}]})).await.is(400);
    assert_eq!(bad.body["error"]["details"]["errors"][0]["file"], "bad.ts");
}
