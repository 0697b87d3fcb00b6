//! What is not taken over gRPC, and what is said then.

use cardea_permission::engine::Limits;
use serde_json::json;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::{
    CYCLIC, World,
    grpc::{subject, transact, tuple},
};
use crate::keto::grpc::rts::{
    self, check_service_client::CheckServiceClient, expand_service_client::ExpandServiceClient,
    read_service_client::ReadServiceClient, write_service_client::WriteServiceClient,
};

async fn check(world: &World, request: rts::CheckRequest) -> Result<bool, Status> {
    let answer = CheckServiceClient::new(world.grpc()).check(request).await?;
    Ok(answer.into_inner().allowed)
}

fn of(text: &str) -> rts::CheckRequest {
    rts::CheckRequest { tuple: Some(tuple(text)), ..Default::default() }
}

async fn refused(world: &World, request: rts::CheckRequest) -> (Code, String) {
    let status = check(world, request).await.unwrap_err();
    let reason = status.get_error_details().error_info().unwrap().reason.clone();
    (status.code(), reason)
}

async fn insert(world: &World, tuples: Vec<rts::RelationTuple>, action: i32) -> Status {
    let deltas = tuples
        .into_iter()
        .map(|tuple| rts::RelationTupleDelta { action, relation_tuple: Some(tuple) });
    let request = rts::TransactRelationTuplesRequest { relation_tuple_deltas: deltas.collect() };
    let mut client = WriteServiceClient::new(world.grpc());
    client.transact_relation_tuples(request).await.unwrap_err()
}

#[tokio::test]
async fn what_is_not_declared_is_told_apart() {
    let world = World::speaking().await;
    let unknown = refused(&world, of("Gone:1#view@ann")).await;
    assert_eq!(unknown, (Code::NotFound, "Unknown namespace with name \"Gone\".".to_owned()));
    let request =
        rts::ExpandRequest { subject: Some(subject("(Gone:1#view)")), ..Default::default() };
    let status = ExpandServiceClient::new(world.grpc()).expand(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}

#[tokio::test]
async fn tuple_of_a_namespace_just_removed_is_kept_and_not_granted() {
    let world = World::speaking().await;
    transact(&world, &["+Doc:1#owners@ann"]).await;
    let files = json!([{"name": "u.ts", "text": "class User implements Namespace {}"}]);
    let body = json!({"files": files, "force": true}).to_string();
    world.send(http::Method::PUT, "/admin/opl", body, &[]).await.is(200);
    assert_eq!(refused(&world, of("Doc:1#owners@ann")).await.0, Code::NotFound);
    let uri =
        "/relation-tuples/check/openapi?namespace=Doc&object=1&relation=owners&subject_id=ann";
    assert_eq!(world.get(uri).await.is(200).body, json!({"allowed": false}));
    // As in Keto, tuples may name what is not declared, and are listed without a filter.
    transact(&world, &["+Doc:2#owners@ann"]).await;
    let all = world.get("/relation-tuples").await.is(200).body;
    assert_eq!(all["relation_tuples"].as_array().unwrap().len(), 2);
    world.get("/relation-tuples?namespace=Doc").await.is(404);
}

#[tokio::test]
async fn limits_are_neither_yes_nor_no() {
    let world = World::with(Limits { depth: 3, ..Limits::default() });
    world.speak(super::LANGUAGE).await.is(200);
    let chain = [
        "+Group:1#members@(Group:2#members)",
        "+Group:2#members@(Group:3#members)",
        "+Group:3#members@(Group:4#members)",
        "+Group:4#members@(Group:5#members)",
        "+Group:5#members@ann",
    ];
    transact(&world, &chain).await;
    let (code, reason) = refused(&world, of("Group:1#members@ann")).await;
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "max_depth_exceeded"));
    let shallow = rts::CheckRequest { max_depth: 1, ..of("Group:4#members@ann") };
    assert_eq!(refused(&world, shallow).await.0, Code::FailedPrecondition);
    assert!(check(&world, of("Group:4#members@ann")).await.unwrap());
}

#[tokio::test]
async fn both_wires_refuse_alike_and_for_the_same_reason() {
    let world = World::with(Limits { depth: 3, ..Limits::default() });
    world.speak(&format!("{}{CYCLIC}", super::LANGUAGE)).await.is(200);
    let chain = ["+Group:1#members@(Group:2#members)", "+Group:2#members@(Group:3#members)"];
    transact(&world, &chain).await;
    transact(&world, &["+Group:3#members@(Group:4#members)"]).await;
    for (text, status, code, reason) in [
        ("Cyclic:1#odd@ann", 422, Code::FailedPrecondition, "cycle_under_negation"),
        ("Group:1#members@ann", 422, Code::FailedPrecondition, "max_depth_exceeded"),
        (
            "Doc:1#fly@ann",
            400,
            Code::InvalidArgument,
            "The namespace \"Doc\" has no relation or permission \"fly\".",
        ),
    ] {
        assert_eq!(refused(&world, of(text)).await, (code, reason.to_owned()), "{text}");
        for path in ["/relation-tuples/check", "/relation-tuples/check/openapi"] {
            let told = world.post(path, &super::tuple(text)).await.is(status);
            assert_eq!(told.reason(), reason, "{path} {text}");
        }
    }
    assert!(!check(&world, of("Cyclic:1#a@ann")).await.unwrap(), "a cycle is no grant");
}

