//! What openraft is given for one replica besides its log: the state machine
//! adapter, and how far it has come.

mod progress;
mod state_machine;

pub(crate) use progress::Progress;
pub(crate) use state_machine::Reporter;
pub use state_machine::{SnapshotBuilder, StateMachine};
