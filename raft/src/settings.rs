//! The bounds and timings of groups.
//!
//! Fail-over: a follower waits for its lease of the leader to pass
//! (`election_ms_max`) and then for a random time between `election_ms_min` and
//! `election_ms_max`. So a group without a leader elects one, with the default
//! of 270 and 450, after 720 to 900 ms; a split vote costs one more round. Where only
//! the leader's process died, nobody waits for that: see `succession`.
//!
//! The way between voters: openraft takes no answer to a heartbeat that comes after the
//! next is due, and a leader that heard of no quorum for as long as its lease takes no
//! proposals and falls silent, so that others may try. So a heartbeat is to be longer
//! than the slowest round trip, and a lease longer than two of them, with what openraft's
//! clock adds to each. Where one of three is gone and the other two are the farthest
//! apart, nothing else makes a quorum.

use std::time::Duration;

use cardea_storage::Fault;
use openraft::{Config, SnapshotPolicy};

use crate::log::LogSettings;

/// When leaders are heard of and when they are missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds between heartbeats of a leader.
    pub heartbeat_ms: u64,
    /// A follower that acknowledged anything this many milliseconds ago or less
    /// gets no heartbeat.
    pub heartbeat_spared_ms: u64,
    /// Milliseconds of an election timeout, at least.
    pub election_ms_min: u64,
    /// Milliseconds of an election timeout, at most; also the lease of a leader,
    /// during which its followers vote for nobody else.
    pub election_ms_max: u64,
}

impl Timing {
    /// How often a group's clock ticks: openraft's, a fifth of a heartbeat.
    pub(crate) fn tick(&self) -> Duration {
        Duration::from_millis((self.heartbeat_ms * 13 / 64).max(1))
    }

    /// For nodes up to 150 milliseconds apart, there and back. One heartbeat may be
    /// lost without the leader's lease passing, and a heartbeat that was spared comes
    /// before the shortest election timeout. openraft ticks five times per heartbeat,
    /// and of an idle group ticks are most of the cost: twice as many heartbeats would
    /// double it and bring no earlier election.
    pub const DEFAULT: Self = Self {
        heartbeat_ms: 180,
        heartbeat_spared_ms: 40,
        election_ms_min: 270,
        election_ms_max: 450,
    };

    /// Generously for a slowest round trip between voters: an election timeout is
    /// at least ten of them, a heartbeat seven, and neither is ever shorter than by
    /// [`DEFAULT`](Self::DEFAULT).
    pub fn scaled(round_trip: Duration) -> Self {
        let round_trip_ms = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX).min(5_000);
        let election_ms_min = Self::DEFAULT.election_ms_min.max(10 * round_trip_ms);
        let factor = |ms: u64| ms * election_ms_min / Self::DEFAULT.election_ms_min;
        Self {
            heartbeat_ms: factor(Self::DEFAULT.heartbeat_ms),
            heartbeat_spared_ms: factor(Self::DEFAULT.heartbeat_spared_ms),
            election_ms_min,
            election_ms_max: factor(Self::DEFAULT.election_ms_max),
        }
    }
}

/// Bounds and timings of every group of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Heartbeats and elections.
    pub timing: Timing,
    /// Heartbeats that tell nothing new after which a replica rests; 0: it never does.
    pub rest_beats: u64,
    /// The log.
    pub log: LogSettings,
    /// Proposals of a group that wait for their answer, at most.
    pub proposals_max: usize,
    /// Bytes of them, at most.
    pub proposal_bytes_max: usize,
    /// Commands that go into one entry, at most, if the machine packs them.
    pub pack_commands_max: usize,
    /// Bytes of them, at most.
    pub pack_bytes_max: usize,
    /// Entries of a group that are in the log but not applied, at most; beyond,
    /// ordinary proposals are refused.
    pub unapplied_entries_max: u64,
    /// Milliseconds after which a proposal without an answer is *unknown*.
    pub proposal_ms_max: u64,
    /// Milliseconds that a read waits for its index, and for reaching it.
    pub read_ms_max: u64,
    /// Microseconds that a round of reads gathers under load, at most.
    pub read_linger_us_max: u64,
    /// Entries applied since the last snapshot that call for a new one, of a small machine;
    /// of a large one more.
    pub snapshot_entries: u64,
    /// Bytes of commands applied since the last snapshot that call for a new one; or a quarter
    /// of the machine's, if that is more.
    pub snapshot_bytes: u64,
    /// Entries kept behind a snapshot, at most, for followers that lag.
    pub entries_kept: u64,
    /// Bytes of commands kept behind a snapshot, at most, of a small machine; or a sixteenth of
    /// the machine's, if that is more.
    pub bytes_kept: u64,
    /// Entries in one append call between nodes, at most.
    pub append_entries_max: u64,
    /// Milliseconds for installing a snapshot that has arrived.
    pub snapshot_ms_max: u64,
    /// Bytes of snapshots that a node sends to others in a second, all groups together.
    pub snapshot_bytes_per_second: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing::DEFAULT,
            rest_beats: Self::REST_BEATS,
            log: LogSettings::default(),
            proposals_max: 4_096,
            proposal_bytes_max: 64 << 20,
            pack_commands_max: 64,
            pack_bytes_max: 64 << 10,
            unapplied_entries_max: 16_384,
            proposal_ms_max: 10_000,
            read_ms_max: 5_000,
            read_linger_us_max: 500,
            snapshot_entries: 100_000,
            snapshot_bytes: 64 << 20,
            entries_kept: 10_000,
            bytes_kept: 16 << 20,
            append_entries_max: 1_024,
            snapshot_ms_max: 30 * 60_000,
            snapshot_bytes_per_second: Self::SNAPSHOT_BYTES_PER_SECOND,
        }
    }
}

