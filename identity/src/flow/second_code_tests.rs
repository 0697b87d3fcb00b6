//! Codes as a second factor: off unless switched on, and never the first factor again.

use cardea_storage::Secret;
use serde_json::json;

use super::*;
use crate::{
    PageRequest, Settings,
    courier::MessageFilter,
    identity::{ImportedAddress, NewIdentity, NewPassword},
    model::Issued,
    schema::{Channel, NewSchema},
    session::{Aal, Proof, RequiredAal},
    testing::{PASSWORD, START, World, client, secret, settings},
};

const IP: &str = "192.0.2.1";
const ANN: &str = "ann@example.org";
const NUMBER: &str = "+4930901820";

/// Somebody with a password, and with addresses of these kinds that are verified.
async fn world(is_on: bool, verified: &[(Channel, &str)]) -> World {
    let settings =
        Settings { code_login: true, recovery: true, code_second_factor: is_on, ..settings() };
    let world = World::with(settings);
    let trait_of = |via: &str, password: bool| {
        json!({"type": "string", "ory.sh/kratos": {
            "credentials": {"code": {"identifier": true, "via": via},
                "password": {"identifier": password}},
            "verification": {"via": via}, "recovery": {"via": via}}})
    };
    let document = json!({"type": "object", "properties": {"traits": {"type": "object",
        "properties": {"email": trait_of("email", true), "phone": trait_of("sms", false)}}}});
    let schema = NewSchema { id: "both".to_owned(), document, is_default: true };
    world.service.put_schema(schema).await.unwrap();
    world.service.refresh_schemas(cardea_storage::Consistency::Strong).await.unwrap();
    let address = |(via, value): &(Channel, &str)| ImportedAddress {
        via: *via,
        value: (*value).to_owned(),
        verified_at: Some(START),
    };
    let new = NewIdentity {
        traits: json!({"email": ANN, "phone": NUMBER}),
        password: Some(NewPassword::Clear(secret(PASSWORD))),
        addresses: verified.iter().map(address).collect(),
        ..NewIdentity::default()
    };
    world.service.create_identity(world.scope, new).await.unwrap();
    world
}

const BOTH: [(Channel, &str); 2] = [(Channel::Email, ANN), (Channel::Sms, NUMBER)];

/// The code that went to an address.
async fn code(world: &World, to: &str) -> String {
    let filter = MessageFilter { recipient: Some(to.to_owned()), ..MessageFilter::default() };
    let page = PageRequest::default();
    let listed = world.service.list_messages(world.scope, &filter, &page).await.unwrap();
    let body = &listed.items[0].body;
    let mut words = body.split(|c: char| !c.is_ascii_digit());
    words.find(|word| word.len() == 6).unwrap().to_owned()
}

async fn step_up(world: &World, proof: &Proof) -> Result<Flow, BeginRejection> {
    let begin =
        BeginLogin { aal: Some(Aal::Aal2), proof: Some(proof.clone()), ..BeginLogin::default() };
    world.service.begin_login(world.scope, begin).await
}

fn to(address: &str, proof: &Proof) -> LoginSubmission {
    LoginSubmission {
        address: Some(address.to_owned()),
        proof: Some(proof.clone()),
        ..LoginSubmission::default()
    }
}

fn by(code: &str, proof: &Proof) -> LoginSubmission {
    LoginSubmission {
        code: Some(Secret::new(code.to_owned())),
        proof: Some(proof.clone()),
        ..LoginSubmission::default()
    }
}

async fn send(
    world: &World,
    flow: &Flow,
    submission: LoginSubmission,
) -> Result<Issued, LoginRejection> {
    let done = world.service.submit_login(world.scope, flow.id, submission, &client(IP)).await;
    done.map(|done| done.issued)
}

