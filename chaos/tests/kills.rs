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

/// What clients that read eventually break, by a part of what is then said.
const BROKEN_BY_EVENTUAL: [&str; 3] =
    ["after the revocation", "is not linearizable", "against what was acknowledged"];

/// How often the control is run at most. A stale answer takes two clients who meet
/// within the moment that a follower is behind: on a busy machine a short run may see
/// too few of them, and each run after it is longer.
const ATTEMPTS: usize = 6;

/// The control: whoever reads eventually sees revoked sessions for a moment, and a
/// harness that does not notice would notice nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_eventually_are_found_out() {
    let mut unseen = BROKEN_BY_EVENTUAL.to_vec();
    for attempt in 1..=ATTEMPTS {
        let options = KillOptions {
            plan: plan(),
            kills: attempt,
            seed: fresh_seed(),
            people: 4,
            registers: 3,
            all_percent: 0,
            consistency: Some("eventual"),
            say: |line| println!("{line}"),
        };
        let report = kill::run(&options).await.unwrap();
        println!("{report}");
        let found = &report.findings.violations;
        unseen.retain(|what| !found.iter().any(|violation| violation.0.contains(what)));
        if unseen.is_empty() {
            return;
        }
    }
    panic!("in {ATTEMPTS} runs nothing was found that says {unseen:?}");
}
