//! Counting what waits to be sent, for the metrics.

use std::{sync::Arc, time::Duration};

use crate::layers::Layers;

/// How often it is counted: every node does, each for itself, by what it has itself.
const EVERY: Duration = Duration::from_secs(15);

/// Counts until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        if let Some(service) = layers.service()
            && let Err(error) = service.count_waiting().await
        {
            // The last count stays, and the next is soon.
            tracing::debug!(%error, "what waits to be sent could not be counted");
        }
        tokio::time::sleep(EVERY).await;
    }
}
