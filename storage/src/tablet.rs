//! The files of a tablet: which engine is the state of a shard replica, and how
//! another one takes its place. See [`directory`].

pub mod directory;
mod generation;

pub use directory::TabletDirectory;
