//! What nodes say to each other above Raft: one tonic service beside Raft's, on
//! the same listener.
//!
//! Every call says which cluster it comes from and which node it is meant for,
//! and is refused where it is not at home. A refusal proves that nothing was
//! done; so does a connection that was never made. Any other failure of a
//! proposal's call proves nothing.

use cardea_raft::GroupId;

pub(crate) mod client;
pub(crate) mod forward;
#[cfg(test)]
mod frozen;
pub mod operations;
pub(crate) mod server;

/// The generated messages, client and server.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub(crate) mod proto {
    tonic::include_proto!("cardea.cluster.v1");
}

impl proto::StatusResponse {
    /// What a node says of its replicas of a group; all are in the order of their groups.
    pub(crate) fn of_group(&self, group: GroupId) -> &[proto::ReplicaReport] {
        let from = self.replicas.partition_point(|report| report.group < group.0);
        let of_group = &self.replicas[from..];
        &of_group[..of_group.partition_point(|report| report.group == group.0)]
    }
}

/// Bytes of a message beyond which either side refuses it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;
