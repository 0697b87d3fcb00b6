//! Numbers of the node's part in the cluster: Raft by group, the log, tablets,
//! clocks, the disk.

use std::sync::Arc;

use cardea_raft::{BOUNDS_US, DurationCounts, GroupId, Host, Role};
use cardea_storage::engine::DiskMemory;

use super::registry::{Labels, MetricsSource, Samples};
use crate::backend::Backend;

/// What of the node's memory is RocksDB's: it fills its cache, and is no leak.
fn memory(samples: &mut Samples, held: DiskMemory) {
    for (name, help, bytes) in [
        ("block_cache_bytes", "What was read of tablets and is kept in memory", held.cache_bytes),
        ("block_cache_bytes_max", "What that may grow to", held.cache_bytes_max),
        ("write_buffers_bytes", "What no flush of a tablet has written yet", held.unflushed_bytes),
    ] {
        samples.gauge(name, help, vec![], number(bytes));
    }
}

/// Transactions that are counted at a scrape.
const OUTSTANDING_MAX: usize = 1_000;

/// Numbers of a node's groups.
pub struct ClusterMetrics(pub Arc<Backend>);

impl MetricsSource for ClusterMetrics {
    fn gather(&self, samples: &mut Samples) {
        let node = self.0.node();
        let confirmed = f64::from(u8::from(node.is_confirmed()));
        samples.gauge(
            "directory_confirmed",
            "Whether this node's directory is known to be current",
            vec![],
            confirmed,
        );
        let Some(member) = node.member() else { return };
        let host = member.host();
        log(samples, host);
        memory(samples, member.disk().memory());
        for group in host.groups() {
            raft(samples, host, group);
        }
        for replica in member.replicas() {
            let labels = || vec![("group", replica.group().0.to_string())];
            let unflushed = replica.unflushed();
            let mut gauge =
                |name, help, value: u64| samples.gauge(name, help, labels(), number(value));
            gauge("tablet_disk_bytes", "Bytes of a tablet on disk", replica.disk_bytes());
            gauge(
                "tablet_unflushed_entries",
                "Entries that a restart would apply again",
                unflushed.entries,
            );
            gauge("tablet_unflushed_bytes", "Bytes of a tablet in memory", unflushed.bytes);
            let usage = replica.machine().engine().usage();
            gauge("tablet_keys", "Keys of a tablet, estimated by RocksDB", usage.keys_estimate);
            let outstanding =
                replica.machine().view().and_then(|view| view.outstanding(OUTSTANDING_MAX));
            // A disk that fails is reported by whoever needs it.
            if let Ok(outstanding) = outstanding {
                gauge(
                    "transactions_outstanding",
                    "Transactions that hold locks, at most 1000 counted",
                    outstanding.len() as u64,
                );
            }
        }
        let status = node.status();
        samples.gauge(
            "cluster_version",
            "The newest version that every node knows, unless an operator holds it",
            vec![],
            f64::from(status.version),
        );
        for other in &status.nodes {
            let labels = || vec![("node", other.id.to_string())];
            if let Some(ms) = other.clock_ahead_ms {
                let seconds = ms as f64 / 1000.0;
                samples.gauge(
                    "clock_ahead_seconds",
                    "How far a node's clock is ahead of the median",
                    labels(),
                    seconds,
                );
            }
            if let Some(ms) = other.silent_ms {
                samples.gauge(
                    "node_silent_seconds",
                    "Time since a node was heard of",
                    labels(),
                    number(ms) / 1000.0,
                );
            }
        }
        for index in &status.indexes {
            let labels = || vec![("index", index.name.clone())];
            samples.gauge(
                "index_whole",
                "Whether every record has its rows in an index",
                labels(),
                f64::from(u8::from(index.whole)),
            );
            if !index.whole {
                let progress = index.progress;
                let built = f64::from(progress.slots_done) / f64::from(progress.slots_all.max(1));
                samples.gauge(
                    "index_built_ratio",
                    "How much of an index that is being built is done",
                    labels(),
                    built,
                );
            }
        }
        let own = status.nodes.iter().find(|other| other.id == status.answered_by);
        if let Some(free) = own.and_then(|own| own.disk_free_bytes).filter(|free| *free != u64::MAX)
        {
            samples.gauge("disk_free_bytes", "Bytes that the disk has left", vec![], number(free));
        }
        samples.gauge(
            "disk_full",
            "Whether ordinary writes are refused for want of room",
            vec![],
            f64::from(u8::from(member.is_disk_full())),
        );
    }
}

