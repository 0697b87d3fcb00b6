//! Second factors and passkeys that another system had.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;

use super::*;
use crate::identity::{CreateRejection, NewIdentity, NewPassword};

const HANDLE: &[u8] = b"who somebody is there";

/// A key as Kratos keeps it, with flags as newer versions do, or without.
pub(super) fn kept_there(soft: &Soft, flags: Value) -> Value {
    json!({
        "id": STANDARD.encode(&soft.id),
        "public_key": STANDARD.encode(soft.key.cose()),
        "attestation_type": "none",
        "authenticator": {"aaguid": STANDARD.encode([7; 16]), "sign_count": 3, "clone_warning": false},
        "display_name": "blue",
        "added_at": "2023-02-03T04:05:06Z",
        "is_passwordless": false,
        "flags": flags,
    })
}

pub(super) async fn create(
    world: &World,
    email: &str,
    credentials: Value,
) -> Result<crate::model::Identity, CreateRejection> {
    let (others, left) = world.service.read_other_credentials(credentials.as_object().unwrap());
    assert_eq!(left, []);
    let new = NewIdentity {
        traits: traits(email),
        password: Some(NewPassword::Clear(secret(PASSWORD))),
        others,
        ..NewIdentity::default()
    };
    world.service.create_identity(world.scope, new).await
}

