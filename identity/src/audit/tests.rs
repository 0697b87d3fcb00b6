//! Chains and seals: what they hold, and every way of altering them that they show.

use std::time::Duration;

use cardea_storage::{Consistency, Slot, Table as _, Tenant};

use super::*;
use crate::{
    PageRequest, Scope,
    identity::{Edit, IdentityChange, NewPassword},
    model::{IdentityId, IdentityState},
    session::{BulkAction, BulkTargets, CredentialKind},
    table::{
        audit::{AuditEventsByTime, AuditSealKey, AuditSeals},
        lane::lane_of,
    },
    testing::{PASSWORD, World, secret, traits},
};

async fn kinds(world: &World, id: Option<IdentityId>) -> Vec<String> {
    let filter = AuditFilter { identity: id, act: None };
    let page = PageRequest::default();
    let listed = world.service.list_audit_events(world.scope, filter, &page, Consistency::Strong);
    let mut kinds: Vec<_> = listed.await.unwrap().items.into_iter().map(|e| e.kind).collect();
    kinds.reverse();
    kinds
}

async fn verified(world: &World, id: IdentityId) -> Verification {
    world.service.verify_audit(world.scope, id.0).await.unwrap()
}

/// Somebody with a few events.
async fn ann(world: &World) -> IdentityId {
    let password = Some(NewPassword::Clear(secret(PASSWORD)));
    let id = world.create("ann@example.org", password).await.unwrap().id;
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
    id
}

/// Changes an event behind the service's back.
async fn tamper(world: &World, key: AuditEventKey, change: impl Fn(&mut AuditEventRecord)) {
    let change = &change;
    let done = world.service.store.transact(|t| async move {
        let mut record = t.get::<AuditEvents>(&key).await?.unwrap().record;
        change(&mut record);
        t.put::<AuditEvents>(&key, &record, None).await
    });
    done.await.unwrap();
}

fn event(world: &World, id: IdentityId, sequence: u64) -> AuditEventKey {
    AuditEventKey { tenant: world.scope.tenant, identity: id.0, sequence }
}

#[tokio::test]
async fn acts_leave_events_in_the_order_of_their_doing() {
    let world = World::new();
    let id = ann(&world).await;
    let session = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued.session.id;
    world.service.revoke_session(world.scope, session).await.unwrap();
    world.service.revoke_session(world.scope, session).await.unwrap();
    let change = IdentityChange {
        traits: traits("ann@example.org"),
        state: Some(IdentityState::Inactive),
        external_id: Edit::Set(Some("crm".to_owned())),
        ..IdentityChange::default()
    };
    world.service.update_identity(world.scope, id, change).await.unwrap();
    let last =
        world.service.remove_credential(world.scope, id, CredentialKind::Password, None).await;
    assert!(last.is_err());
    world.service.delete_identity(world.scope, id).await.unwrap();
    let expected = [
        "identity.created",
        "session.issued",
        "session.issued",
        "session.issued",
        "session.revoked",
        "identity.changed",
        "identity.deactivated",
        "identity.deleted",
    ];
    assert_eq!(kinds(&world, Some(id)).await, expected, "what is refused leaves none");
    assert_eq!(verified(&world, id).await, Verification { events: 8, broken_at: None });
    world
        .service
        .manage_sessions(world.scope, BulkAction::Disable, BulkTargets::All)
        .await
        .unwrap();
    assert_eq!(kinds(&world, None).await.last().unwrap(), "sessions.revoked");
    let foreign = Scope { tenant: Tenant(5) };
    let page = PageRequest::default();
    let seen = world
        .service
        .list_audit_events(foreign, AuditFilter::default(), &page, Consistency::Strong)
        .await;
    assert!(seen.unwrap().items.is_empty());
}

