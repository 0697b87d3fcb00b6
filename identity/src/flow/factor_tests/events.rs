//! What changes of settings, and logins that failed, leave behind.

use super::*;
use crate::audit::{Act, AuditFilter, Verification};

impl World {
    async fn events(&self, id: IdentityId) -> Vec<(String, Value)> {
        let filter = AuditFilter { identity: Some(id), act: None };
        let page = crate::PageRequest { size: 100, token: None };
        let strong = Consistency::Strong;
        let found = self.service.list_audit_events(self.scope, filter, &page, strong).await;
        let mut events: Vec<_> = found
            .unwrap()
            .items
            .into_iter()
            .filter(|event| event.kind != Act::SessionIssued.name())
            .map(|event| (event.kind, event.details))
            .collect();
        events.reverse();
        events
    }
}

fn password(to: &str) -> SettingsSubmission {
    SettingsSubmission {
        method: "password".to_owned(),
        password: Some(secret(to)),
        ..SettingsSubmission::default()
    }
}

#[tokio::test]
async fn each_change_of_settings_is_an_event_and_what_is_refused_or_shown_is_none() {
    let world = world();
    let (proof, id) = world.join("ann@example.org").await;
    let mut soft = Soft::new(Key::es256());
    world.add_totp(&proof).await;
    world.add_codes(&proof).await;
    world.add_key(&proof, CredentialKind::Passkey, &mut soft).await;
    let flow = world.settings(&proof).await.unwrap();
    let change = |submission| world.change(&flow, &proof, submission);
    change(password("a longer password")).await.unwrap();
    change(password("short")).await.unwrap_err();
    let totp = SettingsSubmission { totp_unlink: true, ..SettingsSubmission::default() };
    change(totp).await.unwrap();
    let profile = |email: &str| SettingsSubmission {
        method: "profile".to_owned(),
        traits: traits(email),
        ..SettingsSubmission::default()
    };
    change(profile("ann@example.org")).await.unwrap();
    change(profile("new@example.org")).await.unwrap();
    let expected = [
        ("identity.created", Value::Null),
        ("credential.changed", serde_json::json!({"type": "totp", "change": "added"})),
        ("credential.changed", serde_json::json!({"type": "lookup_secret", "change": "added"})),
        ("credential.changed", serde_json::json!({"type": "passkey", "change": "added"})),
        ("credential.changed", serde_json::json!({"type": "password"})),
        ("credential.removed", serde_json::json!({"type": "totp", "change": "removed"})),
        ("identity.changed", serde_json::json!({"method": "profile"})),
        ("identity.changed", serde_json::json!({"method": "profile", "address": true})),
    ];
    let expected: Vec<_> = expected.map(|(kind, details)| (kind.to_owned(), details)).into();
    assert_eq!(world.events(id).await, expected);
    assert_eq!(world.service.verify_audit(world.scope, id.0).await.unwrap().broken_at, None);
}

#[tokio::test]
async fn failed_logins_are_events_of_whom_there_is_and_tampering_with_them_shows() {
    use crate::table::audit::{AuditEventKey, AuditEvents};
    let world = world();
    let (proof, id) = world.join("ann@example.org").await;
    world.add_totp(&proof).await;
    assert!(world.log_in("ann@example.org", "wrong").await.is_err());
    assert!(world.log_in("nobody@example.org", "wrong").await.is_err());
    let first = world.proof("ann@example.org").await;
    assert!(world.totp(&first, "000000").await.is_err());
    let failed: Vec<_> = world
        .events(id)
        .await
        .into_iter()
        .filter(|(kind, _)| kind == Act::LoginFailed.name())
        .map(|(_, details)| details)
        .collect();
    let expected = [
        serde_json::json!({"method": "password", "aal": "aal1"}),
        serde_json::json!({"method": "totp", "aal": "aal2"}),
    ];
    assert_eq!(failed, expected);
    let filter = AuditFilter { identity: None, act: Some(Act::LoginFailed) };
    let page = crate::PageRequest { size: 100, token: None };
    let strong = Consistency::Strong;
    let all = world.service.list_audit_events(world.scope, filter, &page, strong).await.unwrap();
    assert_eq!(all.items.len(), 2, "of nobody there is none");
    let (events, sequence) = match world.service.verify_audit(world.scope, id.0).await.unwrap() {
        Verification { events, broken_at: None } => (events, events),
        broken => panic!("{broken:?}"),
    };
    assert!(events > 3);
    // Whoever tried covers where the last try came from.
    let key = AuditEventKey { tenant: world.scope.tenant, identity: id.0, sequence };
    let altered = world.service.store.transact(|t| async move {
        let mut record = t.get::<AuditEvents>(&key).await?.unwrap().record;
        assert_eq!(record.kind, Act::LoginFailed.name());
        record.ip_address = "203.0.113.7".to_owned();
        t.put::<AuditEvents>(&key, &record, None).await
    });
    altered.await.unwrap();
    let found = world.service.verify_audit(world.scope, id.0).await.unwrap();
    assert_eq!(found.broken_at, Some(sequence));
}

/// A second factor that is right is an event as one that is wrong is.
#[tokio::test]
async fn second_factor_that_is_shown_is_an_event_of_its_session() {
    let world = world();
    let (proof, id) = world.join("ann@example.org").await;
    let seed = world.add_totp(&proof).await;
    let proof = world.proof("ann@example.org").await;
    world.totp(&proof, &world.code(&seed)).await.unwrap();
    let session = world.session(&proof).await.id.to_string();
    let details = serde_json::json!({"session_id": session, "method": "totp", "aal": "aal2"});
    let last = world.events(id).await.pop().unwrap();
    assert_eq!(last, ("session.strengthened".to_owned(), details));
}
