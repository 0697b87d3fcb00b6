//! The in-memory engine: the conformance suite, and what a crash may take.

use std::{io::Write, path::Path};

use proptest::prelude::*;

use super::*;
use crate::engine::{
    Batch, Durability, Purpose, Retention,
    conformance::{self, Place, rows_now, rows_of, stream},
};

fn options(purpose: Purpose) -> EngineOptions {
    EngineOptions { purpose, retention: None }
}

fn put(key: u32) -> Batch {
    let mut batch = Batch::new();
    // Two rows, so that half a batch would show.
    for half in ["a", "b"] {
        batch.put(format!("{key:06}{half}"), "x");
    }
    batch
}

/// How many batches of `put(0), put(1), …` are there; panics if any is torn or
/// missing before another.
fn whole_batches(engine: &dyn Engine) -> u32 {
    let keys: Vec<_> = rows_now(engine).unwrap().into_iter().map(|(key, _)| key).collect();
    let count = keys.len() as u32 / 2;
    let expected: Vec<Bytes> = (0..count)
        .flat_map(|key| ["a", "b"].map(|half| Bytes::from(format!("{key:06}{half}"))))
        .collect();
    assert_eq!(keys, expected);
    count
}

#[test]
fn the_memory_engine_behaves_as_every_engine_does() {
    for seed in 0..4 {
        conformance::run(|| {
            let disk = MemoryDisk::new(seed);
            let root = PathBuf::from("/node/data");
            disk.create_directory(&root).unwrap();
            Place { disk: Arc::new(disk), root, guard: Box::new(()) }
        });
    }
}

#[test]
fn a_crash_keeps_what_was_durable_and_a_prefix_of_whole_batches() {
    let mut lost = 0;
    let mut kept = 0;
    for seed in 0..200 {
        for purpose in [Purpose::Tablet, Purpose::Log] {
            let disk = MemoryDisk::new(seed);
            let engine = disk.open(Path::new("/e"), options(purpose)).unwrap();
            for key in 0..10 {
                engine.write(put(key), Durability::Buffered).unwrap();
                if key == 4 {
                    engine.flush().unwrap();
                }
            }
            assert_eq!(whole_batches(engine.as_ref()), 10);
            disk.crash();
            assert!(engine.get(b"x").is_err(), "a handle outlived its process");
            let engine = disk.open(Path::new("/e"), options(purpose)).unwrap();
            let there = whole_batches(engine.as_ref());
            assert!((5..=10).contains(&there));
            lost += u32::from(there == 5);
            kept += u32::from(there > 5 && there < 10);
        }
    }
    assert!(lost > 50 && kept > 50, "chance knows both ends: {lost} {kept}");
}

#[test]
fn a_crash_that_loses_all_leaves_exactly_what_was_durable() {
    let disk = MemoryDisk::new(1);
    let log = disk.open(Path::new("/log"), options(Purpose::Log)).unwrap();
    log.write(put(0), Durability::Buffered).unwrap();
    log.write(put(1), Durability::Synced).unwrap();
    log.write(put(2), Durability::Buffered).unwrap();
    disk.crash_losing_all();
    let log = disk.open(Path::new("/log"), options(Purpose::Log)).unwrap();
    assert_eq!(whole_batches(log.as_ref()), 2);
}

fn expires_at(_key: &[u8], value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[test]
fn a_compaction_outlives_the_memtable() {
    // Row "a" expired at 10; a batch that nothing flushed gives it a longer life. A
    // compaction by chance drops the durable one, and a crash loses the batch.
    let mut both_lost = 0;
    for seed in 0..50 {
        let disk = MemoryDisk::new(seed);
        let retention = Retention::new(expires_at);
        let options =
            EngineOptions { purpose: Purpose::Tablet, retention: Some(Arc::clone(&retention)) };
        let engine = disk.open(Path::new("/t"), options.clone()).unwrap();
        let write = |value: &'static str| {
            let mut batch = Batch::new();
            batch.put("a", value);
            engine.write(batch, Durability::Buffered).unwrap();
        };
        write("10");
        engine.flush().unwrap();
        retention.advance(10);
        for _ in 0..10 {
            write("30");
            assert_eq!(engine.get(b"a").unwrap().as_deref(), Some(&b"30"[..]));
        }
        disk.crash_losing_all();
        let engine = disk.open(Path::new("/t"), options).unwrap();
        match engine.get(b"a").unwrap().as_deref() {
            None => both_lost += 1,
            Some(value) => assert_eq!(value, b"10"),
        }
    }
    assert!(both_lost > 10 && both_lost < 50, "{both_lost}");
}

#[test]
fn an_open_view_loses_what_retention_gives_up() {
    let disk = MemoryDisk::new(1);
    let retention = Retention::new(expires_at);
    let options =
        EngineOptions { purpose: Purpose::Tablet, retention: Some(Arc::clone(&retention)) };
    let engine = disk.open(Path::new("/t"), options).unwrap();
    let mut batch = Batch::new();
    batch.put("a", "10");
    batch.put("b", "11");
    engine.write(batch, Durability::Buffered).unwrap();
    let view = engine.view().unwrap();
    retention.advance(10);
    engine.compact().unwrap();
    let keys: Vec<_> = rows_of(view.as_ref()).unwrap().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["b"]);
}

