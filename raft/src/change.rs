//! Changes of a group: who votes, who leads, when to snapshot and purge.
//!
//! A change of membership names the membership entry that it was decided on;
//! if another change came first, it is refused and must be decided anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use openraft::{
    ChangeMembers,
    async_runtime::WatchReceiver as _,
    errors::{ClientWriteError, InitializeError, RaftError},
    raft::Precondition,
};
use tokio::time::timeout;

use crate::{
    group::Group,
    host::Host,
    ids::{GroupId, NodeId, ReplicaId},
    keeper,
    machine::Position,
    propose::leader_named,
    types::{LogId, Member, TypeConfig},
};

/// How long whoever begins to follow may wait for a snapshot that is taken for it.
const SHORTEN_MS_MAX: u64 = 5_000;

/// Why a group was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// This replica does not lead.
    #[error("this node does not lead the group")]
    NotLeader {
        /// The node of the leader, if known.
        leader: Option<NodeId>,
    },
    /// The membership is not the one the change was decided on.
    #[error("the membership has changed meanwhile")]
    Outdated,
    /// Another change is under way, or this one makes no sense: the text says.
    #[error("the change is refused: {0}")]
    Refused(String),
    /// Nobody knows whether it was made.
    #[error("the outcome is unknown")]
    Unknown,
    /// No replica of the group runs here.
    #[error("no replica of the group runs on this node")]
    NoGroup,
    /// The replica or the host has stopped.
    #[error("the replica has stopped")]
    Stopped,
}

impl From<RaftError<TypeConfig, ClientWriteError<TypeConfig>>> for ChangeError {
    fn from(error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> Self {
        match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
                Self::NotLeader { leader: leader_named(&forward) }
            }
            RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => Self::Outdated,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(refusal)) => {
                Self::Refused(refusal.to_string())
            }
            RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) | RaftError::Fatal(_) => {
                Self::Unknown
            }
        }
    }
}

impl Group {
    pub(crate) async fn initialize(
        &self,
        members: BTreeMap<ReplicaId, NodeId>,
    ) -> Result<(), ChangeError> {
        let members: BTreeMap<_, _> =
            members.into_iter().map(|(id, node)| (id, Member { node })).collect();
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(RaftError::APIError(refusal @ InitializeError::NotInMembers(_))) => {
                Err(ChangeError::Refused(refusal.to_string()))
            }
            Err(RaftError::Fatal(_)) => Err(ChangeError::Stopped),
        }
    }

    async fn change(
        &self,
        change: ChangeMembers<ReplicaId, Member>,
        retain: bool,
        decided_on: Option<Position>,
    ) -> Result<Position, ChangeError> {
        let precondition = Precondition::LastMembershipLogId {
            last_membership_log_id: decided_on.map(Into::into),
        };
        let changed = self.raft.change_membership_if(change, retain, [precondition]);
        match timeout(self.settings.proposal_time(), changed).await {
            Err(_) => Err(ChangeError::Unknown),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(response)) => Ok(Position::from(&response.log_id)),
        }
    }

    /// Who begins to follow is sent the last snapshot and every entry behind it, which may be
    /// as much again, and has to be applied. Sees to it that this is little, if that can be
    /// done soon.
    async fn shorten_log(self: &Arc<Self>) {
        let (entries, bytes) = self.progress.since_snapshot();
        let leads = self.status().leader.is_some_and(|(id, _)| id == self.replica);
        let little = bytes <= self.settings.bytes_kept && entries <= self.settings.entries_kept;
        if little || !leads {
            return;
        }
        let Some(applied) = self.progress.applied() else { return };
        let soon = Duration::from_millis(SHORTEN_MS_MAX);
        let shortened = timeout(soon, async {
            keeper::begin_snapshot(self).await.ok()?;
            let mut metrics = self.raft.metrics();
            let taken = |at: Option<LogId>| at.is_some_and(|id| id.index >= applied);
            while !taken(metrics.borrow_watched().snapshot) {
                metrics.changed().await.ok()?;
            }
            keeper::purge_if_long(self).await;
            Some(())
        });
        if shortened.await.ok().flatten().is_none() {
            tracing::debug!(group = %self.id, "who follows is given the log from far behind");
        }
    }

    async fn transfer_leader(&self, to: ReplicaId) -> Result<(), ChangeError> {
        let mut watcher = self.status.subscribe();
        let status = self.status();
        match status.leader {
            Some((leader, _)) if leader == to => return Ok(()),
            Some((leader, _)) if leader == self.replica => {}
            leader => return Err(ChangeError::NotLeader { leader: leader.map(|(_, node)| node) }),
        }
        if !status.voters.contains_key(&to) {
            return Err(ChangeError::Refused(format!("{to} does not vote")));
        }
        self.raft.trigger().transfer_leader(to).await.map_err(|_| ChangeError::Stopped)?;
        let leads = watcher.wait_for(|status| status.leader.is_some_and(|(id, _)| id == to));
        let limit = Duration::from_millis(4 * self.settings.timing.election_ms_max);
        match timeout(limit, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ChangeError::Stopped),
            Err(_) => Err(ChangeError::Unknown),
        }
    }
}