#[tokio::test]
async fn second_factors_of_elsewhere_are_asked_for_and_taken() {
    let world = world();
    let mut soft = Soft::new(Key::es256());
    soft.flags = PRESENT;
    soft.counter = 4;
    let created = create(
        &world,
        "ann@example.org",
        json!({
            "totp": {"config": {"totp_url": "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}},
            "lookup_secret": {"config": {"codes": [
                {"code": "ABCD-EF23"}, {"code": "used2345", "used_at": "2023-02-03T04:05:06Z"}]}},
            "webauthn": {"config": {"credentials": [kept_there(&soft, Value::Null)]}},
        }),
    )
    .await
    .unwrap();
    assert_eq!(created.credentials.len(), 4);
    let proof = world.proof("ann@example.org").await;
    assert!(world.session(&proof).await.identity.unwrap().has_second_factor);
    let seed = Seed::from_bytes(b"12345678901234567890").unwrap();
    world.totp(&proof, &world.code(&seed)).await.unwrap();
    assert_eq!(world.session(&proof).await.aal, Aal::Aal2);

    let by_code = |code: &str| LoginSubmission {
        method: "lookup_secret".to_owned(),
        lookup_secret: Some(secret(code)),
        ..LoginSubmission::default()
    };
    let proof = world.proof("ann@example.org").await;
    let flow = world.step_up(Some(&proof)).await.unwrap();
    assert_eq!(refused(world.submit(&flow, Some(&proof), by_code("used2345")).await), [4_000_012]);
    world.submit(&flow, Some(&proof), by_code("abcdef23")).await.unwrap();

    // Whether the key may be on several devices was not known; from its first use it is.
    let sign = async |soft: &Soft| {
        let proof = world.proof("ann@example.org").await;
        let flow = world.step_up(Some(&proof)).await.unwrap();
        let answer = soft.get(&options(&flow, "webauthn_login_trigger"));
        let submission =
            LoginSubmission { webauthn_login: Some(answer), ..LoginSubmission::default() };
        world.submit(&flow, Some(&proof), submission).await
    };
    soft.flags = PRESENT | 0b1000;
    sign(&soft).await.unwrap();
    (soft.flags, soft.counter) = (PRESENT, 5);
    assert_eq!(refused(sign(&soft).await), [4_000_043]);
    (soft.flags, soft.counter) = (PRESENT | 0b1000, 6);
    sign(&soft).await.unwrap();
}

#[tokio::test]
async fn passkey_of_elsewhere_logs_in_and_is_nobody_elses() {
    let world = world();
    let mut soft = Soft::new(Key::ed_dsa());
    soft.counter = 4;
    soft.handle = Some(HANDLE.to_vec());
    let flags = json!({"backup_eligible": false, "backup_state": false});
    let passkey = json!({"passkey": {"config": {
        "user_handle": HANDLE, "credentials": [kept_there(&soft, flags)]}}});
    let created = create(&world, "ann@example.org", passkey.clone()).await.unwrap();
    let done = world.passkey(&soft).await.unwrap();
    assert_eq!(done.issued.session.identity_id, created.id);
    let again = create(&world, "bob@example.org", passkey).await;
    assert!(matches!(again, Err(CreateRejection::DuplicateIdentifier)), "{again:?}");
}

#[tokio::test]
async fn credentials_of_elsewhere_that_are_not_understood_are_told() {
    let world = world();
    let soft = Soft::new(Key::es256());
    let mut no_key = kept_there(&soft, Value::Null);
    no_key["public_key"] = json!("AAAA");
    let mut many = kept_there(&soft, Value::Null);
    many["authenticator"]["sign_count"] = json!(1_u64 << 40);
    let code = json!({"code": "abcdef23"});
    for (kind, config) in [
        ("totp", json!({"x": 1})),
        ("totp", json!({"totp_url": "otpauth://totp/x?secret=ABC"})),
        ("lookup_secret", json!({"codes": 7})),
        ("lookup_secret", json!({"codes": [7]})),
        ("lookup_secret", json!({"codes": [{"code": "short"}]})),
        ("lookup_secret", json!({"codes": [{"code": "abcdef23", "used_at": "noon"}]})),
        ("lookup_secret", json!({"codes": vec![code; 65]})),
        ("webauthn", json!({"credentials": [no_key]})),
        ("webauthn", json!({"credentials": [many]})),
        ("passkey", json!({"credentials": [kept_there(&soft, Value::Null)]})),
        ("passkey", json!({"credentials": [], "user_handle": vec![1; 65]})),
        ("oidc", json!({"providers": [{"provider": "nobody", "subject": "s"}]})),
        ("oidc", json!({"providers": [{"provider": "nobody"}]})),
        ("oidc", json!([])),
    ] {
        let given = json!({kind: {"config": config}});
        let (others, left) = world.service.read_other_credentials(given.as_object().unwrap());
        assert!(others.is_empty(), "{given}");
        assert_eq!(
            left.iter().map(|left| left.kind.as_str()).collect::<Vec<_>>(),
            [kind],
            "{given}"
        );
    }
    // What says nothing is nothing.
    for config in [Value::Null, json!({})] {
        let given = json!({"totp": {"config": config}, "oidc": {}, "saml": {"config": {"x": 1}}});
        let (others, left) = world.service.read_other_credentials(given.as_object().unwrap());
        assert!(others.is_empty() && left.is_empty());
    }
}

/// Whoever gave up a factor here is not asked for it again since it is still known there.
#[tokio::test]
async fn factor_that_was_removed_here_is_not_brought_again() {
    use crate::identity::{Brought, ForeignIdentity, ForeignPassword};
    let world = world();
    let url = "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let given = json!({"totp": {"config": {"totp_url": url}}});
    let (others, _) = world.service.read_other_credentials(given.as_object().unwrap());
    let then = cardea_storage::Timestamp(1_600_000_000_000);
    // The MD5 of "password".
    let hash = Some(secret("$md5$X03MO1qnZdYdgyfeuILPmQ=="));
    let there = |digest: u8| ForeignIdentity {
        id: IdentityId(uuid::Uuid::from_u128(0x1234_5678_0000_1000_8000_0000_0000_0001)),
        schema_id: "default".to_owned(),
        traits: traits("ann@example.org"),
        state: Default::default(),
        state_changed_at: then,
        metadata_public: None,
        metadata_admin: None,
        organization: None,
        external_id: None,
        verifiable: Vec::new(),
        recovery: Vec::new(),
        password: Some(ForeignPassword { hash: hash.clone(), created_at: then, updated_at: then }),
        others: others.clone(),
        sessions: Vec::new(),
        created_at: then,
        updated_at: then,
        digest: [digest; 32],
    };
    let bring = async |digest| {
        let brought = world.service.bring_identity(world.scope, &there(digest), false).await;
        brought.unwrap().outcome
    };
    assert_eq!(bring(1).await, Brought::Created);
    let proof = || async {
        let done = world.log_in("ann@example.org", "password").await.unwrap();
        Proof::Token(done.issued.token)
    };
    let mine = proof().await;
    let seed = Seed::from_bytes(b"12345678901234567890").unwrap();
    world.totp(&mine, &world.code(&seed)).await.unwrap();
    let flow = world.settings(&mine).await.unwrap();
    let remove = SettingsSubmission { totp_unlink: true, ..SettingsSubmission::default() };
    world.change(&flow, &mine, remove).await.unwrap();
    assert_eq!(bring(2).await, Brought::ChangedHere);
    assert!(!world.session(&proof().await).await.identity.unwrap().has_second_factor);
}
