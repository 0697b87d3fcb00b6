//! Where replicas and leaders should be: a pure function from a picture of the
//! cluster to the next few steps.
//!
//! 1. A shard that is on its way (a replica that is to vote does not yet, one
//!    that is to leave is still there) is left alone but for what cannot arrive;
//!    the leader of the group ends what was begun, whoever began it.
//! 2. Voters on nodes that are gone or leaving are replaced: a learner first,
//!    and when it has caught up one joint change swaps it for the old one.
//! 3. Then the number of voters is put right, then their spread over regions and
//!    zones, then the load of nodes.
//! 4. Leaders go where the shard's home is, off nodes that drain, and evenly over
//!    nodes; one that has just come is not sent on, and a node that has just lost
//!    one is given none.
//!
//! No step is taken that the voters who are alive now could not carry: a
//! majority of the old and of the new voters must be there. Nothing here knows a
//! clock, a network, or what an action costs; [`crate::life`] carries it out.

mod leaders;
mod picture;
mod spread;
mod voters;

use std::{collections::BTreeMap, fmt};

use cardea_raft::{GroupId, NodeId, ReplicaId};

use crate::directory::records::{NodeState, PlacementRecord, ReplicaRole};

pub(crate) use self::picture::leader;
pub use self::{
    picture::{Observed, picture},
    voters::voters_wanted,
};

/// A node as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePicture {
    /// Its region.
    pub region: String,
    /// Its zone; may be empty.
    pub zone: String,
    /// What it is to the cluster.
    pub state: NodeState,
    /// Milliseconds since something was heard of it; 0 for the observer itself.
    pub silent_ms: u64,
    /// Whether it hands leaderships over and takes none, whatever its row says.
    pub draining: bool,
    /// Whether its disk hangs, or did lately.
    pub disk_hangs: bool,
    /// Whether its disk has less room than its reserve.
    pub disk_full: bool,
    /// Milliseconds since another took a leadership that it had not handed over, if the
    /// planner has seen that.
    pub deposed_ms: Option<u64>,
}

/// A replica as the planner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaPicture {
    /// Its id.
    pub id: ReplicaId,
    /// The node that holds it.
    pub node: NodeId,
    /// What it is meant to be.
    pub role: ReplicaRole,
    /// Whether it votes, as far as known.
    pub votes: bool,
    /// Whether it has nearly everything that the leader committed.
    pub caught_up: bool,
    /// Milliseconds that its node has answered without naming it: it does not
    /// run there, because its state was lost.
    pub missing_ms: u64,
}

/// A shard as the planner sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardPicture {
    /// Where its replicas should be.
    pub placement: PlacementRecord,
    /// Where its leader should be; empty: anywhere.
    pub home_region: String,
    /// Its replicas.
    pub replicas: Vec<ReplicaPicture>,
    /// The node that leads it, if known.
    pub leader: Option<NodeId>,
    /// Milliseconds that the planner has seen this node lead.
    pub led_ms: u64,
    /// The generation of the row that this was read from.
    pub generation: u64,
    /// Whether the group was formed.
    pub formed: bool,
}

/// The cluster as the planner sees it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Picture {
    /// Its nodes, without those that have left.
    pub nodes: BTreeMap<NodeId, NodePicture>,
    /// Its shards, the directory among them.
    pub shards: BTreeMap<GroupId, ShardPicture>,
}

/// The planner's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// A node heard of this long ago or less is alive.
    pub alive_ms_max: u64,
    /// A node silent for longer is replaced.
    pub dead_after_ms: u64,
    /// Shards whose replicas change at the same time, at most.
    pub changes_max: usize,
    /// Leaders moved in one round, at most.
    pub leader_moves_max: usize,
    /// A leader that has led for less than this is not sent on for balance.
    pub leader_rest_ms: u64,
    /// A node that lost a leadership less than this ago is given none for balance: one whose
    /// links come and go would lose it again.
    pub leader_trust_ms: u64,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            alive_ms_max: 3_000,
            dead_after_ms: 5 * 60_000,
            changes_max: 8,
            leader_moves_max: 2,
            leader_rest_ms: 10_000,
            leader_trust_ms: 60_000,
        }
    }
}

