//! What a node does for the backup of one group that it has a replica of.
//!
//! - *look*: after a read index, whether the fence still holds and nothing
//!   prepared is left
//! - *cut*: after a read index, a checkpoint of the tablet beside its snapshots, unless
//!   the fence is lifted by then; one that a crash leaves is cleaned away at the next opening
//! - *export*: the checkpoint's rows into the archive
//! - *discard*: the checkpoint goes

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use cardea_raft::GroupId;
use cardea_storage::{
    Fault,
    engine::{EngineOptions, Purpose},
    machine::{
        Machine,
        view::{Outstanding, TabletView},
    },
    planted::{self, Bug},
};
use prost::Message;

use super::archive::{GroupEntry, RowWriter, Written, file_of};
use crate::{member::Member, replica::Replica, service::operations::OperationError};

/// Actions that nodes ask each other for.
pub(super) const LOOK: &str = "backup.look";
pub(super) const CUT: &str = "backup.cut";
pub(super) const EXPORT: &str = "backup.export";
pub(super) const DISCARD: &str = "backup.discard";

/// Outstanding transactions looked at.
const OUTSTANDING_MAX: usize = 10_000;

/// The body of every action here.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Ask {
    #[prost(uint64, tag = "1")]
    pub(super) group: u64,
    /// The fence that the backup set; no other backup sets the same.
    #[prost(uint64, tag = "2")]
    pub(super) fence_until: u64,
    #[prost(string, tag = "3")]
    pub(super) directory: String,
}

/// The answer to [`LOOK`].
#[derive(Clone, PartialEq, Message)]
pub(super) struct Looked {
    /// The fence is the one that was asked about, and has not lapsed.
    #[prost(bool, tag = "1")]
    pub(super) fenced: bool,
    /// Prepared transactions.
    #[prost(uint64, tag = "2")]
    pub(super) prepared: u64,
}

/// Does an action; `None` if it is none of those here.
pub(crate) async fn operate(
    member: &Arc<Member>,
    action: &str,
    body: &Bytes,
) -> Option<Result<Bytes, OperationError>> {
    if ![LOOK, CUT, EXPORT, DISCARD].contains(&action) {
        return None;
    }
    let Ok(ask) = Ask::decode(body.clone()) else {
        return Some(Err(OperationError::Malformed("the body is not understood".to_owned())));
    };
    let Some(replica) = member.replica(GroupId(ask.group)) else {
        let reason = format!("node {} has no replica of g{}", member.node(), ask.group);
        return Some(Err(OperationError::Unavailable(reason)));
    };
    Some(match action {
        LOOK => look(member, replica, ask).await.map(|looked| looked.encode_to_vec().into()),
        CUT => cut(member, replica, ask).await.map(|()| Bytes::new()),
        EXPORT => export(member, replica, ask).await.map(|entry| entry.encode_to_vec().into()),
        _ => discard(member, replica, ask).await.map(|()| Bytes::new()),
    })
}

async fn look(member: &Member, replica: Arc<Replica>, ask: Ask) -> Result<Looked, OperationError> {
    barrier(member, &replica).await?;
    block(move || look_at(&replica.machine().view()?, ask.fence_until)).await
}

fn look_at(view: &TabletView, fence_until: u64) -> Result<Looked, Fault> {
    if planted::is(Bug::BackupUnfenced) {
        return Ok(Looked { fenced: true, prepared: 0 });
    }
    let state = view.state();
    let outstanding = view.outstanding(OUTSTANDING_MAX)?;
    // A decision that waits for its acknowledgements holds no row back.
    let prepared =
        outstanding.iter().filter(|item| matches!(item, Outstanding::Prepared { .. })).count();
    Ok(Looked {
        fenced: state.fence_until == fence_until && state.now < fence_until,
        prepared: prepared as u64,
    })
}

async fn cut(member: &Member, replica: Arc<Replica>, ask: Ask) -> Result<(), OperationError> {
    // Everything that other groups finished before this question is here after it.
    barrier(member, &replica).await?;
    block(move || {
        let name = name(&ask);
        replica.tablet().remove_snapshot(&name)?;
        replica.tablet().checkpoint(&name)?;
        // Of a backup that is over by now nobody discards it later.
        match look_at(&replica.machine().view()?, ask.fence_until)?.fenced {
            true => Ok(()),
            false => replica.tablet().remove_snapshot(&name),
        }
    })
    .await
}

async fn export(
    member: &Member,
    replica: Arc<Replica>,
    ask: Ask,
) -> Result<GroupEntry, OperationError> {
    let disk = member.disk.clone();
    let view = member.directory.view();
    let shard = view.shards.get(&GroupId(ask.group)).cloned().unwrap_or_default();
    block(move || {
        let path = replica.tablet().snapshot_path(&name(&ask))?;
        let options = EngineOptions { purpose: Purpose::Tablet, retention: None };
        let machine = Machine::open(disk.open(&path, options)?)?;
        let view = machine.view()?;
        let looked = look_at(&view, ask.fence_until)?;
        if !looked.fenced || looked.prepared != 0 {
            return Err(Fault::new("the checkpoint of a backup is not what was looked at"));
        }
        let state = view.state().clone();
        let file = PathBuf::from(&ask.directory).join(file_of(ask.group));
        let mut writer = RowWriter::create(disk.as_ref(), &file)?;
        view.each_row(state.time(), |row| writer.row(&row))?;
        let Written { rows, bytes, checksum } = writer.finish()?;
        Ok(GroupEntry {
            group: ask.group,
            ranges: state.ranges.clone(),
            base: state.base,
            revision: state.revision().0,
            log_time: state.now,
            rows,
            bytes,
            checksum,
            file: file_of(ask.group),
            home_region: shard.home_region,
            placement: shard.placement,
        })
    })
    .await
}

async fn discard(member: &Member, replica: Arc<Replica>, ask: Ask) -> Result<(), OperationError> {
    // Where the fence is known to be lifted, a cut that is still under way removes what it made.
    if let Err(error) = barrier(member, &replica).await {
        tracing::debug!(%error, "a checkpoint is discarded all the same");
    }
    block(move || replica.tablet().remove_snapshot(&name(&ask))).await
}

/// The checkpoint's name.
fn name(ask: &Ask) -> String {
    format!("backup-{}", ask.fence_until)
}

async fn barrier(member: &Member, replica: &Replica) -> Result<(), OperationError> {
    let read = member.host().read_barrier(replica.group()).await;
    read.map(drop).map_err(|error| {
        OperationError::Unavailable(format!("{} cannot be read now: {error}", replica.group()))
    })
}

/// Blocks elsewhere. What fails here fails the backup, not the node.
async fn block<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, OperationError> {
    let done = cardea_raft::blocking::spawn(call).await;
    let done = done.map_err(|error| OperationError::Unavailable(error.to_string()))?;
    done.map_err(|fault| OperationError::Unavailable(chain(&fault)))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
