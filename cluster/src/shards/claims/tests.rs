//! Who waits for whom, and for how long at most.

use std::sync::Arc;

use cardea_storage::txn::{At, Check, Effect, Put, RangeCheck, command::Prepare};
use futures::{FutureExt, future::BoxFuture};
use tokio::time::advance;

use super::*;

fn bytes(key: &str) -> Bytes {
    Bytes::copy_from_slice(key.as_bytes())
}

/// A transaction that read some keys, and writes others.
fn txn(checks: &[&str], writes: &[&str]) -> Txn {
    let at =
        |key: &&str| Check { condition: Some(Condition::At(At { key: bytes(key), revision: 1 })) };
    let put = |key: &&str| {
        Effect::Put(Put { key: bytes(key), value: Bytes::new(), expires_at: 0 }).into()
    };
    Txn {
        checks: checks.iter().map(at).collect(),
        ops: writes.iter().map(put).collect(),
        ..Txn::default()
    }
}

fn commit(checks: &[&str], writes: &[&str]) -> Action {
    Action::Commit(txn(checks, writes))
}

fn prepare(checks: &[&str], writes: &[&str]) -> Action {
    Action::Prepare(Prepare { txn: Some(txn(checks, writes)), decider: Bytes::new() })
}

/// Whether somebody may pass at once.
fn passes(claims: &Claims, claimant: u64, action: &Action) -> bool {
    claims.pass(claimant, action).now_or_never().is_some()
}

/// Claims that are taken at once.
fn taken(by: &[(u64, Action)]) -> Claims {
    let claims = Claims::default();
    for (claimant, action) in by {
        assert!(claims.take(*claimant, action).now_or_never().is_some());
    }
    claims
}

#[tokio::test(start_paused = true)]
async fn others_wait_who_would_make_it_lose_and_nobody_else() {
    let claims = taken(&[(1, commit(&["a", "b"], &["b", "c"]))]);
    for write in ["a", "b", "c"] {
        assert!(!passes(&claims, 0, &commit(&[], &[write])), "{write}");
        assert!(!passes(&claims, 2, &prepare(&[], &[write])), "{write}");
    }
    // What it writes must not be locked; what it only read may be.
    assert!(!passes(&claims, 0, &prepare(&["c"], &["x"])));
    assert!(passes(&claims, 0, &prepare(&["a"], &["x"])));
    // Reads that are validated at once are in nobody's way.
    assert!(passes(&claims, 0, &commit(&["a", "b", "c"], &["x"])));
    assert!(passes(&claims, 0, &commit(&["x"], &["x"])));
    // It itself passes.
    assert!(passes(&claims, 1, &commit(&["a", "b"], &["b", "c"])));
    claims.end(1);
    assert!(passes(&claims, 0, &commit(&[], &["a"])));
}

