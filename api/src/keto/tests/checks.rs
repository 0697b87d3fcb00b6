//! Checks, batches, expansions, look-ups.

use cardea_permission::engine::Limits;
use http::Method;
use serde_json::{Value, json};

use super::{LANGUAGE, World, tuple};

#[tokio::test]
async fn denied_check_is_200_in_one_form_and_403_in_the_other() {
    let world = World::speaking().await;
    world.tuple("Doc:1#viewers@(Group:g#members)").await;
    world.tuple("Group:g#members@ann").await;
    for (who, allowed) in [("ann", true), ("bob", false)] {
        let query = format!("namespace=Doc&object=1&relation=view&subject_id={who}");
        let mirrored = if allowed { 200 } else { 403 };
        let body = tuple(&format!("Doc:1#view@{who}"));
        let answers = [
            (world.get(&format!("/relation-tuples/check?{query}")).await, mirrored),
            (world.get(&format!("/relation-tuples/check/openapi?{query}")).await, 200),
            (world.post("/relation-tuples/check", &body).await, mirrored),
            (world.post("/relation-tuples/check/openapi", &body).await, 200),
        ];
        for (answer, status) in answers {
            let answer = answer.is(status);
            assert_eq!(answer.body, json!({"allowed": allowed}));
            assert!(!answer.token().is_empty());
        }
    }
    let set = "namespace=Doc&object=1&relation=view&subject_set.namespace=Group&\
               subject_set.object=g&subject_set.relation=members";
    world.get(&format!("/relation-tuples/check?{set}")).await.is(200);
}

#[tokio::test]
async fn unknown_namespace_is_denied_and_unknown_relation_is_told() {
    let world = World::speaking().await;
    world.tuple("Gone:1#x@ann").await;
    let check = async |text: &str| world.post("/relation-tuples/check/openapi", &tuple(text)).await;
    assert_eq!(check("Gone:1#x@ann").await.is(200).body, json!({"allowed": false}));
    world.post("/relation-tuples/check", &tuple("Gone:1#x@ann")).await.is(403);
    let unknown = check("Doc:1#edit@ann").await.is(400);
    assert_eq!(unknown.reason(), "The namespace \"Doc\" has no relation or permission \"edit\".");
}

#[tokio::test]
async fn limit_is_told_and_is_no_denial() {
    let world = World::with(Limits { depth: 3, ..Limits::default() });
    world.speak(LANGUAGE).await.is(200);
    for text in [
        "Group:a#members@(Group:b#members)",
        "Group:b#members@(Group:c#members)",
        "Group:c#members@(Group:d#members)",
        "Group:d#members@ann",
    ] {
        world.tuple(text).await;
    }
    for uri in ["/relation-tuples/check", "/relation-tuples/check/openapi"] {
        let told = world.post(uri, &tuple("Group:a#members@ann")).await.is(422);
        assert_eq!(
            told.body,
            json!({"error": {"id": "check_incomplete", "code": 422,
                "status": "Unprocessable Entity", "reason": "max_depth_exceeded",
                "details": {"at": "Group:a#members"},
                "message": "The check could not be completed"}})
        );
    }
    world.post("/relation-tuples/check?max-depth=2", &tuple("Group:b#members@ann")).await.is(422);
    world.post("/relation-tuples/check?max-depth=x", &tuple("Group:b#members@ann")).await.is(400);
    world.post("/relation-tuples/check?max-depth=-1", &tuple("Group:b#members@ann")).await.is(200);
}

#[tokio::test]
async fn batch_answers_in_order_with_errors_of_their_own() {
    let world = World::speaking().await;
    world.tuple("Doc:1#owners@ann").await;
    let tuples = ["Doc:1#view@ann", "Doc:1#view@bob", "Gone:1#x@ann", "Doc:1#edit@ann"].map(tuple);
    let answer = world.post("/relation-tuples/batch/check", &json!({"tuples": tuples})).await;
    assert_eq!(
        answer.is(200).body,
        json!({"results": [
            {"allowed": true},
            {"allowed": false},
            {"allowed": false, "error": "Unknown namespace with name \"Gone\"."},
            {"allowed": false,
             "error": "The namespace \"Doc\" has no relation or permission \"edit\"."},
        ]})
    );
    let many = json!({"tuples": vec![tuple("Doc:1#view@ann"); 1_001]});
    world.post("/relation-tuples/batch/check", &many).await.is(400);
    world.post("/relation-tuples/batch/check", &json!({})).await.is(200);
}

