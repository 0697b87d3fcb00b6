//! Sessions: what ends them ends them at once, and no other token is one.

mod ended;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use cardea_storage::{Clock as _, Consistency, ManualClock, Secret, StoreError, Tag, Tenant};

use super::*;
use crate::{
    PageRequest, Scope, Service, Settings,
    flow::{BeginLogin, LoginSubmission},
    model::{Issued, Session},
    testing::{BROWSER, PASSWORD, START, World, client, keys, secret, settings},
};

async fn session(world: &World, proof: &Proof) -> Session {
    world.service.check_session(world.scope, proof, Consistency::Strong).await.unwrap()
}

#[tokio::test]
async fn session_is_over_at_its_end_and_listed_for_a_while() {
    let world = World::new();
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let mine = session(&world, &proof).await;
    world.clock.advance(Duration::from_secs(24 * 3600 - 1));
    assert!(world.recognised(&proof).await);
    world.clock.advance(Duration::from_secs(1));
    assert!(!world.recognised(&proof).await);
    let read = world.service.session(world.scope, mine.id, Consistency::Strong).await.unwrap();
    assert!(!read.active);
    world.clock.advance(Duration::from_secs(7 * 24 * 3600));
    let gone = world.service.session(world.scope, mine.id, Consistency::Strong).await;
    assert!(matches!(gone, Err(ReadSessionRejection::NotFound)), "{gone:?}");
}

#[tokio::test]
async fn a_node_whose_clock_is_off_ends_no_session_and_keeps_none() {
    let world = World::new();
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let mine = session(&world, &proof).await;
    let two_days = Duration::from_secs(2 * 24 * 3600);
    let own = Arc::new(ManualClock::new(world.clock.now().after(two_days)));
    assert!(world.counted.skewed.set(own.clone()).is_ok());
    assert!(world.recognised(&proof).await, "by the store's time it goes on");
    let read = world.service.session(world.scope, mine.id, Consistency::Strong).await.unwrap();
    assert!(read.active);
    let page = PageRequest::default();
    let listed = world.service.list_my_sessions(world.scope, &proof, &page, Consistency::Strong);
    assert!(listed.await.is_ok());
    // And the other way round.
    own.jump(world.clock.now());
    world.clock.advance(two_days);
    assert!(!world.recognised(&proof).await, "by the store's time it is over");
}

#[tokio::test]
async fn what_is_no_token_of_ours_is_refused_without_a_read() {
    let world = World::new();
    world.register("ann@example.org").await;
    let issued = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    let token = issued.token.expose().clone();
    let entropy = world.service.store.entropy().as_ref();
    let slot = cardea_storage::Slot::of_id(&issued.session.id.0);
    let foreign = keys(2).tokens.mint(entropy, TokenKind::Session, Tenant(0), slot);
    let mut altered = token.clone();
    altered.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
    let forged: [&str; 7] = [
        "",
        "ory_st_",
        &token[..token.len() - 1],
        &altered,
        foreign.token.expose(),
        issued.logout_token.expose(),
        "ory_st_MrJkGGQdQAKQBCdRAeYdFuTVcJxPmyZd",
    ];
    world.counted.take();
    for forged in forged {
        assert!(!world.recognised(&Proof::Token(secret(forged))).await, "{forged}");
        assert!(!world.recognised(&Proof::Cookie(secret(forged))).await, "{forged}");
    }
    assert_eq!(world.counted.take()[0], 0);
    // Rightly made, and of no session: refused after a read.
    let unknown = world.service.keys().tokens.mint(entropy, TokenKind::Session, Tenant(0), slot);
    assert!(!world.recognised(&Proof::Token(unknown.token)).await);
    // A token of another tenant's host.
    let other = Scope { tenant: Tenant(1) };
    let proof = Proof::Token(issued.token);
    let checked = world.service.check_session(other, &proof, Consistency::Strong).await;
    assert!(checked.is_err());
}

