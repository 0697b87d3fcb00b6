//! A database of Kratos or Keto, opened for reading.

use std::{
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, Row, types::ValueRef};
use serde_json::{Map, Value};

use super::dump;

/// How a SQLite file begins.
const SQLITE: &[u8; 16] = b"SQLite format 3\0";
/// Where Keto keeps its tuples.
const TUPLES: &str = "keto_relation_tuples";

/// A database of Kratos, of Keto, or of both.
pub struct Database {
    connection: Connection,
    /// Whose rows are read, where the database is of several networks.
    network: Option<String>,
    /// Whether it is one of Kratos.
    has_identities: bool,
    /// Whether it is one of Keto.
    has_tuples: bool,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("network", &self.network).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens a SQLite file, or loads a dump of PostgreSQL.
    ///
    /// # Errors
    /// If the file is neither, is no database of Kratos or Keto, or holds several networks
    /// and none is named.
    pub fn open(file: &Path, network: Option<&str>) -> anyhow::Result<Self> {
        let mut head = Vec::new();
        let opened = File::open(file).with_context(|| file.display().to_string())?;
        (&opened).take(16).read_to_end(&mut head)?;
        // Without a name: it holds every hash there is, and goes with this process however
        // that ends.
        let mut connection = Connection::open("")?;
        // It is thrown away anyway.
        connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")?;
        let loaded = if head == SQLITE {
            copy_tables(file, &connection)
        } else {
            dump::load(BufReader::with_capacity(1 << 20, File::open(file)?), &mut connection)
        };
        loaded.with_context(|| file.display().to_string())?;
        index(&connection)?;
        let (has_identities, has_tuples) = (false, false);
        let mut database = Self { connection, network: None, has_identities, has_tuples };
        database.has_tuples = database.has_table(TUPLES)?;
        database.has_identities = database.has_table("identities")?;
        if !database.has_tuples || database.has_identities {
            for table in ["identities", "identity_credentials", "identity_credential_types"] {
                if !database.has_table(table)? {
                    bail!(
                        "{} is no database of Kratos or Keto: it has neither {TUPLES} nor {table}",
                        file.display()
                    );
                }
            }
        }
        if database.has_tuples && !database.has_column(TUPLES, "namespace")? {
            bail!("{} is of a Keto before v0.9: let a newer one migrate it", file.display());
        }
        database.network = database.choose_network(network)?;
        Ok(database)
    }

    fn choose_network(&self, wanted: Option<&str>) -> anyhow::Result<Option<String>> {
        let mut networks = Vec::new();
        for (table, is_there) in [("identities", self.has_identities), (TUPLES, self.has_tuples)] {
            if !is_there || !self.has_column(table, "nid")? {
                continue;
            }
            let query = format!("SELECT DISTINCT nid FROM {table} WHERE nid IS NOT NULL");
            self.each(&query, &[], |row| {
                networks.extend(text(&row["nid"]));
                Ok(())
            })?;
        }
        networks.sort_unstable();
        networks.dedup();
        match (wanted, networks.as_slice()) {
            (Some(wanted), _) if networks.iter().any(|network| network == wanted) => {
                Ok(Some(wanted.to_owned()))
            }
            (Some(wanted), _) => bail!("the database holds no network {wanted}"),
            (None, []) => Ok(None),
            (None, [only]) => Ok(Some(only.clone())),
            (None, several) => {
                bail!("the database holds several networks, name one: {}", several.join(", "))
            }
        }
    }

    /// Whether identities are in it.
    pub fn has_identities(&self) -> bool {
        self.has_identities
    }

    /// Whether relation tuples are in it.
    pub fn has_tuples(&self) -> bool {
        self.has_tuples
    }

    /// The network whose rows are read.
    pub fn network(&self) -> Option<&str> {
        self.network.as_deref()
    }

