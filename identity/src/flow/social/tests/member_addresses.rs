//! The addresses of an organization's people: by which they are known and written to.

use super::{
    organization::{ACME, acme, town},
    *,
};
use crate::{
    flow::{CodeRejection, CodeSubmission},
    hook::{Action, Hook, Moment},
    identity::{NewIdentity, NewPassword},
};

/// An address is written to and known by: it does not leave the organization's domains
/// behind its back. What was outside of them before stays, and an administrator may.
#[tokio::test]
async fn member_does_not_move_to_an_address_outside_of_its_organization() {
    let town = town();
    let local = town.member("ann@acme.example", None).await;
    let first = town.world.log_in("ann@acme.example", PASSWORD).await.unwrap().issued;
    let proof = Proof::Token(first.token);
    let flow = town.world.settings(&proof).await.unwrap();
    let moving = |email: &str| SettingsSubmission {
        method: "profile".to_owned(),
        traits: crate::testing::traits(email),
        ..SettingsSubmission::default()
    };
    town.assign(local.id, Some(ACME)).await;
    for outside in ["ann@example.org", "ann@sub.acme.example", "ann@acme.example.evil.example"] {
        match town.world.change(&flow, &proof, moving(outside)).await {
            Err(SettingsRejection::Invalid(told)) => {
                let told = told.ui.messages.last().unwrap();
                assert_eq!(told.text, "An address of people of Acme is one of its own domains.");
            }
            other => panic!("{outside}: {other:?}"),
        }
        assert_eq!(town.find(outside).await, []);
    }
    town.world.change(&flow, &proof, moving("ann@ACME.example")).await.unwrap();
    let flow = town.world.settings(&proof).await.unwrap();
    town.world.change(&flow, &proof, moving("anna@acme.example")).await.unwrap();
    town.assign(local.id, None).await;
    let flow = town.world.settings(&proof).await.unwrap();
    town.world.change(&flow, &proof, moving("ann@example.org")).await.unwrap();
    // A member with an address of its own keeps it.
    town.assign(local.id, Some(ACME)).await;
    let flow = town.world.settings(&proof).await.unwrap();
    town.world.change(&flow, &proof, moving("ann@example.org")).await.unwrap();
}

/// Where a change waits for its address, nobody outside is written to for a member's, and
/// what waited when it became one is not done.
#[tokio::test]
async fn member_does_not_move_outside_by_a_change_that_waits() {
    let patient = Hook {
        purpose: Purpose::Settings,
        moment: Moment::After,
        method: None,
        action: Action::VerifyNewAddress,
    };
    let town = Town::of(Settings { verification: true, ..acme(Some(patient)) });
    let (service, scope) = (&town.world.service, town.world.scope);
    let local = town.member("ann@acme.example", None).await;
    let proof =
        Proof::Token(town.world.log_in("ann@acme.example", PASSWORD).await.unwrap().issued.token);
    let flow = town.world.settings(&proof).await.unwrap();
    let moving = |email: &str| SettingsSubmission {
        method: "profile".to_owned(),
        traits: crate::testing::traits(email),
        ..SettingsSubmission::default()
    };
    let code_for = async |address: &str| {
        let filter =
            crate::courier::MessageFilter { status: None, recipient: Some(address.to_owned()) };
        let found = service.list_messages(scope, &filter, &Default::default()).await.unwrap();
        let body = &found.items.first()?.body;
        Some(secret(&body.chars().filter(char::is_ascii_digit).take(6).collect::<String>()))
    };
    let verify = async |begun: crate::flow::StartedVerification| {
        let code = Some(code_for(&begun.address).await.unwrap());
        let submission = CodeSubmission { code, ..CodeSubmission::default() };
        let what = (Purpose::Verification, begun.flow);
        service.submit_code(scope, what, submission, &client("192.0.2.1")).await
    };
    let waits = town.world.change(&flow, &proof, moving("ann@example.org")).await.unwrap();
    town.assign(local.id, Some(ACME)).await;
    match verify(waits.verification.unwrap()).await {
        Err(CodeRejection::Invalid(told)) => {
            let told = told.ui.messages.last().unwrap();
            assert_eq!(told.text, "An address of people of Acme is one of its own domains.");
        }
        other => panic!("{other:?}"),
    }
    let flow = town.world.settings(&proof).await.unwrap();
    let refused = town.world.change(&flow, &proof, moving("ann@elsewhere.example")).await;
    let Err(SettingsRejection::Invalid(told)) = refused else { panic!("{refused:?}") };
    assert_eq!(told.ui.messages.last().unwrap().id, 4_000_001);
    assert!(code_for("ann@elsewhere.example").await.is_none());
    assert_eq!(town.read(local.id).await.traits["email"], "ann@acme.example");
    let waits = town.world.change(&flow, &proof, moving("anna@acme.example")).await.unwrap();
    verify(waits.verification.unwrap()).await.unwrap();
    assert_eq!(town.read(local.id).await.traits["email"], "anna@acme.example");
}

/// Where it is known by an address, or codes are sent to one, which nobody verifies.
#[tokio::test]
async fn member_is_known_by_no_address_outside_of_its_organization() {
    let town = town();
    let (service, scope) = (&town.world.service, town.world.scope);
    let known_by = |to: Value| json!({"type": "string", "ory.sh/kratos": {"credentials": to}});
    let traits = json!({
        "type": "object",
        "properties": {
            "name": known_by(json!({"password": {"identifier": true}})),
            "codes": known_by(json!({"code": {"identifier": true, "via": "email"}})),
        },
    });
    let document = json!({"type": "object", "properties": {"traits": traits}});
    let schema = crate::schema::NewSchema { id: "known".to_owned(), document, is_default: false };
    service.put_schema(schema).await.unwrap();
    let new = NewIdentity {
        schema_id: "known".to_owned(),
        traits: json!({"name": "ann"}),
        password: Some(NewPassword::Clear(secret(PASSWORD))),
        ..NewIdentity::default()
    };
    let local = service.create_identity(scope, new).await.unwrap();
    let proof = Proof::Token(town.world.log_in("ann", PASSWORD).await.unwrap().issued.token);
    let flow = town.world.settings(&proof).await.unwrap();
    town.assign(local.id, Some(ACME)).await;
    for (traits, fits) in [
        (json!({"name": "anna"}), true),
        (json!({"name": "anna@example.org"}), false),
        (json!({"name": "anna", "codes": "anna@example.org"}), false),
        (json!({"name": "anna@acme.example", "codes": "anna@acme.example"}), true),
    ] {
        let told = traits.to_string();
        let method = "profile".to_owned();
        let saved = SettingsSubmission { method, traits, ..SettingsSubmission::default() };
        let flow = town.world.change(&flow, &proof, saved).await;
        assert_eq!(flow.is_ok(), fits, "{told}: {flow:?}");
    }
}