#[tokio::test]
async fn check_takes_two_rounds_of_reads_and_no_write() {
    let world = World::new();
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    world.counted.take();
    assert!(world.recognised(&proof).await);
    assert_eq!(world.counted.take(), [2, 4, 0, 0]);
}

#[tokio::test]
async fn log_out_ends_the_session_and_no_other() {
    let world = World::new();
    world.register("ann@example.org").await;
    let first = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    let second = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    world.service.log_out(world.scope, &first.token).await.unwrap();
    assert!(!world.recognised(&Proof::Token(first.token.clone())).await);
    assert!(world.recognised(&Proof::Token(second.token.clone())).await);
    // Who did not see the answer asks again, and is told that it is done.
    world.service.log_out(world.scope, &first.token).await.unwrap();
    let forged = world.service.log_out(world.scope, &secret("ory_st_x")).await;
    assert!(matches!(forged, Err(RevokeRejection::NotFound)), "{forged:?}");
    // A logout token logs out; a session token does not do for one.
    let wrong = world.service.log_out_by_logout_token(world.scope, &second.token, None).await;
    assert!(wrong.is_err());
    world.service.log_out_by_logout_token(world.scope, &second.logout_token, None).await.unwrap();
    assert!(!world.recognised(&Proof::Token(second.token)).await);
}

/// N6: what the store did not do is not answered as done.
#[tokio::test]
async fn revocation_that_failed_is_not_reported_as_done() {
    let world = World::new();
    let identity = world.register("ann@example.org").await.identity;
    let issued = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    world.counted.fails.store(true, Ordering::SeqCst);
    let service = &world.service;
    let unknown = |result| matches!(result, Err(RevokeRejection::Store(StoreError::Unknown)));
    assert!(unknown(service.log_out(world.scope, &issued.token).await));
    assert!(unknown(service.revoke_session(world.scope, issued.session.id).await));
    assert!(unknown(service.revoke_identity_sessions(world.scope, identity.id).await));
    world.counted.fails.store(false, Ordering::SeqCst);
    assert!(world.recognised(&Proof::Token(issued.token)).await);
}

#[tokio::test]
async fn one_ends_ones_own_sessions_and_nobody_elses() {
    let world = World::new();
    for email in ["ann@example.org", "bob@example.org"] {
        world.register(email).await;
    }
    let ann: [Proof; 3] = [
        world.proof("ann@example.org").await,
        world.proof("ann@example.org").await,
        world.proof("ann@example.org").await,
    ];
    let bob = world.proof("bob@example.org").await;
    let bobs = session(&world, &bob).await.id;
    let revoke = |id| world.service.revoke_my_session(world.scope, &ann[0], id);
    let foreign = revoke(bobs).await;
    assert!(matches!(foreign, Err(RevokeRejection::NotFound)), "{foreign:?}");
    let current = revoke(session(&world, &ann[0]).await.id).await;
    assert!(matches!(current, Err(RevokeRejection::Current)), "{current:?}");
    revoke(session(&world, &ann[1]).await.id).await.unwrap();
    assert!(!world.recognised(&ann[1]).await);

    // The one from signing up, and the third.
    let count = world.service.revoke_my_other_sessions(world.scope, &ann[0]).await.unwrap();
    assert_eq!(count, 2);
    assert!(world.recognised(&ann[0]).await && !world.recognised(&ann[2]).await);
    assert!(world.recognised(&bob).await);
    let by_ended = world.service.revoke_my_other_sessions(world.scope, &ann[2]).await;
    assert!(matches!(by_ended, Err(RevokeRejection::NoSession)), "{by_ended:?}");
}

#[tokio::test]
async fn many_other_sessions_are_ended_in_pieces() {
    let world = World::new();
    world.register("ann@example.org").await;
    for _ in 0..230 {
        world.log_in("ann@example.org", PASSWORD).await.unwrap();
        world.clock.advance(Duration::from_millis(1));
    }
    let proof = world.proof("ann@example.org").await;
    let count = world.service.revoke_my_other_sessions(world.scope, &proof).await.unwrap();
    assert_eq!(count, 231);
    assert!(world.recognised(&proof).await);
}

