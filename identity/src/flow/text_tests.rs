//! Verifying, recovering, signing up and logging in by text message; and what limits on
//! messages refuse.

use std::time::Duration;

use cardea_storage::Secret;
use serde_json::{Value, json};

use super::{throttle::TooEarly, *};
use crate::{
    Client, PageRequest, Settings,
    courier::{Limits, MessageFilter, SentMessage},
    identity::NewIdentity,
    schema::{Channel, NewSchema},
    testing::{World, client, secret, settings},
    ui::InputType,
};

const IP: &str = "192.0.2.1";
const NUMBER: &str = "+4930901820";
const TYPED: &str = "+49 (30) 90-18-20";

/// Somebody has a number here, to recover and log in by.
async fn world(settings: Settings) -> World {
    let world =
        World::with(Settings { recovery: true, verification: true, code_login: true, ..settings });
    let phone = json!({"type": "string", "format": "tel", "ory.sh/kratos": {
        "credentials": {"code": {"identifier": true, "via": "sms"},
            "password": {"identifier": true}},
        "verification": {"via": "sms"}, "recovery": {"via": "sms"}}});
    let document = json!({"type": "object", "properties": {"traits": {"type": "object",
        "properties": {"phone": phone}, "required": ["phone"]}}});
    let schema = NewSchema { id: "phones".to_owned(), document, is_default: true };
    world.service.put_schema(schema).await.unwrap();
    let strong = cardea_storage::Consistency::Strong;
    world.service.refresh_schemas(strong).await.unwrap();
    world
}

async fn create(world: &World, number: &str) {
    let new = NewIdentity { traits: json!({"phone": number}), ..NewIdentity::default() };
    world.service.create_identity(world.scope, new).await.unwrap();
}

async fn messages(world: &World) -> Vec<SentMessage> {
    let (filter, page) = (MessageFilter::default(), PageRequest::default());
    world.service.list_messages(world.scope, &filter, &page).await.unwrap().items
}

/// The code in the newest message.
async fn texted(world: &World) -> String {
    let newest = messages(world).await.swap_remove(0);
    assert_eq!((newest.via, newest.subject.as_str()), (Channel::Sms, ""));
    let (_, code) = newest.body.rsplit_once('#').unwrap();
    code.to_owned()
}

async fn begin(world: &World, purpose: Purpose) -> Flow {
    world.service.begin_code(world.scope, purpose, BeginCode::default()).await.unwrap()
}

async fn submit(
    world: &World,
    flow: &Flow,
    submission: CodeSubmission,
    client: &Client,
) -> Result<CodeOutcome, CodeRejection> {
    let to = (flow.purpose, flow.id);
    world.service.submit_code(world.scope, to, submission, client).await
}

fn to(address: &str) -> CodeSubmission {
    CodeSubmission { email: Some(address.to_owned()), ..CodeSubmission::default() }
}

fn by(code: String) -> CodeSubmission {
    CodeSubmission { code: Some(Secret::new(code)), ..CodeSubmission::default() }
}

