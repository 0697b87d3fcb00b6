//! `cardea import ory`: bringing identities along from Ory Kratos, and relation tuples
//! from Ory Keto.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    block_on,
    exit::{Failure, Outcome},
    keto::{self, Tuples},
    output::{Printer, Table, Tone},
    progress::{Bar, again},
    schema,
};
use crate::{
    operator::client::{Connection, OperatorClient},
    ory::{Database, config, survey::Survey},
};

/// Identities that are sent together. Each is a transaction of its own.
const AT_ONCE: usize = 100;
/// Bytes that are sent together, well below what a node takes.
const BYTES_AT_ONCE: usize = 512 * 1024;
/// Refusals that are shown; a report holds them all.
const SHOWN_MAX: usize = 20;
/// How often an identity is sent that the store could not take, and how long it rests between.
const ATTEMPTS_MAX: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// How long a batch may take.
const PATIENCE: Duration = Duration::from_secs(120);
const IMPORT: &str = "/admin/import/identities";

/// From where identities and relation tuples may be brought.
#[derive(Debug, clap::Subcommand)]
pub enum ImportCommand {
    /// Bring identities along from Ory Kratos, relation tuples from Ory Keto; may be done again for
    /// what changed since
    #[command(
        after_help = "The database is a SQLite file, or a dump by `pg_dump --format=plain`. Ids, \
                      times, states, addresses and passwords are brought as they are; a password \
                      is hashed anew when its owner logs in. What changed here since the last \
                      import stays as it is here. Sessions are brought by --sessions; browsers \
                      stay signed in if `secrets.imported_cookies_file` is set.\n\nOf relation tuples that \
                      Keto holds several times one is brought, and the others are counted. Files \
                      of its permission language are put in force before.\n\nExample:\n  cardea \
                      import ory kratos.sql --config kratos.yml --dry-run\n  cardea import ory \
                      kratos.sql --config kratos.yml --report import.jsonl\n  cardea import ory \
                      keto.sql --opl namespaces.keto.ts"
    )]
    Ory(OryArgs),
}

