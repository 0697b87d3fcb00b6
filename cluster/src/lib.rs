//! Where it lives: nodes, regions, slots, shards, placement, routing. Implements
//! the [`Store`](cardea_storage::Store) over Raft groups.
//!
//! A node opens what is on its disk ([`ClusterNode::open`]), makes a cluster
//! ([`ClusterNode::init`]) or joins one ([`ClusterNode::join`]), and offers a store
//! ([`ClusterNode::store`]). Group 0, the directory, says what there should be:
//! nodes, shards, replicas, keys. Each node starts and removes its own replicas
//! accordingly; the leader of each group brings its membership there, one step at
//! a time. Nothing is commanded: who comes later reads the row and goes on.
//!
//! It never decides what a row means, never names openraft, and never answers
//! from a replica that has not been confirmed as fresh as the read asks for.
//!
//! Reading order: [`directory`] (what there is), [`replica`] (state under Raft),
//! [`clocks`] (whose time counts), [`shards`] (proposals and reads), [`service`]
//! (what nodes say to each other), [`runtime`] (a node's life), [`keys`].
//!
//! Caveat: what a node holds of the directory counts for two seconds from its
//! last confirming question; see [`Directory::is_confirmed`].

pub mod clocks;
pub mod directory;
pub mod keys;
pub mod life;
pub mod member;
pub mod placement;
pub mod replica;
pub mod runtime;
pub mod service;
pub mod shards;

pub use cardea_raft::{ClusterId, GroupId, NodeId, ReplicaId};
pub use directory::{Directory, DirectoryView};
pub use keys::{KeyPurpose, Keyrings};
pub use member::Member;
pub use runtime::{
    ClusterNode, ClusterOptions, InitPlan, NodeProfile, OpenError, Security, status::ClusterStatus,
};
pub use service::operations::OperationError;

/// The group of the directory.
pub const DIRECTORY: GroupId = GroupId(0);
