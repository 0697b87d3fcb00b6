//! Dumps of PostgreSQL in plain text, as `pg_dump` writes them by default: the data of a
//! table stands between `COPY table (columns) FROM stdin;` and `\.`, a row a line, values
//! apart by tabs, `\N` for null, and backslashes before what would be misread.

use std::{collections::BTreeSet, io::BufRead};

use anyhow::{Context as _, bail};
use rusqlite::{Connection, params_from_iter};

/// Tables that are read; what else a dump holds is passed over.
pub const TABLES: [&str; 11] = [
    "networks",
    "identities",
    "identity_credential_types",
    "identity_credentials",
    "identity_credential_identifiers",
    "identity_verifiable_addresses",
    "identity_recovery_addresses",
    "sessions",
    "session_devices",
    "keto_relation_tuples",
    "keto_uuid_mappings",
];

/// Most columns of a table that is believed to be one of Ory's.
const COLUMNS_MAX: usize = 64;

/// The head of a table's data.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    table: String,
    columns: Vec<String>,
}

/// Puts the tables of a dump into a database, all columns as text.
///
/// # Errors
/// If the dump is no plain text, has none of the tables, or breaks off.
pub fn load(dump: impl BufRead, into: &mut Connection) -> anyhow::Result<()> {
    let transaction = into.transaction()?;
    let mut lines = (1_u64..).zip(dump.split(b'\n'));
    let mut seen = BTreeSet::new();
    while let Some((_, line)) = lines.next() {
        let line = line?;
        let Ok(line) = std::str::from_utf8(&line) else { continue };
        let Some(head) = head(line).filter(|head| TABLES.contains(&head.table.as_str())) else {
            if begins_data(line) {
                // What people wrote into other tables is no head, whatever it looks like.
                pass_over(&mut lines)?;
            }
            continue;
        };
        if !seen.insert(head.table.clone()) {
            bail!(
                "the dump has {} twice: of several schemas name one by `pg_dump --schema`",
                head.table
            );
        }
        let columns: Vec<String> = head.columns.iter().map(|name| format!("\"{name}\"")).collect();
        let create = format!("CREATE TABLE {} ({} TEXT)", head.table, columns.join(" TEXT, "));
        transaction.execute_batch(&create)?;
        let places = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT INTO {} VALUES ({places})", head.table);
        let mut insert = transaction.prepare(&insert)?;
        loop {
            let next = lines.next().with_context(|| format!("{} breaks off", head.table))?;
            let (number, line) = (next.0, next.1?);
            let line = String::from_utf8(line)
                .with_context(|| format!("line {number}: the dump is not in UTF-8"))?;
            let line = line.strip_suffix('\r').unwrap_or(&line);
            if line == "\\." {
                break;
            }
            let values: Vec<Option<String>> = line.split('\t').map(value).collect();
            if values.len() != columns.len() {
                bail!(
                    "line {number}: a row of {} has {} values for {} columns",
                    head.table,
                    values.len(),
                    columns.len()
                );
            }
            insert.execute(params_from_iter(values))?;
        }
    }
    if seen.is_empty() {
        bail!(
            "the file holds no data of Kratos or Keto in the form of COPY: write it by \
             `pg_dump --format=plain`, without --inserts"
        );
    }
    transaction.commit()?;
    Ok(())
}

/// Whether the lines behind one are data of some table.
fn begins_data(line: &str) -> bool {
    line.starts_with("COPY ") && line.trim_end().ends_with(" FROM stdin;")
}

/// Passes over the data of a table.
fn pass_over(
    lines: &mut impl Iterator<Item = (u64, std::io::Result<Vec<u8>>)>,
) -> anyhow::Result<()> {
    for (_, line) in lines {
        if line?.trim_ascii_end() == b"\\." {
            break;
        }
    }
    Ok(())
}