/// What is brought from Ory.
#[derive(Debug, clap::Args)]
pub struct OryArgs {
    /// The database of Kratos or of Keto
    #[arg(value_name = "FILE")]
    pub database: PathBuf,
    /// Kratos's configuration, for its identity schemas
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keto's permission language; may be given more than once
    #[arg(long, value_name = "FILE")]
    pub opl: Vec<PathBuf>,
    /// Whose rows, if the database holds several networks
    #[arg(long, value_name = "ID")]
    pub network: Option<String>,
    /// Bring the sessions too: their tokens stay good where `sessions.imported_tokens` is on
    #[arg(long)]
    pub sessions: bool,
    /// Bring nothing, and tell what would become of everything
    #[arg(long)]
    pub dry_run: bool,
    /// A file for a line of JSON on each identity that was not brought whole
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// What became of them.
#[derive(Debug, Default, Serialize)]
struct Report {
    dry_run: bool,
    /// Whether sessions are brought.
    sessions: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    relation_tuples: Option<Tuples>,
    survey: Option<Survey>,
    schemas: Vec<String>,
    /// By outcome.
    identities: BTreeMap<String, u64>,
    /// What of identities was left behind, and how often.
    left: BTreeMap<String, u64>,
    /// The first of those that were refused.
    refused: Vec<Value>,
}

/// What a node says of a batch, in the order of the batch.
#[derive(Debug, Deserialize)]
struct Answer {
    identities: Vec<Value>,
}

pub(super) fn run(command: ImportCommand, connection: &Connection, printer: Printer) -> Outcome {
    let ImportCommand::Ory(args) = command;
    let client = OperatorClient::new(connection)?;
    block_on(bring(args, &client, printer))
}

async fn bring(args: OryArgs, client: &OperatorClient, printer: Printer) -> Outcome {
    let database = Database::open(&args.database, args.network.as_deref())?;
    let mut report = Report { dry_run: args.dry_run, sessions: args.sessions, ..Report::default() };
    if database.has_identities() {
        report.survey = Some(database.survey()?);
    } else if args.config.is_some() {
        return Err(Failure::Usage("the database has no identities for --config".to_owned()));
    }
    if !database.has_tuples() && !args.opl.is_empty() {
        return Err(Failure::Usage("the database has no relation tuples for --opl".to_owned()));
    }
    // Before anything is changed.
    let mut lines = match &args.report {
        Some(file) => {
            let file = File::create(file).with_context(|| file.display().to_string())?;
            Some(BufWriter::new(file))
        }
        None => None,
    };
    if let Some(file) = &args.config {
        report.schemas = put_schemas(file, args.dry_run, client).await?;
    }
    // A batch waits for a node that comes back, but not for one that was never there.
    let _: Value = client.get("/health/alive").await?;
    // The database is read as fast as the cluster takes what it holds.
    let (sender, mut batches) = tokio::sync::mpsc::channel(4);
    let with_sessions = args.sessions;
    let reader = std::thread::spawn(move || {
        let read = match database.has_identities() {
            true => read(&database, with_sessions, &sender),
            false => Ok(()),
        };
        (database, read)
    });
    let total = report.survey.as_ref().map(|survey| survey.identities);
    let (began, mut bar, mut sent) = (Instant::now(), Bar::new("identities", total), 0);
    while let Some(batch) = batches.recv().await {
        sent += batch.len() as u64;
        let told = send(client, batch, args.dry_run).await.inspect_err(|_| bar.clear())?;
        for item in &told {
            let is_whole = report.note(item);
            if let Some(lines) = lines.as_mut().filter(|_| !is_whole) {
                writeln!(lines, "{item}").map_err(anyhow::Error::from)?;
            }
        }
        bar.show(sent, sent, began.elapsed());
    }
    bar.clear();
    let (database, read) =
        reader.join().map_err(|_| anyhow::anyhow!("reading the database ended early"))?;
    read?;
    if let Some(mut lines) = lines {
        lines.flush().map_err(anyhow::Error::from)?;
    }
    if database.has_tuples() {
        report.relation_tuples =
            Some(keto::bring(database, &args.opl, args.dry_run, client).await?);
    }
    printer.print(&report, Report::show)?;
    let missing: u64 =
        ["refused", "failed"].iter().filter_map(|outcome| report.identities.get(*outcome)).sum();
    let refused = report.relation_tuples.as_ref().map_or(0, |tuples| tuples.refused);
    match (missing, refused) {
        (0, 0) => Ok(()),
        (0, refused) => {
            Err(Failure::Unhealthy(format!("{refused} relation tuples were not brought")))
        }
        (missing, 0) => Err(Failure::Unhealthy(format!("{missing} identities were not brought"))),
        (missing, refused) => Err(Failure::Unhealthy(format!(
            "{missing} identities and {refused} relation tuples were not brought"
        ))),
    }
}

/// Sends a batch, and of it again what nobody could take now: taking it twice does no harm,
/// but what was brought by a request whose answer was lost is told as unchanged. Gives what
/// became of each.
async fn send(
    client: &OperatorClient,
    mut batch: Vec<Value>,
    dry_run: bool,
) -> Result<Vec<Value>, Failure> {
    let mut done = Vec::new();
    for attempt in 1.. {
        let body = json!({ "identities": batch, "dry_run": dry_run });
        let sent = again(async || client.put(IMPORT, &body, PATIENCE).await);
        let answer: Answer = sent.await?;
        if answer.identities.len() != batch.len() {
            let (told, sent) = (answer.identities.len(), batch.len());
            return Err(anyhow::anyhow!("{told} answers to {sent} identities").into());
        }
        let mut left = Vec::new();
        for (identity, told) in batch.into_iter().zip(answer.identities) {
            if told["outcome"] == "failed" && attempt < ATTEMPTS_MAX {
                left.push(identity);
            } else {
                done.push(told);
            }
        }
        if left.is_empty() {
            break;
        }
        batch = left;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(done)
}

/// Puts the schemas of a configuration in force; of a rehearsal only reads them.
async fn put_schemas(
    file: &Path,
    rehearse: bool,
    client: &OperatorClient,
) -> Result<Vec<String>, Failure> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let kratos = config::read(&text)?;
    let beside = file.parent().unwrap_or(Path::new("."));
    let mut names = Vec::new();
    for named in config::schemas(&kratos, beside)? {
        if !rehearse {
            schema::put(client, &named.id, &named.document, named.is_default).await?;
        }
        names.push(named.id);
    }
    Ok(names)
}

/// Reads the database in batches, until nobody takes them any more.
fn read(
    database: &Database,
    with_sessions: bool,
    batches: &tokio::sync::mpsc::Sender<Vec<Value>>,
) -> anyhow::Result<()> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let send = |batch: &mut Vec<Value>| {
        batches.blocking_send(std::mem::take(batch)).context("the import ended early")
    };
    database.each_identity(with_sessions, |identity| {
        bytes += identity.to_string().len();
        batch.push(identity);
        if batch.len() == AT_ONCE || bytes >= BYTES_AT_ONCE {
            bytes = 0;
            send(&mut batch)?;
        }
        Ok(())
    })?;
    if !batch.is_empty() {
        send(&mut batch)?;
    }
    Ok(())
}

