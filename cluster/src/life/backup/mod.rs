//! Backup: a fenced copy of everything, made while serving.
//!
//! 1. Every group logs a fence: new prepares are refused there until a log time
//!    that no other backup chooses; who is refused tries again later.
//! 2. Every group is looked at until nothing prepared is left in it. From then
//!    on no transaction over several shards is half way anywhere.
//! 3. Every group is cut: a checkpoint, after a read index asked for then, so
//!    that it holds what others finished.
//! 4. Every group is looked at again: had a fence lapsed or been replaced, a
//!    transaction may have gone through between two cuts, and the backup fails.
//! 5. The fences are lifted. They were up for as long as the slowest checkpoint.
//! 6. The checkpoints' rows are written into the archive; the manifest last.
//!
//! Rows alone are kept: no locks, no receipts, no Raft. What is sealed stays
//! sealed; the master key is not in it. A group without a replica on this node is
//! written by its leader's node, into the same directory, which must then be
//! shared.

pub mod archive;
pub(crate) mod cut;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::{GroupId, NodeId};
use cardea_storage::{
    Fault, StoreError, Timestamp,
    planted::{self, Bug},
    protocol::shards::{ShardId, Terms},
    txn::{
        Outcome,
        command::{Action, Fence},
    },
};
use futures::future::{join_all, try_join_all};
use prost::Message;
use tokio::runtime::Handle;

use self::{
    archive::{GroupEntry, Manifest},
    cut::{Ask, Looked},
};
use crate::{member::Member, runtime::operate, service::operations::OperationError};

/// Between two looks at a group that has prepared transactions.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Fences differ by this many milliseconds at most, so that no two are the same.
const JITTER_MS: u64 = 1_000;
/// How long somebody to lead a group is waited for, and how often it is asked.
const ELECTION_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long past the fence transactions that nobody ends are waited for.
const PATIENCE_MS: u64 = 15_000;

/// What to back up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupPlan {
    /// A directory that is empty or does not exist, with an absolute path.
    pub directory: PathBuf,
    /// How long the fence holds, by log time: at least as long as transactions
    /// and checkpoints take. 30 s suits.
    pub fence: Duration,
}

impl BackupPlan {
    /// To this directory, with the usual fence.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), fence: Duration::from_secs(30) }
    }
}

/// How far a backup or a restore has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Fences go up.
    Fencing,
    /// Transactions that were under way are waited for.
    Settling {
        /// Those that are left.
        prepared: u64,
    },
    /// Checkpoints are made.
    Cutting,
    /// Files are read through before anything is done.
    Checking,
    /// Rows are copied.
    Copying {
        /// Groups done.
        groups: usize,
        /// Groups in all.
        groups_total: usize,
        /// Rows done.
        rows: u64,
        /// Bytes done.
        bytes: u64,
    },
}

/// For the log.
impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fencing => f.write_str("fences go up"),
            Self::Settling { prepared } => write!(f, "{prepared} transactions are waited for"),
            Self::Cutting => f.write_str("checkpoints are made"),
            Self::Checking => f.write_str("files are read through"),
            Self::Copying { groups, groups_total, rows, bytes } => {
                write!(f, "{groups} of {groups_total} shards, {rows} rows, {bytes} bytes")
            }
        }
    }
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct BackupReport {
    /// Where it is.
    pub directory: PathBuf,
    /// What it consists of.
    pub manifest: Manifest,
    /// Bytes in it.
    pub bytes: u64,
    /// Rows in it.
    pub rows: u64,
}

