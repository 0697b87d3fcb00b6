//! The relation tuples of `cardea import ory`: out of a database of Ory Keto, with its
//! permission language.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::Context as _;
use cardea_permission::{Relationship, Subject, keto::RowsReport, opl::SourceFile};
use futures::{StreamExt as _, stream};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    exit::Failure,
    opl,
    output::Table,
    permission::{PART_BYTES, PART_LINES, send},
};
use crate::{operator::client::OperatorClient, ory::Database};

/// Parts under way at once.
const PARALLEL: usize = 3;

/// What became of the rows of Keto's database.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tuples {
    /// Rows that were read.
    rows: u64,
    /// Tuples that are there now; of a rehearsal none.
    brought: u64,
    /// Rows that told a tuple once more.
    duplicates: u64,
    /// Rows of other networks.
    elsewhere: u64,
    /// Rows that name a UUID without a text: it stands for itself.
    unmapped: u64,
    /// Rows that are not brought.
    pub(super) refused: u64,
    /// Why, of the first few.
    told: Vec<String>,
    /// Where the tuples are.
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    name: String,
    tuples: u64,
    /// Whether the language declares it.
    is_declared: bool,
}

/// Brings the tuples, and before them the language.
pub(super) async fn bring(
    database: Database,
    language: &[PathBuf],
    dry_run: bool,
    client: &OperatorClient,
) -> Result<Tuples, Failure> {
    let declared = if language.is_empty() {
        opl::namespaces(&in_force(client).await?)?
    } else {
        let files = opl::read(language)?;
        let declared = opl::namespaces(&files)?;
        if !dry_run {
            opl::put(client, &files, None, false).await?;
        }
        declared
    };
    let (sender, parts) = tokio::sync::mpsc::channel(PARALLEL);
    let reader = std::thread::spawn(move || read(&database, !dry_run, &sender));
    let parts = stream::unfold(parts, |mut parts| async {
        parts.recv().await.map(|part: String| (part, parts))
    });
    let mut sent = Box::pin(parts.map(|part| send(client, part.into())).buffer_unordered(PARALLEL));
    let mut brought = 0;
    while let Some(taken) = sent.next().await {
        brought += taken?.imported;
    }
    drop(sent);
    let read = reader.join().map_err(|_| anyhow::anyhow!("reading the database ended early"))?;
    Ok(Tuples::of(read?, brought, &declared.into_iter().collect()))
}

/// The language in force.
async fn in_force(client: &OperatorClient) -> Result<Vec<SourceFile>, Failure> {
    let language: Value = client.get("/admin/opl").await?;
    let part = |file: &Value, name: &str| file[name].as_str().unwrap_or_default().to_owned();
    let files = language["files"].as_array().into_iter().flatten();
    Ok(files
        .map(|file| SourceFile { name: part(file, "name"), text: part(file, "text") })
        .collect())
}

/// Reads the tuples, and hands their lines on in parts if they are to be brought.
fn read(
    database: &Database,
    is_brought: bool,
    parts: &tokio::sync::mpsc::Sender<String>,
) -> anyhow::Result<RowsReport> {
    let (mut part, mut lines) = (String::new(), 0);
    let hand_on = |part: &mut String| {
        parts.blocking_send(std::mem::take(part)).context("the import ended early")
    };
    let report = database.each_tuple(|relationship| {
        if is_brought {
            part.push_str(&line(&relationship));
            part.push('\n');
            lines += 1;
            if part.len() >= PART_BYTES || lines == PART_LINES {
                lines = 0;
                hand_on(&mut part)?;
            }
        }
        Ok(())
    })?;
    if !part.is_empty() {
        hand_on(&mut part)?;
    }
    Ok(report)
}

fn line(relationship: &Relationship) -> String {
    let tuple = &relationship.tuple;
    let mut line = json!({
        "namespace": tuple.namespace, "object": tuple.object, "relation": tuple.relation,
    });
    match &tuple.subject {
        Subject::Id(id) => line["subject_id"] = json!(id),
        Subject::Set(set) => {
            line["subject_set"] = json!({
                "namespace": set.namespace, "object": set.object, "relation": set.relation,
            });
        }
    }
    line.to_string()
}

impl Tuples {
    fn of(read: RowsReport, brought: u64, declared: &BTreeSet<String>) -> Self {
        let namespaces = read.namespaces.into_iter().map(|(name, tuples)| {
            let is_declared = declared.contains(&name);
            Namespace { name, tuples, is_declared }
        });
        Self {
            rows: read.rows,
            brought,
            duplicates: read.duplicates,
            elsewhere: read.elsewhere,
            unmapped: read.unmapped,
            refused: read.refused,
            told: read.told,
            namespaces: namespaces.collect(),
        }
    }

