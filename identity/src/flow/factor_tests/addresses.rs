//! Addresses that a change of settings brings: verified at once, or before anything
//! changes.

use serde_json::json;

use super::*;
use crate::{
    flow::{CodeOutcome, CodeRejection, CodeSubmission, StartedVerification},
    hook::{Action, Hook, Hooks, Moment},
    model::Identity,
};

fn world() -> World {
    World::with(Settings { verification: true, ..settings() })
}

/// Where a change waits for its address.
fn patient() -> World {
    World::with(Settings { verification: true, hooks: patient_hooks(), ..settings() })
}

fn patient_hooks() -> Hooks {
    Hooks::new(vec![Hook {
        purpose: Purpose::Settings,
        moment: Moment::After,
        method: Some("profile".to_owned()),
        action: Action::VerifyNewAddress,
    }])
}

impl World {
    async fn move_to(&self, proof: &Proof, email: &str) -> Result<Flow, SettingsRejection> {
        self.clock.advance(Duration::from_secs(1));
        let flow = self.settings(proof).await.unwrap();
        let submission = SettingsSubmission {
            method: "profile".to_owned(),
            traits: traits(email),
            ..SettingsSubmission::default()
        };
        self.change(&flow, proof, submission).await
    }

    async fn who(&self, id: IdentityId) -> Identity {
        let outline = crate::identity::CredentialDetail::Outline;
        self.service.identity(self.scope, id, outline, Consistency::Strong).await.unwrap()
    }

    /// The code in the newest message to an address.
    async fn code_for(&self, address: &str) -> Secret<String> {
        let filter =
            crate::courier::MessageFilter { status: None, recipient: Some(address.to_owned()) };
        let page = crate::PageRequest { size: 10, token: None };
        let found = self.service.list_messages(self.scope, &filter, &page).await.unwrap();
        let body = found.items.first().unwrap_or_else(|| panic!("no mail to {address}"));
        secret(&body.body.chars().filter(char::is_ascii_digit).take(6).collect::<String>())
    }

    async fn verify(
        &self,
        begun: &StartedVerification,
        submission: CodeSubmission,
    ) -> Result<CodeOutcome, CodeRejection> {
        // The newest message is the latest.
        self.clock.advance(Duration::from_secs(1));
        let what = (Purpose::Verification, begun.flow);
        self.service.submit_code(self.scope, what, submission, &client("192.0.2.1")).await
    }
}

fn by(code: Secret<String>) -> CodeSubmission {
    CodeSubmission { code: Some(code), ..CodeSubmission::default() }
}

fn to(email: &str) -> CodeSubmission {
    CodeSubmission { email: Some(email.to_owned()), ..CodeSubmission::default() }
}

