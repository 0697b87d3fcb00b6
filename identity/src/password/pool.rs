//! The threads on which passwords are hashed. They run at lower priority than
//! consensus; how many hashes are made at once is bounded by memory, how many
//! wait by permits, and who gets no permit is refused at once, before anything
//! else was done for them.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use argon2::Block;
use parking_lot::{Condvar, Mutex};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How long an idle thread keeps its memory.
const IDLE_MS: u64 = 2_000;

/// How large a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Memory for hashes under way, in bytes. One that needs more runs alone.
    pub memory_bytes_max: usize,
    /// Most threads.
    pub threads_max: usize,
    /// Most hashes that wait; more are refused.
    pub queue_max: usize,
    /// What is added to the niceness of the threads (0 to 19).
    pub niceness: i32,
}

impl Default for PoolOptions {
    /// 128 MiB, a thread for each core, 256 waiting, niceness 10.
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self { memory_bytes_max: 128 << 20, threads_max: cores, queue_max: 256, niceness: 10 }
    }
}

/// Too many hashes wait already; nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many passwords are waiting to be hashed")]
pub struct Overloaded {
    /// When it makes sense to come back.
    pub retry_after: Duration,
}

/// What a pool has done and is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Hashes waiting.
    pub waiting: usize,
    /// Hashes under way.
    pub running: usize,
    /// Memory of those under way, in bytes.
    pub memory_bytes: usize,
    /// Hashes done since the start.
    pub done_total: u64,
    /// Hashes refused since the start.
    pub refused_total: u64,
    /// Hashes dropped since the start because nobody waited for them any more.
    pub abandoned_total: u64,
    /// Time spent hashing since the start, in microseconds.
    pub busy_us_total: u64,
}

/// The right to have passwords hashed, one at a time. Held by who asks, and by
/// work under way even if nobody waits for it any more.
#[derive(Debug, Clone)]
pub struct Permit {
    _held: Arc<OwnedSemaphorePermit>,
}

type Work = Box<dyn FnOnce(&mut Vec<Block>) + Send>;

struct Job {
    memory_bytes: usize,
    abandoned: Box<dyn Fn() -> bool + Send>,
    work: Work,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    memory_bytes: usize,
    running: usize,
    closed: bool,
}

struct Shared {
    options: PoolOptions,
    state: Mutex<State>,
    changed: Condvar,
    threads: AtomicUsize,
    done: AtomicU64,
    refused: AtomicU64,
    abandoned: AtomicU64,
    busy_us: AtomicU64,
}

/// A pool of hashing threads; they end when it is dropped.
pub struct Pool {
    shared: Arc<Shared>,
    permits: Arc<Semaphore>,
}

