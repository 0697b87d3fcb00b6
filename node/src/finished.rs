//! Telling flows that lie elsewhere that they were completed.

use std::{sync::Arc, time::Duration};

use crate::layers::Layers;

/// How long they gather.
const EVERY: Duration = Duration::from_secs(1);

/// Tells them until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(service) = layers.service() else { continue };
        if let Err(error) = service.tell_finished_flows().await {
            // The marks decide; this only helps readers.
            tracing::debug!(%error, "flows were not told that they were completed");
        }
    }
}
