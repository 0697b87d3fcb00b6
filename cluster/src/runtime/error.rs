//! Why a node cannot be opened, or cannot become a member.

use cardea_raft::{ClusterId, NodeId, tls::TlsError};
use cardea_storage::Fault;

use crate::directory::edit::EditError;

/// Why a node cannot be opened, or cannot become a member.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The data directory belongs to another cluster than the certificates.
    #[error("the data directory belongs to cluster {found}, the certificates to {expected}")]
    OtherCluster {
        /// The cluster of the certificates.
        expected: ClusterId,
        /// The cluster of the data directory.
        found: ClusterId,
    },
    /// Another process answers under this node's id.
    #[error("node {0} runs already: another process answers for it at {1}")]
    NodeRunsElsewhere(NodeId, String),
    /// The certificates cannot be used.
    #[error("the certificates cannot be used: {0}")]
    Tls(String),
    /// The cluster, or the data on the disk, is of a version that the binary does
    /// not know.
    #[error(
        "the cluster is at version {cluster}, this binary knows versions up to {binary}: start a newer one"
    )]
    TooOld {
        /// The cluster's version.
        cluster: u32,
        /// The newest that the binary knows.
        binary: u32,
    },
    /// The log of the directory says that it had state, and there is none.
    #[error("the directory's state on this node is lost: remove the data directory and join anew")]
    StateLost,
    /// The node belongs to a cluster already.
    #[error("this node belongs to cluster {0} already")]
    AlreadyMember(ClusterId),
    /// A node that is to be joined belongs to a cluster already.
    #[error(
        "there is a cluster already: the node at {0} belongs to it, and this one joins it by itself"
    )]
    MadeElsewhere(String),
    /// The cluster refuses the node, for good.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// The plan makes no sense.
    #[error("the plan makes no sense: {0}")]
    Plan(&'static str),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The directory could not be written or read.
    #[error("the directory did not answer")]
    Directory(#[from] EditError),
    /// The machine failed.
    #[error("the node cannot be opened")]
    Fault(#[from] Fault),
}

impl From<TlsError> for OpenError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error.to_string())
    }
}
