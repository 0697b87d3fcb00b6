//! How it is agreed: Raft groups, their shared log, the calls between nodes,
//! and linearizable reads.
//!
//! This is the only crate that names openraft. It does not know what an entry
//! means: a group replicates a [`Machine`], which `cluster` implements over a
//! storage tablet. It never serves a read by a lease, never reuses a replica
//! id, and never retries a failed sync.
//!
//! Reading order: [`ids`], [`machine`], [`types`], [`encoding`], then the log,
//! the replica, the host, and the transport.

pub mod blocking;
pub mod encoding;
pub mod ids;
pub mod machine;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod tls;
pub mod transport;
pub mod types;

mod admission;
mod alarm;
mod batches;
mod change;
mod clockwork;
mod confirm;
mod durations;
mod group;
mod host;
mod keeper;
mod log;
mod office;
mod pack;
mod patience;
mod peers;
mod propose;
mod pulse;
mod read;
mod replica;
mod rest;
mod rounds;
mod settings;
mod status;
mod succession;
mod tenure;
#[cfg(test)]
mod tests;

pub use admission::Admission;
pub use change::ChangeError;
pub use durations::{BOUNDS_US, DurationCounts, Durations};
pub use host::{Host, HostOptions, StartError};
pub use ids::{ClusterId, GroupId, NodeId, ReplicaId};
pub use log::{Glance, LogPositions, LogSettings, LogStore, OpenLogError, WriterCounts};
pub use machine::{Applied, Entry, Machine, Payload, Position, Snapshot};
pub use peers::{Groups, Loss, Peers, Replica, Transport};
pub use propose::{ProposeError, Proposed};
pub use pulse::Pulse;
pub use read::{Leads, Question, ReadError, ReadIndexAnswer, Testimony, Witnesses};
pub use replica::{SnapshotBuilder, StateMachine};
pub use settings::{Settings, Timing};
pub use status::{GroupStatus, Role};
