//! The operator's side of a node: the routes under `/cluster` that `cardea
//! status`, `init` and their siblings call, and the port behind them.

pub mod client;
pub mod cluster;
pub mod routes;
pub(crate) mod upkeep;
pub mod wire;

use async_trait::async_trait;
use wire::{
    ApiKeyEntry, Archive, ArchiveReport, ClusterStatus, CreatedApiKey, HoldVersion, Initialized,
    MoveLeader, NewApiKey, RotatedKey, VerifyReport, VersionReport,
};

use crate::{apikey::ApiKeyId, listener::keys::Tenant};

/// Why an operator's request was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// What it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done as things stand (already initialised, the last
    /// voter, not a voter…).
    #[error("{0}")]
    Conflict(String),
    /// It makes no sense.
    #[error("{0}")]
    Malformed(String),
    /// No quorum, no leader, or not yet: nothing was done. Try again.
    #[error("{0}")]
    Unavailable(String),
    /// It has begun, and is not done yet: who asks again goes on with it, or waits for it.
    #[error("{0}")]
    UnderWay(String),
    /// Nobody saw what became of it: it may have been done.
    #[error("{0}")]
    Unknown(String),
    /// A machine failed; trying again does no better.
    #[error("{0}")]
    Failed(String),
}

/// What an operator may ask of a node; implemented over the cluster.
#[async_trait]
pub trait Operator: Send + Sync + 'static {
    /// The cluster as this node sees it; answered without a quorum too.
    async fn status(&self) -> Result<ClusterStatus, Declined>;
    /// Makes a cluster of this node and those that joined it; once.
    async fn init(&self, plan: wire::Init) -> Result<Initialized, Declined>;
    /// Hands a node's leaderships over.
    async fn drain(&self, node: u64) -> Result<(), Declined>;
    /// Takes that back: the node may lead again.
    async fn resume(&self, node: u64) -> Result<(), Declined>;
    /// Moves a node's replicas away and lets it go for good; if forced, although
    /// shards are left with fewer voters than they should have.
    async fn decommission(&self, node: u64, forced: bool) -> Result<(), Declined>;
    /// Hands a shard's leadership to a node.
    async fn move_leader(&self, group: u64, to: MoveLeader) -> Result<(), Declined>;
    /// Says in which region a shard's leader should be.
    async fn set_home(&self, group: u64, home: wire::SetHome) -> Result<(), Declined>;
    /// Holds the cluster version where it is, or lets it be raised as far as every
    /// node goes.
    async fn hold_version(&self, asked: HoldVersion) -> Result<VersionReport, Declined>;
    /// Makes a new key for `purpose` the current one.
    async fn rotate_key(&self, purpose: &str) -> Result<RotatedKey, Declined>;
    /// Makes an API key of a tenant.
    async fn create_api_key(
        &self,
        tenant: Tenant,
        new: NewApiKey,
    ) -> Result<CreatedApiKey, Declined>;
    /// The API keys of a tenant.
    async fn list_api_keys(&self, tenant: Tenant) -> Result<Vec<ApiKeyEntry>, Declined>;
    /// Revokes an API key of a tenant; acknowledged when no node accepts it.
    async fn revoke_api_key(&self, tenant: Tenant, id: ApiKeyId) -> Result<(), Declined>;
    /// Writes a fenced backup.
    async fn backup(&self, archive: Archive) -> Result<ArchiveReport, Declined>;
    /// Fills a new cluster from a backup.
    async fn restore(&self, archive: Archive) -> Result<ArchiveReport, Declined>;
    /// Compares indexes with homes.
    async fn verify(&self, asked: wire::Verify) -> Result<VerifyReport, Declined>;
}
