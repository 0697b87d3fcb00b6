//! What Cardea costs, measured from outside: real processes, real files, real
//! sockets, fsync on.
//!
//! Read [`load`] first (closed and open loops), then [`run::cluster`] (the whole
//! comparison). [`cardea`] and [`etcd`] start the servers and ask them; [`report`]
//! tells. Nothing here knows anything of the crates that it measures: what it uses
//! is the binary, its files and its HTTP. The exception is [`graph`], which
//! also measures the permission layer by itself, beside SpiceDB.
//!
//! Caveats that belong to every figure: the generator shares the machine with the
//! servers (its own cost is told beside theirs), all is on loopback, and one disk
//! takes the fsyncs of three nodes.

pub mod cardea;
pub mod command;
pub mod cost;
pub mod etcd;
pub mod gap;
pub mod graph;
pub mod grpc;
pub mod http;
pub mod latency;
pub mod load;
pub mod machine;
pub mod password;
pub mod process;
pub mod random;
pub mod report;
pub mod run;
pub mod schedule;
pub mod table;