#[tokio::test]
async fn lists_are_paged_the_newest_first() {
    let world = World::new();
    let registered = world.register("ann@example.org").await;
    let id = registered.identity.id;
    for _ in 0..6 {
        world.clock.advance(Duration::from_millis(1));
        world.log_in("ann@example.org", PASSWORD).await.unwrap();
    }
    world.service.log_out(world.scope, &registered.issued.unwrap().token).await.unwrap();
    let list = |active, token: Option<String>| {
        let service = world.service.clone();
        let scope = world.scope;
        async move {
            let page = PageRequest { size: 3, token };
            service
                .list_identity_sessions(scope, id, active, &page, Consistency::Strong)
                .await
                .unwrap()
        }
    };
    let (mut all, mut token) = (Vec::new(), None);
    loop {
        let page = list(None, token).await;
        all.extend(page.items);
        match page.next {
            Some(next) => token = Some(next),
            None => break,
        }
    }
    assert_eq!(all.len(), 7);
    assert!(all.is_sorted_by(|a, b| a.issued_at >= b.issued_at));
    assert!(!all[6].active && all[..6].iter().all(|session| session.active));
    assert_eq!(list(Some(false), None).await.items.len(), 1);

    let page = PageRequest { size: 2, token: Some("forged".to_owned()) };
    let forged = world
        .service
        .list_identity_sessions(world.scope, id, None, &page, Consistency::Strong)
        .await;
    assert!(matches!(forged, Err(ListSessionsRejection::BadPageToken(_))), "{forged:?}");

    let proof = world.proof("ann@example.org").await;
    let mine = world
        .service
        .list_my_sessions(world.scope, &proof, &PageRequest::default(), Consistency::Strong)
        .await
        .unwrap();
    let me = session(&world, &proof).await.id;
    assert_eq!(mine.items.len(), 6);
    assert!(mine.items.iter().all(|session| session.active && session.id != me));
}

#[tokio::test]
async fn all_sessions_of_an_identity_end_in_one_write() {
    let world = World::new();
    let id = world.register("ann@example.org").await.identity.id;
    let proofs = [world.proof("ann@example.org").await, world.proof("ann@example.org").await];
    world.counted.take();
    world.service.revoke_identity_sessions(world.scope, id).await.unwrap();
    assert_eq!(world.counted.take()[2..], [1, 4]);
    for proof in &proofs {
        assert!(!world.recognised(proof).await);
    }
    let page = PageRequest::default();
    let active = world
        .service
        .list_identity_sessions(world.scope, id, Some(true), &page, Consistency::Strong)
        .await
        .unwrap();
    assert_eq!(active.items, []);
    let proof = world.proof("ann@example.org").await;
    assert!(world.recognised(&proof).await, "new sessions are good");
    let nobody = crate::IdentityId(world.service.mint());
    let refused = world.service.revoke_identity_sessions(world.scope, nobody).await;
    assert!(matches!(refused, Err(RevokeRejection::NotFound)));
}

#[tokio::test]
async fn administrators_end_and_extend_sessions() {
    let world = World::with(Settings {
        session_extend_before_end: Some(Duration::from_secs(3600)),
        ..settings()
    });
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let mine = session(&world, &proof).await;
    let extend = || world.service.extend_session(world.scope, mine.id);
    let early = extend().await;
    assert!(matches!(early, Err(ExtendRejection::TooEarly)), "{early:?}");
    world.clock.advance(Duration::from_secs(23 * 3600));
    let extended = extend().await.unwrap();
    assert_eq!(extended.expires_at, mine.expires_at.after(Duration::from_secs(23 * 3600)));
    world.clock.advance(Duration::from_secs(23 * 3600));
    assert!(world.recognised(&proof).await);

    world.service.revoke_session(world.scope, mine.id).await.unwrap();
    assert!(!world.recognised(&proof).await);
    let late = extend().await;
    assert!(matches!(late, Err(ExtendRejection::NotFound)), "revoked stays revoked: {late:?}");
    world.service.revoke_session(world.scope, mine.id).await.unwrap();
    let nobody = crate::SessionId(world.service.mint());
    let refused = world.service.revoke_session(world.scope, nobody).await;
    assert!(matches!(refused, Err(RevokeRejection::NotFound)));
}

