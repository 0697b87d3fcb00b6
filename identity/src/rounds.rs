//! How often operations ask a quorum, one question after the other. Over regions each costs
//! a round trip of tens of milliseconds, so none may be added unseen.

use std::sync::atomic::Ordering;

use crate::{
    session::Proof,
    testing::{PASSWORD, World},
};

/// How often a quorum was asked one after the other, and what came of it.
async fn rounds<T>(world: &World, what: impl Future<Output = T>) -> (usize, T) {
    world.counted.rounds.store(0, Ordering::SeqCst);
    let done = what.await;
    (world.counted.rounds.load(Ordering::SeqCst), done)
}

#[tokio::test]
async fn operations_ask_quorums_as_seldom_as_their_promises_allow() {
    let world = World::new();
    let (begun, flow) = rounds(&world, world.begin_registration()).await;
    let (signed_up, done) =
        rounds(&world, world.submit_registration(flow.id, "ann@example.org")).await;
    done.unwrap();
    // Whether the source may try, then the address and the person together, which are in
    // different shards.
    assert_eq!((begun, signed_up), (1, 3));

    let (begun, flow) = rounds(&world, world.begin_login()).await;
    let (logged_in, done) =
        rounds(&world, world.submit_login(flow.id, "ann@example.org", PASSWORD, "192.0.2.1")).await;
    let token = done.unwrap().issued.token;
    // Who is meant, the attempt, the session.
    assert_eq!((begun, logged_in), (1, 3));

    let proof = Proof::Token(token.clone());
    let (checked, recognised) = rounds(&world, world.recognised(&proof)).await;
    assert!(recognised);
    assert_eq!(checked, 1);
    // Whose they are, and the flow.
    let (begun, settings) = rounds(&world, world.settings(&proof)).await;
    settings.unwrap();
    assert_eq!(begun, 2);
    let (ended, done) = rounds(&world, world.service.log_out(world.scope, &token)).await;
    done.unwrap();
    assert_eq!(ended, 1);
    assert!(!world.recognised(&proof).await);
}
