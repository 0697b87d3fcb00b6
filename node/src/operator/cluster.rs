//! The operator's requests, done by the cluster.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cardea_cluster::{
    GroupId, KeyPurpose, NodeId, OpenError, OperationError,
    directory::edit::EditError,
    life,
    member::Member,
    runtime::status::{self, NodeHealth},
};
use cardea_storage::{StoreError, Timestamp};

use super::{
    Declined, Operator, upkeep,
    wire::{
        ApiKeyEntry, Archive, ArchiveReport, ClusterStatus, CreatedApiKey, HoldVersion,
        IndexStatus, Init, Initialized, MoveLeader, NewApiKey, NodeState, NodeStatus,
        ReplicaStatus, RotatedKey, SetHome, ShardStatus, Verify, VerifyReport, VersionReport,
    },
};
use crate::{
    apikey::{
        ApiKeyId,
        store::{KeptKey, KeyStore},
    },
    backend::Backend,
    listener::keys::Tenant,
};

/// Does what operators ask.
pub struct ClusterOperator {
    backend: Arc<Backend>,
    keys: Arc<KeyStore>,
}

impl ClusterOperator {
    /// For a node and the API keys of its store.
    pub fn new(backend: Arc<Backend>, keys: Arc<KeyStore>) -> Self {
        Self { backend, keys }
    }

    fn member(&self) -> Result<Arc<Member>, Declined> {
        self.backend.node().member().ok_or_else(|| {
            Declined::Unavailable("This node does not belong to an initialised cluster.".to_owned())
        })
    }
}

#[async_trait]
impl Operator for ClusterOperator {
    async fn status(&self) -> Result<ClusterStatus, Declined> {
        Ok(shown(self.backend.node().status()))
    }

    async fn init(&self, plan: Init) -> Result<Initialized, Declined> {
        match self.backend.init(plan).await {
            Ok(cluster) => Ok(Initialized { cluster_id: cluster.to_string() }),
            Err(error @ OpenError::Plan(_)) => Err(Declined::Malformed(sentence(&error))),
            Err(error @ (OpenError::AlreadyMember(_) | OpenError::MadeElsewhere(_))) => {
                Err(Declined::Conflict(sentence(&error)))
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "no cluster was made");
                Err(match &error {
                    OpenError::Fault(_) => Declined::Failed(sentence(&error)),
                    _ => Declined::UnderWay(sentence(&error)),
                })
            }
        }
    }

    async fn drain(&self, node: u64) -> Result<(), Declined> {
        upkeep::drain(&self.member()?, node).await
    }

    async fn resume(&self, node: u64) -> Result<(), Declined> {
        upkeep::resume(&self.member()?, node).await
    }

    async fn decommission(&self, node: u64, forced: bool) -> Result<(), Declined> {
        upkeep::decommission(&self.member()?, node, forced).await
    }

    async fn move_leader(&self, group: u64, to: MoveLeader) -> Result<(), Declined> {
        let moved = self.backend.node().move_leader(GroupId(group), NodeId(to.to_node)).await;
        moved.map_err(operation_declined)
    }

    async fn set_home(&self, group: u64, home: SetHome) -> Result<(), Declined> {
        let region = home.region.unwrap_or_default();
        let set = self.backend.node().set_home_region(GroupId(group), &region).await;
        set.map_err(edit_declined)?;
        tracing::info!(group, region, "a shard has a new home");
        Ok(())
    }

    async fn hold_version(&self, asked: HoldVersion) -> Result<VersionReport, Declined> {
        let member = self.member()?;
        let version = match asked.held {
            true => life::version::hold(member.store()).await,
            false => life::version::finalize(member.store()).await,
        };
        let version = version.map_err(edit_declined)?;
        tracing::info!(version, held = asked.held, "an operator decided on the cluster version");
        Ok(VersionReport { version, held: asked.held })
    }

    async fn rotate_key(&self, purpose: &str) -> Result<RotatedKey, Declined> {
        let Some(known) = KeyPurpose::from_name(purpose) else {
            return Err(Declined::NotFound(format!("There is no key for \"{purpose}\".")));
        };
        let id = self.backend.node().rotate_key(known).await.map_err(edit_declined)?;
        Ok(RotatedKey { purpose: purpose.to_owned(), key_id: id.0 })
    }

    async fn create_api_key(
        &self,
        tenant: Tenant,
        new: NewApiKey,
    ) -> Result<CreatedApiKey, Declined> {
        let lifespan = new.lifespan_ms.map(Duration::from_millis);
        let created = self.keys.create(tenant, &new.name, &new.scopes, lifespan).await;
        let (key, kept) = created.map_err(store_declined)?;
        tracing::info!(id = %kept.id, scopes = kept.scopes.join(","), "an API key was made");
        Ok(CreatedApiKey { entry: entry(kept), key: key.reveal().to_string() })
    }

    async fn list_api_keys(&self, tenant: Tenant) -> Result<Vec<ApiKeyEntry>, Declined> {
        let keys = self.keys.list(tenant).await.map_err(store_declined)?;
        Ok(keys.into_iter().map(entry).collect())
    }

    async fn revoke_api_key(&self, tenant: Tenant, id: ApiKeyId) -> Result<(), Declined> {
        if self.keys.revoke(tenant, id).await.map_err(store_declined)? {
            tracing::info!(%id, "an API key was revoked");
            Ok(())
        } else {
            Err(Declined::NotFound(format!("There is no API key {id}.")))
        }
    }

    async fn backup(&self, archive: Archive) -> Result<ArchiveReport, Declined> {
        upkeep::back_up(&self.member()?, archive).await
    }

    async fn restore(&self, archive: Archive) -> Result<ArchiveReport, Declined> {
        let member = self.member()?;
        let now = member.store().clock().now();
        upkeep::restore(&member, archive, now).await
    }

    async fn verify(&self, asked: Verify) -> Result<VerifyReport, Declined> {
        upkeep::verify(&self.member()?, asked).await
    }
}

