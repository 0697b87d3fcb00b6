//! Hooks of settings: asked about what is saved, or it is not.

use super::*;
use crate::{
    flow::{
        BeginSettings, CodeOutcome, CodeRejection, CodeSubmission, SettingsRejection,
        SettingsSubmission,
    },
    model::FlowId,
    schema::{NewSchema, preset},
    session::Proof,
};

async fn save_profile(
    world: &World,
    proof: &Proof,
    first: &str,
) -> Result<crate::flow::Flow, SettingsRejection> {
    let begin = BeginSettings { proof: Some(proof.clone()), ..BeginSettings::default() };
    let flow = world.service.begin_settings(world.scope, begin).await.unwrap();
    let submission = SettingsSubmission {
        method: "profile".to_owned(),
        proof: Some(proof.clone()),
        traits: json!({"email": "ann@example.com", "name": {"first": first}}),
        ..SettingsSubmission::default()
    };
    world.service.submit_settings(world.scope, flow.id, submission).await
}

#[tokio::test]
async fn settings_are_changed_as_a_hook_wants_or_not_at_all() {
    let (world, receiver) = world(Purpose::Settings, Moment::After, web_hook(Response::Parsed));
    world.register("ann@example.com").await;
    let proof = world.proof("ann@example.com").await;
    receiver.will(
        200,
        json!({"identity": {"traits": {"email": "ann@example.com", "name": {"first": "X"}},
            "metadata_public": {"seen": true}, "external_id": "e"}}),
    );
    let saved = save_profile(&world, &proof, "Bea").await.unwrap().identity.unwrap();
    assert_eq!(receiver.body(0)["identity"]["traits"]["name"]["first"], "Bea");
    assert_eq!(saved.traits["name"]["first"], "X");
    assert_eq!(saved.metadata_public, Some(json!({"seen": true})));
    receiver.will(500, json!("broken"));
    let refused = save_profile(&world, &proof, "Cea").await.unwrap_err();
    assert!(matches!(refused, SettingsRejection::Hook(_)));
    let begin = BeginSettings { proof: Some(proof), ..BeginSettings::default() };
    let shown = world.service.begin_settings(world.scope, begin).await.unwrap();
    assert_eq!(shown.identity.unwrap().traits["name"]["first"], "X");
}

#[tokio::test]
async fn saving_settings_may_end_all_other_sessions() {
    let revokes = hook(Purpose::Settings, Moment::After, Action::RevokeActiveSessions);
    let (world, _) = with(vec![revokes], settings());
    world.register("ann@example.com").await;
    let other = world.proof("ann@example.com").await;
    let mine = world.proof("ann@example.com").await;
    save_profile(&world, &mine, "Bea").await.unwrap();
    assert!(!world.recognised(&other).await && world.recognised(&mine).await);
}

/// Traits that a schema takes which comes into force while they are judged.
fn colored(email: &str) -> Value {
    json!({"email": email, "color": "red"})
}

fn with_color() -> crate::schema::NewSchema {
    let mut document = crate::schema::preset::email();
    document["properties"]["traits"]["properties"]["color"] = json!({"type": "string"});
    crate::schema::NewSchema { id: "default".to_owned(), document, is_default: true }
}

/// A schema that is put in force between question and commit takes what nobody was asked
/// about, since it could not be: then somebody is asked about it after all.
#[tokio::test]
async fn nothing_is_saved_that_no_hook_was_asked_about() {
    let (mut stopped, mut waited) = (0, 0);
    let stops = hook(
        Purpose::Settings,
        Moment::After,
        Action::WebHook(Arc::new(web_hook(Response::Awaited))),
    );
    let waits = hook(Purpose::Settings, Moment::After, Action::VerifyNewAddress);
    for (stops_it, hooks) in [(true, vec![stops]), (false, vec![waits])] {
        for reads in 0.. {
            let verifies = Settings { verification: true, ..settings() };
            let (world, receiver) = with(hooks.clone(), verifies);
            let id = world.register("ann@example.com").await.identity.id;
            let proof = world.proof("ann@example.com").await;
            let flow = world.settings(&proof).await.unwrap();
            let service = world.service.clone();
            let change = async move { service.put_schema(with_color()).await.unwrap() };
            (0..9).for_each(|_| receiver.will(403, json!({})));
            *world.counted.meanwhile.lock() = Some((reads, Box::pin(change)));
            let submission = SettingsSubmission {
                method: "profile".to_owned(),
                traits: colored("bea@example.com"),
                ..SettingsSubmission::default()
            };
            match world.change(&flow, &proof, submission).await {
                Err(SettingsRejection::Hook(_)) => stopped += 1,
                Err(SettingsRejection::Invalid(_)) => {}
                Ok(flow) if !stops_it && flow.verification.is_some() => waited += 1,
                other => panic!("before read {reads}: {other:?}"),
            }
            let outline = crate::identity::CredentialDetail::Outline;
            let strong = cardea_storage::Consistency::Strong;
            let is = world.service.identity(world.scope, id, outline, strong).await.unwrap();
            assert_eq!(is.traits, traits("ann@example.com"), "before read {reads}");
            if world.counted.meanwhile.lock().take().is_some() {
                break;
            }
        }
    }
    assert!(stopped > 0 && waited > 0, "{stopped} {waited}");
}

