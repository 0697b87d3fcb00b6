//! Following changes: on the replica here, else on a node that has one.
//!
//! Each replica keeps the latest changes for itself, and not across a restart: what is
//! too old for one may still be known to another, so they are asked in turn. Who was
//! asked by another node answers for itself alone. Between changes it tells from time
//! to time how far it is.

use std::{pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_raft::GroupId;
use cardea_storage::{
    KeyRange, Revision, StoreError,
    machine::feed::Subscription,
    store::{Change, Watch},
};
use futures::{Stream, stream};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::{Status, Streaming};

use super::{read, wire};
use crate::{
    member::Member,
    service::{client, proto},
};

/// Nodes that are asked in turn, at most.
const ASKED_MAX: usize = 5;
/// How often who follows from another node is told how far the feed is, at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Follows a range from behind `after`.
pub(crate) async fn watch(
    member: &Arc<Member>,
    group: GroupId,
    range: KeyRange,
    after: Revision,
) -> Result<Box<dyn Watch>, StoreError> {
    let mut last = StoreError::unavailable(format!("no replica of {group} is known"));
    if let Some(replica) = member.replica(group).filter(|replica| replica.owns_slots()) {
        match replica.machine().feed().subscribe(range.clone(), after) {
            Ok(subscription) => return Ok(Box::new(Here(subscription))),
            Err(error) => last = error,
        }
    }
    for node in read::nodes_with(member, group).into_iter().take(ASKED_MAX) {
        match client::watch(member, node, group, &range, after).await {
            Ok(messages) => {
                // The first message tells whether it is followed at all.
                let mut there = There { messages, reached: after, first: None };
                match there.begin().await {
                    Ok(()) => return Ok(Box::new(there)),
                    Err(error) => last = sooner(last, error),
                }
            }
            Err(error) => last = sooner(last, error),
        }
    }
    Err(last)
}

/// That something is too old is final; that a node is not there is not.
fn sooner(known: StoreError, new: StoreError) -> StoreError {
    if matches!(known, StoreError::TooOld) { known } else { new }
}

struct Here(Subscription);

#[async_trait]
impl Watch for Here {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        self.0.next().await
    }

    async fn next_until(&mut self, until: Revision) -> Result<Vec<Change>, StoreError> {
        self.0.next_until(until).await
    }
}

/// A feed at another node.
struct There {
    messages: Streaming<proto::WatchResponse>,
    reached: Revision,
    /// Read already, and not given yet.
    first: Option<Vec<Change>>,
}

impl There {
    async fn begin(&mut self) -> Result<(), StoreError> {
        self.first = Some(self.receive().await?);
        Ok(())
    }

    /// What the next message brings; nothing if it tells of progress.
    async fn receive(&mut self) -> Result<Vec<Change>, StoreError> {
        use proto::watch_response::Result as Of;
        let failed = |what: &str| StoreError::unavailable(format!("a feed elsewhere: {what}"));
        let message = self.messages.message().await;
        let message = message.map_err(|status| failed(status.message()))?;
        match message.and_then(|message| message.result) {
            Some(Of::Changes(changes)) => {
                self.reached = self.reached.max(Revision(changes.revision));
                wire::changes(changes).map_err(|fault| failed(&fault.to_string()))
            }
            Some(Of::TooOld(_)) => Err(StoreError::TooOld),
            Some(Of::Unavailable(unavailable)) => Err(failed(&unavailable.reason)),
            None => Err(failed("it ended")),
        }
    }
}

#[async_trait]
impl Watch for There {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        self.next_until(Revision(u64::MAX)).await
    }

    async fn next_until(&mut self, until: Revision) -> Result<Vec<Change>, StoreError> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Ok(first);
        }
        while self.reached < until {
            let changes = self.receive().await?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
        Ok(Vec::new())
    }
}

/// The messages to another node that follows the feed here.
pub(crate) fn messages(
    subscription: Result<Subscription, StoreError>,
) -> Pin<Box<dyn Stream<Item = Result<proto::WatchResponse, Status>> + Send>> {
    let mut tick = interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let told = None;
    let feed = subscription.map(|subscription| Feed { subscription, tick, told });
    Box::pin(stream::unfold(Some(feed), |feed| async {
        let mut feed = match feed? {
            Ok(feed) => feed,
            Err(error) => return Some((Ok(end(&error)), None)),
        };
        match feed.next().await {
            Ok(message) => Some((Ok(message), Some(Ok(feed)))),
            Err(error) => Some((Ok(end(&error)), None)),
        }
    }))
}

struct Feed {
    subscription: Subscription,
    tick: Interval,
    told: Option<Revision>,
}

impl Feed {
    async fn next(&mut self) -> Result<proto::WatchResponse, StoreError> {
        loop {
            let changes = tokio::select! {
                biased;
                changes = self.subscription.next() => changes?,
                _ = self.tick.tick() => Vec::new(),
            };
            let reached = self.subscription.reached();
            if !changes.is_empty() || self.told != Some(reached) {
                self.told = Some(reached);
                let changes = wire::changes_message(reached, &changes);
                let result = proto::watch_response::Result::Changes(changes);
                return Ok(proto::WatchResponse { result: Some(result) });
            }
        }
    }
}

fn end(error: &StoreError) -> proto::WatchResponse {
    use proto::watch_response::Result as Of;
    let result = match error {
        StoreError::TooOld => Of::TooOld(proto::TooOld {}),
        error => Of::Unavailable(proto::Unavailable { reason: error.to_string() }),
    };
    proto::WatchResponse { result: Some(result) }
}