    pub(super) fn show(&self, dry_run: bool, colour: bool, text: &mut String) {
        let found: u64 = self.namespaces.iter().map(|namespace| namespace.tuples).sum();
        text.push_str(&format!("Found {found} relation tuples in {} rows.\n", self.rows));
        for (count, what) in [
            (self.duplicates, "rows told a tuple once more, and were merged"),
            (self.elsewhere, "rows are of other networks"),
            (self.unmapped, "names are UUIDs that nothing maps to a text, and stay as they are"),
            (self.refused, "rows are no tuple that is kept"),
        ] {
            if count > 0 {
                text.push_str(&format!("{count} {what}.\n"));
            }
        }
        for told in &self.told {
            text.push_str(&format!("  {told}\n"));
        }
        let title =
            if dry_run { "Relation tuples that would be brought" } else { "Relation tuples" };
        let mut table = Table::new(["namespace", "tuples", "declared"]).titled(title);
        for namespace in &self.namespaces {
            let is_declared = if namespace.is_declared { "yes" } else { "no: checks deny" };
            table.row([
                namespace.name.as_str().into(),
                namespace.tuples.to_string().into(),
                is_declared.into(),
            ]);
        }
        text.push_str(&table.render(colour));
        if !dry_run {
            text.push_str(&format!("{} relation tuples are there.\n", self.brought));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DUMP: &str = "\
COPY public.keto_uuid_mappings (id, string_representation) FROM stdin;
5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a01\tplan \\\\ b
5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a02\tann
5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a03\teng
\\.
COPY public.keto_relation_tuples (shard_id, nid, namespace, object, relation, subject_id, subject_set_namespace, subject_set_object, subject_set_relation, commit_time) FROM stdin;
1\tn\tDoc\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a01\tviewers\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a02\t\\N\t\\N\t\\N\t2024-01-01
2\tn\tDoc\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a01\tviewers\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a02\t\\N\t\\N\t\\N\t2024-01-02
3\tn\tDoc\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a01\tviewers\t\\N\tGroup\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a03\tmembers\t2024-01-02
4\tn\tGroup\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a03\tmembers\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a09\t\\N\t\\N\t\\N\t2024-01-02
5\tn\tGroup\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a03\t\t5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a02\t\\N\t\\N\t\\N\t2024-01-02
\\.
";

    fn lines_of(path: &Path) -> (Vec<Value>, Tuples) {
        let database = Database::open(path, None).unwrap();
        assert!(database.has_tuples() && !database.has_identities());
        let (sender, mut parts) = tokio::sync::mpsc::channel(1);
        let read = read(&database, true, &sender).unwrap();
        let part = parts.try_recv().unwrap();
        let lines = part.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines, Tuples::of(read, 3, &["Doc".to_owned()].into()))
    }

    #[test]
    fn dumps_and_files_of_keto_become_lines_of_tuples() {
        let folder = tempfile::tempdir().unwrap();
        let dump = folder.path().join("keto.sql");
        std::fs::write(&dump, DUMP).unwrap();
        let (lines, tuples) = lines_of(&dump);
        assert_eq!(
            lines,
            [
                json!({"namespace": "Doc", "object": "plan \\ b", "relation": "viewers",
                    "subject_id": "ann"}),
                json!({"namespace": "Doc", "object": "plan \\ b", "relation": "viewers",
                    "subject_set": {"namespace": "Group", "object": "eng", "relation": "members"}}),
                json!({"namespace": "Group", "object": "eng", "relation": "members",
                    "subject_id": "5b3b6a3e-6f0f-5ad4-9e0f-0d6a8f2f7a09"}),
            ]
        );
        assert_eq!((tuples.rows, tuples.duplicates, tuples.unmapped, tuples.refused), (5, 1, 1, 1));
        let mut shown = String::new();
        tuples.show(true, false, &mut shown);
        for line in ["Found 3 relation tuples in 5 rows", "1 rows told a tuple once more", "row 5:"]
        {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(shown.contains("no: checks deny"), "Group is not declared: {shown}");

        let file = folder.path().join("keto.sqlite");
        let sqlite = rusqlite::Connection::open(&file).unwrap();
        put_rows(DUMP, &sqlite);
        drop(sqlite);
        assert_eq!(lines_of(&file).0, lines);
    }

    /// Puts the dump's rows into a database, as Keto on SQLite has them.
    fn put_rows(dump: &str, into: &rusqlite::Connection) {
        let mut table: Option<(&str, usize)> = None;
        for line in dump.lines() {
            if let Some(rest) = line.strip_prefix("COPY public.") {
                let (name, rest) = rest.split_once(" (").unwrap();
                let columns: Vec<&str> = rest.split_once(')').unwrap().0.split(", ").collect();
                let typed = columns.join(" TEXT, ");
                into.execute_batch(&format!("CREATE TABLE {name} ({typed} TEXT)")).unwrap();
                table = Some((name, columns.len()));
            } else if let Some((name, columns)) = table.filter(|_| line != "\\.") {
                let places = vec!["?"; columns].join(", ");
                let values = line.split('\t').map(|value| match value {
                    "\\N" => None,
                    value => Some(value.replace("\\\\", "\\")),
                });
                let insert = format!("INSERT INTO {name} VALUES ({places})");
                into.execute(&insert, rusqlite::params_from_iter(values)).unwrap();
            }
        }
    }

    #[test]
    fn databases_of_old_ketos_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keto.sql");
        let dump = "COPY keto_relation_tuples (shard_id, nid, namespace_id) FROM stdin;\n\\.\n";
        std::fs::write(&file, dump).unwrap();
        let refused = Database::open(&file, None).unwrap_err().to_string();
        assert!(refused.contains("before v0.9"), "{refused}");
    }
}
