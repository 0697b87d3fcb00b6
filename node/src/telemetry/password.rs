//! Numbers of the hashing threads.

use std::sync::Arc;

use super::registry::{MetricsSource, Samples};
use crate::layers::Layers;

/// Numbers of the hashing threads of a node's layers.
pub struct PasswordMetrics(pub Arc<Layers>);

impl MetricsSource for PasswordMetrics {
    fn gather(&self, samples: &mut Samples) {
        let Some(usage) = self.0.password_usage() else { return };
        let mut gauge = |name, help, value: usize| samples.gauge(name, help, vec![], value as f64);
        gauge("argon2_waiting", "Passwords that wait to be hashed", usage.waiting);
        gauge("argon2_running", "Passwords being hashed", usage.running);
        gauge("argon2_memory_bytes", "Memory of the hashes under way", usage.memory_bytes);
        let mut counter = |name, help, value| samples.counter(name, help, vec![], value);
        counter("argon2_done", "Passwords hashed", usage.done_total);
        counter("argon2_refused", "Passwords refused because too many waited", usage.refused_total);
        counter("argon2_abandoned", "Hashes that nobody waited for", usage.abandoned_total);
        let busy = usage.busy_us_total as f64 / 1e6;
        samples.seconds("argon2_busy_seconds", "Time spent hashing", vec![], busy);
    }
}
