//! Time and chance as parameters. `node` alone holds the real ones; layers,
//! tests and the simulation receive them.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// A point in time: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This moment and `duration` later; saturates at the end of time.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// This moment and `duration` earlier; saturates at the epoch.
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this moment; zero if it is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms", self.0)
    }
}

/// What time it is.
pub trait Clock: Send + Sync + 'static {
    /// Wall time. May jump, backward too.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
}

/// A source of random bytes fit for keys.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `buffer` with random bytes.
    fn fill(&self, buffer: &mut [u8]);
}

impl dyn Entropy {
    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// A random number below `bound`, without measurable bias for bounds below
    /// 2^32; 0 if `bound` is 0.
    pub fn below(&self, bound: u64) -> u64 {
        let drawn = u128::from(u64::from_be_bytes(self.bytes()));
        u64::try_from((drawn * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// A random version 4 UUID.
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }
}

/// A clock that stands still until it is advanced; for tests.
#[derive(Debug)]
pub struct ManualClock {
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl ManualClock {
    /// Starts at `now`, with a monotonic time of zero.
    pub fn new(now: Timestamp) -> Self {
        Self { wall_ms: AtomicU64::new(now.0), monotonic_ms: AtomicU64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets wall time alone, as a wrong or corrected clock does.
    pub fn jump(&self, to: Timestamp) {
        self.wall_ms.store(to.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.wall_ms.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst))
    }
}

/// Repeatable bytes from a seed; for tests and the simulation, never for keys.
pub struct SeededEntropy {
    stream: parking_lot::Mutex<blake3::OutputReader>,
}

impl SeededEntropy {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        let reader = blake3::Hasher::new_derive_key("cardea seeded entropy")
            .update(&seed.to_be_bytes())
            .finalize_xof();
        Self { stream: parking_lot::Mutex::new(reader) }
    }
}

impl fmt::Debug for SeededEntropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeededEntropy")
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        self.stream.lock().fill(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_stays_below_its_bound() {
        let entropy: &dyn Entropy = &SeededEntropy::new(1);
        for bound in [1, 2, 3, 1000, u64::MAX] {
            for _ in 0..100 {
                assert!(entropy.below(bound) < bound);
            }
        }
        assert_eq!(entropy.below(0), 0);
    }

    #[test]
    fn same_seed_gives_the_same_bytes() {
        let (a, b): (Box<dyn Entropy>, Box<dyn Entropy>) =
            (Box::new(SeededEntropy::new(7)), Box::new(SeededEntropy::new(7)));
        assert_eq!(a.bytes::<64>(), b.bytes::<64>());
        assert_ne!(a.bytes::<16>(), [0; 16]);
    }
}
