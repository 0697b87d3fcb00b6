//! Sessions that end together: all of a tenant, or those that are named.

use super::*;

#[tokio::test]
async fn all_sessions_of_a_tenant_end_by_one_write_and_new_ones_begin() {
    let world = World::new();
    let mut proofs = Vec::new();
    for at in 0..12 {
        let email = format!("a{at}@example.org");
        world.register(&email).await;
        proofs.push(world.proof(&email).await);
    }
    world.counted.take();
    let disable = BulkAction::Disable;
    let done = world.service.manage_sessions(world.scope, disable, BulkTargets::All).await.unwrap();
    assert_eq!(done, BulkDone { processed: 24, more: false });
    assert_eq!(world.counted.take()[2], 1, "one commit");
    for proof in &proofs {
        assert!(!world.recognised(proof).await);
    }
    assert_eq!(all_sessions(&world, Some(true), 250).await, []);
    assert_eq!(all_sessions(&world, Some(false), 250).await.len(), 24);
    // In the same millisecond, even.
    let again = world.proof("a1@example.org").await;
    assert!(world.recognised(&again).await);
    let over = session(&world, &again).await.id;
    let extended = world.service.extend_session(world.scope, over).await;
    assert!(extended.is_ok(), "{extended:?}");
    let again =
        world.service.manage_sessions(world.scope, disable, BulkTargets::All).await.unwrap();
    assert_eq!(again.processed, 1);
    let delete = BulkAction::Delete;
    let done = world.service.manage_sessions(world.scope, delete, BulkTargets::All).await.unwrap();
    assert_eq!(done, BulkDone { processed: 25, more: false });
    assert_eq!(all_sessions(&world, None, 250).await, []);
}

/// N20: what one tenant ends is nothing to another.
#[tokio::test]
async fn ending_all_sessions_of_a_tenant_leaves_others_alone() {
    let world = World::new();
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let foreign = Scope { tenant: Tenant(5) };
    let done = world
        .service
        .manage_sessions(foreign, BulkAction::Disable, BulkTargets::All)
        .await
        .unwrap();
    assert_eq!(done.processed, 0);
    let mine = session(&world, &proof).await;
    for targets in
        [BulkTargets::Sessions(vec![mine.id]), BulkTargets::Identities(vec![mine.identity_id])]
    {
        for action in [BulkAction::Disable, BulkAction::Delete] {
            let done = world.service.manage_sessions(foreign, action, targets.clone()).await;
            assert_eq!(done.unwrap().processed, 0);
        }
    }
    assert!(world.recognised(&proof).await);
}

#[tokio::test]
async fn sessions_end_by_their_ids_and_by_those_of_their_identities() {
    let world = World::new();
    for email in ["ann@example.org", "bob@example.org"] {
        world.register(email).await;
    }
    let (ann, bob) = (world.proof("ann@example.org").await, world.proof("bob@example.org").await);
    let (anns, bobs) = (session(&world, &ann).await, session(&world, &bob).await);
    let manage = async |action, targets| {
        let done = world.service.manage_sessions(world.scope, action, targets).await;
        done.map(|done| done.processed)
    };
    let unknown = crate::SessionId(uuid::Uuid::from_u128(1));
    let these = BulkTargets::Sessions(vec![anns.id, anns.id, unknown]);
    assert_eq!(manage(BulkAction::Disable, these.clone()).await.unwrap(), 1);
    assert_eq!(manage(BulkAction::Disable, these.clone()).await.unwrap(), 0, "it was over");
    assert!(!world.recognised(&ann).await && world.recognised(&bob).await);
    assert_eq!(manage(BulkAction::Delete, these).await.unwrap(), 1);
    let gone = world.service.session(world.scope, anns.id, Consistency::Strong).await;
    assert!(matches!(gone, Err(ReadSessionRejection::NotFound)));

    let of = |id| BulkTargets::Identities(vec![id, crate::IdentityId(uuid::Uuid::from_u128(1))]);
    assert_eq!(manage(BulkAction::Disable, of(bobs.identity_id)).await.unwrap(), 2);
    assert!(!world.recognised(&bob).await);
    assert_eq!(manage(BulkAction::Delete, of(bobs.identity_id)).await.unwrap(), 2);
    let many = (0..=bulk::IDS_MAX as u128).map(|at| crate::SessionId(uuid::Uuid::from_u128(at)));
    let many = manage(BulkAction::Disable, BulkTargets::Sessions(many.collect())).await;
    assert!(matches!(many, Err(BulkRejection::TooManyIds)), "{many:?}");
}

/// N6: a failure of the store is never reported as done.
#[tokio::test]
async fn ending_all_sessions_fails_aloud() {
    let world = World::new();
    world.register("ann@example.org").await;
    world.counted.fails.store(true, Ordering::SeqCst);
    let failed =
        world.service.manage_sessions(world.scope, BulkAction::Disable, BulkTargets::All).await;
    assert!(matches!(failed, Err(BulkRejection::Store(StoreError::Unknown))), "{failed:?}");
}
