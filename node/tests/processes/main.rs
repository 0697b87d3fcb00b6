//! What the node promises, against three real processes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    missing_docs,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod files;
mod main_job;
mod refused_starts;
mod restarts;
