//! Permissions under measurement: what is asked ([`model`]), of a store in this
//! process ([`store`]), of three processes over HTTP ([`rest`]) and gRPC ([`rpc`]), and of SpiceDB, which
//! gets the same tuples and the same questions ([`peer`]).

pub mod model;
pub mod peer;
pub mod rest;
pub mod rpc;
pub mod store;

use serde::Serialize;

use self::model::Model;
use crate::{latency::Summary, load::Sample};

/// What a round of one question came to.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// What was asked, see [`model::Model::name`].
    pub model: &'static str,
    /// Of whom, and how fresh.
    pub of: String,
    /// How many asked at once.
    pub clients: usize,
    /// Answers a second.
    pub rate: f64,
    /// Processor time of whoever answers, a question, in microseconds: what stays
    /// comparable where others use the machine too.
    pub cpu_us: f64,
    /// How long an answer took.
    pub latency: Summary,
    /// Answers other than the one that must be given, refusals among them.
    pub wrong: u64,
}

impl Round {
    /// What real processes answered.
    pub fn of_processes(model: Model, of: String, sample: &Sample) -> Self {
        let servers = sample.costs.iter().filter(|cost| cost.name != "generator");
        let used: f64 = servers.map(|cost| cost.cpu_seconds).sum();
        Self {
            model: model.name(),
            of,
            clients: sample.clients,
            rate: sample.rate,
            cpu_us: used * 1e6 / sample.latency.count.max(1) as f64,
            latency: sample.latency,
            wrong: sample.failed(),
        }
    }
}
