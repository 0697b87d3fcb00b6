//! Identities: what administrators may do to them.

mod batch;
mod found;

use std::collections::BTreeSet;

use cardea_storage::{Consistency, Space, StoreError, Tenant};
use serde_json::{Value, json};

use super::*;
use crate::{
    IdentityId, PageRequest, Scope,
    model::{Identity, IdentityState, Page},
    schema::Channel,
    session::Proof,
    testing::{PASSWORD, START, World, secret, traits},
};

fn change(identity: &Identity) -> IdentityChange {
    IdentityChange {
        schema_id: identity.schema_id.clone(),
        traits: identity.traits.clone(),
        state: Some(identity.state),
        metadata_public: identity.metadata_public.clone(),
        metadata_admin: identity.metadata_admin.clone(),
        ..IdentityChange::default()
    }
}

async fn read(world: &World, id: IdentityId) -> Result<Identity, ReadRejection> {
    world.service.identity(world.scope, id, CredentialDetail::Outline, Consistency::Strong).await
}

async fn find(world: &World, identifier: &str) -> Vec<IdentityId> {
    let filter =
        ListFilter { credentials_identifier: Some(identifier.to_owned()), ..ListFilter::default() };
    let page = PageRequest::default();
    let found =
        world.service.list_identities(world.scope, filter, &page, Consistency::Strong).await;
    found.unwrap().items.into_iter().map(|identity| identity.id).collect()
}

#[tokio::test]
async fn identity_is_created_read_found_and_logs_in() {
    let world = World::new();
    let new = NewIdentity {
        schema_id: "preset://email".to_owned(),
        traits: traits("Ann@example.org"),
        state: IdentityState::Active,
        metadata_public: Some(json!({"plan": "free"})),
        metadata_admin: Some(json!({"note": 1})),
        password: Some(NewPassword::Clear(secret("short"))),
        addresses: vec![
            ImportedAddress {
                via: Channel::Email,
                value: "ANN@example.org".to_owned(),
                verified_at: Some(START),
            },
            ImportedAddress {
                via: Channel::Email,
                value: "other@example.org".to_owned(),
                verified_at: Some(START),
            },
        ],
        external_id: Some("crm-1".to_owned()),
        organization: Some(uuid::Uuid::from_u128(7)),
        ..NewIdentity::default()
    };
    let created = world.service.create_identity(world.scope, new).await.unwrap();
    assert_eq!(created.schema_id, "preset://email");
    assert_eq!(created.verifiable_addresses.len(), 1);
    assert_eq!(created.verifiable_addresses[0].status(), "completed");
    assert_eq!(created.credentials[0].identifiers, ["ann@example.org"]);
    assert_eq!(read(&world, created.id).await.unwrap(), created);
    assert_eq!(find(&world, " ANN@example.org").await, [created.id]);
    assert_eq!(find(&world, "other@example.org").await, []);

    let issued = world.log_in("ann@example.org", "short").await.unwrap().issued;
    let seen = issued.session.identity.unwrap();
    assert_eq!(seen.metadata_public, created.metadata_public);
    assert_eq!(seen.metadata_admin, None, "not for the identity's own eyes");

    let foreign = Scope { tenant: Tenant(5) };
    let foreign = world
        .service
        .identity(foreign, created.id, CredentialDetail::Outline, Consistency::Strong)
        .await;
    assert!(matches!(foreign, Err(ReadRejection::NotFound)), "N20: {foreign:?}");
}

#[tokio::test]
async fn every_refusal_of_a_creation_leaves_nothing_behind() {
    let world = World::new();
    world.create("ann@example.org", None).await.unwrap();
    let new = NewIdentity {
        schema_id: String::new(),
        traits: traits("new@example.org"),
        state: IdentityState::Active,
        metadata_public: None,
        metadata_admin: None,
        password: None,
        ..NewIdentity::default()
    };
    let create = |new: NewIdentity| world.service.create_identity(world.scope, new);
    let refused = create(NewIdentity { schema_id: "none".to_owned(), ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::UnknownSchema(id)) if id == "none"));
    let refused = create(NewIdentity { traits: json!({}), ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::InvalidTraits(v)) if v.len() == 1));
    let refused = create(NewIdentity { traits: traits("ANN@example.org"), ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::DuplicateIdentifier)));
    let large = Some(json!("x".repeat(create::METADATA_BYTES_MAX)));
    let refused = create(NewIdentity { metadata_admin: large, ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::MetadataTooLarge)));
    let hash = Some(NewPassword::Hashed(secret("$md5$x")));
    let refused = create(NewIdentity { password: hash, ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::Credentials(CredentialsRefused::Hash(_)))));
    let costly = Some(NewPassword::Hashed(secret(
        "$argon2id$v=19$m=1000000,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
    )));
    let refused = create(NewIdentity { password: costly, ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::Credentials(CredentialsRefused::Hash(_)))));
    let long = Some(NewPassword::Clear(secret(&"x".repeat(1025))));
    let refused = create(NewIdentity { password: long, ..new.clone() }).await;
    assert!(matches!(refused, Err(CreateRejection::Credentials(_))));
    assert_eq!(find(&world, "new@example.org").await, []);
    create(new).await.unwrap();
}

