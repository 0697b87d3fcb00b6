//! Restore: the rows of a backup, in a new cluster.
//!
//! The cluster was just initialised and holds nothing that a backup would bring.
//! 1. Every file is read through and proved, and the backup's keys are opened
//!    with this node's master key. Up to here nothing was changed.
//! 2. The cluster's row names the backup that is being restored, and the cluster
//!    gets a new incarnation. While it says so, nodes do not serve; once all have
//!    heard of it, what was written meanwhile is looked for again. A restore that
//!    was broken off is taken up by calling it again; one that was only taken for that
//!    ends when the other has.
//! 3. Every group gets a base above every revision in the backup, so that a
//!    revision never means two things: its slots are taken from it and given
//!    back with the base, as they are to a new group.
//! 4. The rows are put, by ordinary transactions, wherever their slots are now.
//!    Flows, codes and counters of messages are left out; a filter of the layer above
//!    revokes sessions and API keys, since revocations made after the cut are unknown.
//! 5. The cluster's row is cleared. A node serves again once its layers are made of
//!    the keys that were restored.
//!
//! Of the old directory only keys and what layers keep there come along: nodes
//! and shards are those of the new cluster. Indexes that were not whole in the backup,
//! or that its version did not know, are built once it is restored.

mod packer;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use cardea_raft::GroupId;
use cardea_storage::{
    Fault, Feature, Index, KeyRange, Revision, Row, Slot, StoreError, Table, Tag, Timestamp,
    engine::Order,
    protocol::shards::{Freshness, ShardId, ShardRead, Terms},
    slot::SLOTS,
    store::{Consistency, Draft, Read, ReadRequest, Scan, Verdict},
    txn::command::{Action, Own},
};
use futures::future::try_join_all;
use prost::Message;

use self::packer::Packer;
use super::backup::{
    Progress,
    archive::{ArchiveError, Manifest, RowReader, read_manifest},
    block,
};
use crate::{
    DIRECTORY,
    directory::{
        ClusterKeys, Indexes,
        edit::{self, EditError},
        index,
        records::{IndexRecord, TAGS},
    },
    keys::{KeyError, Keyrings},
    member::Member,
};

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is restored as it was.
    Keep,
    /// It is left out.
    Drop,
    /// It is restored with another value.
    Replace(Bytes),
}

/// Decides about rows; a pure function of the row.
pub type RowFilter = Arc<dyn Fn(&Row) -> Fate + Send + Sync>;

/// What to restore, and how.
#[derive(Clone)]
pub struct RestorePlan {
    /// The backup's directory, with an absolute path.
    pub directory: PathBuf,
    /// Tables of what must not outlive the cut: flows, codes, counters of messages. Rows of
    /// them may be in the new cluster, too.
    pub transient: Vec<Tag>,
    /// Tables of which the new cluster may hold rows before anything is restored: keys
    /// that its operator made, attempts at accounts that it does not have.
    pub tolerated: Vec<Tag>,
    /// Decides about all other rows: revokes what was given before the cut.
    pub filter: RowFilter,
}

impl std::fmt::Debug for RestorePlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RestorePlan").field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// A restore that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct RestoreReport {
    /// What the backup consisted of.
    pub manifest: Manifest,
    /// Rows put.
    pub restored: u64,
    /// Rows left out: transient, expired, dropped by the filter.
    pub left_out: u64,
    /// Those of them that the filter dropped, by table.
    pub dropped: BTreeMap<Tag, u64>,
}

