//! The part of `GET /cluster/status` that a run needs.

use serde::Deserialize;

/// A cluster as one node sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Absent until the cluster is made.
    pub cluster_id: Option<String>,
    /// Its nodes.
    pub nodes: Vec<KnownNode>,
    /// Its shards.
    pub shards: Vec<Shard>,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
pub struct KnownNode {
    /// Its id.
    pub id: u64,
    /// Where other nodes reach it.
    pub address: String,
    /// What it is doing.
    pub state: String,
}

/// A shard.
#[derive(Debug, Clone, Deserialize)]
pub struct Shard {
    /// Its group.
    pub group: u64,
    /// Its space.
    pub space: String,
    /// Its first slot.
    pub first_slot: u16,
    /// Its last slot.
    pub last_slot: u16,
    /// The node that leads it.
    pub leader: Option<u64>,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

/// A replica.
#[derive(Debug, Clone, Deserialize)]
pub struct Replica {
    /// The node that holds it.
    pub node: u64,
    /// Whether it votes.
    pub voter: bool,
}

impl Status {
    /// What keeps a cluster of `nodes` nodes from being well.
    pub fn lacks(&self, nodes: usize) -> Option<String> {
        let live = self.nodes.iter().filter(|node| node.state == "live").count();
        if live < nodes {
            return Some(format!("{live} of {nodes} nodes live"));
        }
        if self.shards.is_empty() {
            return Some("no shard is there".to_owned());
        }
        self.shards.iter().find_map(|shard| {
            let voters = shard.replicas.iter().filter(|replica| replica.voter).count();
            if shard.leader.is_none() {
                return Some(format!("shard {} is not led", shard.group));
            }
            (voters < nodes).then(|| format!("shard {} has {voters} voters", shard.group))
        })
    }

    /// The home shard of an identity: the first 12 bits of its id are its slot.
    pub fn home_of(&self, identity: &str) -> Option<&Shard> {
        let slot = slot_of(identity)?;
        self.shards.iter().find(|shard| {
            shard.space == "home" && (shard.first_slot..=shard.last_slot).contains(&slot)
        })
    }
}

/// The slot of an identity.
pub fn slot_of(identity: &str) -> Option<u16> {
    u16::from_str_radix(identity.get(..3)?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        let text = r#"{
            "name": "bench", "cluster_id": "c", "version": 1, "answered_by": 1,
            "nodes": [
                {"id": 1, "address": "127.0.0.1:1", "state": "live", "region": "local"},
                {"id": 2, "address": "127.0.0.1:2", "state": "live", "region": "local"}
            ],
            "shards": [
                {"group": 1, "space": "home", "first_slot": 0, "last_slot": 2047, "leader": 1,
                 "replicas": [{"node": 1, "voter": true, "matched": 3}, {"node": 2, "voter": true, "matched": null}]},
                {"group": 2, "space": "home", "first_slot": 2048, "last_slot": 4095, "leader": null,
                 "replicas": [{"node": 1, "voter": true, "matched": 3}]}
            ]
        }"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_identity_is_at_home_in_the_shard_of_its_first_bits() {
        let status = status();
        let home = |id: &str| status.home_of(id).map(|shard| shard.group);
        assert_eq!(home("7ff00000-0000-4000-8000-000000000000"), Some(1));
        assert_eq!(home("80000000-0000-4000-8000-000000000000"), Some(2));
        assert_eq!(home("zz"), None);
    }

    #[test]
    fn what_is_lacking_is_said() {
        let mut status = status();
        assert_eq!(status.lacks(3).unwrap(), "2 of 3 nodes live");
        assert_eq!(status.lacks(2).unwrap(), "shard 2 is not led");
        status.shards[1].leader = Some(1);
        assert_eq!(status.lacks(2).unwrap(), "shard 2 has 1 voters");
        status.shards.pop();
        assert_eq!(status.lacks(2), None);
    }
}
