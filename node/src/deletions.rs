//! Deletions of relation tuples: every node looks for those that nobody is at any more.
//! The store decides who takes up which.

use std::{sync::Arc, time::Duration};

use crate::layers::Layers;

/// How often a node looks.
const EVERY: Duration = Duration::from_secs(5);

/// Goes on with what others began, until it is dropped.
pub async fn run(layers: Arc<Layers>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(made) = layers.made() else { continue };
        if let Err(error) = made.permission.continue_deletions().await {
            tracing::debug!(%error, "deletions could not be gone on with");
        }
    }
}
