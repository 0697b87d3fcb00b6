//! The Authorization API of AuthZEN.

use serde_json::{Value, json};

use super::{Answer, World, tuple};

async fn world() -> World {
    let world = World::speaking().await;
    for text in [
        "Doc:1#owners@ann",
        "Doc:1#viewers@(Group:eng#members)",
        "Doc:2#viewers@(Group:eng#members)",
        "Doc:1#viewers@(User:zoe#)",
        "Group:eng#members@bob",
        "Group:eng#members@eve",
        "Doc:2#banned@eve",
    ] {
        world.tuple(text).await;
    }
    world
}

fn about(kind: &str, id: &str) -> Value {
    json!({"type": kind, "id": id})
}

fn ask(subject: Value, action: &str, resource: Value) -> Value {
    json!({"subject": subject, "action": {"name": action}, "resource": resource,
        "context": {"time": "2026-01-01T00:00:00Z"}})
}

async fn evaluate(world: &World, body: Value) -> Answer {
    world.post("/access/v1/evaluation", &body).await
}

#[tokio::test]
async fn subjects_resources_and_actions_are_mapped() {
    let world = world().await;
    let decided = async |subject: Value, action: &str, resource: Value| {
        let answer = evaluate(&world, ask(subject, action, resource)).await.is(200);
        assert!(!answer.token().is_empty());
        answer.body["decision"].as_bool().unwrap()
    };
    assert!(decided(about("user", "ann"), "view", about("Doc", "1")).await);
    assert!(decided(about("user", "bob"), "view", about("Doc", "2")).await);
    assert!(!decided(about("user", "eve"), "view", about("Doc", "2")).await);
    assert!(decided(about("User", "zoe"), "view", about("Doc", "1")).await);
    // An object is not taken for somebody of its name, nor the other way round.
    assert!(!decided(about("User", "ann"), "view", about("Doc", "1")).await);
    assert!(!decided(about("user", "zoe"), "view", about("Doc", "1")).await);
    let group = json!({"type": "Group", "id": "eng", "properties": {"relation": "members"}});
    assert!(decided(group, "view", about("Doc", "1")).await);
    assert!(!decided(about("Group", "eng"), "view", about("Doc", "1")).await);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_told() {
    let world = world().await;
    let whole = ask(about("user", "ann"), "view", about("Doc", "1"));
    for part in ["subject", "action", "resource"] {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(part);
        assert!(evaluate(&world, body).await.is(400).reason().contains(part));
    }
    evaluate(&world, ask(json!({"type": "user"}), "view", about("Doc", "1"))).await.is(400);
    evaluate(&world, ask(about("user", "ann"), "fly", about("Doc", "1"))).await.is(400);
    evaluate(&world, json!("x")).await.is(400);
    let unknown = evaluate(&world, ask(about("user", "ann"), "view", about("Gone", "1"))).await;
    let body = unknown.is(200).body;
    assert_eq!(
        (&body["decision"], &body["context"]["error"]["status"]),
        (&json!(false), &json!(404))
    );
}

#[tokio::test]
async fn evaluations_have_defaults_and_end_as_asked() {
    let world = world().await;
    let batch = async |semantic: Option<&str>, ids: &[&str]| {
        let each = ids.iter().map(|id| json!({"resource": about("Doc", id)}));
        let mut body = json!({"subject": about("user", "eve"), "action": {"name": "view"},
            "evaluations": each.collect::<Vec<_>>()});
        if let Some(semantic) = semantic {
            body["options"] = json!({"evaluations_semantic": semantic});
        }
        let answer = world.post("/access/v1/evaluations", &body).await.is(200).body;
        let each = answer["evaluations"].as_array().unwrap().clone();
        each.iter().map(|each| each["decision"].as_bool().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(batch(None, &["1", "2", "1"]).await, [true, false, true]);
    assert_eq!(batch(Some("execute_all"), &["2", "1"]).await, [false, true]);
    assert_eq!(batch(Some("deny_on_first_deny"), &["1", "2", "1"]).await, [true, false]);
    assert_eq!(batch(Some("permit_on_first_permit"), &["2", "1", "2"]).await, [false, true]);
    // One that makes no sense is a denial with its reason, and does not spoil the others.
    let body = json!({"subject": about("user", "ann"), "action": {"name": "view"}, "evaluations": [
        {"resource": about("Doc", "1")},
        {"resource": about("Doc", "1"), "action": {"name": "fly"}},
        {"resource": {"type": "Doc"}},
        {"resource": about("Doc", "1"), "subject": about("user", "bob")},
    ]});
    let answer = world.post("/access/v1/evaluations", &body).await.is(200).body;
    let each = answer["evaluations"].as_array().unwrap();
    let decisions: Vec<&Value> = each.iter().map(|each| &each["decision"]).collect();
    assert_eq!(decisions, [&json!(true), &json!(false), &json!(false), &json!(true)]);
    assert_eq!(each[1]["context"]["error"]["status"], 400);
    assert_eq!(each[2]["context"]["error"]["message"], "resource.id is missing.");
    // Without a list it is one evaluation.
    let one = ask(about("user", "ann"), "view", about("Doc", "1"));
    let answer = world.post("/access/v1/evaluations", &one).await.is(200).body;
    assert_eq!(answer, json!({"decision": true}));
    let body = json!({"evaluations": vec![one.clone(); 1_001]});
    world.post("/access/v1/evaluations", &body).await.is(400);
    let body = json!({"evaluations": [one], "options": {"evaluations_semantic": "maybe"}});
    world.post("/access/v1/evaluations", &body).await.is(400);
}

#[tokio::test]
async fn evaluation_with_a_context_of_its_own_is_judged_by_no_other() {
    let world = World::speaking().await;
    let mut narrowed = tuple("Doc:1#owners@ann");
    narrowed["condition"] = json!({"expression": "address.in_cidr('10.0.0.0/8')",
        "parameters": {"address": "ipaddress"}});
    world.put(&narrowed).await.is(201);
    let at = |address: &str| json!({"context": {"address": address}});
    let decided = async |general: Option<&str>, each: &[Value]| {
        let mut body = ask(about("user", "ann"), "view", about("Doc", "1"));
        body["context"] = general.map_or(json!({}), |address| at(address)["context"].clone());
        body["evaluations"] = json!(each);
        let answer = world.post("/access/v1/evaluations", &body).await.is(200).body;
        let each = answer["evaluations"].as_array().unwrap().clone();
        each.iter()
            .map(|each| {
                let lacks = each["context"]["error"]["message"] == "missing_context";
                if lacks { None } else { each["decision"].as_bool() }
            })
            .collect::<Vec<_>>()
    };
    let each = [json!({}), at("8.8.8.8"), at("10.0.0.1"), json!({"context": {}})];
    let found = decided(Some("10.1.1.1"), &each).await;
    assert_eq!(found, [Some(true), Some(false), Some(true), None]);
    assert_eq!(decided(None, &each).await, [None, Some(false), Some(true), None]);
    let long = json!({"context": {"address": "x".repeat(10_000)}});
    assert_eq!(decided(Some("10.1.1.1"), &[long, json!({})]).await, [Some(false), Some(true)]);
}

#[tokio::test]
async fn searches_find_subjects_resources_and_actions() {
    let world = world().await;
    let search = async |what: &str, body: Value| {
        world.post(&format!("/access/v1/search/{what}"), &body).await.is(200).body
    };
    let mut body = ask(json!({"type": "user"}), "view", about("Doc", "1"));
    body["page"] = json!({"limit": 2});
    let first = search("subject", body.clone()).await;
    assert_eq!(first["results"], json!([about("user", "ann"), about("user", "bob")]));
    body["page"]["token"] = first["page"]["next_token"].clone();
    let second = search("subject", body).await;
    assert_eq!(second, json!({"results": [about("user", "eve")], "page": {"next_token": ""}}));
    let body = ask(json!({"type": "User"}), "view", about("Doc", "1"));
    assert_eq!(search("subject", body).await["results"], json!([about("User", "zoe")]));
    let body = ask(about("user", "bob"), "view", json!({"type": "Doc"}));
    let found = search("resource", body).await;
    assert_eq!(found["results"], json!([about("Doc", "1"), about("Doc", "2")]));
    let body = json!({"subject": about("user", "ann"), "resource": about("Doc", "1")});
    let found = search("action", body).await;
    assert_eq!(found["results"], json!([{"name": "owners"}, {"name": "view"}]));
    let body = json!({"subject": about("user", "ann"), "resource": about("Gone", "1")});
    world.post("/access/v1/search/action", &body).await.is(404);
}

#[tokio::test]
async fn configuration_names_what_is_answered() {
    let world = World::new();
    let found = world.get("/.well-known/authzen-configuration").await.is(200).body;
    let base = "http://127.0.0.1:4433";
    assert_eq!(found["policy_decision_point"], base);
    let routes: Vec<&str> = crate::keto::routes().map(|route| route.path).collect();
    for (name, url) in found.as_object().unwrap() {
        let path = url.as_str().unwrap().strip_prefix(base).unwrap();
        assert!(name == "policy_decision_point" || routes.contains(&path), "{name}: {url}");
    }
}
