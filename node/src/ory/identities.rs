//! Identities out of Kratos's tables, in the form in which its API shows them to
//! administrators.

use serde_json::{Map, Value, json};

use super::database::{Database, text, time, truth};

impl Database {
    /// How many identities there are.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn identity_count(&self) -> anyhow::Result<u64> {
        let rows = self.all(&format!("SELECT count(*) AS n FROM identities {}", self.of()), &[])?;
        Ok(rows.first().and_then(|row| row["n"].as_u64()).unwrap_or_default())
    }

    /// Hands on each identity, in the order of their ids, with its sessions if they are wanted.
    ///
    /// # Errors
    /// If the database cannot be read, and what `take` fails with.
    pub fn each_identity(
        &self,
        with_sessions: bool,
        mut take: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let query = format!("SELECT * FROM identities {} ORDER BY id", self.of());
        let with_sessions = with_sessions && self.has_table("sessions")?;
        self.each(&query, &[], |row| {
            let mut identity = self.identity(&row)?;
            if with_sessions {
                let id = identity["id"].as_str().unwrap_or_default().to_owned();
                identity["sessions"] = self.sessions(&id)?.into();
            }
            take(identity)
        })
    }

    /// The sessions of an identity that go on, with their tokens.
    fn sessions(&self, identity: &str) -> anyhow::Result<Vec<Value>> {
        let query = "SELECT * FROM sessions WHERE identity_id = ?1 \
                     AND active IN (1, 't', 'true') AND token <> '' ORDER BY id";
        let shown = |row: Map<String, Value>| {
            let of = |name: &str| row.get(name).cloned().unwrap_or_default();
            let methods = parsed(&of("authentication_methods"));
            json!({
                "id": text(&of("id")).unwrap_or_default(),
                "token": text(&of("token")).unwrap_or_default(),
                "authentication_methods": if methods.is_array() { methods } else { json!([]) },
                "issued_at": time(&of("issued_at")),
                "authenticated_at": time(&of("authenticated_at")),
                "expires_at": time(&of("expires_at")),
            })
        };
        Ok(self.all(query, &[identity])?.into_iter().map(shown).collect())
    }

    /// Which rows of identities are read.
    fn of(&self) -> String {
        // A network's id is a UUID that the database gave itself.
        self.network()
            .map_or_else(String::new, |nid| format!("WHERE nid = '{}'", nid.replace('\'', "''")))
    }

    fn identity(&self, row: &Map<String, Value>) -> anyhow::Result<Value> {
        let of = |name: &str| row.get(name).cloned().unwrap_or_default();
        let id = text(&of("id")).unwrap_or_default();
        let mut credentials = Map::new();
        let query = "SELECT c.*, t.name AS type FROM identity_credentials c \
                     JOIN identity_credential_types t ON t.id = c.identity_credential_type_id \
                     WHERE c.identity_id = ?1 ORDER BY c.id";
        for credential in self.all(query, &[&id])? {
            let of = |name: &str| credential.get(name).cloned().unwrap_or_default();
            let kind = text(&of("type")).unwrap_or_default();
            let shown = json!({
                "type": kind,
                "identifiers": self.identifiers(&of("id"))?,
                "config": parsed(&of("config")),
                "version": text(&of("version")).and_then(|v| v.parse::<u64>().ok()).unwrap_or(0),
                "created_at": time(&of("created_at")),
                "updated_at": time(&of("updated_at")),
            });
            credentials.insert(kind, shown);
        }
        Ok(json!({
            "id": id,
            "schema_id": text(&of("schema_id")),
            "state": text(&of("state")).unwrap_or_else(|| "active".to_owned()),
            "state_changed_at": time(&of("state_changed_at")),
            "traits": parsed(&of("traits")),
            "metadata_public": parsed(&of("metadata_public")),
            "metadata_admin": parsed(&of("metadata_admin")),
            "organization_id": text(&of("organization_id")),
            "external_id": text(&of("external_id")),
            "created_at": time(&of("created_at")),
            "updated_at": time(&of("updated_at")),
            "verifiable_addresses": self.addresses("identity_verifiable_addresses", &id)?,
            "recovery_addresses": self.addresses("identity_recovery_addresses", &id)?,
            "credentials": credentials,
        }))
    }

    fn identifiers(&self, credential: &Value) -> anyhow::Result<Vec<String>> {
        let Some(credential) = text(credential) else { return Ok(Vec::new()) };
        let query = "SELECT identifier FROM identity_credential_identifiers \
                     WHERE identity_credential_id = ?1 ORDER BY identifier";
        let rows = self.all(query, &[&credential])?;
        Ok(rows.iter().filter_map(|row| text(&row["identifier"])).collect())
    }

    fn addresses(&self, table: &str, identity: &str) -> anyhow::Result<Vec<Value>> {
        if !self.has_table(table)? {
            return Ok(Vec::new());
        }
        let query = format!("SELECT * FROM {table} WHERE identity_id = ?1 ORDER BY id");
        let shown = |row: Map<String, Value>| {
            let of = |name: &str| row.get(name).cloned().unwrap_or_default();
            json!({
                "id": text(&of("id")),
                "value": text(&of("value")).unwrap_or_default(),
                "via": text(&of("via")),
                "status": text(&of("status")),
                "verified": truth(&of("verified")),
                "verified_at": time(&of("verified_at")),
                "created_at": time(&of("created_at")),
                "updated_at": time(&of("updated_at")),
            })
        };
        Ok(self.all(&query, &[identity])?.into_iter().map(shown).collect())
    }
}

