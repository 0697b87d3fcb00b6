//! What clients saw: moments, spans, and what became of each request.

use std::time::{Duration, Instant};

/// Microseconds since the run began, on this process's monotonic clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

impl Moment {
    /// From this moment to a later one; zero if it is not later.
    pub fn until(self, later: Moment) -> Duration {
        Duration::from_micros(later.0.saturating_sub(self.0))
    }

    /// The moment this much later.
    pub fn after(self, duration: Duration) -> Moment {
        Moment(self.0.saturating_add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// The clock of a run.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The moment that it is.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// From just before a request was sent until its answer was read, or given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Before it was sent.
    pub began: Moment,
    /// After the answer.
    pub ended: Moment,
}

/// What became of a write, as far as its sender knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged.
    Done,
    /// It was refused, with the promise that it did not happen.
    NotDone,
    /// Nobody said. It may have happened, and may still happen.
    Unknown,
}

impl Fate {
    /// Whether its effect may ever be seen.
    pub fn is_possible(self) -> bool {
        self != Fate::NotDone
    }
}

/// A write with its span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write {
    /// When.
    pub span: Span,
    /// What became of it.
    pub fate: Fate,
}

impl Write {
    /// Whether it was acknowledged before `moment`.
    pub fn was_done_before(&self, moment: Moment) -> bool {
        self.fate == Fate::Done && self.span.ended < moment
    }

    /// Whether its effect may be seen by something that ended at `moment`.
    pub fn is_visible_by(&self, moment: Moment) -> bool {
        self.fate.is_possible() && self.span.began < moment
    }
}

/// A promise that was broken, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation(pub String);

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = |moment: Moment| Duration::from_micros(moment.0).as_secs_f64();
        write!(f, "{:.4}…{:.4} s", seconds(self.began), seconds(self.ended))
    }
}
