//! Imports, exports, conditions and expiries over the wire.

use axum::body::Body;
use http::{Method, Request};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{Answer, World, tuple};

const OFFICE: &str = "{\"namespace\":\"Doc\",\"object\":\"3\",\"relation\":\"viewers\",\
                      \"subject_id\":\"ann\",\"expires_at\":\"2030-01-01T00:00:00Z\",\
                      \"condition\":{\"expression\":\"address.in_cidr('10.0.0.0/8')\",\
                      \"parameters\":{\"address\":\"ipaddress\"}}}";

impl World {
    pub(super) async fn import(&self, lines: &str) -> Answer {
        self.send(Method::POST, "/admin/relation-tuples/import", lines.to_owned(), &[]).await
    }

    /// The lines of an export, and whether it is of one instant.
    pub(super) async fn export(&self, query: &str) -> (Vec<Value>, String) {
        let uri = format!("/admin/relation-tuples/export{query}");
        let mut request = Request::builder().uri(uri).body(Body::empty()).unwrap();
        request.extensions_mut().insert(self.tenant);
        let response = self.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let whole = response.headers()["x-cardea-export"].to_str().unwrap().to_owned();
        assert!(response.headers().contains_key("x-cardea-snaptoken"));
        let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let lines = std::str::from_utf8(&bytes).unwrap().lines();
        (lines.map(|line| serde_json::from_str(line).unwrap()).collect(), whole)
    }
}

#[tokio::test]
async fn what_is_imported_is_exported_and_importing_it_again_changes_nothing() {
    let world = World::speaking().await;
    let lines = format!(
        "Doc:1#viewers@(Group:g#members)\n\n// a comment\n{}\nDoc:1#owners@ann\n{OFFICE}\n",
        tuple("Group:g#members@ann")
    );
    for _ in 0..2 {
        let done = world.import(&lines).await.is(200);
        assert_eq!(done.body, json!({"imported": 4, "repeated": 0}));
        assert!(!done.token().is_empty());
        let (found, whole) = world.export("").await;
        assert_eq!((found.len(), whole.as_str()), (4, "snapshot"));
        assert!(found.contains(&serde_json::from_str(OFFICE).unwrap()), "{found:?}");
        assert!(found.contains(&tuple("Doc:1#owners@ann")));
    }
    let (found, _) = world.export("?namespace=Group").await;
    assert_eq!(found, [tuple("Group:g#members@ann")]);
    let (found, _) = world.export("?subject_id=ann").await;
    assert_eq!(found.len(), 3);
    let again: String = world.export("").await.0.iter().map(|line| format!("{line}\n")).collect();
    let other = World::speaking().await;
    other.import(&again).await.is(200);
    assert_eq!(other.export("").await, world.export("").await);
}

#[tokio::test]
async fn line_that_is_refused_is_named_and_nothing_of_its_part_is_there() {
    let world = World::speaking().await;
    for (line, told) in [
        ("nonsense", "\"nonsense\" is no relation tuple"),
        ("{\"namespace\": 1}", "invalid type"),
        (
            "{\"namespace\":\"Doc\",\"object\":\"1\",\"relation\":\"viewers\"}",
            "subject is not allowed",
        ),
        (&OFFICE.replace("address.in", "addres.in"), "addres is not among the parameters"),
        (&OFFICE.replace("2030-01-01T00:00:00Z", "soon"), "expires_at is no time"),
        (&format!("Doc:{}#viewers@ann", "x".repeat(600)), "at most 512 are taken"),
    ] {
        let refused = world.import(&format!("Doc:1#viewers@ann\n{line}\n")).await.is(400);
        assert!(refused.reason().contains("Line 2 is refused"), "{}", refused.body);
        assert!(refused.reason().contains(told), "{}", refused.body);
        assert_eq!(refused.body["error"]["details"]["line"], 2);
    }
    assert_eq!(world.export("").await.0, [] as [Value; 0]);
    let many = "Doc:1#viewers@ann\n".repeat(50_001);
    world.import(&many).await.is(413);
    let repeated = world.import(&"Doc:1#viewers@ann\n".repeat(3)).await.is(200);
    assert_eq!(repeated.body, json!({"imported": 1, "repeated": 2}));
}

