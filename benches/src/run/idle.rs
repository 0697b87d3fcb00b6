//! `cardea-bench idle`: what a cluster costs that nobody asks anything, by how many
//! shards it has. Each shard is a Raft group of three voters; its leader has to be
//! heard of, and its followers have to notice if it is not.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::json;

use crate::{
    cardea::{Cluster, program},
    cost::{Cost, Meter, Process},
    machine::{Machine, check_disk},
    report::{note, say, write_json},
    table::{Table, mebibytes, whole},
};

/// How long a cluster is given until all its shards are led and have all voters.
const PATIENCE: Duration = Duration::from_secs(600);
/// Cores that three nodes with 200 groups may use in all.
const GOAL_CORES: f64 = 0.1;

/// How it is run.
#[derive(Debug, Clone, clap::Args)]
pub struct IdleArgs {
    /// Home shards; each count is measured with a new cluster, which has three more
    /// groups: its directory, identifiers, relation tuples
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "4,197")]
    pub shards: Vec<u16>,
    /// Seconds that are measured
    #[arg(long, default_value_t = 30.0)]
    pub seconds: f64,
    /// Seconds that it is left alone before
    #[arg(long, default_value_t = 20.0)]
    pub rest: f64,
    /// The binary that is started; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// Where data is kept while it runs, and the results
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    pub dir: PathBuf,
}

/// What a cluster of so many groups cost.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    groups: u32,
    /// From the start of the processes until all was well.
    formed_s: f64,
    /// Of each node.
    cores: Vec<f64>,
    /// Of each node.
    resident_bytes: Vec<u64>,
}

/// Runs it.
///
/// # Errors
/// If a cluster is not well within ten minutes.
pub async fn run(args: &IdleArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(&args.dir)?;
    check_disk(&args.dir)?;
    let program = program(args.cardea.clone())?;
    let mut findings = Vec::new();
    for shards in &args.shards {
        let root = args.dir.join(format!("idle-{}-{shards}", std::process::id()));
        let found = measure(args, &program, &root, *shards).await;
        // Best effort: what is left can be removed by hand.
        drop(std::fs::remove_dir_all(&root));
        findings.push(found?);
    }
    write_json(
        &args.dir.join("idle.json"),
        &json!({ "machine": Machine::here(), "findings": findings }),
    )?;
    say(&format!("Three nodes that nobody asks anything\n\n{}", table(&findings)));
    Ok(())
}

async fn measure(
    args: &IdleArgs,
    program: &std::path::Path,
    root: &std::path::Path,
    shards: u16,
) -> anyhow::Result<Finding> {
    note(&format!("three nodes with {shards} home shards"));
    let plan = json!({ "home_shards": shards });
    let started = std::time::Instant::now();
    let mut cluster = Cluster::start_with(program, root, true, &plan, PATIENCE).await?;
    let formed_s = started.elapsed().as_secs_f64();
    note(&format!("all is well after {formed_s:.1} s"));
    tokio::time::sleep(Duration::from_secs_f64(args.rest)).await;
    let nodes = cluster.processes();
    let meter = Meter::start(&nodes);
    tokio::time::sleep(Duration::from_secs_f64(args.seconds)).await;
    // The first is the generator, which sleeps.
    let cores: Vec<f64> =
        meter.stop().into_iter().skip(1).map(|Cost { cores, .. }| cores).collect();
    // One that died would cost nothing.
    anyhow::ensure!(cores.len() == nodes.len(), "a node died while it was measured");
    let resident_bytes = nodes.iter().map(Process::resident_bytes).collect::<Result<_, _>>()?;
    let stopped = cluster.stop().await?;
    note(&format!("the nodes drained and stopped in {:.1} s", stopped.as_secs_f64()));
    Ok(Finding { groups: u32::from(shards) + 3, formed_s, cores, resident_bytes })
}

fn table(findings: &[Finding]) -> Table {
    let mut table =
        Table::new(["groups", "formed s", "cores of all three", "goal", "a node, resident"]);
    for found in findings {
        let most = found.resident_bytes.iter().copied().max().unwrap_or_default();
        table.row([
            whole(f64::from(found.groups)),
            format!("{:.1}", found.formed_s),
            format!("{:.3}", found.cores.iter().sum::<f64>()),
            format!("< {GOAL_CORES}"),
            mebibytes(most),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_are_summed_and_the_largest_is_told() {
        let found = Finding {
            groups: 200,
            formed_s: 12.34,
            cores: vec![0.01, 0.02, 0.03],
            resident_bytes: vec![1 << 20, 64 << 20, 2 << 20],
        };
        let text = table(&[found]).to_string();
        for told in ["200", "12.3", "0.060", "< 0.1", "64.0 MiB"] {
            assert!(text.contains(told), "{told}: {text}");
        }
    }
}
