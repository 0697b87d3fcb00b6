//! A tablet's generations: what a crash at each step leaves behind.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::*;
use crate::engine::{
    Batch, Durability,
    conformance::{rows_now, rows_of, stream},
    memory::MemoryDisk,
    rocks::{RocksDisk, RocksSettings},
};

const ROOT: &str = "/node/tablets/7";

fn write(engine: &dyn Engine, value: &'static str) {
    let mut batch = Batch::new();
    batch.put("a", value);
    batch.put("b", value);
    engine.write(batch, Durability::Buffered).unwrap();
}

fn state(engine: &dyn Engine) -> Vec<(Bytes, Bytes)> {
    rows_now(engine).unwrap()
}

fn both(value: &'static str) -> Vec<(Bytes, Bytes)> {
    ["a", "b"].map(|key| (Bytes::from(key), Bytes::from(value))).into()
}

fn open(disk: &MemoryDisk) -> Result<TabletDirectory, Fault> {
    TabletDirectory::open(Arc::new(disk.clone()), Path::new(ROOT), None)
}

/// A tablet with the durable state "old", and another disk's checkpoint "new".
fn prepared(seed: u64) -> (MemoryDisk, MemoryDisk) {
    let disk = MemoryDisk::new(seed);
    let engine = open(&disk).unwrap().open_live().unwrap();
    write(engine.as_ref(), "old");
    engine.flush().unwrap();
    drop(engine);
    let sender = MemoryDisk::new(seed);
    let engine = open(&sender).unwrap().open_live().unwrap();
    write(engine.as_ref(), "new");
    engine.checkpoint(Path::new("/c")).unwrap();
    (disk, sender)
}

fn names(disk: &MemoryDisk, directory: &str) -> Vec<String> {
    disk.list(&Path::new(ROOT).join(directory)).unwrap()
}

#[test]
fn a_tablet_that_was_never_created_has_no_live_engine() {
    let disk = MemoryDisk::new(1);
    assert!(open(&disk).unwrap().live().is_none());
    let tablet = open(&disk).unwrap();
    assert!(tablet.checkpoint("s").is_err());
    write(tablet.open_live().unwrap().as_ref(), "x");
    assert_eq!(state(tablet.live().unwrap().as_ref()), both("x"));
    drop(tablet);
    assert!(open(&disk).unwrap().live().is_some());
}

#[test]
fn installing_leaves_the_old_or_the_new_state_at_every_write_point() {
    let (mut olds, mut news) = (0, 0);
    for steps in 0.. {
        let (disk, sender) = prepared(steps);
        disk.fail_after(steps);
        let attempt = || {
            let tablet = open(&disk)?;
            let received = tablet.begin_receive()?;
            stream((&sender, Path::new("/c")), (&disk, &received))?;
            let installed = tablet.install(&received)?;
            assert_eq!(state(installed.as_ref()), both("new"));
            assert_eq!(state(tablet.live().unwrap().as_ref()), both("new"));
            Ok::<(), Fault>(())
        };
        let outcome = attempt();
        let reached = disk.steps();
        disk.crash();
        let tablet = open(&disk).unwrap();
        let found = state(tablet.live().unwrap().as_ref());
        match outcome {
            Ok(()) => assert_eq!(found, both("new"), "{steps}"),
            Err(_) => assert!(found == both("old") || found == both("new"), "{steps}: {found:?}"),
        }
        if found == both("old") {
            olds += 1
        } else {
            news += 1
        }
        let left: BTreeSet<String> = names(&disk, "").into_iter().collect();
        let live = if found == both("old") { "g0000000001" } else { "g0000000002" };
        assert_eq!(left, ["CURRENT", live, "snapshots"].map(str::to_owned).into(), "{steps}");
        // Beyond the last write nothing failed any more.
        let (whole, sender) = prepared(steps);
        let before = whole.steps();
        let tablet = open(&whole).unwrap();
        let received = tablet.begin_receive().unwrap();
        stream((&sender, Path::new("/c")), (&whole, &received)).unwrap();
        drop(tablet.install(&received).unwrap());
        drop(tablet);
        if steps > whole.steps() - before {
            assert!(reached > 0);
            break;
        }
    }
    assert!(olds > 5 && news > 2, "{olds} {news}");
}

#[test]
fn creating_leaves_nothing_or_an_empty_tablet_at_every_write_point() {
    for steps in 0..12 {
        let disk = MemoryDisk::new(steps);
        disk.fail_after(steps);
        let created = open(&disk).and_then(|tablet| tablet.open_live()).is_ok();
        disk.crash();
        let tablet = open(&disk).unwrap();
        assert!(tablet.live().is_some() || !created, "{steps}");
        assert_eq!(state(tablet.open_live().unwrap().as_ref()), []);
        assert_eq!(names(&disk, "").len(), 3, "{steps}");
    }
}