/// Why there is no backup.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BackupError {
    /// The directory holds something.
    #[error("{0} is not empty: a backup wants a new directory")]
    NotEmpty(String),
    /// The path is relative: nodes would take it for different places.
    #[error("the directory must be an absolute path, for every node; found {0}")]
    Relative(String),
    /// A fence lapsed, or another backup replaced it, before everything was cut.
    #[error("the fence of {0} lapsed before the backup was cut: try again, or fence for longer")]
    Lapsed(GroupId),
    /// The directory of the cluster is not known now.
    #[error("the cluster's directory is not confirmed now")]
    Unconfirmed,
    /// A shard is not known to be formed yet: what it holds would be left out.
    #[error("{0} is not known to be formed yet")]
    Unformed(GroupId),
    /// A group could not be asked, fenced, cut or exported.
    #[error("{group} could not be backed up: {reason}")]
    Group {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// The disk failed.
    #[error("the backup could not be written")]
    Fault(#[from] Fault),
}

/// Makes a backup of the whole cluster.
///
/// # Errors
/// See [`BackupError`]; what was written then is no backup, for it has no
/// manifest. Fences are lifted in any case, or lapse.
pub async fn back_up(
    member: &Arc<Member>,
    plan: &BackupPlan,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<BackupReport, BackupError> {
    let directory = &plan.directory;
    if !directory.is_absolute() {
        return Err(BackupError::Relative(directory.display().to_string()));
    }
    prepare_directory(member, directory).await?;
    if !member.refresh_directory().await {
        return Err(BackupError::Unconfirmed);
    }
    // It may serve before its row says that it is formed.
    let view = member.directory.view();
    if let Some((group, _)) = view.shards.iter().find(|(_, shard)| !shard.formed) {
        return Err(BackupError::Unformed(*group));
    }
    progress(Progress::Fencing);
    let cutter = Arc::new(Cutter::new(member, plan));
    let hold = Hold(Some(cutter.clone()));
    let cut = cutter.cut(&mut progress).await;
    cutter.lift().await;
    let exported = match cut {
        Ok(cut_at) => cutter.export(&mut progress).await.map(|groups| (cut_at, groups)),
        Err(error) => Err(error),
    };
    cutter.discard().await;
    hold.end();
    let (cut_at, groups) = exported?;
    let view = member.directory.view();
    let cluster = view.cluster.clone().unwrap_or_default();
    let manifest = Manifest {
        form: archive::FORM,
        cluster: cluster.id,
        cluster_name: cluster.name,
        incarnation: cluster.incarnation,
        version: cluster.version,
        cut_at: cut_at.0,
        groups,
    };
    let (disk, at, written) = (member.disk.clone(), directory.clone(), manifest.clone());
    block(move || archive::write_manifest(disk.as_ref(), &at, &written)).await?;
    let bytes = manifest.groups.iter().map(|group| group.bytes).sum();
    let rows = manifest.groups.iter().map(|group| group.rows).sum();
    tracing::info!(at = %directory.display(), rows, bytes, "a backup was made");
    Ok(BackupReport { directory: directory.clone(), manifest, bytes, rows })
}

async fn prepare_directory(member: &Member, directory: &Path) -> Result<(), BackupError> {
    let (disk, at) = (member.disk.clone(), directory.to_path_buf());
    let found = block(move || {
        let found = disk.list(&at)?;
        disk.create_directory(&at).map(|()| found)
    });
    match found.await? {
        found if found.is_empty() => Ok(()),
        _ => Err(BackupError::NotEmpty(directory.display().to_string())),
    }
}

/// Takes a backup's hold off the groups when whoever waited for it has gone away: fences
/// would stand until they lapse, and checkpoints keep their room until a restart.
struct Hold(Option<Arc<Cutter>>);

impl Hold {
    /// It was taken off as it should be.
    fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let (Some(cutter), Ok(runtime)) = (self.0.take(), Handle::try_current()) else { return };
        tracing::warn!(at = cutter.directory, "a backup was broken off");
        let stopping = cutter.member.stopping().clone();
        drop(runtime.spawn(async move {
            let take_off = async {
                cutter.lift().await;
                cutter.discard().await;
                // A fence that was on its way when the first look was taken is there by now.
                cutter.lift().await;
            };
            tokio::select! {
                () = stopping.cancelled() => {}
                () = take_off => {}
            }
        }));
    }
}

/// One backup's hold on the groups.
struct Cutter {
    member: Arc<Member>,
    /// The groups, and the node that looks, cuts and exports for each.
    holders: BTreeMap<GroupId, NodeId>,
    fence_until: u64,
    directory: String,
}

impl Cutter {
    fn new(member: &Arc<Member>, plan: &BackupPlan) -> Self {
        let view = member.directory.view();
        let holder = |group: &GroupId| {
            if member.replica(*group).is_some() {
                Some(member.node())
            } else {
                member.leader_of(*group)
            }
        };
        let holders = view
            .shards
            .keys()
            .map(|group| (*group, holder(group).unwrap_or(member.node())))
            .collect();
        let until = member.clock().now().after(plan.fence).0;
        Self {
            member: member.clone(),
            holders,
            fence_until: until + member.entropy().as_ref().below(JITTER_MS),
            directory: plan.directory.display().to_string(),
        }
    }

    /// Steps 1 to 4.
    async fn cut(
        &self,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Timestamp, BackupError> {
        try_join_all(self.holders.keys().map(|group| self.fence(*group))).await?;
        loop {
            let prepared: u64 = self.look_at_all().await?.iter().sum();
            if prepared == 0 {
                break;
            }
            progress(Progress::Settling { prepared });
            // Log time stands still in an idle shard; patience does not.
            let now = self.member.clock().now();
            if now.0 > self.fence_until + PATIENCE_MS {
                let group = self.holders.keys().next().copied().unwrap_or_default();
                return Err(BackupError::Lapsed(group));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        progress(Progress::Cutting);
        let cut_at = self.member.clock().now();
        try_join_all(self.holders.keys().map(|group| self.ask(*group, cut::CUT))).await?;
        self.look_at_all().await?;
        Ok(cut_at)
    }

    /// Has a group refuse new prepares.
    async fn fence(&self, group: GroupId) -> Result<(), BackupError> {
        if planted::is(Bug::BackupUnfenced) {
            return Ok(());
        }
        let action = || Action::Fence(Fence { until: self.fence_until });
        let shard = ShardId(group.0);
        let clock = self.member.clock();
        let given_up = clock.monotonic() + ELECTION_MAX;
        loop {
            let answer = self.member.shards().propose(shard, action(), Terms::BYPASS).await;
            return match answer {
                Ok(Outcome::Committed { time, .. }) if time.0 < self.fence_until => Ok(()),
                Ok(Outcome::Committed { .. }) => Err(BackupError::Lapsed(group)),
                Ok(other) => Err(failed(group, format!("it answered {other:?} to the fence"))),
                // Perhaps fenced: then looking at it will tell.
                Err(StoreError::Unknown) => Ok(()),
                // The same fence twice is one.
                Err(StoreError::Unavailable { .. }) if clock.monotonic() < given_up => {
                    tokio::time::sleep(RETRY_AFTER).await;
                    continue;
                }
                Err(error) => Err(failed(group, error.to_string())),
            };
        }
    }

    /// Prepared transactions of each group.
    async fn look_at_all(&self) -> Result<Vec<u64>, BackupError> {
        try_join_all(self.holders.keys().map(|group| async move {
            let answer = self.ask(*group, cut::LOOK).await?;
            let looked =
                Looked::decode(answer).map_err(|error| failed(*group, error.to_string()))?;
            if looked.fenced { Ok(looked.prepared) } else { Err(BackupError::Lapsed(*group)) }
        }))
        .await
    }

    /// Lifts the fences that are still ours.
    async fn lift(&self) {
        join_all(self.holders.keys().map(|group| async move {
            let ours = match self.ask(*group, cut::LOOK).await.map(Looked::decode) {
                Ok(Ok(looked)) => looked.fenced,
                _ => true,
            };
            if !ours {
                return;
            }
            let action = Action::Fence(Fence { until: 0 });
            let shard = ShardId(group.0);
            let lifted = self.member.shards().propose(shard, action, Terms::BYPASS).await;
            if let Err(error) = lifted {
                tracing::warn!(%group, %error, "a fence stays until it lapses");
            }
        }))
        .await;
    }

    /// Step 6, one group after another.
    async fn export(
        &self,
        progress: &mut (impl FnMut(Progress) + Send),
    ) -> Result<Vec<GroupEntry>, BackupError> {
        let mut entries: Vec<GroupEntry> = Vec::new();
        for group in self.holders.keys() {
            let answer = self.ask(*group, cut::EXPORT).await?;
            let entry =
                GroupEntry::decode(answer).map_err(|error| failed(*group, error.to_string()))?;
            self.prove_there(*group, &entry).await?;
            entries.push(entry);
            progress(Progress::Copying {
                groups: entries.len(),
                groups_total: self.holders.len(),
                rows: entries.iter().map(|entry| entry.rows).sum(),
                bytes: entries.iter().map(|entry| entry.bytes).sum(),
            });
        }
        Ok(entries)
    }

    /// What another node wrote must be where the manifest will be.
    async fn prove_there(&self, group: GroupId, entry: &GroupEntry) -> Result<(), BackupError> {
        let (disk, file) = (self.member.disk.clone(), entry.file.clone());
        let at = PathBuf::from(&self.directory);
        let listed = block(move || disk.list(&at)).await?;
        if listed.contains(&file) {
            return Ok(());
        }
        let holder = self.holders.get(&group).copied().unwrap_or_default();
        Err(failed(
            group,
            format!(
                "node {holder} wrote it to its own {}: this node has no replica of it, so the \
                 directory must be shared",
                self.directory
            ),
        ))
    }

    async fn discard(&self) {
        join_all(self.holders.keys().map(|group| async move {
            if let Err(error) = self.ask(*group, cut::DISCARD).await {
                tracing::warn!(%group, %error, "a checkpoint stays until its node restarts");
            }
        }))
        .await;
    }

    async fn ask(&self, group: GroupId, action: &str) -> Result<Bytes, BackupError> {
        let holder = self.holders.get(&group).copied().unwrap_or(self.member.node());
        let ask = Ask {
            group: group.0,
            fence_until: self.fence_until,
            directory: self.directory.clone(),
        };
        let done = operate::operate(&self.member, holder, action, ask.encode_to_vec().into()).await;
        done.map_err(|error: OperationError| failed(group, error.to_string()))
    }
}

fn failed(group: GroupId, reason: impl Into<String>) -> BackupError {
    BackupError::Group { group, reason: reason.into() }
}

pub(super) async fn block<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    cardea_raft::blocking::spawn(call)
        .await
        .map_err(|error| Fault::caused("a blocking call of the backup", error))?
}