fn form(done: Result<Issued, LoginRejection>) -> Flow {
    match done {
        Err(LoginRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

fn says(flow: &Flow) -> Vec<u32> {
    flow.ui.messages.iter().map(|text| text.id).collect()
}

/// The addresses that a form offers.
fn offered(flow: &Flow) -> Vec<String> {
    let nodes = serde_json::to_value(&flow.ui.nodes).unwrap();
    let named = nodes.as_array().unwrap().iter().filter(|n| n["attributes"]["name"] == "address");
    named.map(|node| node["attributes"]["value"].as_str().unwrap().to_owned()).collect()
}

/// Logs in by a code that is mailed.
async fn log_in_by_mail(world: &World) -> Issued {
    let flow = world.begin_login().await;
    let asks = LoginSubmission {
        method: "code".to_owned(),
        identifier: Some(ANN.to_owned()),
        ..LoginSubmission::default()
    };
    form(send(world, &flow, asks).await);
    let code = Some(Secret::new(code(world, ANN).await));
    send(world, &flow, LoginSubmission { code, ..LoginSubmission::default() }).await.unwrap()
}

#[tokio::test]
async fn a_code_beside_a_password_makes_two_factors() {
    let world = world(true, &BOTH).await;
    let issued = world.log_in(ANN, PASSWORD).await.unwrap().issued;
    assert!(!issued.session.satisfies(RequiredAal::HighestAvailable), "there is a second factor");
    let proof = Proof::Token(issued.token);
    let flow = step_up(&world, &proof).await.unwrap();
    assert_eq!(offered(&flow), ["an****@example.org", "+49****20"]);
    let sent = form(send(&world, &flow, to("+49****20", &proof)).await);
    assert_eq!(says(&sent).last(), Some(&1_010_014));
    for told in [&flow, &sent].map(|flow| serde_json::to_string(&flow.ui).unwrap()) {
        assert!(!told.contains(ANN) && !told.contains(NUMBER), "{told}");
    }
    let wrong = form(send(&world, &flow, by("1234567", &proof)).await);
    assert_eq!(says(&wrong).last(), Some(&4_010_008));
    let code = code(&world, NUMBER).await;
    let strong = send(&world, &flow, by(&code, &proof)).await.unwrap().session;
    assert_eq!((strong.aal, strong.methods[1].via), (Aal::Aal2, Some(Channel::Sms)));
    assert!(strong.satisfies(RequiredAal::HighestAvailable));
    assert!(send(&world, &flow, by(&code, &proof)).await.is_err(), "a code is good once");
}

#[tokio::test]
async fn a_code_by_mail_is_no_second_factor_beside_one_by_mail() {
    let world = world(true, &BOTH).await;
    let proof = Proof::Token(log_in_by_mail(&world).await.token);
    let flow = step_up(&world, &proof).await.unwrap();
    assert_eq!(offered(&flow), ["+49****20"]);
    for address in [ANN, "an****@example.org", "bob@example.org"] {
        let refused = form(send(&world, &flow, to(address, &proof)).await);
        assert_eq!(says(&refused).last(), Some(&4_010_010), "{address}");
    }
    form(send(&world, &flow, to(NUMBER, &proof)).await);
    let code = code(&world, NUMBER).await;
    assert_eq!(send(&world, &flow, by(&code, &proof)).await.unwrap().session.aal, Aal::Aal2);
}

/// Else nobody could recover an account whose only factor beside the password is mail.
#[tokio::test]
async fn who_has_mail_alone_is_asked_for_no_second_factor_beside_it() {
    let world = world(true, &BOTH[..1]).await;
    let issued = log_in_by_mail(&world).await;
    assert!(issued.session.satisfies(RequiredAal::HighestAvailable));
    let proof = Proof::Token(issued.token);
    assert!(matches!(step_up(&world, &proof).await, Err(BeginRejection::NoSecondFactor)));
    // Beside the password it is one.
    let issued = world.log_in(ANN, PASSWORD).await.unwrap().issued;
    assert!(!issued.session.satisfies(RequiredAal::HighestAvailable));
}

#[tokio::test]
async fn codes_are_no_second_factor_unless_they_are_switched_on() {
    let world = world(false, &BOTH).await;
    let issued = world.log_in(ANN, PASSWORD).await.unwrap().issued;
    assert!(issued.session.satisfies(RequiredAal::HighestAvailable));
    let proof = Proof::Token(issued.token);
    assert!(matches!(step_up(&world, &proof).await, Err(BeginRejection::NoSecondFactor)));
}

#[tokio::test]
async fn an_address_that_nobody_showed_to_be_theirs_is_no_factor() {
    let world = world(true, &[]).await;
    let issued = world.log_in(ANN, PASSWORD).await.unwrap().issued;
    let proof = Proof::Token(issued.token);
    assert!(matches!(step_up(&world, &proof).await, Err(BeginRejection::NoSecondFactor)));
}

#[tokio::test]
async fn a_second_factor_needs_the_session_that_it_is_to_strengthen() {
    let world = world(true, &BOTH).await;
    let proof = Proof::Token(world.log_in(ANN, PASSWORD).await.unwrap().issued.token);
    let flow = step_up(&world, &proof).await.unwrap();
    form(send(&world, &flow, to(NUMBER, &proof)).await);
    let code = code(&world, NUMBER).await;
    let stranger = LoginSubmission { proof: None, ..by(&code, &proof) };
    let refused = send(&world, &flow, stranger).await;
    assert!(matches!(refused, Err(LoginRejection::SessionRequired)), "{refused:?}");
    // A code that logs in is none for the second factor, and the other way round.
    let mailed = log_in_by_mail(&world).await;
    assert_eq!(mailed.session.aal, Aal::Aal1);
}

/// The number may have been given up since the code was sent.
#[tokio::test]
async fn a_code_to_an_address_that_was_taken_away_is_worth_nothing() {
    let world = world(true, &BOTH).await;
    let issued = world.log_in(ANN, PASSWORD).await.unwrap().issued;
    let id = issued.session.identity_id;
    let proof = Proof::Token(issued.token);
    let flow = step_up(&world, &proof).await.unwrap();
    form(send(&world, &flow, to(NUMBER, &proof)).await);
    let code = code(&world, NUMBER).await;
    let operations = json!([{"op": "remove", "path": "/traits/phone"}]);
    world.service.patch_identity(world.scope, id, &operations).await.unwrap();
    let refused = form(send(&world, &flow, by(&code, &proof)).await);
    assert_eq!(says(&refused).last(), Some(&4_010_008));
}

#[tokio::test]
async fn a_first_factor_does_not_forget_failures_of_the_second() {
    let world = world(true, &BOTH).await;
    let proof = Proof::Token(world.log_in(ANN, PASSWORD).await.unwrap().issued.token);
    let mut throttled = false;
    for _ in 0..4 {
        let flow = step_up(&world, &proof).await.unwrap();
        if let Err(LoginRejection::Throttled(_)) = send(&world, &flow, to(NUMBER, &proof)).await {
            throttled = true;
            break;
        }
        for _ in 0..3 {
            let refused = send(&world, &flow, by("0000000", &proof)).await;
            throttled |= matches!(refused, Err(LoginRejection::Throttled(_)));
        }
        if throttled {
            break;
        }
    }
    assert!(throttled);
    log_in_by_mail(&world).await;
    world.log_in(ANN, PASSWORD).await.unwrap();
    let flow = step_up(&world, &proof).await.unwrap();
    let sent = send(&world, &flow, to(NUMBER, &proof)).await;
    let tried = send(&world, &flow, by("0000000", &proof)).await;
    let is_throttled =
        |done: &Result<Issued, LoginRejection>| matches!(done, Err(LoginRejection::Throttled(_)));
    assert!(is_throttled(&sent) || is_throttled(&tried), "{sent:?} {tried:?}");
}
