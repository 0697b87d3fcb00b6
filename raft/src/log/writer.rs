//! The one thread that writes the log of a node.
//!
//! 1. It takes everything that is queued, up to a bound of bytes.
//! 2. It writes it as one batch, in queue order, with one sync if anybody in it
//!    waits for the disk.
//! 3. It completes the jobs in queue order, then takes what has gathered.
//!
//! So the more groups write, the more of them share a sync. Jobs that nobody
//! waits for (purges, truncations, commit positions) ride with the next batch,
//! or go alone after a short while. Once a write has failed everything fails:
//! nobody can know what the disk holds.
//!
//! On a simulated machine (see [`blocking`]) a task does the same in the turns that
//! the machine's pace gives it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use cardea_storage::{
    Fault,
    engine::{Batch, Durability, Engine},
    planted::{self, Bug},
};
use parking_lot::{Condvar, Mutex};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    alarm::Alarm,
    blocking::{self, Pace},
    durations::{DurationCounts, Durations},
};

/// How long a job that nobody waits for may stay in memory.
const RIDE_MS_MAX: u64 = 20;

/// What is called when a job is written, or has failed.
pub(super) type Completion = Box<dyn FnOnce(Result<(), Fault>) + Send>;

/// What a job asks of the disk.
pub(super) enum Urgency {
    /// Nobody waits.
    Rides,
    /// The completion is called once the job, and all before it, are durable.
    Synced(Completion),
}

struct Job {
    batch: Batch,
    urgency: Urgency,
    queued_at: Instant,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Rows of which only the newest counts; they go with the next batch.
    newest: BTreeMap<Bytes, Bytes>,
    /// Synced jobs in `jobs`.
    urgent: usize,
    /// When the first job of the batch being written was queued.
    writing_since: Option<Instant>,
    failed: Option<Fault>,
    closed: bool,
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.newest.is_empty()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    gathered: Condvar,
    /// As `gathered`, for the task of a simulated machine.
    gathered_there: Notify,
    batch_bytes_max: usize,
    alarm: Arc<Alarm>,
    counts: Mutex<WriterCounts>,
    syncs: Durations,
}

impl Shared {
    fn tell(&self) {
        self.gathered.notify_one();
        self.gathered_there.notify_one();
    }
}

/// What the writer has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// Batches written with a sync.
    pub syncs: u64,
    /// Batches written without one.
    pub buffered: u64,
    /// Jobs that waited for a sync.
    pub synced_jobs: u64,
    /// Bytes written.
    pub bytes: u64,
    /// The time all synced writes took, in microseconds.
    pub sync_us_total: u64,
    /// The longest of them, in microseconds.
    pub sync_us_max: u64,
}

/// Hands jobs to the writer thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    hand: Mutex<Option<Hand>>,
}

/// Who writes.
enum Hand {
    Thread(JoinHandle<()>),
    /// On a simulated machine.
    Task(AbortHandle, Arc<dyn Engine>),
}

