//! The change feed: what apply wrote, by revision, in a bounded ring in memory.
//!
//! It carries no expiries, and does not survive the process: a subscriber that
//! is told [`StoreError::TooOld`] loads its view again.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{error::StoreError, key::KeyRange, row::Revision, store::Change};

/// Changes that the ring holds, at most.
pub const RING_CHANGES_MAX: usize = 16_384;

/// The ring of a tablet.
#[derive(Debug)]
pub struct Feed {
    ring: Mutex<Ring>,
    newest: watch::Sender<Revision>,
}

#[derive(Debug)]
struct Ring {
    /// Everything behind this revision is in the ring.
    complete_after: Revision,
    entries: VecDeque<(Revision, Arc<[Change]>)>,
    changes: usize,
}

/// A place in the feed.
#[derive(Debug)]
pub struct Subscription {
    feed: Arc<Feed>,
    newest: watch::Receiver<Revision>,
    range: KeyRange,
    after: Revision,
}

impl Feed {
    /// A feed of what follows `start`.
    pub fn new(start: Revision) -> Arc<Self> {
        Arc::new(Self {
            ring: Mutex::new(Ring { complete_after: start, entries: VecDeque::new(), changes: 0 }),
            newest: watch::channel(start).0,
        })
    }

    /// Adds what one entry changed.
    pub(super) fn push(&self, revision: Revision, changes: Vec<Change>) {
        if !changes.is_empty() {
            let mut ring = self.ring.lock();
            ring.changes += changes.len();
            ring.entries.push_back((revision, changes.into()));
            while ring.changes > RING_CHANGES_MAX && ring.entries.len() > 1 {
                if let Some((dropped, changes)) = ring.entries.pop_front() {
                    ring.changes -= changes.len();
                    ring.complete_after = dropped;
                }
            }
        }
        self.newest.send_replace(revision);
    }

    /// Follows a range from behind `after`.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the ring begins later.
    pub fn subscribe(
        self: &Arc<Self>,
        range: KeyRange,
        after: Revision,
    ) -> Result<Subscription, StoreError> {
        if after < self.ring.lock().complete_after {
            return Err(StoreError::TooOld);
        }
        Ok(Subscription { feed: self.clone(), newest: self.newest.subscribe(), range, after })
    }
}

impl Subscription {
    /// The next changes in the range, all of one revision.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the ring ran past this place, and
    /// [`StoreError::Unavailable`] if the tablet was replaced or closed.
    pub async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        loop {
            self.newest.borrow_and_update();
            if let Some(found) = self.take()? {
                return Ok(found);
            }
            self.newest
                .changed()
                .await
                .map_err(|_| StoreError::unavailable("the tablet was closed"))?;
        }
    }

    fn take(&mut self) -> Result<Option<Vec<Change>>, StoreError> {
        let ring = self.feed.ring.lock();
        if self.after < ring.complete_after {
            return Err(StoreError::TooOld);
        }
        let from = ring.entries.partition_point(|(revision, _)| *revision <= self.after);
        for (revision, changes) in ring.entries.range(from..) {
            self.after = *revision;
            let found: Vec<Change> = changes
                .iter()
                .filter(|change| self.range.contains(change.key.as_bytes()))
                .cloned()
                .collect();
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::{KeyWriter, Tenant},
        slot::Slot,
        tag::Tag,
    };

    fn change(revision: u64) -> Change {
        let mut key = KeyWriter::new(Slot::DIRECTORY, Tag::TEST, Tenant(0));
        key.u64(revision);
        Change { key: key.finish(), row: None, revision: Revision(revision) }
    }

    fn everything() -> KeyRange {
        KeyWriter::new(Slot::DIRECTORY, Tag::TEST, Tenant(0)).range()
    }

    #[tokio::test]
    async fn a_subscriber_gets_what_follows_its_view() {
        let feed = Feed::new(Revision(10));
        feed.push(Revision(11), vec![change(11)]);
        feed.push(Revision(12), vec![change(12)]);
        let mut subscription = feed.subscribe(everything(), Revision(11)).unwrap();
        assert_eq!(subscription.next().await.unwrap(), vec![change(12)]);
        feed.push(Revision(13), vec![]);
        feed.push(Revision(14), vec![change(14)]);
        assert_eq!(subscription.next().await.unwrap(), vec![change(14)]);
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_so() {
        let feed = Feed::new(Revision(10));
        assert!(matches!(feed.subscribe(everything(), Revision(9)), Err(StoreError::TooOld)));
        let mut slow = feed.subscribe(everything(), Revision(10)).unwrap();
        for revision in 11..=11 + RING_CHANGES_MAX as u64 + 1 {
            feed.push(Revision(revision), vec![change(revision)]);
        }
        assert!(matches!(slow.next().await, Err(StoreError::TooOld)));
    }
}
