//! The system's clock: the only place in the workspace that reads it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cardea_storage::{Clock, Timestamp};

/// Wall time and monotonic time of this machine.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time begins now.
    pub fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_of_this_century_and_monotonic_time_goes_on() {
        let clock = SystemClock::new();
        assert!(clock.now() > Timestamp(1_700_000_000_000));
        let before = clock.monotonic();
        assert!(clock.monotonic() >= before);
    }
}
