//! The clocks and the pace of simulated machines. The world moves them; nothing
//! of a machine reads a real clock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_raft::blocking::Pace;
use cardea_storage::{Clock, Timestamp};
use parking_lot::Mutex;

use crate::dice::Dice;

/// What all clocks agree on at the beginning: some day in 2026.
pub const EPOCH_MS: u64 = 1_780_000_000_000;

/// The clock of one machine.
#[derive(Debug, Default)]
pub struct MachineClock {
    /// What the world's time was when the machine came.
    came_ms: u64,
    monotonic_ms: AtomicU64,
    skew_ms: AtomicI64,
}

impl MachineClock {
    /// The clock of a machine that comes now, and whose wall clock is right.
    pub fn new(now_ms: u64) -> Arc<Self> {
        Arc::new(Self { came_ms: now_ms, ..Self::default() })
    }

    /// Moves the machine's time forward.
    pub fn advance(&self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets how far its wall clock is ahead of the world's.
    pub fn set_skew(&self, ms: i64) {
        self.skew_ms.store(ms, Ordering::SeqCst);
    }

    /// How far its wall clock is ahead of the world's.
    pub fn skew_ms(&self) -> i64 {
        self.skew_ms.load(Ordering::SeqCst)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Timestamp {
        let true_ms = EPOCH_MS + self.came_ms + self.monotonic_ms.load(Ordering::SeqCst);
        Timestamp(true_ms.saturating_add_signed(self.skew_ms()))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// How fast a machine's disk and threads are.
#[derive(Debug)]
pub struct MachinePace {
    dice: Mutex<Dice>,
    sync_ms_max: u64,
    slow_by_ms: AtomicU64,
}

impl MachinePace {
    /// Synced writes take up to this long.
    pub fn new(dice: Dice, sync_ms_max: u64) -> Arc<Self> {
        Arc::new(Self { dice: Mutex::new(dice), sync_ms_max, slow_by_ms: AtomicU64::new(0) })
    }

    /// Until told otherwise each synced write takes this much longer.
    pub fn slow_by(&self, ms: u64) {
        self.slow_by_ms.store(ms, Ordering::SeqCst);
    }
}

impl Pace for MachinePace {
    fn sync_time(&self) -> Duration {
        let slow = self.slow_by_ms.load(Ordering::SeqCst);
        self.dice.lock().pause_ms(0, self.sync_ms_max) + Duration::from_millis(slow)
    }

    fn turn_time(&self) -> Duration {
        // Mostly at once, behind what is runnable; now and then a thread is late, and
        // once in a while one waits for the disk or the scheduler, as none should.
        let mut dice = self.dice.lock();
        match dice.below(1_000) {
            0 => dice.pause_ms(20, 600),
            1..100 => dice.pause_ms(1, 4),
            _ => Duration::ZERO,
        }
    }
}
