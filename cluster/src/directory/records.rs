//! The records of the directory. They lie on disks for years: fields are added,
//! never reused.

use bytes::Bytes;
use cardea_raft::{NodeId, ReplicaId};
use cardea_storage::{
    slot::{Slot, SlotRange},
    tag::Tag,
};
use prost::{Enumeration, Message};

/// Facts of the whole cluster; one row.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClusterRecord {
    /// The cluster's id; sixteen bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// Its name, for people.
    #[prost(string, tag = "2")]
    pub name: String,
    /// How often it was restored from a backup; in every snaptoken.
    #[prost(uint64, tag = "3")]
    pub incarnation: u64,
    /// The cluster version: the newest commands that may be proposed.
    #[prost(uint32, tag = "4")]
    pub version: u32,
    /// The next node id to give.
    #[prost(uint64, tag = "5")]
    pub next_node: u64,
    /// The next replica id to give.
    #[prost(uint64, tag = "6")]
    pub next_replica: u64,
    /// The next group id to give.
    #[prost(uint64, tag = "7")]
    pub next_group: u64,
    /// When it was initialised, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "8")]
    pub created_at: u64,
    /// Names the backup that is being restored; empty when none is. Until then
    /// the cluster does not serve.
    #[prost(bytes = "bytes", tag = "9")]
    pub restoring: Bytes,
    /// The version beyond which an operator does not want the cluster's to be
    /// raised; 0 for as far as every node goes.
    #[prost(uint32, tag = "10")]
    pub version_held: u32,
}

/// What a node is to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum NodeState {
    /// Not said.
    Unspecified = 0,
    /// It has an id and no say yet.
    Joining = 1,
    /// It serves.
    Live = 2,
    /// It hands its leaderships over and takes none.
    Draining = 3,
    /// Its replicas are being moved away.
    Decommissioning = 4,
    /// It has left for good.
    Decommissioned = 5,
}

/// A node.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct NodeRecord {
    /// Its name, for people.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The region it stands in.
    #[prost(string, tag = "2")]
    pub region: String,
    /// The failure zone within the region; may be empty.
    #[prost(string, tag = "3")]
    pub zone: String,
    /// Where other nodes reach it, as `host:port`.
    #[prost(string, tag = "4")]
    pub address: String,
    /// The base URL of its public listener.
    #[prost(string, tag = "5")]
    pub public_url: String,
    /// The base URL of its admin listener.
    #[prost(string, tag = "6")]
    pub admin_url: String,
    /// See [`NodeState`].
    #[prost(enumeration = "NodeState", tag = "7")]
    pub state: i32,
    /// When it last started, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "8")]
    pub started_at: u64,
    /// The version of its binary.
    #[prost(string, tag = "9")]
    pub binary_version: String,
    /// The newest cluster version it understands.
    #[prost(uint32, tag = "10")]
    pub version_max: u32,
    /// What it drew before it had an id; a repeated request to join finds it.
    #[prost(bytes = "bytes", tag = "11")]
    pub ticket: Bytes,
    /// Drawn by its process when it started: two processes under one id are
    /// told apart by it.
    #[prost(fixed64, tag = "12")]
    pub process: u64,
}

/// What a replica is meant to be. The leader of the group makes it so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum ReplicaRole {
    /// Not said.
    Unspecified = 0,
    /// It votes, once it has caught up.
    Voter = 1,
    /// It follows without a vote.
    Learner = 2,
    /// It is to go: first out of the group, then out of the row.
    Leaving = 3,
}

/// A replica of a shard.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ReplicaRecord {
    /// Its id, never given twice.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The node that holds it.
    #[prost(uint64, tag = "2")]
    pub node: u64,
    /// See [`ReplicaRole`].
    #[prost(enumeration = "ReplicaRole", tag = "3")]
    pub role: i32,
}

/// What the voters of a shard shall survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum Survive {
    /// Any one node: voters wherever there is room, spread as far as possible.
    Node = 0,
    /// The loss of a zone.
    Zone = 1,
    /// The loss of a region.
    Region = 2,
}

