//! Who a data directory belongs to: the file `IDENTITY` in it.

use std::path::Path;

use bytes::Bytes;
use cardea_raft::{ClusterId, NodeId, ReplicaId};
use cardea_storage::{Fault, engine::Disk};
use prost::Message;

const FILE: &str = "IDENTITY";

/// What the file says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Identity {
    /// Sixteen bytes; empty before the node belongs to a cluster.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) cluster: Bytes,
    /// 0 before the node belongs to a cluster.
    #[prost(uint64, tag = "2")]
    pub(crate) node: u64,
    /// The node's replica of the directory.
    #[prost(uint64, tag = "3")]
    pub(crate) directory_replica: u64,
    /// Whether this node initialised the cluster.
    #[prost(bool, tag = "4")]
    pub(crate) founding: bool,
    /// What the node drew to ask for admission.
    #[prost(bytes = "bytes", tag = "5")]
    pub(crate) ticket: Bytes,
    /// Whether the node ever ran: from then on a log that is not there was lost,
    /// with the votes in it.
    #[prost(bool, tag = "6")]
    pub(crate) started: bool,
}

impl Identity {
    pub(crate) fn read(disk: &dyn Disk, data_dir: &Path) -> Result<Option<Self>, Fault> {
        let bytes = disk.read_file(&data_dir.join(FILE))?;
        bytes
            .map(|bytes| Self::decode(bytes).map_err(|error| Fault::caused("file IDENTITY", error)))
            .transpose()
    }

    pub(crate) fn write(&self, disk: &dyn Disk, data_dir: &Path) -> Result<(), Fault> {
        disk.create_directory(data_dir)?;
        disk.replace_file(&data_dir.join(FILE), &self.encode_to_vec())
    }

    /// The cluster and the node; `None` before the node belongs to one.
    pub(crate) fn of_member(&self) -> Option<(ClusterId, NodeId)> {
        let cluster = self.cluster.as_ref().try_into().ok().map(ClusterId)?;
        (self.node != 0).then_some((cluster, NodeId(self.node)))
    }

    pub(crate) fn replica(&self) -> ReplicaId {
        ReplicaId(self.directory_replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_the_identity_file_are_frozen() {
        let identity = Identity {
            cluster: Bytes::from_static(b"c"),
            node: 1,
            directory_replica: 2,
            founding: true,
            ticket: Bytes::from_static(b"t"),
            started: true,
        };
        let hex: String = identity.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "0a01631001180220012a01743001");
        assert_eq!(identity.of_member(), None);
    }
}
