//! Whether the node can serve: it belongs to a cluster, its directory is
//! confirmed, its clock was compared, every shard has a leader, and the layers are
//! made.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use cardea_cluster::runtime::obstacle::Obstacle;

use crate::{backend::Backend, layers::Layers, listener::health::Readiness};

/// The obstacle that the node is about to stop.
pub const STOPPING: &str = "node";

/// The readiness of a node of a cluster.
pub struct NodeReadiness {
    backend: Arc<Backend>,
    layers: Arc<Layers>,
    stopping: AtomicBool,
}

impl NodeReadiness {
    /// Of a node and its layers.
    pub fn new(backend: Arc<Backend>, layers: Arc<Layers>) -> Self {
        Self { backend, layers, stopping: AtomicBool::new(false) }
    }

    /// From now on the node is not ready: load balancers look elsewhere.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }
}

impl Readiness for NodeReadiness {
    fn obstacles(&self) -> BTreeMap<&'static str, String> {
        let mut obstacles = BTreeMap::new();
        if self.stopping.load(Ordering::Acquire) {
            obstacles.insert(STOPPING, "the node is stopping".to_owned());
        }
        let node = self.backend.node();
        let Some(member) = node.member() else {
            obstacles.insert("cluster", "the node does not belong to a cluster yet".to_owned());
            return obstacles;
        };
        if let Some(obstacle) = node.obstacle() {
            let what = match obstacle {
                Obstacle::Restoring => "restore",
                Obstacle::Unconfirmed => "directory",
                Obstacle::ClockNotCompared => "clock",
            };
            obstacles.insert(what, obstacle.to_string());
        }
        let view = node.directory().view();
        let leaderless: Vec<String> = view
            .shards
            .keys()
            .filter(|group| match member.host().status(**group) {
                Some(status) => status.leader.is_none(),
                None => member.leader_of(**group).is_none(),
            })
            .map(|group| group.0.to_string())
            .collect();
        let forming = view.shards.iter().filter(|(_, shard)| !shard.formed);
        let forming: Vec<String> = forming.map(|(group, _)| group.0.to_string()).collect();
        if !leaderless.is_empty() {
            obstacles.insert("shards", format!("without a leader: {}", leaderless.join(", ")));
        } else if !forming.is_empty() {
            obstacles.insert("shards", format!("not formed yet: {}", forming.join(", ")));
        }
        if !self.layers.are_made() {
            let why = "the cluster's keys have not arrived, or the master key does not open them";
            obstacles.insert("keys", why.to_owned());
        }
        obstacles
    }
}
