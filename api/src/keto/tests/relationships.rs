//! Creating, patching, deleting and listing.

use http::Method;
use serde_json::{Value, json};

use super::{World, tuple};

async fn listed(world: &World, query: &str) -> Vec<Value> {
    let answer = world.get(&format!("/relation-tuples?{query}")).await.is(200);
    answer.body["relation_tuples"].as_array().unwrap().clone()
}

#[tokio::test]
async fn created_tuple_is_shown_with_its_place() {
    let world = World::speaking().await;
    let answer = world.tuple("Doc:a b#viewers@(Group:g#members)").await;
    let expected = json!({
        "namespace": "Doc", "object": "a b", "relation": "viewers",
        "subject_set": {"namespace": "Group", "object": "g", "relation": "members"},
    });
    assert_eq!(answer.body, expected);
    let place = answer.headers["location"].to_str().unwrap();
    assert_eq!(
        place,
        "/relation-tuples?namespace=Doc&object=a+b&relation=viewers&\
         subject_set.namespace=Group&subject_set.object=g&subject_set.relation=members"
    );
    assert_eq!(world.get(place).await.is(200).body["relation_tuples"], json!([expected]));
    world.tuple("Doc:a b#viewers@(Group:g#members)").await;
    assert_eq!(listed(&world, "namespace=Doc").await.len(), 1, "it is there once");
}

#[tokio::test]
async fn patch_is_all_or_nothing() {
    let world = World::speaking().await;
    world.tuple("Doc:1#viewers@ann").await;
    let change =
        |action: &str, text: &str| json!({"action": action, "relation_tuple": tuple(text)});
    let answer = world
        .patch(&json!([
            change("delete", "Doc:1#viewers@ann"),
            change("insert", "Doc:2#viewers@ann"),
            change("insert", "Doc:1#viewers@ann"),
        ]))
        .await
        .is(204);
    assert!(!answer.token().is_empty());
    assert_eq!(listed(&world, "").await, [tuple("Doc:2#viewers@ann")]);
    let bad = world
        .patch(&json!([change("insert", "Doc:3#viewers@ann"), {"action": "upsert",
            "relation_tuple": tuple("Doc:4#viewers@ann")}]))
        .await
        .is(400);
    assert_eq!(bad.message(), "unknown action upsert");
    assert_eq!(listed(&world, "object=3").await, [] as [Value; 0]);
    let many = vec![change("insert", "Doc:3#viewers@ann"); 1_001];
    world.patch(&json!(many)).await.is(413);
    assert_eq!(listed(&world, "object=3").await, [] as [Value; 0]);
    world.patch(&json!([])).await.is(204);
}

/// Values that a tuple fixes stand in its condition; beside it they would fix nothing.
#[tokio::test]
async fn context_beside_a_condition_is_refused_and_not_dropped() {
    let world = World::speaking().await;
    let mut odd = tuple("Doc:1#viewers@ann");
    odd["condition"] = json!({"expression": "plan == 'pro'", "parameters": {"plan": "string"}});
    odd["context"] = json!({"plan": "free"});
    let change = |action: &str| json!([{"action": action, "relation_tuple": odd}]);
    let told = world.put(&odd).await.is(400);
    assert!(told.reason().contains("context"), "{}", told.body);
    world.patch(&change("insert")).await.is(400);
    world.patch(&change("delete")).await.is(400);
    let line = odd.to_string();
    world.import(&line).await.is(400);
    assert_eq!(listed(&world, "").await, [] as [Value; 0]);
    // In a batch it would be for none of them.
    world.post("/relation-tuples/batch/check", &json!({"tuples": [odd]})).await.is(400);
    world.post("/relation-tuples/check", &odd).await.is(403);
}

#[tokio::test]
async fn deletion_takes_a_query_and_overlooks_nothing() {
    let world = World::speaking().await;
    for text in ["Doc:1#viewers@ann", "Doc:1#viewers@bob", "Doc:2#viewers@ann", "Gone:1#x@ann"] {
        world.tuple(text).await;
    }
    let delete = async |query: &str, body: &str| {
        let uri = format!("/admin/relation-tuples?{query}");
        world.send(Method::DELETE, &uri, body.to_owned(), &[]).await
    };
    for query in ["", "object=1", "namespace=Doc&subject=ann", "namespace=Doc&objct=1"] {
        delete(query, "").await.is(400);
    }
    delete("namespace=Doc&object=1", "{}").await.is(400);
    assert_eq!(listed(&world, "").await.len(), 4, "nothing was deleted");
    delete("namespace=Doc&object=1", "").await.is(204);
    assert_eq!(listed(&world, "").await, [tuple("Doc:2#viewers@ann"), tuple("Gone:1#x@ann")]);
    delete("namespace=Gone", "").await.is(204);
    delete("namespace=Doc&subject_id=nobody", "").await.is(204);
    assert_eq!(listed(&world, "").await, [tuple("Doc:2#viewers@ann")]);
}

#[tokio::test]
async fn list_has_pages_and_knows_its_namespaces() {
    let world = World::speaking().await;
    for at in 0..5 {
        world.tuple(&format!("Doc:{at}#viewers@ann")).await;
    }
    let (mut token, mut sizes) = (String::new(), Vec::new());
    loop {
        let uri = format!("/relation-tuples?namespace=Doc&page_size=2&page_token={token}");
        let page = world.get(&uri).await.is(200);
        sizes.push(page.body["relation_tuples"].as_array().unwrap().len());
        token = page.body["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(sizes, [2, 2, 1]);
    let unknown = world.get("/relation-tuples?namespace=Unknown").await.is(404);
    assert_eq!(unknown.reason(), "Unknown namespace with name \"Unknown\".");
    for by in ["subject_id=ann", "relation=viewers", "namespace=Doc&relation=viewers", ""] {
        assert_eq!(listed(&world, by).await.len(), 5, "{by}");
    }
    assert_eq!(listed(&world, "object=3").await, [tuple("Doc:3#viewers@ann")]);
}

#[tokio::test]
async fn tuple_expires_when_it_says() {
    let world = World::speaking().await;
    let mut body = tuple("Doc:1#viewers@ann");
    body["expires_at"] = json!("2000-01-01T00:00:00Z");
    world.put(&body).await.is(201);
    assert_eq!(listed(&world, "").await, [] as [Value; 0]);
    body["expires_at"] = json!("soon");
    world.put(&body).await.is(400);
}
