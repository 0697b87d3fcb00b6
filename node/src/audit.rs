//! Sealing what happened: every node tries, and the store lets one of them.

use std::{sync::Arc, time::Duration};

use crate::layers::Layers;

/// How often a node looks whether an hour can be sealed.
const EVERY: Duration = Duration::from_secs(60);

/// Seals until it is dropped. Seals are logged, so that they lie elsewhere too.
pub async fn run(layers: Arc<Layers>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(service) = layers.service() else { continue };
        match service.seal_audit().await {
            Ok(sealed) => {
                for seal in sealed {
                    let link: String = seal.link.iter().map(|b| format!("{b:02x}")).collect();
                    tracing::info!(
                        lane = seal.lane,
                        tenant = seal.tenant.0,
                        until = seal.until.as_millis(),
                        events = seal.events,
                        link,
                        "audit events were sealed"
                    );
                }
            }
            // The next round tries again.
            Err(error) => tracing::debug!(%error, "audit events could not be sealed"),
        }
    }
}
