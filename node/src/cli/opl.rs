//! `cardea opl`: checks, formats and tests permission languages, and puts them in
//! force.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use cardea_permission::{
    Service,
    assertion::{self, Report},
    change::NewLanguage,
    engine::Limits,
    opl::{self, SourceError, SourceFile},
};
use cardea_storage::{
    Clock, Entropy, KeyId, Keyring, Secret, Tenant, engine::memory::MemoryDisk, local::LocalShards,
};
use serde_json::{Value, json};

use super::{
    block_on,
    exit::{Failure, Outcome},
    output::{Printer, Tone},
};
use crate::{
    clock::SystemClock,
    entropy::SystemEntropy,
    operator::client::{Connection, OperatorClient},
};

/// What may be done with permission languages.
#[derive(Debug, clap::Subcommand)]
pub enum OplCommand {
    /// Check the files of a language
    Check {
        /// Its files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Write the files of a language as they should look
    Format {
        /// Its files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Change nothing, and fail if something would change
        #[arg(long)]
        check: bool,
    },
    /// Try a language: tuples, and what must follow from them
    #[command(
        after_help = "Assertions are lines: `Doc:1#owners@ann` is a tuple, `yes Doc:1#view@ann`, \
                      `no Doc:1#view@eve` and `error …` are asserted of the tuples before them.\n\n\
                      Example:\n  cardea opl test --language docs.ts docs.assert"
    )]
    Test {
        /// A file of the language; may be given more than once
        #[arg(long = "language", required = true, value_name = "FILE")]
        language: Vec<PathBuf>,
        /// Files of assertions, each begun without tuples
        #[arg(required = true, value_name = "FILE")]
        assertions: Vec<PathBuf>,
    },
    /// Show the language in force
    Show,
    /// Put a language in force
    Apply {
        /// Its files
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The version that it is to follow; another is refused
        #[arg(long, value_name = "VERSION")]
        follows: Option<u64>,
        /// Even if tuples name what it no longer declares
        #[arg(long)]
        force: bool,
    },
}

pub(super) fn run(command: OplCommand, connection: &Connection, printer: Printer) -> Outcome {
    match command {
        OplCommand::Check { files } => check(&read(&files)?, printer),
        OplCommand::Format { files, check } => format(&files, check, printer),
        OplCommand::Test { language, assertions } => {
            let language = read(&language)?;
            block_on(test(language, read(&assertions)?, printer))
        }
        OplCommand::Show => {
            let client = OperatorClient::new(connection)?;
            block_on(async {
                let language: Value = client.get("/admin/opl").await?;
                printer.print(&language, |language, _| {
                    let mut text = format!("// version {}\n", language["version"]);
                    for file in language["files"].as_array().into_iter().flatten() {
                        let part = |name: &str| file[name].as_str().unwrap_or_default();
                        text.push_str(&format!("\n// {}\n{}\n", part("name"), part("text")));
                    }
                    text
                })
            })
        }
        OplCommand::Apply { files, follows, force } => {
            let files = read(&files)?;
            namespaces(&files)?;
            let client = OperatorClient::new(connection)?;
            block_on(async {
                let done = put(&client, &files, follows, force).await?;
                printer.print(&done, |done, _| {
                    format!("Version {} of the permission language is in force.\n", done["version"])
                })
            })
        }
    }
}

/// The namespaces that files declare.
pub(super) fn namespaces(files: &[SourceFile]) -> Result<Vec<String>, Failure> {
    match opl::parse(files) {
        Ok(classes) => Ok(classes.into_iter().map(|class| class.name).collect()),
        Err(errors) => Err(Failure::Usage(told(files, &errors))),
    }
}

/// Puts a language in force.
pub(super) async fn put(
    client: &OperatorClient,
    files: &[SourceFile],
    follows: Option<u64>,
    force: bool,
) -> Result<Value, Failure> {
    let files: Vec<Value> =
        files.iter().map(|file| json!({"name": file.name, "text": file.text})).collect();
    let body = json!({"files": files, "follows": follows, "force": force});
    client.put("/admin/opl", &body, Duration::from_secs(60)).await
}

pub(super) fn read(files: &[PathBuf]) -> Result<Vec<SourceFile>, Failure> {
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("{} cannot be read", path.display()))?;
        Ok(SourceFile { name: name_of(path), text })
    };
    files.iter().map(read).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn told(files: &[SourceFile], errors: &[SourceError]) -> String {
    let lines: Vec<String> = errors
        .iter()
        .map(|error| {
            let file = files.get(error.file).map_or("", |file| file.name.as_str());
            format!("{file}:{error}")
        })
        .collect();
    lines.join("\n")
}

fn check(files: &[SourceFile], printer: Printer) -> Outcome {
    match opl::parse(files) {
        Ok(classes) => {
            let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
            printer.print(&json!({ "namespaces": names }), |_, _| {
                format!("{} namespaces, no errors.\n", names.len())
            })
        }
        Err(errors) => Err(Failure::Unhealthy(told(files, &errors))),
    }
}

