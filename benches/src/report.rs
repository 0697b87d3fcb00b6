//! What a run found: as JSON in a file, and as tables for people.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    gap::Gaps,
    load::Sample,
    machine::Machine,
    password::Bound,
    table::{Table, figure, mebibytes, ratio, whole},
};

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum System {
    /// Us.
    Cardea,
    /// Them.
    Etcd,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A committed write.
    Write,
    /// A read.
    Read,
    /// A login.
    Login,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Who was asked.
    pub system: System,
    /// What was asked.
    pub kind: Kind,
    /// Whom clients asked: `spread` over the nodes, the `leader`, or a `follower`.
    pub route: &'static str,
    /// How fresh a read had to be.
    pub consistency: &'static str,
    /// What came of it.
    pub sample: Sample,
}

/// Memory of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// The node.
    pub name: String,
    /// Before any load, in bytes.
    pub idle_bytes: u64,
    /// After all of it, in bytes.
    pub loaded_bytes: u64,
}

/// A whole run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where it ran.
    pub machine: Machine,
    /// What was compared, in sentences.
    pub terms: Vec<String>,
    /// The measurements.
    pub findings: Vec<Finding>,
    /// The bound of logins.
    pub bound: Option<Bound>,
    /// Memory by node.
    pub resident: Vec<Resident>,
    /// Leader losses of ours.
    pub gaps: Option<Gaps>,
    /// Leader losses of theirs.
    pub etcd_gaps: Option<Gaps>,
}

impl Report {
    /// An empty one.
    pub fn new(machine: Machine, terms: Vec<String>) -> Self {
        Self {
            machine,
            terms,
            findings: Vec::new(),
            bound: None,
            resident: Vec::new(),
            gaps: None,
            etcd_gaps: None,
        }
    }

    /// The best of those measurements that were alike but for the route.
    pub(crate) fn best(
        &self,
        system: System,
        kind: Kind,
        clients: usize,
        wanted: impl Fn(&Finding) -> bool,
    ) -> Option<&Finding> {
        let alike = self.findings.iter().filter(|finding| {
            finding.system == system
                && finding.kind == kind
                && finding.sample.clients == clients
                && finding.sample.offered_per_s.is_none()
                && wanted(finding)
        });
        alike.max_by(|a, b| a.sample.rate.total_cmp(&b.sample.rate))
    }

    fn closed(&self, kind: Kind) -> Vec<&Finding> {
        let of_kind = self.findings.iter().filter(|finding| {
            finding.system == System::Cardea
                && finding.kind == kind
                && finding.sample.offered_per_s.is_none()
        });
        of_kind.collect()
    }

    fn writes(&self) -> Option<String> {
        let mut table = Table::new([
            "writes",
            "clients",
            "writes/s",
            "p50 ms",
            "p99 ms",
            "etcd puts/s",
            "p50 ms",
            "p99 ms",
            "ratio",
        ]);
        let ours = self.closed(Kind::Write);
        for Finding { route, sample, .. } in &ours {
            let theirs = self.best(System::Etcd, Kind::Write, sample.clients, |_| true);
            let [rate, p50, p99, times] = beside(sample.rate, theirs);
            table.row([
                (*route).to_owned(),
                whole(sample.clients as f64),
                whole(sample.rate),
                figure(sample.latency.p50_ms),
                figure(sample.latency.p99_ms),
                rate,
                p50,
                p99,
                times,
            ]);
        }
        let about = "Committed writes, closed loop (beside the better of etcd's routes)";
        (!ours.is_empty()).then(|| format!("{about}\n\n{table}"))
    }

    fn reads(&self) -> Option<String> {
        let mut table = Table::new([
            "whoami",
            "clients",
            "reads/s",
            "p50 ms",
            "p99 ms",
            "etcd ranges/s",
            "p50 ms",
            "p99 ms",
            "ratio",
        ]);
        let ours = self.closed(Kind::Read);
        for Finding { route, consistency, sample, .. } in &ours {
            let wanted = if *consistency == "strong" { "linearizable" } else { "serializable" };
            let theirs = self.best(System::Etcd, Kind::Read, sample.clients, |finding| {
                finding.consistency == wanted
            });
            let [rate, p50, p99, times] = beside(sample.rate, theirs);
            table.row([
                format!("{consistency}, {route}"),
                whole(sample.clients as f64),
                whole(sample.rate),
                figure(sample.latency.p50_ms),
                figure(sample.latency.p99_ms),
                rate,
                p50,
                p99,
                times,
            ]);
        }
        (!ours.is_empty()).then(|| {
            format!(
                "Session checks, closed loop (strong beside etcd's linearizable reads, bounded \
                 beside its serializable ones)\n\n{table}"
            )
        })
    }

