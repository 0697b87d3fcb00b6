//! Deletions by query that may be large: jobs of their own, which go on when the
//! request that began them does not. Up to a bound a deletion is one transaction; what
//! is larger goes in pieces. A request is answered when everything is gone. One that
//! was cut off is repeated, here or at another node: it waits for what is still under
//! way for the same query here, and goes on with what is left.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use cardea_permission::{TupleQuery, write::Deleted};
use cardea_storage::{StoreError, Tenant};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Keto;
use crate::error::ApiError;

/// Most deletions at a time on one node.
const JOBS_MAX: usize = 64;

type Turn = tokio::sync::Mutex<()>;

/// The deletions under way on a node.
#[derive(Debug)]
pub(super) struct Deletions {
    places: Arc<Semaphore>,
    turns: Mutex<BTreeMap<(Tenant, TupleQuery), Weak<Turn>>>,
}

impl Default for Deletions {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(JOBS_MAX)), turns: Mutex::default() }
    }
}

impl Deletions {
    pub(super) fn under_way(&self) -> usize {
        JOBS_MAX - self.places.available_permits()
    }

    /// What deletions of the same tuples take in turn.
    fn turn(&self, tenant: Tenant, query: &TupleQuery) -> Arc<Turn> {
        let mut turns = self.turns.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        let known = turns.entry((tenant, query.clone())).or_default();
        known.upgrade().unwrap_or_else(|| {
            let turn = Arc::default();
            *known = Arc::downgrade(&turn);
            turn
        })
    }
}

impl Keto {
    /// Deletes what a query means; goes on if the caller goes away.
    ///
    /// # Errors
    /// See [`ReadRejection`](cardea_permission::ReadRejection).
    pub(super) async fn delete_tuples(
        &self,
        tenant: Tenant,
        query: TupleQuery,
    ) -> Result<Deleted, ApiError> {
        let deletions = &self.shared().deletions;
        let place = deletions.places.clone().try_acquire_owned().map_err(|_| {
            ApiError::from(StoreError::Overloaded { retry_after: Duration::from_secs(1) })
        })?;
        let turn = deletions.turn(tenant, &query);
        let keto = self.clone();
        let job = tokio::spawn(async move {
            let _turn = turn.lock().await;
            let _place = place;
            keto.service().delete_tuples(tenant, &query).await
        });
        match job.await {
            Ok(done) => done.map_err(ApiError::from),
            Err(error) => {
                tracing::error!(%error, "a deletion of relation tuples broke off");
                Err(ApiError::outcome_unknown())
            }
        }
    }
}
