//! What a node holds of the directory in memory, and for how long that counts.
//!
//! One task loads the view again whenever the feed of the local replica brings a
//! change. Another asks, every half second, for a read index of group 0; once
//! the replica and the view have reached it, the view is confirmed as of the
//! moment the question was sent. A view that was not confirmed for two seconds
//! must not be relied on where staleness would be a breach: revoked keys,
//! clients, providers. Where slots are is not of that kind, since shards refuse
//! what they do not own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_raft::{GroupId, Host};
use cardea_storage::{Clock, Fault, Revision, Slot, StoreError, machine::Machine};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{records::TAGS, view::DirectoryView};
use crate::{DIRECTORY, replica::Replica};

/// How long a view counts from the sending of its last confirming question.
pub const CONFIRMED_MAX: Duration = Duration::from_secs(2);

/// Between two confirming questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long one of them may take.
const ASK_MAX: Duration = Duration::from_millis(1_500);

/// The directory in memory.
pub struct Directory {
    view: watch::Sender<Arc<DirectoryView>>,
    /// Monotonic milliseconds of the last confirmed question, plus one; 0: never.
    confirmed: AtomicU64,
    clock: Arc<dyn Clock>,
    loading: Mutex<()>,
}

impl Directory {
    /// Knows nothing yet.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        let view = watch::Sender::new(Arc::new(DirectoryView::default()));
        Arc::new(Self { view, confirmed: AtomicU64::new(0), clock, loading: Mutex::new(()) })
    }

    /// What is known now, confirmed or not.
    pub fn view(&self) -> Arc<DirectoryView> {
        self.view.borrow().clone()
    }

    /// Follows what is known.
    pub fn watch(&self) -> watch::Receiver<Arc<DirectoryView>> {
        self.view.subscribe()
    }

    /// How long ago the last confirming question was sent; `None` if none was
    /// answered yet.
    pub fn confirmed_ago(&self) -> Option<Duration> {
        let at = self.confirmed.load(Ordering::Acquire).checked_sub(1)?;
        Some(self.clock.monotonic().saturating_sub(Duration::from_millis(at)))
    }

    /// Whether what is known counts for decisions that staleness would breach.
    pub fn is_confirmed(&self) -> bool {
        self.confirmed_ago().is_some_and(|ago| ago <= CONFIRMED_MAX)
    }

    fn confirm(&self, sent: Duration) {
        let sent = u64::try_from(sent.as_millis()).unwrap_or(u64::MAX - 1);
        self.confirmed.fetch_max(sent + 1, Ordering::AcqRel);
    }

    /// Loads the view again unless it is as new as the machine. Blocks.
    pub(crate) fn load(&self, machine: &Machine) -> Result<Revision, Fault> {
        let _one = self.loading.lock();
        let tablet = machine.view()?;
        let revision = tablet.state().revision();
        if self.view.borrow().revision != revision {
            let loaded = DirectoryView::load(&tablet, self.clock.now())?;
            self.view.send_if_modified(|held| {
                let news = !held.says_the_same(&loaded);
                *held = Arc::new(loaded);
                news
            });
        }
        Ok(revision)
    }
}

/// Loads the view when the feed brings a change; until `stopping`.
pub(crate) async fn follow(
    directory: Arc<Directory>,
    replica: Arc<Replica>,
    stopping: CancellationToken,
) {
    while !stopping.is_cancelled() {
        let Some(revision) = load(&directory, &replica).await else { return };
        let mut ranges = TAGS.iter().map(|tag| {
            cardea_storage::key::KeyWriter::new(Slot::DIRECTORY, *tag, Default::default()).range()
        });
        let (Some(first), Some(last)) = (ranges.next(), ranges.next_back()) else { return };
        let mut range = first;
        range.end = last.end;
        let Ok(mut changes) = replica.machine().feed().subscribe(range, revision) else {
            continue;
        };
        loop {
            let next = tokio::select! {
                () = stopping.cancelled() => return,
                next = changes.next() => next,
            };
            match next {
                Ok(_) => {
                    if load(&directory, &replica).await.is_none() {
                        return;
                    }
                }
                // The tablet was replaced, or the ring ran past: begin anew.
                Err(StoreError::TooOld | StoreError::Unavailable { .. }) => break,
                Err(error) => {
                    tracing::error!(%error, "the directory's feed failed");
                    break;
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Confirms the view again and again; until `stopping`.
pub(crate) async fn confirm(
    directory: Arc<Directory>,
    replica: Arc<Replica>,
    host: Arc<Host>,
    stopping: CancellationToken,
) {
    let mut period = tokio::time::interval(ASK_EVERY);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        confirm_once(&directory, &replica, &host, DIRECTORY).await;
    }
}

/// Asks once; whether the view is confirmed as of the call.
pub(crate) async fn confirm_once(
    directory: &Arc<Directory>,
    replica: &Arc<Replica>,
    host: &Host,
    group: GroupId,
) -> bool {
    let sent = directory.clock.monotonic();
    let asked = tokio::time::timeout(ASK_MAX, host.read_barrier(group)).await;
    if !matches!(asked, Ok(Ok(_))) || load(directory, replica).await.is_none() {
        return false;
    }
    directory.confirm(sent);
    true
}

async fn load(directory: &Arc<Directory>, replica: &Arc<Replica>) -> Option<Revision> {
    let (directory, replica) = (directory.clone(), replica.clone());
    let loaded =
        cardea_raft::blocking::spawn(move || directory.load(replica.machine())).await.ok()?;
    loaded.inspect_err(|fault| tracing::error!(?fault, "the directory cannot be read")).ok()
}
