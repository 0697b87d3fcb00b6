//! Forms, as they were left.

use super::*;

#[tokio::test]
async fn a_form_is_shown_as_it_was_left_where_the_replica_is_behind() {
    let world = World::new();
    *world.counted.behind.lock() = Some(Vec::new());
    let begin = BeginLogin { browser: Some(BROWSER), ..BeginLogin::default() };
    let flow = world.service.begin_login(world.scope, begin).await.unwrap();
    let label = flow.ui.find("identifier").unwrap().meta.label.clone();
    assert_eq!(label, Some(Text::label_generated("Email", "traits.email")));
    let refused = world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1").await;
    assert_eq!(ids(&refused_login(refused)), [4_000_006]);
    let shown = world.service.flow(world.scope, Purpose::Login, flow.id).await.unwrap();
    assert_eq!(ids(&shown), [4_000_006]);

    let token = world.register("ann@example.org").await.issued.unwrap().token;
    let proof = Proof::Token(token);
    let flow = world.settings(&proof).await.unwrap();
    let before = world.service.settings_flow(world.scope, flow.id, Some(&proof)).await.unwrap();
    assert_eq!(field_ids(&before, "password"), [0; 0]);
    let short = SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret("short")),
        ..SettingsSubmission::default()
    };
    world.change(&flow, &proof, short).await.unwrap_err();
    let shown = world.service.settings_flow(world.scope, flow.id, Some(&proof)).await.unwrap();
    assert_ne!(field_ids(&shown, "password"), [0; 0]);
}

/// What is sent to a flow that an administrator began must come from the browser to which it
/// was shown last, though another node showed it.
#[tokio::test]
async fn a_flow_that_was_shown_elsewhere_is_its_browsers_where_the_replica_is_behind() {
    let world = World::with(Settings { recovery: true, ..settings() });
    let (service, scope) = (&world.service, world.scope);
    let somebody = world.create("ann@example.org", None).await.unwrap();
    let given = service.create_recovery_code(scope, somebody.id, NewRecovery::default()).await;
    let id = given.unwrap().flow;
    *world.counted.behind.lock() = Some(Vec::new());
    let sent_to = async || service.flow_sent_to(scope, Purpose::Recovery, id).await.unwrap();
    assert_eq!(sent_to().await.browser, None);
    assert!(service.claim_flow(scope, id, BROWSER).await.unwrap());
    assert_eq!(sent_to().await.browser, Some(BROWSER));
    assert!(service.flow_sent_to(scope, Purpose::Login, id).await.is_err(), "it is no login");
}
