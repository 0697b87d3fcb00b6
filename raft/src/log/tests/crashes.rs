//! Power is lost at every write point of a script over two groups; what was
//! acknowledged before is there after, and nothing has holes.

use super::*;

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

/// What a group was promised.
#[derive(Debug, Default, Clone)]
struct Promised {
    term: u64,
    /// Entries by index, acknowledged and not given up since.
    entries: Vec<LogEntry>,
    /// Entries that a truncation may have taken, acknowledged or not.
    kept_min: usize,
    purged_max: Option<u64>,
}

/// Runs until the disk fails; gives what was promised until then.
async fn run(log: &Log) -> Vec<Promised> {
    let mut promised = vec![Promised::default(); GROUPS.len()];
    let mut stores = Vec::new();
    for group in GROUPS {
        match log.group(group, ReplicaId(1)) {
            Ok(store) => stores.push(store),
            Err(_) => return promised,
        }
    }
    for round in 0..12_u64 {
        for (store, promise) in stores.iter_mut().zip(&mut promised) {
            let term = round + 1;
            if store.save_vote(&vote(term)).await.is_err() {
                return promised;
            }
            promise.term = term;
            if round % 4 == 3 {
                // A new leader overwrites the last entry.
                let kept = promise.entries.len() - 1;
                let last = promise.entries[kept - 1].log_id;
                promise.kept_min = promise.kept_min.min(kept);
                promise.entries.truncate(kept);
                store.truncate_after(Some(last)).await.unwrap();
            }
            let next = promise.entries.len() as u64;
            let added = [entry(term, next), entry(term, next + 1)];
            let synced = append(store, added.clone()).await;
            if !matches!(synced.await, Ok(Ok(()))) {
                return promised;
            }
            promise.entries.extend(added);
            promise.kept_min = promise.entries.len();
            let last = promise.entries.last().map(|entry| entry.log_id);
            store.save_committed(last).await.unwrap();
            if round % 5 == 4 {
                let upto = promise.entries[promise.entries.len() / 2].log_id;
                promise.purged_max = Some(upto.index);
                store.purge(upto).await.unwrap();
            }
        }
    }
    promised
}

async fn check(log: &Log, promised: &[Promised], point: u64) {
    for (group, promise) in GROUPS.into_iter().zip(promised) {
        let mut store = log.group(group, ReplicaId(1)).unwrap();
        let term = store.read_vote().await.unwrap().map_or(0, |vote| vote.leader_id.term);
        assert!(term >= promise.term, "crash at {point}: the vote of {group} went back");
        let state = store.get_log_state().await.unwrap();
        let purged = state.last_purged_log_id.map(|id| id.index);
        assert!(purged <= promise.purged_max, "crash at {point}");
        let entries = read_all(&mut store).await;
        let first = purged.map_or(0, |purged| purged + 1);
        for (entry, index) in entries.iter().zip(first..) {
            assert_eq!(entry.log_id.index, index, "crash at {point}: a hole in {group}");
        }
        let found = first as usize + entries.len();
        assert!(found >= promise.kept_min, "crash at {point}: {group} lost entries");
        for (entry, promised) in entries.iter().zip(promise.entries.iter().skip(first as usize)) {
            assert_eq!(entry, promised, "crash at {point}: {group} kept a wrong entry");
        }
        let committed = store.read_committed().await.unwrap();
        assert!(committed <= state.last_log_id, "crash at {point}");
        // The log must be usable.
        let next = state.last_log_id.map_or(0, |last| last.index + 1);
        append(&mut store, [entry(99, next)]).await.await.unwrap().unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_every_write_point() {
    let whole = memory();
    TypeConfig::run(async {
        let (log, _) = open(&whole, 1);
        run(&log).await;
        log.close();
    });
    let steps = whole.steps();
    assert!(steps > 40, "{steps} steps");
    for seed in [1, 2] {
        for point in 0..steps {
            let disk = MemoryDisk::new(seed * 1_000 + point);
            TypeConfig::run(async {
                disk.create_directory(Path::new("/node/log")).unwrap();
                let (log, _) = open(&disk, 1);
                disk.fail_after(point);
                let promised = run(&log).await;
                disk.crash();
                log.close();
                drop(log);
                let (log, alarm) = open(&disk, 1);
                check(&log, &promised, point).await;
                assert!(alarm.fault().is_none());
                log.close();
            });
        }
    }
}

#[test]
fn a_vote_is_not_saved_before_it_is_durable() {
    TypeConfig::run(async {
        let disk = memory();
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUPS[0], ReplicaId(1)).unwrap();
        store.save_vote(&vote(3)).await.unwrap();
        disk.crash_losing_all();
        log.close();
        drop((store, log));
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GROUPS[0], ReplicaId(1)).unwrap();
        assert_eq!(store.read_vote().await.unwrap(), Some(vote(3)));
    });
}