fn format(paths: &[PathBuf], check: bool, printer: Printer) -> Outcome {
    let mut formatted = Vec::new();
    for path in paths {
        let files = read(std::slice::from_ref(path))?;
        let text = opl::format::format(&files[0].text)
            .map_err(|errors| Failure::Usage(told(&files, &errors)))?;
        if text != files[0].text {
            formatted.push((path, text));
        }
    }
    // Nothing is written before all of them could be read.
    let mut changed = Vec::new();
    for (path, text) in formatted {
        if !check {
            replace(path, &text)
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        changed.push(path.display().to_string());
    }
    if check && !changed.is_empty() {
        return Err(Failure::Unhealthy(format!("not formatted: {}", changed.join(", "))));
    }
    printer.print(&json!({ "changed": changed }), |_, _| {
        format!("{} of {} files were changed.\n", changed.len(), paths.len())
    })
}

/// Writes a file anew, whole or not at all: it may be the only copy that there is.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let path = path.canonicalize()?;
    let mut beside = path.clone().into_os_string();
    beside.push(".part");
    let written = std::fs::write(&beside, text)
        .and_then(|()| std::fs::set_permissions(&beside, std::fs::metadata(&path)?.permissions()))
        .and_then(|()| std::fs::rename(&beside, &path));
    if written.is_err() {
        std::fs::remove_file(&beside).ok();
    }
    written
}

/// A layer over a store in this process, which is gone with it.
fn trial() -> anyhow::Result<Service> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    let disk = MemoryDisk::new(0);
    let shards = LocalShards::open(&disk, Path::new("trial"), 1, clock)?;
    let ring = Keyring::new(vec![(KeyId(1), Secret::new(entropy.bytes()))]);
    let ring = ring.context("no key")?;
    Ok(Service::new(shards.store(entropy), &ring, Limits::default()))
}

async fn test(language: Vec<SourceFile>, assertions: Vec<SourceFile>, printer: Printer) -> Outcome {
    opl::parse(&language).map_err(|errors| Failure::Usage(told(&language, &errors)))?;
    let tenant = Tenant::default();
    let mut reports: Vec<(String, Report)> = Vec::new();
    for file in assertions {
        let statements = assertion::parse(&file.text)
            .map_err(|bad| Failure::Usage(format!("{}: {bad}", file.name)))?;
        let service = trial()?;
        let new = NewLanguage { files: language.clone(), follows: None, force: false };
        service.put_language(tenant, new).await.map_err(anyhow::Error::from)?;
        let report = service.assert(tenant, &statements).await.map_err(anyhow::Error::from)?;
        reports.push((file.name, report));
    }
    let asserted: usize = reports.iter().map(|(_, report)| report.asserted).sum();
    let broken: Vec<String> = reports
        .iter()
        .flat_map(|(name, report)| {
            report
                .broken
                .iter()
                .map(move |one| format!("{name}:{}: {} is {}", one.line, one.asked, one.found))
        })
        .collect();
    if !broken.is_empty() {
        return Err(Failure::Unhealthy(format!(
            "{} of {asserted} assertions do not hold:\n{}",
            broken.len(),
            broken.join("\n")
        )));
    }
    printer.print(&json!({ "asserted": asserted }), |_, colour| {
        let all = Tone::Good.paint("hold", colour);
        format!("{asserted} assertions {all}.\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Format;

    const LANGUAGE: &str = "class User implements Namespace {}\n\
        class Doc implements Namespace { related: { owners: User[] } permits = { \
        view: (ctx) => this.related.owners.includes(ctx.subject) } }";

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn printer() -> Printer {
        Printer::new(Format::Json)
    }

    #[test]
    fn assertions_decide_the_exit_code() {
        let dir = tempfile::tempdir().unwrap();
        let language = read(&[write(dir.path(), "docs.ts", LANGUAGE)]).unwrap();
        let run = |text: &str| {
            let file = read(&[write(dir.path(), "docs.assert", text)]).unwrap();
            block_on(test(language.clone(), file, printer()))
        };
        let good = "Doc:1#owners@ann\nyes Doc:1#view@ann\nno Doc:1#view@eve\n";
        run(good).unwrap();
        match run("no Doc:1#view@ann\nDoc:1#owners@ann\nno Doc:1#view@ann") {
            Err(Failure::Unhealthy(told)) => {
                assert_eq!(
                    told,
                    "1 of 2 assertions do not hold:\ndocs.assert:3: Doc:1#view@ann is yes"
                );
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(run("perhaps Doc:1#view@ann"), Err(Failure::Usage(_))));
    }

    #[test]
    fn formatting_writes_or_tells() {
        let dir = tempfile::tempdir().unwrap();
        let path = write(dir.path(), "docs.ts", LANGUAGE);
        let paths = [path.clone()];
        assert!(matches!(format(&paths, true, printer()), Err(Failure::Unhealthy(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), LANGUAGE);
        format(&paths, false, printer()).unwrap();
        format(&paths, true, printer()).unwrap();
        check(&read(&paths).unwrap(), printer()).unwrap();
        let bad = read(&[write(dir.path(), "bad.ts", "class")]).unwrap();
        assert!(matches!(check(&bad, printer()), Err(Failure::Unhealthy(_))));
    }

    #[test]
    fn formatting_changes_all_of_the_files_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let good = write(dir.path(), "docs.ts", LANGUAGE);
        let bad = write(dir.path(), "bad.ts", "class");
        let told = format(&[good.clone(), bad.clone()], false, printer());
        assert!(matches!(told, Err(Failure::Usage(_))));
        assert_eq!(std::fs::read_to_string(&good).unwrap(), LANGUAGE);
        std::fs::remove_file(bad).unwrap();
        format(&[good], false, printer()).unwrap();
        let left = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 1, "nothing is left beside it");
    }
}