/// Why nothing, or not everything, was restored.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The master key is another than the backed-up cluster's.
    #[error(
        "the backup's keys are sealed by another master key: start this cluster with that of the one \
         that was backed up"
    )]
    Keys(#[from] KeyError),
    /// The cluster holds data.
    #[error("this cluster holds data ({0}): a backup is restored into a new one")]
    NotEmpty(String),
    /// Another backup was being restored here.
    #[error("another backup is being restored here: finish that one, or make a new cluster")]
    Another,
    /// Who else restored the same backup has come to its end, and the cluster serves.
    #[error("this backup was restored by another call meanwhile")]
    Overtaken,
    /// The cluster's version is older than that of the backup.
    #[error("the backup is of cluster version {backup}, this cluster is of {here}")]
    Version {
        /// The backup's.
        backup: u32,
        /// This cluster's.
        here: u32,
    },
    /// The directory could not be changed.
    #[error("the directory did not answer")]
    Directory(#[from] EditError),
    /// The store could not answer; a restore that has begun goes on when it is
    /// called again.
    #[error("the store did not answer")]
    Store(#[from] StoreError),
    /// The machine failed.
    #[error("the restore failed")]
    Fault(#[from] Fault),
}

/// Transactions under way at once.
const DRAFTS: usize = 8;
/// How often a transaction is tried before the restore gives up.
const TRIES: u32 = 60;
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Slots looked at in one read.
const SLOTS_AT_ONCE: u16 = 128;

/// Restores a backup into this new cluster.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    member: &Arc<Member>,
    plan: &RestorePlan,
    mut progress: impl FnMut(Progress) + Send,
) -> Result<RestoreReport, RestoreError> {
    progress(Progress::Checking);
    let (manifest, indexes) = prove(member, plan).await?;
    let view = member.directory.view();
    let here = view.version();
    if manifest.version > here {
        return Err(RestoreError::Version { backup: manifest.version, here });
    }
    let name = begin(member, plan, &manifest).await?;
    index::build_anew(&member.store, &not_whole(member, here, &indexes)).await?;
    let base = manifest.groups.iter().map(|group| group.revision).max().unwrap_or(0) + 1;
    let groups: Vec<GroupId> =
        view.shards.keys().copied().filter(|group| *group != DIRECTORY).collect();
    try_join_all(groups.iter().map(|group| raise_base(member, *group, base))).await?;
    let mut loader = Loader {
        member,
        plan,
        name: name.clone(),
        restored: 0,
        left_out: 0,
        dropped: BTreeMap::default(),
    };
    for (done, group) in (1..).zip(&manifest.groups) {
        loader.load(&manifest, group.group).await?;
        progress(Progress::Copying {
            groups: done,
            groups_total: manifest.groups.len(),
            rows: loader.restored + loader.left_out,
            bytes: manifest.groups.iter().take(done).map(|group| group.bytes).sum(),
        });
    }
    let Loader { restored, left_out, dropped, .. } = loader;
    let ended = clear(member, &name).await?;
    member.acknowledged_everywhere(ended).await;
    tracing::info!(restored, left_out, "a backup was restored");
    Ok(RestoreReport { manifest, restored, left_out, dropped })
}

/// Step 1.
async fn prove(
    member: &Arc<Member>,
    plan: &RestorePlan,
) -> Result<(Manifest, BTreeMap<Tag, IndexRecord>), RestoreError> {
    let (disk, directory) = (member.disk.clone(), plan.directory.clone());
    let master = member.master.clone();
    let proved = cardea_raft::blocking::spawn(move || {
        let manifest = read_manifest(disk.as_ref(), &directory)?;
        let (mut keys, mut indexes) = (BTreeMap::new(), BTreeMap::new());
        for entry in &manifest.groups {
            let mut reader = RowReader::open(disk.as_ref(), &directory, entry)?;
            while let Some(rows) = reader.next_block()? {
                for row in rows.iter().filter(|row| row.key.tag() == ClusterKeys::TAG) {
                    let row = ClusterKeys::decode(row)?;
                    keys.insert(row.key, row.record);
                }
                for row in rows.iter().filter(|row| row.key.tag() == Indexes::TAG) {
                    let row = Indexes::decode(row)?;
                    indexes.insert(row.key.0, row.record);
                }
            }
        }
        Keyrings::open(&master, &keys)?;
        Ok::<_, RestoreError>((manifest, indexes))
    });
    proved.await.map_err(|error| Fault::caused("read a backup", error))?
}

/// The indexes that are not whole in a backup, by the rows that it has of them.
fn not_whole(member: &Member, version: u32, rows: &BTreeMap<Tag, IndexRecord>) -> Vec<Tag> {
    if version < Feature::Indexes.since() {
        return Vec::new();
    }
    let known = member.indexing.rules.indexes();
    let lacks = |found: &&Index| !index::is_whole(found, rows.get(&found.tag));
    known.iter().filter(lacks).map(|index| index.tag).collect()
}

/// Step 2. Gives the name under which the cluster's row knows the backup.
async fn begin(
    member: &Arc<Member>,
    plan: &RestorePlan,
    manifest: &Manifest,
) -> Result<Bytes, RestoreError> {
    let name = Bytes::copy_from_slice(blake3::hash(&manifest.encode_to_vec()).as_bytes());
    member.refresh_directory().await;
    let restoring = member.directory.view().cluster.clone().unwrap_or_default().restoring;
    if restoring == name {
        return Ok(name);
    }
    if !restoring.is_empty() {
        return Err(RestoreError::Another);
    }
    if let Some(found) = find_data(member, plan).await? {
        return Err(RestoreError::NotEmpty(found));
    }
    let begun = edit::change_cluster(&member.store, |cluster| {
        if !cluster.restoring.is_empty() && cluster.restoring != name {
            return Err(EditError::Conflict("another backup is being restored here".to_owned()));
        }
        if cluster.restoring.is_empty() {
            cluster.incarnation = cluster.incarnation.max(manifest.incarnation) + 1;
        }
        cluster.restoring = name.clone();
        Ok(())
    })
    .await?;
    member.refresh_directory().await;
    member.acknowledged_everywhere(begun).await;
    // A node that had not heard of it yet may have served somebody.
    if let Some(found) = find_data(member, plan).await? {
        clear(member, &name).await?;
        return Err(RestoreError::NotEmpty(found));
    }
    Ok(name)
}

/// Step 5. Gives the revision from which on the restore is over.
async fn clear(member: &Arc<Member>, name: &Bytes) -> Result<Revision, RestoreError> {
    let cleared = edit::change_cluster(&member.store, |cluster| {
        if cluster.restoring == *name {
            cluster.restoring = Bytes::new();
        }
        Ok(())
    });
    let cleared = cleared.await?;
    member.refresh_directory().await;
    Ok(cleared)
}

/// The kind of some row that a new cluster would not have.
async fn find_data(
    member: &Arc<Member>,
    plan: &RestorePlan,
) -> Result<Option<String>, RestoreError> {
    let tolerated: BTreeSet<Tag> = plan.transient.iter().chain(&plan.tolerated).copied().collect();
    let spaces = cardea_storage::Space::ALL
        .into_iter()
        .filter(|space| *space != cardea_storage::Space::Directory);
    for space in spaces {
        for first in (0..SLOTS).step_by(usize::from(SLOTS_AT_ONCE)) {
            let mut request = ReadRequest::new(Consistency::Strong);
            request.reads = (first..first + SLOTS_AT_ONCE)
                .map(|number| {
                    let slot = Slot::new(space, number).bits();
                    let range = KeyRange::prefix(&slot.to_be_bytes());
                    Read::Scan(Scan { range, limit: 1_000, order: Order::Forward })
                })
                .collect();
            let seen = member.store.read(request).await?;
            let mut rows = seen.results.into_iter().flat_map(|rows| rows.rows);
            if let Some(row) = rows.find(|row| !tolerated.contains(&row.key.tag())) {
                return Ok(Some(format!("{} in {}", row.key.tag(), row.key.slot())));
            }
        }
    }
    Ok(None)
}

/// Step 3: has a group count its revisions from above `base`.
async fn raise_base(member: &Arc<Member>, group: GroupId, base: u64) -> Result<(), RestoreError> {
    edit::change_shard(&member.store, group, |shard| {
        shard.base = shard.base.max(base);
        Ok(())
    })
    .await?;
    for _ in 0..TRIES {
        let read = ShardRead { reads: Vec::new(), fates: Vec::new(), freshness: Freshness::Strong };
        let seen = member.shards.read(ShardId(group.0), read).await;
        if let Ok(Some(seen)) = seen {
            if seen.revision.0 > base {
                return Ok(());
            }
            // Without slots it is given them anew by its leader, with the base of
            // its row, or with an older one if the row has not arrived there yet.
            let nothing = Action::Own(Own { ranges: Vec::new(), base: 0 });
            let taken = member.shards.propose(ShardId(group.0), nothing, Terms::BYPASS).await;
            if let Err(error) = taken {
                tracing::debug!(%group, %error, "the base is not raised yet");
            }
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
    Err(StoreError::unavailable(format!("{group} did not take its new base")).into())
}

/// Puts rows.
struct Loader<'a> {
    member: &'a Arc<Member>,
    plan: &'a RestorePlan,
    name: Bytes,
    restored: u64,
    left_out: u64,
    dropped: BTreeMap<Tag, u64>,
}

impl Loader<'_> {
    async fn load(&mut self, manifest: &Manifest, group: u64) -> Result<(), RestoreError> {
        let Some(entry) = manifest.groups.iter().find(|entry| entry.group == group) else {
            return Ok(());
        };
        let (disk, directory) = (self.member.disk.clone(), self.plan.directory.clone());
        let entry = entry.clone();
        let opened = cardea_raft::blocking::spawn(move || {
            RowReader::open(disk.as_ref(), &directory, &entry)
        });
        let mut reader = opened.await.map_err(|error| Fault::caused("open a backup", error))??;
        let now = self.member.clock.now();
        let mut drafts: Vec<Draft> = Vec::new();
        let mut packer = Packer::default();
        loop {
            let read = block(move || Ok((reader.next_block(), reader))).await?;
            let rows = read.0?;
            reader = read.1;
            let Some(rows) = rows else { break };
            for row in rows {
                match self.fate(&row, now) {
                    Fate::Drop => {
                        self.left_out += 1;
                        continue;
                    }
                    Fate::Keep => {
                        drafts.extend(packer.put(&row, row.value.clone(), self.home(&row)?))
                    }
                    Fate::Replace(value) => {
                        drafts.extend(packer.put(&row, value, self.home(&row)?))
                    }
                }
                self.restored += 1;
                if drafts.len() >= DRAFTS {
                    self.commit(std::mem::take(&mut drafts)).await?;
                }
            }
        }
        drafts.extend(packer.end());
        self.commit(drafts).await
    }

    fn home(&self, row: &Row) -> Result<ShardId, StoreError> {
        self.member.shards.locate(row.key.slot())
    }

    fn fate(&mut self, row: &Row, now: Timestamp) -> Fate {
        let tag = row.key.tag();
        let expired = row.expires_at.is_some_and(|at| at <= now);
        let of_the_old_cluster = TAGS.contains(&tag) && tag != ClusterKeys::TAG;
        if expired || of_the_old_cluster || self.plan.transient.contains(&tag) {
            return Fate::Drop;
        }
        if tag == ClusterKeys::TAG {
            return Fate::Keep;
        }
        let fate = (self.plan.filter)(row);
        if fate == Fate::Drop {
            *self.dropped.entry(tag).or_default() += 1;
        }
        fate
    }

    async fn commit(&self, drafts: Vec<Draft>) -> Result<(), RestoreError> {
        try_join_all(drafts.into_iter().map(|draft| self.commit_one(draft))).await.map(drop)
    }

    /// Puts say the same however often they are made.
    async fn commit_one(&self, draft: Draft) -> Result<(), RestoreError> {
        let mut last = StoreError::unavailable("the directory is not confirmed");
        for _ in 0..TRIES {
            if self.is_under_way()? {
                match self.member.store.commit(draft.clone()).await {
                    Ok(Verdict::Committed(_)) => return Ok(()),
                    Ok(Verdict::Conflict) => {}
                    Err(
                        error @ (StoreError::Unavailable { .. }
                        | StoreError::Overloaded { .. }
                        | StoreError::Contended { .. }
                        | StoreError::Unknown),
                    ) => last = error,
                    Err(error) => return Err(error.into()),
                }
            }
            tokio::time::sleep(RETRY_AFTER).await;
        }
        Err(last.into())
    }

    /// Whether rows may be put now. Once the restore is over they would replace what was
    /// written since.
    fn is_under_way(&self) -> Result<bool, RestoreError> {
        let directory = &self.member.directory;
        // In this order: the view may be newer than what is confirmed, and never older.
        let is_confirmed = directory.is_confirmed();
        let view = directory.view();
        let named = view.cluster.as_ref().is_some_and(|cluster| cluster.restoring == self.name);
        if named || !is_confirmed {
            Ok(named && is_confirmed)
        } else {
            Err(RestoreError::Overtaken)
        }
    }
}