/// JSON in a column; null for none.
fn parsed(value: &Value) -> Value {
    text(value).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use rusqlite::Connection;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    /// The SQLite fixture as a database.
    fn sqlite(folder: &Path) -> PathBuf {
        let file = folder.join("kratos #1?.sqlite");
        let script = std::fs::read_to_string(fixture("kratos.sqlite.sql")).unwrap();
        Connection::open(&file).unwrap().execute_batch(&script).unwrap();
        file
    }

    fn all(database: &Database) -> Vec<Value> {
        let mut found = Vec::new();
        database
            .each_identity(true, |identity| {
                found.push(identity);
                Ok(())
            })
            .unwrap();
        found
    }

    #[test]
    fn identities_are_read_as_the_api_shows_them() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&sqlite(folder.path()), None).unwrap();
        assert_eq!(database.identity_count().unwrap(), 4);
        let found = all(&database);
        let ann = &found[0];
        assert_eq!(ann["id"], "0a1b2c3d-0000-4000-8000-000000000001");
        assert_eq!(ann["traits"]["email"], "Ann@import.test");
        assert_eq!(ann["created_at"], "2023-02-03T04:05:06.123456+00:00");
        assert_eq!(
            (&ann["metadata_public"]["plan"], &ann["external_id"]),
            (&json!("gold"), &json!("crm-1"))
        );
        let password = &ann["credentials"]["password"];
        assert_eq!(password["identifiers"], json!(["ann@import.test"]));
        assert!(password["config"]["hashed_password"].as_str().unwrap().starts_with("$2b$"));
        assert_eq!(
            ann["credentials"]["totp"]["config"]["totp_url"],
            "otpauth://totp/x?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
        );
        let address = &ann["verifiable_addresses"][0];
        assert_eq!((&address["verified"], &address["status"]), (&json!(true), &json!("completed")));
        assert_eq!(ann["recovery_addresses"][0]["value"], "ann@import.test");
        let session = &ann["sessions"][0];
        assert_eq!(
            (&session["token"], &session["authentication_methods"]),
            (&json!("ory_st_x"), &json!([]))
        );
        let bob = found.iter().find(|identity| identity["state"] == "inactive").unwrap();
        assert_eq!(bob["organization_id"], "aaaaaaaa-0000-4000-8000-000000000001");
        assert_eq!(bob["metadata_public"], Value::Null);
    }

    #[test]
    fn dump_of_postgres_says_the_same() {
        let database = Database::open(&fixture("kratos.postgres.sql"), None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let other = Database::open(&sqlite(folder.path()), None).unwrap();
        let (dumped, mut stored) = (all(&database), all(&other));
        stored.retain(|stored| dumped.iter().any(|dumped| dumped["id"] == stored["id"]));
        assert_eq!((dumped.len(), stored.len()), (2, 2));
        for (dumped, stored) in dumped.iter().zip(&stored) {
            for same in ["id", "schema_id", "state", "traits", "metadata_admin", "external_id"] {
                assert_eq!(dumped[same], stored[same], "{same}");
            }
        }
        assert_eq!(dumped[0]["metadata_public"]["motto"], "a\"b\\c");
        assert_eq!(dumped[0]["verifiable_addresses"][0]["verified"], true);
        assert_eq!(dumped[0]["updated_at"], "2024-02-03T04:05:06.5Z");
        assert_eq!(
            dumped[0]["credentials"]["password"]["identifiers"],
            stored[0]["credentials"]["password"]["identifiers"]
        );
    }

    #[test]
    fn what_does_not_fit_is_found_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&sqlite(folder.path()), None).unwrap();
        let survey = database.survey().unwrap();
        assert_eq!((survey.identities, survey.sessions, survey.odd_identifiers), (4, 1, 1));
        let kinds: Vec<_> = survey.credentials.iter().map(|c| (c.name.as_str(), c.count)).collect();
        assert_eq!(kinds, [("password", 2), ("totp", 1)]);
        assert_eq!(survey.shared.len(), 1);
        let shared = &survey.shared[0];
        assert_eq!((shared.value.as_str(), shared.identities), ("ann@import.test", 2));
    }

    #[test]
    fn network_is_chosen_where_there_are_several() {
        let folder = tempfile::tempdir().unwrap();
        let file = sqlite(folder.path());
        let other = "UPDATE identities SET nid = 'bbbbbbbb-0000-4000-8000-000000000001' \
                     WHERE state = 'inactive'";
        Connection::open(&file).unwrap().execute_batch(other).unwrap();
        let refused = Database::open(&file, None).unwrap_err().to_string();
        assert!(refused.contains("several networks"), "{refused}");
        assert!(Database::open(&file, Some("x' OR ''='")).is_err());
        let database = Database::open(&file, Some("bbbbbbbb-0000-4000-8000-000000000001")).unwrap();
        assert_eq!(all(&database).len(), 1);
    }
}