fn shown(status: status::ClusterStatus) -> ClusterStatus {
    ClusterStatus {
        name: status.name,
        cluster_id: status.cluster_id,
        version: status.version,
        version_known: status.version_known,
        version_held: status.version_held,
        answered_by: status.answered_by,
        nodes: status.nodes.into_iter().map(shown_node).collect(),
        shards: status.shards.into_iter().map(shown_shard).collect(),
        indexes: status.indexes.into_iter().map(shown_index).collect(),
    }
}

fn shown_node(node: status::NodeStatus) -> NodeStatus {
    NodeStatus {
        id: node.id,
        address: node.address,
        region: node.region,
        zone: (!node.zone.is_empty()).then_some(node.zone),
        state: match node.health {
            NodeHealth::Joining => NodeState::Joining,
            NodeHealth::Live => NodeState::Live,
            NodeHealth::Dead => NodeState::Dead,
            NodeHealth::Draining => NodeState::Drained,
            NodeHealth::Decommissioning => NodeState::Decommissioning,
            NodeHealth::Decommissioned => NodeState::Decommissioned,
        },
        version: node.binary_version,
        version_max: node.version_max,
        replicas: node.replicas,
        leaders: node.leaders,
        clock_offset_ms: node.clock_ahead_ms,
        disk_used_bytes: node.disk_used_bytes,
        disk_free_bytes: node.disk_free_bytes.filter(|free| *free != u64::MAX),
        disk_hangs: node.disk_hangs,
        memory_bytes: node.memory_bytes,
        silent_ms: node.silent_ms,
    }
}

fn shown_index(index: status::IndexStatus) -> IndexStatus {
    IndexStatus {
        name: index.name,
        whole: index.whole,
        progress: index.progress,
        since: index.since.map(|at| rfc3339(Timestamp(at))),
    }
}

fn shown_shard(shard: status::ShardStatus) -> ShardStatus {
    ShardStatus {
        group: shard.group,
        space: shard.space.to_owned(),
        first_slot: shard.first_slot,
        last_slot: shard.last_slot,
        home_region: (!shard.home_region.is_empty()).then_some(shard.home_region),
        leader: shard.leader,
        term: shard.term,
        committed: shard.committed,
        voters_wanted: shard.voters_wanted,
        replicas: shard
            .replicas
            .into_iter()
            .map(|replica| ReplicaStatus {
                node: replica.node,
                voter: replica.voter,
                matched: replica.applied,
            })
            .collect(),
    }
}