    fn open(&self) -> Option<String> {
        let mut table = Table::new([
            "open loop",
            "offered/s",
            "done/s",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
        ]);
        let mut any = false;
        for Finding { system, kind, consistency, sample, .. } in &self.findings {
            let Some(offered) = sample.offered_per_s else { continue };
            any = true;
            let what = match (system, kind) {
                (System::Cardea, Kind::Read) => format!("cardea, {consistency} whoami"),
                (System::Cardea, _) => "cardea, writes".to_owned(),
                (System::Etcd, Kind::Read) => format!("etcd, {consistency} ranges"),
                (System::Etcd, _) => "etcd, puts".to_owned(),
            };
            let latency = &sample.latency;
            table.row([
                what,
                whole(offered),
                whole(sample.rate),
                figure(latency.p50_ms),
                figure(latency.p99_ms),
                figure(latency.p999_ms),
                figure(latency.max_ms),
            ]);
        }
        let about = "The same at a fixed rate of arrivals: latency from when a request was due";
        any.then(|| format!("{about}\n\n{table}"))
    }

    fn rest(&self) -> Option<String> {
        let mut table = Table::new(["", "found", "goal"]);
        let mut any = false;
        let mut row = |name: &str, found: String, goal: &str| {
            any = true;
            table.row([name.to_owned(), found, goal.to_owned()]);
        };
        if let (Some(bound), Some(login)) = (self.bound, self.closed(Kind::Login).first()) {
            let share = 100.0 * login.sample.rate / bound.hashes_per_s;
            let p99 = figure(login.sample.latency.p99_ms);
            row("bare argon2id hashes/s", figure(bound.hashes_per_s), "");
            row("logins/s", format!("{} (p99 {p99} ms)", figure(login.sample.rate)), "");
            row("logins of the bound", format!("{share:.0} %"), "≥ 90 %");
        }
        if let Some(most) = self.resident.iter().map(|node| node.idle_bytes).max() {
            row("idle node, resident", mebibytes(most), "< 64 MB");
        }
        if let Some(most) = self.resident.iter().map(|node| node.loaded_bytes).max() {
            row("the same after the load", mebibytes(most), "");
        }
        for (name, gaps, goal) in [
            ("leader killed", &self.gaps, "median < 1 s, worst < 2 s"),
            ("leader of etcd killed", &self.etcd_gaps, ""),
        ] {
            if let Some(gaps) = gaps {
                let (median, worst) = (whole(gaps.median_ms), whole(gaps.worst_ms));
                let found = format!("median {median} ms, worst {worst} ms of {}", gaps.kills.len());
                row(&format!("{name}: no write for"), found, goal);
            }
        }
        any.then(|| table.to_string())
    }

    fn failures(&self) -> Option<String> {
        let bad = self.findings.iter().filter(|finding| finding.sample.failed() > 0);
        let lines: Vec<String> = bad
            .map(|Finding { system, kind, route, sample, .. }| {
                format!(
                    "- {system:?} {kind:?} {route} with {} clients: {} without an answer, refused by \
                     status {:?}\n",
                    sample.clients, sample.broken, sample.refused
                )
            })
            .collect();
        (!lines.is_empty())
            .then(|| format!("Not everything was answered as it should:\n\n{}", lines.concat()))
    }

    fn costs(&self) -> Option<String> {
        let mut table =
            Table::new(["cores used", "rate/s", "generator", "each server", "µs/request"]);
        let mut any = false;
        for Finding { system, kind, route, consistency, sample } in &self.findings {
            let [generator, servers @ ..] = sample.costs.as_slice() else { continue };
            any = true;
            let each: Vec<String> = servers.iter().map(|cost| figure(cost.cores)).collect();
            let total: f64 = servers.iter().map(|cost| cost.cores).sum();
            let open = if sample.offered_per_s.is_some() { " open" } else { "" };
            let name =
                format!("{system:?} {kind:?} {consistency} {route} {}{open}", sample.clients)
                    .to_lowercase()
                    .split_whitespace()
                    .collect::<Vec<_>>()
                    .join(" ");
            table.row([
                name,
                whole(sample.rate),
                figure(generator.cores),
                each.join(" + "),
                whole(1e6 * total / sample.rate.max(1e-9)),
            ]);
        }
        any.then(|| {
            format!("What it cost: cores used while measured; processor time of the servers a request\n\n{table}")
        })
    }

