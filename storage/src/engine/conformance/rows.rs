//! Batches, reads, scans, views, durability, checkpoints.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
    thread,
};

use bytes::Bytes;

use super::{Behaviour, Place, pairs, rows_now, rows_of, stream};
use crate::{
    engine::{Batch, Durability, Order},
    fault::Fault,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("a written pair is read, an unwritten one is absent", written_pair_is_read),
    ("a batch applies its changes in order", batch_applies_in_order),
    ("a range deletes what lies in it, an inverted one nothing", range_deletes_its_keys),
    ("an empty batch changes nothing", empty_batch_changes_nothing),
    ("scans honour every kind of bound in both orders", scans_honour_bounds),
    ("a scan stops when told", scan_stops_when_told),
    ("a scan of few says whether these were all", scan_of_few_says_whether_these_were_all),
    ("scans of one view stand within one another", scans_stand_within_one_another),
    ("a view does not see later writes", view_does_not_see_later_writes),
    ("a view outlives its engine's handle", view_outlives_the_handle),
    ("readers see whole batches while one writes", readers_see_whole_batches),
    ("flushed rows survive reopening", flushed_rows_survive_reopening),
    ("synced batches of a log survive reopening", synced_batches_survive_reopening),
    ("a synced write to a tablet is refused", synced_write_to_a_tablet_is_refused),
    ("opening twice is refused until the first is closed", opening_twice_is_refused),
    ("a claim ends when the files are closed, not before", claim_ends_when_files_are_closed),
    ("a flush leaves nothing unflushed", flush_leaves_nothing_unflushed),
    ("a checkpoint is a point in time and independent", checkpoint_is_independent),
    ("a checkpoint over something is refused", checkpoint_over_something_is_refused),
    ("a checkpoint can be streamed and opened", checkpoint_can_be_streamed),
    ("a batch of megabytes is written whole", large_batch_is_written),
];

fn batch(puts: &[(&str, &str)]) -> Batch {
    let mut batch = Batch::new();
    for (key, value) in pairs(puts) {
        batch.put(key, value);
    }
    batch
}

fn written_pair_is_read(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(
        batch(&[("a", "1"), ("", "empty key"), ("empty value", "")]),
        Durability::Buffered,
    )?;
    assert_eq!(engine.get(b"a")?.as_deref(), Some(&b"1"[..]));
    assert_eq!(engine.get(b"")?.as_deref(), Some(&b"empty key"[..]));
    assert_eq!(engine.get(b"empty value")?.as_deref(), Some(&b""[..]));
    assert_eq!(engine.get(b"b")?, None);
    assert_eq!(engine.view()?.get(b"a")?.as_deref(), Some(&b"1"[..]));
    assert_eq!(engine.view()?.get(b"b")?, None);
    Ok(())
}

fn batch_applies_in_order(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("c", "old"), ("d", "old")]), Durability::Buffered)?;
    let mut changes = batch(&[("a", "1"), ("a", "2"), ("b", "1")]);
    changes.delete("b");
    changes.put("c", "doomed");
    changes.delete_range("c", "e");
    changes.put("d", "after the range");
    changes.append(batch(&[("a", "3")]));
    engine.write(changes, Durability::Buffered)?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("a", "3"), ("d", "after the range")]));
    Ok(())
}

fn range_deletes_its_keys(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    let all = [("a", "1"), ("b", "1"), ("b\0", "1"), ("c", "1")];
    engine.write(batch(&all), Durability::Buffered)?;
    let mut nothing = Batch::new();
    nothing.delete_range("c", "a");
    nothing.delete_range("b", "b");
    nothing.delete_range("x", "z");
    nothing.delete("absent");
    engine.write(nothing, Durability::Buffered)?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&all));
    let mut some = Batch::new();
    some.delete_range("b", "c");
    engine.write(some, Durability::Buffered)?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("a", "1"), ("c", "1")]));
    assert_eq!(engine.get(b"b")?, None);
    Ok(())
}

fn empty_batch_changes_nothing(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(Batch::new(), Durability::Buffered)?;
    engine.flush()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[]));
    let log = place.log("l")?;
    log.write(Batch::new(), Durability::Synced)
}

