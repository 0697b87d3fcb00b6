//! A cluster as one of its nodes tells it: what the tests need of
//! `GET /cluster/status`.

use serde::Deserialize;

/// The answer to `GET /cluster/status`.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// The cluster's id; absent until `init`.
    pub cluster_id: Option<String>,
    /// The cluster version: what every node understands.
    pub version: u32,
    /// Its nodes.
    pub nodes: Vec<NodeStatus>,
    /// Its shards.
    pub shards: Vec<ShardStatus>,
}

/// A node in [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct NodeStatus {
    /// Its id.
    pub id: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// How far its clock is from the median, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// A shard in [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct ShardStatus {
    /// Its group.
    pub group: u64,
    /// Its space: directory, home, index or graph.
    pub space: String,
    /// Its first slot.
    pub first_slot: u16,
    /// Its last slot.
    pub last_slot: u16,
    /// The id of the node that leads it.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
}

/// A replica in [`ShardStatus`].
#[derive(Debug, Clone, Deserialize)]
pub struct ReplicaStatus {
    /// Whether it votes.
    pub voter: bool,
    /// The id of the node that it is on.
    pub node: u64,
}

impl ShardStatus {
    /// Whether an identity's home is here: the first 12 bits of its id are its slot.
    pub fn is_home_of(&self, identity: &str) -> bool {
        let slot = slot_of(identity);
        self.space == "home"
            && slot.is_some_and(|s| (self.first_slot..=self.last_slot).contains(&s))
    }
}

/// The slot of an id: its first 12 bits.
pub fn slot_of(id: &str) -> Option<u16> {
    u16::from_str_radix(id.get(..3)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_the_first_twelve_bits() {
        assert_eq!(slot_of("abc00000-0000-4000-8000-000000000000"), Some(0xabc));
        assert_eq!(slot_of("x"), None);
        let shard = ShardStatus {
            group: 1,
            space: "home".to_owned(),
            first_slot: 0xa00,
            last_slot: 0xaff,
            leader: None,
            term: 1,
            replicas: Vec::new(),
        };
        assert!(shard.is_home_of("abc00000"));
        assert!(!shard.is_home_of("bbc00000"));
    }
}
