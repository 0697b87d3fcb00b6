//! The network and the disks that runs are made of, looked at from outside: what harms a cluster
//! must itself be beyond doubt. `cardea-chaos check` is the same by hand.

#![allow(clippy::unwrap_used, reason = "a program that cannot be run is a failed test")]

use std::process::Command;

#[test]
fn distances_cuts_losses_order_bandwidth_and_power_cuts_are_what_they_say() {
    let done = Command::new(env!("CARGO_BIN_EXE_cardea-chaos")).args(["check"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{said}{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(said.matches("round trip").count(), 3, "{said}");
    // Nothing of it is left in this namespace.
    let links = std::fs::read_to_string("/proc/net/dev").unwrap();
    assert!(!links.contains("wan0"), "{links}");
}
