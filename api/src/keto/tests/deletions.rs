//! Deletions by query that are larger than one transaction.

use axum::body::Body;
use cardea_storage::Tenant;
use http::{Method, Request};
use serde_json::json;
use tower::ServiceExt as _;

use super::{World, grpc::transact};

async fn many(world: &World, parts: usize) {
    for part in 0..parts {
        let texts: Vec<String> = (0..900).map(|i| format!("+Doc:{part}-{i}#owners@ann")).collect();
        transact(world, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    transact(world, &["+Group:g#members@ann"]).await;
}

async fn left(world: &World) -> usize {
    let found = world.get("/relation-tuples?page_size=1000").await.is(200).body;
    found["relation_tuples"].as_array().unwrap().len()
}

#[tokio::test]
async fn large_deletion_answers_when_everything_is_gone() {
    let world = World::speaking().await;
    many(&world, 3).await;
    let uri = "/admin/relation-tuples?namespace=Doc";
    let (one, two) = tokio::join!(
        world.send(Method::DELETE, uri, String::new(), &[]),
        world.send(Method::DELETE, uri, String::new(), &[]),
    );
    one.is(204);
    two.is(204);
    assert_eq!(left(&world).await, 1);
}

#[tokio::test]
async fn deletion_goes_on_when_its_request_does_not() {
    let world = World::speaking().await;
    many(&world, 2).await;
    let uri = "/admin/relation-tuples?namespace=Doc";
    let request = Request::delete(uri).extension(Tenant::default()).body(Body::empty()).unwrap();
    {
        let mut asked = std::pin::pin!(world.router.clone().oneshot(request));
        // Begun, and then the client went away.
        assert!(futures::poll!(asked.as_mut()).is_pending());
    }
    // Who asks for the same waits for what is under way.
    world.send(Method::DELETE, uri, String::new(), &[]).await.is(204);
    assert_eq!(left(&world).await, 1);
    assert_eq!(
        world.get("/relation-tuples").await.is(200).body["relation_tuples"],
        json!([super::tuple("Group:g#members@ann")])
    );
}
