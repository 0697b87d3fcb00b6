//! Deletions by query that may be large: jobs of their own, which go on when the request
//! that began them does not, and at another node when this one does not
//! ([`deletion`](cardea_permission::deletion)). A request is answered when everything is
//! gone. One that was cut off is repeated, at any node: it waits for what is under way for
//! the same query, and goes on with what nobody is at.

use std::{sync::Arc, time::Duration};

use cardea_permission::{TupleQuery, deletion::Deleted};
use cardea_storage::{StoreError, Tenant};
use tokio::sync::Semaphore;

use super::Keto;
use crate::error::ApiError;

/// Most deletions at a time on one node.
const JOBS_MAX: usize = 64;

/// The deletions under way on a node.
#[derive(Debug)]
pub(super) struct Deletions(Arc<Semaphore>);

impl Default for Deletions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(JOBS_MAX)))
    }
}

impl Deletions {
    pub(super) fn under_way(&self) -> usize {
        JOBS_MAX - self.0.available_permits()
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
        let place = self.shared().deletions.0.clone().try_acquire_owned().map_err(|_| {
            ApiError::from(StoreError::Overloaded { retry_after: Duration::from_secs(1) })
        })?;
        let keto = self.clone();
        let job = tokio::spawn(async move {
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
