//! Codes that somebody keeps for when nothing else is at hand.

use super::*;

#[tokio::test]
async fn backup_codes_are_good_once_and_seen_again() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let codes = world.add_codes(&proof).await;
    assert_eq!(codes.len(), 12);
    let proof = world.proof("ann@example.org").await;
    assert!(!world.session(&proof).await.satisfies(RequiredAal::HighestAvailable));
    assert_eq!(refused(world.backup_code(&proof, "aaaaaaaa").await), [4_000_016]);
    let typed = format!(" {}-{} ", &codes[4][..4].to_uppercase(), &codes[4][4..]);
    world.backup_code(&proof, &typed).await.unwrap();
    let other = world.proof("ann@example.org").await;
    assert_eq!(refused(world.backup_code(&other, &codes[4]).await), [4_000_012]);
    // Two at once: one of them is taken.
    let third = world.proof("ann@example.org").await;
    let (a, b) =
        futures::join!(world.backup_code(&other, &codes[5]), world.backup_code(&third, &codes[5]));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "{a:?} {b:?}");

    let flow = world.settings(&proof).await.unwrap();
    assert!(flow.ui.find("lookup_secret_codes").is_none());
    let reveal = SettingsSubmission { lookup_secret_reveal: true, ..Default::default() };
    let shown = world.change(&flow, &proof, reveal).await.unwrap();
    assert_eq!(shown.state, FlowState::ShowForm);
    let shown = shown_codes(&shown);
    assert_eq!((shown[4].as_str(), shown[5].as_str()), ("used", "used"));
    assert_eq!(shown[6..], codes[6..]);
}

#[tokio::test]
async fn backup_codes_are_kept_only_once_confirmed() {
    let world = world();
    let (proof, _) = world.join("ann@example.org").await;
    let flow = world.settings(&proof).await.unwrap();
    let confirm = || SettingsSubmission { lookup_secret_confirm: true, ..Default::default() };
    assert_eq!(unchanged(world.change(&flow, &proof, confirm()).await), [4_000_001]);
    for submission in [
        SettingsSubmission { lookup_secret_reveal: true, ..Default::default() },
        SettingsSubmission { lookup_secret_disable: true, ..Default::default() },
    ] {
        let ids = unchanged(world.change(&flow, &proof, submission).await);
        assert!(ids.contains(&4_000_014), "{ids:?}");
    }
    let regenerate = SettingsSubmission { lookup_secret_regenerate: true, ..Default::default() };
    world.change(&flow, &proof, regenerate).await.unwrap();
    assert!(!world.session(&proof).await.identity.unwrap().has_second_factor);
    // What was shown is in the flow when a page shows it again, and nowhere in the clear.
    let read = world.service.settings_flow(world.scope, flow.id, Some(&proof)).await.unwrap();
    let codes = shown_codes(&read);
    let key = FlowKey { tenant: world.scope.tenant, id: flow.id.0 };
    let view = world.service.store.view(Consistency::Strong);
    let record = view.peek::<Flows>(&key).await.unwrap().unwrap().record;
    let bytes = prost::Message::encode_to_vec(&record);
    let holds = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    let seed = world.seed_of(&flow).await.text();
    for secret in codes.iter().map(String::as_str).chain([seed.expose().as_str(), "image/png"]) {
        assert!(!holds(secret), "{secret}");
    }
    world.change(&flow, &proof, confirm()).await.unwrap();
    let session = world.session(&proof).await;
    assert!(session.identity.unwrap().has_second_factor);
    // Who loses the last one to an administrator is not asked for it.
    let kind = CredentialKind::LookupSecret;
    let removed = world.service.remove_credential(world.scope, session.identity_id, kind, None);
    removed.await.unwrap();
    assert!(!world.session(&proof).await.identity.unwrap().has_second_factor);
}