async fn all_sessions(world: &World, active: Option<bool>, size: u32) -> Vec<crate::SessionId> {
    let mut page = PageRequest { size, token: None };
    let mut ids = Vec::new();
    loop {
        let strong = Consistency::Strong;
        let found = world.service.list_sessions(world.scope, active, &page, strong).await.unwrap();
        ids.extend(found.items.into_iter().map(|session| session.id));
        page.token = found.next;
        if page.token.is_none() {
            return ids;
        }
    }
}

#[tokio::test]
async fn all_sessions_are_listed_the_newest_first() {
    let world = World::new();
    let mut ids = Vec::new();
    for at in 0..5 {
        let email = format!("a{at}@example.org");
        ids.push(world.register(&email).await.issued.unwrap().session.id);
        world.clock.advance(Duration::from_secs(1));
        ids.push(session(&world, &world.proof(&email).await).await.id);
        world.clock.advance(Duration::from_secs(1));
    }
    ids.reverse();
    for size in [1, 3, 250] {
        assert_eq!(all_sessions(&world, None, size).await, ids, "{size}");
    }
    world.service.revoke_session(world.scope, ids[2]).await.unwrap();
    let revoked = ids.remove(2);
    assert_eq!(all_sessions(&world, Some(false), 2).await, [revoked]);
    assert_eq!(all_sessions(&world, Some(true), 2).await, ids);
    let foreign = Scope { tenant: Tenant(5) };
    let page = PageRequest::default();
    let seen = world.service.list_sessions(foreign, None, &page, Consistency::Strong).await;
    assert!(seen.unwrap().items.is_empty());
}

#[tokio::test]
async fn checked_session_slides_near_its_end_and_never_past_its_longest() {
    let hour = Duration::from_secs(3600);
    let sliding = Some(Sliding { before_end: hour, at_most: 30 * hour });
    let wanted = Settings { session_lifespan: 24 * hour, session_sliding: sliding, ..settings() };
    let world = World::with(wanted);
    world.register("ann@example.org").await;
    let proof = world.proof("ann@example.org").await;
    let check = || async {
        let (service, scope) = (&world.service, world.scope);
        let session = service.check_session(scope, &proof, Consistency::Strong).await.unwrap();
        let slid = service.slide_session(scope, session).await;
        let kept = service.check_session(scope, &proof, Consistency::Strong).await.unwrap();
        assert_eq!(slid.expires_at, kept.expires_at, "what is told is what is kept");
        kept.expires_at.since(START) / 3600
    };
    let hours = |count: u32| Duration::from_secs(count.into());
    assert_eq!(check().await, hours(24), "there is time yet");
    world.clock.advance(22 * hour);
    assert_eq!(check().await, hours(24));
    world.clock.advance(hour);
    assert_eq!(check().await, hours(30), "a lifespan would be longer than it may last");
    world.clock.advance(6 * hour);
    assert_eq!(check().await, hours(30));
    world.clock.advance(hour);
    assert!(!world.recognised(&proof).await);
}

