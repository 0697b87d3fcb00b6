//! The watchdog for a hung disk.
//!
//! A disk that neither answers nor fails is worse than a dead one: the node
//! keeps its leaderships and serves nothing. A thread of its own (a hung disk
//! may hang every worker) asks how old the oldest unfinished fsync is. Past a
//! first bound the node hands its leaderships over, past a second the process
//! stops, so that its supervisor and its peers can act.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// What the watchdog asks and does.
pub trait Watched: Send + 'static {
    /// The age of the oldest unfinished fsync; `None`: none is under way.
    fn oldest_fsync(&self) -> Option<Duration>;

    /// The disk has hung for a while: hand leaderships over, take none. Called
    /// once per hang; must not touch the disk and must not block.
    fn hand_over(&self, age: Duration);

    /// The disk answers again after a handover.
    fn recovered(&self);

    /// The disk has hung for too long: stop the process, at once.
    fn stop(&self, age: Duration);
}

/// The two bounds.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Hand over past this age.
    pub handover: Duration,
    /// Stop past this age.
    pub stop: Duration,
}

/// A running watchdog; dropping it ends it.
#[derive(Debug)]
pub struct Watchdog {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts a watchdog that looks every quarter of the first bound, at least
    /// every second.
    pub fn start(bounds: Bounds, watched: impl Watched) -> std::io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let period = (bounds.handover / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
            let mut judge = Judge::new(bounds);
            while !flag.load(Ordering::Relaxed) {
                judge.look(&watched);
                std::thread::park_timeout(period);
            }
        })?;
        Ok(Self { ended, thread: Some(thread) })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panicked watchdog has been reported by the panic itself.
            thread.join().ok();
        }
    }
}

struct Judge {
    bounds: Bounds,
    handed_over: bool,
}

impl Judge {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, handed_over: false }
    }

    fn look(&mut self, watched: &impl Watched) {
        let age = watched.oldest_fsync().unwrap_or_default();
        if age >= self.bounds.stop {
            watched.stop(age);
        } else if age >= self.bounds.handover {
            if !self.handed_over {
                self.handed_over = true;
                watched.hand_over(age);
            }
        } else if self.handed_over {
            self.handed_over = false;
            watched.recovered();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Disk {
        age: Arc<Mutex<Option<Duration>>>,
        seen: Arc<Mutex<Vec<&'static str>>>,
        told: Option<mpsc::Sender<&'static str>>,
    }

    impl Disk {
        fn note(&self, what: &'static str) {
            self.seen.lock().push(what);
            if let Some(told) = &self.told {
                told.send(what).ok();
            }
        }
    }

    impl Watched for Disk {
        fn oldest_fsync(&self) -> Option<Duration> {
            *self.age.lock()
        }
        fn hand_over(&self, _age: Duration) {
            self.note("handed over");
        }
        fn recovered(&self) {
            self.note("recovered");
        }
        fn stop(&self, _age: Duration) {
            self.note("stopped");
        }
    }

    const BOUNDS: Bounds =
        Bounds { handover: Duration::from_secs(2), stop: Duration::from_secs(20) };

    #[test]
    fn a_hang_hands_over_once_and_a_long_one_stops() {
        let disk = Disk::default();
        let mut judge = Judge::new(BOUNDS);
        for seconds in [None, Some(1), Some(2), Some(3), Some(19), Some(20)] {
            *disk.age.lock() = seconds.map(Duration::from_secs);
            judge.look(&disk);
        }
        assert_eq!(*disk.seen.lock(), ["handed over", "stopped"]);
    }

    #[test]
    fn a_disk_that_answers_again_may_lead_and_hang_again() {
        let disk = Disk::default();
        let mut judge = Judge::new(BOUNDS);
        for seconds in [Some(5), None, None, Some(5)] {
            *disk.age.lock() = seconds.map(Duration::from_secs);
            judge.look(&disk);
        }
        assert_eq!(*disk.seen.lock(), ["handed over", "recovered", "handed over"]);
    }

    #[test]
    fn the_thread_looks_by_itself_and_ends_when_dropped() {
        let (told, heard) = mpsc::channel();
        let disk = Disk { told: Some(told), ..Disk::default() };
        *disk.age.lock() = Some(Duration::from_secs(1));
        let bounds = Bounds { handover: Duration::from_millis(20), stop: Duration::from_secs(9) };
        let watchdog = Watchdog::start(bounds, disk).unwrap();
        assert_eq!(heard.recv_timeout(Duration::from_secs(10)), Ok("handed over"));
        drop(watchdog);
        assert_eq!(heard.recv(), Err(mpsc::RecvError));
    }
}
