//! Work in parts: how far it is, on standard error, and parts that are sent again.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use super::exit::Failure;

/// How often a part is sent again that no node could take now: for a minute and a half.
const ATTEMPTS_MAX: u32 = 30;
/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_millis(200);

/// Calls until it succeeds, fails for good, or has been unavailable for long.
pub(super) async fn again<T>(call: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
    let mut attempt = 0;
    loop {
        match call().await {
            Err(Failure::Unavailable(_)) if attempt < ATTEMPTS_MAX => {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(100 << attempt.min(5))).await;
            }
            answered => return answered,
        }
    }
}

/// Progress on standard error, if that is a terminal.
pub(super) struct Bar {
    what: &'static str,
    total: Option<u64>,
    shown: Option<Instant>,
    visible: bool,
}

impl Bar {
    /// Of so much in all, if that is known; what it is that is counted beside it.
    pub(super) fn new(what: &'static str, total: Option<u64>) -> Self {
        Self { what, total, shown: None, visible: std::io::stderr().is_terminal() }
    }

    pub(super) fn hide(&mut self) {
        self.visible = false;
    }

    /// So much of all is done, with so many of what is counted.
    pub(super) fn show(&mut self, done: u64, count: u64, elapsed: Duration) {
        if !self.visible || self.shown.is_some_and(|at| at.elapsed() < SHOWN_EVERY) {
            return;
        }
        self.shown = Some(Instant::now());
        let text = told(self.what, self.total, done, count, elapsed);
        std::io::stderr().write_all(format!("\r\x1b[K{text}").as_bytes()).ok();
    }

    pub(super) fn clear(&mut self) {
        if self.visible && self.shown.is_some() {
            std::io::stderr().write_all(b"\r\x1b[K").ok();
        }
    }
}

/// A line of progress.
fn told(what: &str, total: Option<u64>, done: u64, count: u64, elapsed: Duration) -> String {
    const WIDTH: usize = 30;
    let rate = count as f64 / elapsed.as_secs_f64().max(0.001);
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("{count} {what}, {rate:.0}/s");
    };
    let share = (done as f64 / total as f64).min(1.0);
    let full = (share * WIDTH as f64) as usize;
    let bar = format!("{}{}", "█".repeat(full), "░".repeat(WIDTH - full));
    let left = elapsed.as_secs_f64() * (1.0 - share) / share.max(0.001);
    format!("{bar} {:3.0} %  {count} {what}, {rate:.0}/s, {left:.0} s left", share * 100.0)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn progress_is_told() {
        let told = told("tuples", Some(200), 50, 1_000, Duration::from_secs(2));
        assert_eq!(
            told,
            format!("{}{}  25 %  1000 tuples, 500/s, 6 s left", "█".repeat(7), "░".repeat(23))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_unavailable_is_called_again_and_nothing_else_is() {
        let calls = Cell::new(0);
        let unavailable = || Failure::Unavailable("nobody leads".to_owned());
        let third = again(async || {
            calls.set(calls.get() + 1);
            if calls.get() < 3 { Err(unavailable()) } else { Ok(calls.get()) }
        });
        assert_eq!(third.await.unwrap(), 3);
        let refused = again(async || -> Result<(), _> {
            calls.set(calls.get() + 1);
            Err(Failure::Usage("no".to_owned()))
        });
        assert!(matches!(refused.await, Err(Failure::Usage(_))));
        assert_eq!(calls.get(), 4);
        let began = tokio::time::Instant::now();
        let never = again(async || -> Result<(), _> { Err(unavailable()) });
        assert!(matches!(never.await, Err(Failure::Unavailable(_))));
        assert!(began.elapsed() > Duration::from_secs(80) && began.elapsed().as_secs() < 100);
    }
}
