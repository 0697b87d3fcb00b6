//! Erasures: every node looks for what is left to be erased. What two of them do at once
//! does no harm.

use std::{sync::Arc, time::Duration};

use cardea_identity::identity::Erasure;
use cardea_permission::model::{Subject, TupleQuery};

use crate::layers::{Layers, Made};

/// How often a node looks.
const EVERY: Duration = Duration::from_secs(60);

/// Erases what is to be erased, until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(made) = layers.made() else { continue };
        let pending = match made.service.pending_erasures().await {
            Ok(pending) => pending,
            Err(error) => {
                tracing::debug!(%error, "erasures could not be looked for");
                continue;
            }
        };
        for erasure in pending {
            let identity = erasure.identity;
            match erase(&made, &erasure).await {
                Ok(()) => tracing::info!(%identity, "an identity was erased"),
                // The next round goes on.
                Err(error) => tracing::warn!(%error, %identity, "an erasure is not done yet"),
            }
        }
    }
}

async fn erase(made: &Made, erasure: &Erasure) -> anyhow::Result<()> {
    made.service.continue_erasure(erasure).await?;
    let subject = Subject::Id(erasure.identity.to_string());
    let query = TupleQuery { subject: Some(subject), ..TupleQuery::default() };
    made.permission.delete_tuples(erasure.scope.tenant, &query).await?;
    made.service.finish_erasure(erasure).await?;
    Ok(())
}
