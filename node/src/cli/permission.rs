//! `cardea permission`: relation tuples in and out by the million.
//!
//! An import sends its lines in parts and waits for answers, a few parts under way at
//! once. It says how far everything is there; who was cut short begins there again, and
//! what was sent twice does no harm.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{FutureExt as _, StreamExt as _, stream::FuturesOrdered};
use serde::{Deserialize, Serialize};

use super::{
    exit::{Failure, Outcome},
    output::Printer,
    progress::{Bar, again},
};
use crate::operator::client::OperatorClient;

const IMPORT: &str = "/admin/relation-tuples/import";

/// Bytes of one part, at most, but for one long line: below what listeners take.
pub(super) const PART_BYTES: usize = 2 << 20;
/// Lines of one part, at most.
pub(super) const PART_LINES: u64 = 20_000;
/// How long one part may take: longer than a node waits for itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// What may be done with relation tuples.
#[derive(Debug, clap::Subcommand)]
pub enum PermissionCommand {
    /// Make the relation tuples of files
    #[command(
        after_help = "A line is a relation tuple as JSON in Keto's form, with \"expires_at\" and \
                      \"condition\" if it has them, or namespace:object#relation@subject. A file \
                      may also be one JSON array, as Keto's own command takes it.\n\nExamples:\n  \
                      cardea permission import tuples.ndjson\n  \
                      cardea permission import --from-line 2000001 tuples.ndjson"
    )]
    Import {
        /// A file; - for standard input
        #[arg(default_value = "-", value_name = "FILE")]
        file: PathBuf,
        /// Begin with this line, as an import that was cut short says
        #[arg(long, default_value_t = 1, value_name = "LINE")]
        from_line: u64,
        /// Parts under way at once
        #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
        parallel: u8,
    },
    /// Write relation tuples as lines of JSON, all of one instant
    Export {
        /// Only those of this namespace
        #[arg(long, value_name = "NAME")]
        namespace: Option<String>,
        /// Write here instead of to standard output; nothing is left of one that broke off
        #[arg(long, short = 'f', value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// What an import came to.
#[derive(Debug, Default, Serialize)]
struct Imported {
    lines: u64,
    imported: u64,
    repeated: u64,
    seconds: f64,
}

/// What became of a part.
#[derive(Deserialize)]
pub(super) struct PartTaken {
    pub(super) imported: u64,
    repeated: u64,
}

pub(super) async fn run(
    command: PermissionCommand,
    client: &OperatorClient,
    printer: Printer,
) -> Outcome {
    match command {
        PermissionCommand::Import { file, from_line, parallel } => {
            let done = import(client, &file, from_line, usize::from(parallel)).await?;
            printer.print(&done, |done, _| {
                let rate = done.imported as f64 / done.seconds.max(0.001);
                format!(
                    "{} relation tuples are there, of {} lines ({} named one again), {rate:.0} a \
                     second.\n",
                    done.imported, done.lines, done.repeated
                )
            })
        }
        PermissionCommand::Export { namespace, file } => {
            export(client, namespace.as_deref(), file.as_deref(), printer).await
        }
    }
}

/// Lines of a file, in parts.
struct Parts {
    input: Box<dyn BufRead + Send>,
    /// Bytes of the whole, where they are known.
    total: Option<u64>,
    /// The next line.
    line: u64,
    bytes: u64,
}

struct Part {
    text: String,
    /// The first and the one behind the last.
    lines: std::ops::Range<u64>,
    /// Bytes of the file up to its end.
    until: u64,
}

impl Parts {
    fn open(file: &Path) -> anyhow::Result<Self> {
        let mut input: Box<dyn BufRead + Send> = match file.to_str() {
            Some("-") => Box::new(BufReader::new(std::io::stdin())),
            _ => Box::new(BufReader::with_capacity(
                1 << 20,
                File::open(file).with_context(|| format!("{} cannot be read", file.display()))?,
            )),
        };
        let total = std::fs::metadata(file).ok().filter(|_| file.to_str() != Some("-"));
        let mut total = total.map(|known| known.len());
        let first = input.fill_buf()?.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
        if first == Some(b'[') {
            // What Keto's own command takes: one array.
            let mut text = String::new();
            input.read_to_string(&mut text)?;
            let all: Vec<serde_json::Value> =
                serde_json::from_str(&text).context("the array of relation tuples")?;
            let lines: String = all.iter().map(|one| format!("{one}\n")).collect();
            total = Some(lines.len() as u64);
            input = Box::new(std::io::Cursor::new(lines.into_bytes()));
        }
        Ok(Self { input, total, line: 1, bytes: 0 })
    }

    /// Leaves out what is before a line.
    fn skip_to(&mut self, line: u64) -> anyhow::Result<()> {
        let mut skipped = Vec::new();
        while self.line < line {
            skipped.clear();
            let read = self.input.read_until(b'\n', &mut skipped)?;
            anyhow::ensure!(read > 0, "there is no line {line}: there are {}", self.line - 1);
            self.bytes += read as u64;
            self.line += 1;
        }
        Ok(())
    }

    fn next(&mut self) -> anyhow::Result<Option<Part>> {
        let (first, mut text) = (self.line, String::new());
        while text.len() < PART_BYTES && self.line - first < PART_LINES {
            let read = self.input.read_line(&mut text)?;
            if read == 0 {
                break;
            }
            self.bytes += read as u64;
            self.line += 1;
        }
        let lines = first..self.line;
        Ok((!text.is_empty()).then_some(Part { text, lines, until: self.bytes }))
    }
}

async fn import(
    client: &OperatorClient,
    file: &Path,
    from_line: u64,
    parallel: usize,
) -> Result<Imported, Failure> {
    let mut parts = Parts::open(file)?;
    parts.skip_to(from_line)?;
    // A part waits for a node that comes back, but not for one that was never there.
    let _: serde_json::Value = client.get("/health/alive").await?;
    let (began, total) = (Instant::now(), parts.total);
    let mut bar = Bar::new("tuples", total);
    let mut done = Imported::default();
    // Answers are taken in order, so that everything before the last one is there.
    let mut under_way = FuturesOrdered::new();
    let mut here = from_line;
    let mut unread = None;
    loop {
        while under_way.len() < parallel && unread.is_none() {
            match parts.next() {
                Ok(Some(Part { text, lines, until })) => {
                    let sent = send(client, text.into());
                    under_way.push_back(sent.map(move |taken| (lines, until, taken)));
                }
                Ok(None) => break,
                Err(error) => unread = Some(error),
            }
        }
        let Some((lines, until, taken)) = under_way.next().await else { break };
        let taken = taken.map_err(|failure| {
            bar.clear();
            let told = format!(
                "the part from line {} on failed; everything before line {here} is there. \
                 Continue with --from-line {here}. (Line numbers of the cause count from line \
                 {}.) {failure}",
                lines.start, lines.start
            );
            match failure {
                Failure::Unavailable(_) => Failure::Unavailable(told),
                _ => Failure::Failed(anyhow::anyhow!(told)),
            }
        })?;
        here = lines.end;
        done.lines += lines.end - lines.start;
        done.imported += taken.imported;
        done.repeated += taken.repeated;
        bar.show(until, done.imported, began.elapsed());
    }
    bar.clear();
    if let Some(error) = unread {
        let told = format!(
            "line {} cannot be read; everything before line {here} is there. Continue with \
             --from-line {here}",
            parts.line
        );
        return Err(error.context(told).into());
    }
    done.seconds = began.elapsed().as_secs_f64();
    Ok(done)
}

/// Sends a part, again while nobody can take it now: taking it twice does no harm.
pub(super) async fn send(
    client: &OperatorClient,
    text: bytes::Bytes,
) -> Result<PartTaken, Failure> {
    again(async || client.post_bytes(IMPORT, text.clone(), PATIENCE).await).await
}

async fn export(
    client: &OperatorClient,
    namespace: Option<&str>,
    file: Option<&Path>,
    printer: Printer,
) -> Outcome {
    let path = match namespace {
        None => "/admin/relation-tuples/export".to_owned(),
        Some(name) => {
            let mut query = String::new();
            for byte in name.bytes() {
                match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                        query.push(char::from(byte));
                    }
                    _ => query.push_str(&format!("%{byte:02X}")),
                }
            }
            format!("/admin/relation-tuples/export?namespace={query}")
        }
    };
    // Where a link leads; a device or a pipe is written to, and nothing put in its place.
    let target = file.map(|file| file.canonicalize().unwrap_or_else(|_| file.to_owned()));
    let whole_file = |target: &&PathBuf| !target.exists() || target.is_file();
    let beside = target.as_ref().filter(whole_file).map(|target| {
        let mut name = target.as_os_str().to_owned();
        name.push(".part");
        PathBuf::from(name)
    });
    let written = beside.as_ref().or(target.as_ref());
    let mut out: Box<dyn std::io::Write + Send> = match written {
        Some(written) => Box::new(BufWriter::new(
            File::create(written).with_context(|| written.display().to_string())?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let (began, mut bar, mut bytes, mut lines) =
        (Instant::now(), Bar::new("tuples", None), 0_u64, 0_u64);
    if file.is_none() {
        bar.hide();
    }
    let mut take = |data: &[u8]| -> anyhow::Result<()> {
        out.write_all(data)?;
        bytes += data.len() as u64;
        lines += data.iter().filter(|byte| **byte == b'\n').count() as u64;
        bar.show(bytes, lines, began.elapsed());
        Ok(())
    };
    let exported = tokio::select! {
        exported = client.stream(&path, "x-cardea-export", &mut take) => exported,
        _ = tokio::signal::ctrl_c(), if file.is_some() => {
            Err(Failure::Failed(anyhow::anyhow!("interrupted")))
        }
    };
    bar.clear();
    let flushed = out.flush().map_err(anyhow::Error::from);
    drop(out);
    let whole = match exported.and_then(|whole| flushed.map(|()| whole).map_err(Failure::from)) {
        Ok(whole) => whole,
        Err(failure) => {
            if let Some(beside) = &beside {
                std::fs::remove_file(beside).ok();
            }
            // As elsewhere: a reader that went away (`| head`) is no error.
            return if file.is_none() && is_closed(&failure) { Ok(()) } else { Err(failure) };
        }
    };
    let (Some(file), Some(target)) = (file, target) else { return Ok(()) };
    if let Some(beside) = beside {
        std::fs::rename(&beside, target)
            .inspect_err(|_| {
                std::fs::remove_file(&beside).ok();
            })
            .with_context(|| file.display().to_string())?;
    }
    let snapshot = whole.as_deref() == Some("snapshot");
    let told = serde_json::json!({"relation_tuples": lines, "of_one_instant": snapshot});
    printer.print(&told, |_, _| {
        let of = if snapshot { "all of one instant" } else { "each page of its own instant" };
        format!("{lines} relation tuples were written to {}, {of}.\n", file.display())
    })
}

/// Whether whoever read standard output has gone away.
fn is_closed(failure: &Failure) -> bool {
    let Failure::Failed(error) = failure else { return false };
    error
        .root_cause()
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