#[test]
fn a_snapshot_is_whole_or_absent_at_every_write_point() {
    let mut seen = BTreeSet::new();
    for steps in 0..16 {
        let disk = MemoryDisk::new(steps);
        let tablet = open(&disk).unwrap();
        write(tablet.open_live().unwrap().as_ref(), "x");
        disk.fail_after(steps);
        let _ = tablet
            .checkpoint("1-7")
            .and_then(|_| tablet.remove_snapshot("1-7"))
            .and_then(|()| tablet.checkpoint("1-8"));
        drop(tablet);
        disk.crash();
        let tablet = open(&disk).unwrap();
        let snapshots = tablet.snapshots().unwrap();
        assert_eq!(names(&disk, SNAPSHOTS), snapshots, "{steps}: leftovers");
        for name in &snapshots {
            let to = tablet.begin_receive().unwrap();
            let from = tablet.snapshot_path(name).unwrap();
            stream((&disk, &from), (&disk, &to)).unwrap();
            assert_eq!(state(tablet.install(&to).unwrap().as_ref()), both("x"));
        }
        seen.insert(snapshots.join(" "));
    }
    assert_eq!(seen, ["", "1-7", "1-8"].map(str::to_owned).into());
}

#[test]
fn the_old_generation_goes_with_its_last_reader() {
    let (disk, sender) = prepared(1);
    let tablet = open(&disk).unwrap();
    let old = tablet.live().unwrap();
    let view = old.view().unwrap();
    let received = tablet.begin_receive().unwrap();
    stream((&sender, Path::new("/c")), (&disk, &received)).unwrap();
    tablet.install(&received).unwrap();
    assert_eq!(state(old.as_ref()), both("old"));
    drop(old);
    assert!(names(&disk, "").contains(&"g0000000001".to_owned()));
    assert_eq!(rows_of(view.as_ref()).unwrap(), both("old"));
    drop(view);
    assert_eq!(names(&disk, ""), ["CURRENT", "g0000000002", "snapshots"]);
    assert_eq!(state(tablet.live().unwrap().as_ref()), both("new"));
}

#[test]
fn what_is_no_whole_engine_is_not_installed() {
    let (disk, sender) = prepared(1);
    let tablet = open(&disk).unwrap();
    let empty = tablet.begin_receive().unwrap();
    assert!(tablet.install(&empty).is_err());
    let torn = tablet.begin_receive().unwrap();
    stream((&sender, Path::new("/c")), (&disk, &torn)).unwrap();
    let image = disk.read_file(&torn.join("data")).unwrap().unwrap();
    disk.replace_file(&torn.join("data"), &image[..image.len() - 1]).unwrap();
    assert!(tablet.install(&torn).is_err());
    for elsewhere in ["/elsewhere/g0000000009", "/node/tablets/7/snapshots", ROOT] {
        assert!(tablet.install(Path::new(elsewhere)).is_err(), "{elsewhere}");
        assert!(tablet.abandon(Path::new(elsewhere)).is_err(), "{elsewhere}");
    }
    let live = Path::new(ROOT).join("g0000000001");
    assert!(tablet.install(&live).is_err() && tablet.abandon(&live).is_err());
    assert_eq!(state(tablet.live().unwrap().as_ref()), both("old"));
    tablet.abandon(&torn).unwrap();
    drop(tablet);
    assert_eq!(state(open(&disk).unwrap().live().unwrap().as_ref()), both("old"));
    assert_eq!(names(&disk, ""), ["CURRENT", "g0000000001", "snapshots"]);
}

#[test]
fn a_current_file_that_names_nothing_is_a_fault() {
    for content in ["", "g0000000001", "g0000000002\n", "g1\n", "../x\n"] {
        let (disk, _) = prepared(1);
        disk.replace_file(&Path::new(ROOT).join(CURRENT), content.as_bytes()).unwrap();
        assert!(open(&disk).is_err(), "{content:?}");
        assert!(names(&disk, "").contains(&"g0000000001".to_owned()), "nothing is cleaned away");
    }
}

#[test]
fn a_snapshot_has_a_plain_name() {
    let (disk, _) = prepared(1);
    let tablet = open(&disk).unwrap();
    for name in ["", ".", "..", "a/b", "a.tmp", "a.removed", "ü"] {
        assert!(tablet.checkpoint(name).is_err(), "{name:?}");
        assert!(tablet.remove_snapshot(name).is_err(), "{name:?}");
    }
    tablet.remove_snapshot("absent").unwrap();
}

#[test]
fn a_tablet_on_rocksdb_is_sent_and_installed() {
    let guard = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RocksDisk::new(RocksSettings::default()).unwrap());
    let open =
        |name: &str| TabletDirectory::open(Arc::clone(&disk), &guard.path().join(name), None);
    let sender = open("sender").unwrap();
    write(sender.open_live().unwrap().as_ref(), "new");
    let snapshot = sender.checkpoint("1-7").unwrap();
    write(sender.open_live().unwrap().as_ref(), "later");

    let receiver = open("receiver").unwrap();
    let old = receiver.open_live().unwrap();
    write(old.as_ref(), "old");
    let view = old.view().unwrap();
    drop(old);
    let received = receiver.begin_receive().unwrap();
    stream((disk.as_ref(), &snapshot), (disk.as_ref(), &received)).unwrap();
    assert_eq!(state(receiver.install(&received).unwrap().as_ref()), both("new"));
    assert_eq!(rows_of(view.as_ref()).unwrap(), both("old"));
    drop(view);
    let root = guard.path().join("receiver");
    assert_eq!(disk.list(&root).unwrap(), ["CURRENT", "g0000000002", "snapshots"]);
    drop(receiver);
    let receiver = open("receiver").unwrap();
    assert_eq!(state(receiver.live().unwrap().as_ref()), both("new"));
    sender.remove_snapshot("1-7").unwrap();
    assert!(sender.snapshots().unwrap().is_empty());
}