#[test]
fn an_unfinished_file_is_lost_or_cut_and_a_finished_one_whole() {
    let (mut absent, mut cut) = (0, 0);
    for seed in 0..100 {
        let disk = MemoryDisk::new(seed);
        let mut done = disk.write_stream(Path::new("/d/done")).unwrap();
        done.write_all(b"content").unwrap();
        done.finish().unwrap();
        let mut open = disk.write_stream(Path::new("/d/open")).unwrap();
        open.write_all(b"content").unwrap();
        disk.crash();
        assert!(open.write_all(b"more").is_err());
        assert_eq!(disk.read_file(Path::new("/d/done")).unwrap().unwrap(), "content");
        match disk.read_file(Path::new("/d/open")).unwrap() {
            None => absent += 1,
            Some(content) => {
                assert!(b"content".starts_with(&content));
                cut += u32::from(content.len() < 7);
            }
        }
    }
    assert!(absent > 10 && cut > 10, "{absent} {cut}");
}

#[test]
fn replacing_a_file_leaves_the_old_or_the_new_at_every_crash_point() {
    let path = Path::new("/d/CURRENT");
    let mut seen = Vec::new();
    for steps in 0..=2 {
        let disk = MemoryDisk::new(steps);
        disk.create_directory(Path::new("/d")).unwrap();
        disk.replace_file(path, b"old").unwrap();
        disk.fail_after(steps);
        let replaced = disk.replace_file(path, b"new");
        assert_eq!(replaced.is_ok(), steps == 2);
        assert!(steps == 2 || disk.replace_file(path, b"newer").is_err(), "the disk stays broken");
        disk.crash();
        seen.push(disk.read_file(path).unwrap().unwrap());
        disk.replace_file(path, b"newest").unwrap();
    }
    assert_eq!(seen, ["old", "old", "new"]);
}

#[test]
fn a_checkpoint_is_whole_or_absent_at_every_crash_point() {
    let mut wholes = 0;
    for steps in 0..8 {
        let disk = MemoryDisk::new(steps);
        let engine = disk.open(Path::new("/t"), options(Purpose::Tablet)).unwrap();
        engine.write(put(0), Durability::Buffered).unwrap();
        disk.fail_after(steps);
        let made = engine.checkpoint(Path::new("/c")).is_ok();
        disk.crash();
        assert_eq!(disk.list(Path::new("/")).unwrap().contains(&"c".to_owned()), made);
        if made {
            let copy = disk.open(Path::new("/c"), options(Purpose::Tablet)).unwrap();
            assert_eq!(whole_batches(copy.as_ref()), 1);
            wholes += 1;
        }
    }
    assert_eq!(wholes, 5, "flush, write and rename are the three steps");
}

#[test]
fn a_checkpoint_streams_into_another_disk() {
    let (here, there) = (MemoryDisk::new(1), MemoryDisk::new(2));
    let engine = here.open(Path::new("/t"), options(Purpose::Tablet)).unwrap();
    for key in 0..100 {
        engine.write(put(key), Durability::Buffered).unwrap();
    }
    engine.checkpoint(Path::new("/c")).unwrap();
    stream((&here, Path::new("/c")), (&there, Path::new("/g"))).unwrap();
    there.crash();
    let received = there.open(Path::new("/g"), options(Purpose::Tablet)).unwrap();
    assert_eq!(whole_batches(received.as_ref()), 100);
}

#[test]
fn a_torn_image_is_not_opened() {
    let disk = MemoryDisk::new(1);
    let mut sink = disk.write_stream(Path::new("/g/data")).unwrap();
    sink.write_all(b"cardeam1 and then nothing of the kind that was promised").unwrap();
    sink.finish().unwrap();
    assert!(disk.open(Path::new("/g"), options(Purpose::Tablet)).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same seed and the same calls: the same disk, whatever crashed.
    #[test]
    fn the_same_seed_does_the_same(seed: u64, calls in prop::collection::vec(0_u8..6, 1..60)) {
        let run = || {
            let disk = MemoryDisk::new(seed);
            let retention = Retention::new(expires_at);
            let options = EngineOptions {
                purpose: Purpose::Tablet,
                retention: Some(Arc::clone(&retention)),
            };
            let mut engine = disk.open(Path::new("/t"), options.clone()).unwrap();
            let mut seen = Vec::new();
            for (at, call) in calls.iter().enumerate() {
                match call {
                    0 => {
                        engine.flush().unwrap();
                        retention.advance(at as u64);
                    }
                    1 => {
                        disk.crash();
                        engine = disk.open(Path::new("/t"), options.clone()).unwrap();
                    }
                    _ => {
                        let mut batch = Batch::new();
                        batch.put(format!("{}", at % 7), format!("{}", at + 3));
                        engine.write(batch, Durability::Buffered).unwrap();
                    }
                }
                seen.push(rows_now(engine.as_ref()).unwrap());
            }
            (seen, disk.steps())
        };
        prop_assert_eq!(run(), run());
    }
}
