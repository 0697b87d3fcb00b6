//! Numbers of what goes on for long in the permission layer's API.

use std::sync::Arc;

use super::registry::{MetricsSource, Samples};
use crate::layers::Layers;

/// Numbers of a node's watches, deletions and streams.
pub struct PermissionMetrics(pub Arc<Layers>);

impl MetricsSource for PermissionMetrics {
    fn gather(&self, samples: &mut Samples) {
        let usage = self.0.keto_usage();
        let mut gauge = |name, help, value: usize| samples.gauge(name, help, vec![], value as f64);
        gauge("permission_watches", "Watches of relation tuples under way", usage.watches);
        gauge("permission_deletions", "Deletions by query under way", usage.deletions);
        gauge("permission_streams", "Look-ups and exports being sent", usage.streams);
        if let Some(made) = self.0.made() {
            let (indexes, bytes) = made.permission.set_indexes();
            gauge("permission_set_indexes", "Sets that checks are told from an index of", indexes);
            gauge("permission_set_index_bytes", "Bytes of those indexes, about", bytes);
        }
        let mut counter = |name, help, value| samples.counter(name, help, vec![], value);
        counter("permission_watches_refused", "Watches refused for want of a place", usage.refused);
        counter(
            "permission_watches_too_old",
            "Watches that ended or were refused because what follows was not held any more",
            usage.too_old,
        );
    }
}
