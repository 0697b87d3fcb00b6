//! Why a node must not serve for now what depends on its configuration
//! (DESIGN § 5). Asked with every request, so it costs no more than a few atomic
//! loads.

use crate::{clocks::ClockComparison, directory::Directory};

/// Why a node must not serve for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// A backup is being restored: what is there is not whole.
    #[error("a backup is being restored into this cluster")]
    Restoring,
    /// The directory was not confirmed for two seconds: a key may have been
    /// revoked or replaced meanwhile.
    #[error("this node has not heard from a quorum of the directory for two seconds")]
    Unconfirmed,
    /// Nobody can say yet whether the node's clock is right.
    #[error("this node's clock was not compared with a majority's yet")]
    ClockNotCompared,
}

/// The first that stands in the way.
pub(super) fn of(directory: &Directory, comparison: &ClockComparison) -> Option<Obstacle> {
    if directory.is_restoring() {
        Some(Obstacle::Restoring)
    } else if !directory.is_confirmed() {
        Some(Obstacle::Unconfirmed)
    } else if !comparison.has_compared() {
        Some(Obstacle::ClockNotCompared)
    } else {
        None
    }
}