#[tokio::test(start_paused = true)]
async fn nothing_appears_in_a_range_that_is_kept() {
    let range = RangeCheck { start: bytes("b"), end: bytes("d"), ..RangeCheck::default() };
    let check = Check { condition: Some(Condition::Range(range)) };
    let claims = taken(&[(1, Action::Commit(Txn { checks: vec![check], ..txn(&[], &["x"]) }))]);
    for (key, is_outside) in [("a", true), ("b", false), ("c", false), ("d", true)] {
        assert_eq!(passes(&claims, 0, &commit(&[], &[key])), is_outside, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_waits_goes_on_when_the_claim_ends() {
    let claims = Arc::new(taken(&[(1, commit(&["a"], &["a"]))]));
    let waiting = tokio::spawn({
        let claims = claims.clone();
        async move {
            let began = Instant::now();
            claims.pass(0, &commit(&[], &["a"])).await;
            began.elapsed()
        }
    });
    tokio::task::yield_now().await;
    advance(Duration::from_millis(50)).await;
    claims.end(1);
    assert_eq!(waiting.await.unwrap(), Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_come_back_holds_others_up_for_a_moment_at_most() {
    let claims = taken(&[(1, commit(&["a"], &["a"]))]);
    let began = Instant::now();
    claims.pass(0, &commit(&[], &["a"])).await;
    assert_eq!(began.elapsed(), KEPT_MAX);
    // It is forgotten: nobody waits any more.
    assert!(passes(&claims, 0, &commit(&[], &["a"])));
    assert_eq!(claims.count.load(Ordering::Acquire), 0);
}

#[tokio::test(start_paused = true)]
async fn those_who_claim_the_same_stand_in_line() {
    let claims = taken(&[(1, commit(&["a"], &["a"]))]);
    let (second, third) = (commit(&["a"], &["a"]), commit(&["a"], &["a"]));
    let mut in_line: Vec<BoxFuture<'_, ()>> =
        vec![claims.take(2, &second).boxed(), claims.take(3, &third).boxed()];
    let turns = |line: &mut Vec<BoxFuture<'_, ()>>| -> Vec<bool> {
        line.iter_mut().map(|turn| turn.now_or_never().is_some()).collect()
    };
    assert_eq!(turns(&mut in_line), [false, false]);
    // The first lost once more, to what was under way: it keeps its place.
    claims.take(1, &commit(&["a"], &["a"])).await;
    assert_eq!(turns(&mut in_line), [false, false]);
    claims.end(1);
    assert!(in_line[0].as_mut().now_or_never().is_some(), "it is the second's turn");
    assert!(in_line[1].as_mut().now_or_never().is_none(), "not the third's");
    assert!(!passes(&claims, 3, &third));
    assert!(passes(&claims, 2, &second));
    claims.end(2);
    assert!(in_line[1].as_mut().now_or_never().is_some(), "it is the third's turn");
}

#[tokio::test(start_paused = true)]
async fn what_touches_nothing_in_common_is_kept_side_by_side() {
    let claims = taken(&[
        (1, commit(&["a"], &["a"])),
        (2, commit(&["b"], &["b"])),
        // Both only read it.
        (3, commit(&["r"], &["c"])),
        (4, commit(&["r"], &["d"])),
    ]);
    assert_eq!(claims.count.load(Ordering::Acquire), 4);
}

/// Two that each keep what the other needs would wait for each other.
#[tokio::test(start_paused = true)]
async fn one_that_comes_to_touch_what_another_keeps_waits_for_it() {
    let claims = taken(&[(1, commit(&["a"], &["a"])), (2, commit(&["b"], &["b"]))]);
    let both = commit(&["a", "b"], &["a", "b"]);
    let mut first = claims.take(1, &both).boxed();
    assert!(first.as_mut().now_or_never().is_none());
    assert!(passes(&claims, 2, &commit(&["b"], &["b"])));
    claims.end(2);
    assert!(first.as_mut().now_or_never().is_some());
    assert!(passes(&claims, 1, &both));
}

#[tokio::test(start_paused = true)]
async fn claims_are_bounded_in_number_and_size() {
    let claims = Claims::default();
    for claimant in 1..=(CLAIMS_MAX as u64) {
        let own = claimant.to_string();
        assert!(claims.take(claimant, &commit(&[], &[&own])).now_or_never().is_some());
    }
    assert!(claims.take(9_999, &commit(&[], &["more"])).now_or_never().is_some());
    assert!(passes(&claims, 0, &commit(&[], &["more"])), "one too many is kept");

    let keys: Vec<String> = (0..=SPANS_MAX).map(|n| format!("k{n}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let claims = taken(&[(1, commit(&[], &keys))]);
    assert!(passes(&claims, 0, &commit(&[], &["k0"])), "one too large is kept");
    let claims = taken(&[(1, commit(&[], &keys[1..]))]);
    assert!(!passes(&claims, 0, &commit(&[], &["k1"])));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_transaction_neither_claims_nor_waits() {
    let time = Action::Time(cardea_storage::txn::command::Time {});
    let claims = taken(&[(1, commit(&["a"], &["a"])), (2, time.clone())]);
    assert_eq!(claims.count.load(Ordering::Acquire), 1);
    assert!(passes(&claims, 0, &time));
}