#[tokio::test]
async fn names_and_messages_are_bounded() {
    let world = World::speaking().await;
    let long = |bytes: usize| rts::RelationTuple {
        object: "x".repeat(bytes),
        ..tuple("Doc:1#owners@ann")
    };
    let status = insert(&world, vec![long(513)], 1).await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("at most 512"), "{status}");
    let checked = rts::CheckRequest { tuple: Some(long(1 << 19)), ..Default::default() };
    assert_eq!(refused(&world, checked).await.0, Code::InvalidArgument);
    // The message itself is too large: it is not even read.
    let status = insert(&world, vec![long(1 << 20)], 1).await;
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("limit"), "{status}");
    let status = insert(&world, vec![tuple("Doc:1#owners@ann"); 1_001], 1).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    let tuples = vec![tuple("Doc:1#owners@ann"); 1_001];
    let request = rts::BatchCheckRequest { tuples, ..Default::default() };
    let status = CheckServiceClient::new(world.grpc()).batch_check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn what_is_missing_or_unknown_is_refused() {
    let world = World::speaking().await;
    let nobody = rts::RelationTuple { subject: None, ..tuple("Doc:1#owners@ann") };
    for request in [
        rts::CheckRequest { tuple: Some(nobody.clone()), ..Default::default() },
        rts::CheckRequest::default(),
    ] {
        assert_eq!(check(&world, request).await.unwrap_err().code(), Code::InvalidArgument);
    }
    assert_eq!(insert(&world, vec![nobody], 1).await.code(), Code::InvalidArgument);
    for action in [0, 7] {
        let status = insert(&world, vec![tuple("Doc:1#owners@ann")], action).await;
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let mut reads = ReadServiceClient::new(world.grpc());
    let status = reads.list_relation_tuples(rts::ListRelationTuplesRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
    let request = rts::ListRelationTuplesRequest {
        relation_query: Some(rts::RelationQuery::default()),
        page_token: "forged".to_owned(),
        ..Default::default()
    };
    let status = reads.list_relation_tuples(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let mut writes = WriteServiceClient::new(world.grpc());
    let status = writes.delete_relation_tuples(rts::DeleteRelationTuplesRequest::default()).await;
    assert_eq!(status.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn snaptokens_of_the_future_or_another_cluster_are_refused() {
    let world = World::speaking().await;
    transact(&world, &["+Doc:1#owners@ann"]).await;
    for snaptoken in ["x", "AAAA", "CAc", "EgkIBBCAgICAgCA"] {
        let request = rts::CheckRequest { snaptoken: snaptoken.to_owned(), ..of("Doc:1#view@ann") };
        let (code, reason) = refused(&world, request.clone()).await;
        assert_eq!(code, Code::InvalidArgument, "{snaptoken}");
        assert_eq!(reason, "The snaptoken was not given by this cluster.");
        // The latest is asked for: then the token does not count.
        let latest = rts::CheckRequest { latest: true, ..request };
        assert!(check(&world, latest).await.unwrap());
    }
}

#[tokio::test]
async fn metadata_says_how_fresh_and_how_long() {
    let world = World::speaking().await;
    transact(&world, &["+Doc:1#owners@ann"]).await;
    let with = async |name: &'static str, value: &str| {
        let mut request = Request::new(of("Doc:1#view@ann"));
        request.metadata_mut().insert(name, value.parse().unwrap());
        let answer = CheckServiceClient::new(world.grpc()).check(request).await;
        answer.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(with("x-cardea-consistency", "bounded=100").await, Ok(()));
    assert_eq!(with("x-cardea-consistency", "soon").await, Err(Code::InvalidArgument));
    assert_eq!(with("grpc-timeout", "10S").await, Ok(()));
    assert_eq!(with("grpc-timeout", "soon").await, Err(Code::InvalidArgument));
    assert_eq!(with("grpc-timeout", "0n").await, Err(Code::DeadlineExceeded));
}

#[tokio::test]
async fn call_without_a_tenant_is_answered_by_nobody() {
    let world = World::speaking().await;
    let mut client = CheckServiceClient::new(world.router.clone());
    let status = client.check(of("Doc:1#view@ann")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
}