impl Writer {
    /// Starts the thread. It ends with [`close`](Self::close), or when the
    /// writer is dropped.
    pub(super) fn start(
        engine: Arc<dyn Engine>,
        batch_bytes_max: usize,
        alarm: Arc<Alarm>,
    ) -> Result<Self, Fault> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            gathered: Condvar::new(),
            gathered_there: Notify::new(),
            batch_bytes_max,
            alarm,
            counts: Mutex::new(WriterCounts::default()),
            syncs: Durations::default(),
        });
        let for_thread = shared.clone();
        let hand = match blocking::pace() {
            None => std::thread::Builder::new()
                .name("raft-log".to_owned())
                .spawn(move || run(&for_thread, engine.as_ref()))
                .map(Hand::Thread)
                .map_err(|error| Fault::caused("start the log writer", error))?,
            Some(pace) => {
                let turns = run_in_turns(for_thread, engine.clone(), pace);
                Hand::Task(tokio::spawn(turns).abort_handle(), engine)
            }
        };
        Ok(Self { shared, hand: Mutex::new(Some(hand)) })
    }

    /// Queues a job behind all others.
    pub(super) fn submit(&self, batch: Batch, urgency: Urgency) {
        let refusal = {
            let mut queue = self.shared.queue.lock();
            let refusal = match &queue.failed {
                Some(fault) => Some(fault.clone()),
                None if queue.closed => Some(Fault::new("the log is closed")),
                None => None,
            };
            match refusal {
                Some(fault) => Some((fault, urgency)),
                None => {
                    let urgent = matches!(urgency, Urgency::Synced(_));
                    queue.urgent += usize::from(urgent);
                    let first = queue.jobs.is_empty();
                    queue.jobs.push_back(Job { batch, urgency, queued_at: Instant::now() });
                    if urgent || first {
                        self.shared.tell();
                    }
                    None
                }
            }
        };
        if let Some((fault, Urgency::Synced(complete))) = refusal {
            complete(Err(fault));
        }
    }

    /// Has a row written some time soon, behind all jobs queued so far; of
    /// several values only the last counts. Nobody waits for it.
    pub(super) fn put_newest(&self, key: Bytes, value: Bytes) {
        let mut queue = self.shared.queue.lock();
        let first = queue.newest.is_empty() && queue.jobs.is_empty();
        queue.newest.insert(key, value);
        if first {
            self.shared.tell();
        }
    }

    /// Drops a row that [`put_newest`](Self::put_newest) left waiting.
    pub(super) fn forget_newest(&self, key: &[u8]) {
        self.shared.queue.lock().newest.remove(key);
    }

    /// How long the oldest synced write has been waiting for the disk; for a
    /// disk that hangs instead of failing.
    pub(super) fn oldest_unfinished(&self) -> Option<Duration> {
        let queue = self.shared.queue.lock();
        let queued = queue
            .jobs
            .iter()
            .find(|job| matches!(job.urgency, Urgency::Synced(_)))
            .map(|job| job.queued_at);
        queue.writing_since.or(queued).map(|since| since.elapsed())
    }

    /// What was done so far.
    pub(super) fn counts(&self) -> WriterCounts {
        *self.shared.counts.lock()
    }

    /// How long synced writes took.
    pub(super) fn sync_durations(&self) -> DurationCounts {
        self.shared.syncs.counts()
    }

    /// Jobs that wait to be written.
    pub(super) fn queued(&self) -> usize {
        self.shared.queue.lock().jobs.len()
    }

    /// Writes what is queued, refuses what comes, and waits for the thread to
    /// end. Blocks.
    pub(super) fn close(&self) {
        self.shared.queue.lock().closed = true;
        self.shared.tell();
        match self.hand.lock().take() {
            Some(Hand::Thread(thread)) => self.join(thread),
            Some(Hand::Task(task, engine)) => {
                task.abort();
                write_all(&self.shared, engine.as_ref());
            }
            None => {}
        }
    }

    fn join(&self, thread: JoinHandle<()>) {
        let is_itself = thread.thread().id() == std::thread::current().id();
        if !is_itself && thread.join().is_err() {
            self.shared.alarm.raise(Fault::new("the log writer panicked"));
        }
    }

    /// Before a caller blocks until his job is written: on a simulated machine
    /// nobody else would write it meanwhile, so this does.
    pub(super) fn write_now(&self) {
        let engine = match &*self.hand.lock() {
            Some(Hand::Task(_, engine)) => engine.clone(),
            _ => return,
        };
        write_all(&self.shared, engine.as_ref());
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

/// Takes jobs until closed.
fn run(shared: &Shared, engine: &dyn Engine) {
    while let Some(taken) = take(shared) {
        write(shared, engine, taken);
    }
}

/// Takes jobs until closed, at the pace of a simulated machine.
async fn run_in_turns(shared: Arc<Shared>, engine: Arc<dyn Engine>, pace: Arc<dyn Pace>) {
    loop {
        let (idle, urgent) = {
            let queue = shared.queue.lock();
            (queue.is_idle(), queue.urgent > 0)
        };
        let told = shared.gathered_there.notified();
        if idle {
            told.await;
        } else if urgent || timeout(Duration::from_millis(RIDE_MS_MAX), told).await.is_err() {
            sleep(pace.sync_time()).await;
            let taken = gather(&shared, &mut shared.queue.lock());
            if let Some(taken) = taken {
                write(&shared, engine.as_ref(), taken);
            }
        }
    }
}

/// Writes all that is queued.
fn write_all(shared: &Shared, engine: &dyn Engine) {
    loop {
        // On a line of its own: the queue is not to be locked while it is written.
        let taken = gather(shared, &mut shared.queue.lock());
        let Some(taken) = taken else { return };
        write(shared, engine, taken);
    }
}

/// Writes one batch and completes its jobs.
fn write(shared: &Shared, engine: &dyn Engine, taken: Taken) {
    let Taken { batch, completions, synced_jobs } = taken;
    let bytes = batch.byte_len() as u64;
    let synced = synced_jobs > 0 && !planted::is(Bug::SyncSkipped);
    let durability = if synced { Durability::Synced } else { Durability::Buffered };
    let started = Instant::now();
    let result = engine.write(batch, durability);
    count(shared, started.elapsed(), synced_jobs, bytes);
    let unfinished = {
        let mut queue = shared.queue.lock();
        queue.writing_since = None;
        match &result {
            Ok(()) => VecDeque::new(),
            Err(fault) => {
                queue.failed = Some(fault.clone());
                queue.urgent = 0;
                queue.newest.clear();
                std::mem::take(&mut queue.jobs)
            }
        }
    };
    if let Err(fault) = &result {
        shared.alarm.raise(fault.clone());
    }
    for complete in completions {
        complete(result.clone());
    }
    for job in unfinished {
        if let Urgency::Synced(complete) = job.urgency {
            complete(result.clone());
        }
    }
}

struct Taken {
    batch: Batch,
    completions: Vec<Completion>,
    synced_jobs: u64,
}

/// Waits for work and takes what one batch may hold; `None` once closed and
/// empty, or failed and closed.
fn take(shared: &Shared) -> Option<Taken> {
    let mut queue = shared.queue.lock();
    let mut rode = false;
    loop {
        let idle = queue.is_idle();
        if queue.closed && idle {
            return None;
        }
        if queue.urgent > 0 || (!idle && (rode || queue.closed)) {
            break;
        }
        if idle {
            rode = false;
            shared.gathered.wait(&mut queue);
        } else {
            let ride = Duration::from_millis(RIDE_MS_MAX);
            rode = shared.gathered.wait_for(&mut queue, ride).timed_out();
        }
    }
    gather(shared, &mut queue)
}

/// Takes what one batch may hold; `None` if there is nothing.
fn gather(shared: &Shared, queue: &mut Queue) -> Option<Taken> {
    if queue.is_idle() {
        return None;
    }
    let mut taken = Taken { batch: Batch::new(), completions: Vec::new(), synced_jobs: 0 };
    let mut since = None;
    while let Some(job) = queue.jobs.pop_front() {
        taken.batch.append(job.batch);
        if let Urgency::Synced(complete) = job.urgency {
            taken.completions.push(complete);
            taken.synced_jobs += 1;
            since.get_or_insert(job.queued_at);
        }
        if taken.batch.byte_len() >= shared.batch_bytes_max {
            break;
        }
    }
    queue.urgent -= taken.completions.len();
    // Only behind every job: a commit position must not overtake its entry.
    if queue.jobs.is_empty() {
        for (key, value) in std::mem::take(&mut queue.newest) {
            taken.batch.put(key, value);
        }
    }
    queue.writing_since = since;
    Some(taken)
}

fn count(shared: &Shared, took: Duration, synced_jobs: u64, bytes: u64) {
    let mut counts = shared.counts.lock();
    counts.bytes += bytes;
    if synced_jobs == 0 {
        counts.buffered += 1;
        return;
    }
    shared.syncs.add(took);
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    counts.syncs += 1;
    counts.synced_jobs += synced_jobs;
    counts.sync_us_total += us;
    counts.sync_us_max = counts.sync_us_max.max(us);
}