#[tokio::test]
async fn revoked_session_does_not_slide_nor_does_any_where_they_do_not() {
    let hour = Duration::from_secs(3600);
    let sliding = Some(Sliding { before_end: hour, at_most: 240 * hour });
    for session_sliding in [sliding, None] {
        let wanted = Settings { session_lifespan: 2 * hour, session_sliding, ..settings() };
        let world = World::with(wanted);
        world.register("ann@example.org").await;
        let proof = world.proof("ann@example.org").await;
        world.clock.advance(hour + Duration::from_secs(60));
        let (service, scope) = (&world.service, world.scope);
        let session = service.check_session(scope, &proof, Consistency::Strong).await.unwrap();
        if session_sliding.is_some() {
            // Between the check and the writing.
            service.revoke_session(scope, session.id).await.unwrap();
        }
        let slid = service.slide_session(scope, session.clone()).await;
        assert_eq!(slid.expires_at, session.expires_at);
    }
}

/// The holder of a cookie proves itself again, and its browser gets another token.
async fn prove_again(service: &Service, scope: Scope, cookie: Secret<String>) -> Issued {
    let proof = Some(Proof::Cookie(cookie));
    let begin = BeginLogin {
        refresh: true,
        proof: proof.clone(),
        browser: Some(BROWSER),
        ..BeginLogin::default()
    };
    let flow = service.begin_login(scope, begin).await.unwrap();
    let submission = LoginSubmission {
        method: "password".to_owned(),
        identifier: Some("ann@example.org".to_owned()),
        password: Some(secret(PASSWORD)),
        proof,
        ..LoginSubmission::default()
    };
    let guest = client("192.0.2.1");
    service.submit_login(scope, flow.id, submission, &guest).await.unwrap().issued
}

/// Somebody's first token, and the cookie with it.
async fn first_token(world: &World) -> (Secret<String>, Secret<String>) {
    world.register("ann@example.org").await;
    let issued = world.log_in("ann@example.org", PASSWORD).await.unwrap().issued;
    let (service, end) = (&world.service, issued.session.expires_at);
    let cookies = &service.keys().cookies;
    let cookie = cookies.seal(service.entropy(), world.scope.tenant, &issued.token, end);
    (issued.token, cookie)
}

/// Whoever knew a browser's token before its holder proved itself again does not rise with
/// it, however close it comes.
#[tokio::test]
async fn token_that_is_replaced_meanwhile_is_no_token() {
    for reads in 0..2 {
        let world = World::new();
        let (_, cookie) = first_token(&world).await;
        let (service, scope, holder) = (world.service.clone(), world.scope, cookie.clone());
        let again = async move { drop(prove_again(&service, scope, holder).await) };
        *world.counted.meanwhile.lock() = Some((reads, Box::pin(again)));
        assert!(!world.recognised(&Proof::Cookie(cookie)).await, "before read {reads}");
        assert!(world.counted.meanwhile.lock().take().is_none());
    }
}

/// A node that has not heard of it yet takes the former token for nothing, either, and the
/// new one for what it is.
#[tokio::test]
async fn token_that_was_replaced_elsewhere_ends_nothing() {
    for lags in ["in its row alone", "in everything"] {
        let world = World::new();
        let (service, scope) = (&world.service, world.scope);
        let (former, cookie) = first_token(&world).await;
        *world.counted.behind.lock() = Some(Vec::new());
        service.logout_token(scope, &Proof::Cookie(cookie.clone())).await.unwrap();
        if let Some(given) = world.counted.behind.lock().as_mut().filter(|_| lags.contains("row")) {
            given.retain(|(reads, _)| reads[0].tag() == Some(Tag::SESSION_TOKEN));
            assert_eq!(given.len(), 1);
        }
        let held = world.counted.behind.lock().take();
        let issued = prove_again(service, scope, cookie).await;
        *world.counted.behind.lock() = held;
        let ended = service.log_out(scope, &former).await;
        assert!(matches!(ended, Err(RevokeRejection::NotFound)), "{lags}: {ended:?}");
        assert!(world.recognised(&Proof::Token(issued.token.clone())).await, "{lags}");
        service.log_out(scope, &issued.token).await.unwrap();
        assert!(!world.recognised(&Proof::Token(issued.token)).await, "{lags}");
    }
}
