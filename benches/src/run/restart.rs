//! `cardea-bench restart`: how long a node, and all three, take from their start to
//! being ready, with the data that `load --data` left; after a clean stop, and after
//! `kill -9` with writes that no flush has seen.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde::Serialize;

use super::load::{Target, fill};
use crate::{
    cardea::{Cluster, program},
    cost::Meter,
    machine::{Machine, check_disk},
    report::{note, say, write_json},
    table::{Table, mebibytes, whole},
};

/// How long a node is given.
const PATIENCE: Duration = Duration::from_secs(180);

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct RestartArgs {
    /// The data of three nodes, as `load --data` leaves it
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// How many identities are there; more are made before each kill
    #[arg(long, default_value_t = 1_000_000)]
    pub identities: u64,
    /// Identities made before each kill
    #[arg(long, default_value_t = 5_000)]
    pub more: u64,
    /// How often each case is measured
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// The binary that is started; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// Where results are kept
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub dir: PathBuf,
}

/// A case and how long each of its rounds took.
#[derive(Debug, Clone, Serialize)]
struct Case {
    name: &'static str,
    goal_s: f64,
    seconds: Vec<f64>,
}

impl Case {
    fn new(name: &'static str, goal_s: f64) -> Self {
        Self { name, goal_s, seconds: Vec::new() }
    }

    fn note(&mut self, took: Duration) {
        note(&format!("{}: ready after {:.2} s", self.name, took.as_secs_f64()));
        self.seconds.push(took.as_secs_f64());
        self.seconds.sort_by(f64::total_cmp);
    }
}

/// Runs it.
///
/// # Errors
/// If nodes do not come up within 3 minutes.
pub async fn run(args: &RestartArgs) -> anyhow::Result<()> {
    check_disk(&args.data)?;
    let program = program(args.cardea.clone())?;
    let mut cluster = Cluster::start(&program, &args.data, true).await?;
    let target = Target { admin: cluster.admin(), api_key: None };
    let mut next = target.resume(args.identities).await?;
    anyhow::ensure!(
        next == args.identities,
        "{} of {} identities are in {}; `cardea-bench load --data` makes the others",
        whole(next as f64),
        whole(args.identities as f64),
        args.data.display()
    );
    let mut cases = [
        Case::new("one node, clean stop, the others serving", 5.0),
        Case::new("one node, kill -9, the others serving", 15.0),
        Case::new("all nodes, clean stop", 5.0),
        Case::new("all nodes, kill -9", 15.0),
    ];
    for round in 0..args.rounds {
        let index = round % cluster.nodes().len();
        cluster.nodes()[index].server.stop(PATIENCE).await?;
        cases[0].note(start(&mut cluster, Some(index)).await?);

        next = more(&cluster, next, args.more).await?;
        cluster.nodes()[index].server.kill().await?;
        cases[1].note(start(&mut cluster, Some(index)).await?);

        cluster.stop().await?;
        cases[2].note(start(&mut cluster, None).await?);

        next = more(&cluster, next, args.more).await?;
        for node in cluster.nodes() {
            node.server.kill_now()?;
        }
        for node in cluster.nodes() {
            node.server.ended(PATIENCE).await?;
        }
        cases[3].note(start(&mut cluster, None).await?);
    }
    let resident: Vec<u64> =
        cluster.processes().iter().filter_map(|process| process.resident_bytes().ok()).collect();
    cluster.stop().await?;
    write_json(
        &args.dir.join("restart.json"),
        &serde_json::json!({
            "machine": Machine::here(), "identities": next, "cases": cases, "resident_bytes": resident,
        }),
    )?;
    let most = resident.into_iter().max().unwrap_or_default();
    say(&format!(
        "Ready with {} identities; at the end a node had {} resident\n\n{}",
        whole(next as f64),
        mebibytes(most),
        table(&cases)
    ));
    Ok(())
}

/// Starts one node or all, waits until it or all are ready, and then until the
/// cluster is well, which does not count.
async fn start(cluster: &mut Cluster, index: Option<usize>) -> anyhow::Result<Duration> {
    let started = Instant::now();
    let chosen = |number: usize| index.is_none_or(|index| index == number);
    for (number, node) in cluster.nodes().iter_mut().enumerate() {
        if chosen(number) {
            node.server.start()?;
        }
    }
    for (number, node) in cluster.nodes().iter_mut().enumerate() {
        if chosen(number) {
            node.await_ready(PATIENCE).await?;
        }
    }
    let took = started.elapsed();
    cluster.await_well(PATIENCE).await?;
    Ok(took)
}

async fn more(cluster: &Cluster, next: u64, count: u64) -> anyhow::Result<u64> {
    let target = Target { admin: cluster.admin(), api_key: None };
    fill(target, next..next + count, 64, Meter::start(&[])).await?;
    Ok(next + count)
}

fn table(cases: &[Case]) -> Table {
    let mut table = Table::new(["ready after", "median s", "worst s", "goal s"]);
    for case in cases {
        let at =
            |index: usize| case.seconds.get(index).map_or("–".to_owned(), |s| format!("{s:.2}"));
        table.row([
            case.name.to_owned(),
            at(case.seconds.len() / 2),
            at(case.seconds.len().saturating_sub(1)),
            format!("{:.0}", case.goal_s),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_and_worst_are_told_beside_the_goal() {
        let mut case = Case::new("a node", 5.0);
        for ms in [900, 300, 500] {
            case.note(Duration::from_millis(ms));
        }
        let text = table(&[case, Case::new("nothing", 15.0)]).to_string();
        assert!(text.contains("| a node      |     0.50 |    0.90 |      5 |"), "{text}");
        assert!(text.contains("–"), "{text}");
    }
}
