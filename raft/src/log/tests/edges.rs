//! Purges, truncations, removal, and reading across memory and engine.

use std::{sync::mpsc, thread, time::Duration};

use super::*;
use crate::{
    blocking::{self, Pace},
    log::OpenLogError,
};

const GROUP: GroupId = GroupId(3);
const REPLICA: ReplicaId = ReplicaId(1);

#[test]
fn reads_cross_from_the_engine_into_the_tail() {
    TypeConfig::run(async {
        let (log, _) = open(&memory(), 100);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        let entries: Vec<_> = (0..50).map(|index| entry(1, index)).collect();
        append(&mut store, entries.clone()).await.await.unwrap().unwrap();
        assert_eq!(read_all(&mut store).await, entries);
        for (start, end) in [(0, 1), (0, 50), (10, 12), (47, 50), (49, 50), (0, 49)] {
            let read = store.try_get_log_entries(start..end).await.unwrap();
            assert_eq!(read[..], entries[start as usize..end as usize]);
        }
        assert_eq!(store.try_get_log_entries(50..60).await.unwrap(), []);
    });
}

#[test]
fn a_limited_read_stops_at_its_bound_and_goes_on_from_there() {
    TypeConfig::run(async {
        let (log, _) = open(&memory(), 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        let large = |index| LogEntry {
            log_id: log_id(1, index),
            payload: EntryPayload::Normal(Command(vec![7; 400 << 10].into())),
        };
        append(&mut store, (0..8).map(large).collect::<Vec<_>>()).await.await.unwrap().unwrap();
        let mut next = 0;
        while next < 8 {
            let read = store.limited_get_log_entries(next, 8).await.unwrap();
            assert!(!read.is_empty() && read.len() <= 3, "{} entries", read.len());
            assert_eq!(read[0].log_id.index, next);
            next += read.len() as u64;
        }
    });
}

/// Found by simulation: replication read a range that a purge had just shortened, and
/// sent what was left of it as the successors of an entry that they do not follow.
#[test]
fn replication_reads_nothing_behind_a_purge_that_was_faster() {
    TypeConfig::run(async {
        for tail_bytes_max in [1, 1 << 20] {
            let (log, _) = open(&memory(), tail_bytes_max);
            let mut store = log.group(GROUP, REPLICA).unwrap();
            let entries: Vec<_> = (0..20).map(|index| entry(1, index)).collect();
            append(&mut store, entries.clone()).await.await.unwrap().unwrap();
            store.purge(log_id(1, 9)).await.unwrap();
            assert_eq!(store.limited_get_log_entries(5, 20).await.unwrap(), []);
            assert_eq!(store.limited_get_log_entries(5, 8).await.unwrap(), []);
            assert_eq!(store.limited_get_log_entries(10, 20).await.unwrap(), entries[10..]);
        }
    });
}

#[test]
fn overwritten_entries_are_read_as_the_new_ones() {
    TypeConfig::run(async {
        let disk = memory();
        for tail_bytes_max in [1, 1 << 20] {
            let (log, _) = open(&disk, tail_bytes_max);
            let mut store = log.group(GroupId(tail_bytes_max as u64), REPLICA).unwrap();
            let old: Vec<_> = (0..100).map(|index| entry(1, index)).collect();
            drop(append(&mut store, old).await);
            store.truncate_after(Some(log_id(1, 9))).await.unwrap();
            let new: Vec<_> = (10..30).map(|index| entry(2, index)).collect();
            let synced = append(&mut store, new.clone()).await;
            assert_eq!(store.try_get_log_entries(10..100).await.unwrap(), new);
            synced.await.unwrap().unwrap();
            assert_eq!(store.try_get_log_entries(10..100).await.unwrap(), new);
            log.close();
            drop((store, log));
            let (log, _) = open(&disk, tail_bytes_max);
            let mut store = log.group(GroupId(tail_bytes_max as u64), REPLICA).unwrap();
            assert_eq!(read_all(&mut store).await.len(), 30);
            assert_eq!(store.try_get_log_entries(10..100).await.unwrap(), new);
            log.close();
            drop((store, log));
        }
    });
}

#[test]
fn a_purged_log_continues_behind_its_purge_point_also_after_reopening() {
    TypeConfig::run(async {
        let disk = memory();
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        drop(append(&mut store, (0..200).map(|index| entry(1, index)).collect::<Vec<_>>()).await);
        store.purge(log_id(1, 99)).await.unwrap();
        assert_eq!(read_all(&mut store).await.len(), 100);
        // A snapshot from elsewhere goes past the end of the log.
        store.purge(log_id(2, 400)).await.unwrap();
        assert_eq!(read_all(&mut store).await, []);
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(2, 400)));
        assert_eq!(state.last_log_id, Some(log_id(2, 400)));
        append(&mut store, [entry(2, 401)]).await.await.unwrap().unwrap();
        log.close();
        drop((store, log));
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        assert_eq!(read_all(&mut store).await, [entry(2, 401)]);
        let state = store.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, Some(log_id(2, 400)));
        assert_eq!(state.last_log_id, Some(log_id(2, 401)));
    });
}

