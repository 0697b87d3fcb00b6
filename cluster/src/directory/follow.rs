//! What a node holds of the directory in memory, and for how long that counts.
//!
//! One task loads the view again whenever the feed of the local replica brings a
//! change. Another asks, every half second, for a read index of group 0; once
//! the replica and the view have reached it, the view is confirmed as of the
//! moment the question was sent. A view that was not confirmed for two seconds
//! must not be relied on where staleness would be a breach: revoked keys,
//! clients, providers. Where slots are is not of that kind, since shards refuse
//! what they do not own.
//!
//! Layers are made of the cluster's keys. A view that brings other keys counts as
//! arrived only once they were made anew ([`Directory::took_up`]): until then it
//! is neither confirmed nor acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use cardea_storage::{Clock, Fault, Index, Revision, Slot, StoreError, machine::Machine};
use parking_lot::Mutex;
use tokio::{sync::watch, task::JoinSet};

use super::{
    records::{ClusterKeyRecord, TAGS},
    tables::ClusterKeyKey,
    view::DirectoryView,
};
use crate::{DIRECTORY, member::Member, replica::Replica};

/// How long a view counts from the sending of its last confirming question.
pub const CONFIRMED_MAX: Duration = Duration::from_secs(2);

/// Between two confirming questions.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long one of them may take.
const ASK_MAX: Duration = Duration::from_millis(1_500);
/// Questions under way at once: a slow one does not keep the next from being sent.
const ASKED_MAX: usize = 3;

/// The cluster's keys as the directory has them.
pub type KeyRows = BTreeMap<ClusterKeyKey, ClusterKeyRecord>;

/// The directory in memory.
pub struct Directory {
    view: watch::Sender<Arc<DirectoryView>>,
    /// Monotonic milliseconds of the last confirmed question, plus one; 0: never.
    confirmed: AtomicU64,
    clock: Arc<dyn Clock>,
    /// What this node's layers declare.
    indexes: Vec<Index>,
    loading: Mutex<()>,
    /// What this node's layers were made of; `None` where nobody makes any.
    in_use: Mutex<Option<KeyRows>>,
    /// Whether a backup is being restored, or was and its keys are not in use yet.
    restoring: AtomicBool,
}

impl Directory {
    /// Knows nothing yet but the indexes that this node's layers declare.
    pub(crate) fn new(clock: Arc<dyn Clock>, indexes: Vec<Index>) -> Arc<Self> {
        Arc::new(Self {
            view: watch::Sender::new(Arc::new(DirectoryView::default())),
            confirmed: AtomicU64::new(0),
            clock,
            indexes,
            loading: Mutex::default(),
            in_use: Mutex::default(),
            restoring: AtomicBool::new(false),
        })
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

    /// Whether a backup is being restored into the cluster: nothing is served
    /// until it ended and its keys are in use here.
    pub fn is_restoring(&self) -> bool {
        self.restoring.load(Ordering::Acquire)
    }

    /// From now on layers are made of the keys, and [`took_up`](Self::took_up)
    /// tells of which.
    pub fn expect_layers(&self) {
        self.in_use.lock().get_or_insert_default();
        self.settle();
    }

    /// This node's layers are made of these keys now.
    pub fn took_up(&self, keys: &KeyRows) {
        *self.in_use.lock() = Some(keys.clone());
        self.settle();
    }

    /// The revision up to which this node acts by what the directory says; 0 while
    /// its layers are being made anew.
    pub(crate) fn acknowledged(&self) -> Revision {
        let (in_use, view) = (self.in_use.lock(), self.view());
        if lags(in_use.as_ref(), &view) { Revision(0) } else { view.revision }
    }

    fn settle(&self) {
        // Under the lock, so that the last to look sees the newest.
        let in_use = self.in_use.lock();
        let view = self.view();
        if view.is_restoring() {
            self.restoring.store(true, Ordering::Release);
        } else if !lags(in_use.as_ref(), &view) {
            self.restoring.store(false, Ordering::Release);
        }
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
            let loaded = DirectoryView::load(&tablet, self.clock.now(), &self.indexes)?;
            self.view.send_if_modified(|held| {
                let news = !held.says_the_same(&loaded);
                *held = Arc::new(loaded);
                news
            });
            self.settle();
        }
        Ok(revision)
    }
}

/// Whether the layers are made of other keys than the view has. While a backup is
/// restored keys come one by one, and nobody is served with them.
fn lags(in_use: Option<&KeyRows>, view: &DirectoryView) -> bool {
    in_use.is_some_and(|in_use| *in_use != view.keys) && !view.is_restoring()
}

/// Loads the view when the feed brings a change; until the node stops.
pub(crate) async fn follow(member: Arc<Member>, replica: Arc<Replica>) {
    let stopping = &member.stopping;
    while !stopping.is_cancelled() {
        let Some(revision) = load(&member, &replica).await else { return };
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
                    if load(&member, &replica).await.is_none() {
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

/// Confirms the view again and again; until the node stops.
pub(crate) async fn confirm(member: Arc<Member>, replica: Arc<Replica>) {
    let mut period = tokio::time::interval(ASK_EVERY);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked = JoinSet::new();
    loop {
        tokio::select! {
            () = member.stopping.cancelled() => return,
            _ = period.tick() => {}
        }
        while asked.try_join_next().is_some() {}
        if asked.len() < ASKED_MAX {
            let (member, replica) = (member.clone(), replica.clone());
            asked.spawn(async move { confirm_once(&member, &replica).await });
        }
    }
}

/// Asks once; whether the view is as new as the call.
pub(crate) async fn confirm_once(member: &Member, replica: &Arc<Replica>) -> bool {
    let directory = &member.directory;
    let sent = directory.clock.monotonic();
    let asked = tokio::time::timeout(ASK_MAX, member.host.read_barrier(DIRECTORY)).await;
    if !matches!(asked, Ok(Ok(_))) || load(member, replica).await.is_none() {
        return false;
    }
    if directory.acknowledged() > Revision(0) {
        directory.confirm(sent);
    }
    true
}

/// Loads the view, if it can be read. A node that cannot read the directory stops: it would
/// go by what it held for ever.
async fn load(member: &Member, replica: &Arc<Replica>) -> Option<Revision> {
    let (directory, replica) = (member.directory.clone(), replica.clone());
    let loading = cardea_raft::blocking::spawn(move || directory.load(replica.machine()));
    match loading.await.ok()? {
        Ok(revision) => Some(revision),
        Err(fault) => {
            member.raise(Fault::caused("read the directory", fault));
            None
        }
    }
}
