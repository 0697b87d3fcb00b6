//! Identity schemas on a node: what an operator puts in force on one is looked for by
//! all. The row is in the node's own replica of the directory, so looking costs a read of
//! memory.

use std::{sync::Arc, time::Duration};

use cardea_storage::Consistency;

use crate::layers::Layers;

/// How often a node looks.
const EVERY: Duration = Duration::from_millis(500);

/// Takes up schemas as they change, until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        if let Some(service) = layers.service() {
            match service.refresh_schemas(Consistency::Eventual).await {
                Ok(true) => {
                    tracing::info!(version = service.schemas_version(), "new identity schemas");
                }
                Ok(false) => {}
                // The next round tries again; a request that needs one asks itself.
                Err(error) => tracing::debug!(%error, "identity schemas could not be read"),
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