fn scans_honour_bounds(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    let keys = ["", "a", "a\0", "aa", "b", "b\u{7f}", "c"];
    // Half of the rows in a file, half in memory.
    for (at, key) in keys.iter().enumerate() {
        engine.write(batch(&[(key, "v")]), Durability::Buffered)?;
        if at == 3 {
            engine.flush()?;
        }
    }
    let model: BTreeMap<&[u8], ()> = keys.iter().map(|key| (key.as_bytes(), ())).collect();
    let mut bounds = vec![Bound::Unbounded];
    for key in keys.iter().chain(&["a\0\0", "bb", "d"]) {
        bounds.push(Bound::Included(key.as_bytes()));
        bounds.push(Bound::Excluded(key.as_bytes()));
    }
    let view = engine.view()?;
    for &start in &bounds {
        for &end in &bounds {
            let within = |key: &&&[u8]| {
                let key: &[u8] = key;
                let after = match start {
                    Bound::Included(start) => key >= start,
                    Bound::Excluded(start) => key > start,
                    Bound::Unbounded => true,
                };
                let before = match end {
                    Bound::Included(end) => key <= end,
                    Bound::Excluded(end) => key < end,
                    Bound::Unbounded => true,
                };
                after && before
            };
            let mut expected: Vec<&[u8]> = model.keys().filter(within).copied().collect();
            for order in [Order::Forward, Order::Reverse] {
                let mut seen = Vec::new();
                view.scan(start, end, order, &mut |key, value| {
                    assert_eq!(value, b"v");
                    seen.push(key.to_vec());
                    ControlFlow::Continue(())
                })?;
                assert_eq!(seen, expected, "{start:?} {end:?} {order:?}");
                expected.reverse();
            }
        }
    }
    Ok(())
}

fn scan_stops_when_told(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1"), ("b", "2"), ("c", "3")]), Durability::Buffered)?;
    for (order, expected) in [(Order::Forward, "ab"), (Order::Reverse, "cb")] {
        let mut seen = Vec::new();
        engine.view()?.scan(Bound::Unbounded, Bound::Unbounded, order, &mut |key, _| {
            seen.extend_from_slice(key);
            if seen.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert_eq!(seen, expected.as_bytes());
    }
    Ok(())
}

fn scan_of_few_says_whether_these_were_all(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]), Durability::Buffered)?;
    let view = engine.view()?;
    let few = |start: &str, end: &str, most: usize| {
        let mut seen = String::new();
        let all = view.scan_few(start.as_bytes(), end.as_bytes(), most, &mut |key, value| {
            seen.push_str(&String::from_utf8_lossy(&[key, value].concat()));
        })?;
        Ok::<_, Fault>(all.then_some(seen))
    };
    // One after another, forwards and backwards, in one view.
    assert_eq!(few("b", "d", 2)?.as_deref(), Some("b2c3"));
    assert_eq!(few("b", "d", 1)?, None);
    assert_eq!(few("a", "b", 1)?.as_deref(), Some("a1"));
    assert_eq!(few("c", "z", 9)?.as_deref(), Some("c3d4"));
    assert_eq!(few("bb", "c", 0)?.as_deref(), Some(""));
    assert_eq!(few("a", "b", 0)?, None);
    assert_eq!(few("c", "b", 9)?.as_deref(), Some(""));
    engine.write(batch(&[("aa", "later")]), Durability::Buffered)?;
    engine.compact()?;
    assert_eq!(few("a", "b", 9)?.as_deref(), Some("a1"), "as of the view");
    Ok(())
}

fn scans_stand_within_one_another(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1"), ("b", "2"), ("c", "3")]), Durability::Buffered)?;
    let view = engine.view()?;
    let mut seen = Vec::new();
    let all = view.scan_few(b"a", b"z", 9, &mut |outer, _| {
        let (mut few, mut every) = (0, 0);
        let all = view.scan_few(b"b", b"z", 9, &mut |_, _| few += 1);
        assert!(all.is_ok_and(|all| all));
        let (from, to) = (Bound::Included(&b"a"[..]), Bound::Excluded(outer));
        let scanned = view.scan(from, to, Order::Forward, &mut |_, _| {
            every += 1;
            ControlFlow::Continue(())
        });
        assert!(scanned.is_ok());
        seen.push((few, every));
    })?;
    assert!(all);
    assert_eq!(seen, [(2, 0), (2, 1), (2, 2)]);
    Ok(())
}

