//! What the operator's routes speak: the JSON that `cardea status` and its
//! siblings print with `--output json`. Fields are only ever added.

use cardea_cluster::{InitPlan, runtime::status::IndexProgress};
use serde::{Deserialize, Serialize};

/// A cluster as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Its id; absent until `init`.
    pub cluster_id: Option<String>,
    /// The cluster version: what every node supports.
    pub version: u32,
    /// The newest cluster version that every node knows.
    #[serde(default)]
    pub version_known: u32,
    /// The version beyond which an operator does not want it raised.
    #[serde(default)]
    pub version_held: Option<u32>,
    /// The node that answered.
    pub answered_by: u64,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its shards.
    pub shards: Vec<ShardStatus>,
    /// The indexes of its data.
    #[serde(default)]
    pub indexes: Vec<IndexStatus>,
}

/// How far an index is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexStatus {
    /// The kind of its rows.
    pub name: String,
    /// Whether every record has its rows in it. What is read by one that is not whole is
    /// answered 503 `index_not_whole`.
    pub whole: bool,
    /// How far it is built.
    #[serde(flatten)]
    pub progress: IndexProgress,
    /// Since when it is to be built or, if it is, whole (RFC 3339).
    pub since: Option<String>,
}

/// What a node is doing in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// It has an id and is on its way.
    Joining,
    /// It serves.
    Live,
    /// Nothing has been heard from it.
    Dead,
    /// It has handed its leaderships over and takes none.
    Drained,
    /// Its replicas are being moved away.
    Decommissioning,
    /// It has left for good.
    Decommissioned,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// Its region.
    pub region: String,
    /// Its zone.
    pub zone: Option<String>,
    /// What it is doing.
    pub state: NodeState,
    /// The version of its binary.
    pub version: String,
    /// The newest cluster version that it knows.
    #[serde(default)]
    pub version_max: u32,
    /// Shards it holds a replica of.
    pub replicas: u32,
    /// Shards it leads.
    pub leaders: u32,
    /// How far its clock is from the median, in milliseconds.
    pub clock_offset_ms: Option<i64>,
    /// Bytes its data takes, with what is only in memory and the log yet.
    pub disk_used_bytes: Option<u64>,
    /// Bytes its disk has left.
    pub disk_free_bytes: Option<u64>,
    /// Whether its disk hangs, or did within half a minute: it is not given leaderships.
    #[serde(default)]
    pub disk_hangs: bool,
    /// Resident memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Milliseconds since something was heard from it.
    pub silent_ms: Option<u64>,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its group.
    pub group: u64,
    /// Its space: directory, home, index or graph.
    pub space: String,
    /// Its first slot.
    pub first_slot: u16,
    /// Its last slot.
    pub last_slot: u16,
    /// The region where its leader should be.
    pub home_region: Option<String>,
    /// The node that leads it; absent while none does.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// The last index known committed.
    pub committed: u64,
    /// How many voters it should have with the nodes that there are; 0: not said.
    #[serde(default)]
    pub voters_wanted: u32,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica of a shard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// The node that holds it.
    pub node: u64,
    /// Whether it votes.
    pub voter: bool,
    /// The last index it is known to have; absent if unknown.
    pub matched: Option<u64>,
}

impl ShardStatus {
    /// Entries that the slowest voter lacks, as far as the leader knows.
    pub fn lag(&self) -> Option<u64> {
        let voters = self.replicas.iter().filter(|replica| replica.voter);
        voters
            .filter_map(|replica| replica.matched)
            .min()
            .map(|least| self.committed.saturating_sub(least))
    }
}

/// Most shards of a space in a new cluster.
pub const SHARDS_MAX: u16 = 1_024;

/// The request to make a cluster: into what it is divided. Shards are not divided
/// later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Init {
    /// Shards that people live in, 1 to 1,024: how far leaders, and with them writes,
    /// can be spread over nodes and regions.
    pub home_shards: u16,
    /// Shards that say whose an identifier is, 1 to 1,024.
    pub index_shards: u16,
    /// Shards of relation tuples, 1 to 1,024.
    pub graph_shards: u16,
    /// Voters of each shard: 1, 3 or 5.
    pub voters: u32,
}

