//! The flusher of a node: bounds what a restart must replay, and what tablets
//! hold in memory.
//!
//! RocksDB's write-buffer manager flushes only the tablet that is being written.
//! A tablet that was written once and then left alone would keep the log from
//! being purged for ever; so here, one tablet at a time, those that need it most are
//! flushed.

use std::{sync::Arc, time::Duration};

use super::{Replica, Unflushed};

/// Bounds of what may stay unflushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlushSettings {
    /// Entries of one tablet.
    pub entries_max: u64,
    /// Bytes in memory of one tablet.
    pub bytes_max: u64,
    /// Seconds that an entry stays unflushed.
    pub seconds_max: u64,
    /// Entries of one tablet that may stay so for ten times as long: replaying them is
    /// nothing, and a shard that nobody writes to gets one every few minutes.
    pub few_entries: u64,
}

impl Default for FlushSettings {
    fn default() -> Self {
        Self { entries_max: 50_000, bytes_max: 6 << 20, seconds_max: 60, few_entries: 16 }
    }
}

/// How often tablets are looked at.
pub(crate) const PERIOD: Duration = Duration::from_secs(1);

/// How urgent a flush is: 1 or more means due.
fn urgency(unflushed: &Unflushed, settings: &FlushSettings) -> f64 {
    if unflushed.entries == 0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "ratios need no more than 53 bits")]
    let ratio = |value: u64, limit: u64| value as f64 / limit.max(1) as f64;
    let patience = if unflushed.entries <= settings.few_entries { 10 } else { 1 };
    let seconds_max = Duration::from_secs(patience * settings.seconds_max.max(1));
    ratio(unflushed.entries, settings.entries_max)
        .max(ratio(unflushed.bytes, settings.bytes_max))
        .max(unflushed.since.div_duration_f64(seconds_max))
}

/// The replicas to flush now, in turn: of those that are due the ones that need it most.
pub(crate) fn most_due(replicas: &[Arc<Replica>], settings: &FlushSettings) -> Vec<Arc<Replica>> {
    let urgencies = replicas.iter().map(|replica| urgency(&replica.unflushed(), settings));
    let due = most_urgent(&urgencies.collect::<Vec<_>>(), settings);
    due.into_iter().map(|at| replicas[at].clone()).collect()
}

/// Which of these to flush in one period: so many, at most, that each may have its turn in time.
fn most_urgent(urgencies: &[f64], settings: &FlushSettings) -> Vec<usize> {
    let periods = usize::try_from(settings.seconds_max / PERIOD.as_secs()).unwrap_or(usize::MAX);
    let mut due: Vec<usize> = (0..urgencies.len()).filter(|at| urgencies[*at] >= 1.0).collect();
    due.sort_by(|one, other| urgencies[*other].total_cmp(&urgencies[*one]));
    due.truncate(urgencies.len().div_ceil(periods.max(1)));
    due
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_large_is_due_and_what_is_clean_never_is() {
        let settings = FlushSettings::default();
        let unflushed = |entries, bytes, seconds| {
            let since = Duration::from_secs(seconds);
            urgency(&Unflushed { entries, bytes, since }, &settings)
        };
        assert!(unflushed(17, 0, 60) >= 1.0);
        assert!(unflushed(16, 0, 599) < 1.0);
        assert!(unflushed(16, 0, 600) >= 1.0);
        assert!(unflushed(50_000, 0, 0) >= 1.0);
        assert!(unflushed(1, 6 << 20, 0) >= 1.0);
        assert!(unflushed(1, 100, 5) < 1.0);
        assert!(unflushed(0, 6 << 20, 600) < 1.0);
    }

    /// One a second was flushed: of two hundred that were written to, each every three minutes.
    #[test]
    fn as_many_tablets_are_flushed_as_become_due() {
        let settings = FlushSettings::default();
        assert_eq!(most_urgent(&[0.5, 1.5, 1.0, 2.0], &settings), [3]);
        assert_eq!(most_urgent(&[0.5, 0.9], &settings), [0; 0]);
        let many: Vec<f64> = (0..200_u8).map(|at| 1.0 + f64::from(at)).collect();
        assert_eq!(most_urgent(&many, &settings), [199, 198, 197, 196]);
        let hasty = FlushSettings { seconds_max: 0, ..settings };
        assert_eq!(most_urgent(&[3.0, 2.0, 0.0], &hasty), [0, 1]);
    }
}
