//! The RocksDB engine: the conformance suite, and what only it promises.

use std::{collections::BTreeMap, fs};

use proptest::prelude::*;

use super::*;
use crate::engine::{
    Batch, Durability, Order, View,
    conformance::{self, Place, rows_now, rows_of},
    memory::MemoryDisk,
};

fn disk() -> RocksDisk {
    RocksDisk::new(RocksSettings::default()).unwrap()
}

fn tablet() -> EngineOptions {
    EngineOptions { purpose: Purpose::Tablet, retention: None }
}

fn put(key: &'static str, value: &'static str) -> Batch {
    let mut batch = Batch::new();
    batch.put(key, value);
    batch
}

/// What a killed process leaves: the files, as they are while it has them open.
fn copy_of_the_living(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in files::list(from).unwrap() {
        if name != "LOCK" {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

#[test]
fn the_rocksdb_engine_behaves_as_every_engine_does() {
    let disk: Arc<dyn Disk> = Arc::new(disk());
    conformance::run(|| {
        let guard = tempfile::tempdir().unwrap();
        let root = guard.path().to_path_buf();
        Place { disk: Arc::clone(&disk), root, guard: Box::new(guard) }
    });
}

#[test]
fn a_killed_tablet_has_what_was_flushed_and_a_killed_log_what_was_synced() {
    let disk = disk();
    let guard = tempfile::tempdir().unwrap();
    let at = |name: &str| guard.path().join(name);
    let log = EngineOptions { purpose: Purpose::Log, retention: None };

    let engine = disk.open(&at("t"), tablet()).unwrap();
    engine.write(put("a", "1"), Durability::Buffered).unwrap();
    engine.flush().unwrap();
    engine.write(put("a", "2"), Durability::Buffered).unwrap();
    copy_of_the_living(&at("t"), &at("t2"));
    let killed = disk.open(&at("t2"), tablet()).unwrap();
    assert_eq!(killed.get(b"a").unwrap().unwrap(), "1");

    let engine = disk.open(&at("l"), log.clone()).unwrap();
    engine.write(put("a", "1"), Durability::Buffered).unwrap();
    engine.write(put("b", "2"), Durability::Synced).unwrap();
    copy_of_the_living(&at("l"), &at("l2"));
    let killed = disk.open(&at("l2"), log).unwrap();
    assert_eq!(rows_now(killed.as_ref()).unwrap(), rows_now(engine.as_ref()).unwrap());
}

#[test]
fn scan_of_few_gives_up_where_much_was_deleted() {
    let guard = tempfile::tempdir().unwrap();
    let engine = disk().open(&guard.path().join("t"), tablet()).unwrap();
    let mut gone = Batch::new();
    for number in 0..1_000_u32 {
        let key = [b"b", number.to_be_bytes().as_slice()].concat();
        gone.put(key.clone(), "x");
        gone.delete(key);
    }
    engine.write(put("a", "1"), Durability::Buffered).unwrap();
    engine.write(gone, Durability::Buffered).unwrap();
    engine.write(put("c", "3"), Durability::Buffered).unwrap();
    let few = |view: &dyn View, start: &str, end: &str| {
        let mut seen = Vec::new();
        let (start, end) = (start.as_bytes(), end.as_bytes());
        let all = view.scan_few(start, end, 9, &mut |_, value| seen.extend_from_slice(value));
        all.unwrap().then(|| String::from_utf8(seen).unwrap())
    };
    let view = engine.view().unwrap();
    assert_eq!(few(view.as_ref(), "a", "d"), None);
    assert_eq!(few(view.as_ref(), "c", "d").as_deref(), Some("3"), "the same view goes on");
    assert_eq!(few(view.as_ref(), "b", "c"), None);
    assert_eq!(rows_of(view.as_ref()).unwrap().len(), 2, "other scans pass them all");
    engine.compact().unwrap();
    let view = engine.view().unwrap();
    assert_eq!(few(view.as_ref(), "a", "d").as_deref(), Some("13"));
}

/// A view keeps the database open that it reads.
#[test]
fn a_claim_outlives_its_engine_as_long_as_a_view_does() {
    let guard = tempfile::tempdir().unwrap();
    let engine = disk().open(&guard.path().join("t"), tablet()).unwrap();
    let (claim, view) = (engine.claim(), engine.view().unwrap());
    drop(engine);
    assert_eq!(claim.strong_count(), 1);
    drop(view);
    assert_eq!(claim.strong_count(), 0);
}

#[test]
fn a_directory_with_tables_but_no_current_file_is_refused() {
    let disk = disk();
    let guard = tempfile::tempdir().unwrap();
    let at = guard.path().join("t");
    let engine = disk.open(&at, tablet()).unwrap();
    engine.write(put("a", "1"), Durability::Buffered).unwrap();
    engine.flush().unwrap();
    drop(engine);
    fs::remove_file(at.join("CURRENT")).unwrap();
    let tables = |names: Vec<String>| names.into_iter().filter(|name| name.ends_with(".sst"));
    let before: Vec<_> = tables(files::list(&at).unwrap()).collect();
    assert!(disk.open(&at, tablet()).is_err());
    assert_eq!(tables(files::list(&at).unwrap()).collect::<Vec<_>>(), before);
    assert_eq!(before.len(), 1);
}

#[test]
fn a_place_that_cannot_be_written_is_a_fault() {
    let guard = tempfile::tempdir().unwrap();
    let file = guard.path().join("file");
    fs::write(&file, b"in the way").unwrap();
    let disk = disk();
    assert!(disk.open(&file.join("t"), tablet()).is_err());
    assert!(disk.create_directory(&file).is_err());
    assert!(disk.replace_file(&file.join("x"), b"x").is_err());
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Edit>),
    Flush,
    Compact,
    Advance(u64),
    Reopen,
    Look,
}

#[derive(Debug, Clone)]
enum Edit {
    Put(u8, Option<u64>),
    Delete(u8),
    DeleteRange(u8, u8),
}

fn edit() -> impl Strategy<Value = Edit> {
    let key = 0..24_u8;
    prop_oneof![
        4 => (key.clone(), prop::option::of(0..40_u64)).prop_map(|(key, at)| Edit::Put(key, at)),
        2 => key.clone().prop_map(Edit::Delete),
        1 => (key.clone(), key).prop_map(|(start, end)| Edit::DeleteRange(start, end)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(edit(), 1..6).prop_map(Step::Write),
        2 => Just(Step::Flush),
        1 => Just(Step::Compact),
        1 => (0..40_u64).prop_map(Step::Advance),
        1 => Just(Step::Reopen),
        2 => Just(Step::Look),
    ]
}

/// A value is its expiry, or "never", and a number that makes it unique.
fn expires_at(_key: &[u8], value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Both engines give the answers of a plain map, but for rows that retention
    /// has given up; those may be there or not, and nothing older in their place.
    #[test]
    fn both_engines_answer_alike(seed: u64, steps in prop::collection::vec(step(), 1..50)) {
        let guard = tempfile::tempdir().unwrap();
        let disks: [Box<dyn Disk>; 2] = [Box::new(disk()), Box::new(MemoryDisk::new(seed))];
        let retention = Retention::new(expires_at);
        let options = EngineOptions {
            purpose: Purpose::Tablet,
            retention: Some(Arc::clone(&retention)),
        };
        let at = guard.path().join("t");
        let open = |at: &Path| -> Vec<Arc<dyn Engine>> {
            disks.iter().map(|disk| disk.open(at, options.clone()).unwrap()).collect()
        };
        let mut engines = open(&at);
        let mut model = BTreeMap::<Bytes, Bytes>::new();
        let mut looks = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Write(edits) => {
                    let mut batch = Batch::new();
                    for edit in edits {
                        match edit {
                            Edit::Put(key, expiry) => {
                                let expiry = expiry.map_or("never".to_owned(), |at| at.to_string());
                                let key = Bytes::from(vec![key]);
                                let value = Bytes::from(format!("{expiry} {number}"));
                                model.insert(key.clone(), value.clone());
                                batch.put(key, value);
                            }
                            Edit::Delete(key) => {
                                model.remove(&[key][..]);
                                batch.delete(vec![key]);
                            }
                            Edit::DeleteRange(start, end) => {
                                model.retain(|key, _| !(start..end).contains(&key[0]));
                                batch.delete_range(vec![start], vec![end]);
                            }
                        }
                    }
                    for engine in &engines {
                        engine.write(batch.clone(), Durability::Buffered).unwrap();
                    }
                }
                Step::Flush => engines.iter().for_each(|engine| engine.flush().unwrap()),
                Step::Compact => engines.iter().for_each(|engine| engine.compact().unwrap()),
                Step::Advance(now) => retention.advance(now),
                Step::Reopen => {
                    looks.clear();
                    engines.iter().for_each(|engine| engine.flush().unwrap());
                    drop(std::mem::take(&mut engines));
                    engines = open(&at);
                }
                Step::Look => {
                    let views: Vec<_> =
                        engines.iter().map(|engine| engine.view().unwrap()).collect();
                    looks.push((views, model.clone()));
                }
            }
            let check = |rows: Vec<(Bytes, Bytes)>, model: &BTreeMap<Bytes, Bytes>| {
                for (key, value) in &rows {
                    assert_eq!(model.get(key), Some(value), "an older or a deleted row");
                }
                let rows: BTreeMap<_, _> = rows.into_iter().collect();
                for (key, value) in model {
                    assert!(rows.contains_key(key) || retention.drops(key, value), "a lost row");
                }
            };
            for engine in &engines {
                check(rows_now(engine.as_ref()).unwrap(), &model);
            }
            for (views, model) in &looks {
                for view in views {
                    check(rows_of(view.as_ref()).unwrap(), model);
                }
            }
        }
    }
}

#[test]
fn scans_of_subject_sets_see_what_scans_of_all_rows_see() {
    use crate::{
        key::{KeyWriter, Tenant},
        machine::area,
        slot::{Slot, Space},
        tag::Tag,
    };
    let guard = tempfile::tempdir().unwrap();
    let engine = disk().open(&guard.path().join("t"), tablet()).unwrap();
    let writer = |object: u32| {
        let mut key = KeyWriter::new(Slot::new(Space::Graph, 0), Tag::RELATION_TUPLE, Tenant(0));
        key.str("d").str(&format!("object-{object}")).str("v");
        key
    };
    // Every third object has ids, every fifth has sets; written, flushed, written over,
    // deleted, compacted in turns, so that memtables and tables both answer.
    for round in 0..3_u32 {
        let mut batch = Batch::new();
        for object in 0..600 {
            let (ids, sets) = (object % 3 == 0, object % 5 == round % 5);
            let mut id = writer(object);
            id.u8(0).str("ann");
            let mut set = writer(object);
            set.u8(1).str("g").str(&format!("group-{round}")).str("m");
            for (wanted, key) in [(ids, id), (sets, set)] {
                let key = area::key(area::ROW, key.finish().as_bytes());
                if wanted {
                    batch.put(key, format!("{round}"));
                } else if object % 7 == 0 {
                    batch.delete(key);
                }
            }
        }
        engine.write(batch, Durability::Buffered).unwrap();
        for settled in [false, true] {
            if settled && round == 1 {
                engine.flush().unwrap();
            } else if settled && round == 2 {
                engine.compact().unwrap();
            }
            let view = engine.view().unwrap();
            for object in 0..600 {
                let found = |from: &KeyWriter| {
                    let range = from.clone().range();
                    let (start, end) =
                        (area::key(area::ROW, &range.start), area::key(area::ROW, &range.end));
                    let mut found = Vec::new();
                    let visit = &mut |key: &[u8], _: &[u8]| {
                        found.push(key.to_vec());
                        std::ops::ControlFlow::Continue(())
                    };
                    use std::ops::Bound::{Excluded, Included};
                    view.scan(Included(&start), Excluded(&end), Order::Forward, visit).unwrap();
                    found
                };
                let mut sets = writer(object);
                let all = found(&sets);
                sets.u8(1);
                let prefix = area::key(area::ROW, &sets.clone().range().start);
                let expected: Vec<_> =
                    all.into_iter().filter(|key| key.starts_with(&prefix)).collect();
                assert_eq!(found(&sets), expected, "object {object}, round {round}");
            }
        }
    }
}
