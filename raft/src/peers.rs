//! Who is where: the seam between the host, which runs groups, and a
//! transport, which carries their calls between nodes.
//!
//! A transport implements [`Transport`] (calls that go out) and serves calls
//! that come in through [`Groups`], which the host implements. It checks that
//! a call is meant for this cluster, this node, and the replica that runs here
//! before it touches the replica.

use std::{path::PathBuf, sync::Arc, time::Duration};

use cardea_storage::Fault;
use openraft::{
    RaftNetworkFactory,
    errors::{Fatal, RaftError},
    raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse},
};

use crate::{
    host::Host,
    ids::{GroupId, NodeId, ReplicaId},
    log::Glance,
    machine::Machine,
    read::{Question, Testimony, Witnesses},
    rest::Rest,
    types::{Beat, Raft, SnapshotData, TypeConfig, Vote},
};

/// Resolves nodes to addresses; kept current by the directory.
pub trait Peers: Send + Sync + 'static {
    /// Where the node-to-node listener of `node` is, as `host:port`; `None` if
    /// the node is unknown.
    fn address(&self, node: NodeId) -> Option<String>;
}

/// Carries the calls of all groups of this node to other nodes.
pub trait Transport: Witnesses {
    /// What openraft gets for one replica.
    type Network: RaftNetworkFactory<
            TypeConfig,
            Network: openraft::network::NetSnapshot<TypeConfig, SnapshotData = SnapshotData>,
        >;

    /// Calls from `replica` of `group`, which has this log, to the other replicas of the
    /// group.
    fn network(&self, group: GroupId, replica: ReplicaId, log: Glance) -> Self::Network;

    /// The smoothed round-trip time to `node`, if measured.
    fn round_trip(&self, node: NodeId) -> Option<Duration> {
        let _ = node;
        None
    }
}

/// What a transport serves. The host implements it.
pub trait Groups: Send + Sync + 'static {
    /// This node.
    fn node(&self) -> NodeId;

    /// The replica of `group` that runs here and accepts calls; `None` while it
    /// is starting, stopped or absent: the caller is told it is unreachable.
    fn replica(&self, group: GroupId) -> Option<Replica>;

    /// Whether the replica of `group` here, if it has this id, is at rest and hears
    /// nothing new by this heartbeat: that is answered with yes, and goes nowhere else.
    fn hears(&self, group: GroupId, replica: ReplicaId, beat: &Beat) -> bool;

    /// What the replica here says about a leader, at once; `None` if no replica of
    /// the group accepts calls.
    fn testify(&self, question: &Question) -> Option<Testimony>;

    /// A stream that `node` had opened for its heartbeats has ended.
    fn hung_up(&self, node: NodeId);

    /// A leader says that its replica here lost a part of its log. Whether that is so;
    /// then the node stops.
    fn has_lost(&self, loss: &Loss) -> bool;
}

/// A replica had confirmed a position to its leader, and said later that its log does
/// not hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The group.
    pub group: GroupId,
    /// The term of the leader who says so.
    pub term: u64,
    /// The leader.
    pub leader: ReplicaId,
    /// The index up to which the replica had confirmed.
    pub index: u64,
}

/// A replica that runs on this node.
#[derive(Clone)]
pub struct Replica {
    /// Its id; a call for another one is refused.
    pub id: ReplicaId,
    /// Where appends, heartbeats that [say something](Groups::hears), and snapshots go. A snapshot is delivered by `install_full_snapshot` with [`SnapshotData::received`].
    pub raft: Raft,
    machine: Arc<dyn Machine>,
    rest: Arc<Rest>,
}

impl Replica {
    /// Is asked for its vote.
    ///
    /// # Errors
    /// Those of openraft's `vote`.
    pub async fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        match self.rest.refuses(&request) {
            Some(refusal) => Ok(refusal),
            None => self.raft.vote(request).await,
        }
    }

    /// Is asked whether it would vote.
    ///
    /// # Errors
    /// Those of openraft's `pre_vote`.
    pub async fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> Result<VoteResponse<TypeConfig>, RaftError<TypeConfig>> {
        match self.rest.refuses(&request) {
            Some(refusal) => Ok(refusal),
            None => self.raft.pre_vote(request).await,
        }
    }

    /// Is told that the leader hands over.
    ///
    /// # Errors
    /// Those of openraft's `handle_transfer_leader`.
    pub async fn hand_over(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, Fatal<TypeConfig>> {
        self.rest.wake();
        self.raft.handle_transfer_leader(request).await
    }

    /// Bytes that may still come to its disk. Blocks.
    pub fn room_bytes(&self) -> Result<u64, Fault> {
        self.machine.room_bytes()
    }

    /// A fresh directory for the files of an incoming snapshot, which are removed unless they
    /// are [installed](SnapshotData::received). Blocks.
    pub fn begin_receive(&self) -> Result<PathBuf, Fault> {
        self.machine.begin_receive()
    }
}

impl Groups for Host {
    fn node(&self) -> NodeId {
        self.node
    }

    fn replica(&self, group: GroupId) -> Option<Replica> {
        if self.alarm.fault().is_some() {
            return None;
        }
        self.group(group).map(|group| Replica {
            id: group.replica,
            raft: group.raft.clone(),
            machine: group.machine.clone(),
            rest: group.rest.clone(),
        })
    }

    fn hears(&self, group: GroupId, replica: ReplicaId, beat: &Beat) -> bool {
        self.alarm.fault().is_none()
            && self
                .group(group)
                .is_some_and(|group| group.replica == replica && group.rest.hears(beat))
    }

    fn testify(&self, question: &Question) -> Option<Testimony> {
        if self.alarm.fault().is_some() {
            return None;
        }
        self.group(question.group).map(|group| group.testify(question))
    }

    fn hung_up(&self, node: NodeId) {
        self.lost(node);
    }

    fn has_lost(&self, loss: &Loss) -> bool {
        let Loss { group, term, leader, index } = *loss;
        let Some(extent) = self.group(group).and_then(|group| group.log.extent()) else {
            return false;
        };
        // Under a higher vote it may have been cut off, as Raft does.
        let told = Vote::new_committed(term, leader);
        let is_superseded = extent.vote.is_some_and(|own| own > told);
        let end = extent.last.map(|last| last.index);
        let is_lost = !is_superseded && end < Some(index);
        if is_lost {
            self.alarm.raise(Fault::new(format!(
                "the log of {group} ends at {}, but this node confirmed entries up to {index}: \
                 its disk lost what it had called durable. Replace this node: decommission it, \
                 and let a new one join",
                end.map_or_else(|| "its beginning".to_owned(), |end| end.to_string()),
            )));
        }
        is_lost
    }
}