fn entry(kept: KeptKey) -> ApiKeyEntry {
    ApiKeyEntry {
        id: kept.id.to_string(),
        name: kept.name,
        scopes: kept.scopes,
        created_at: rfc3339(kept.created_at),
        expires_at: kept.expires_at.map(rfc3339),
    }
}

pub(super) fn rfc3339(time: Timestamp) -> String {
    let ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// An error as a sentence, with what caused it.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let told = cause.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        source = cause.source();
    }
    let begins = text.split([' ', ',', ':']).next().unwrap_or_default();
    // A name, of a file or of a shard, stays as it is.
    let is_word = begins.bytes().all(|byte| byte.is_ascii_alphabetic() || b"'-".contains(&byte));
    if let Some(first) = text.get(..1).filter(|_| is_word).map(str::to_uppercase) {
        text.replace_range(..1, &first);
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

pub(super) fn operation_declined(error: OperationError) -> Declined {
    match &error {
        OperationError::NotFound(_) => Declined::NotFound(sentence(&error)),
        OperationError::Conflict(_) => Declined::Conflict(sentence(&error)),
        OperationError::Malformed(_) => Declined::Malformed(sentence(&error)),
        OperationError::Unknown(_) => Declined::Unknown(sentence(&error)),
        OperationError::Unavailable(_) | OperationError::NotLeader(_) => {
            Declined::Unavailable(sentence(&error))
        }
    }
}

fn edit_declined(error: EditError) -> Declined {
    match &error {
        EditError::NotFound(_) => Declined::NotFound(sentence(&error)),
        EditError::Conflict(_) | EditError::TooOld { .. } => Declined::Conflict(sentence(&error)),
        EditError::Store(StoreError::Unknown) => Declined::Unknown(unknown()),
        EditError::Store(_) => Declined::Unavailable(sentence(&error)),
    }
}

pub(super) fn store_declined(error: StoreError) -> Declined {
    tracing::warn!(%error, "the store did not answer an operator");
    match error {
        StoreError::Unknown => Declined::Unknown(unknown()),
        error => Declined::Unavailable(sentence(&error)),
    }
}

fn unknown() -> String {
    "Nobody saw whether it was done: look before you do it again.".to_owned()
}

#[cfg(test)]
mod tests {
    use cardea_cluster::life::BackupError;
    use cardea_storage::Fault;

    use super::*;

    #[test]
    fn moments_are_written_as_rfc_3339() {
        assert_eq!(rfc3339(Timestamp(1_800_000_000_123)), "2027-01-15T08:00:00.123Z");
    }

    #[test]
    fn what_an_operator_is_told_is_a_sentence() {
        let error = OperationError::NotFound("there is no shard 9".to_owned());
        assert_eq!(
            operation_declined(error),
            Declined::NotFound("There is no shard 9.".to_owned())
        );
        let damaged = Fault::new("g2.rows is damaged");
        assert_eq!(sentence(&damaged), "g2.rows is damaged.", "it is a file");
        let disk = std::io::Error::other("permission denied");
        let fault = Fault::caused("/b cannot be made", disk);
        assert_eq!(
            sentence(&BackupError::from(fault)),
            "The backup could not be written: /b cannot be made: permission denied."
        );
        let overloaded = StoreError::unavailable("no quorum");
        let told = sentence(&EditError::from(overloaded));
        assert!(told.contains("no quorum") && told.ends_with('.'), "{told}");
    }

    #[test]
    fn what_may_have_been_done_is_not_said_to_have_failed() {
        for declined in [
            store_declined(StoreError::Unknown),
            edit_declined(StoreError::Unknown.into()),
            operation_declined(OperationError::Unknown("no answer".to_owned())),
        ] {
            assert!(matches!(declined, Declined::Unknown(_)), "{declined:?}");
        }
        for declined in [
            store_declined(StoreError::unavailable("no quorum")),
            edit_declined(StoreError::unavailable("no quorum").into()),
            operation_declined(OperationError::NotLeader(None)),
        ] {
            assert!(matches!(declined, Declined::Unavailable(_)), "{declined:?}");
        }
    }
}
