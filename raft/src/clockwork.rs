//! The clockwork of openraft's groups: tokio's, but for when groups tick.
//!
//! Each group has a tick of its own, several times a heartbeat, at a phase that openraft
//! draws. A node of hundreds of groups would be woken thousands of times a second, each
//! time for one of them, and send each group's heartbeats in a message of its own. So
//! here the groups of a process tick together, on a grid as coarse as their ticks: a
//! group ticks as often as before, at most a step later, and heartbeats that are due at
//! the same tick share a message to each node.
//!
//! The grids of two processes have nothing to do with each other. On a simulated machine
//! (see [`blocking`]) there is none: a world must not depend on the one
//! before it in the same process.

use std::{
    future::Future,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::{AsyncRuntime, Instant as _, OptionalSend, TokioInstant, TokioRuntime};

use crate::blocking;

/// What openraft waits for less than this for is no tick.
const NO_TICK: Duration = Duration::from_micros(10);

/// The step of the grid in microseconds: the finest that a host of this process asked
/// for.
static STEP_US: AtomicU64 = AtomicU64::new(u64::MAX);
static ORIGIN: OnceLock<TokioInstant> = OnceLock::new();

/// From now on the groups of this process tick together, if they do so every `step` or
/// less often.
pub(crate) fn tick_together(step: Duration) {
    let step_us = u64::try_from(step.as_micros()).unwrap_or(u64::MAX);
    STEP_US.fetch_min(step_us.max(1), Ordering::Relaxed);
    ORIGIN.get_or_init(TokioInstant::now);
}

/// When whoever is to be woken at `deadline` is woken.
fn shared(deadline: TokioInstant) -> TokioInstant {
    let step_us = STEP_US.load(Ordering::Relaxed);
    let Some(origin) = ORIGIN.get().filter(|_| step_us < u64::MAX && blocking::pace().is_none())
    else {
        return deadline;
    };
    on_grid(deadline, TokioInstant::now(), *origin, Duration::from_micros(step_us))
}

/// The point of a grid at which to wake who is to be woken at `deadline`: the last one
/// before, if that is in half a step or later, for a tick must not be missed by a hair;
/// else the first one behind.
fn on_grid(
    deadline: TokioInstant,
    now: TokioInstant,
    origin: TokioInstant,
    step: Duration,
) -> TokioInstant {
    if deadline < origin || deadline < now + NO_TICK {
        return deadline;
    }
    let beyond = (deadline - origin).as_micros() % step.as_micros().max(1);
    let beyond = Duration::from_micros(u64::try_from(beyond).unwrap_or(0));
    let before = deadline - beyond;
    if beyond.is_zero() || before > now + step / 2 { before } else { before + step }
}

/// [`TokioRuntime`] with the grid.
#[derive(Debug)]
pub struct Clockwork(TokioRuntime);

impl AsyncRuntime for Clockwork {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = TokioInstant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(shared(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(36);

    /// Ticks as openraft does: at the first multiple of its period from its phase that
    /// lies behind now; each is served `late` after it is due.
    fn ticks(phase_us: u64, late_us: u64) -> Vec<Duration> {
        let origin = TokioInstant::now();
        let first = origin + Duration::from_micros(phase_us);
        let mut now = origin;
        let mut at = first;
        let mut told = Vec::new();
        for _ in 0..50 {
            now = on_grid(at, now, origin, STEP).max(now) + Duration::from_micros(late_us);
            told.push(now - origin);
            let periods = match now < first {
                true => 0,
                false => (now - first).as_micros() / STEP.as_micros() + 1,
            };
            at = first + STEP * u32::try_from(periods).unwrap();
        }
        told
    }

    #[test]
    fn groups_of_all_phases_tick_together_and_once_a_step() {
        for late_us in [0, 300, 1_700] {
            for phase_us in (36_100..72_000).step_by(331) {
                let told = ticks(phase_us, late_us);
                for (one, next) in told.iter().zip(&told[1..]) {
                    assert_eq!(*next - *one, STEP, "phase {phase_us}, late {late_us}");
                }
                let on_grid = told[0].as_micros() - u128::from(late_us);
                assert_eq!(on_grid % STEP.as_micros(), 0, "phase {phase_us}, late {late_us}");
            }
        }
    }

    #[test]
    fn who_is_woken_late_ticks_within_two_steps() {
        let origin = TokioInstant::now();
        for late_ms in [5, 17, 19, 35, 50] {
            for ahead_ms in 1..=36 {
                let now = origin + Duration::from_millis(360 + late_ms);
                let at = now + Duration::from_millis(ahead_ms);
                let woken = on_grid(at, now, origin, STEP);
                assert!(woken > now && woken - now < 2 * STEP, "{late_ms} {ahead_ms}");
            }
        }
    }

    #[test]
    fn what_is_no_tick_is_not_put_off() {
        let origin = TokioInstant::now();
        let now = origin + Duration::from_millis(5);
        for at in [now, now + Duration::from_micros(1), origin] {
            assert_eq!(on_grid(at, now, origin, STEP), at);
        }
        let before = now - Duration::from_millis(6);
        assert_eq!(on_grid(before, now, origin, STEP), before);
    }
}
