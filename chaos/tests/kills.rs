//! The short form of `cardea-chaos kill`: five deaths under load.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use cardea_chaos::{
    cluster::Plan,
    dice::fresh_seed,
    kill::{self, KillOptions},
    process::find_binary,
};

/// Slower ticks than those that ship: this is a debug build on a machine that may
/// be busy. `cardea-chaos kill` with a release build measures what ships.
fn plan() -> Plan {
    Plan::new(&find_binary().unwrap(), 3).with_slow_ticks()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_write_is_lost_and_no_revoked_session_accepted_over_five_kills() {
    let options = KillOptions {
        plan: plan(),
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
    assert_eq!(report.kills.len(), options.kills);
}

/// The control: whoever reads eventually sees revoked sessions for a moment, and a
/// harness that does not notice would notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_eventually_are_found_out() {
    let options = KillOptions {
        plan: plan(),
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
    assert!(stale("against what was acknowledged") > 0);
}
