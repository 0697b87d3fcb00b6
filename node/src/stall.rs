//! What the watchdog of this node does about a hung disk.

use std::{sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{backend::Backend, watchdog::Watched};

/// How long a hand-over may take when the disk hangs.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(5);

/// The log of a node, watched.
pub struct WatchedLog {
    /// The node.
    pub backend: Arc<Backend>,
    /// Where hand-overs are done: the runtime of consensus, which waits for no
    /// request.
    pub runtime: Handle,
}

impl Watched for WatchedLog {
    fn oldest_fsync(&self) -> Option<Duration> {
        self.backend.node().member()?.host().oldest_unfinished_write()
    }

    fn hand_over(&self, age: Duration) {
        tracing::error!(age_ms = age.as_millis(), "the disk hangs: leaderships are handed over");
        let backend = self.backend.clone();
        self.runtime.spawn(async move { backend.hand_over(HAND_OVER_WITHIN).await });
    }

    fn recovered(&self) {
        tracing::info!("the disk answers again");
    }

    fn stop(&self, age: Duration) {
        tracing::error!(age_ms = age.as_millis(), "the disk hangs: this node stops");
        std::process::abort();
    }
}
