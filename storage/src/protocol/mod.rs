//! Transactions and reads over several shards.
//!
//! Whoever got the request coordinates, and nothing depends on its life. A
//! transaction of one shard is one command. One of several shards is prepared on
//! every participant, then decided: the decider, which goes last, validates and
//! applies its own part and records the decision in one entry. The client is
//! answered then; the participants finish behind it. Readers that meet a lock ask
//! its decider.
//!
//! The rules were model-checked under delay, duplication, loss, reordering, dead
//! coordinators and unbounded clock skew between shards.
//!
//! - [`shards`] says what this needs of those who hold the shards.
//! - [`plan`] says which part of a transaction goes where.
//! - [`coordinate`] is for committing.
//! - [`settle`] is for ending what somebody else left.
//! - [`read`] is for reading.
//! - [`pin`] is for many reads of one shard that must be of one instant.
//! - [`sharded`] is all of it as a [`Store`](crate::store::Store).

pub mod coordinate;
pub mod pin;
pub mod plan;
pub mod read;
pub mod settle;
pub mod sharded;
pub mod shards;
