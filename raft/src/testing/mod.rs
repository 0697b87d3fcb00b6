//! What tests of groups need: a network in memory whose links can be cut, and
//! a small machine over any disk. Also for tests of other crates, under the
//! feature `testing`.

mod gated;
mod ledger;
mod network;

pub use gated::{Gate, GatedDisk, GatedEngine};
pub use ledger::Ledger;
pub use network::{MemoryNetwork, MemoryTransport};
