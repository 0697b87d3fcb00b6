//! Following the changes of tuples, as the store's feed tells them.
//!
//! A watch stands behind a snaptoken and gives what follows, in order, what one
//! transaction changed together; each change once. Its own token moves with it, also
//! past what it does not mean. Where the feed no longer holds what follows the token,
//! the watch ends with [`StoreError::TooOld`], and whoever watched lists again.
//!
//! A feed is that of a replica, which may have been cut off without knowing it. So a
//! watch can ask where the graph stands now ([`Watching::frontier`]) and wait until it
//! has come there ([`Watching::next_until`]): then nothing that had been acknowledged
//! before the question is still to come.

use std::{fmt, sync::Arc};

use cardea_storage::{
    Consistency, Fault, KeyRange, Slot, Snaptoken, Store, StoreError, Table, Tenant,
    store::{Change, ReadRequest, Watch},
};
use futures::future::select_all;

use crate::{
    ReadRejection, Service,
    model::{Relationship, Subject, SubjectSet, Tuple, TupleQuery},
    table::{Place, Tuples, read_condition},
};

/// What became of a tuple.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TupleChange {
    /// It is there, as far and as long as it says; nobody is told when it expires.
    Inserted(Relationship),
    /// It is not there any more.
    Deleted(Tuple),
}

impl TupleChange {
    /// The tuple.
    pub fn tuple(&self) -> &Tuple {
        match self {
            Self::Inserted(Relationship { tuple, .. }) | Self::Deleted(tuple) => tuple,
        }
    }
}

/// A watch under way.
pub struct Watching {
    store: Arc<dyn Store>,
    tenant: Tenant,
    filter: TupleQuery,
    feeds: Vec<Feed>,
    token: Snaptoken,
}

/// The changes in one slot.
struct Feed {
    slot: Slot,
    shard: u64,
    changes: Box<dyn Watch>,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching")
            .field("filter", &self.filter)
            .field("token", &self.token)
            .finish()
    }
}

impl Service {
    /// Follows the tuples that a query means, from behind a token; from now on
    /// without one.
    ///
    /// # Errors
    /// See [`ReadRejection`]; [`StoreError::TooOld`] in it if what follows the token is
    /// no longer known here, [`StoreError::BadToken`] if the token does not say where
    /// the graph stood.
    pub async fn watch(
        &self,
        tenant: Tenant,
        filter: TupleQuery,
        after: Option<Snaptoken>,
    ) -> Result<Watching, ReadRejection> {
        filter.validate()?;
        if let Some(token) = &after {
            self.vet(tenant, &Consistency::AtLeast(token.clone())).await?;
        }
        let (held, _) = self.language(tenant, &Consistency::Strong).await?;
        // A namespace never leaves its slot.
        let slots: Vec<Slot> = match &filter.namespace {
            Some(namespace) => vec![held.language.slot(namespace)],
            None => held.language.slots().into_iter().collect(),
        };
        let seen = positions(&*self.store, tenant, &slots, Consistency::Strong).await?;
        let mut token = after.clone().unwrap_or_default();
        let mut feeds = Vec::new();
        for (slot, shard, at) in seen {
            token.incarnation = at.incarnation;
            let from = match &after {
                Some(after) => after.revision(shard).ok_or(StoreError::BadToken)?,
                None => at.revision(shard).ok_or(StoreError::BadToken)?,
            };
            token.note(shard, from);
            let range = range_of(Place { tenant, slot }, &filter);
            feeds.push(Feed { slot, shard, changes: self.store.watch(range, from).await? });
        }
        Ok(Watching { store: self.store.clone(), tenant, filter, feeds, token })
    }
}

impl Watching {
    /// Up to where everything was given.
    pub fn token(&self) -> &Snaptoken {
        &self.token
    }

    /// What the next transaction changed. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    /// [`StoreError::TooOld`] if the watch fell behind what is kept;
    /// [`StoreError::Unavailable`] if it may be taken up again from its token.
    pub async fn next(&mut self) -> Result<Vec<TupleChange>, StoreError> {
        loop {
            let waiting = self.feeds.iter_mut().enumerate();
            let waiting =
                waiting.map(|(at, feed)| Box::pin(async move { (at, feed.changes.next().await) }));
            let ((at, changes), _, _) = select_all(waiting).await;
            let changes = self.take(at, &changes?)?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }

    /// As [`next`](Self::next), but gives nothing once everything up to `until` was
    /// given; the token is at least that then.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_until(&mut self, until: &Snaptoken) -> Result<Vec<TupleChange>, StoreError> {
        for at in 0..self.feeds.len() {
            let feed = &mut self.feeds[at];
            let Some(revision) = until.revision(feed.shard) else { continue };
            loop {
                let changes = self.feeds[at].changes.next_until(revision).await?;
                if changes.is_empty() {
                    self.token.note(self.feeds[at].shard, revision);
                    break;
                }
                let changes = self.take(at, &changes)?;
                if !changes.is_empty() {
                    return Ok(changes);
                }
            }
        }
        Ok(Vec::new())
    }

    /// Where the graph stands, confirmed by a quorum.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn frontier(&self) -> Result<Snaptoken, StoreError> {
        let slots: Vec<Slot> = self.feeds.iter().map(|feed| feed.slot).collect();
        let mut frontier = Snaptoken::default();
        for (_, _, at) in positions(&*self.store, self.tenant, &slots, Consistency::Strong).await? {
            frontier.merge(&at);
        }
        Ok(frontier)
    }

    /// Moves on behind what a feed gave, and picks what is meant.
    fn take(&mut self, at: usize, changes: &[Change]) -> Result<Vec<TupleChange>, Fault> {
        let mut changed = Vec::new();
        for change in changes {
            let Some(key) = Tuples::read_key(&change.key) else { continue };
            if !self.filter.matches(&key.tuple) {
                continue;
            }
            changed.push(match &change.row {
                None => TupleChange::Deleted(key.tuple),
                Some(row) => TupleChange::Inserted(Relationship {
                    tuple: key.tuple,
                    expires_at: row.expires_at,
                    condition: read_condition(row)?,
                }),
            });
        }
        if let Some(change) = changes.last() {
            self.token.note(self.feeds[at].shard, change.revision);
        }
        Ok(changed)
    }
}

/// The shard of each slot, and where it stands.
async fn positions(
    store: &dyn Store,
    tenant: Tenant,
    slots: &[Slot],
    consistency: Consistency,
) -> Result<Vec<(Slot, u64, Snaptoken)>, StoreError> {
    let mut found = Vec::with_capacity(slots.len());
    for slot in slots {
        let nobody = SubjectSet::new("", "", "");
        let place = Place { tenant, slot: *slot };
        let key = place.tuple_key(&nobody, &Subject::Id(String::new()));
        let at = store.read(ReadRequest::new(consistency.clone()).get(key)).await?.snaptoken;
        let shard = at.positions.first().map(|position| position.shard);
        let shard = shard.ok_or_else(|| StoreError::unavailable("a read names no shard"))?;
        found.push((*slot, shard, at));
    }
    Ok(found)
}

/// The rows that the tuples of a filter are among.
fn range_of(place: Place, filter: &TupleQuery) -> KeyRange {
    match (&filter.namespace, &filter.object) {
        (Some(namespace), Some(object)) => place.object(namespace, object),
        (namespace, _) => place.namespace(namespace.as_deref()),
    }
}