impl Pool {
    /// Starts the threads: as many as fit into the memory at `memory_bytes_each`,
    /// at least one, at most `threads_max`.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(options: PoolOptions, memory_bytes_each: usize) -> io::Result<Self> {
        let fitting = options.memory_bytes_max / memory_bytes_each.max(1);
        let threads = fitting.clamp(1, options.threads_max.max(1));
        let shared = Arc::new(Shared {
            options,
            state: Mutex::default(),
            changed: Condvar::new(),
            threads: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            abandoned: AtomicU64::new(0),
            busy_us: AtomicU64::new(0),
        });
        let permits = Arc::new(Semaphore::new(threads + options.queue_max));
        let pool = Self { shared, permits };
        for number in 0..threads {
            let shared = pool.shared.clone();
            thread::Builder::new()
                .name(format!("password-{number}"))
                .spawn(move || shared.run())?;
            pool.shared.threads.fetch_add(1, Ordering::Relaxed);
        }
        Ok(pool)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.shared.threads.load(Ordering::Relaxed)
    }

    /// Admits somebody, if not too many were admitted already.
    ///
    /// # Errors
    /// [`Overloaded`], at once.
    pub fn admit(&self) -> Result<Permit, Overloaded> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Ok(Permit { _held: Arc::new(permit) }),
            Err(_) => {
                self.shared.refused.fetch_add(1, Ordering::Relaxed);
                Err(Overloaded { retry_after: Duration::from_secs(1) })
            }
        }
    }

    /// Runs `work`, which takes about `memory_bytes`, on a thread of the pool. It
    /// is not begun if nobody waits for it any more.
    ///
    /// # Errors
    /// [`Overloaded`] if the pool is being closed.
    pub async fn run<T: Send + 'static>(
        &self,
        permit: &Permit,
        memory_bytes: usize,
        work: impl FnOnce(&mut Vec<Block>) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let overloaded = Overloaded { retry_after: Duration::from_secs(1) };
        let (sender, receiver) = oneshot::channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let abandoned = {
            let sender = sender.clone();
            Box::new(move || sender.lock().as_ref().is_none_or(oneshot::Sender::is_closed))
        };
        let (shared, held) = (self.shared.clone(), permit.clone());
        let work: Work = Box::new(move |scratch| {
            let started = std::time::Instant::now();
            let value = work(scratch);
            let us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            shared.busy_us.fetch_add(us, Ordering::Relaxed);
            shared.done.fetch_add(1, Ordering::Relaxed);
            // Before the answer: who has it may come again at once.
            drop(held);
            if let Some(sender) = sender.lock().take() {
                let _nobody_waits = sender.send(value);
            }
        });
        {
            let mut state = self.shared.state.lock();
            state.queue.push_back(Job { memory_bytes, abandoned, work });
        }
        self.shared.changed.notify_one();
        receiver.await.map_err(|_| overloaded)
    }

    /// What the pool has done and is doing.
    pub fn usage(&self) -> PoolUsage {
        let state = self.shared.state.lock();
        PoolUsage {
            waiting: state.queue.len(),
            running: state.running,
            memory_bytes: state.memory_bytes,
            done_total: self.shared.done.load(Ordering::Relaxed),
            refused_total: self.shared.refused.load(Ordering::Relaxed),
            abandoned_total: self.shared.abandoned.load(Ordering::Relaxed),
            busy_us_total: self.shared.busy_us.load(Ordering::Relaxed),
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("usage", &self.usage()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn run(&self) {
        if self.options.niceness > 0 {
            // On Linux this acts on the calling thread alone.
            let thread = rustix::thread::gettid();
            let lowered = rustix::process::setpriority_process(Some(thread), self.options.niceness);
            if let Err(error) = lowered {
                tracing::warn!(%error, "hashing threads keep their priority");
            }
        }
        let mut scratch = Vec::new();
        while let Some(job) = self.next(&mut scratch) {
            let memory_bytes = job.memory_bytes;
            if (job.abandoned)() {
                self.abandoned.fetch_add(1, Ordering::Relaxed);
            } else {
                (job.work)(&mut scratch);
            }
            let mut state = self.state.lock();
            state.running -= 1;
            state.memory_bytes -= memory_bytes;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// The next job that fits into the memory; `None` once the pool is closed.
    /// Frees the scratch memory after a while without work.
    fn next(&self, scratch: &mut Vec<Block>) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(front) = state.queue.front() {
                let memory_bytes = front.memory_bytes;
                let after = state.memory_bytes.saturating_add(memory_bytes);
                if (state.running == 0 || after <= self.options.memory_bytes_max)
                    && let Some(job) = state.queue.pop_front()
                {
                    state.running += 1;
                    state.memory_bytes += memory_bytes;
                    return Some(job);
                }
            }
            if scratch.is_empty() {
                self.changed.wait(&mut state);
            } else {
                let waited = self.changed.wait_for(&mut state, Duration::from_millis(IDLE_MS));
                if waited.timed_out() {
                    *scratch = Vec::new();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn options() -> PoolOptions {
        PoolOptions { memory_bytes_max: 100, threads_max: 2, queue_max: 1, niceness: 10 }
    }

    async fn run(
        pool: &Pool,
        memory_bytes: usize,
        work: impl FnOnce() -> u32 + Send + 'static,
    ) -> Result<u32, Overloaded> {
        let permit = pool.admit()?;
        pool.run(&permit, memory_bytes, move |_| work()).await
    }

    /// A job that has begun and waits until it is let go.
    async fn begun(
        pool: &Arc<Pool>,
        memory_bytes: usize,
    ) -> (mpsc::Sender<()>, tokio::task::JoinHandle<Result<(), Overloaded>>) {
        let (release, gate) = mpsc::channel::<()>();
        let (begin, began) = oneshot::channel();
        let pool = pool.clone();
        let task = tokio::spawn(async move {
            let permit = pool.admit()?;
            pool.run(&permit, memory_bytes, move |_| {
                let _ = begin.send(());
                let _ = gate.recv();
            })
            .await
        });
        began.await.unwrap();
        (release, task)
    }

    #[tokio::test]
    async fn threads_are_as_many_as_fit_into_the_memory() {
        let table = [(50, 2), (60, 1), (10, 2), (1000, 1)];
        for (each, threads) in table {
            assert_eq!(Pool::start(options(), each).unwrap().threads(), threads, "{each}");
        }
    }

    #[tokio::test]
    async fn who_comes_beyond_the_queue_is_refused_at_once() {
        let pool = Arc::new(Pool::start(options(), 50).unwrap());
        let (release_1, task_1) = begun(&pool, 50).await;
        let (release_2, task_2) = begun(&pool, 50).await;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { run(&pool, 50, || 7).await }
        });
        while pool.usage().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert!(pool.admit().is_err());
        assert_eq!(pool.usage().refused_total, 1);
        drop((release_1, release_2));
        assert_eq!(waiting.await.unwrap(), Ok(7));
        assert_eq!((task_1.await.unwrap(), task_2.await.unwrap()), (Ok(()), Ok(())));
        while pool.usage().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!((pool.usage().memory_bytes, pool.usage().done_total), (0, 3));
    }

    #[tokio::test]
    async fn work_that_needs_more_memory_waits_for_it() {
        let pool = Arc::new(Pool::start(options(), 50).unwrap());
        let (release, task) = begun(&pool, 50).await;
        let large = tokio::spawn({
            let pool = pool.clone();
            async move { run(&pool, 500, || 7).await }
        });
        while pool.usage().waiting == 0 {
            tokio::task::yield_now().await;
        }
        // A thread is free, memory is not.
        assert_eq!(pool.usage().running, 1);
        drop(release);
        assert_eq!(large.await.unwrap(), Ok(7));
        task.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_not_begun() {
        let options = PoolOptions { threads_max: 1, ..options() };
        let pool = Arc::new(Pool::start(options, 50).unwrap());
        let (release, task) = begun(&pool, 50).await;
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { run(&pool, 50, || panic!("nobody waits")).await }
        });
        while pool.usage().waiting == 0 {
            tokio::task::yield_now().await;
        }
        waiting.abort();
        let _ = waiting.await;
        drop(release);
        task.await.unwrap().unwrap();
        while pool.usage().abandoned_total == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(run(&pool, 1, || 9).await, Ok(9));
    }
}