#[tokio::test]
async fn expanded_tree_has_the_form_of_keto() {
    let world = World::speaking().await;
    world.tuple("Doc:1#viewers@ann").await;
    world.tuple("Doc:1#viewers@(Group:g#members)").await;
    world.tuple("Group:g#members@bob").await;
    let uri = "/relation-tuples/expand?namespace=Doc&object=1&relation=viewers";
    let of = |subject: Value| {
        let mut node = json!({"namespace": "", "object": "", "relation": ""});
        node.as_object_mut().unwrap().extend(subject.as_object().unwrap().clone());
        node
    };
    let set = |namespace: &str, object: &str, relation: &str| {
        of(json!({"subject_set":
            {"namespace": namespace, "object": object, "relation": relation}}))
    };
    let leaf = |id: &str| json!({"type": "leaf", "tuple": of(json!({"subject_id": id}))});
    let expected = json!({
        "type": "union", "tuple": set("Doc", "1", "viewers"), "children": [
            leaf("ann"),
            {"type": "union", "tuple": set("Group", "g", "members"), "children": [leaf("bob")]},
        ],
    });
    assert_eq!(world.get(uri).await.is(200).body, expected);
    let nobody = uri.replace("object=1", "object=2");
    world.get(&nobody).await.is(404);
    world.get("/relation-tuples/expand?namespace=Doc&object=1").await.is(400);
    let unknown = uri.replace("Doc", "Gone");
    world.get(&unknown).await.is(404);
}

#[tokio::test]
async fn objects_and_subjects_are_looked_up() {
    let world = World::speaking().await;
    for text in [
        "Doc:1#owners@ann",
        "Doc:2#viewers@(Group:g#members)",
        "Group:g#members@ann",
        "Doc:3#viewers@ann",
        "Doc:3#banned@ann",
        "Doc:2#owners@bob",
    ] {
        world.tuple(text).await;
    }
    let uri = "/relation-tuples/objects?namespace=Doc&relation=view&subject_id=ann&page_size=1";
    let first = world.get(uri).await.is(200).body;
    assert_eq!(first["objects"], json!(["1"]));
    let token = first["next_page_token"].as_str().unwrap();
    let second = world.get(&format!("{uri}&page_token={token}")).await.is(200).body;
    assert_eq!(second, json!({"objects": ["2"], "next_page_token": ""}));
    world
        .get(&uri.replace("ann", "bob").replace("size=1", &format!("token={token}")))
        .await
        .is(400);
    let uri = "/relation-tuples/subjects?namespace=Doc&object=2&relation=view";
    let found = world.get(uri).await.is(200).body;
    assert_eq!(found, json!({"subject_ids": ["ann", "bob"], "next_page_token": ""}));
    for text in ["Doc:2#viewers@(User:eve#)", "Doc:2#viewers@(User:zoe#)"] {
        world.tuple(text).await;
    }
    let uri = format!("{uri}&subject_namespace=User&page_size=1");
    let first = world.get(&uri).await.is(200).body;
    assert_eq!(first["objects"], json!(["eve"]));
    let token = first["next_page_token"].as_str().unwrap();
    let second = world.get(&format!("{uri}&page_token={token}")).await.is(200).body;
    assert_eq!(second, json!({"objects": ["zoe"], "next_page_token": ""}));
    // A token of this list is none of the other's.
    world.get(&format!("{}&page_token={token}", uri.replace("=User", "=Doc"))).await.is(400);
}

#[tokio::test]
async fn tokens_of_writes_are_honoured_and_strange_ones_refused() {
    let world = World::speaking().await;
    let token = world.tuple("Doc:1#owners@ann").await.token();
    let uri = "/relation-tuples/check?namespace=Doc&object=1&relation=view&subject_id=ann";
    let answer = world.get(&format!("{uri}&snaptoken={token}")).await.is(200);
    assert!(!answer.token().is_empty());
    world.get(&format!("{uri}&latest=true")).await.is(200);
    let header = format!("at_least={token}");
    let headers = [("x-cardea-consistency", header.as_str())];
    world.send(Method::GET, uri, String::new(), &headers).await.is(200);
    // Of another cluster, and of a future: an incarnation of 7, a revision of 2^40.
    for strange in ["x", "AAAA", "CAc", "EgkIBBCAgICAgCA"] {
        world.get(&format!("{uri}&snaptoken={strange}")).await.is(400);
    }
}

#[tokio::test]
async fn grant_is_explained_by_its_proof() {
    let world = World::speaking().await;
    world.tuple("Doc:1#viewers@(Group:g#members)").await;
    world.tuple("Group:g#members@ann").await;
    let uri = "/relation-tuples/explain?namespace=Doc&object=1&relation=view&subject_id=ann";
    let set = |relation: &str| json!({"namespace": "Doc", "object": "1", "relation": relation});
    assert_eq!(
        world.get(uri).await.is(200).body,
        json!({"allowed": true, "steps": [
            {"depth": 0, "kind": "permission", "subject_set": set("view")},
            {"depth": 1, "kind": "tuple", "tuple": tuple("Doc:1#viewers@(Group:g#members)")},
            {"depth": 2, "kind": "tuple", "tuple": tuple("Group:g#members@ann")},
            {"depth": 1, "kind": "excluded", "subject_set": set("banned")},
        ]})
    );
    let denied = world.get(&uri.replace("ann", "eve")).await.is(200).body;
    assert_eq!(denied, json!({"allowed": false, "steps": []}));
    world.get(&uri.replace("Doc", "Gone")).await.is(404);
}
