//! What is asked for many at once is judged for each as if it were asked alone (N29), and
//! for whoever asks: no batch, change, stream or list reaches another tenant (N20).

use http::Method;
use serde_json::{Value, json};

use super::{
    LANGUAGE, World, tuple,
    watch::{Events, brief},
};

const OURS: &str = "Doc:1#viewers@ann";
const THEIRS: &str = "Doc:2#viewers@eve";

/// A tenant with a tuple, and another with another.
async fn two() -> (World, World) {
    let ours = brief();
    let theirs = ours.of_tenant(2);
    for (world, text) in [(&ours, OURS), (&theirs, THEIRS)] {
        world.speak(LANGUAGE).await.is(200);
        world.tuple(text).await;
    }
    (ours, theirs)
}

#[tokio::test]
async fn batches_and_changes_of_a_tenant_reach_no_other() {
    let (ours, theirs) = two().await;
    let both = [OURS, THEIRS].map(|text| tuple(&text.replace("viewers", "view")));
    for (world, allowed) in [(&ours, [true, false]), (&theirs, [false, true])] {
        let batch = world.post("/relation-tuples/batch/check", &json!({"tuples": both})).await;
        let results = batch.is(200).body["results"].as_array().unwrap().clone();
        let decided: Vec<&Value> = results.iter().map(|result| &result["allowed"]).collect();
        assert_eq!(decided, allowed.map(Value::from).each_ref());
        let about = |kind: &str, id: &str| json!({"type": kind, "id": id});
        let each = [("ann", "1"), ("eve", "2")].map(|(subject, doc)| {
            json!({"subject": about("user", subject), "action": {"name": "view"},
                "resource": about("Doc", doc)})
        });
        let batch = world.post("/access/v1/evaluations", &json!({"evaluations": each})).await;
        let results = batch.is(200).body["evaluations"].as_array().unwrap().clone();
        let decided: Vec<&Value> = results.iter().map(|result| &result["decision"]).collect();
        assert_eq!(decided, allowed.map(Value::from).each_ref());
    }
    // Among changes that are their own, too.
    let change =
        |action: &str, text: &str| json!({"action": action, "relation_tuple": tuple(text)});
    let changes = [change("insert", "Doc:3#viewers@eve"), change("delete", OURS)];
    theirs.patch(&json!(changes)).await.is(204);
    assert_eq!(ours.export("").await.0, [tuple(OURS)]);
    theirs.import(&format!("{OURS}\nDoc:4#viewers@eve\n")).await.is(200);
    assert_eq!(theirs.export("").await.0.len(), 4);
    assert_eq!(ours.export("").await.0, [tuple(OURS)]);
    let everything = "/admin/relation-tuples?namespace=Doc";
    theirs.send(Method::DELETE, everything, String::new(), &[]).await.is(204);
    assert_eq!(theirs.export("").await.0, [] as [Value; 0]);
    assert_eq!(ours.export("").await.0, [tuple(OURS)]);
}

#[tokio::test]
async fn pages_and_streams_of_a_tenant_are_no_others() {
    let (ours, theirs) = two().await;
    let mut watched = Events::open(&theirs, "/relation-tuples/watch", None, None).await;
    ours.tuple("Doc:5#viewers@ann").await;
    let seen = theirs.tuple("Doc:6#viewers@eve").await.body;
    // An open end is open for one's own alone: what came before is nothing to them.
    let (_, _, told) = watched.told().await;
    assert!(told.to_string().contains(&seen["object"].to_string()), "{told}");
    assert!(!told.to_string().contains("ann"), "{told}");
    let page = ours.get("/relation-tuples?namespace=Doc&page_size=1").await.is(200).body;
    let token = page["next_page_token"].as_str().unwrap();
    assert!(!token.is_empty());
    theirs.get(&format!("/relation-tuples?namespace=Doc&page_token={token}")).await.is(400);
}
