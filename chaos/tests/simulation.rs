//! Simulated worlds, in short: first that a seed repeats itself to the byte, then that a few of
//! them keep their promises. `cardea-simulate --seeds 1000` is the long form.

#![allow(clippy::unwrap_used, reason = "a program that cannot be run is a failed test")]

use std::process::Command;

fn simulate(arguments: &[&str]) -> (bool, String) {
    let done =
        Command::new(env!("CARGO_BIN_EXE_cardea-simulate")).args(arguments).output().unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn a_seed_repeats_itself_to_the_byte_and_another_differs() {
    let directory = tempfile::tempdir().unwrap();
    let live = |name: &str, seed: &str| {
        let at = directory.path().join(name);
        let trace = at.to_str().unwrap();
        let (good, said) = simulate(&["--seed", seed, "--steps", "5000", "--trace", trace]);
        assert!(good, "{said}");
        std::fs::read(at).unwrap()
    };
    let first = live("first", "11");
    assert!(first.len() > 1_000, "a trace of {} bytes", first.len());
    assert!(first == live("second", "11"), "one seed, two traces");
    assert!(first != live("third", "12"), "two seeds, one trace");
}

#[test]
fn a_few_worlds_keep_their_promises() {
    let (good, said) = simulate(&["--seed", "100", "--seeds", "4", "--steps", "5000"]);
    assert!(good, "{said}");
}