#[tokio::test]
async fn of_two_creations_of_an_identifier_one_wins() {
    let world = World::new();
    for round in 0..8 {
        let email = format!("ann{round}@example.org");
        let (a, b) = tokio::join!(world.create(&email, None), world.create(&email, None));
        assert_ne!(a.is_ok(), b.is_ok());
        let lost = a.err().or(b.err()).unwrap();
        assert!(matches!(lost, CreateRejection::DuplicateIdentifier), "{lost:?}");
        assert_eq!(find(&world, &email).await.len(), 1);
    }
}

/// N21: an address is not verified because a former one was.
#[tokio::test]
async fn changed_traits_move_identifiers_and_lose_verification() {
    let world = World::new();
    let ann = world.register("ann@example.org").await.identity;
    let bob = world.register("bob@example.org").await.identity;
    let taken = IdentityChange { traits: traits("BOB@example.org"), ..change(&ann) };
    let refused = world.service.update_identity(world.scope, ann.id, taken).await;
    assert!(matches!(refused, Err(ChangeRejection::DuplicateIdentifier)), "{refused:?}");
    assert_eq!(find(&world, "ann@example.org").await, [ann.id], "nothing half done");

    let moved = IdentityChange { traits: traits("anna@example.org"), ..change(&ann) };
    let updated = world.service.update_identity(world.scope, ann.id, moved).await.unwrap();
    assert_eq!(updated.verifiable_addresses[0].value, "anna@example.org");
    assert_eq!(updated.verifiable_addresses[0].verified_at, None);
    assert_ne!(updated.verifiable_addresses[0].id, ann.verifiable_addresses[0].id);
    assert_eq!(find(&world, "ann@example.org").await, []);
    assert_eq!(find(&world, "anna@example.org").await, [ann.id]);
    world.log_in("anna@example.org", PASSWORD).await.unwrap();
    world.log_in("ann@example.org", PASSWORD).await.unwrap_err();

    // What she gave up, he may take.
    let freed = IdentityChange { traits: traits("ann@example.org"), ..change(&bob) };
    world.service.update_identity(world.scope, bob.id, freed).await.unwrap();
    let password = Some(NewPassword::Clear(secret("another one")));
    let changed = IdentityChange { password, ..change(&updated) };
    world.service.update_identity(world.scope, ann.id, changed).await.unwrap();
    world.log_in("anna@example.org", PASSWORD).await.unwrap_err();
    world.log_in("anna@example.org", "another one").await.unwrap();
    let nobody = IdentityId(world.service.mint());
    let refused = world.service.update_identity(world.scope, nobody, change(&ann)).await;
    assert!(matches!(refused, Err(ChangeRejection::NotFound)));
}

/// Over regions every shard that takes part costs round trips.
#[tokio::test]
async fn a_change_of_nothing_that_is_indexed_stays_where_the_identity_lives() {
    let world = World::new();
    let mut ann = world.register("ann@example.org").await.identity;
    ann.traits["name"]["first"] = json!("Anna");
    let renamed = IdentityChange { metadata_admin: Some(json!({"note": 1})), ..change(&ann) };
    world.service.update_identity(world.scope, ann.id, renamed).await.unwrap();
    assert_eq!(*world.counted.spaces.lock(), BTreeSet::from([Space::Home]));
    let patch = json!([{"op": "add", "path": "/metadata_admin", "value": {"note": 2}}]);
    world.service.patch_identity(world.scope, ann.id, &patch).await.unwrap();
    assert_eq!(*world.counted.spaces.lock(), BTreeSet::from([Space::Home]));
    assert_eq!(find(&world, "ann@example.org").await, [ann.id]);

    let moved = IdentityChange { traits: traits("anna@example.org"), ..change(&ann) };
    world.service.update_identity(world.scope, ann.id, moved).await.unwrap();
    assert_eq!(*world.counted.spaces.lock(), BTreeSet::from([Space::Home, Space::Index]));
}