#[test]
fn a_gap_is_refused_and_raises_the_alarm() {
    TypeConfig::run(async {
        let (log, alarm) = open(&memory(), 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        append(&mut store, [entry(1, 0)]).await.await.unwrap().unwrap();
        assert!(store.append([entry(1, 2)], IOFlushed::noop()).await.is_err());
        assert!(alarm.fault().is_some());
    });
}

#[test]
fn a_commit_position_is_kept_but_never_past_the_log() {
    TypeConfig::run(async {
        let disk = memory();
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        append(&mut store, [entry(1, 0), entry(1, 1)]).await.await.unwrap().unwrap();
        store.save_committed(Some(log_id(1, 0))).await.unwrap();
        log.close();
        drop((store, log));
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUP, REPLICA).unwrap();
        assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 0)));
        store.save_committed(Some(log_id(1, 7))).await.unwrap();
        assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 1)));
    });
}

#[test]
fn a_straggler_of_a_removed_replica_reads_and_writes_nothing_and_stops_nobody() {
    TypeConfig::run(async {
        let (log, alarm) = open(&memory(), 1);
        let mut straggler = log.group(GROUP, REPLICA).unwrap();
        append(&mut straggler, [entry(1, 0), entry(1, 1)]).await.await.unwrap().unwrap();
        log.close_group(GROUP);
        log.remove_group(GROUP, REPLICA).unwrap();
        // A task that replicated to somebody goes on reading; another one votes.
        assert!(straggler.try_get_log_entries(0..2).await.is_err());
        assert!(straggler.save_vote(&vote(9)).await.is_err());
        straggler.purge(log_id(1, 1)).await.unwrap();
        straggler.save_committed(Some(log_id(1, 1))).await.unwrap();
        assert!(alarm.fault().is_none(), "{:?}", alarm.fault());
        let mut next = log.group(GROUP, ReplicaId(2)).unwrap();
        assert_eq!(next.read_vote().await.unwrap(), None);
        assert_eq!(next.read_committed().await.unwrap(), None);
        assert_eq!(next.get_log_state().await.unwrap(), Default::default());
    });
}

#[test]
fn a_removed_replica_never_starts_again_and_leaves_nothing_behind() {
    TypeConfig::run(async {
        let disk = memory();
        let (log, _) = open(&disk, 1);
        let mut neighbour = log.group(GroupId(4), ReplicaId(9)).unwrap();
        append(&mut neighbour, [entry(1, 0)]).await.await.unwrap().unwrap();
        let mut store = log.group(GROUP, REPLICA).unwrap();
        assert!(matches!(log.group(GROUP, REPLICA), Err(OpenLogError::Open)));
        store.save_vote(&vote(5)).await.unwrap();
        drop(append(&mut store, [entry(1, 0), entry(1, 1)]).await);
        store.save_committed(Some(log_id(1, 1))).await.unwrap();
        let wrong = log.remove_group(GROUP, ReplicaId(2));
        assert!(matches!(wrong, Err(OpenLogError::Owned(REPLICA))));
        log.remove_group(GROUP, REPLICA).unwrap();
        log.close();
        drop((store, neighbour, log));

        let (log, _) = open(&disk, 1);
        assert!(matches!(log.group(GROUP, REPLICA), Err(OpenLogError::Retired(REPLICA))));
        assert_eq!(log.owners().unwrap().into_keys().collect::<Vec<_>>(), [GroupId(4)]);
        let mut next = log.group(GROUP, ReplicaId(2)).unwrap();
        assert_eq!(next.read_vote().await.unwrap(), None);
        assert_eq!(next.get_log_state().await.unwrap(), Default::default());
        assert_eq!(next.read_committed().await.unwrap(), None);
        log.close_group(GROUP);
        assert!(matches!(log.group(GROUP, ReplicaId(7)), Err(OpenLogError::Owned(ReplicaId(2)))));
        let mut neighbour = log.group(GroupId(4), ReplicaId(9)).unwrap();
        assert_eq!(read_all(&mut neighbour).await, [entry(1, 0)]);
    });
}

struct Never;

impl Pace for Never {
    fn sync_time(&self) -> Duration {
        Duration::MAX
    }

    fn turn_time(&self) -> Duration {
        Duration::ZERO
    }
}

/// Found by simulation: who closed the log there waited for the queue that it had locked
/// itself, if there was anything in it.
#[test]
fn a_log_that_is_closed_on_a_simulated_machine_writes_what_is_queued() {
    let (told, outcome) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        blocking::simulate(Some(Arc::new(Never)));
        runtime.block_on(async {
            let (log, _) = open(&memory(), 100);
            let mut store = log.group(GROUP, REPLICA).unwrap();
            let synced = append(&mut store, [entry(1, 0), entry(1, 1)]).await;
            log.close();
            let _ = told.send(synced.await.unwrap().is_ok());
        });
    });
    assert_eq!(outcome.recv_timeout(Duration::from_secs(60)), Ok(true));
}