impl Settings {
    /// [`rest_beats`](Self::rest_beats), by default.
    pub const REST_BEATS: u64 = 10;
    /// [`snapshot_bytes_per_second`](Self::snapshot_bytes_per_second), by default.
    pub const SNAPSHOT_BYTES_PER_SECOND: u64 = 32 << 20;

    /// How long a proposal may take.
    pub(crate) fn proposal_time(&self) -> Duration {
        Duration::from_millis(self.proposal_ms_max)
    }

    /// How long a read may take.
    pub(crate) fn read_time(&self) -> Duration {
        Duration::from_millis(self.read_ms_max)
    }

    /// openraft's configuration for one group.
    pub(crate) fn raft_config(&self, cluster_name: String) -> Result<Config, Fault> {
        let Timing { heartbeat_ms, heartbeat_spared_ms, election_ms_min, election_ms_max } =
            self.timing;
        let config = Config {
            cluster_name,
            heartbeat_interval: heartbeat_ms,
            heartbeat_min_interval: Some(heartbeat_spared_ms),
            election_timeout_min: election_ms_min,
            election_timeout_max: election_ms_max,
            enable_pre_vote: Some(true),
            // Without it a leader that lost its quorum can hold back an election
            // forever by heartbeats to one voter that reaches both sides.
            quorum_loss_probe_interval: Some(2 * election_ms_max),
            // A restarted leader has lost what it knew of its lease.
            enable_leader_restore: Some(false),
            allow_log_reversion: Some(false),
            max_payload_entries: self.append_entries_max,
            // We decide when to take a snapshot; lagging alone never sends one.
            snapshot_policy: SnapshotPolicy::Never,
            replication_lag_threshold: u64::MAX,
            // The keeper lets go of the log.
            max_in_snapshot_log_to_keep: u64::MAX,
            // Purging comes with snapshots, which are seldom.
            purge_batch_size: 1,
            install_snapshot_timeout: self.snapshot_ms_max,
            api_channel_size: Some(2 * self.proposals_max as u64),
            // Never full while admission holds: a core that waits for its state
            // machine sends no heartbeats.
            state_machine_channel_size: Some(2 * self.unapplied_entries_max),
            ..Config::default()
        };
        config.validate().map_err(|error| Fault::caused("the settings of a group", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timings_scale_with_the_round_trip_and_stay_valid() {
        assert_eq!(Timing::scaled(Duration::from_micros(300)), Timing::DEFAULT);
        for round_trip_ms in [1, 20, 21, 35, 150, 60_000] {
            let timing = Timing::scaled(Duration::from_millis(round_trip_ms));
            assert!(timing.election_ms_min >= 10 * round_trip_ms.min(5_000));
            assert!(timing.heartbeat_ms > round_trip_ms.min(5_000));
            // With a fifth of a heartbeat for each, by openraft's clock.
            assert!(timing.election_ms_max >= 2 * timing.heartbeat_ms * 6 / 5);
            let settings = Settings { timing, ..Settings::default() };
            settings.raft_config("test".to_owned()).unwrap();
        }
    }

    #[test]
    fn timings_that_cannot_elect_are_refused() {
        let timing = Timing { election_ms_max: 270, ..Timing::DEFAULT };
        let settings = Settings { timing, ..Settings::default() };
        assert!(settings.raft_config("test".to_owned()).is_err());
    }
}