fn told(result: Result<CodeOutcome, CodeRejection>) -> Vec<u32> {
    match result {
        Err(CodeRejection::Invalid(flow)) => ids(&flow),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn address_that_is_new_is_verified_and_a_name_is_not() {
    let world = world();
    let (proof, id) = world.join("ann@example.org").await;
    let saved = world.move_to(&proof, "ann@example.org").await.unwrap();
    assert_eq!((saved.state, saved.verification), (FlowState::Success, None));
    let saved = world.move_to(&proof, "new@example.org").await.unwrap();
    let begun = saved.verification.unwrap();
    assert_eq!(begun.address, "new@example.org");
    assert_eq!(world.who(id).await.traits["email"], "new@example.org");
    world.verify(&begun, by(world.code_for("new@example.org").await)).await.unwrap();
    assert!(world.who(id).await.verifiable_addresses[0].verified_at.is_some());
}

#[tokio::test]
async fn strangers_are_not_written_to_without_end() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let mut begun = 0;
    for n in 0..10 {
        let saved = world.move_to(&proof, &format!("n{n}@example.org")).await.unwrap();
        begun += usize::from(saved.verification.is_some());
    }
    assert!((1..8).contains(&begun), "{begun}");
}

#[tokio::test]
async fn change_that_is_refused_counts_no_message() {
    let message_limits = crate::courier::Limits { per_address: 2, ..Default::default() };
    let world = World::with(Settings { verification: true, message_limits, ..settings() });
    let begun = world.register("bob@example.org").await.verification.unwrap();
    let (proof, _) = world.join("ann@example.org").await;
    for _ in 0..2 {
        assert_eq!(unchanged(world.move_to(&proof, "bob@example.org").await), [4_000_007]);
    }
    world.verify(&begun, to("bob@example.org")).await.unwrap();
    let early = world.verify(&begun, to("bob@example.org")).await;
    assert!(matches!(early, Err(CodeRejection::Throttled(_))), "{early:?}");
}

#[tokio::test]
async fn change_waits_until_its_address_is_verified() {
    let world = patient();
    let (proof, id) = world.join("ann@example.org").await;
    let asked = world.move_to(&proof, "new@example.org").await.unwrap();
    let begun = asked.verification.clone().unwrap();
    assert_eq!((asked.state, ids(&asked)), (FlowState::ShowForm, vec![1_080_003]));
    let before = world.who(id).await;
    assert_eq!(before.traits["email"], "ann@example.org");
    assert!(world.log_in("new@example.org", PASSWORD).await.is_err());
    let code = world.code_for("new@example.org").await;
    let wrong = if code.expose() == "000000" { "000001" } else { "000000" };
    assert_eq!(told(world.verify(&begun, by(secret(wrong))).await), [4_070_006]);
    // Another code, for the same.
    world.verify(&begun, to("new@example.org")).await.unwrap();
    let again = world.code_for("new@example.org").await;
    world.verify(&begun, by(again)).await.unwrap();
    let after = world.who(id).await;
    assert_eq!(after.traits["email"], "new@example.org");
    assert_eq!(after.verifiable_addresses.len(), 1);
    assert!(after.verifiable_addresses[0].verified_at.is_some());
    assert!(world.log_in("new@example.org", PASSWORD).await.is_ok());
    assert!(world.log_in("ann@example.org", PASSWORD).await.is_err());
    // What brings no other address waits for nothing.
    let saved = world.move_to(&proof, "new@example.org").await.unwrap();
    assert_eq!((saved.state, saved.verification), (FlowState::Success, None));
}

/// The node that is asked may not have heard of the schema yet.
#[tokio::test]
async fn change_waits_by_a_schema_that_another_node_just_put_in_force() {
    let world = patient();
    let (store, schemas) = (world.counted.clone(), crate::schema::Schemas::preset().unwrap());
    let other = crate::Service::start(store, crate::testing::keys(1), schemas, settings()).unwrap();
    let mail = json!({"type": "string", "format": "email", "ory.sh/kratos": {
        "credentials": {"password": {"identifier": true}}, "verification": {"via": "email"}}});
    let traits = json!({"type": "object", "properties": {"mail": mail}});
    let document = json!({"type": "object", "properties": {"traits": traits}});
    let schema = crate::schema::NewSchema { id: "mailed".to_owned(), document, is_default: false };
    other.put_schema(schema).await.unwrap();
    let new = crate::identity::NewIdentity {
        schema_id: "mailed".to_owned(),
        traits: json!({"mail": "ann@example.org"}),
        password: Some(crate::identity::NewPassword::Clear(secret(PASSWORD))),
        ..Default::default()
    };
    let id = other.create_identity(world.scope, new).await.unwrap().id;
    let proof = Proof::Token(world.log_in("ann@example.org", PASSWORD).await.unwrap().issued.token);
    let flow = world.settings(&proof).await.unwrap();
    let submission = SettingsSubmission {
        method: "profile".to_owned(),
        traits: json!({"mail": "new@example.org"}),
        ..SettingsSubmission::default()
    };
    let asked = world.change(&flow, &proof, submission).await.unwrap();
    assert_eq!(asked.verification.unwrap().address, "new@example.org");
    assert_eq!(world.who(id).await.traits["mail"], "ann@example.org");
}

/// The code of one address proves no other, and what changed meanwhile is not undone.
#[tokio::test]
async fn what_waits_is_for_its_own_address_and_for_nothing_else() {
    let world = patient();
    let (proof, id) = world.join("ann@example.org").await;
    let begun = world.move_to(&proof, "new@example.org").await.unwrap().verification.unwrap();
    world.verify(&begun, to("ann@example.org")).await.unwrap();
    let own = world.code_for("ann@example.org").await;
    world.verify(&begun, by(own)).await.unwrap();
    assert_eq!(world.who(id).await.traits["email"], "ann@example.org", "the old one was proven");

    let begun = world.move_to(&proof, "new@example.org").await.unwrap().verification.unwrap();
    let code = world.code_for("new@example.org").await;
    let mut other = traits("ann@example.org");
    other["name"]["first"] = "Bea".into();
    let flow = world.settings(&proof).await.unwrap();
    let submission = SettingsSubmission {
        method: "profile".to_owned(),
        traits: other,
        ..SettingsSubmission::default()
    };
    world.change(&flow, &proof, submission).await.unwrap();
    assert_eq!(told(world.verify(&begun, by(code)).await), [4_070_006]);
    let now = world.who(id).await;
    assert_eq!(
        (&now.traits["email"], &now.traits["name"]["first"]),
        (&Value::from("ann@example.org"), &Value::from("Bea"),)
    );
}

/// Whoever had somebody's session, and is put out, does not get the account afterwards.
#[tokio::test]
async fn change_that_waits_ends_with_the_sessions_of_its_identity() {
    let world = patient();
    let (stolen, id) = world.join("ann@example.org").await;
    let begun = world.move_to(&stolen, "eve@example.org").await.unwrap().verification.unwrap();
    let code = world.code_for("eve@example.org").await;
    let owner = world.proof("ann@example.org").await;
    let flow = world.settings(&owner).await.unwrap();
    let submission = SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret("another horse battery")),
        ..SettingsSubmission::default()
    };
    world.change(&flow, &owner, submission).await.unwrap();
    assert!(!world.recognised(&stolen).await);
    assert_eq!(told(world.verify(&begun, by(code)).await), [4_070_006]);
    assert_eq!(world.who(id).await.traits["email"], "ann@example.org");
}