/// Sessions that an administrator deletes have ended as those that it disables.
#[tokio::test]
async fn sessions_that_are_deleted_are_events_as_those_that_are_disabled() {
    let world = World::new();
    let id = ann(&world).await;
    let session = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued.session.id;
    let manage = async |action| {
        let these = BulkTargets::Sessions(vec![session]);
        world.service.manage_sessions(world.scope, action, these).await.unwrap().processed
    };
    let before = kinds(&world, Some(id)).await.len();
    assert_eq!(manage(BulkAction::Delete).await, 1);
    assert_eq!(kinds(&world, Some(id)).await[before..], ["session.revoked"]);
    assert_eq!(manage(BulkAction::Delete).await, 0);
    assert_eq!(kinds(&world, Some(id)).await.len(), before + 1);

    // What had ended ends but once.
    let session = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued.session.id;
    let before = kinds(&world, Some(id)).await.len();
    let manage = async |action| {
        let these = BulkTargets::Sessions(vec![session]);
        world.service.manage_sessions(world.scope, action, these).await.unwrap().processed
    };
    assert_eq!((manage(BulkAction::Disable).await, manage(BulkAction::Delete).await), (1, 1));
    assert_eq!(kinds(&world, Some(id)).await[before..], ["session.revoked"]);
}

#[tokio::test]
async fn events_tell_who_and_from_where() {
    let world = World::new();
    let id = ann(&world).await;
    let filter = AuditFilter { identity: Some(id), act: Some(Act::SessionIssued) };
    let mut page = PageRequest { size: 1, token: None };
    let mut seen = Vec::new();
    loop {
        let strong = Consistency::Strong;
        let found = world.service.list_audit_events(world.scope, filter, &page, strong).await;
        let found = found.unwrap();
        seen.extend(found.items);
        page.token = found.next;
        if page.token.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[0].sequence, seen[1].sequence), (3, 2));
    assert_eq!((seen[0].actor.as_str(), seen[0].ip_address.as_str()), ("self", "192.0.2.1"));
    assert_eq!(seen[0].details["method"], "password");
    let page = PageRequest { size: 1, token: Some("forged".to_owned()) };
    let forged = world
        .service
        .list_audit_events(world.scope, AuditFilter::default(), &page, Consistency::Strong)
        .await;
    assert!(matches!(forged, Err(ListEventsRejection::BadPageToken(_))), "{forged:?}");
}

/// A world with somebody whose chain of three holds.
async fn whole() -> (World, IdentityId) {
    let world = World::new();
    let id = ann(&world).await;
    assert_eq!(verified(&world, id).await, Verification { events: 3, broken_at: None });
    (world, id)
}

/// Removes an event with its index row, behind the service's back.
async fn remove(world: &World, key: AuditEventKey) {
    let gone = world.service.store.transact(|t| async move { t.delete::<AuditEvents>(&key).await });
    gone.await.unwrap();
}

#[tokio::test]
async fn altered_removed_and_cut_off_events_break_the_chain() {
    let (world, id) = whole().await;
    let actor = |record: &mut AuditEventRecord| record.actor = "administrator".to_owned();
    tamper(&world, event(&world, id, 2), actor).await;
    assert_eq!(verified(&world, id).await.broken_at, Some(2));

    let (world, id) = whole().await;
    remove(&world, event(&world, id, 2)).await;
    assert_eq!(verified(&world, id).await.broken_at, Some(2));

    let (world, id) = whole().await;
    for sequence in 1..=3 {
        remove(&world, event(&world, id, sequence)).await;
    }
    assert_eq!(verified(&world, id).await.broken_at, Some(3));

    let (world, id) = whole().await;
    remove(&world, event(&world, id, 3)).await;
    assert_eq!(verified(&world, id).await.broken_at, Some(3));
}

