//! What is sent, in numbers: what this node sent or gave up since it started, and what waits
//! in the whole cluster, as of the last count. Nobody reads dead letters by themselves; that
//! there are new ones is told by a counter, which can raise an alarm.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cardea_storage::{
    Consistency, StoreError, Table,
    engine::Order,
    store::{Read, ReadRequest, Scan},
};

use super::delivery::Ended;
use crate::{
    Service,
    table::{
        hook_call::HookCalls,
        lane::lanes,
        message::Messages,
        outbox::{Due, Outbox},
    },
};

/// Rows that are counted in a lane, of which there are 64; of those that wait beyond, nothing
/// is known but that there are more.
const COUNTED_MAX: u32 = 500;

/// What is known of one outbox.
#[derive(Debug, Default)]
pub struct Tally {
    sent: AtomicU64,
    postponed: AtomicU64,
    abandoned: AtomicU64,
    waiting: AtomicU64,
    overdue_ms: AtomicU64,
}

/// What is known of all.
#[derive(Debug, Default)]
pub struct Tallies {
    pub(crate) messages: Tally,
    pub(crate) calls: Tally,
}

/// An outbox in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Which: `message`, mails and text messages, or `web_hook`.
    pub outbox: &'static str,
    /// Tries of this node that were taken, since it started.
    pub sent: u64,
    /// Those that were not, and are made again.
    pub postponed: u64,
    /// What this node gave up.
    pub abandoned: u64,
    /// What waits in the whole cluster, at the last count; at most 32,000 are counted.
    pub waiting: u64,
    /// How long what is due the longest should have been sent before the last count.
    pub overdue: Duration,
}

impl Tally {
    pub(super) fn note(&self, ended: Ended) {
        let counter = match ended {
            Ended::Sent => &self.sent,
            Ended::Postponed => &self.postponed,
            Ended::Abandoned => &self.abandoned,
            Ended::Left => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn usage(&self, outbox: &'static str) -> Usage {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        Usage {
            outbox,
            sent: read(&self.sent),
            postponed: read(&self.postponed),
            abandoned: read(&self.abandoned),
            waiting: read(&self.waiting),
            overdue: Duration::from_millis(read(&self.overdue_ms)),
        }
    }
}

impl Service {
    /// The outboxes in numbers; what waits as of the last [count](Self::count_waiting).
    pub fn outbox_usage(&self) -> [Usage; 2] {
        [self.tallies.messages.usage("message"), self.tallies.calls.usage("web_hook")]
    }

    /// Counts what waits, as far as this node knows.
    ///
    /// # Errors
    /// See [`StoreError`]; the last count stays.
    pub async fn count_waiting(&self) -> Result<(), StoreError> {
        self.count_posts::<Messages>().await?;
        self.count_posts::<HookCalls>().await
    }

    async fn count_posts<T: Outbox>(&self) -> Result<(), StoreError> {
        let mut request = ReadRequest::new(Consistency::Eventual);
        for lane in lanes() {
            let (range, limit) = (Due::<T>::lane(lane), COUNTED_MAX);
            request.reads.push(Read::Scan(Scan { range, limit, order: Order::Forward }));
        }
        let answer = self.store.read(request).await?;
        let now = self.now();
        let (mut waiting, mut overdue_ms) = (0, 0);
        for row in answer.results.iter().flat_map(|rows| &rows.rows) {
            let due_at = Due::<T>::decode(row)?.key.due_at;
            waiting += 1;
            overdue_ms = overdue_ms.max(now.as_millis().saturating_sub(due_at));
        }
        let tally = T::tally(&self.tallies);
        tally.waiting.store(waiting, Ordering::Relaxed);
        tally.overdue_ms.store(overdue_ms, Ordering::Relaxed);
        Ok(())
    }
}