fn log(samples: &mut Samples, host: &Host) {
    let counts = host.log_counts();
    let mut counter = |name, help, value| samples.counter(name, help, vec![], value);
    counter("log_syncs", "Batches of the log made durable with one fsync", counts.syncs);
    counter("log_buffered", "Batches of the log written without an fsync", counts.buffered);
    counter("log_synced_jobs", "Appends that waited for an fsync", counts.synced_jobs);
    counter("log_bytes", "Bytes written to the log", counts.bytes);
    let seconds = |us: u64| number(us) / 1e6;
    samples.gauge(
        "log_sync_seconds_max",
        "The longest fsync of the log",
        vec![],
        seconds(counts.sync_us_max),
    );
    samples.gauge(
        "log_queued_jobs",
        "Appends and other jobs that wait to be written to the log",
        vec![],
        host.log_queued() as f64,
    );
    durations(
        samples,
        "log_sync_seconds",
        "Time of an fsync of the log",
        &host.log_sync_durations(),
    );
    durations(
        samples,
        "apply_seconds",
        "Time to apply a run of committed entries",
        &host.apply_durations(),
    );
    let oldest = host.oldest_unfinished_write().unwrap_or_default();
    samples.gauge(
        "log_unfinished_write_seconds",
        "Age of the oldest write that the disk has not finished",
        vec![],
        oldest.as_secs_f64(),
    );
}

fn durations(
    samples: &mut Samples,
    name: &'static str,
    help: &'static str,
    counts: &DurationCounts,
) {
    let bounds = BOUNDS_US.iter().map(|us| number(*us) / 1e6).chain([f64::INFINITY]);
    let buckets = bounds.zip(counts.buckets).collect();
    samples.histogram(name, help, vec![], (number(counts.sum_us) / 1e6, counts.count()), buckets);
}

fn raft(samples: &mut Samples, host: &Host, group: GroupId) {
    let Some(status) = host.status(group) else { return };
    let labels = || -> Labels { vec![("group", group.0.to_string())] };
    let mut gauge = |name, help, value: f64| samples.gauge(name, help, labels(), value);
    gauge("raft_term", "Term", number(status.term));
    gauge("raft_leads", "Whether this replica leads", f64::from(u8::from(status.leads())));
    let votes = status.role != Role::Learner;
    gauge("raft_votes", "Whether this replica votes", f64::from(u8::from(votes)));
    let known = f64::from(u8::from(status.leader.is_some()));
    gauge("raft_has_leader", "Whether this replica knows a leader", known);
    let rests = f64::from(u8::from(status.resting));
    gauge("raft_rests", "Whether this replica's clock stands, since nothing is new", rests);
    for (name, help, index) in [
        ("raft_last_log_index", "The last index in the log", status.last_log),
        ("raft_committed_index", "The last index known to be committed", status.committed),
        ("raft_applied_index", "The last index applied", status.applied),
        ("raft_snapshot_index", "The last index in the newest snapshot", status.snapshot),
        ("raft_purged_index", "The last index purged from the log", status.purged),
    ] {
        gauge(name, help, number(index.unwrap_or(0)));
    }
    let unapplied = status.committed.unwrap_or(0).saturating_sub(status.applied.unwrap_or(0));
    gauge("raft_unapplied_entries", "Committed entries not applied yet", number(unapplied));
    if let Some(ms) = status.quorum_ack_ms_ago {
        gauge("raft_quorum_ack_seconds", "Time since a quorum was heard of", number(ms) / 1000.0);
    }
    if let Some((proposals, bytes)) = host.waiting(group) {
        gauge("raft_proposals_waiting", "Proposals that wait for an answer", proposals as f64);
        gauge("raft_proposal_bytes_waiting", "Bytes of them", bytes as f64);
    }
}

fn number(value: u64) -> f64 {
    value as f64
}
