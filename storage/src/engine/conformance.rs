//! What every engine and disk does, as a suite that runs on any of them: one
//! function a behaviour, each in a fresh place. It panics at the first
//! behaviour that is not there, and names it.
//!
//! What only a disk that can crash shows is tested beside
//! [`memory`](super::memory).

mod files;
mod retention;
mod rows;

use std::{
    any::Any,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use super::{Disk, Engine, EngineOptions, Order, Purpose, Retention, View};
use crate::fault::Fault;

/// An empty directory on a disk under test.
pub struct Place {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// The directory, which exists and is empty.
    pub root: PathBuf,
    /// Whatever must live as long as the place does, such as a guard that removes
    /// a temporary directory.
    pub guard: Box<dyn Any>,
}

/// A behaviour: its name as a sentence, and the check.
pub type Behaviour = (&'static str, fn(&Place) -> Result<(), Fault>);

/// Every behaviour.
pub const BEHAVIOURS: &[&[Behaviour]] =
    &[rows::BEHAVIOURS, retention::BEHAVIOURS, files::BEHAVIOURS];

/// Runs every behaviour, each in a place of its own.
///
/// # Panics
///
/// If one does not hold.
pub fn run(make: impl Fn() -> Place) {
    for (name, check) in BEHAVIOURS.iter().copied().flatten() {
        let place = make();
        if let Err(fault) = check(&place) {
            panic!("{name}: {fault:?}");
        }
    }
}

impl Place {
    /// Opens a tablet's engine in the directory `name`.
    fn tablet(&self, name: &str) -> Result<Arc<dyn Engine>, Fault> {
        self.disk.open(&self.root.join(name), tablet_options(None))
    }

    /// Opens a log's engine in the directory `name`.
    fn log(&self, name: &str) -> Result<Arc<dyn Engine>, Fault> {
        let options = EngineOptions { purpose: Purpose::Log, retention: None };
        self.disk.open(&self.root.join(name), options)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }
}

fn tablet_options(retention: Option<Arc<Retention>>) -> EngineOptions {
    EngineOptions { purpose: Purpose::Tablet, retention }
}

/// All pairs of a view, in order.
pub fn rows_of(view: &dyn View) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    use std::ops::{Bound, ControlFlow};
    let mut rows = Vec::new();
    view.scan(Bound::Unbounded, Bound::Unbounded, Order::Forward, &mut |key, value| {
        rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

/// All pairs of an engine now, in order.
pub fn rows_now(engine: &dyn Engine) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    rows_of(engine.view()?.as_ref())
}

/// Copies the files below `from` into the new directory `to` of another disk, as
/// a snapshot is sent and received.
pub fn stream(from: (&dyn Disk, &Path), to: (&dyn Disk, &Path)) -> Result<(), Fault> {
    for name in from.0.files_below(from.1)? {
        let (mut source, length) = from.0.read_stream(&from.1.join(&name))?;
        let mut sink = to.0.write_stream(&to.1.join(&name))?;
        let copied = std::io::copy(&mut source, &mut sink)
            .map_err(|error| Fault::caused(format!("copy {}", name.display()), error))?;
        assert_eq!(copied, length, "{} is as long as was said", name.display());
        sink.finish()?;
    }
    Ok(())
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    expected.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}
