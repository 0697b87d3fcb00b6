//! Flows: every refusal, and every rule that keeps guessers out.

mod shown;

use std::{sync::atomic::Ordering, time::Duration};

use cardea_storage::{Consistency, StoreError};
use serde_json::{Value, json};

use super::*;
use crate::{
    Settings,
    identity::{IdentityChange, NewPassword},
    model::IdentityState,
    session::{Aal, CredentialKind, Proof},
    testing::{BROWSER, PASSWORD, START, World, client, secret, settings, traits},
    ui::{Attributes, Text},
};

fn ids(flow: &Flow) -> Vec<u32> {
    flow.ui.messages.iter().map(|text| text.id).collect()
}

fn field_ids(flow: &Flow, name: &str) -> Vec<u32> {
    flow.ui.find(name).unwrap().messages.iter().map(|text| text.id).collect()
}

fn refused_login(result: Result<LoggedIn, LoginRejection>) -> Flow {
    match result {
        Err(LoginRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

fn refused_registration(result: Result<Registered, RegistrationRejection>) -> Flow {
    match result {
        Err(RegistrationRejection::Invalid(flow)) => *flow,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_signs_up_can_log_in_and_is_recognised() {
    let world = World::new();
    let registered = world.register("Ann@Example.org").await;
    let issued = registered.issued.unwrap();
    assert!(world.recognised(&Proof::Token(issued.token)).await);

    let done = world.log_in(" ann@EXAMPLE.org ", PASSWORD).await.unwrap();
    let proof = Proof::Token(done.issued.token.clone());
    let session =
        world.service.check_session(world.scope, &proof, Consistency::Strong).await.unwrap();
    assert_eq!(session, done.issued.session);
    assert!(session.active);
    assert_eq!(session.aal, Aal::Aal1);
    assert_eq!(session.methods[0].method, CredentialKind::Password);
    assert_eq!(session.devices[0].ip_address, "192.0.2.1");
    let identity = session.identity.unwrap();
    assert_eq!(identity.id, registered.identity.id);
    assert_eq!(identity.traits, traits("Ann@Example.org"));
    assert_eq!(identity.verifiable_addresses[0].value, "ann@example.org");
    assert_eq!(identity.verifiable_addresses[0].status(), "pending");
    assert_eq!(identity.credentials, []);
    assert_ne!(session.id, issued.session.id, "a login makes a session of its own");

    let cookie = world.service.keys().cookies.seal(
        world.service.store.entropy().as_ref(),
        world.scope.tenant,
        &done.issued.token,
        done.issued.session.expires_at,
    );
    assert!(world.recognised(&Proof::Cookie(cookie)).await);
}

#[tokio::test]
async fn signing_up_need_not_log_in() {
    let world = World::with(Settings { session_after_registration: false, ..settings() });
    assert!(world.register("ann@example.org").await.issued.is_none());
}

#[tokio::test]
async fn new_flow_lives_in_a_slot_of_the_region_and_is_read_back() {
    let world = World::new();
    let flow = world.begin_login().await;
    assert_eq!(flow.issued_at, START);
    assert_eq!(flow.expires_at, START.after(Duration::from_secs(3600)));
    assert_eq!(
        flow.ui.action,
        format!("http://127.0.0.1:4433/self-service/login?flow={}", flow.id)
    );
    let read = world.service.flow(world.scope, Purpose::Login, flow.id).await.unwrap();
    assert_eq!(read, flow);
    let other = world.service.flow(world.scope, Purpose::Registration, flow.id).await;
    assert!(matches!(other, Err(FlowRejection::NotFound)), "a flow is for one purpose");
    let foreign = crate::Scope { tenant: cardea_storage::Tenant(9) };
    let foreign = world.service.flow(foreign, Purpose::Login, flow.id).await;
    assert!(matches!(foreign, Err(FlowRejection::NotFound)), "a flow is of one tenant");
}

#[tokio::test]
async fn incomplete_forms_are_told_what_is_missing() {
    let world = World::new();
    let flow = world.begin_login().await;
    let submit = |method: &str, identifier: Option<&str>, password: Option<&str>| {
        let submission = LoginSubmission {
            method: method.to_owned(),
            identifier: identifier.map(str::to_owned),
            password: password.map(secret),
            ..LoginSubmission::default()
        };
        let service = world.service.clone();
        let scope = world.scope;
        async move {
            refused_login(service.submit_login(scope, flow.id, submission, &client("::1")).await)
        }
    };
    assert_eq!(ids(&submit("", Some("a"), Some("b")).await), [4_010_002]);
    assert_eq!(ids(&submit("oidc", Some("a"), Some("b")).await), [4_010_002]);
    let form = submit("password", None, None).await;
    assert_eq!(field_ids(&form, "identifier"), [4_000_002]);
    assert_eq!(field_ids(&form, "password"), [4_000_002]);
    let form = submit("password", Some("ann"), Some("")).await;
    assert_eq!(field_ids(&form, "identifier"), [0; 0]);
    assert_eq!(field_ids(&form, "password"), [4_000_002]);

    let flow = world.begin_registration().await;
    let submit = |method: &str, traits: Value, password: &str| {
        let submission = RegistrationSubmission {
            method: method.to_owned(),
            traits,
            password: Some(secret(password)),
            ..RegistrationSubmission::default()
        };
        let service = world.service.clone();
        let scope = world.scope;
        async move {
            refused_registration(
                service.submit_registration(scope, flow.id, submission, &client("::1")).await,
            )
        }
    };
    assert_eq!(ids(&submit("profile", traits("a@b.c"), PASSWORD).await), [4_010_003]);
    let form = submit("password", Value::Null, "short").await;
    assert_eq!(field_ids(&form, "traits.email"), [4_000_002]);
    assert_eq!(field_ids(&form, "password"), [4_000_032]);
    let form = submit("password", traits("ann@example.org"), "ann@example.org").await;
    assert_eq!(field_ids(&form, "password"), [4_000_031]);
    let form = submit("password", json!({"email": "ann@example.org", "x": 1}), PASSWORD).await;
    assert_eq!(field_ids(&form, "traits"), [4_000_001]);
    let form = serde_json::to_string(&form.ui).unwrap();
    assert!(!form.contains(PASSWORD), "a form never gives a password back");
}

/// N13: message and status do not tell who has an account; nor does the work.
#[tokio::test]
async fn unknown_identifier_costs_the_same_reads_writes_and_hashes() {
    let world = World::new();
    world.register("ann@example.org").await;
    world.create("bob@example.org", None).await.unwrap();
    let mut seen = Vec::new();
    let long = format!("{}@example.org", "x".repeat(3000));
    for email in ["ann@example.org", "nobody@example.org", "bob@example.org", long.as_str()] {
        for ip in ["192.0.2.1", "198.51.100.7"] {
            let flow = world.begin_login().await;
            let hashes = world.service.password_usage().done_total;
            world.counted.take();
            let refused = refused_login(world.submit_login(flow.id, email, "wrong", ip).await);
            let counted = world.counted.take();
            let hashes = world.service.password_usage().done_total - hashes;
            assert_eq!(refused.ui.messages, [Text::invalid_credentials()]);
            seen.push((counted, hashes));
        }
    }
    assert!(seen.iter().all(|cost| *cost == seen[0]), "{seen:?}");
    assert_eq!(seen[0].1, 1);
}

/// N12: what is charged is the account, however its name is written, and the charge
/// is there before the password is looked at.
#[tokio::test]
async fn guesses_are_slowed_down_and_waiting_is_all_it_takes() {
    let world = World::new();
    world.register("ann@example.org").await;
    let guess = |email: &'static str, password: &'static str, ip: &'static str| {
        let world = &world;
        async move {
            let flow = world.begin_login().await;
            world.submit_login(flow.id, email, password, ip).await
        }
    };
    for email in ["ann@example.org", "ANN@example.org", " ann@example.org", "Ann@Example.Org"] {
        refused_login(guess(email, "wrong", "198.51.100.7").await);
    }
    refused_login(guess("ann@example.org", "wrong", "198.51.100.8").await);
    // From whatever unknown source, and the right password too.
    for (password, ip) in [("wrong", "198.51.100.7"), (PASSWORD, "203.0.113.9")] {
        let refused = guess("ann@example.org", password, ip).await;
        let Err(LoginRejection::Throttled(early)) = refused else { panic!("{refused:?}") };
        assert_eq!(early.retry_after, Duration::from_secs(1));
    }
    // The owner logs in from where she did before: others cannot lock her out.
    guess("ann@example.org", PASSWORD, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn waits_double_and_a_success_clears_them() {
    let world = World::new();
    world.register("ann@example.org").await;
    for wait in [0, 0, 0, 0, 0, 1, 2, 4, 8] {
        world.clock.advance(Duration::from_millis(wait * 1000));
        let flow = world.begin_login().await;
        refused_login(
            world.submit_login(flow.id, "ann@example.org", "wrong", "198.51.100.7").await,
        );
    }
    let flow = world.begin_login().await;
    let early = world.submit_login(flow.id, "ann@example.org", PASSWORD, "198.51.100.7").await;
    let Err(LoginRejection::Throttled(early)) = early else { panic!("{early:?}") };
    assert_eq!(early.retry_after, Duration::from_secs(16));
    world.clock.advance(early.retry_after);
    world.submit_login(flow.id, "ann@example.org", PASSWORD, "198.51.100.7").await.unwrap();
    // Cleared, and the source is known now.
    for _ in 0..5 {
        let flow = world.begin_login().await;
        refused_login(
            world.submit_login(flow.id, "ann@example.org", "wrong", "198.51.100.7").await,
        );
    }
}

#[tokio::test]
async fn attempts_at_an_identifier_nobody_has_are_slowed_down_alike() {
    let world = World::new();
    for _ in 0..5 {
        let flow = world.begin_login().await;
        refused_login(world.submit_login(flow.id, "nobody@example.org", "x", "192.0.2.9").await);
    }
    let flow = world.begin_login().await;
    let refused = world.submit_login(flow.id, "nobody@example.org", "x", "192.0.2.9").await;
    assert!(matches!(refused, Err(LoginRejection::Throttled(_))), "{refused:?}");
}

/// N12: parallel guesses, as over many nodes, are never more than the counter allows.
#[tokio::test]
async fn guesses_at_once_are_no_more_than_guesses_in_turn() {
    let world = World::new();
    world.register("ann@example.org").await;
    let before = world.service.password_usage().done_total;
    let guesses = (0..16).map(|_| async {
        let flow = world.begin_login().await;
        world.submit_login(flow.id, "ann@example.org", "wrong", "198.51.100.7").await
    });
    let results = futures::future::join_all(guesses).await;
    let throttled =
        results.iter().filter(|r| matches!(r, Err(LoginRejection::Throttled(_)))).count();
    assert_eq!(throttled, 11, "{results:?}");
    assert_eq!(world.service.password_usage().done_total - before, 5);
}

#[tokio::test]
async fn one_source_cannot_try_everybody() {
    let mut settings = settings();
    settings.throttle.source_failures_max = 3;
    let world = World::with(settings);
    world.register("ann@example.org").await;
    let flow = world.begin_login().await;
    for email in ["a@example.org", "b@example.org", "c@example.org"] {
        refused_login(world.submit_login(flow.id, email, "x", "198.51.100.7").await);
    }
    let refused = world.submit_login(flow.id, "ann@example.org", PASSWORD, "198.51.100.7").await;
    let Err(LoginRejection::Throttled(early)) = refused else { panic!("{refused:?}") };
    assert_eq!(early.retry_after, Duration::from_secs(600));
    world.submit_login(flow.id, "ann@example.org", PASSWORD, "198.51.100.8").await.unwrap();
    world.clock.advance(Duration::from_secs(601));
    let flow = world.begin_login().await;
    world.submit_login(flow.id, "ann@example.org", PASSWORD, "198.51.100.7").await.unwrap();
}

/// The attempt is in the store before the secret is checked: where the charge is not
/// known to be committed, nothing is hashed.
#[tokio::test]
async fn attempt_that_could_not_be_charged_is_not_checked() {
    let world = World::new();
    world.register("ann@example.org").await;
    let flow = world.begin_login().await;
    let before = world.service.password_usage().done_total;
    world.counted.fails.store(true, Ordering::SeqCst);
    let refused = world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await;
    assert!(matches!(refused, Err(LoginRejection::Store(StoreError::Unknown))), "{refused:?}");
    assert_eq!(world.service.password_usage().done_total, before);
}

/// N4: of many completions of one flow exactly one gives a session.
#[tokio::test]
async fn flow_is_completed_once() {
    let world = World::new();
    world.register("ann@example.org").await;
    let flow = world.begin_login().await;
    let submit = || world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1");
    let results = futures::future::join_all([submit(), submit(), submit(), submit()]).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1, "{results:?}");
    let again = refused_login(submit().await);
    assert_eq!(ids(&again), [4_010_007]);
    assert_eq!(again.state, FlowState::PassedChallenge);

    let flow = world.begin_registration().await;
    let submit = |email| world.submit_registration(flow.id, email);
    let results =
        futures::future::join_all([submit("b@example.org"), submit("c@example.org")]).await;
    let won = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
    assert_eq!(ids(&refused_registration(submit("d@example.org").await)), [4_040_002]);
}

/// A flow that lies in another shard than whom it logged in is told of it afterwards.
#[tokio::test]
async fn flows_that_lie_elsewhere_are_told_that_they_are_completed() {
    let world = World::new();
    world.register("ann@example.org").await;
    let mut flows = Vec::new();
    for _ in 0..24 {
        let flow = world.begin_login().await.id;
        world.submit_login(flow, "ann@example.org", PASSWORD, "192.0.2.1").await.unwrap();
        flows.push(flow);
    }
    let states = async || {
        let read = flows.iter().map(|id| world.service.flow(world.scope, Purpose::Login, *id));
        let read = futures::future::join_all(read).await;
        read.into_iter().map(|flow| flow.unwrap().state).collect::<Vec<_>>()
    };
    let open = states().await.iter().filter(|s| **s == FlowState::ChooseMethod).count();
    assert!(open > 0, "all lie where ann does");
    assert_eq!(world.service.tell_finished_flows().await.unwrap(), open);
    assert_eq!(states().await, vec![FlowState::PassedChallenge; flows.len()]);
    assert_eq!(world.service.tell_finished_flows().await.unwrap(), 0);
}

/// Exactly one of two who claim an identifier at once signs up.
#[tokio::test]
async fn of_two_registrations_of_an_identifier_one_wins() {
    let world = World::new();
    for round in 0..8 {
        let email = format!("ann{round}@example.org");
        let (a, b) = (world.begin_registration().await, world.begin_registration().await);
        let (a, b) = tokio::join!(
            world.submit_registration(a.id, &email),
            world.submit_registration(b.id, &email)
        );
        let (won, lost) = if a.is_ok() { (a, b) } else { (b, a) };
        won.unwrap();
        let lost = refused_registration(lost);
        assert_eq!(ids(&lost), [4_000_007]);
        let email_field = serde_json::to_value(lost.ui.find("traits.email").unwrap()).unwrap();
        assert_eq!(email_field["attributes"]["value"], email.as_str());
    }
}

#[tokio::test]
async fn expired_flow_is_replaced_until_it_is_forgotten() {
    let world = World::new();
    world.register("ann@example.org").await;
    let flow = world.begin_login().await;
    world.clock.advance(Duration::from_secs(3600));
    let refused = world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await;
    let Err(LoginRejection::Flow(FlowRejection::Expired { expired_at, since_ms, replacement })) =
        refused
    else {
        panic!("{refused:?}")
    };
    assert_eq!((expired_at, since_ms), (flow.expires_at, 0));
    let replacement = replacement.unwrap();
    assert_eq!(ids(&replacement), [4_010_001]);
    world.submit_login(replacement.id, "ann@example.org", PASSWORD, "192.0.2.1").await.unwrap();

    world.clock.advance(Duration::from_secs(3600));
    let gone = world.service.flow(world.scope, Purpose::Login, flow.id).await;
    assert!(matches!(gone, Err(FlowRejection::NotFound)), "{gone:?}");
}

/// N10: an inactive identity does not log in, and is told so only with the password.
#[tokio::test]
async fn inactive_identity_does_not_log_in() {
    let world = World::new();
    let identity = world.register("ann@example.org").await.identity;
    let change = IdentityChange {
        schema_id: String::new(),
        traits: identity.traits,
        state: Some(IdentityState::Inactive),
        ..IdentityChange::default()
    };
    world.service.update_identity(world.scope, identity.id, change).await.unwrap();
    let refused = world.log_in("ann@example.org", PASSWORD).await;
    assert!(matches!(refused, Err(LoginRejection::Disabled)), "{refused:?}");
    let refused = refused_login(world.log_in("ann@example.org", "wrong").await);
    assert_eq!(ids(&refused), [4_000_006]);
}

#[tokio::test]
async fn imported_hash_is_replaced_at_the_first_login() {
    let world = World::new();
    let bcrypt = "$2b$05$abcdefghijklmnopqrstuuWG29KuyeAicPCJODk1zjyGvyQUU2awu";
    let password = NewPassword::Hashed(secret(bcrypt));
    let identity = world.create("ann@example.org", Some(password)).await.unwrap();
    let hash = || async {
        let detail = crate::identity::CredentialDetail::WithPasswordHash;
        let read = world
            .service
            .identity(world.scope, identity.id, detail, Consistency::Strong)
            .await
            .unwrap();
        read.credentials[0].password_hash.clone()
    };
    assert_eq!(hash().await, None, "a weak hash is sealed, and not given out");
    refused_login(world.log_in("ann@example.org", "wrong").await);
    world.log_in("ann@example.org", "password").await.unwrap();
    let replaced = hash().await.unwrap();
    assert!(replaced.expose().starts_with("$argon2id$v=19$m=64,t=1,p=1$"));
    world.log_in("ann@example.org", "password").await.unwrap();
    assert_eq!(hash().await.unwrap(), replaced);
}

#[tokio::test]
async fn who_is_logged_in_begins_a_login_only_to_refresh() {
    let world = World::new();
    world.register("ann@example.org").await;
    world.register("bob@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let begin = |refresh, aal, proof: Option<Proof>| {
        let begin = BeginLogin { refresh, aal, proof, ..BeginLogin::default() };
        world.service.begin_login(world.scope, begin)
    };
    let refused = begin(false, None, Some(proof.clone())).await;
    assert!(matches!(refused, Err(BeginRejection::AlreadyLoggedIn)), "{refused:?}");
    let refused = begin(false, Some(Aal::Aal2), None).await;
    assert!(matches!(refused, Err(BeginRejection::SessionRequired)), "{refused:?}");
    let refused = begin(false, Some(Aal::Aal2), Some(proof.clone())).await;
    assert!(matches!(refused, Err(BeginRejection::NoSecondFactor)), "{refused:?}");
    let sign_up = BeginRegistration { proof: Some(proof.clone()), ..Default::default() };
    let refused = world.service.begin_registration(world.scope, sign_up).await;
    assert!(matches!(refused, Err(BeginRejection::AlreadyLoggedIn)), "{refused:?}");

    let flow = begin(true, None, Some(proof.clone())).await.unwrap();
    assert!(flow.refresh);
    assert_eq!(ids(&flow), [1_010_003]);
    // A browser's form says who it is; whoever learns a native flow's id is told nothing.
    let named = |flow: &Flow| match &flow.ui.find("identifier").unwrap().attributes {
        Attributes::Input(input) => input.value.clone(),
        _ => None,
    };
    assert_eq!(named(&flow), Some(json!("")));
    let (browser, proof) = (Some(BROWSER), Some(proof));
    let begin = BeginLogin { refresh: true, browser, proof, ..BeginLogin::default() };
    let begun = world.service.begin_login(world.scope, begin).await.unwrap();
    let shown = world.service.flow(world.scope, Purpose::Login, begun.id).await.unwrap();
    for flow in [begun, shown] {
        assert_eq!(named(&flow), Some(json!("ann@example.org")));
        assert_eq!(ids(&flow), [1_010_003]);
    }
    let other = world.submit_login(flow.id, "bob@example.org", PASSWORD, "192.0.2.1").await;
    assert!(matches!(other, Err(LoginRejection::IdentityMismatch)), "{other:?}");
    world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await.unwrap();
}

#[tokio::test]
async fn flood_of_logins_is_refused_before_anything_is_done() {
    let mut settings = settings();
    settings.pool.threads_max = 1;
    settings.pool.queue_max = 0;
    let world = World::with(settings);
    world.register("ann@example.org").await;
    let flow = world.begin_login().await;
    let held = world.service.passwords.admit().unwrap();
    world.counted.take();
    let refused = world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await;
    assert!(matches!(refused, Err(LoginRejection::Overloaded(_))), "{refused:?}");
    assert_eq!(world.counted.take(), [0; 4], "not even read, and not charged");
    drop(held);
    world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await.unwrap();
}
