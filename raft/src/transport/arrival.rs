//! Snapshots that arrive: received whole, installed by openraft, and confirmed when what
//! they stand for is durable here.

use std::{sync::Arc, time::Duration};

use openraft::{
    async_runtime::WatchReceiver as _,
    errors::RaftError,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{
    proto::{self, snapshot_chunk::Chunk},
    reception,
    refusal::Refusal,
    service::{Inner, stopped},
    wire::required,
};
use crate::{
    encoding::{self, SnapshotMetaRecord},
    peers::Replica,
    types::{LogId, RaftSnapshot, SnapshotMeta, Vote},
};

impl Inner {
    /// Receives a snapshot whole and has openraft install it.
    pub(super) async fn snapshot(
        self: Arc<Self>,
        mut incoming: Streaming<proto::SnapshotChunk>,
    ) -> Result<proto::SnapshotResponse, Status> {
        let Some(Chunk::Begin(begin)) = self.first(&mut incoming).await?.chunk else {
            return Err(Refusal::Malformed.status("a snapshot does not begin with its begin"));
        };
        let replica = self.replica(begin.route)?;
        let vote: Vote = required(begin.vote, "vote")?.into();
        let meta = snapshot_meta(begin.meta)?;
        // openraft takes this for granted, and stops the process where it is not so.
        if meta.last_log_id.is_none_or(|last| last.leader_id > vote.leader_id) {
            return Err(Refusal::Malformed.status("a snapshot from beyond its leader"));
        }
        let _place = self.room.take(&replica, begin.bytes).await?;
        let receiver = replica.clone();
        let received = reception::receive(
            &mut incoming,
            self.disk.clone(),
            move || receiver.begin_receive(),
            Duration::from_millis(self.settings.chunk_ms_max),
        )
        .await?;

        if !overtaken(&replica, meta.last_log_id.as_ref()).await {
            return Err(Refusal::Stalled.status("the log holds more than this snapshot"));
        }
        let snapshot = RaftSnapshot { meta: meta.clone(), snapshot: received };
        let response = replica
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|fatal| stopped(&fatal))?;
        if response.vote <= vote {
            self.durable(&replica, vote, meta.last_log_id).await?;
        }
        Ok(proto::SnapshotResponse { vote: Some((&response.vote).into()) })
    }

    /// Waits until what the leader with `vote` had this replica take is durable, `last`
    /// among it. openraft says yes at once to a snapshot whose entries it knows to be
    /// committed, though they may not be durable here; the leader would take them for
    /// durable, and never send them again. An append without entries is answered when
    /// they are. Found by simulation.
    async fn durable(
        &self,
        replica: &Replica,
        vote: Vote,
        last: Option<LogId>,
    ) -> Result<(), Status> {
        let (prev_log_id, entries) = (last, Vec::new());
        let append = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit: None };
        let patience = Duration::from_millis(self.settings.chunk_ms_max);
        match timeout(patience, replica.raft.append_entries(append)).await {
            Ok(Ok(AppendEntriesResponse::Success)) => Ok(()),
            Ok(Ok(_)) => Err(Refusal::Stalled.status("another leader writes here")),
            Ok(Err(RaftError::Fatal(fatal))) => Err(stopped(&fatal)),
            Ok(Err(RaftError::APIError(never))) => match never {},
            Err(_) => Err(Refusal::Stalled.status("the log is not durable yet")),
        }
    }
}

/// How long a replica that has the entries of a snapshot may take to hear that they are
/// committed; a few heartbeats.
const OVERTAKEN_MAX: Duration = Duration::from_secs(2);

/// Entries may overtake a snapshot that was sent for want of them. Who has them all needs
/// the snapshot no more: as soon as it hears that they are committed, which it waits for
/// here, openraft leaves the snapshot alone. Found by simulation: openraft does not expect
/// one that ends within the log. Says whether it may have it.
async fn overtaken(replica: &Replica, last: Option<&LogId>) -> bool {
    let metrics = replica.raft.data_metrics();
    let own = metrics.borrow_watched().last_log;
    if own.as_ref() < last {
        return true;
    }
    let heard = async {
        let mut metrics = metrics;
        while metrics.borrow_watched().local_committed.as_ref() < last {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    };
    // Without news, what another leader wrote beyond it may have to go. What the same one
    // wrote goes on from it, and its commit is heard of by the next call.
    let is_heard = timeout(OVERTAKEN_MAX, heard).await.is_ok();
    is_heard
        || own.map(|own| own.leader_id) != last.map(|last| last.leader_id)
        || own == last.copied()
}

fn snapshot_meta(bytes: bytes::Bytes) -> Result<SnapshotMeta, Status> {
    encoding::decode::<SnapshotMetaRecord>("snapshot meta", bytes)
        .and_then(SnapshotMeta::try_from)
        .map_err(|fault| Refusal::Malformed.status(fault.to_string()))
}