/// What hooks decide by is the identity that is changed, not the one that it was.
#[tokio::test]
async fn hooks_are_asked_about_who_somebody_has_become_meanwhile() {
    let mut asked_again = 0;
    for reads in 0.. {
        let (world, receiver) =
            world(Purpose::Settings, Moment::After, web_hook(Response::Awaited));
        let id = world.register("ann@example.com").await.identity.id;
        let proof = world.proof("ann@example.com").await;
        let flow = world.settings(&proof).await.unwrap();
        let (service, scope) = (world.service.clone(), world.scope);
        let change = async move {
            let change = crate::identity::IdentityChange {
                traits: traits("ann@example.com"),
                metadata_public: Some(json!({"frozen": true})),
                ..Default::default()
            };
            service.update_identity(scope, id, change).await.unwrap();
        };
        *world.counted.meanwhile.lock() = Some((reads, Box::pin(change)));
        let submission = SettingsSubmission {
            method: "profile".to_owned(),
            traits: json!({"email": "ann@example.com", "name": {"first": "Bea"}}),
            ..SettingsSubmission::default()
        };
        let saved = world.change(&flow, &proof, submission).await.unwrap();
        if world.counted.meanwhile.lock().take().is_some() {
            break;
        }
        let last = receiver.body(receiver.asked() - 1)["identity"]["metadata_public"].clone();
        let is = saved.identity.unwrap().metadata_public;
        // What is changed once all is written is nothing that anybody was asked about.
        if is == Some(json!({"frozen": true})) {
            assert_eq!(last, json!({"frozen": true}), "before read {reads}");
        }
        asked_again += usize::from(receiver.asked() > 1);
    }
    assert!(asked_again > 0);
}

/// Somebody whose new address waits for its code: the flow, and the code.
async fn waits(world: &World, mine: &Proof) -> (FlowId, Option<Secret<String>>) {
    let flow = world.settings(mine).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let submission = SettingsSubmission {
        method: "profile".to_owned(),
        traits: traits("new@example.com"),
        ..SettingsSubmission::default()
    };
    let begun = world.change(&flow, mine, submission).await.unwrap().verification.unwrap();
    let mails = world.service.list_messages(world.scope, &Default::default(), &PAGE).await.unwrap();
    let digits = mails.items[0].body.chars().filter(char::is_ascii_digit);
    (begun.flow, Some(secret(&digits.take(6).collect::<String>())))
}

/// What waits for its address is saved once that is verified; what runs then, runs.
#[tokio::test]
async fn what_waited_for_its_address_runs_what_is_after_a_profile() {
    let told = Action::WebHook(Arc::new(web_hook(Response::Ignored)));
    let actions = [Action::VerifyNewAddress, Action::RevokeActiveSessions, told];
    let after = |action| hook(Purpose::Settings, Moment::After, action);
    let verifies = Settings { verification: true, ..settings() };
    let (world, receiver) = with(actions.map(after).into(), verifies);
    world.register("ann@example.com").await;
    let (mine, other) =
        (world.proof("ann@example.com").await, world.proof("ann@example.com").await);
    let (flow, code) = waits(&world, &mine).await;
    world.service.make_calls().await.unwrap();
    assert!(receiver.asked() == 0 && world.recognised(&other).await, "nothing has changed");
    let submission = CodeSubmission { code, ..CodeSubmission::default() };
    let what = (Purpose::Verification, flow);
    let done = world.service.submit_code(world.scope, what, submission, &client("192.0.2.1")).await;
    assert!(matches!(done, Ok(CodeOutcome::Verified(_))), "{done:?}");
    world.service.make_calls().await.unwrap();
    assert_eq!(receiver.body(0)["event"]["flow"], "settings");
    assert_eq!(receiver.body(0)["identity"]["traits"]["email"], "new@example.com");
    assert!(!world.recognised(&other).await);
}

#[tokio::test]
async fn what_waits_is_told_what_its_schema_asks_for_by_then() {
    let verifies = Settings { verification: true, ..settings() };
    let hooks = [hook(Purpose::Settings, Moment::After, Action::VerifyNewAddress)];
    let (world, _) = with(hooks.into(), verifies);
    let put = async |document| {
        let schema = NewSchema { id: "people".to_owned(), document, is_default: true };
        world.service.put_schema(schema).await.unwrap();
    };
    put(preset::email()).await;
    world.register("ann@example.com").await;
    let (flow, code) = waits(&world, &world.proof("ann@example.com").await).await;
    let mut stricter = preset::email();
    let traits = &mut stricter["properties"]["traits"];
    traits["properties"]["nick"] = json!({"type": "string"});
    traits["required"] = json!(["email", "nick"]);
    put(stricter).await;
    let submission = CodeSubmission { code, ..CodeSubmission::default() };
    let what = (Purpose::Verification, flow);
    let done = world.service.submit_code(world.scope, what, submission, &client("192.0.2.1")).await;
    let Err(CodeRejection::Invalid(flow)) = done else { panic!("{done:?}") };
    let said: Vec<_> = flow.ui.messages.iter().map(|text| (text.id, &text.text)).collect();
    assert_eq!(said, [(4_000_002, &"Property nick is missing.".to_owned())]);
}