    /// Whether there is a table.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn has_table(&self, table: &str) -> anyhow::Result<bool> {
        let query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?1";
        Ok(self.connection.prepare_cached(query)?.exists([table])?)
    }

    /// Whether a table has a column.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn has_column(&self, table: &str, column: &str) -> anyhow::Result<bool> {
        let query = "SELECT name FROM pragma_table_info(?1) WHERE name = ?2";
        Ok(self.connection.prepare_cached(query)?.exists([table, column])?)
    }

    /// Hands on each row of a query.
    ///
    /// # Errors
    /// If the database cannot be read, and what `take` fails with.
    pub fn each(
        &self,
        query: &str,
        parameters: &[&str],
        mut take: impl FnMut(Map<String, Value>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut statement = self.connection.prepare_cached(query)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(rusqlite::params_from_iter(parameters))?;
        while let Some(row) = rows.next()? {
            take(read(row, &names)?)?;
        }
        Ok(())
    }

    /// All rows of a query.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn all(&self, query: &str, parameters: &[&str]) -> anyhow::Result<Vec<Map<String, Value>>> {
        let mut rows = Vec::new();
        self.each(query, parameters, |row| {
            rows.push(row);
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Copies the tables that are read out of a SQLite file, which is only read: as they are
/// at one instant, and with indexes that do not depend on Kratos's version.
fn copy_tables(file: &Path, into: &Connection) -> anyhow::Result<()> {
    let mut uri = "file:".to_owned();
    for c in file.canonicalize()?.to_str().context("the path is not UTF-8")?.chars() {
        match c {
            '%' => uri.push_str("%25"),
            '?' => uri.push_str("%3f"),
            '#' => uri.push_str("%23"),
            c => uri.push(c),
        }
    }
    uri.push_str("?mode=ro");
    into.execute("ATTACH ?1 AS source", [uri])?;
    into.execute_batch("BEGIN")?;
    for table in dump::TABLES {
        let query = "SELECT name FROM source.sqlite_master WHERE type = 'table' AND name = ?1";
        if into.prepare(query)?.exists([table])? {
            let copy = format!("CREATE TABLE main.{table} AS SELECT * FROM source.{table}");
            into.execute_batch(&copy)?;
        }
    }
    into.execute_batch("COMMIT; DETACH source")?;
    Ok(())
}

fn index(tables: &Connection) -> anyhow::Result<()> {
    for (table, column) in [
        ("identities", "id"),
        ("identity_credentials", "identity_id"),
        ("identity_credential_identifiers", "identity_credential_id"),
        ("identity_verifiable_addresses", "identity_id"),
        ("identity_recovery_addresses", "identity_id"),
    ] {
        let known = "SELECT name FROM sqlite_master WHERE type = 'table' AND name = ?1";
        if tables.prepare(known)?.exists([table])? {
            let create = format!("CREATE INDEX import_{table} ON {table} ({column})");
            tables.execute_batch(&create)?;
        }
    }
    Ok(())
}

fn read(row: &Row<'_>, names: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut read = Map::new();
    for (at, name) in names.iter().enumerate() {
        let value = match row.get_ref(at)? {
            ValueRef::Null => Value::Null,
            ValueRef::Integer(number) => number.into(),
            ValueRef::Real(number) => number.into(),
            ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
                String::from_utf8_lossy(bytes).into_owned().into()
            }
        };
        read.insert(name.clone(), value);
    }
    Ok(read)
}

/// A text, or what a number is written as; `None` for null and nothing.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A truth, as SQLite or PostgreSQL writes it.
pub fn truth(value: &Value) -> bool {
    matches!(text(value).as_deref(), Some("1" | "t" | "true" | "TRUE"))
}

/// A time as RFC 3339 writes it; databases write it with a space, and in UTC where they
/// do not say.
pub fn time(value: &Value) -> Option<String> {
    let written = text(value)?;
    let (date, clock) = written.split_once([' ', 'T'])?;
    // Go's database drivers may have written its whole form: `… +0000 UTC`.
    let clock = clock.split(' ').next().unwrap_or_default();
    let (digits, zone) = match clock.find(['Z', 'z', '+', '-']) {
        Some(at) => clock.split_at(at),
        None => (clock, "Z"),
    };
    let zone = match zone.len() {
        1 => "Z".to_owned(),
        // `+00`
        3 => format!("{zone}:00"),
        _ => zone.to_owned(),
    };
    Some(format!("{date}T{digits}{zone}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_of_databases_are_read() {
        for (written, read) in [
            ("2024-05-28 10:11:12.123456", "2024-05-28T10:11:12.123456Z"),
            ("2024-05-28 10:11:12+00", "2024-05-28T10:11:12+00:00"),
            ("2024-05-28 10:11:12.5+00:00", "2024-05-28T10:11:12.5+00:00"),
            ("2024-05-28T10:11:12Z", "2024-05-28T10:11:12Z"),
            ("2024-05-28 10:11:12.5 +0000 UTC", "2024-05-28T10:11:12.5Z"),
        ] {
            assert_eq!(time(&json!(written)).as_deref(), Some(read));
            assert!(cardea_identity::time::parse_rfc3339(read).is_some(), "{read}");
        }
        assert_eq!(time(&json!(null)), None);
        assert_eq!(time(&json!("never")), None);
    }

    #[test]
    fn copy_of_a_database_has_no_name_that_it_could_be_left_under() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kratos.sqlite");
        let tables = "CREATE TABLE identities (id); CREATE TABLE identity_credentials (id, \
                      identity_id); CREATE TABLE identity_credential_types (id)";
        Connection::open(&file).unwrap().execute_batch(tables).unwrap();
        let database = Database::open(&file, None).unwrap();
        assert_eq!(database.connection.path().unwrap_or_default(), "");
    }

    #[test]
    fn file_that_is_no_database_of_orys_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.sqlite");
        assert!(Database::open(&file, None).is_err());
        Connection::open(&file).unwrap().execute_batch("CREATE TABLE x (a)").unwrap();
        let refused = Database::open(&file, None).unwrap_err().to_string();
        assert!(refused.contains("no database of Kratos or Keto"), "{refused}");
    }
}