async fn sent(world: &World, purpose: Purpose, address: &str) -> Flow {
    let flow = begin(world, purpose).await;
    match submit(world, &flow, to(address), &client(IP)).await {
        Ok(CodeOutcome::Sent(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

fn says(flow: &Flow) -> Vec<u32> {
    flow.ui.messages.iter().map(|text| text.id).collect()
}

fn says_at(flow: &Flow, name: &str) -> Vec<u32> {
    flow.ui.find(name).unwrap().messages.iter().map(|text| text.id).collect()
}

fn throttled(done: Result<CodeOutcome, CodeRejection>) -> TooEarly {
    match done {
        Err(CodeRejection::Throttled(early)) => early,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_number_is_verified_by_the_code_that_is_texted_to_it() {
    let world = world(settings()).await;
    create(&world, TYPED).await;
    let flow = sent(&world, Purpose::Verification, TYPED).await;
    assert_eq!((flow.state, says(&flow)), (FlowState::SentEmail, vec![1_080_004]));
    let told = &flow.ui.messages[0];
    assert!(told.text.starts_with("A text message containing a verification code has been sent"));
    assert!(!format!("{told:?}").contains("90182"), "{told:?}");
    assert_eq!(messages(&world).await[0].recipient, NUMBER);
    let code = texted(&world).await;
    let done = submit(&world, &flow, by(code), &client(IP)).await.unwrap();
    let CodeOutcome::Verified(flow) = done else { panic!("{done:?}") };
    assert_eq!((flow.state, says(&flow)), (FlowState::PassedChallenge, vec![1_080_005]));
}

#[tokio::test]
async fn a_number_lets_its_owner_back_in() {
    let world = world(settings()).await;
    create(&world, NUMBER).await;
    let flow = sent(&world, Purpose::Recovery, TYPED).await;
    assert_eq!(says(&flow), [1_060_004]);
    let told = &flow.ui.messages[0];
    assert!(told.text.starts_with("A recovery code has been sent to +"), "{told:?}");
    assert!(!format!("{told:?}").contains("90182"), "{told:?}");
    let code = texted(&world).await;
    let done = submit(&world, &flow, by(code), &client(IP)).await.unwrap();
    let CodeOutcome::Recovered { issued, .. } = done else { panic!("{done:?}") };
    let identity = issued.session.identity.unwrap();
    let shown = &identity.verifiable_addresses[0];
    assert_eq!((shown.via, shown.value.as_str()), (Channel::Sms, NUMBER));
    assert!(shown.verified_at.is_some(), "recovering by it shows that it is theirs");
}

#[tokio::test]
async fn a_number_that_nobody_has_is_answered_the_same_and_gets_nothing() {
    let world = world(settings()).await;
    create(&world, NUMBER).await;
    for purpose in [Purpose::Recovery, Purpose::Verification] {
        let known = sent(&world, purpose, NUMBER).await;
        let before = messages(&world).await.len();
        let unknown = sent(&world, purpose, "+4930901821").await;
        assert_eq!((says(&known), known.state), (says(&unknown), unknown.state));
        assert_eq!(messages(&world).await.len(), before);
    }
}

#[tokio::test]
async fn a_number_that_is_none_is_told_at_its_field() {
    let world = world(settings()).await;
    for purpose in [Purpose::Recovery, Purpose::Verification] {
        for number in ["030 901820", "+49", "+999123456789"] {
            let flow = begin(&world, purpose).await;
            let refused = submit(&world, &flow, to(number), &client(IP)).await;
            let Err(CodeRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
            assert_eq!(says_at(&flow, "email"), [4_000_041], "{number}");
        }
    }
    assert!(messages(&world).await.is_empty());
}

#[tokio::test]
async fn the_form_asks_for_what_the_schema_takes() {
    let phones = world(settings()).await;
    let mails = World::with(Settings { recovery: true, ..settings() });
    for (world, kind, label) in
        [(&phones, InputType::Tel, 1_070_017), (&mails, InputType::Email, 1_070_007)]
    {
        let flow = begin(world, Purpose::Recovery).await;
        let field = serde_json::to_value(flow.ui.find("email").unwrap()).unwrap();
        assert_eq!(field["attributes"]["type"], serde_json::to_value(kind).unwrap());
        assert_eq!(field["meta"]["label"]["id"], label);
    }
}

fn signs_up(method: &str, number: &str) -> RegistrationSubmission {
    RegistrationSubmission {
        method: method.to_owned(),
        traits: json!({"phone": number}),
        password: (method == "password").then(|| secret(crate::testing::PASSWORD)),
        ..RegistrationSubmission::default()
    }
}

async fn register(
    world: &World,
    submission: RegistrationSubmission,
) -> Result<Registered, RegistrationRejection> {
    let flow = world.begin_registration().await;
    world.service.submit_registration(world.scope, flow.id, submission, &client(IP)).await
}

#[tokio::test]
async fn who_signs_up_with_a_number_is_texted_a_code_that_verifies_it() {
    let world = world(settings()).await;
    let done = register(&world, signs_up("password", TYPED)).await.unwrap();
    let started = done.verification.unwrap();
    assert_eq!(started.address, NUMBER);
    let flow = world.service.flow(world.scope, Purpose::Verification, started.flow).await.unwrap();
    let code = texted(&world).await;
    let done = submit(&world, &flow, by(code), &client(IP)).await.unwrap();
    assert!(matches!(done, CodeOutcome::Verified(_)));
}

/// An answer that says how much was sent to an address would say whether somebody has it.
#[tokio::test]
async fn a_limit_refuses_known_and_unknown_addresses_alike() {
    let message_limits = Limits { per_address: 1, ..Limits::default() };
    let world = world(Settings { message_limits, ..settings() }).await;
    create(&world, NUMBER).await;
    let mut told = Vec::new();
    for number in [NUMBER, "+4930901821"] {
        sent(&world, Purpose::Recovery, number).await;
        let flow = begin(&world, Purpose::Recovery).await;
        world.counted.take();
        let early = throttled(submit(&world, &flow, to(number), &client(IP)).await);
        told.push((early.retry_after, world.counted.take()));
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].0 > Duration::from_secs(3000));
    assert_eq!(messages(&world).await.len(), 1);
    // A login asks for the same address.
    for identifier in [NUMBER, "+4930901821"] {
        let submission = LoginSubmission {
            method: "code".to_owned(),
            identifier: Some(identifier.to_owned()),
            ..LoginSubmission::default()
        };
        let flow = world.begin_login().await.id;
        let refused = world.service.submit_login(world.scope, flow, submission, &client(IP)).await;
        assert!(matches!(refused, Err(LoginRejection::Throttled(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn a_registration_that_would_text_too_much_is_refused_and_leaves_nothing() {
    let message_limits = Limits { texts_per_country: 1, ..Limits::default() };
    let world = world(Settings { message_limits, ..settings() }).await;
    register(&world, signs_up("password", NUMBER)).await.unwrap();
    for method in ["password", "code"] {
        let refused = register(&world, signs_up(method, "+4930901821")).await;
        assert!(matches!(refused, Err(RegistrationRejection::Throttled(_))), "{refused:?}");
    }
    // Another country has a share of its own; and the number was not taken.
    register(&world, signs_up("password", "+33123456789")).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    register(&world, signs_up("password", "+4930901821")).await.unwrap();
}

/// Nobody uses up what may be sent to somebody by signing up in their name.
#[tokio::test]
async fn a_registration_that_is_refused_counts_no_message() {
    let message_limits = Limits { per_address: 2, ..Limits::default() };
    let world = world(Settings { message_limits, ..settings() }).await;
    register(&world, signs_up("password", NUMBER)).await.unwrap();
    for _ in 0..3 {
        let taken = register(&world, signs_up("password", NUMBER)).await;
        assert!(matches!(taken, Err(RegistrationRejection::Invalid(_))), "{taken:?}");
    }
    sent(&world, Purpose::Recovery, NUMBER).await;
    let flow = begin(&world, Purpose::Recovery).await;
    throttled(submit(&world, &flow, to(NUMBER), &client(IP)).await);
}

#[tokio::test]
async fn numbers_elsewhere_are_refused_where_messages_do_not_go() {
    let text_prefixes = vec!["+1".to_owned()];
    let message_limits = Limits { text_prefixes, ..Limits::default() };
    let world = world(Settings { message_limits, ..settings() }).await;
    for number in [NUMBER, "+4930901821"] {
        let flow = begin(&world, Purpose::Recovery).await;
        let refused = submit(&world, &flow, to(number), &client(IP)).await;
        let Err(CodeRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
        assert_eq!(says_at(&flow, "email"), [4_000_041]);
    }
    let refused = register(&world, signs_up("code", NUMBER)).await;
    let Err(RegistrationRejection::Invalid(flow)) = refused else { panic!("{refused:?}") };
    assert_eq!(says(&flow), [4_000_041]);
    // One may sign up by password; nothing is texted.
    let done = register(&world, signs_up("password", NUMBER)).await.unwrap();
    assert!(done.verification.is_none() && messages(&world).await.is_empty());
}

#[tokio::test]
async fn what_was_sent_along_reaches_the_template() {
    use crate::courier::{Template, Templates, template::Part};
    let mut templates = Templates::default();
    let text = "{{ .TransientPayload.shop }}: {{ .RecoveryCode }} #{{ .RecoveryCode }}".to_owned();
    templates.replace(Template::RecoveryCode, (Part::Sms, None), text).unwrap();
    let world = world(Settings { templates, ..settings() }).await;
    create(&world, NUMBER).await;
    let flow = begin(&world, Purpose::Recovery).await;
    let along: Value = json!({"shop": "Books"});
    let client = Client { transient_payload: along, ..client(IP) };
    submit(&world, &flow, to(NUMBER), &client).await.unwrap();
    let code = texted(&world).await;
    assert_eq!(messages(&world).await[0].body, format!("Books: {code} #{code}"));
}
