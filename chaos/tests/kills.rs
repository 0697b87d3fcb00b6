//! The short form of `cardea-chaos kill`: five deaths under load.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::time::Duration;

use cardea_chaos::{
    dice::fresh_seed,
    kill::{self, KillOptions},
    process::find_binary,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_and_no_revoked_session_accepted_over_five_kills() {
    let options = KillOptions {
        binary: find_binary().unwrap(),
        kills: 5,
        seed: fresh_seed(),
        people: 3,
        registers: 2,
        all_percent: 20,
        consistency: None,
        say: |line| println!("{line}"),
    };
    let report = kill::run(&options).await.unwrap();
    println!("{report}");
    report.findings.expect_good().unwrap();
    assert!(
        !report.leader_gaps().is_empty() || report.kills.iter().all(|kill| kill.gaps.is_empty())
    );
    // The bar of 2 s is for the shipped binary on an idle machine; this one is a
    // debug build beside other tests, and must still not be away for long.
    if let Some((_, worst)) = report.leader_gap() {
        assert!(worst < Duration::from_secs(10), "nobody could write for {worst:?}");
    }
}

/// The control: whoever reads eventually sees revoked sessions for a moment, and a
/// harness that does not notice would notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_eventually_are_found_out() {
    let options = KillOptions {
        binary: find_binary().unwrap(),
        kills: 1,
        seed: fresh_seed(),
        people: 4,
        registers: 3,
        all_percent: 0,
        consistency: Some("eventual"),
        say: |line| println!("{line}"),
    };
    let report = kill::run(&options).await.unwrap();
    println!("{report}");
    let stale = |what: &str| {
        report.findings.violations.iter().filter(|violation| violation.0.contains(what)).count()
    };
    assert!(stale("after the revocation") > 0);
    assert!(stale("is not linearizable") > 0);
}
