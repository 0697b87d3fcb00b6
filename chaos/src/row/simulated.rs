//! Rows about simulated worlds: they run `cardea-simulate`, and count.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use cardea_storage::planted::Bug;

use super::Lines;
use crate::scoreboard::{Bar, Bench, Line};

/// Variables that name programs.
const REAL: &str = "CARDEA_SIMULATE";
const PLANTED: &str = "CARDEA_SIMULATE_PLANTED";
/// How long seeds are begun.
const LENGTH: Duration = Duration::from_secs(500);
/// Seeds of one call.
const BATCH: u64 = 20;
/// Minutes for all planted bugs.
const HUNT_MINUTES: f64 = 9.0;
/// What a hunt says of a bug, behind its name.
const FOUND: &str = " found after ";
const MISSED: &str = " NOT FOUND after ";

fn simulate(named: &str, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
    let program = program(named)?;
    let done = Command::new(&program).args(arguments).output()?;
    Ok((done.status.success(), String::from_utf8_lossy(&done.stdout).into_owned()))
}

/// The program that a variable names, or `cardea-simulate` beside this one.
fn program(named: &str) -> anyhow::Result<PathBuf> {
    let named = std::env::var_os(named).map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("cardea-simulate"));
    let path = named.or_else(beside).context("no cardea-simulate")?;
    ensure!(path.is_file(), "{} is no file", path.display());
    Ok(path)
}

/// R4: as many seeds as fit into the time.
pub async fn worlds(bench: &Bench) -> Lines {
    let until = Instant::now() + LENGTH * u32::try_from(bench.percent)? / 100;
    let (mut seeds, mut broken, mut next) = (0_u64, 0_usize, bench.seed % 1_000_000);
    while Instant::now() < until {
        let (from, count) = (next.to_string(), BATCH.to_string());
        let batch = ["--seed", &from, "--seeds", &count, "--jobs", "2"];
        let (good, said) = tokio::task::block_in_place(|| simulate(REAL, &batch))?;
        if !good {
            broken += said.lines().filter(|line| line.starts_with("again:")).count().max(1);
            (bench.say)(&said);
        }
        seeds += BATCH;
        next += BATCH;
    }
    Ok(vec![
        Line::new("R4.seeds", seeds as f64, "worlds", Bar::AtLeast(bench.part(500) as f64)),
        Line::count("R4.broken", broken, "worlds", Bar::Is(0.0)),
    ])
}

/// R5: every planted bug, in a build that has them.
pub async fn hunt(bench: &Bench) -> Lines {
    let minutes = (HUNT_MINUTES * bench.percent as f64 / 100.0).to_string();
    let arguments = ["planted", "--in-all", &minutes, "--jobs", "2"];
    let (good, said) = tokio::task::block_in_place(|| simulate(PLANTED, &arguments))?;
    (bench.say)(&said);
    let looked_for = said.contains(FOUND) || said.contains(MISSED);
    ensure!(looked_for, "no bug was looked for: a build with --features planted is needed");
    Ok(found(good, &said))
}

/// What a hunt gave, by how it ended and what it said. A bug that it says nothing of is
/// missed: it may have ended early.
fn found(good: bool, said: &str) -> Vec<Line> {
    let found = said.lines().filter_map(|line| line.split_once(FOUND));
    let found: BTreeSet<Bug> = found.filter_map(|(name, _)| Bug::named(name.trim())).collect();
    let bugs = Bug::ALL.len();
    vec![
        Line::count("R5.found", found.len(), "bugs", Bar::Is(bugs as f64)),
        Line::count("R5.missed", bugs - found.len(), "bugs", Bar::Is(0.0)),
        Line::count("R5.ended-badly", usize::from(!good), "hunts", Bar::Is(0.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunt_that_ends_early_has_missed_what_it_says_nothing_of() {
        let good = |lines: &[Line]| lines.iter().all(Line::is_good);
        let say =
            |bug: &Bug| format!("{:<26} found after 3 seeds, 2 s: seed 3: …\n", format!("{bug:?}"));
        let all: String = Bug::ALL.iter().map(say).collect();
        assert!(good(&found(true, &all)));
        assert!(!good(&found(false, &all)));
        let early: String = Bug::ALL.iter().take(15).map(say).collect();
        assert!(!good(&found(true, &early)));
        // One that is told twice is one.
        let twice = early.repeat(2);
        assert!(!good(&found(true, &twice)));
        assert!(!good(&found(true, &format!("{early}LocksOnWritesOnly NOT FOUND after 9 seeds"))));
    }
}
