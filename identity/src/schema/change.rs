//! Changing the schemas while serving. Those that are built in cannot be changed; one
//! under the name `default` takes the place of the built-in one.
//!
//! What is put in force lies in one row of the directory, which every node has a replica
//! of. A node compiles it again when its version rises, which it looks for twice a second
//! (see `node`), and at once where a request names a schema that it does not know.

use cardea_storage::{Consistency, StoreError, Table, store::ReadRequest};
use serde_json::Value;
use thiserror::Error;

use super::{IdentitySchema, SchemaId, SchemaRefused, Schemas, preset::EMAIL_PRESET_ID};
use crate::{
    PageRequest, Scope, Service,
    identity::{ListFilter, ListRejection},
    page::PAGE_SIZE_MAX,
    table::{SchemaRecord, SchemaSetKey, SchemaSetRecord, SchemaSets},
};

/// Most schemas.
pub const SCHEMAS_MAX: usize = 64;
/// The longest name, in bytes.
pub const ID_BYTES_MAX: usize = 256;
/// All documents together, in bytes of JSON.
const DOCUMENTS_BYTES_MAX: usize = 512 * 1024;

/// A schema to be put in force.
#[derive(Debug, Clone)]
pub struct NewSchema {
    /// Its name.
    pub id: String,
    /// Its document.
    pub document: Value,
    /// Whether it is to stand for an empty name.
    pub is_default: bool,
}