fn view_does_not_see_later_writes(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1"), ("b", "1"), ("c", "1")]), Durability::Buffered)?;
    let view = engine.view()?;
    let mut later = batch(&[("a", "2"), ("d", "2")]);
    later.delete("b");
    later.delete_range("c", "d");
    engine.write(later, Durability::Buffered)?;
    let newer = engine.view()?;
    engine.flush()?;
    engine.compact()?;
    assert_eq!(rows_of(view.as_ref())?, pairs(&[("a", "1"), ("b", "1"), ("c", "1")]));
    assert_eq!(view.get(b"d")?, None);
    assert_eq!(rows_of(newer.as_ref())?, pairs(&[("a", "2"), ("d", "2")]));
    Ok(())
}

fn view_outlives_the_handle(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1")]), Durability::Buffered)?;
    let view = engine.view()?;
    drop(engine);
    assert_eq!(rows_of(view.as_ref())?, pairs(&[("a", "1")]));
    Ok(())
}

fn readers_see_whole_batches(place: &Place) -> Result<(), Fault> {
    const BATCHES: u32 = 500;
    let engine = place.tablet("t")?;
    thread::scope(|threads| {
        let writer = threads.spawn(|| {
            for number in 1..=BATCHES {
                let mut batch = Batch::new();
                for key in ["a", "m", "z"] {
                    batch.put(key, Bytes::copy_from_slice(&number.to_be_bytes()));
                }
                engine.write(batch, Durability::Buffered)?;
                if number % 100 == 0 {
                    engine.flush()?;
                }
            }
            Ok::<(), Fault>(())
        });
        let mut newest = None;
        while newest.as_deref() != Some(&BATCHES.to_be_bytes()[..]) {
            let rows = rows_now(engine.as_ref())?;
            assert!(rows.is_empty() || rows.len() == 3, "{rows:?}");
            assert!(rows.windows(2).all(|pair| pair[0].1 == pair[1].1), "{rows:?}");
            let value = rows.first().map(|(_, value)| value.clone());
            assert!(value >= newest, "time went back");
            newest = value;
            if writer.is_finished() && newest.is_none() {
                break;
            }
        }
        writer.join().unwrap_or_else(|_| Err(Fault::new("the writer panicked")))
    })
}

fn flushed_rows_survive_reopening(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    let mut changes = batch(&[("a", "1"), ("b", "1"), ("c", "1")]);
    changes.delete("b");
    engine.write(changes, Durability::Buffered)?;
    engine.flush()?;
    drop(engine);
    let engine = place.tablet("t")?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("a", "1"), ("c", "1")]));
    Ok(())
}

fn synced_batches_survive_reopening(place: &Place) -> Result<(), Fault> {
    let log = place.log("l")?;
    log.write(batch(&[("1", "buffered")]), Durability::Buffered)?;
    log.write(batch(&[("2", "synced")]), Durability::Synced)?;
    let mut truncation = batch(&[("3", "synced")]);
    truncation.delete_range("1", "2");
    log.write(truncation, Durability::Synced)?;
    log.write(batch(&[("4", "flushed")]), Durability::Buffered)?;
    log.flush()?;
    drop(log);
    let log = place.log("l")?;
    let expected = pairs(&[("2", "synced"), ("3", "synced"), ("4", "flushed")]);
    assert_eq!(rows_now(log.as_ref())?, expected);
    Ok(())
}

fn synced_write_to_a_tablet_is_refused(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    assert!(engine.write(batch(&[("a", "1")]), Durability::Synced).is_err());
    assert_eq!(engine.get(b"a")?, None);
    Ok(())
}

