//! Departures, backups, restores and verification, as operators ask for them: the
//! cluster does the work, the identity layer says what its rows mean.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cardea_cluster::{
    NodeId, OperationError,
    life::{
        self, BackupError, BackupPlan, IndexRules, Mending, Pace, RestoreError, RestorePlan,
        restore::Fate,
        verify::{self, Problem},
    },
    member::Member,
};
use cardea_identity::upkeep;
use cardea_storage::{Index, IndexRow, Key, Row, Tag, Timestamp, version::VERSION_MAX};

use super::{
    Declined,
    cluster::{operation_declined, rfc3339, sentence, store_declined},
    wire::{Archive, ArchiveReport, Verify, VerifyReport},
};

/// How long a drain is waited for.
const DRAIN_WITHIN: Duration = Duration::from_secs(15);
/// How long a decommission is waited for; it goes on behind the answer.
const DECOMMISSION_WITHIN: Duration = Duration::from_secs(25);

/// What the layers know of their indexes.
pub(crate) struct LayerRules;

impl IndexRules for LayerRules {
    fn indexes(&self) -> Vec<Index> {
        upkeep::INDEXES.to_vec()
    }

    fn expected(&self, row: &Row) -> Option<Vec<IndexRow>> {
        upkeep::expected_index_rows(row)
    }

    fn leads_to(&self, row: &Row) -> Option<Vec<Key>> {
        upkeep::leads_to(row)
    }
}

/// Has a node hand its leads over.
pub(super) async fn drain(member: &Arc<Member>, node: u64) -> Result<(), Declined> {
    life::drain(member, NodeId(node), DRAIN_WITHIN).await.map_err(operation_declined)
}

/// Lets a node go for good.
pub(super) async fn decommission(
    member: &Arc<Member>,
    node: u64,
    forced: bool,
) -> Result<(), Declined> {
    let node = NodeId(node);
    let gone = life::decommission(member, node, forced, DECOMMISSION_WITHIN, |departing| {
        let (leads, replicas) = (departing.leads, departing.replicas);
        tracing::info!(%node, leads, replicas, "a node is leaving");
    });
    match gone.await {
        Err(OperationError::Unavailable(reason)) => Err(Declined::Unavailable(format!(
            "Not done yet, and going on: {reason}. Ask again to wait for it."
        ))),
        other => other.map_err(operation_declined),
    }
}

/// Writes a backup.
pub(super) async fn back_up(
    member: &Arc<Member>,
    archive: Archive,
) -> Result<ArchiveReport, Declined> {
    let plan = BackupPlan::new(PathBuf::from(&archive.directory));
    let report = life::back_up(member, &plan, |step| tracing::info!(?step, "backup")).await;
    let report = report.map_err(|error| match &error {
        BackupError::NotEmpty(_) => Declined::Conflict(sentence(&error)),
        BackupError::Relative(_) => Declined::Malformed(sentence(&error)),
        _ => Declined::Unavailable(sentence(&error)),
    })?;
    tracing::info!(rows = report.rows, bytes = report.bytes, "a backup was written");
    Ok(ArchiveReport {
        directory: archive.directory,
        cut_at: rfc3339(Timestamp(report.manifest.cut_at)),
        shards: u32::try_from(report.manifest.groups.len()).unwrap_or(u32::MAX),
        bytes: report.bytes,
    })
}

/// Fills this cluster, which must be new, from a backup. Sessions made before the
/// cut are revoked, for what was revoked after it is unknown.
pub(super) async fn restore(
    member: &Arc<Member>,
    archive: Archive,
    now: Timestamp,
) -> Result<ArchiveReport, Declined> {
    let keep_sessions = archive.keep_sessions;
    let plan = RestorePlan {
        directory: PathBuf::from(&archive.directory),
        transient: upkeep::TRANSIENT.to_vec(),
        tolerated: vec![Tag::API_KEY],
        filter: Arc::new(move |row: &Row| {
            if keep_sessions {
                return Fate::Keep;
            }
            upkeep::revoked_session(row, now).map_or(Fate::Keep, Fate::Replace)
        }),
    };
    let report = life::restore(member, &plan, |step| tracing::info!(?step, "restore")).await;
    let report = report.map_err(|error| match &error {
        RestoreError::NotEmpty(_) | RestoreError::Another => Declined::Conflict(sentence(&error)),
        RestoreError::Archive(_) | RestoreError::Keys(_) => Declined::Malformed(sentence(&error)),
        _ => Declined::Unavailable(sentence(&error)),
    })?;
    tracing::info!(rows = report.restored, left_out = report.left_out, "a backup was restored");
    Ok(ArchiveReport {
        directory: archive.directory,
        cut_at: rfc3339(Timestamp(report.manifest.cut_at)),
        shards: u32::try_from(report.manifest.groups.len()).unwrap_or(u32::MAX),
        bytes: 0,
    })
}

/// Compares indexes with homes, and replicas with each other.
pub(super) async fn verify(member: &Arc<Member>, asked: Verify) -> Result<VerifyReport, Declined> {
    let version = member.directory().view().version();
    if asked.fill && version < VERSION_MAX {
        // A node that does not know an index leaves its rows behind.
        return Err(Declined::Conflict(format!(
            "The cluster is at version {version}, and this node knows {VERSION_MAX}: end the upgrade first."
        )));
    }
    let mending = if asked.fill { Mending::Missing } else { Mending::None };
    let report = verify::verify(member, &LayerRules, Pace::default(), mending, |_, _| {}).await;
    let report = report.map_err(store_declined)?;
    if report.filled > 0 {
        tracing::info!(rows = report.filled, "index rows that were missing are filled");
    }
    let problems = report.problems.iter().map(in_words).collect();
    Ok(VerifyReport {
        index_rows: report.index_rows,
        homes: report.records,
        filled: report.filled,
        left_out: report.left_out,
        problems,
    })
}

fn in_words(problem: &Problem) -> String {
    match problem {
        Problem::Missing { record, index } => {
            format!("record {record} lacks its index row {index}")
        }
        Problem::Differs { record, index } => {
            format!("index row {index} says something else than record {record}")
        }
        Problem::Dangling { index, record } => {
            format!("index row {index} leads to {record}, which does not expect it")
        }
        Problem::Digest { group, index, nodes } => {
            format!("replicas of shard {group} differ at index {index}: nodes {nodes:?}")
        }
    }
}
