//! What compactions drop, and what they must keep. A row here expires at the
//! number in its value.

use std::sync::Arc;

use bytes::Bytes;

use super::{Behaviour, Place, pairs, rows_now, rows_of, tablet_options};
use crate::{
    engine::{Batch, Durability, Engine, Retention},
    fault::Fault,
};

pub(super) const BEHAVIOURS: &[Behaviour] = &[
    ("a compaction drops what expired up to the horizon, and no more", drops_up_to_the_horizon),
    ("no row is dropped before the horizon moved", keeps_all_before_the_horizon_moves),
    ("the horizon does not move back", horizon_does_not_move_back),
    ("a dropped row does not reveal an older one", dropped_row_reveals_nothing),
    ("a row rewritten with a later expiry stays", rewritten_row_stays),
    ("an open view keeps what must not be dropped", open_view_keeps_what_lives),
    ("what was dropped is gone after reopening", dropped_stays_dropped),
];

fn expires_at(_key: &[u8], value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn open(place: &Place) -> Result<(Arc<dyn Engine>, Arc<Retention>), Fault> {
    let retention = Retention::new(expires_at);
    let options = tablet_options(Some(Arc::clone(&retention)));
    Ok((place.disk.open(&place.path("t"), options)?, retention))
}

fn write(engine: &dyn Engine, rows: &[(&str, &str)]) -> Result<(), Fault> {
    let mut batch = Batch::new();
    for (key, value) in pairs(rows) {
        batch.put(key, value);
    }
    engine.write(batch, Durability::Buffered)
}

fn drops_up_to_the_horizon(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    write(engine.as_ref(), &[("a", "9"), ("b", "10"), ("c", "11"), ("d", "never"), ("e", "0")])?;
    engine.flush()?;
    retention.advance(10);
    engine.compact()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("c", "11"), ("d", "never")]));
    Ok(())
}

fn keeps_all_before_the_horizon_moves(place: &Place) -> Result<(), Fault> {
    let (engine, _retention) = open(place)?;
    let rows = [("a", "1"), ("b", "18446744073709551615"), ("c", "x")];
    write(engine.as_ref(), &rows)?;
    engine.flush()?;
    engine.compact()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&rows));
    Ok(())
}

fn horizon_does_not_move_back(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    retention.advance(10);
    retention.advance(5);
    assert_eq!(retention.horizon(), 10);
    write(engine.as_ref(), &[("a", "8"), ("b", "12")])?;
    engine.compact()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("b", "12")]));
    Ok(())
}

fn dropped_row_reveals_nothing(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    // The older value never expires, and lies in a file of its own.
    write(engine.as_ref(), &[("a", "never"), ("b", "never")])?;
    engine.compact()?;
    write(engine.as_ref(), &[("a", "10")])?;
    engine.flush()?;
    retention.advance(20);
    engine.compact()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("b", "never")]));
    assert_eq!(engine.get(b"a")?, None);
    Ok(())
}

fn rewritten_row_stays(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    write(engine.as_ref(), &[("a", "10"), ("b", "10")])?;
    engine.flush()?;
    retention.advance(10);
    write(engine.as_ref(), &[("a", "30")])?;
    engine.compact()?;
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("a", "30")]));
    Ok(())
}

fn open_view_keeps_what_lives(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    write(engine.as_ref(), &[("a", "10"), ("b", "20"), ("c", "never")])?;
    engine.flush()?;
    let view = engine.view()?;
    let mut later = Batch::new();
    later.delete("b");
    later.put("c", Bytes::from_static(b"12"));
    engine.write(later, Durability::Buffered)?;
    engine.flush()?;
    retention.advance(15);
    engine.compact()?;
    let mut seen = rows_of(view.as_ref())?;
    // Of "a" the view promises nothing any more.
    seen.retain(|(key, _)| key != "a");
    assert_eq!(seen, pairs(&[("b", "20"), ("c", "never")]));
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[]));
    Ok(())
}

fn dropped_stays_dropped(place: &Place) -> Result<(), Fault> {
    let (engine, retention) = open(place)?;
    write(engine.as_ref(), &[("a", "10"), ("b", "30")])?;
    engine.flush()?;
    retention.advance(10);
    engine.compact()?;
    drop(engine);
    let (engine, retention) = open(place)?;
    assert_eq!(retention.horizon(), 0);
    assert_eq!(rows_now(engine.as_ref())?, pairs(&[("b", "30")]));
    Ok(())
}