/// Reads `COPY public.identities (id, "traits") FROM stdin;`.
fn head(line: &str) -> Option<Head> {
    let rest = line.trim_end().strip_prefix("COPY ")?;
    let (table, rest) = rest.split_once(" (")?;
    let (columns, rest) = rest.split_once(") ")?;
    if rest != "FROM stdin;" {
        return None;
    }
    let bare = |name: &str| name.trim().trim_matches('"').to_owned();
    let table = bare(table.rsplit('.').next()?);
    let columns: Vec<String> = columns.split(',').map(bare).collect();
    let is_name = |name: &String| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    (columns.len() <= COLUMNS_MAX && columns.iter().all(is_name)).then_some(Head { table, columns })
}

/// A value without its escapes; `None` for null.
fn value(text: &str) -> Option<String> {
    if text == "\\N" {
        return None;
    }
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'v') => 11,
            Some(b'x') => number(&mut rest, 16, 2, 0),
            Some(digit @ b'0'..=b'7') => number(&mut rest, 8, 2, u32::from(digit - b'0')),
            Some(other) => other,
            None => b'\\',
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// At most `most` more digits of a number that begins with `begun`.
fn number(
    rest: &mut std::iter::Peekable<std::str::Bytes<'_>>,
    base: u32,
    most: usize,
    begun: u32,
) -> u8 {
    let mut number = begun;
    for _ in 0..most {
        let Some(digit) = rest.peek().and_then(|byte| char::from(*byte).to_digit(base)) else {
            break;
        };
        number = number * base + digit;
        rest.next();
    }
    u8::try_from(number & 0xff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_their_escapes() {
        for (written, read) in [
            ("plain", Some("plain")),
            ("\\N", None),
            ("", Some("")),
            ("a\\tb\\nc\\\\d", Some("a\tb\nc\\d")),
            ("{\"a\": \"\\\\\"x\\\\\"\"}", Some("{\"a\": \"\\\"x\\\"\"}")),
            ("\\101\\x42", Some("AB")),
            ("\\\\N", Some("\\N")),
            ("end\\", Some("end\\")),
            ("é", Some("é")),
        ] {
            assert_eq!(value(written).as_deref(), read, "{written}");
        }
    }

    #[test]
    fn heads_are_told_from_other_lines() {
        let found = head("COPY public.identities (id, \"traits\") FROM stdin;").unwrap();
        assert_eq!((found.table.as_str(), found.columns.len()), ("identities", 2));
        for other in [
            "",
            "COPY",
            "COPY x FROM stdin;",
            "COPY x (a) TO stdout;",
            "INSERT INTO identities (id) VALUES (1);",
            "COPY x (a\"; DROP TABLE y; --) FROM stdin;",
        ] {
            assert_eq!(head(other), None, "{other}");
        }
    }

    #[test]
    fn dump_that_breaks_off_or_is_none_is_refused() {
        let load = |text: &str| {
            load(text.as_bytes(), &mut Connection::open_in_memory().unwrap())
                .map_err(|error| error.to_string())
        };
        let head = "COPY public.networks (id) FROM stdin;\n";
        assert!(load("hello\n").unwrap_err().contains("no data of Kratos or Keto"));
        assert!(load(head).unwrap_err().contains("breaks off"));
        assert!(load(&format!("{head}a\tb\n\\.\n")).unwrap_err().starts_with("line 2: "));
        let whole = format!("{head}a\n\\.\n");
        assert!(load(&whole).is_ok());
        let twice = format!("{whole}COPY other.networks (id) FROM stdin;\nb\n\\.\n");
        assert!(load(&twice).unwrap_err().contains("pg_dump --schema"));
    }

    #[test]
    fn what_stands_in_other_tables_is_no_table() {
        let dump = "COPY public.notes (note) FROM stdin;\n\
                    COPY public.networks (id) FROM stdin;\nforged\n\\.\n\
                    COPY public.networks (id) FROM stdin;\ntrue\n\\.\n";
        let mut database = Connection::open_in_memory().unwrap();
        load(dump.as_bytes(), &mut database).unwrap();
        let ids = database.query_row("SELECT group_concat(id) FROM networks", [], |row| row.get(0));
        assert_eq!(ids, Ok("true".to_owned()));
    }
}
