//! How replicas on different nodes reach each other: gRPC over mutual TLS.
//!
//! Outward, [`GrpcTransport`] hands openraft a client per replica; clients of
//! all groups share a few [`Channels`] per node. Inward, [`routes`] dispatches
//! calls to the [`Groups`](crate::Groups) of this node, behind [`serve`].
//!
//! Every call says which cluster, node, group and replica it comes from and is
//! meant for, and is refused with a [`Refusal`] of its own where it is not at
//! home. The caller of a refused or failed call counts the replica as
//! unreachable and backs off.
//!
//! - Entries travel in one stream per follower, pipelined, answered in order.
//!   Each request has a deadline; past it the stream is dropped, so that an
//!   answer is never taken for that of another request.
//! - Heartbeats of all groups to one node share one stream, several to a
//!   message when they come together.
//! - Snapshots are files in checked pieces, with the stream's back-pressure; all that a
//!   node sends share a bound of speed, and few are on their way at once.
//!
//! Messages are in `proto/raft.proto`; their bytes are frozen.

mod append;
mod arrival;
mod beats;
mod channels;
mod client;
mod confirmed;
mod connection;
mod convoy;
mod ending;
mod listener;
mod network;
mod reception;
mod refusal;
mod room;
mod service;
mod shipment;
mod wire;

#[cfg(test)]
mod tests;

pub use channels::{ChannelSettings, Channels, Purpose};
pub use client::{GrpcTransport, ReplicaClient, ReplicaClients};
pub use connection::PeerInfo;
pub use listener::{ServeError, serve};
pub use network::{ByteStream, Dialer, Listener, Network};
pub use refusal::Refusal;
pub use service::routes;

/// The generated messages, client and server.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod proto {
    tonic::include_proto!("cardea.raft.v1");
}

/// Bytes of a message beyond which either side refuses it.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Bounds of what is sent and how long an answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportSettings {
    /// Bytes of entries in one message; larger appends are split. A single
    /// larger entry goes alone.
    pub append_bytes_max: usize,
    /// Milliseconds for the answer to an append, and to be connected.
    pub append_ms_max: u64,
    /// Milliseconds for the answer to any heartbeat before the connection is
    /// taken for dead.
    pub beat_ms_max: u64,
    /// Milliseconds for the answer to a read index.
    pub read_index_ms_max: u64,
    /// Bytes of a file in one message of a snapshot.
    pub chunk_bytes: usize,
    /// Milliseconds without progress after which a snapshot is given up.
    pub chunk_ms_max: u64,
    /// Milliseconds for the installation of a snapshot that has arrived.
    pub snapshot_ms_max: u64,
    /// Bytes of snapshots that the node sends in a second, all of them together.
    pub snapshot_bytes_per_second: u64,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            append_bytes_max: 4 << 20,
            append_ms_max: 2_000,
            beat_ms_max: 1_000,
            read_index_ms_max: 1_000,
            chunk_bytes: 512 << 10,
            chunk_ms_max: 10_000,
            snapshot_ms_max: 30 * 60_000,
            snapshot_bytes_per_second: crate::Settings::SNAPSHOT_BYTES_PER_SECOND,
        }
    }
}
