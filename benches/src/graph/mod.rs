//! Permissions under measurement: what is asked ([`model`]), of a store in this
//! process ([`store`]), of three processes over HTTP ([`rest`]), and of SpiceDB, which
//! gets the same tuples and the same questions ([`peer`]).

pub mod model;
pub mod peer;
pub mod rest;
pub mod store;

use serde::Serialize;

use crate::latency::Summary;

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
