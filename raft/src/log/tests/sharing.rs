//! The writer: many groups share a sync, completions come in order, a failure
//! fails everything, and a hanging disk shows.

use std::time::Duration;

use cardea_storage::{
    Fault,
    engine::{Batch, EngineOptions, Purpose},
};
use parking_lot::Mutex;

use super::*;
use crate::{
    log::writer::{Urgency, Writer},
    testing::{Gate, GatedEngine},
};

/// A log's engine whose writes wait for permission.
fn gated(disk: &MemoryDisk) -> (Arc<GatedEngine>, Arc<Gate>) {
    let options = EngineOptions { purpose: Purpose::Log, retention: None };
    disk.create_directory(Path::new("/gated")).unwrap();
    let inner = disk.open(Path::new("/gated/log"), options).unwrap();
    let gate = Arc::new(Gate::default());
    (Arc::new(GatedEngine::new(inner, gate.clone())), gate)
}

fn gated_log(engine: &Arc<GatedEngine>) -> Arc<Log> {
    let alarm = Arc::new(Alarm::new());
    Arc::new(Log::over(engine.clone(), LogSettings::default(), alarm).unwrap())
}

#[test]
fn many_groups_share_one_sync() {
    TypeConfig::run(async {
        let (engine, gate) = gated(&memory());
        gate.permit(None);
        let log = gated_log(&engine);
        let mut stores: Vec<_> =
            (0..50).map(|group| log.group(GroupId(group), ReplicaId(1)).unwrap()).collect();
        let before = log.counts().syncs;
        gate.permit(Some(0));
        let mut synced = Vec::new();
        for store in &mut stores {
            synced.push(append(store, [entry(1, 0)]).await);
        }
        for store in &mut stores {
            assert_eq!(read_all(store).await, [entry(1, 0)], "readable before it is durable");
        }
        gate.permit(None);
        for one in synced {
            one.await.unwrap().unwrap();
        }
        let counts = log.counts();
        assert!(counts.syncs - before <= 2, "{} syncs for 50 groups", counts.syncs - before);
        assert!(counts.synced_jobs >= 50);
    });
}

#[test]
fn a_hanging_disk_shows_in_the_age_of_the_oldest_write() {
    TypeConfig::run(async {
        let (engine, gate) = gated(&memory());
        gate.permit(None);
        let log = gated_log(&engine);
        let mut store = log.group(GroupId(1), ReplicaId(1)).unwrap();
        assert_eq!(log.oldest_unfinished(), None);
        gate.permit(Some(0));
        let synced = append(&mut store, [entry(1, 0)]).await;
        while log.oldest_unfinished() < Some(Duration::from_millis(20)) {
            tokio::task::yield_now().await;
        }
        gate.permit(None);
        synced.await.unwrap().unwrap();
        assert_eq!(log.oldest_unfinished(), None);
    });
}

#[test]
fn completions_come_in_queue_order() {
    let disk = memory();
    let (engine, gate) = gated(&disk);
    let writer = Writer::start(engine.clone(), 100, Arc::new(Alarm::new())).unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    for job in 0..200_u64 {
        let mut batch = Batch::new();
        batch.put(job.to_be_bytes().to_vec(), vec![0; 30]);
        let order = order.clone();
        let complete = move |result: Result<(), Fault>| {
            result.unwrap();
            order.lock().push(job);
        };
        writer.submit(batch, Urgency::Synced(Box::new(complete)));
    }
    gate.permit(None);
    writer.close();
    assert_eq!(*order.lock(), (0..200).collect::<Vec<_>>());
    assert!(writer.counts().syncs > 10, "a batch is bounded");
}

#[test]
fn a_failed_sync_fails_everything_and_raises_the_alarm() {
    let disk = memory();
    let (engine, gate) = gated(&disk);
    let alarm = Arc::new(Alarm::new());
    let writer = Writer::start(engine.clone(), 1, alarm.clone()).unwrap();
    let results = Arc::new(Mutex::new(Vec::new()));
    let submit = |job: u64| {
        let mut batch = Batch::new();
        batch.put(job.to_be_bytes().to_vec(), Bytes::new());
        let results = results.clone();
        let complete = move |result: Result<(), Fault>| results.lock().push((job, result.is_ok()));
        writer.submit(batch, Urgency::Synced(Box::new(complete)));
    };
    submit(0);
    submit(1);
    submit(2);
    disk.fail_after(1);
    gate.permit(None);
    while results.lock().len() < 3 {
        std::thread::yield_now();
    }
    assert!(alarm.fault().is_some());
    submit(3);
    assert_eq!(*results.lock(), [(0, true), (1, false), (2, false), (3, false)]);
}

#[test]
fn what_nobody_waits_for_is_written_all_the_same() {
    TypeConfig::run(async {
        let disk = memory();
        let (log, _) = open(&disk, 1);
        let mut store = log.group(GroupId(1), ReplicaId(1)).unwrap();
        append(&mut store, [entry(1, 0), entry(1, 1)]).await.await.unwrap().unwrap();
        store.save_committed(Some(log_id(1, 1))).await.unwrap();
        let before = log.counts().buffered;
        while log.counts().buffered == before {
            tokio::task::yield_now().await;
        }
        store.truncate_after(Some(log_id(1, 0))).await.unwrap();
        let before = log.counts().buffered;
        while log.counts().buffered == before {
            tokio::task::yield_now().await;
        }
    });
}
