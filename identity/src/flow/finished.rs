//! Flows that were completed in another shard than the one they lie in.
//!
//! The mark in the subject's home decides that a flow is not completed twice. The flow
//! itself is told as well, so that whoever opens its page again sees that it is done; who
//! logs in or signs up need not wait for that. So these flows are told a moment later,
//! many in one transaction. What waits in a node that dies is never told, and nothing but
//! such a page is wrong then.

use std::collections::BTreeMap;

use cardea_storage::{Slot, Space, StoreError, Timestamp};
use parking_lot::Mutex;
use uuid::Uuid;

use crate::{
    Service,
    model::{FlowId, Scope},
    table::{FlowKey, FlowRecord, Flows},
};

/// Flows that wait in a node, at most; more are never told.
const WAITING_MAX: usize = 8_192;
/// Flows in one transaction.
const TOLD_AT_ONCE: usize = 64;

/// Flows that are to be told, and since when they are done.
#[derive(Default)]
pub(crate) struct Finished(Mutex<Vec<(FlowKey, Timestamp)>>);

impl Service {
    /// Has a flow told soon that it was completed, if it lies elsewhere than its subject.
    pub(super) fn finished(&self, scope: Scope, flow: FlowId, subject: Uuid) {
        if self.same_shard(Slot::of_id(&subject), Slot::of_id(&flow.0)) {
            return;
        }
        let mut waiting = self.finished.0.lock();
        if waiting.len() < WAITING_MAX {
            waiting.push((FlowKey { tenant: scope.tenant, id: flow.0 }, self.now()));
        }
    }

    /// Tells the flows that were completed on this node since the last call; to be called
    /// about every second. How many there were.
    ///
    /// # Errors
    /// If a shard cannot be written; its flows are not told any more.
    pub async fn tell_finished_flows(&self) -> Result<usize, StoreError> {
        let waiting = std::mem::take(&mut *self.finished.0.lock());
        let count = waiting.len();
        let shards = self.store.shards(Space::Home);
        let mut by_shard = BTreeMap::<_, Vec<_>>::new();
        for (key, at) in waiting {
            let slot = Slot::of_id(&key.id);
            by_shard
                .entry(shards.iter().position(|s| s.contains(slot)))
                .or_default()
                .push((key, at));
        }
        let mut failure = Ok(count);
        for flows in by_shard.values().flat_map(|flows| flows.chunks(TOLD_AT_ONCE)) {
            let told = self.store.transact(|t| async move {
                for (key, at) in flows {
                    let Some(found) = t.get::<Flows>(key).await? else { continue };
                    if found.record.completed_at == 0 {
                        let done = FlowRecord { completed_at: at.as_millis(), ..found.record };
                        let kept = self.flow_kept_until(&done);
                        t.put::<Flows>(key, &done, Some(kept)).await?;
                    }
                }
                Ok::<_, StoreError>(())
            });
            if let Err(error) = told.await {
                failure = Err(error);
            }
        }
        failure
    }
}
