//! Relation tuples out of a database of Keto.

use cardea_permission::{
    Relationship,
    keto::{RowReader, RowsReport, TupleRow},
};

use super::database::{Database, text};

impl Database {
    /// Hands on each relation tuple once; says what became of the rows.
    ///
    /// # Errors
    /// If the database cannot be read, and what `take` fails with.
    pub fn each_tuple(
        &self,
        mut take: impl FnMut(Relationship) -> anyhow::Result<()>,
    ) -> anyhow::Result<RowsReport> {
        let mut reader = RowReader::new(self.network().map(str::to_owned));
        if self.has_table("keto_uuid_mappings")? {
            let query = "SELECT id, string_representation AS said FROM keto_uuid_mappings";
            self.each(query, &[], |row| {
                if let Some(id) = text(&row["id"]) {
                    // An empty text is one too.
                    reader.mapping(&id, row["said"].as_str().unwrap_or_default());
                }
                Ok(())
            })?;
        }
        let columns = "nid, namespace, object, relation, subject_id, subject_set_namespace, \
                       subject_set_object, subject_set_relation";
        let query = format!("SELECT {columns} FROM keto_relation_tuples");
        self.each(&query, &[], |row| {
            let given = |name: &str| row[name].as_str().map(str::to_owned);
            let row = TupleRow {
                nid: given("nid").unwrap_or_default(),
                namespace: given("namespace").unwrap_or_default(),
                object: given("object").unwrap_or_default(),
                relation: given("relation").unwrap_or_default(),
                subject_id: given("subject_id"),
                subject_set_namespace: given("subject_set_namespace"),
                subject_set_object: given("subject_set_object"),
                subject_set_relation: given("subject_set_relation"),
            };
            reader.tuple(row).map_or(Ok(()), &mut take)
        })?;
        Ok(reader.report().clone())
    }
}