impl Default for Init {
    fn default() -> Self {
        let InitPlan { home_shards, index_shards, graph_shards, placement, .. } =
            InitPlan::small("");
        Self { home_shards, index_shards, graph_shards, voters: placement.voters }
    }
}

/// The answer to `init`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initialized {
    /// The new cluster's id.
    pub cluster_id: String,
}

/// The request to let a node go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decommission {
    /// Although shards are left with fewer voters than they should have.
    #[serde(default)]
    pub force: bool,
}

/// The request to hand a shard's leadership to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoveLeader {
    /// The node that should lead.
    pub to_node: u64,
}

/// The request that a shard's leader be in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHome {
    /// The region; null for anywhere.
    pub region: Option<String>,
}

/// The request to hold the cluster version where it is, or to let it be raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldVersion {
    /// Whether it is held.
    pub held: bool,
}

/// The cluster version after such a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionReport {
    /// The cluster version.
    pub version: u32,
    /// Whether it is held there.
    pub held: bool,
}

/// The answer to a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RotatedKey {
    /// What the key is for: `seal`, `index` or `token`.
    pub purpose: String,
    /// The id of the new key.
    pub key_id: u32,
}

/// The request for an API key. A mistyped lifespan is not taken for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// For people: who holds it.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// Milliseconds that it lives; absent: until revoked.
    pub lifespan_ms: Option<u64>,
}

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKeyEntry {
    /// Its id.
    pub id: String,
    /// Who holds it.
    pub name: String,
    /// Its scopes.
    pub scopes: Vec<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it ends (RFC 3339).
    pub expires_at: Option<String>,
}

/// A new API key with its secret, which is shown once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatedApiKey {
    /// The key as it will be listed.
    #[serde(flatten)]
    pub entry: ApiKeyEntry,
    /// The whole key.
    pub key: String,
}

impl std::fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedApiKey")
            .field("entry", &self.entry)
            .field("key", &"<secret>")
            .finish()
    }
}

/// The request for a backup or a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// A directory that every node can write to or read from.
    pub directory: String,
    /// Restore only: keep sessions and refresh grants made before the cut,
    /// although revocations after it are unknown.
    #[serde(default)]
    pub keep_sessions: bool,
    /// Restore only: keep the API keys of the backup, although revocations after the cut
    /// are unknown.
    #[serde(default)]
    pub keep_api_keys: bool,
}

/// What a backup or restore did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveReport {
    /// Where.
    pub directory: String,
    /// The moment that the data is of (RFC 3339).
    pub cut_at: String,
    /// Shards in it.
    pub shards: u32,
    /// Bytes in it; 0 for what was restored.
    pub bytes: u64,
    /// Rows that were written, or restored.
    #[serde(default)]
    pub rows: u64,
    /// Restore only: API keys of the backup that hold no more.
    #[serde(default)]
    pub api_keys_revoked: u64,
}

/// The request to compare indexes with homes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verify {
    /// Whether index rows that are missing are written.
    #[serde(default)]
    pub fill: bool,
}

/// What `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Index rows compared.
    pub index_rows: u64,
    /// Homes compared.
    pub homes: u64,
    /// Index rows that were missing and are there now.
    #[serde(default)]
    pub filled: u64,
    /// Indexes that are being built, which were left out.
    #[serde(default)]
    pub left_out: Vec<String>,
    /// What does not fit together, in words, without personal data.
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_request_with_a_mistyped_member_is_refused() {
        fn takes<T: serde::de::DeserializeOwned>(mut body: Value) -> [bool; 2] {
            let as_it_is = serde_json::from_value::<T>(body.clone()).is_ok();
            body["lifespan"] = json!("1d");
            [as_it_is, serde_json::from_value::<T>(body).is_ok()]
        }
        let key = json!({"name": "ci", "scopes": ["admin"], "lifespan_ms": 86_400_000});
        for taken in [
            takes::<NewApiKey>(key),
            takes::<Archive>(json!({"directory": "/b"})),
            takes::<Decommission>(json!({"force": true})),
            takes::<MoveLeader>(json!({"to_node": 2})),
            takes::<Init>(json!({"voters": 3})),
            takes::<SetHome>(json!({"region": null})),
            takes::<HoldVersion>(json!({"held": true})),
            takes::<Verify>(json!({})),
        ] {
            assert_eq!(taken, [true, false]);
        }
    }
}
