//! Who a data directory belongs to: the file `IDENTITY` in it.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use cardea_raft::{ClusterId, NodeId, ReplicaId};
use cardea_storage::{Fault, engine::Disk};
use prost::Message;

use crate::member::Member;

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
    /// The newest cluster version that the node was a member under: its data is
    /// not for binaries that do not know it. 0 in files of the first version.
    #[prost(uint32, tag = "7")]
    pub(crate) version: u32,
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

/// Writes the cluster's version into the file whenever it was raised.
pub(super) async fn note_version(member: Arc<Member>) {
    let mut views = member.directory.watch();
    let mut noted = 0;
    loop {
        let version = views.borrow_and_update().version();
        if version > noted {
            let (disk, data_dir) = (member.disk.clone(), member.data_dir.clone());
            let written = cardea_raft::blocking::spawn(move || {
                let found = Identity::read(disk.as_ref(), &data_dir)?;
                match found.filter(|found| found.version < version) {
                    Some(found) => Identity { version, ..found }.write(disk.as_ref(), &data_dir),
                    None => Ok(()),
                }
            });
            match written.await {
                Ok(Ok(())) => noted = version,
                Ok(Err(fault)) => return member.raise(fault),
                Err(_) => return,
            }
        }
        tokio::select! {
            () = member.stopping.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
        }
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
            version: 0,
        };
        let hex = |identity: &Identity| -> String {
            identity.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect()
        };
        assert_eq!(hex(&identity), "0a01631001180220012a01743001");
        let noted = Identity { version: 2, ..identity.clone() };
        assert_eq!(hex(&noted), "0a01631001180220012a017430013802");
        assert_eq!(identity.of_member(), None);
    }
}
