//! Logging in and signing up by a code that is sent to an address.

use cardea_storage::{Consistency, Secret};
use serde_json::{Value, json};

use super::*;
use crate::{
    PageRequest, Settings,
    courier::MessageFilter,
    model::Issued,
    session::{Aal, Proof},
    testing::{World, client, settings},
};

const IP: &str = "192.0.2.1";

fn world() -> World {
    World::with(Settings { code_login: true, ..settings() })
}

/// The code in the newest message to an address, if one was written that is sent.
async fn mailed(world: &World, address: &str) -> Option<String> {
    let filter = MessageFilter { recipient: Some(address.to_owned()), ..Default::default() };
    let page = PageRequest::default();
    let listed = world.service.list_messages(world.scope, &filter, &page).await.unwrap();
    let body = listed.items.first()?.body.clone();
    body.split_whitespace()
        .find(|word| word.len() == 6 && word.parse::<u32>().is_ok())
        .map(str::to_owned)
}

async fn begin(world: &World) -> FlowId {
    world.service.begin_login(world.scope, BeginLogin::default()).await.unwrap().id
}

fn asks(identifier: &str) -> LoginSubmission {
    LoginSubmission {
        method: "code".to_owned(),
        identifier: Some(identifier.to_owned()),
        ..LoginSubmission::default()
    }
}

fn answers(code: &str) -> LoginSubmission {
    LoginSubmission {
        method: "code".to_owned(),
        code: Some(Secret::new(code.to_owned())),
        ..LoginSubmission::default()
    }
}

async fn send(
    world: &World,
    id: FlowId,
    submission: LoginSubmission,
) -> Result<Issued, LoginRejection> {
    let done = world.service.submit_login(world.scope, id, submission, &client(IP)).await;
    done.map(|done| done.issued)
}