/// N10: who is made inactive has no session from that moment on, nor again by being
/// made active.
#[tokio::test]
async fn inactive_identity_loses_its_sessions_at_once() {
    let world = World::new();
    let ann = world.register("ann@example.org").await.identity;
    let proof = world.proof("ann@example.org").await;
    let off = json!([{"op": "replace", "path": "/state", "value": "inactive"}]);
    let patched = world.service.patch_identity(world.scope, ann.id, &off).await.unwrap();
    assert_eq!(patched.state, IdentityState::Inactive);
    assert!(!world.recognised(&proof).await);
    let on = IdentityChange { state: Some(IdentityState::Active), ..change(&ann) };
    world.service.update_identity(world.scope, ann.id, on).await.unwrap();
    assert!(!world.recognised(&proof).await);
    let again = world.proof("ann@example.org").await;
    assert!(world.recognised(&again).await);
}

#[tokio::test]
async fn patches_change_what_they_name() {
    let world = World::new();
    let ann = world.register("ann@example.org").await.identity;
    let patch = |patch: Value| {
        let service = world.service.clone();
        let scope = world.scope;
        async move { service.patch_identity(scope, ann.id, &patch).await }
    };
    let patched = patch(json!([
        {"op": "test", "path": "/id", "value": ann.id.to_string()},
        {"op": "replace", "path": "/traits/email", "value": "anna@example.org"},
        {"op": "add", "path": "/metadata_public", "value": {"plan": "pro"}},
        {"op": "copy", "from": "/metadata_public/plan", "path": "/traits/name/last"},
    ]))
    .await
    .unwrap();
    assert_eq!(
        patched.traits,
        json!({"email": "anna@example.org", "name": {"first": "Ann", "last": "pro"}})
    );
    assert_eq!(patched.metadata_public, Some(json!({"plan": "pro"})));
    assert_eq!(find(&world, "anna@example.org").await, [ann.id]);

    let refused = |result: Result<Identity, ChangeRejection>| result.unwrap_err();
    let test = json!([{"op": "test", "path": "/state", "value": "inactive"}]);
    assert!(matches!(refused(patch(test).await), ChangeRejection::Patch(_)));
    let missing = json!([{"op": "remove", "path": "/traits/none"}]);
    assert!(matches!(refused(patch(missing).await), ChangeRejection::Patch(_)));
    let state = json!([{"op": "replace", "path": "/state", "value": "asleep"}]);
    assert!(matches!(refused(patch(state).await), ChangeRejection::Patch(_)));
    let gone = json!([{"op": "remove", "path": "/traits"}]);
    assert!(matches!(refused(patch(gone).await), ChangeRejection::Patch(_)));
    let invalid = json!([{"op": "remove", "path": "/traits/email"}]);
    assert!(matches!(refused(patch(invalid).await), ChangeRejection::InvalidTraits(_)));
    // N28: a document copied into itself grows without end, unless it is stopped.
    let mut bomb = vec![json!({"op": "add", "path": "/metadata_public", "value": {"a": "x"}})];
    for _ in 0..90 {
        bomb.push(json!({"op": "copy", "from": "/metadata_public", "path": "/metadata_public/a"}));
    }
    assert!(matches!(
        refused(patch(Value::Array(bomb)).await),
        ChangeRejection::Patch(patch::PatchRefused::TooLarge)
    ));
}

#[tokio::test]
async fn deleted_identity_is_gone_with_its_sessions_and_identifiers() {
    let world = World::new();
    let ann = world.register("ann@example.org").await.identity;
    let mut proofs: Vec<Proof> = Vec::new();
    for _ in 0..120 {
        proofs.push(world.proof("ann@example.org").await);
    }
    let session =
        world.service.check_session(world.scope, &proofs[0], Consistency::Strong).await.unwrap();
    world.service.delete_identity(world.scope, ann.id).await.unwrap();
    for proof in &proofs {
        assert!(!world.recognised(proof).await);
    }
    assert!(matches!(read(&world, ann.id).await, Err(ReadRejection::NotFound)));
    assert_eq!(find(&world, "ann@example.org").await, []);
    let gone = world.service.session(world.scope, session.id, Consistency::Strong).await;
    assert!(gone.is_err());
    world.log_in("ann@example.org", PASSWORD).await.unwrap_err();
    let again = world.service.delete_identity(world.scope, ann.id).await;
    assert!(matches!(again, Err(DeleteRejection::NotFound)), "{again:?}");
    assert_ne!(world.register("ann@example.org").await.identity.id, ann.id);
}

