//! The cluster version: what every node understands. Raised as soon as all of them
//! say that they know the next, unless an operator holds it: until it is raised,
//! nodes may go back to the binary that they came from.

use std::sync::Arc;

use cardea_storage::Store;

use crate::{
    directory::{
        DirectoryView,
        edit::{self, EditError},
    },
    member::Member,
};

/// Raises the cluster version if every node knows a newer one and nobody holds it.
pub(super) async fn raise_if_known(member: &Arc<Member>, view: &DirectoryView) {
    let Some(cluster) = &view.cluster else { return };
    let known = edit::version_known(view.nodes.values());
    let next = if cluster.version_held == 0 { known } else { known.min(cluster.version_held) };
    // What is being restored was written under the version that stands.
    if next <= cluster.version || view.is_restoring() {
        return;
    }
    match edit::raise_version(&member.store).await {
        Ok(version) if version > cluster.version => {
            tracing::info!(from = cluster.version, to = version, "the cluster version is raised");
        }
        Ok(_) => {}
        Err(error) => tracing::info!(?error, "the cluster version is raised later"),
    }
}

/// Holds the cluster version where it is, until it is [finalized](finalize): every
/// node may go back to an older binary that knows it. Gives the version.
///
/// # Errors
/// See [`EditError`].
pub async fn hold(store: &Arc<dyn Store>) -> Result<u32, EditError> {
    let held = std::sync::atomic::AtomicU32::new(0);
    edit::change_cluster(store, |cluster| {
        cluster.version_held = cluster.version;
        held.store(cluster.version, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    })
    .await?;
    Ok(held.into_inner())
}

/// Holds the cluster version no longer, and raises it as far as every node goes.
/// Gives what it is then. There is no way back.
///
/// # Errors
/// See [`EditError`].
pub async fn finalize(store: &Arc<dyn Store>) -> Result<u32, EditError> {
    edit::change_cluster(store, |cluster| {
        cluster.version_held = 0;
        Ok(())
    })
    .await?;
    edit::raise_version(store).await
}
