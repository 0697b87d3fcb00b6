//! What a database of Kratos holds that does not fit here, found before anything is
//! brought: addresses and identifiers that several identities share once they are
//! written the same way, and those that are written in odd ways.

use serde::Serialize;

use super::database::{Database, text};

/// Examples that are told of each kind.
const EXAMPLES_MAX: usize = 10;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// Identities.
    pub identities: u64,
    /// Credentials by type.
    pub credentials: Vec<Counted>,
    /// Sessions that go on.
    pub sessions: u64,
    /// What several identities share.
    pub shared: Vec<Shared>,
    /// Identifiers with capital letters or with space around them: they are found as
    /// Kratos finds them, without.
    pub odd_identifiers: u64,
}

/// How many there are of something.
#[derive(Debug, Serialize)]
pub struct Counted {
    /// Of what.
    pub name: String,
    /// How many.
    pub count: u64,
}

/// Something that several identities share; the first one that is brought keeps it, and
/// the others are refused.
#[derive(Debug, Serialize)]
pub struct Shared {
    /// What it is.
    pub kind: String,
    /// Its value.
    pub value: String,
    /// How many share it.
    pub identities: u64,
}

impl Database {
    /// Looks through the database.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn survey(&self) -> anyhow::Result<Survey> {
        let mut survey = Survey { identities: self.identity_count()?, ..Survey::default() };
        let nid = self.network().unwrap_or_default();
        let of = |table: &str| match self.network() {
            Some(_) => format!("{table}.nid = ?1"),
            None => "?1 = ''".to_owned(),
        };
        let query = format!(
            "SELECT t.name AS name, count(*) AS n FROM identity_credentials c \
             JOIN identity_credential_types t ON t.id = c.identity_credential_type_id \
             WHERE {} GROUP BY t.name ORDER BY t.name",
            of("c")
        );
        for row in self.all(&query, &[nid])? {
            let name = text(&row["name"]).unwrap_or_default();
            let count = row["n"].as_u64().unwrap_or_default();
            survey.credentials.push(Counted { name, count });
        }
        if self.has_table("sessions")? {
            let query = format!(
                "SELECT count(*) AS n FROM sessions s WHERE {} AND s.active IN (1, 't', 'true')",
                of("s")
            );
            let rows = self.all(&query, &[nid])?;
            survey.sessions = rows.first().and_then(|row| row["n"].as_u64()).unwrap_or_default();
        }
        for (table, kind) in [
            ("identity_verifiable_addresses", "verifiable address"),
            ("identity_recovery_addresses", "recovery address"),
        ] {
            if !self.has_table(table)? {
                continue;
            }
            let query = format!(
                "SELECT lower(trim(a.value)) AS value, count(DISTINCT a.identity_id) AS n \
                 FROM {table} a WHERE {} GROUP BY lower(trim(a.value)), a.via \
                 HAVING n > 1 ORDER BY n DESC, value",
                of("a")
            );
            self.collect_shared(&query, nid, |_| kind.to_owned(), &mut survey)?;
        }
        let query = format!(
            "SELECT t.name AS kind, lower(trim(i.identifier)) AS value, \
             count(DISTINCT c.identity_id) AS n FROM identity_credential_identifiers i \
             JOIN identity_credentials c ON c.id = i.identity_credential_id \
             JOIN identity_credential_types t ON t.id = c.identity_credential_type_id \
             WHERE {} GROUP BY t.name, lower(trim(i.identifier)) HAVING n > 1 \
             ORDER BY n DESC, value",
            of("c")
        );
        let kind = |kind: Option<String>| format!("{} identifier", kind.unwrap_or_default());
        self.collect_shared(&query, nid, kind, &mut survey)?;
        let query = format!(
            "SELECT count(*) AS n FROM identity_credential_identifiers i \
             JOIN identity_credentials c ON c.id = i.identity_credential_id \
             JOIN identity_credential_types t ON t.id = c.identity_credential_type_id \
             WHERE {} AND t.name = 'password' AND i.identifier <> lower(trim(i.identifier))",
            of("c")
        );
        let rows = self.all(&query, &[nid])?;
        survey.odd_identifiers = rows.first().and_then(|r| r["n"].as_u64()).unwrap_or_default();
        Ok(survey)
    }

    fn collect_shared(
        &self,
        query: &str,
        nid: &str,
        kind: impl Fn(Option<String>) -> String,
        survey: &mut Survey,
    ) -> anyhow::Result<()> {
        let mut told = 0;
        self.each(query, &[nid], |row| {
            told += 1;
            if told <= EXAMPLES_MAX {
                survey.shared.push(Shared {
                    kind: kind(row.get("kind").and_then(text)),
                    value: text(&row["value"]).unwrap_or_default(),
                    identities: row["n"].as_u64().unwrap_or_default(),
                });
            }
            Ok(())
        })
    }
}
