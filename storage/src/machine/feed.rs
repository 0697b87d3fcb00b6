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
/// Bytes of keys and values in it, about: rings of hundreds of tablets lie in one memory.
pub const RING_BYTES_MAX: usize = 4 << 20;

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
    entries: VecDeque<(Revision, Vec<Change>)>,
    changes: usize,
    bytes: usize,
    closed: bool,
}

impl Ring {
    fn add(&mut self, revision: Revision, changes: Vec<Change>) {
        self.changes += changes.len();
        self.bytes += bytes_of(&changes);
        self.entries.push_back((revision, changes));
        while (self.changes > RING_CHANGES_MAX || self.bytes > RING_BYTES_MAX)
            && self.entries.len() > 1
        {
            if let Some((dropped, changes)) = self.entries.pop_front() {
                self.changes -= changes.len();
                self.bytes -= bytes_of(&changes);
                self.complete_after = dropped;
            }
        }
    }
}

fn bytes_of(changes: &[Change]) -> usize {
    let value = |change: &Change| change.row.as_ref().map_or(0, |row| row.value.len());
    changes.iter().map(|change| change.key.as_bytes().len() + value(change)).sum()
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
            ring: Mutex::new(Ring {
                complete_after: start,
                entries: VecDeque::new(),
                changes: 0,
                bytes: 0,
                closed: false,
            }),
            newest: watch::channel(start).0,
        })
    }

    /// Adds what was changed, by revision.
    pub(super) fn push(&self, news: Vec<(Revision, Vec<Change>)>) {
        let Some(newest) = news.last().map(|(revision, _)| *revision) else { return };
        let mut ring = self.ring.lock();
        for (revision, changes) in news.into_iter().filter(|(_, changes)| !changes.is_empty()) {
            ring.add(revision, changes);
        }
        drop(ring);
        self.newest.send_replace(newest);
    }

    /// Nothing follows any more: the tablet was replaced or closed.
    pub(super) fn close(&self) {
        self.ring.lock().closed = true;
        self.newest.send_modify(|_| {});
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
        self.next_until(Revision(u64::MAX)).await
    }

    /// The next changes in the range, all of one revision; none once there are no
    /// more up to `until`. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_until(&mut self, until: Revision) -> Result<Vec<Change>, StoreError> {
        loop {
            let newest = *self.newest.borrow_and_update();
            if let Some(found) = self.take()? {
                return Ok(found);
            }
            // A revision is told behind its changes: all up to this one were looked at.
            self.after = self.after.max(newest);
            if self.after >= until {
                return Ok(Vec::new());
            }
            self.newest.changed().await.map_err(|_| closed())?;
        }
    }

    /// Up to where there is nothing more in the range.
    pub fn reached(&self) -> Revision {
        self.after
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
        if ring.closed { Err(closed()) } else { Ok(None) }
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("the tablet was closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        key::{KeyWriter, Tenant},
        row::Row,
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
        feed.push(vec![(Revision(11), vec![change(11)])]);
        feed.push(vec![(Revision(12), vec![change(12)])]);
        let mut subscription = feed.subscribe(everything(), Revision(11)).unwrap();
        assert_eq!(subscription.next().await.unwrap(), vec![change(12)]);
        feed.push(vec![(Revision(13), vec![])]);
        feed.push(vec![(Revision(14), vec![change(14)])]);
        assert_eq!(subscription.next().await.unwrap(), vec![change(14)]);
    }

    #[tokio::test]
    async fn a_subscriber_learns_that_there_is_nothing_up_to_a_revision() {
        let elsewhere = KeyWriter::new(Slot::DIRECTORY, Tag::TEST, Tenant(1)).range();
        let feed = Feed::new(Revision(10));
        feed.push(vec![(Revision(11), vec![change(11)])]);
        feed.push(vec![(Revision(12), vec![])]);
        let mut subscription = feed.subscribe(everything(), Revision(10)).unwrap();
        assert_eq!(subscription.next_until(Revision(12)).await.unwrap(), vec![change(11)]);
        assert_eq!(subscription.next_until(Revision(12)).await.unwrap(), vec![]);
        let mut stranger = feed.subscribe(elsewhere, Revision(10)).unwrap();
        assert_eq!(stranger.next_until(Revision(12)).await.unwrap(), vec![]);
        {
            let mut waiting = std::pin::pin!(subscription.next_until(Revision(14)));
            assert!(futures::poll!(waiting.as_mut()).is_pending());
            feed.push(vec![(Revision(13), vec![])]);
            assert!(futures::poll!(waiting.as_mut()).is_pending());
        }
        // The dropped wait lost nothing, and who saw all of a ring is not too far behind it.
        feed.push(vec![(Revision(14), vec![change(14)])]);
        assert_eq!(subscription.next_until(Revision(14)).await.unwrap(), vec![change(14)]);
    }

    #[tokio::test]
    async fn a_subscriber_is_told_when_the_feed_ends_and_not_before_its_last_change() {
        let feed = Feed::new(Revision(10));
        let mut early = feed.subscribe(everything(), Revision(10)).unwrap();
        {
            let mut waiting = std::pin::pin!(early.next());
            assert!(futures::poll!(waiting.as_mut()).is_pending());
            feed.push(vec![(Revision(11), vec![change(11)])]);
            feed.close();
            assert_eq!(waiting.await.unwrap(), vec![change(11)]);
        }
        assert!(matches!(early.next().await, Err(StoreError::Unavailable { .. })));
        let mut late = feed.subscribe(everything(), Revision(11)).unwrap();
        assert!(matches!(late.next().await, Err(StoreError::Unavailable { .. })));
    }

    #[tokio::test]
    async fn who_is_too_far_behind_is_told_so() {
        let feed = Feed::new(Revision(10));
        assert!(matches!(feed.subscribe(everything(), Revision(9)), Err(StoreError::TooOld)));
        let mut slow = feed.subscribe(everything(), Revision(10)).unwrap();
        for revision in 11..=11 + RING_CHANGES_MAX as u64 + 1 {
            feed.push(vec![(Revision(revision), vec![change(revision)])]);
        }
        assert!(matches!(slow.next().await, Err(StoreError::TooOld)));
    }

    /// Rings of large rows took hundreds of megabytes, in each tablet that had been written to.
    #[test]
    fn a_ring_of_large_rows_holds_fewer_of_them() {
        let feed = Feed::new(Revision(10));
        let value = bytes::Bytes::from(vec![0; RING_BYTES_MAX / 8]);
        for revision in 11..=30 {
            let mut large = change(revision);
            let (key, revision) = (large.key.clone(), Some(large.revision));
            large.row = Some(Row { key, value: value.clone(), revision, expires_at: None });
            feed.push(vec![(large.revision, vec![large])]);
        }
        assert!(matches!(feed.subscribe(everything(), Revision(10)), Err(StoreError::TooOld)));
        assert!(matches!(feed.subscribe(everything(), Revision(22)), Err(StoreError::TooOld)));
        assert!(feed.subscribe(everything(), Revision(23)).is_ok());
        // One that alone is too large is there until the next.
        let mut huge = change(31);
        let value = bytes::Bytes::from(vec![0; 2 * RING_BYTES_MAX]);
        huge.row = Some(Row { key: huge.key.clone(), value, revision: None, expires_at: None });
        feed.push(vec![(Revision(31), vec![huge])]);
        assert!(feed.subscribe(everything(), Revision(30)).is_ok());
    }
}
