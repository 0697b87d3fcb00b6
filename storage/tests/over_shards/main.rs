//! Transactions and reads over several shards, under loss, duplication, dead
//! coordinators and skewed clocks; each interleaving that the protocol exists to
//! prevent is a test by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod flaky;
mod history;
mod interleavings;
mod tables;
