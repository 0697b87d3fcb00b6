//! A progress bar on standard error; lines instead where that is no terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use crate::table::whole;

/// Between two pictures on a terminal, and between two lines elsewhere.
const STEPS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
const WIDTH: usize = 30;

/// How far something is.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    total: u64,
    /// What was done before this began.
    before: u64,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
    ended: bool,
}

impl Progress {
    /// At the beginning, `before` of `total` being done already.
    pub fn new(what: &'static str, before: u64, total: u64) -> Self {
        let terminal = io::stderr().is_terminal();
        Self { what, total, before, started: Instant::now(), shown: None, terminal, ended: false }
    }

    /// Shows that `done` are done, if it is time to; the end once.
    pub fn show(&mut self, done: u64) {
        if self.ended {
            return;
        }
        self.ended = done >= self.total;
        let step = if self.terminal { STEPS.0 } else { STEPS.1 };
        if done < self.total && self.shown.is_some_and(|shown| shown.elapsed() < step) {
            return;
        }
        self.shown = Some(Instant::now());
        let line = line(self.what, self.before, done, self.total, self.started.elapsed());
        let end = if self.terminal && done < self.total { "\x1b[K\r" } else { "\n" };
        let mut err = io::stderr().lock();
        let _closed = write!(err, "    {line}{end}").and_then(|()| err.flush());
    }
}

fn line(what: &str, before: u64, done: u64, total: u64, elapsed: Duration) -> String {
    let share = if total == 0 { 1.0 } else { done as f64 / total as f64 };
    let full = (share * WIDTH as f64) as usize;
    let rate = done.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(1e-9);
    let left = if rate > 0.0 { total.saturating_sub(done) as f64 / rate } else { 0.0 };
    format!(
        "[{}{}] {:>3.0} %  {} of {} {what}, {}/s, {}:{:02} left",
        "█".repeat(full),
        "·".repeat(WIDTH.saturating_sub(full)),
        share * 100.0,
        whole(done as f64),
        whole(total as f64),
        whole(rate),
        left as u64 / 60,
        left as u64 % 60,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_tells_share_rate_and_what_is_left() {
        let text = line("identities", 1000, 2500, 10_000, Duration::from_secs(10));
        assert_eq!(
            text,
            format!(
                "[{}{}]  25 %  2,500 of 10,000 identities, 150/s, 0:50 left",
                "█".repeat(7),
                "·".repeat(23)
            )
        );
        assert!(line("identities", 0, 0, 0, Duration::ZERO).contains("100 %"));
    }
}