#[tokio::test]
async fn outcome_that_nobody_saw_is_not_reported_as_a_refusal() {
    let world = World::new();
    world.counted.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let unknown = world.create("ann@example.org", None).await;
    assert!(matches!(unknown, Err(CreateRejection::Store(StoreError::Unknown))), "{unknown:?}");
}

#[tokio::test]
async fn last_way_in_stays_and_others_are_removed() {
    use crate::session::CredentialKind;
    let world = World::new();
    let ann = world.create("ann@example.org", Some(NewPassword::Clear(secret(PASSWORD)))).await;
    let ann = ann.unwrap().id;
    let remove = async |kind, identifier: Option<&str>| {
        world.service.remove_credential(world.scope, ann, kind, identifier).await
    };
    let refused = remove(CredentialKind::Password, None).await;
    assert!(matches!(refused, Err(RemoveRejection::LastFirstFactor)), "{refused:?}");
    let refused = remove(CredentialKind::Totp, None).await;
    assert!(matches!(refused, Err(RemoveRejection::NoSuchCredential)), "{refused:?}");

    // Another way in, and a second factor.
    for (kind, identifiers) in [
        (CredentialKind::Oidc, vec!["google:1".to_owned(), "github:2".to_owned()]),
        (CredentialKind::Totp, Vec::new()),
        (CredentialKind::Passkey, vec!["handle".to_owned()]),
    ] {
        let key = crate::table::CredentialKey {
            tenant: world.scope.tenant,
            identity: ann.0,
            kind: kind.number(),
        };
        let record = crate::table::CredentialRecord { identifiers, ..Default::default() };
        let put = world.service.store.transact(|t| {
            let record = record.clone();
            async move { t.put::<crate::table::Credentials>(&key, &record, None).await }
        });
        put.await.unwrap();
    }
    let refused = remove(CredentialKind::Oidc, None).await;
    assert!(matches!(refused, Err(RemoveRejection::IdentifierRequired)), "{refused:?}");
    let refused = remove(CredentialKind::Oidc, Some("google:9")).await;
    assert!(matches!(refused, Err(RemoveRejection::NoSuchCredential)), "{refused:?}");
    let refused = remove(CredentialKind::Passkey, None).await;
    assert!(matches!(refused, Err(RemoveRejection::NotRemovable)), "{refused:?}");
    remove(CredentialKind::Totp, None).await.unwrap();
    remove(CredentialKind::Oidc, Some("google:1")).await.unwrap();
    remove(CredentialKind::Password, None).await.unwrap();
    let refused = remove(CredentialKind::Password, None).await;
    assert!(matches!(refused, Err(RemoveRejection::NoSuchCredential)), "{refused:?}");
    assert!(world.log_in("ann@example.org", PASSWORD).await.is_err());
    let left = read(&world, ann).await.unwrap().credentials;
    let kinds: Vec<_> = left.iter().map(|credential| credential.kind).collect();
    assert_eq!(
        kinds,
        [CredentialKind::Password, CredentialKind::Passkey, CredentialKind::Oidc],
        "a password's identifiers stay"
    );
    assert_eq!(left[2].identifiers, ["github:2"]);
}

#[tokio::test]
async fn imported_hash_of_a_weak_form_is_replaced_at_the_next_login() {
    let world = World::new();
    let hash = "$md5$X03MO1qnZdYdgyfeuILPmQ==";
    let ann = world.create("ann@example.org", Some(NewPassword::Hashed(secret(hash)))).await;
    let ann = ann.unwrap().id;
    let kept = async || {
        let detail = CredentialDetail::WithPasswordHash;
        let read = world.service.identity(world.scope, ann, detail, Consistency::Strong).await;
        read.unwrap().credentials[0].password_hash.clone()
    };
    assert!(kept().await.is_none(), "a weak hash is kept sealed, and shown to nobody");
    assert!(world.log_in("ann@example.org", "Password").await.is_err());
    assert!(kept().await.is_none());
    world.log_in("ann@example.org", "password").await.unwrap();
    assert!(kept().await.unwrap().expose().starts_with("$argon2id$"));
    world.log_in("ann@example.org", "password").await.unwrap();
}