impl Host {
    /// Adds a replica that learns; it votes only after
    /// [`change_voters`](Self::change_voters). Where the log is long, a snapshot is taken
    /// first, with which the replica begins. `decided_on` is
    /// [`membership_at`](crate::GroupStatus::membership_at). Gives the position
    /// of the new membership.
    pub async fn add_learner(
        &self,
        group: GroupId,
        replica: ReplicaId,
        node: NodeId,
        decided_on: Option<Position>,
    ) -> Result<Position, ChangeError> {
        let running = self.running(group)?;
        running.shorten_log().await;
        let change = ChangeMembers::AddNodes(BTreeMap::from([(replica, Member { node })]));
        running.change(change, true, decided_on).await
    }

    /// Makes exactly `voters` vote, by way of a joint membership if more than
    /// one changes; who voted before and does not now leaves the group, learners
    /// stay. Called again with the same voters it ends a change that was
    /// interrupted half way.
    pub async fn change_voters(
        &self,
        group: GroupId,
        voters: BTreeSet<ReplicaId>,
        decided_on: Option<Position>,
    ) -> Result<Position, ChangeError> {
        let change = ChangeMembers::ReplaceAllVoters(voters);
        self.running(group)?.change(change, false, decided_on).await
    }

    /// Removes replicas that only learn.
    pub async fn remove_learners(
        &self,
        group: GroupId,
        learners: BTreeSet<ReplicaId>,
        decided_on: Option<Position>,
    ) -> Result<Position, ChangeError> {
        let change = ChangeMembers::RemoveNodes(learners);
        self.running(group)?.change(change, false, decided_on).await
    }

    /// Hands the lead to another voter, and waits until it leads.
    pub async fn transfer_leader(&self, group: GroupId, to: ReplicaId) -> Result<(), ChangeError> {
        self.running(group)?.transfer_leader(to).await
    }

    /// Seeks to lead a group, if its voters find that it may.
    pub async fn campaign(&self, group: GroupId) -> Result<(), ChangeError> {
        let running = self.running(group)?;
        running.raft.trigger().elect(true).await.map_err(|_| ChangeError::Stopped)
    }

    /// Has a snapshot of the group taken here soon.
    pub async fn trigger_snapshot(&self, group: GroupId) -> Result<(), ChangeError> {
        let running = self.running(group)?;
        running.raft.trigger().snapshot().await.map_err(|_| ChangeError::Stopped)
    }

    /// Has the log here purged up to `index`, as far as a snapshot holds it and
    /// no replication needs it, nor who is being sent a snapshot.
    pub async fn purge(&self, group: GroupId, index: u64) -> Result<(), ChangeError> {
        let running = self.running(group)?;
        if keeper::let_go(&running, index).await { Ok(()) } else { Err(ChangeError::Stopped) }
    }
}
