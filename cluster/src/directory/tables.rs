//! The directory's tables: all in the directory's one slot.

use cardea_raft::{GroupId, NodeId, ReplicaId};
use cardea_storage::{
    Slot, Table, TableKey, Tag, Tenant,
    key::{KeyReader, KeyWriter},
};

use super::records::{
    ClusterKeyRecord, ClusterRecord, IndexRecord, NodeRecord, ShardRecord, TombstoneRecord,
};

/// The row about the whole cluster.
pub struct Clusters;
/// Nodes by id.
pub struct Nodes;
/// Shards by group.
pub struct ShardRows;
/// Dropped replicas.
pub struct Tombstones;
/// Sealed keys.
pub struct ClusterKeys;
/// Indexes by the tag of their rows.
pub struct Indexes;

/// The only key of [`Clusters`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TheCluster;

/// The key of [`Nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeKey(pub NodeId);

/// The key of [`ShardRows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardKey(pub GroupId);

/// The key of [`Tombstones`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TombstoneKey {
    /// The node that held it.
    pub node: NodeId,
    /// The group.
    pub group: GroupId,
    /// The replica.
    pub replica: ReplicaId,
}

/// The key of [`ClusterKeys`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterKeyKey {
    /// See [`KeyPurpose`](crate::keys::KeyPurpose).
    pub purpose: u8,
    /// The id of the key within its purpose; the largest is the current one.
    pub id: u32,
}

/// The key of [`Indexes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IndexKey(pub Tag);

macro_rules! directory_key {
    ($key:ty, |$this:ident, $writer:ident| $write:expr, |$reader:ident| $read:expr) => {
        impl TableKey for $key {
            fn slot(&self) -> Slot {
                Slot::DIRECTORY
            }

            fn write(&self, $writer: &mut KeyWriter) {
                let $this = self;
                $write;
            }

            fn read(_slot: Slot, _tenant: Tenant, $reader: &mut KeyReader<'_>) -> Option<Self> {
                $read
            }
        }
    };
}

impl TableKey for TheCluster {
    fn slot(&self) -> Slot {
        Slot::DIRECTORY
    }

    fn write(&self, _key: &mut KeyWriter) {}

    fn read(_slot: Slot, _tenant: Tenant, _rest: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self)
    }
}
directory_key!(NodeKey, |this, writer| writer.u64(this.0.0), |reader| Some(Self(NodeId(
    reader.u64()?
))));
directory_key!(ShardKey, |this, writer| writer.u64(this.0.0), |reader| Some(Self(GroupId(
    reader.u64()?
))));
directory_key!(
    TombstoneKey,
    |this, writer| writer.u64(this.node.0).u64(this.group.0).u64(this.replica.0),
    |reader| Some(Self {
        node: NodeId(reader.u64()?),
        group: GroupId(reader.u64()?),
        replica: ReplicaId(reader.u64()?),
    })
);
directory_key!(ClusterKeyKey, |this, writer| writer.u8(this.purpose).u32(this.id), |reader| Some(
    Self { purpose: reader.u8()?, id: reader.u32()? }
));

directory_key!(IndexKey, |this, writer| writer.u32(this.0.0.into()), |reader| Some(Self(Tag(
    u16::try_from(reader.u32()?).ok()?
))));

impl Table for Clusters {
    const TAG: Tag = Tag::CLUSTER;
    type Key = TheCluster;
    type Record = ClusterRecord;
}

impl Table for Nodes {
    const TAG: Tag = Tag::NODE;
    type Key = NodeKey;
    type Record = NodeRecord;
}

impl Table for ShardRows {
    const TAG: Tag = Tag::SHARD;
    type Key = ShardKey;
    type Record = ShardRecord;
}

impl Table for Tombstones {
    const TAG: Tag = Tag::REPLICA_TOMBSTONE;
    type Key = TombstoneKey;
    type Record = TombstoneRecord;
}

impl Table for ClusterKeys {
    const TAG: Tag = Tag::CLUSTER_KEY;
    type Key = ClusterKeyKey;
    type Record = ClusterKeyRecord;
}

impl Table for Indexes {
    const TAG: Tag = Tag::INDEX;
    type Key = IndexKey;
    type Record = IndexRecord;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_and_their_bytes_are_frozen() {
        let tombstone = TombstoneKey { node: NodeId(1), group: GroupId(2), replica: ReplicaId(3) };
        let bytes = Tombstones::key(&tombstone);
        let hex: String = bytes.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "3000010300000000000000000000000100000000000000020000000000000003");
        assert_eq!(Tombstones::read_key(&bytes), Some(tombstone));
        let key = ClusterKeyKey { purpose: 4, id: 5 };
        assert_eq!(ClusterKeys::read_key(&ClusterKeys::key(&key)), Some(key));
        let index = Indexes::key(&IndexKey(Tag(0x0411)));
        let hex: String = index.as_bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "300001090000000000000411");
        assert_eq!(Indexes::read_key(&index), Some(IndexKey(Tag(0x0411))));
        assert_eq!(Nodes::read_key(&Nodes::key(&NodeKey(NodeId(9)))), Some(NodeKey(NodeId(9))));
        assert_eq!(Clusters::read_key(&Clusters::key(&TheCluster)), Some(TheCluster));
        assert_eq!(
            ShardRows::read_key(&ShardRows::key(&ShardKey(GroupId(7)))),
            Some(ShardKey(GroupId(7)))
        );
    }
}
