//! Errors for people: a browser that cannot be answered with JSON is sent to a page,
//! which asks what happened (`getFlowError`).

use cardea_storage::{Consistency, StoreError, Timestamp};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Service,
    model::Scope,
    table::{FlowErrorKey, FlowErrorRecord, FlowErrors},
};

/// An error that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct FlowError {
    /// Its id.
    pub id: Uuid,
    /// What is shown of it.
    pub error: Value,
    /// When it came about.
    pub created_at: Timestamp,
}

impl Service {
    /// Keeps an error for a page to show, as long as a flow that is over.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn keep_error(&self, scope: Scope, error: &Value) -> Result<Uuid, StoreError> {
        let id = self.mint_local();
        let now = self.now();
        let record =
            &FlowErrorRecord { error: error.to_string().into(), created_at: now.as_millis() };
        let kept = now.after(self.settings.flow_retention);
        self.store
            .transact(|t| async move {
                let key = FlowErrorKey { tenant: scope.tenant, id };
                t.insert::<FlowErrors>(&key, record, Some(kept));
                Ok::<_, StoreError>(())
            })
            .await?;
        Ok(id)
    }

    /// An error by its id; `None` if there is none, or it was forgotten.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn flow_error(
        &self,
        scope: Scope,
        id: Uuid,
    ) -> Result<Option<FlowError>, StoreError> {
        let key = FlowErrorKey { tenant: scope.tenant, id };
        let mut found = self.store.view(Consistency::Eventual).peek::<FlowErrors>(&key).await?;
        if found.is_none() {
            found = self.store.view(Consistency::Strong).peek::<FlowErrors>(&key).await?;
        }
        Ok(found.map(|entry| FlowError {
            id,
            error: serde_json::from_slice(&entry.record.error).unwrap_or_default(),
            created_at: Timestamp(entry.record.created_at),
        }))
    }
}