/// Its handle ends earlier: what was not flushed is still written then.
fn claim_ends_when_files_are_closed(place: &Place) -> Result<(), Fault> {
    let value = Bytes::from(vec![7; 1 << 20]);
    for round in 0..3 {
        let engine = place.tablet("t")?;
        let claim = engine.claim();
        for at in 0..4 {
            let mut batch = Batch::default();
            batch.put(Bytes::from(format!("{round}-{at}")), value.clone());
            engine.write(batch, Durability::Buffered)?;
        }
        assert!(claim.upgrade().is_some());
        let closing = std::thread::spawn(move || drop(engine));
        while claim.strong_count() > 0 {
            std::thread::yield_now();
        }
        drop(place.tablet("t")?);
        assert!(closing.join().is_ok());
    }
    Ok(())
}

fn opening_twice_is_refused(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    match place.tablet("t") {
        Ok(_) => panic!("the second opening succeeded"),
        Err(fault) => assert!(fault.to_string().contains("in use"), "{fault:?}"),
    }
    engine.write(batch(&[("a", "1")]), Durability::Buffered)?;
    drop(engine);
    place.tablet("t").map(drop)
}

fn flush_leaves_nothing_unflushed(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    assert_eq!(engine.usage().unflushed_bytes, 0);
    engine.write(batch(&[("a", "1"), ("b", "2")]), Durability::Buffered)?;
    assert!(engine.usage().unflushed_bytes > 0);
    engine.flush()?;
    let usage = engine.usage();
    assert_eq!(usage.unflushed_bytes, 0);
    assert!(usage.disk_bytes > 0);
    assert_eq!(usage.keys_estimate, 2);
    Ok(())
}

fn checkpoint_is_independent(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "flushed")]), Durability::Buffered)?;
    engine.flush()?;
    engine.write(batch(&[("b", "in memory")]), Durability::Buffered)?;
    engine.checkpoint(&place.path("c"))?;
    engine.write(batch(&[("a", "later"), ("c", "later")]), Durability::Buffered)?;
    engine.compact()?;
    let copy = place.tablet("c")?;
    let then = pairs(&[("a", "flushed"), ("b", "in memory")]);
    assert_eq!(rows_now(copy.as_ref())?, then);
    copy.write(batch(&[("only here", "x")]), Durability::Buffered)?;
    let now = pairs(&[("a", "later"), ("b", "in memory"), ("c", "later")]);
    assert_eq!(rows_now(engine.as_ref())?, now);
    drop(engine);
    place.disk.remove(&place.path("t"))?;
    copy.compact()?;
    let copied = pairs(&[("a", "flushed"), ("b", "in memory"), ("only here", "x")]);
    assert_eq!(rows_now(copy.as_ref())?, copied);
    Ok(())
}

fn checkpoint_over_something_is_refused(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1")]), Durability::Buffered)?;
    engine.checkpoint(&place.path("c"))?;
    assert!(engine.checkpoint(&place.path("c")).is_err());
    assert!(engine.checkpoint(&place.path("absent/c")).is_err());
    Ok(())
}

fn checkpoint_can_be_streamed(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    engine.write(batch(&[("a", "1"), ("b", "2")]), Durability::Buffered)?;
    engine.checkpoint(&place.path("c"))?;
    let disk = place.disk.as_ref();
    stream((disk, &place.path("c")), (disk, &place.path("received")))?;
    let received = place.tablet("received")?;
    assert_eq!(rows_now(received.as_ref())?, pairs(&[("a", "1"), ("b", "2")]));
    Ok(())
}

fn large_batch_is_written(place: &Place) -> Result<(), Fault> {
    let engine = place.tablet("t")?;
    let mut large = Batch::new();
    for number in 0..4096_u32 {
        large.put(Bytes::copy_from_slice(&number.to_be_bytes()), vec![number as u8; 1024]);
    }
    let keys = large.changes().len();
    engine.write(large, Durability::Buffered)?;
    engine.flush()?;
    let rows = rows_now(engine.as_ref())?;
    assert_eq!(rows.len(), keys);
    assert!(rows.iter().all(|(key, value)| value.len() == 1024 && value[0] == key[3]));
    Ok(())
}