/// Why schemas are not changed.
#[derive(Debug, Error)]
pub enum SchemaChangeRejection {
    /// The name is empty, longer than [`ID_BYTES_MAX`], or of one that is built in.
    #[error("a schema cannot have the name {0:?}")]
    BadId(String),
    /// The document is no identity schema.
    #[error(transparent)]
    Refused(#[from] SchemaRefused),
    /// There are too many, or they are too large together.
    #[error("at most {SCHEMAS_MAX} schemas of {DOCUMENTS_BYTES_MAX} bytes together")]
    TooMany,
    /// There is no such schema that could be removed.
    #[error("there is no such schema")]
    NotFound,
    /// It stands for an empty name.
    #[error("the default schema is not removed")]
    IsDefault,
    /// An identity has it.
    #[error("an identity has the schema")]
    InUse,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Service {
    /// Puts a schema in force, in the place of one of the same name. Identities that do
    /// not fit it stay as they are until they are changed.
    ///
    /// # Errors
    /// See [`SchemaChangeRejection`].
    pub async fn put_schema(&self, new: NewSchema) -> Result<(), SchemaChangeRejection> {
        if new.id.is_empty() || new.id.len() > ID_BYTES_MAX || new.id == EMAIL_PRESET_ID {
            return Err(SchemaChangeRejection::BadId(new.id));
        }
        IdentitySchema::parse(SchemaId(new.id.clone()), new.document.clone())?;
        let new = &new;
        self.store
            .transact(|t| async move {
                let found = t.get::<SchemaSets>(&SchemaSetKey).await?;
                let mut set = found.map(|entry| entry.record).unwrap_or_default();
                let schema = SchemaRecord {
                    id: new.id.clone(),
                    document: new.document.to_string().into(),
                    updated_at: t.now().as_millis(),
                };
                let known = set.schemas.iter().find(|known| known.id == new.id);
                let stays = known.is_some_and(|known| known.document == schema.document);
                if stays && (!new.is_default || set.default_id == new.id) {
                    return Ok(());
                }
                set.schemas.retain(|known| known.id != new.id);
                set.schemas.push(schema);
                set.schemas.sort_by(|a, b| a.id.cmp(&b.id));
                if new.is_default {
                    set.default_id.clone_from(&new.id);
                }
                let bytes: usize = set.schemas.iter().map(|schema| schema.document.len()).sum();
                if set.schemas.len() > SCHEMAS_MAX || bytes > DOCUMENTS_BYTES_MAX {
                    return Err(SchemaChangeRejection::TooMany);
                }
                set.version += 1;
                t.put::<SchemaSets>(&SchemaSetKey, &set, None).await?;
                Ok(())
            })
            .await?;
        self.refresh_schemas(Consistency::Strong).await?;
        Ok(())
    }

    /// Removes a schema that no identity has. An identity that is created meanwhile may
    /// be left with a schema that is no more: it is read as before, and changed only
    /// together with its schema.
    ///
    /// # Errors
    /// See [`SchemaChangeRejection`].
    pub async fn remove_schema(&self, scope: Scope, id: &str) -> Result<(), SchemaChangeRejection> {
        self.refresh_schemas(Consistency::Strong).await?;
        if self.schemas().default_id().0 == id {
            return Err(SchemaChangeRejection::IsDefault);
        }
        if self.is_used(scope, id).await? {
            return Err(SchemaChangeRejection::InUse);
        }
        self.store
            .transact(|t| async move {
                let found = t.get::<SchemaSets>(&SchemaSetKey).await?;
                let mut set = found.map(|entry| entry.record).unwrap_or_default();
                let before = set.schemas.len();
                set.schemas.retain(|schema| schema.id != id);
                if set.schemas.len() == before {
                    return Err(SchemaChangeRejection::NotFound);
                }
                set.version += 1;
                t.put::<SchemaSets>(&SchemaSetKey, &set, None).await?;
                Ok(())
            })
            .await?;
        self.refresh_schemas(Consistency::Strong).await?;
        Ok(())
    }

    /// Whether an identity of the tenant has a schema; looks at all of them.
    async fn is_used(&self, scope: Scope, id: &str) -> Result<bool, StoreError> {
        let mut page = PageRequest { size: PAGE_SIZE_MAX, token: None };
        loop {
            let (all, strong) = (ListFilter::default(), Consistency::Strong);
            let found = match self.list_identities(scope, all, &page, strong).await {
                Ok(found) => found,
                Err(ListRejection::Store(error)) => return Err(error),
                // No filter, and tokens of its own.
                Err(_) => return Ok(true),
            };
            if found.items.iter().any(|identity| identity.schema_id == id) {
                return Ok(true);
            }
            page.token = found.next;
            if page.token.is_none() {
                return Ok(false);
            }
        }
    }

    /// Takes up the schemas that are in force, if they are others than this node has;
    /// says whether they were.
    ///
    /// # Errors
    /// See [`StoreError`]. A schema that a newer version wrote and this one does not
    /// understand is left out, and logged.
    pub async fn refresh_schemas(&self, consistency: Consistency) -> Result<bool, StoreError> {
        let request = ReadRequest::new(consistency).get(SchemaSets::key(&SchemaSetKey));
        let answer = self.store.read(request).await?;
        let row = answer.results.into_iter().find_map(cardea_storage::store::Rows::into_row);
        let Some(row) = row else { return Ok(false) };
        let set = SchemaSets::decode(&row)?.record;
        if set.version <= self.schemas_version() {
            return Ok(false);
        }
        let schemas = compiled(self.built_in_schemas(), &set);
        self.set_schemas(set.version, schemas);
        Ok(true)
    }
}

fn compiled(built_in: &Schemas, set: &SchemaSetRecord) -> Schemas {
    let mut schemas = built_in.clone();
    for record in &set.schemas {
        let parsed = serde_json::from_slice(&record.document)
            .map_err(|error| SchemaRefused::Invalid(error.to_string()))
            .and_then(|document| IdentitySchema::parse(SchemaId(record.id.clone()), document));
        match parsed {
            Ok(schema) => schemas.insert(schema),
            Err(error) => tracing::error!(%error, schema = record.id, "a schema is not understood"),
        }
    }
    if !set.default_id.is_empty() && schemas.get(&set.default_id).is_some() {
        schemas.set_default(SchemaId(set.default_id.clone()));
    }
    schemas
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        identity::{CreateRejection, NewIdentity},
        testing::World,
    };

    fn document() -> Value {
        json!({"type": "object", "properties": {"traits": {"type": "object", "properties": {
            "name": {"type": "string",
                "ory.sh/kratos": {"credentials": {"password": {"identifier": true}}}}}}}})
    }

    fn schema(id: &str, is_default: bool) -> NewSchema {
        NewSchema { id: id.to_owned(), document: document(), is_default }
    }

    fn named(schema: &str, name: &str) -> NewIdentity {
        let traits = json!({"name": name});
        NewIdentity { schema_id: schema.to_owned(), traits, ..NewIdentity::default() }
    }

    #[tokio::test]
    async fn schema_is_put_in_force_and_removed_once_nobody_has_it() {
        let world = World::new();
        let service = &world.service;
        let create = async |new| service.create_identity(world.scope, new).await;
        let unknown = create(named("bot", "a")).await;
        assert!(matches!(unknown, Err(CreateRejection::UnknownSchema(_))), "{unknown:?}");
        service.put_schema(schema("bot", false)).await.unwrap();
        service.put_schema(schema("bot", false)).await.unwrap();
        assert_eq!(service.schemas_version(), 1, "the same again changes nothing");
        let bot = create(named("bot", "a")).await.unwrap();
        assert_eq!(bot.schema_id, "bot");
        let used = service.remove_schema(world.scope, "bot").await;
        assert!(matches!(used, Err(SchemaChangeRejection::InUse)), "{used:?}");
        service.delete_identity(world.scope, bot.id).await.unwrap();
        service.remove_schema(world.scope, "bot").await.unwrap();
        let gone = create(named("bot", "a")).await;
        assert!(matches!(gone, Err(CreateRejection::UnknownSchema(_))), "{gone:?}");
        let again = service.remove_schema(world.scope, "bot").await;
        assert!(matches!(again, Err(SchemaChangeRejection::NotFound)), "{again:?}");
    }

    #[tokio::test]
    async fn default_schema_is_chosen_and_stays() {
        let world = World::new();
        world.service.put_schema(schema("bot", true)).await.unwrap();
        let made = world.service.create_identity(world.scope, named("", "a")).await.unwrap();
        assert_eq!(made.schema_id, "bot");
        let refused = world.service.remove_schema(world.scope, "bot").await;
        assert!(matches!(refused, Err(SchemaChangeRejection::IsDefault)), "{refused:?}");
    }

    #[tokio::test]
    async fn another_node_takes_a_schema_up_when_it_is_asked_for_it() {
        let world = World::new();
        let other = world.service.rekeyed(crate::testing::keys(1));
        world.service.put_schema(schema("bot", false)).await.unwrap();
        assert!(other.schemas().get("bot").is_none());
        other.create_identity(world.scope, named("bot", "a")).await.unwrap();
        let third = world.service.rekeyed(crate::testing::keys(1));
        world.service.put_schema(schema("bot2", false)).await.unwrap();
        assert!(third.refresh_schemas(Consistency::Eventual).await.unwrap());
        assert!(!third.refresh_schemas(Consistency::Eventual).await.unwrap());
        assert!(third.schemas().get("bot2").is_some());
    }

    #[tokio::test]
    async fn bad_schemas_are_refused() {
        let world = World::new();
        let put = async |new| world.service.put_schema(new).await;
        let long = "x".repeat(ID_BYTES_MAX + 1);
        for id in ["", EMAIL_PRESET_ID, &long] {
            let refused = put(schema(id, false)).await;
            assert!(matches!(refused, Err(SchemaChangeRejection::BadId(_))), "{refused:?}");
        }
        let bad = NewSchema { document: json!({"type": "object"}), ..schema("x", false) };
        let refused = put(bad).await;
        assert!(matches!(refused, Err(SchemaChangeRejection::Refused(_))), "{refused:?}");
        for at in 0..SCHEMAS_MAX {
            put(schema(&format!("s{at}"), false)).await.unwrap();
        }
        let refused = put(schema("one more", false)).await;
        assert!(matches!(refused, Err(SchemaChangeRejection::TooMany)), "{refused:?}");
    }
}