#[tokio::test]
async fn large_part_goes_in_several_transactions_and_is_all_there() {
    let world = World::speaking().await;
    let lines: String =
        (0..12_000).map(|at| format!("Doc:{at:06}#viewers@{}\n", "u".repeat(60))).collect();
    world.import(&lines).await.is(200);
    let (found, _) = world.export("?namespace=Doc").await;
    assert_eq!(found.len(), 12_000);
    assert_eq!(found[11_999]["object"], "011999");
}

#[tokio::test]
async fn check_gives_its_context_by_parameter_and_by_body() {
    let world = World::speaking().await;
    world.import(OFFICE).await.is(200);
    let asked = "namespace=Doc&object=3&relation=view&subject_id=ann";
    let uri = |context: &str| format!("/relation-tuples/check/openapi?{asked}&context={context}");
    let inside = "%7B%22address%22%3A%2210.1.2.3%22%7D";
    assert_eq!(world.get(&uri(inside)).await.is(200).body["allowed"], true);
    let outside = "%7B%22address%22%3A%228.8.8.8%22%7D";
    assert_eq!(world.get(&uri(outside)).await.is(200).body["allowed"], false);
    let lacking = world.get(&uri("")).await.is(422);
    assert_eq!(lacking.reason(), "missing_context");
    assert_eq!(lacking.body["error"]["details"]["lacking"], json!(["address"]));
    world.get(&uri("5")).await.is(400);
    let mut body = tuple("Doc:3#view@ann");
    body["context"] = json!({"address": "10.1.2.3"});
    for path in ["/relation-tuples/check", "/relation-tuples/check/openapi"] {
        assert_eq!(world.post(path, &body).await.is(200).body["allowed"], true);
    }
    let batch = json!({"tuples": [tuple("Doc:3#view@ann"), tuple("Doc:3#view@eve")],
        "context": {"address": "10.1.2.3"}});
    let answers = world.post("/relation-tuples/batch/check", &batch).await.is(200);
    assert_eq!(answers.body["results"], json!([{"allowed": true}, {"allowed": false}]));
    let objects = |context: &str| {
        format!(
            "/relation-tuples/objects?namespace=Doc&relation=view&subject_id=ann&context={context}"
        )
    };
    assert_eq!(world.get(&objects(inside)).await.is(200).body["objects"], json!(["3"]));
    assert_eq!(world.get(&objects(outside)).await.is(200).body["objects"], json!([]));
    let explained = format!("/relation-tuples/explain?{asked}&context={inside}");
    let explained = world.get(&explained).await.is(200).body;
    let said: Value = serde_json::from_str(OFFICE).unwrap();
    assert!(explained["steps"].as_array().unwrap().iter().any(|step| step["tuple"] == said));
    let tree = world.get("/relation-tuples/expand?namespace=Doc&object=3&relation=viewers").await;
    let leaf = &tree.is(200).body["children"][0];
    assert_eq!(leaf["condition"], said["condition"]);
    assert_eq!(leaf["expires_at"], said["expires_at"]);
}

#[tokio::test]
async fn tuple_shows_what_narrows_it_and_is_refused_if_that_makes_no_sense() {
    let world = World::speaking().await;
    let body: Value = serde_json::from_str(OFFICE).unwrap();
    assert_eq!(world.put(&body).await.is(201).body, body);
    let listed = world.get("/relation-tuples?namespace=Doc").await.is(200).body;
    assert_eq!(listed["relation_tuples"], json!([body]));
    let mut odd = body.clone();
    odd["condition"]["expression"] = json!("address == 1");
    let refused = world.put(&odd).await.is(400);
    assert!(refused.reason().contains("do not go together"), "{}", refused.body);
    let mut odd = body;
    odd["condition"]["unknown"] = json!(1);
    world.put(&odd).await.is(400);
}