    /// The tables.
    pub fn markdown(&self) -> String {
        let Machine { processor, cores, memory_bytes, kernel, load_before } = &self.machine;
        let gib = memory_bytes >> 30;
        let mut text = format!(
            "{processor}, {cores} cores, {gib} GiB, Linux {kernel}; load before the run {load_before}.\n"
        );
        for term in &self.terms {
            text.push_str(term);
            text.push('\n');
        }
        let parts =
            [self.writes(), self.reads(), self.open(), self.rest(), self.failures(), self.costs()];
        for part in parts.into_iter().flatten() {
            text.push('\n');
            text.push_str(&part);
        }
        text
    }

    /// Writes the report as JSON.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        write_json(file, self)
    }
}

fn beside(ours: f64, theirs: Option<&Finding>) -> [String; 4] {
    match theirs {
        None => ["–", "–", "–", "–"].map(str::to_owned),
        Some(Finding { sample, .. }) => [
            whole(sample.rate),
            figure(sample.latency.p50_ms),
            figure(sample.latency.p99_ms),
            ratio(ours, sample.rate),
        ],
    }
}

/// Writes results as JSON.
///
/// # Errors
/// If they cannot be written.
pub fn write_json(file: &Path, results: &impl Serialize) -> anyhow::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let text = serde_json::to_string_pretty(results)?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

/// Says something on standard output. It may be closed; results are in a file too.
pub fn say(text: &str) {
    let mut out = io::stdout().lock();
    let _closed = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    let _closed = out.flush();
}

/// Says on standard error what is being done.
pub fn note(text: &str) {
    let _closed = writeln!(io::stderr().lock(), "    {text}");
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        cost::Cost,
        gap::Gap,
        load::{Outcome, Tally},
    };

    fn finding(system: System, kind: Kind, route: &'static str, count: usize) -> Finding {
        let mut tally = Tally::default();
        for _ in 0..count {
            tally.record(Outcome::Done, Duration::from_millis(4));
        }
        let cost = |name: &str, cores| Cost { name: name.to_owned(), cpu_seconds: cores, cores };
        let costs = vec![cost("generator", 0.2), cost("one", 0.5), cost("two", 0.25)];
        let consistency = match (kind, system) {
            (Kind::Read, System::Etcd) => "linearizable",
            (Kind::Read, System::Cardea) => "strong",
            _ => "",
        };
        Finding { system, kind, route, consistency, sample: tally.sample(16, 1.0, costs) }
    }

    fn report() -> Report {
        let machine = Machine {
            processor: "Some CPU".to_owned(),
            cores: 2,
            memory_bytes: 24 << 30,
            kernel: "6.1".to_owned(),
            load_before: "0.10".to_owned(),
        };
        let mut report = Report::new(machine, vec!["Terms.".to_owned()]);
        report.findings = vec![
            finding(System::Cardea, Kind::Write, "spread", 3000),
            finding(System::Etcd, Kind::Write, "spread", 1000),
            finding(System::Etcd, Kind::Write, "leader", 1500),
            finding(System::Cardea, Kind::Read, "follower", 900),
            finding(System::Etcd, Kind::Read, "spread", 300),
            finding(System::Cardea, Kind::Login, "spread", 45),
        ];
        report.bound = Some(Bound { threads: 2, hashes_per_s: 50.0 });
        report.gaps = Gaps::of(vec![Gap { gap_ms: 412.0, acknowledged: 9, failed: 1 }]);
        report.resident = vec![Resident {
            name: "cardea 1".to_owned(),
            idle_bytes: 40 << 20,
            loaded_bytes: 80 << 20,
        }];
        report
    }

    #[test]
    fn ours_stands_beside_the_best_of_theirs() {
        let text = report().markdown();
        for part in [
            "| spread |      16 |    3,000 |",
            "1,500",
            "2.00×",
            "strong, follower",
            "3.00×",
            "90 %",
            "40.0 MiB",
            "median 412 ms, worst 412 ms of 1",
            "cardea write spread 16",
            "0.50 + 0.25",
            "250",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("Not everything"), "{text}");
    }

    #[test]
    fn what_failed_is_said() {
        let mut report = report();
        report.findings[0].sample.refused = BTreeMap::from([(503, 7)]);
        assert!(report.markdown().contains("{503: 7}"));
    }

    #[test]
    fn a_report_is_written_as_json() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a/b.json");
        report().write(&file).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(read["findings"][0]["system"], "cardea");
        assert_eq!(read["findings"][1]["sample"]["rate"], 1000.0);
    }
}