/// Where the replicas of a shard should be.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PlacementRecord {
    /// See [`Survive`].
    #[prost(enumeration = "Survive", tag = "1")]
    pub survive: i32,
    /// All voters stay in this region (data residency); empty: anywhere.
    #[prost(string, tag = "2")]
    pub within_region: String,
    /// How many voters there should be: 1, 3 or 5.
    #[prost(uint32, tag = "3")]
    pub voters: u32,
}

/// A shard: a range of slots, and the group that replicates it.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ShardRecord {
    /// The slot ranges, as pairs of first and last bits.
    #[prost(uint32, repeated, tag = "1")]
    pub ranges: Vec<u32>,
    /// Its replicas as they should be.
    #[prost(message, repeated, tag = "2")]
    pub replicas: Vec<ReplicaRecord>,
    /// The region where its leader should be; empty: anywhere.
    #[prost(string, tag = "3")]
    pub home_region: String,
    /// Where its replicas should be.
    #[prost(message, optional, tag = "4")]
    pub placement: Option<PlacementRecord>,
    /// Raised with every change of the row.
    #[prost(uint64, tag = "5")]
    pub generation: u64,
    /// Added to log indexes to give revisions: above every revision in data
    /// that the group was made from.
    #[prost(uint64, tag = "6")]
    pub base: u64,
    /// The replica that forms the group, alone, before others are added.
    #[prost(uint64, tag = "7")]
    pub founder: u64,
    /// Whether the group was formed: its first entries are committed.
    #[prost(bool, tag = "8")]
    pub formed: bool,
}

/// A replica id that was given and dropped.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct TombstoneRecord {
    /// When, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "1")]
    pub dropped_at: u64,
}

/// A key of the cluster, sealed under the operator's master key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ClusterKeyRecord {
    /// Thirty-two sealed bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub sealed: Bytes,
    /// When it was made, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "2")]
    pub created_at: u64,
    /// Not every node has it yet: it opens what others made, and makes nothing.
    #[prost(bool, tag = "3")]
    pub staged: bool,
}

/// How far an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum IndexState {
    /// Not said.
    Unspecified = 0,
    /// Records may lack their rows in it, and rows their records.
    Building = 1,
    /// Every record has its rows, and every row its record.
    Whole = 2,
}

/// What is being done while an index is built, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Enumeration)]
#[repr(i32)]
pub enum BuildPhase {
    /// Not begun.
    Unspecified = 0,
    /// Its rows are gone through: those that no record expects are deleted.
    Stripping = 1,
    /// Its records are gone through: rows that they lack are written.
    Filling = 2,
}

/// An index.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct IndexRecord {
    /// See [`IndexState`].
    #[prost(enumeration = "IndexState", tag = "1")]
    pub state: i32,
    /// Raised whenever it is to be built from the beginning.
    #[prost(uint64, tag = "2")]
    pub generation: u64,
    /// Since when it is to be built, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "3")]
    pub declared_at: u64,
    /// Since when it is whole, in milliseconds since the Unix epoch.
    #[prost(uint64, tag = "4")]
    pub whole_at: u64,
    /// See [`BuildPhase`].
    #[prost(enumeration = "BuildPhase", tag = "5")]
    pub phase: i32,
    /// The key at which the phase goes on; empty at its beginning. Everything before it
    /// is done.
    #[prost(bytes = "bytes", tag = "6")]
    pub next: Bytes,
    /// Rows that were deleted.
    #[prost(uint64, tag = "7")]
    pub stripped: u64,
    /// Rows that were written.
    #[prost(uint64, tag = "8")]
    pub filled: u64,
    /// Records that were looked at.
    #[prost(uint64, tag = "9")]
    pub records: u64,
    /// Rows that a record could not have, because another record has them.
    #[prost(uint64, tag = "10")]
    pub taken: u64,
}