/// Whoever knows the rule, but not the key, makes another link.
#[tokio::test]
async fn link_under_another_key_breaks_the_chain() {
    let (world, id) = whole().await;
    let foreign = crate::testing::keys(9).audit;
    let key = event(&world, id, 3);
    let forge = |record: &mut AuditEventRecord| {
        record.ip_address = "203.0.113.1".to_owned();
        record.link = Bytes::copy_from_slice(&foreign.digest(&linked(&key, record)));
    };
    tamper(&world, key, forge).await;
    let head = AuditHeadKey { tenant: world.scope.tenant, identity: id.0 };
    let done = world.service.store.transact(|t| async move {
        let link = t.get::<AuditEvents>(&key).await?.unwrap().record.link;
        t.put::<AuditHeads>(&head, &AuditHeadRecord { sequence: 3, link }, None).await
    });
    done.await.unwrap();
    assert_eq!(verified(&world, id).await.broken_at, Some(3));
}

#[tokio::test]
async fn older_events_expire_and_the_rest_still_verifies() {
    let world = World::new();
    let id = ann(&world).await;
    let half = world.service.settings().audit_retention / 2;
    world.clock.advance(half);
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
    assert_eq!(verified(&world, id).await, Verification { events: 4, broken_at: None });
    world.clock.advance(half + Duration::from_secs(1));
    assert_eq!(verified(&world, id).await, Verification { events: 1, broken_at: None });
    world.clock.advance(half);
    assert_eq!(verified(&world, id).await, Verification { events: 0, broken_at: None });
}

#[tokio::test]
async fn settled_hours_are_sealed_once_and_chained() {
    let world = World::new();
    let id = ann(&world).await;
    assert_eq!(world.service.seal_audit().await.unwrap(), [], "the hour is not over");
    world.clock.advance(seal::STRETCH + seal::SETTLED);
    let first = world.service.seal_audit().await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].events, 3);
    assert_eq!(world.service.seal_audit().await.unwrap(), [], "nothing new");
    world.clock.advance(3 * seal::STRETCH);
    world.log_in("ann@example.org", PASSWORD).await.unwrap();
    world.clock.advance(seal::STRETCH);
    let second = world.service.seal_audit().await.unwrap();
    assert_eq!((second.len(), second[0].events), (1, 1));
    assert_eq!(second[0].from, first[0].until, "no stretch is left out");

    let lane = lane_of(Slot::of_id(&id.0));
    let check = async || world.service.verify_seals(lane, world.scope.tenant).await.unwrap();
    assert_eq!(check().await, (vec![], 2));
    // An event, with its index row, and the whole chain to the front are gone.
    for sequence in 1..=4 {
        remove(&world, event(&world, id, sequence)).await;
    }
    let head = AuditHeadKey { tenant: world.scope.tenant, identity: id.0 };
    let gone = world.service.store.transact(|t| async move { t.delete::<AuditHeads>(&head).await });
    gone.await.unwrap();
    assert_eq!(verified(&world, id).await.broken_at, None, "the chain itself cannot tell");
    assert_eq!(check().await.0, [second[0].until, first[0].until], "but the seals do");
}

#[tokio::test]
async fn altered_seal_is_found() {
    let world = World::new();
    let id = ann(&world).await;
    world.clock.advance(seal::STRETCH + seal::SETTLED);
    let sealed = world.service.seal_audit().await.unwrap();
    let lane = lane_of(Slot::of_id(&id.0));
    let key = AuditSealKey { lane, tenant: world.scope.tenant, until: sealed[0].until.as_millis() };
    let done = world.service.store.transact(|t| async move {
        let mut record = t.get::<AuditSeals>(&key).await?.unwrap().record;
        record.events += 1;
        t.put::<AuditSeals>(&key, &record, None).await
    });
    done.await.unwrap();
    let (broken, holding) = world.service.verify_seals(lane, world.scope.tenant).await.unwrap();
    assert_eq!((broken, holding), (vec![sealed[0].until], 0));
    let range = AuditEventsByTime::slot_range(lane, world.scope.tenant);
    let view = world.service.store.view(Consistency::Strong);
    let rows = view.scan_rows(range, 10, cardea_storage::engine::Order::Forward, false).await;
    assert_eq!(rows.unwrap().rows.len(), 3);
}
