//! Every service through the real router, by the generated clients.

use axum::body::Body;
use http::{Request, header};
use prost::Message as _;
use prost_types::value::Kind;
use tonic::Code;
use tower::ServiceExt as _;

use super::{LANGUAGE, World};
use crate::keto::grpc::{
    FILE_DESCRIPTOR_SET, opl,
    permission::{self, lookup_service_client::LookupServiceClient},
    routes, rts,
    rts::{
        check_service_client::CheckServiceClient, expand_service_client::ExpandServiceClient,
        namespaces_service_client::NamespacesServiceClient, read_service_client::ReadServiceClient,
        version_service_client::VersionServiceClient, write_service_client::WriteServiceClient,
    },
};

pub(super) fn subject(text: &str) -> rts::Subject {
    let subject: cardea_permission::Subject = text.parse().unwrap();
    let subject = match subject {
        cardea_permission::Subject::Id(id) => rts::subject::Ref::Id(id),
        cardea_permission::Subject::Set(set) => rts::subject::Ref::Set(rts::SubjectSet {
            namespace: set.namespace,
            object: set.object,
            relation: set.relation,
        }),
    };
    rts::Subject { r#ref: Some(subject) }
}

pub(super) fn tuple(text: &str) -> rts::RelationTuple {
    let tuple: cardea_permission::Tuple = text.parse().unwrap();
    rts::RelationTuple {
        namespace: tuple.namespace,
        object: tuple.object,
        relation: tuple.relation,
        subject: Some(subject(&tuple.subject.to_string())),
        condition: None,
        expires_at: None,
    }
}

/// Changes: `+` inserts, `-` deletes.
pub(super) async fn transact(world: &World, texts: &[&str]) -> String {
    let deltas = texts.iter().map(|text| {
        let (sign, text) = text.split_at(1);
        let action = if sign == "+" { 1 } else { 2 };
        rts::RelationTupleDelta { action, relation_tuple: Some(tuple(text)) }
    });
    let request = rts::TransactRelationTuplesRequest { relation_tuple_deltas: deltas.collect() };
    let answer = WriteServiceClient::new(world.grpc()).transact_relation_tuples(request).await;
    let answer = answer.unwrap();
    let told = answer.metadata().get("x-cardea-snaptoken").unwrap().to_str().unwrap().to_owned();
    let tokens = answer.into_inner().snaptokens;
    assert_eq!(tokens, vec![told.clone(); texts.len()], "one for each change");
    told
}

async fn allowed(world: &World, text: &str, token: &str) -> bool {
    let request = rts::CheckRequest {
        tuple: Some(tuple(text)),
        snaptoken: token.to_owned(),
        ..rts::CheckRequest::default()
    };
    let answer = CheckServiceClient::new(world.grpc()).check(request).await.unwrap();
    let told = answer.metadata().get("x-cardea-snaptoken").unwrap().to_str().unwrap().to_owned();
    let answer = answer.into_inner();
    assert_eq!(answer.snaptoken, told);
    answer.allowed
}

#[test]
fn every_method_of_every_service_is_a_route() {
    let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut methods = Vec::new();
    for file in &files.file {
        for service in &file.service {
            for method in &service.method {
                let (package, service, method) = (file.package(), service.name(), method.name());
                methods.push(format!("/{package}.{service}/{method}"));
            }
        }
    }
    let mut known: Vec<&str> = routes().map(|route| route.path).collect();
    known.sort_unstable();
    methods.sort_unstable();
    assert_eq!(known, methods);
}

/// What a request gives to conditions.
fn given(fields: &[(&str, Kind)]) -> Option<prost_types::Struct> {
    let value = |kind: &Kind| prost_types::Value { kind: Some(kind.clone()) };
    let fields = fields.iter().map(|(name, kind)| ((*name).to_owned(), value(kind)));
    Some(prost_types::Struct { fields: fields.collect() })
}

#[tokio::test]
async fn conditions_are_written_listed_and_judged_by_what_is_given() {
    let world = World::speaking().await;
    let mut narrowed = tuple("Doc:1#viewers@ann");
    narrowed.condition = Some(permission::Condition {
        expression: "level >= least && plan == \"pro\"".to_owned(),
        parameters: [("level", "int"), ("least", "int"), ("plan", "string")]
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .into(),
        context: "{\"least\":9007199254740993}".to_owned(),
    });
    narrowed.expires_at = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 5_000_000 });
    let mut write = WriteServiceClient::new(world.grpc());
    let mut insert = async |tuple: rts::RelationTuple| {
        let delta = rts::RelationTupleDelta { action: 1, relation_tuple: Some(tuple) };
        let request = rts::TransactRelationTuplesRequest { relation_tuple_deltas: vec![delta] };
        write.transact_relation_tuples(request).await.map(|_| ()).map_err(|status| status.code())
    };
    insert(narrowed.clone()).await.unwrap();

    let mask = prost_types::FieldMask { paths: vec!["object".to_owned()] };
    for expand_mask in [None, Some(mask)] {
        let request = rts::ListRelationTuplesRequest {
            relation_query: Some(rts::RelationQuery::default()),
            expand_mask,
            ..Default::default()
        };
        let listed = ReadServiceClient::new(world.grpc()).list_relation_tuples(request).await;
        let listed = listed.unwrap().into_inner().relation_tuples.remove(0);
        assert_eq!(listed.condition, narrowed.condition, "every digit of it");
        assert_eq!(listed.expires_at, narrowed.expires_at);
    }

    let mut least = narrowed.clone();
    least.condition.as_mut().unwrap().context = "{\"least\":3}".to_owned();
    insert(least).await.unwrap();
    let check = async |context: Option<prost_types::Struct>| {
        let tuple = Some(tuple("Doc:1#view@ann"));
        let request = rts::CheckRequest { tuple, context, ..Default::default() };
        let answer = CheckServiceClient::new(world.grpc()).check(request).await;
        answer.map(|answer| answer.into_inner().allowed).map_err(|status| status.code())
    };
    let pro = ("plan", Kind::StringValue("pro".to_owned()));
    let level = |level| given(&[("level", Kind::NumberValue(level)), pro.clone()]);
    assert_eq!(check(level(3.0)).await, Ok(true));
    assert_eq!(check(level(2.0)).await, Ok(false));
    assert_eq!(check(None).await, Err(Code::FailedPrecondition), "never a grant");
    assert_eq!(check(level(1e17)).await, Err(Code::InvalidArgument));
    let tuples = vec![tuple("Doc:1#view@ann")];
    let request = rts::BatchCheckRequest { tuples, context: level(4.0), ..Default::default() };
    let batch = CheckServiceClient::new(world.grpc()).batch_check(request).await.unwrap();
    assert!(batch.into_inner().results[0].allowed);
    let request = permission::ListObjectsRequest {
        namespace: "Doc".to_owned(),
        relation: "view".to_owned(),
        subject: Some(subject("ann")),
        context: level(4.0),
        ..Default::default()
    };
    let found = LookupServiceClient::new(world.grpc()).list_objects(request).await.unwrap();
    assert_eq!(found.into_inner().message().await.unwrap().unwrap().objects, ["1"]);

    let mut wrong = narrowed.clone();
    wrong.condition.as_mut().unwrap().context = "[]".to_owned();
    assert_eq!(insert(wrong).await, Err(Code::InvalidArgument));
    let mut wrong = narrowed;
    wrong.condition.as_mut().unwrap().expression = "level >".to_owned();
    assert_eq!(insert(wrong).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn what_is_written_is_checked_expanded_and_listed() {
    let world = World::speaking().await;
    let texts = ["+Doc:1#viewers@(Group:g#members)", "+Group:g#members@ann", "+Doc:2#owners@bob"];
    let token = transact(&world, &texts).await;
    assert!(allowed(&world, "Doc:1#view@ann", &token).await);
    assert!(!allowed(&world, "Doc:1#view@bob", "").await);
    let token = transact(&world, &["-Group:g#members@ann"]).await;
    assert!(!allowed(&world, "Doc:1#view@ann", &token).await);
    transact(&world, &["+Group:g#members@ann"]).await;

    let tuples = ["Doc:1#view@ann", "Doc:1#view@bob", "Gone:1#x@ann"].map(tuple).into();
    let request = rts::BatchCheckRequest { tuples, latest: true, ..Default::default() };
    let answer = CheckServiceClient::new(world.grpc()).batch_check(request).await.unwrap();
    let results = answer.into_inner().results;
    assert_eq!(
        results.iter().map(|result| result.allowed).collect::<Vec<_>>(),
        [true, false, false]
    );
    assert!(results[0].error.is_empty() && results[2].error.contains("Gone"));
    assert!(results.iter().all(|result| !result.snaptoken.is_empty()));

    let expand = async |text: &str| {
        let request = rts::ExpandRequest { subject: Some(subject(text)), ..Default::default() };
        ExpandServiceClient::new(world.grpc()).expand(request).await.unwrap().into_inner().tree
    };
    let tree = expand("(Group:g#members)").await.unwrap();
    assert_eq!((tree.node_type(), tree.children.len()), (rts::NodeType::Union, 1));
    let leaf = &tree.children[0];
    assert_eq!(leaf.node_type(), rts::NodeType::Leaf);
    assert_eq!(leaf.tuple.as_ref().unwrap().subject, Some(subject("ann")));
    #[expect(deprecated, reason = "it is still filled")]
    let former = leaf.subject.clone();
    assert_eq!(former, Some(subject("ann")));
    assert_eq!(expand("(Group:empty#members)").await, None);
    assert_eq!(expand("ann").await.unwrap().node_type(), rts::NodeType::Leaf);

    let mut request = rts::ListRelationTuplesRequest {
        relation_query: Some(rts::RelationQuery::default()),
        page_size: 2,
        ..Default::default()
    };
    let mut reads = ReadServiceClient::new(world.grpc());
    let mut found = Vec::new();
    loop {
        let page = reads.list_relation_tuples(request.clone()).await.unwrap().into_inner();
        assert!(page.relation_tuples.len() <= 2);
        found.extend(page.relation_tuples);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let all = ["Doc:1#viewers@(Group:g#members)", "Doc:2#owners@bob", "Group:g#members@ann"];
    assert_eq!(found, all.map(tuple));

    let query = rts::RelationQuery { namespace: Some("Doc".to_owned()), ..Default::default() };
    let request =
        rts::DeleteRelationTuplesRequest { relation_query: Some(query), ..Default::default() };
    WriteServiceClient::new(world.grpc()).delete_relation_tuples(request).await.unwrap();
    assert!(!allowed(&world, "Doc:2#view@bob", "").await);
    assert!(allowed(&world, "Group:g#members@ann", "").await);
}

#[tokio::test]
#[expect(deprecated, reason = "older clients send them")]
async fn fields_of_older_clients_are_read() {
    let world = World::speaking().await;
    transact(&world, &["+Doc:1#owners@ann", "+Doc:2#owners@ann"]).await;
    let request = rts::CheckRequest {
        namespace: "Doc".to_owned(),
        object: "1".to_owned(),
        relation: "view".to_owned(),
        subject: Some(subject("ann")),
        ..Default::default()
    };
    let answer = CheckServiceClient::new(world.grpc()).check(request).await.unwrap();
    assert!(answer.into_inner().allowed);
    let query = rts::list_relation_tuples_request::Query {
        namespace: "Doc".to_owned(),
        object: "2".to_owned(),
        ..Default::default()
    };
    let request = rts::ListRelationTuplesRequest { query: Some(query), ..Default::default() };
    let page = ReadServiceClient::new(world.grpc()).list_relation_tuples(request).await.unwrap();
    assert_eq!(page.into_inner().relation_tuples, [tuple("Doc:2#owners@ann")]);
    let query =
        rts::delete_relation_tuples_request::Query { object: "2".to_owned(), ..Default::default() };
    let request = rts::DeleteRelationTuplesRequest { query: Some(query), ..Default::default() };
    WriteServiceClient::new(world.grpc()).delete_relation_tuples(request).await.unwrap();
    assert!(allowed(&world, "Doc:1#view@ann", "").await);
    assert!(!allowed(&world, "Doc:2#view@ann", "").await);
}

#[tokio::test]
async fn mask_says_which_parts_are_filled() {
    let world = World::speaking().await;
    transact(&world, &["+Doc:1#owners@ann", "+Doc:1#viewers@(Group:g#members)"]).await;
    let list = async |paths: &[&str]| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let request = rts::ListRelationTuplesRequest {
            relation_query: Some(rts::RelationQuery::default()),
            expand_mask: Some(prost_types::FieldMask { paths }),
            ..Default::default()
        };
        ReadServiceClient::new(world.grpc()).list_relation_tuples(request).await
    };
    let found = list(&["object", "subject.object"]).await.unwrap().into_inner().relation_tuples;
    let object =
        |subject| rts::RelationTuple { object: "1".to_owned(), subject, ..Default::default() };
    let set = rts::SubjectSet { object: "g".to_owned(), ..Default::default() };
    let set = rts::Subject { r#ref: Some(rts::subject::Ref::Set(set)) };
    assert_eq!(found, [object(None), object(Some(set))]);
    let whole = list(&["namespace", "object", "relation", "subject"]).await.unwrap().into_inner();
    assert_eq!(whole.relation_tuples[0], tuple("Doc:1#owners@ann"));
    assert_eq!(list(&["colour"]).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn namespaces_version_and_syntax_are_told() {
    let world = World::speaking().await;
    let mut client = NamespacesServiceClient::new(world.grpc());
    let found = client.list_namespaces(rts::ListNamespacesRequest {}).await.unwrap().into_inner();
    let names: Vec<String> = found.namespaces.into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["Doc", "Group", "User"]);
    let mut client = VersionServiceClient::new(world.grpc());
    let found = client.get_version(rts::GetVersionRequest {}).await.unwrap().into_inner();
    assert_eq!(found.version, env!("CARGO_PKG_VERSION"));
    let mut client = opl::syntax_service_client::SyntaxServiceClient::new(world.grpc());
    let mut check = async |text: &str| {
        let request = opl::CheckRequest { content: text.as_bytes().to_vec() };
        client.check(request).await.unwrap().into_inner().parse_errors
    };
    assert_eq!(check(LANGUAGE).await, []);
    let errors = check("class A implements Namespace {\n  related: { x: B[] }\n}").await;
    assert_eq!(errors[0].message, "the namespace B is not declared");
    assert_eq!(errors[0].start, Some(opl::SourcePosition { line: 2, column: 17 }));
}

#[tokio::test]
async fn lookups_stream_everything_of_one_instant() {
    let world = World::speaking().await;
    let texts: Vec<String> = (0..900).map(|at| format!("+Doc:{at:04}#owners@ann")).collect();
    transact(&world, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let texts: Vec<String> = (900..1_500).map(|at| format!("+Doc:{at:04}#owners@ann")).collect();
    let token = transact(&world, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut client = LookupServiceClient::new(world.grpc());
    let request = permission::ListObjectsRequest {
        namespace: "Doc".to_owned(),
        relation: "view".to_owned(),
        subject: Some(subject("ann")),
        snaptoken: token,
        ..Default::default()
    };
    let mut stream = client.list_objects(request.clone()).await.unwrap().into_inner();
    let (mut sizes, mut tokens) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await.unwrap() {
        sizes.push(message.objects.len());
        tokens.push(message.snaptoken);
    }
    tokens.dedup();
    assert_eq!((sizes, tokens.len()), (vec![1_000, 500], 1));
    let nobody = permission::ListObjectsRequest { subject: Some(subject("eve")), ..request };
    let mut stream = client.list_objects(nobody).await.unwrap().into_inner();
    let only = stream.message().await.unwrap().unwrap();
    assert!(only.objects.is_empty() && !only.snaptoken.is_empty());
    assert_eq!(stream.message().await.unwrap(), None);

    let request = permission::ListSubjectsRequest {
        namespace: "Doc".to_owned(),
        object: "0001".to_owned(),
        relation: "view".to_owned(),
        ..Default::default()
    };
    let mut stream = client.list_subjects(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().subjects, ["ann"]);
    let request = permission::ListActionsRequest {
        namespace: "Doc".to_owned(),
        object: "0001".to_owned(),
        subject: Some(subject("ann")),
        ..Default::default()
    };
    let found = client.list_actions(request).await.unwrap().into_inner();
    assert_eq!(found.actions, ["owners", "view"]);
}

#[tokio::test]
async fn stream_is_made_as_it_is_taken_and_ends_with_its_client() {
    let world = World::speaking().await;
    for part in 0..6 {
        let texts: Vec<String> =
            (0..900).map(|at| format!("+Doc:{part}-{at}#owners@ann")).collect();
        transact(&world, &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
    let request = permission::ListObjectsRequest {
        namespace: "Doc".to_owned(),
        relation: "view".to_owned(),
        subject: Some(subject("ann")),
        ..Default::default()
    };
    let mut client = LookupServiceClient::new(world.grpc());
    let mut stream = client.list_objects(request.clone()).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().objects.len(), 1_000);
    assert_eq!(world.shared.usage().streams, 1, "the rest is not looked for yet");
    drop(stream);
    while world.shared.usage().streams > 0 {
        tokio::task::yield_now().await;
    }
    let refused = permission::ListObjectsRequest { relation: "gone".to_owned(), ..request };
    let refused = client.list_objects(refused).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "before anything is sent");
}

#[tokio::test]
async fn browsers_call_by_grpc_web() {
    let world = World::speaking().await;
    let message = rts::ListNamespacesRequest {}.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    let request =
        Request::post("/ory.keto.relation_tuples.v1alpha2.NamespacesService/ListNamespaces")
            .header(header::CONTENT_TYPE, "application/grpc-web+proto")
            .body(Body::from(frame))
            .unwrap();
    let answer = world.grpc().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/grpc-web+proto");
    let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
    let found = rts::ListNamespacesResponse::decode(&bytes[5..5 + length]).unwrap();
    assert_eq!(found.namespaces.len(), 3);
    let trailers = String::from_utf8_lossy(&bytes[5 + length..]).into_owned();
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}