impl ReplicaRecord {
    /// Its id.
    pub fn replica(&self) -> ReplicaId {
        ReplicaId(self.id)
    }

    /// Its node.
    pub fn on(&self) -> NodeId {
        NodeId(self.node)
    }
}

impl ShardRecord {
    /// The slot ranges.
    pub fn slot_ranges(&self) -> Vec<SlotRange> {
        let slot = |bits: u32| u16::try_from(bits).ok().and_then(Slot::from_bits);
        self.ranges
            .chunks_exact(2)
            .filter_map(|pair| SlotRange::new(slot(pair[0])?, slot(pair[1])?))
            .collect()
    }

    /// The replica on a node, whatever it is meant to be.
    pub fn replica_on(&self, node: NodeId) -> Option<&ReplicaRecord> {
        self.replicas.iter().find(|replica| replica.node == node.0)
    }

    /// Replicas meant to vote.
    pub fn voters(&self) -> impl Iterator<Item = &ReplicaRecord> {
        self.replicas.iter().filter(|replica| replica.role() == ReplicaRole::Voter)
    }
}

/// The tags of the directory's tables.
pub(crate) const TAGS: [Tag; 6] =
    [Tag::NODE, Tag::SHARD, Tag::REPLICA_TOMBSTONE, Tag::CLUSTER, Tag::CLUSTER_KEY, Tag::INDEX];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(message: &impl Message) -> String {
        message.encode_to_vec().iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn bytes_of_the_records_are_frozen() {
        let cluster = ClusterRecord {
            id: Bytes::from_static(b"i"),
            name: "n".to_owned(),
            incarnation: 1,
            version: 2,
            next_node: 3,
            next_replica: 4,
            next_group: 5,
            created_at: 6,
            restoring: Bytes::new(),
            version_held: 0,
        };
        let first = "0a016912016e180120022803300438054006";
        assert_eq!(hex(&cluster), first);
        let held = ClusterRecord { version_held: 2, ..cluster };
        assert_eq!(hex(&held), format!("{first}5002"));
        let node = NodeRecord {
            name: "n".to_owned(),
            region: "r".to_owned(),
            zone: "z".to_owned(),
            address: "a".to_owned(),
            public_url: "p".to_owned(),
            admin_url: "d".to_owned(),
            state: NodeState::Live.into(),
            started_at: 1,
            binary_version: "v".to_owned(),
            version_max: 2,
            ticket: Bytes::from_static(b"t"),
            process: 3,
        };
        assert_eq!(
            hex(&node),
            "0a016e1201721a017a2201612a0170320164380240014a017650025a0174610300000000000000"
        );
        let shard = ShardRecord {
            ranges: vec![0, 4095],
            replicas: vec![ReplicaRecord { id: 1, node: 2, role: 3 }],
            home_region: "r".to_owned(),
            placement: Some(PlacementRecord {
                survive: Survive::Region.into(),
                within_region: "w".to_owned(),
                voters: 3,
            }),
            generation: 4,
            base: 5,
            founder: 6,
            formed: true,
        };
        assert_eq!(
            hex(&shard),
            "0a0300ff1f12060801100218031a01722207080212017718032804300538064001"
        );
        assert_eq!(hex(&TombstoneRecord { dropped_at: 1 }), "0801");
        let sealed = Bytes::from_static(b"s");
        let key = ClusterKeyRecord { sealed, created_at: 1, staged: true };
        assert_eq!(hex(&key), "0a017310011801");
        let current = ClusterKeyRecord { staged: false, ..key };
        assert_eq!(hex(&current), "0a01731001");
        let index = IndexRecord {
            state: IndexState::Building.into(),
            generation: 2,
            declared_at: 3,
            whole_at: 4,
            phase: BuildPhase::Filling.into(),
            next: Bytes::from_static(b"k"),
            stripped: 5,
            filled: 6,
            records: 7,
            taken: 8,
        };
        assert_eq!(hex(&index), "0801100218032004280232016b3805400648075008");
    }
}