/// What a replica is to be from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoleChange {
    /// The replica.
    pub replica: ReplicaId,
    /// What it is to be.
    pub role: ReplicaRole,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give a shard a learner on a node.
    AddReplica {
        /// The shard.
        group: GroupId,
        /// The generation of the row that this was decided on.
        generation: u64,
        /// Where.
        node: NodeId,
    },
    /// Say what replicas are to be, all at once.
    SetRoles {
        /// The shard.
        group: GroupId,
        /// The generation of the row that this was decided on.
        generation: u64,
        /// Which, and what.
        changes: Vec<RoleChange>,
    },
    /// Hand a lead over.
    MoveLeader {
        /// The shard.
        group: GroupId,
        /// Who leads it now.
        from: NodeId,
        /// Who shall.
        to: NodeId,
    },
    /// A node that was to go holds nothing any more: it has left.
    Leave {
        /// The node.
        node: NodeId,
    },
}

/// For the log: what an operator reads beside `cardea status`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddReplica { group, node, .. } => write!(f, "{group} gets a replica on {node}"),
            Self::SetRoles { group, changes, .. } => {
                for (at, RoleChange { replica, role }) in changes.iter().enumerate() {
                    let before = if at == 0 { format!("{group}: ") } else { ", ".to_owned() };
                    let role = match role {
                        ReplicaRole::Voter => "votes",
                        ReplicaRole::Learner => "follows without a vote",
                        ReplicaRole::Leaving => "goes",
                        ReplicaRole::Unspecified => "is nothing yet",
                    };
                    write!(f, "{before}{replica} {role}")?;
                }
                Ok(())
            }
            Self::MoveLeader { group, from, to } => {
                write!(f, "{group}: {from} hands its leadership to {to}")
            }
            Self::Leave { node } => write!(f, "{node} has left"),
        }
    }
}

impl Picture {
    /// Whether a node answers now.
    pub(crate) fn is_alive(&self, node: NodeId, rules: &Rules) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.silent_ms <= rules.alive_ms_max)
    }

    /// Whether replicas may stay on a node: it is not to go, and not long gone.
    fn keeps(&self, node: NodeId, rules: &Rules) -> bool {
        self.nodes.get(&node).is_some_and(|node| {
            matches!(node.state, NodeState::Live | NodeState::Draining | NodeState::Joining)
                && node.silent_ms <= rules.dead_after_ms
        })
    }

    /// Whether a node is to come back, however long it is silent. One that never joined is
    /// waited for no longer than a replica is.
    fn is_expected(&self, node: NodeId, rules: &Rules) -> bool {
        self.keeps(node, rules)
            || self
                .nodes
                .get(&node)
                .is_some_and(|node| matches!(node.state, NodeState::Live | NodeState::Draining))
    }

    /// Whether a node may get replicas now.
    fn takes(&self, node: NodeId, rules: &Rules) -> bool {
        let disk_is_well = |node: &NodePicture| !node.disk_hangs && !node.disk_full;
        self.fills(node, rules) && self.nodes.get(&node).is_some_and(disk_is_well)
    }

    /// Whether a node goes on with replicas that it was given. A disk that hangs does not
    /// keep it from that: filling them is what a disk may be too slow for, and whoever
    /// begins anew each time never ends. Nor does one that is full: what does not fit is
    /// refused there, and what has come already may stay.
    fn fills(&self, node: NodeId, rules: &Rules) -> bool {
        self.is_alive(node, rules)
            && self
                .nodes
                .get(&node)
                .is_some_and(|node| node.state == NodeState::Live && !node.draining)
    }

    /// Whether a node has not lost a leadership lately.
    fn is_trusted(&self, node: NodeId, rules: &Rules) -> bool {
        let deposed_ms = self.nodes.get(&node).and_then(|node| node.deposed_ms);
        deposed_ms.is_none_or(|ms| ms >= rules.leader_trust_ms)
    }

    /// Whether a node may lead. One whose disk is full refuses to write what it leads, and
    /// others could.
    fn may_lead(&self, node: NodeId, rules: &Rules) -> bool {
        self.takes(node, rules)
    }
}

/// The next steps, most urgent first; all may be taken at once.
pub fn plan(picture: &Picture, rules: &Rules) -> Vec<Step> {
    let mut steps = voters::plan(picture, rules);
    let leaders = leaders::plan(picture, rules, &steps);
    steps.extend(leaders);
    steps.extend(departures(picture));
    steps
}

/// Nodes that were to go and hold nothing any more.
fn departures(picture: &Picture) -> impl Iterator<Item = Step> + '_ {
    let holds = |node: NodeId| {
        let mut replicas = picture.shards.values().flat_map(|shard| &shard.replicas);
        replicas.any(|replica| replica.node == node)
    };
    picture
        .nodes
        .iter()
        .filter(move |(id, node)| node.state == NodeState::Decommissioning && !holds(**id))
        .map(|(node, _)| Step::Leave { node: *node })
}

#[cfg(test)]
mod tests;
