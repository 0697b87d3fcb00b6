//! Numbers of what is sent: mails, text messages and calls of web hooks.

use std::sync::Arc;

use super::registry::{MetricsSource, Samples};
use crate::layers::Layers;

/// Numbers of the outboxes of a node's layers.
pub struct OutboxMetrics(pub Arc<Layers>);

impl MetricsSource for OutboxMetrics {
    fn gather(&self, samples: &mut Samples) {
        let Some(service) = self.0.service() else { return };
        for usage in service.outbox_usage() {
            let labels = || vec![("outbox", usage.outbox.to_owned())];
            let mut gauge = |name, help, value: f64| samples.gauge(name, help, labels(), value);
            let waiting = "What waits to be sent in the whole cluster, at most 32000 counted";
            gauge("outbox_waiting", waiting, usage.waiting as f64);
            gauge(
                "outbox_overdue_seconds",
                "Since when what is due the longest should have been sent",
                usage.overdue.as_secs_f64(),
            );
            let mut counter = |name, help, value| samples.counter(name, help, labels(), value);
            counter("outbox_sent", "What this node sent", usage.sent);
            let postponed = "Tries of this node that failed and are made again";
            counter("outbox_postponed", postponed, usage.postponed);
            counter("outbox_abandoned", "What this node gave up: dead letters", usage.abandoned);
        }
    }
}