#[tokio::test]
async fn address_that_somebody_has_or_takes_meanwhile_is_not_held() {
    let world = patient();
    world.register("bob@example.org").await;
    let (proof, id) = world.join("ann@example.org").await;
    assert_eq!(unchanged(world.move_to(&proof, "bob@example.org").await), [4_000_007]);
    let begun = world.move_to(&proof, "new@example.org").await.unwrap().verification.unwrap();
    let code = world.code_for("new@example.org").await;
    world.register("new@example.org").await;
    assert_eq!(told(world.verify(&begun, by(code)).await), [4_000_007]);
    assert_eq!(world.who(id).await.traits["email"], "ann@example.org");
}

#[tokio::test]
async fn stale_session_moves_nothing() {
    let world = patient();
    let (proof, _) = world.join("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    world.clock.advance(HOUR / 2);
    let late = world.settings(&proof).await.unwrap();
    assert_ne!(flow.id, late.id);
    world.clock.advance(HOUR / 2 + Duration::from_secs(1));
    let submission = SettingsSubmission {
        method: "profile".to_owned(),
        traits: traits("new@example.org"),
        ..SettingsSubmission::default()
    };
    let refused = world.change(&late, &proof, submission).await;
    assert!(matches!(refused, Err(SettingsRejection::RefreshRequired)), "{refused:?}");
}

/// Whoever is logged in learns of no more accounts by moving than it may guess at.
#[tokio::test]
async fn addresses_that_are_taken_count_as_guesses() {
    let throttle = crate::flow::throttle::Throttle { source_failures_max: 2, ..Default::default() };
    for hooks in [Hooks::default(), patient_hooks()] {
        let world = World::with(Settings { throttle, hooks, ..settings() });
        world.register("ann@example.org").await;
        world.register("bob@example.org").await;
        let proof = world.proof("ann@example.org").await;
        for number in 0..3 {
            let moved = world.move_to(&proof, "bob@example.org").await;
            let Err(SettingsRejection::Invalid(flow)) = moved else { panic!("{moved:?}") };
            let told = if number < 2 { [4_000_007] } else { [4_000_001] };
            assert_eq!(ids(&flow), told, "{number}: {:?}", flow.ui.messages);
        }
        // What tells nothing of others is done all the same.
        let flow = world.settings(&proof).await.unwrap();
        let submission = SettingsSubmission {
            method: "password".to_owned(),
            password: Some(secret("another horse battery")),
            ..SettingsSubmission::default()
        };
        world.change(&flow, &proof, submission).await.unwrap();
    }
}