impl Report {
    /// Takes note of what became of an identity; says whether all of it was brought.
    fn note(&mut self, item: &Value) -> bool {
        let outcome = item["outcome"].as_str().unwrap_or("failed");
        *self.identities.entry(outcome.to_owned()).or_default() += 1;
        let left: Vec<&str> =
            item["left"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for left in &left {
            *self.left.entry((*left).to_owned()).or_default() += 1;
        }
        let is_brought = !matches!(outcome, "refused" | "failed");
        if !is_brought && self.refused.len() < SHOWN_MAX {
            self.refused.push(item.clone());
        }
        is_brought && left.is_empty()
    }

    fn show(&self, colour: bool) -> String {
        let mut text = String::new();
        if let Some(found) = &self.survey {
            self.show_identities(found, colour, &mut text);
        }
        if let Some(tuples) = &self.relation_tuples {
            tuples.show(self.dry_run, colour, &mut text);
        }
        text
    }

    fn show_identities(&self, found: &Survey, colour: bool, text: &mut String) {
        let kinds: Vec<String> =
            found.credentials.iter().map(|c| format!("{} {}", c.count, c.name)).collect();
        text.push_str(&format!(
            "Found {} identities with credentials: {}.\n",
            found.identities,
            if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
        ));
        if found.sessions > 0 {
            let become_of = match self.sessions {
                true => {
                    "tokens stay good where sessions.imported_tokens is on, browsers signed in \
                     where secrets.imported_cookies_file is set"
                }
                false => "their holders log in again here",
            };
            text.push_str(&format!("{} sessions go on there; {become_of}.\n", found.sessions));
        }
        if found.odd_identifiers > 0 {
            text.push_str(&format!(
                "{} identifiers have capital letters or space around them, and are found without.\n",
                found.odd_identifiers
            ));
        }
        if !self.schemas.is_empty() {
            let verb = if self.dry_run { "Would put" } else { "Put" };
            text.push_str(&format!("{verb} schemas in force: {}.\n", self.schemas.join(", ")));
        }
        if !found.shared.is_empty() {
            let mut table = Table::new(["shared", "value", "identities"])
                .titled("Shared by several identities: the first one keeps it");
            for shared in &found.shared {
                table.row([
                    shared.kind.as_str().into(),
                    shared.value.as_str().into(),
                    shared.identities.to_string().into(),
                ]);
            }
            text.push_str(&table.render(colour));
        }
        let verb = if self.dry_run { "What would become of them" } else { "What became of them" };
        let mut table = Table::new(["outcome", "identities"]).titled(verb);
        for (outcome, count) in &self.identities {
            let bad = matches!(outcome.as_str(), "refused" | "failed");
            let tone = if bad { Tone::Bad } else { Tone::Good };
            table
                .row([super::output::Cell::toned(outcome.clone(), tone), count.to_string().into()]);
        }
        text.push_str(&table.render(colour));
        if !self.left.is_empty() {
            let mut table = Table::new(["left behind", "identities"]);
            for (left, count) in &self.left {
                table.row([left.as_str().into(), count.to_string().into()]);
            }
            text.push_str(&table.render(colour));
        }
        if !self.refused.is_empty() {
            let mut table = Table::new(["identity", "why not"]);
            for item in &self.refused {
                let why = item["reason"].as_str().or(item["error"]["message"].as_str());
                table.row([
                    item["id"].as_str().unwrap_or("?").into(),
                    why.unwrap_or("no reason given").into(),
                ]);
            }
            text.push_str(&table.render(colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use axum::response::IntoResponse as _;
    use http::StatusCode;
    use parking_lot::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_cannot_be_reported_is_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("kratos.yml");
        let schemas = "identity: {schemas: [{id: a, url: 'base64://e30='}]}";
        std::fs::write(&config, schemas).unwrap();
        let node = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = OperatorClient::of_this_machine(node.local_addr().unwrap().port()).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let args = OryArgs {
            database: fixtures.join("kratos.postgres.sql"),
            config: Some(config),
            opl: Vec::new(),
            network: None,
            sessions: false,
            dry_run: false,
            report: Some(folder.path().join("none/report")),
        };
        let printer = Printer::new(super::super::output::Format::Json);
        let refused = bring(args, &client, printer).await.unwrap_err().to_string();
        assert!(refused.contains("none/report"), "{refused}");
        node.set_nonblocking(true).unwrap();
        assert!(node.accept().is_err(), "nobody was asked for anything");
    }

    #[tokio::test]
    async fn what_cannot_be_taken_now_is_sent_again_and_nothing_else_is() {
        let told = |id: u8, outcome: &str| json!({"id": id, "outcome": outcome});
        let answer = |identities: &[Value]| Ok(json!({ "identities": identities }));
        let (client, asked) = node_that_says(vec![
            Err(503),
            answer(&[told(1, "created"), told(2, "failed"), told(3, "refused")]),
            answer(&[told(2, "created")]),
        ])
        .await;
        let batch = (1..=3).map(|id| json!({"id": id})).collect();
        let mut done = send(&client, batch, false).await.unwrap();
        done.sort_by_key(|told| told["id"].as_u64());
        assert_eq!(done, [told(1, "created"), told(2, "created"), told(3, "refused")]);
        let asked = asked.lock().clone();
        let all = json!([{"id": 1}, {"id": 2}, {"id": 3}]);
        assert_eq!(asked, [all.clone(), all, json!([{"id": 2}])]);
    }

    #[tokio::test]
    async fn what_is_refused_is_not_sent_again() {
        let (client, asked) = node_that_says(vec![Err(403)]).await;
        assert!(matches!(send(&client, vec![json!({})], false).await, Err(Failure::Failed(_))));
        let one_too_few = vec![Ok(json!({"identities": []}))];
        let (other, _) = node_that_says(one_too_few).await;
        let told = send(&other, vec![json!({})], false).await.unwrap_err().to_string();
        assert!(told.contains("0 answers to 1 identities"), "{told}");
        assert_eq!(asked.lock().len(), 1);
    }

    /// A node that says one thing after the other, and the identities that it was sent.
    async fn node_that_says(
        answers: Vec<Result<Value, u16>>,
    ) -> (OperatorClient, Arc<Mutex<Vec<Value>>>) {
        let (asked, answers) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(answers)));
        let for_node = asked.clone();
        let says = async move |body: axum::Json<Value>| {
            for_node.lock().push(body["identities"].clone());
            match answers.lock().remove(0) {
                Ok(answer) => axum::Json(answer).into_response(),
                Err(status) => StatusCode::from_u16(status).unwrap().into_response(),
            }
        };
        let router = axum::Router::new().route(IMPORT, axum::routing::put(says));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(axum::serve(listener, router).into_future());
        (OperatorClient::of_this_machine(port).unwrap(), asked)
    }
}
