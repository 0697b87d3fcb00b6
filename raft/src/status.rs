//! What a group looks like from one of its replicas.

use std::collections::BTreeMap;

use openraft::{Instant as _, ServerState};

use crate::{
    ids::{NodeId, ReplicaId},
    machine::Position,
    types::TypeConfig,
};

/// What a replica is to its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// It leads.
    Leader,
    /// It votes and follows.
    Follower,
    /// It seeks to lead.
    Candidate,
    /// It follows without a vote.
    Learner,
    /// It is stopping.
    #[default]
    Stopped,
}

/// A group as one of its replicas sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupStatus {
    /// The replica that sees it so.
    pub replica: ReplicaId,
    /// What it is.
    pub role: Role,
    /// Its term.
    pub term: u64,
    /// The leader it follows, with its node.
    pub leader: Option<(ReplicaId, NodeId)>,
    /// The last index in its log.
    pub last_log: Option<u64>,
    /// The last index that it knows to be committed.
    pub committed: Option<u64>,
    /// The last index that it applied.
    pub applied: Option<u64>,
    /// The last index in its newest snapshot.
    pub snapshot: Option<u64>,
    /// The last index that it purged.
    pub purged: Option<u64>,
    /// Replicas that vote, and their nodes; while a change is under way, those
    /// of the old and of the new configuration.
    pub voters: BTreeMap<ReplicaId, NodeId>,
    /// Replicas that only learn, and their nodes.
    pub learners: BTreeMap<ReplicaId, NodeId>,
    /// Whether a change of voters is under way.
    pub joint: bool,
    /// The entry that said so; the precondition of the next change.
    pub membership_at: Option<Position>,
    /// Whether that entry is committed.
    pub membership_committed: bool,
    /// Whether its clock stands, because nothing has been new for a while.
    pub resting: bool,
    /// At the leader: milliseconds since a quorum was last heard of.
    pub quorum_ack_ms_ago: Option<u64>,
    /// At the leader: how far each replica's log matches its own.
    pub matched: BTreeMap<ReplicaId, Option<u64>>,
}

pub(crate) type Metrics = openraft::RaftMetrics<TypeConfig>;

impl GroupStatus {
    /// From openraft's metrics, and the applied index as the machine has it.
    pub(crate) fn of(metrics: &Metrics, applied: Option<u64>) -> Self {
        let stored = &metrics.membership_config;
        let voters: BTreeMap<_, _> = stored
            .voter_ids()
            .map(|id| (id, stored.get_node(&id).map_or(NodeId(0), |member| member.node)))
            .collect();
        let learners = stored
            .nodes()
            .filter(|(id, _)| !voters.contains_key(id))
            .map(|(id, member)| (*id, member.node))
            .collect();
        let leader = metrics
            .current_leader
            .and_then(|id| stored.get_node(&id).map(|member| (id, member.node)));
        Self {
            replica: metrics.id,
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            term: metrics.current_term,
            leader,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed.map(|id| id.index),
            applied,
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            joint: stored.get_joint_config().len() > 1,
            membership_at: stored.log_id().as_ref().map(Position::from),
            membership_committed: metrics.committed_membership_config.log_id() == stored.log_id(),
            resting: false,
            quorum_ack_ms_ago: metrics
                .last_quorum_acked
                .map(|at| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            matched: metrics
                .replication
                .iter()
                .flatten()
                .map(|(id, matched)| (*id, matched.map(|id| id.index)))
                .collect(),
            voters,
            learners,
        }
    }

    /// Whether this replica leads.
    pub fn leads(&self) -> bool {
        self.role == Role::Leader
    }
}