/// The form with which a submission was refused.
fn form(done: Result<Issued, LoginRejection>) -> Flow {
    match done {
        Err(LoginRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

fn says(flow: &Flow) -> Vec<u32> {
    flow.ui.messages.iter().map(|text| text.id).collect()
}

#[tokio::test]
async fn code_logs_in_once() {
    let world = world();
    world.register("ann@example.org").await;
    let id = begin(&world).await;
    let sent = form(send(&world, id, asks(" Ann@Example.org ")).await);
    assert_eq!((sent.state, says(&sent)), (FlowState::SentEmail, vec![1_010_014]));
    let names: Vec<_> = sent.ui.nodes.iter().map(crate::ui::Node::name).collect();
    assert_eq!(names, ["csrf_token", "identifier", "code", "method", "resend"]);
    let code = mailed(&world, "ann@example.org").await.unwrap();
    let issued = send(&world, id, answers(&code)).await.unwrap();
    assert_eq!(issued.session.aal, Aal::Aal1);
    assert_eq!(issued.session.methods[0].method.name(), "code");
    let again = form(send(&world, id, answers(&code)).await);
    assert_eq!(says(&again), [4_010_007]);
}

#[tokio::test]
async fn address_that_nobody_has_is_answered_the_same_and_gets_nothing() {
    let world = world();
    world.register("ann@example.org").await;
    let known = form(send(&world, begin(&world).await, asks("ann@example.org")).await);
    let unknown = form(send(&world, begin(&world).await, asks("bob@example.org")).await);
    assert_eq!(says(&known), says(&unknown));
    assert_eq!(known.ui.nodes.len(), unknown.ui.nodes.len());
    assert_eq!(mailed(&world, "bob@example.org").await, None);
    for code in ["000000", "123456"] {
        let wrong = form(send(&world, unknown.id, answers(code)).await);
        assert_eq!(says(&wrong).last(), Some(&4_010_008));
    }
}

#[tokio::test]
async fn flow_takes_five_codes_and_another_code_is_no_way_around() {
    let world = world();
    world.register("ann@example.org").await;
    let id = begin(&world).await;
    form(send(&world, id, asks("ann@example.org")).await);
    let right = mailed(&world, "ann@example.org").await.unwrap();
    let wrong = if right == "000000" { "000001" } else { "000000" };
    let mut refusals = 0;
    for _ in 0..sent_code::TRIES_MAX {
        match send(&world, id, answers(wrong)).await {
            Err(LoginRejection::Invalid(flow)) => assert_eq!(says(&flow).last(), Some(&4_010_008)),
            Err(LoginRejection::Throttled(early)) => world.clock.advance(early.retry_after),
            other => panic!("{other:?}"),
        }
        refusals += 1;
    }
    assert_eq!(refusals, sent_code::TRIES_MAX);
    let mut last = None;
    for _ in 0..10 {
        match send(&world, id, answers(&right)).await {
            Err(LoginRejection::Throttled(early)) => world.clock.advance(early.retry_after),
            other => {
                last = Some(other);
                break;
            }
        }
    }
    let over = form(last.unwrap());
    assert_eq!(says(&over).last(), Some(&4_000_001));
}

#[tokio::test]
async fn wrong_codes_count_at_their_source_whatever_they_are_for() {
    let throttle = throttle::Throttle { source_failures_max: 2, ..Default::default() };
    let on = Settings { recovery: true, verification: true, ..settings() };
    let world = World::with(Settings { throttle, ..on });
    world.register("ann@example.org").await;
    for purpose in [Purpose::Recovery, Purpose::Verification] {
        let begun = world.service.begin_code(world.scope, purpose, BeginCode::default()).await;
        let what = (purpose, begun.unwrap().id);
        world.clock.advance(std::time::Duration::from_secs(1));
        let submit = async |submission: CodeSubmission, ip: &str| {
            world.service.submit_code(world.scope, what, submission, &client(ip)).await
        };
        let by = |code: &str| CodeSubmission {
            code: Some(Secret::new(code.to_owned())),
            ..CodeSubmission::default()
        };
        let email = Some("ann@example.org".to_owned());
        submit(CodeSubmission { email, ..CodeSubmission::default() }, IP).await.unwrap();
        for _ in 0..2 {
            let wrong = submit(by("wrong"), IP).await;
            assert!(matches!(wrong, Err(CodeRejection::Invalid(_))), "{wrong:?}");
        }
        let code = mailed(&world, "ann@example.org").await.unwrap();
        let early = submit(by(&code), IP).await;
        assert!(matches!(early, Err(CodeRejection::Throttled(_))), "{early:?}");
        submit(by(&code), "198.51.100.7").await.unwrap();
        world.clock.advance(std::time::Duration::from_secs(600));
    }
}

/// A replica that lags knows whom the code of before was sent to: to charge her alone would
/// give tries at somebody else's away.
#[tokio::test]
async fn it_is_charged_whose_code_is_tried_however_late_a_replica_is() {
    let world = World::with(Settings { recovery: true, ..settings() });
    world.register("ann@example.org").await;
    world.register("eve@example.org").await;
    let submit = async |flow: FlowId, email: Option<&str>, code: &str| {
        let submission = CodeSubmission {
            email: email.map(str::to_owned),
            code: Some(Secret::new(code.to_owned())),
            ..CodeSubmission::default()
        };
        let what = (Purpose::Recovery, flow);
        world.service.submit_code(world.scope, what, submission, &client(IP)).await
    };
    let begin = async || {
        let begin = world.service.begin_code(world.scope, Purpose::Recovery, BeginCode::default());
        begin.await.unwrap().id
    };
    let flow = begin().await;
    submit(flow, Some("ann@example.org"), "").await.unwrap();
    for _ in 0..sent_code::TRIES_MAX {
        let wrong = submit(flow, None, "wrong").await;
        assert!(matches!(wrong, Err(CodeRejection::Invalid(_))), "{wrong:?}");
    }
    world.clock.advance(std::time::Duration::from_millis(10));
    let flow = begin().await;
    submit(flow, Some("eve@example.org"), "").await.unwrap();
    *world.counted.behind.lock() = Some(Vec::new());
    submit(flow, Some("ann@example.org"), "").await.unwrap();
    let code = mailed(&world, "ann@example.org").await.unwrap();
    let tried = submit(flow, None, &code).await;
    assert!(matches!(tried, Err(CodeRejection::Throttled(_))), "{tried:?}");
}

#[tokio::test]
async fn code_of_another_flow_is_wrong() {
    let world = world();
    world.register("ann@example.org").await;
    let (mine, other) = (begin(&world).await, begin(&world).await);
    form(send(&world, mine, asks("ann@example.org")).await);
    let code = mailed(&world, "ann@example.org").await.unwrap();
    // The other flow has a code of its own, or none.
    let refused = form(send(&world, other, answers(&code)).await);
    assert_eq!(refused.state, FlowState::ChooseMethod);
    assert!(send(&world, mine, answers(&code)).await.is_ok());
}

/// Pre-hijacking: somebody signed up with an address that is not theirs, and waits.
#[tokio::test]
async fn first_code_to_an_address_ends_what_others_set_up_with_it() {
    let world = world();
    let planted = world.register("ann@example.org").await.issued.unwrap();
    let id = begin(&world).await;
    form(send(&world, id, asks("ann@example.org")).await);
    let code = mailed(&world, "ann@example.org").await.unwrap();
    let issued = send(&world, id, answers(&code)).await.unwrap();
    let identity = issued.session.identity.as_ref().unwrap();
    assert!(identity.verifiable_addresses[0].verified_at.is_some());
    assert!(
        !world.recognised(&Proof::Token(planted.token.clone())).await,
        "the session from before is over"
    );
    assert!(world.recognised(&Proof::Token(issued.token.clone())).await);
    let filter = crate::audit::AuditFilter {
        identity: Some(issued.session.identity_id),
        act: Some(crate::audit::Act::CredentialRemoved),
    };
    let (service, page) = (&world.service, PageRequest::default());
    let events = service.list_audit_events(world.scope, filter, &page, Consistency::Strong).await;
    let events: Vec<_> = events.unwrap().items.into_iter().map(|event| event.details).collect();
    assert_eq!(json!(events), json!([{"type": "password"}]), "the trail says what was ended");
    // And so is the password; a second login by code changes nothing more.
    let id = begin(&world).await;
    let submission = LoginSubmission {
        method: "password".to_owned(),
        identifier: Some("ann@example.org".to_owned()),
        password: Some(Secret::new(crate::testing::PASSWORD.to_owned())),
        ..LoginSubmission::default()
    };
    assert_eq!(says(&form(send(&world, id, submission).await)), [4_000_006]);
}

#[tokio::test]
async fn codes_are_not_offered_unless_an_operator_says_so() {
    let world = World::with(settings());
    world.register("ann@example.org").await;
    let id = begin(&world).await;
    let refused = form(send(&world, id, asks("ann@example.org")).await);
    assert_eq!(says(&refused), [4_010_002]);
    assert_eq!(mailed(&world, "ann@example.org").await, None);
}

fn signs_up(traits: Value, code: Option<&str>) -> RegistrationSubmission {
    RegistrationSubmission {
        method: "code".to_owned(),
        traits,
        code: code.map(|code| Secret::new(code.to_owned())),
        ..RegistrationSubmission::default()
    }
}

async fn register(
    world: &World,
    id: FlowId,
    submission: RegistrationSubmission,
) -> Result<Registered, RegistrationRejection> {
    world.service.submit_registration(world.scope, id, submission, &client(IP)).await
}

fn refused(done: Result<Registered, RegistrationRejection>) -> Flow {
    match done {
        Err(RegistrationRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn code_signs_up_with_the_address_verified() {
    let world = world();
    let id = world
        .service
        .begin_registration(world.scope, BeginRegistration::default())
        .await
        .unwrap()
        .id;
    let traits = json!({"email": "ann@example.org", "name": {"first": "Ann"}});
    let sent = refused(register(&world, id, signs_up(traits.clone(), None)).await);
    assert_eq!((sent.state, says(&sent)), (FlowState::SentEmail, vec![1_040_005]));
    assert!(sent.ui.find("traits.name.first").is_some());
    let code = mailed(&world, "ann@example.org").await.unwrap();
    let other = json!({"email": "eve@example.org", "name": {"first": "Ann"}});
    let mismatch = refused(register(&world, id, signs_up(other, Some(&code))).await);
    assert_eq!(says(&mismatch).last(), Some(&4_000_036));
    let done = register(&world, id, signs_up(traits, Some(&code))).await.unwrap();
    assert!(done.identity.verifiable_addresses[0].verified_at.is_some());
    assert!(done.verification.is_none());
    assert_eq!(done.issued.unwrap().session.methods[0].method.name(), "code");
}

/// A replica that lags knows the traits of before; the code is for those of now.
#[tokio::test]
async fn code_signs_up_with_no_other_address_however_late_a_replica_is() {
    let world = world();
    let id = world.begin_registration().await.id;
    let theirs = json!({"email": "ann@example.org"});
    let mine = json!({"email": "eve@example.org"});
    refused(register(&world, id, signs_up(theirs.clone(), None)).await);
    *world.counted.behind.lock() = Some(Vec::new());
    refused(register(&world, id, signs_up(mine.clone(), None)).await);
    let code = mailed(&world, "eve@example.org").await.unwrap();
    let refused = refused(register(&world, id, signs_up(theirs, Some(&code))).await);
    assert_eq!(says(&refused).last(), Some(&4_000_036));
    *world.counted.behind.lock() = None;
    let done = register(&world, id, signs_up(mine, Some(&code))).await.unwrap();
    assert_eq!(done.identity.verifiable_addresses[0].value, "eve@example.org");
}

#[tokio::test]
async fn whether_somebody_has_an_address_is_told_to_its_owner_alone() {
    let world = world();
    world.register("ann@example.org").await;
    let id = world
        .service
        .begin_registration(world.scope, BeginRegistration::default())
        .await
        .unwrap()
        .id;
    let traits = json!({"email": "ann@example.org"});
    let sent = refused(register(&world, id, signs_up(traits.clone(), None)).await);
    assert_eq!(says(&sent), [1_040_005]);
    let code = mailed(&world, "ann@example.org").await.unwrap();
    let taken = refused(register(&world, id, signs_up(traits, Some(&code))).await);
    assert_eq!(says(&taken).last(), Some(&4_000_007));
}
