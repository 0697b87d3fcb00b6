//! Group 0, the directory: nodes, shards, keys and counters, replicated to
//! every node and held in memory whole.
//!
//! Changes are ordinary transactions on the tables here (see [`edit`]); what a
//! node knows comes from its own replica by the change feed, and is *confirmed*
//! while a read index that was asked for less than two seconds ago was reached.

pub mod edit;
pub mod follow;
pub mod index;
pub mod records;
pub mod tables;
pub mod view;

pub use follow::{CONFIRMED_MAX, Directory, KeyRows};
pub use tables::{
    ClusterKeyKey, ClusterKeys, Clusters, IndexKey, Indexes, NodeKey, Nodes, ShardKey, ShardRows,
    TheCluster, TombstoneKey, Tombstones,
};
pub use view::DirectoryView;
