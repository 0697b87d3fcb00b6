//! Rounds: many callers, one question.
//!
//! Whoever comes while a round is under way joins the next one, so the answer
//! he gets was asked for after he came. Under load a round gathers for a
//! moment before it starts: it yields to other tasks as long as that brings
//! new callers, up to a bound. Where an answer takes long, the next round does
//! not wait for it: over regions nobody waits for a trip that is not his.

use std::{future::Future, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, interval},
};

/// How long a round keeps the next one waiting.
const HOLD: Duration = Duration::from_millis(5);
/// Rounds under way at once.
const UNDER_WAY_MAX: usize = 64;

/// One question, asked in rounds.
pub(crate) struct Rounds<T> {
    state: Mutex<State<T>>,
    linger_max: Duration,
}

struct State<T> {
    waiting: Vec<oneshot::Sender<T>>,
    running: bool,
}

impl<T: Clone + Send + 'static> Rounds<T> {
    pub(crate) fn new(linger_max: Duration) -> Self {
        Self { state: Mutex::new(State { waiting: Vec::new(), running: false }), linger_max }
    }

    /// Joins the next round; `ask` is called anew for each round, on `runtime`.
    /// `None` if the runtime is gone.
    pub(crate) async fn join<A, F>(self: &Arc<Self>, runtime: &Handle, ask: A) -> Option<T>
    where
        A: Fn() -> F + Send + 'static,
        F: Future<Output = T> + Send,
    {
        let (sender, answer) = oneshot::channel();
        let starts = {
            let mut state = self.state.lock();
            state.waiting.push(sender);
            !std::mem::replace(&mut state.running, true)
        };
        if starts {
            // On a task of its own, so that the rounds outlive this caller.
            let rounds = self.clone();
            drop(runtime.spawn(async move { rounds.run(ask).await }));
        }
        answer.await.ok()
    }

    async fn run<A, F>(&self, ask: A)
    where
        A: Fn() -> F,
        F: Future<Output = T>,
    {
        let mut loaded = false;
        let mut under_way = FuturesUnordered::new();
        let mut hold = interval(HOLD);
        loop {
            if loaded {
                self.gather().await;
            }
            let callers = {
                let mut state = self.state.lock();
                if state.waiting.is_empty() && under_way.is_empty() {
                    state.running = false;
                    return;
                }
                std::mem::take(&mut state.waiting)
            };
            if !callers.is_empty() {
                loaded = callers.len() > 1;
                hold.reset();
                let asked = ask();
                under_way.push(async move {
                    let answer = asked.await;
                    for caller in callers {
                        // A caller that went away needs no answer.
                        drop(caller.send(answer.clone()));
                    }
                });
            }
            tokio::select! {
                biased;
                Some(()) = under_way.next() => {}
                _ = hold.tick(), if under_way.len() < UNDER_WAY_MAX => {}
            }
        }
    }

    async fn gather(&self) {
        let started = Instant::now();
        let mut before = self.state.lock().waiting.len();
        while started.elapsed() < self.linger_max {
            tokio::task::yield_now().await;
            let now = self.state.lock().waiting.len();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn callers_during_a_round_share_the_next_one() {
        let rounds = Arc::new(Rounds::new(Duration::from_micros(500)));
        let asked = Arc::new(AtomicUsize::new(0));
        let allowed = Arc::new(Semaphore::new(0));
        let call = || {
            let (rounds, asked, allowed) = (rounds.clone(), asked.clone(), allowed.clone());
            tokio::spawn(async move {
                let ask = move || {
                    let (asked, allowed) = (asked.clone(), allowed.clone());
                    async move {
                        let round = asked.fetch_add(1, Ordering::SeqCst);
                        allowed.acquire().await.unwrap().forget();
                        round
                    }
                };
                rounds.join(&Handle::current(), ask).await
            })
        };
        let first = call();
        while asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        let later: Vec<_> = (0..5).map(|_| call()).collect();
        while rounds.state.lock().waiting.len() < 5 {
            tokio::task::yield_now().await;
        }
        allowed.add_permits(2);
        assert_eq!(first.await.unwrap(), Some(0));
        for caller in later {
            assert_eq!(caller.await.unwrap(), Some(1));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    /// One round at a time: over regions of 60 ms a reader waited for 90 on average, for
    /// 120 at worst.
    #[tokio::test(start_paused = true)]
    async fn a_round_that_takes_long_keeps_nobody_waiting() {
        let rounds = Arc::new(Rounds::new(Duration::from_micros(500)));
        let asked = Arc::new(AtomicUsize::new(0));
        let mut callers = Vec::new();
        for _ in 0..300 {
            let (rounds, asked) = (rounds.clone(), asked.clone());
            callers.push(tokio::spawn(async move {
                let came = Instant::now();
                let ask = move || {
                    asked.fetch_add(1, Ordering::SeqCst);
                    async {
                        let at = Instant::now();
                        // On a paused clock: a trip between regions.
                        tokio::time::sleep(Duration::from_millis(60)).await;
                        at
                    }
                };
                let at = rounds.join(&Handle::current(), ask).await.unwrap();
                (came, at, Instant::now())
            }));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for caller in callers {
            let (came, at, told) = caller.await.unwrap();
            assert!(at >= came, "asked before he came");
            let took = told - came;
            assert!(took <= Duration::from_millis(60) + HOLD, "{took:?}");
        }
        let asked = asked.load(Ordering::SeqCst);
        assert!((50..=120).contains(&asked), "{asked} rounds in 300 ms");
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_that_nobody_answers_do_not_grow_without_end() {
        let rounds = Arc::new(Rounds::new(Duration::ZERO));
        let asked = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 * UNDER_WAY_MAX {
            let (rounds, counted) = (rounds.clone(), asked.clone());
            let ask = move || {
                counted.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>()
            };
            tokio::spawn(async move { rounds.join(&Handle::current(), ask).await });
            tokio::time::sleep(2 * HOLD).await;
        }
        assert_eq!(asked.load(Ordering::SeqCst), UNDER_WAY_MAX);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_does_not_stop_the_round() {
        let rounds = Arc::new(Rounds::new(Duration::ZERO));
        // The asking itself takes a while.
        let ask = || async { tokio::time::sleep(Duration::from_millis(5)).await };
        let runtime = Handle::current();
        let gone = rounds.join(&runtime, ask);
        assert!(tokio::time::timeout(Duration::from_millis(1), gone).await.is_err());
        assert_eq!(rounds.join(&runtime, ask).await, Some(()));
    }
}
