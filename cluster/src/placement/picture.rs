//! The picture: the directory's rows, and what the nodes said of themselves.

use std::collections::BTreeMap;

use cardea_raft::{GroupId, NodeId, ReplicaId};

use super::{NodePicture, Picture, ReplicaPicture, ShardPicture};
use crate::{
    directory::{
        DirectoryView,
        records::{NodeState, PlacementRecord, ReplicaRecord, ReplicaRole},
    },
    service::proto::{ReplicaReport, StatusResponse},
};

/// Entries that a replica may lack and still count as caught up.
const LAG_MAX: u64 = 5_000;
/// The placement of a row that says none.
const VOTERS: u32 = 3;

/// What is known of the nodes.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// What each node said of itself when it last answered.
    pub(crate) reports: BTreeMap<NodeId, StatusResponse>,
    /// Milliseconds since each node answered; nodes that never did are absent.
    pub(crate) silent_ms: BTreeMap<NodeId, u64>,
    /// Milliseconds that the observer has been observing.
    pub(crate) observing_ms: u64,
    /// Milliseconds that the observer has known each node's row.
    pub(crate) known_ms: BTreeMap<NodeId, u64>,
    /// Milliseconds that a node has answered without naming a replica that it
    /// should have.
    pub(crate) missing_ms: BTreeMap<(GroupId, ReplicaId), u64>,
    /// Milliseconds since each group got the leader that it has.
    pub(crate) led_ms: BTreeMap<GroupId, u64>,
    /// Milliseconds since each node lost a leadership that it had not handed over.
    pub(crate) deposed_ms: BTreeMap<NodeId, u64>,
}

impl Observed {
    /// The node that leads a group, by what was said last.
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        leader(self.replicas(group))
    }

    /// Whether a node answered, and did not name this replica.
    pub(crate) fn lacks(&self, group: GroupId, replica: ReplicaId, node: NodeId) -> bool {
        self.reports.get(&node).is_some_and(|report| {
            !report.of_group(group).iter().any(|found| found.replica == replica.0)
        })
    }

    /// For how long a node has been silent. One of which nothing was ever heard has been so
    /// since its row was first seen: it may only just have come.
    fn silent_ms(&self, node: NodeId) -> u64 {
        let heard = self.silent_ms.get(&node);
        heard.or_else(|| self.known_ms.get(&node)).copied().unwrap_or(self.observing_ms)
    }

    fn replicas(&self, group: GroupId) -> impl Iterator<Item = (NodeId, &ReplicaReport)> + Clone {
        self.reports.iter().flat_map(move |(node, report)| {
            report.of_group(group).iter().map(|report| (*node, report))
        })
    }
}

/// The node that leads a group, by what nodes said of their replicas: in the newest term
/// whoever says so, or is named by one that follows it and was heard of since.
pub(crate) fn leader<'a>(
    said: impl Iterator<Item = (NodeId, &'a ReplicaReport)> + Clone,
) -> Option<NodeId> {
    let term = said.clone().map(|(_, report)| report.term).max()?;
    let of_term = || said.clone().filter(|(_, report)| report.term == term);
    let leads = of_term().find(|(_, report)| report.leads).map(|(node, _)| node);
    leads.or_else(|| of_term().find_map(|(_, report)| report.leader_node.map(NodeId)))
}

/// Puts rows and reports together.
pub fn picture(view: &DirectoryView, observed: &Observed) -> Picture {
    let nodes = view
        .members()
        .map(|(id, record)| {
            let report = observed.reports.get(&id);
            let picture = NodePicture {
                region: record.region.clone(),
                zone: record.zone.clone(),
                state: record.state(),
                silent_ms: observed.silent_ms(id),
                draining: record.state() != NodeState::Live
                    || report.is_some_and(|report| report.draining),
                disk_hangs: report.is_some_and(|report| report.disk_hangs),
                disk_full: report.is_some_and(|report| report.disk_full),
                deposed_ms: observed.deposed_ms.get(&id).copied(),
            };
            (id, picture)
        })
        .collect();
    let shards = view
        .shards
        .iter()
        .map(|(group, shard)| {
            let leader = observed.leader(*group);
            let picture = ShardPicture {
                placement: shard
                    .placement
                    .clone()
                    .unwrap_or(PlacementRecord { voters: VOTERS, ..PlacementRecord::default() }),
                home_region: shard.home_region.clone(),
                replicas: shard
                    .replicas
                    .iter()
                    .map(|record| replica(record, *group, leader, observed))
                    .collect(),
                leader,
                led_ms: observed.led_ms.get(group).copied().unwrap_or(0),
                generation: shard.generation,
                formed: shard.formed,
            };
            (*group, picture)
        })
        .collect();
    Picture { nodes, shards }
}

fn replica(
    record: &ReplicaRecord,
    group: GroupId,
    leader: Option<NodeId>,
    observed: &Observed,
) -> ReplicaPicture {
    let reports = || observed.replicas(group);
    let own = reports()
        .find(|(node, report)| *node == record.on() && report.replica == record.id)
        .map(|(_, report)| report);
    let led = reports().find(|(node, _)| Some(*node) == leader).map(|(_, report)| report);
    let committed = led.and_then(|report| report.committed).unwrap_or(0);
    let applied = own.and_then(|report| report.applied);
    let is_heard = observed.reports.contains_key(&record.on());
    // The leader knows, but while it changes.
    let voters = led.map(|report| &report.voters).filter(|voters| !voters.is_empty());
    ReplicaPicture {
        id: record.replica(),
        node: record.on(),
        role: record.role(),
        votes: voters.is_none_or(|voters| voters.contains(&record.id))
            && match own {
                Some(report) => !report.learner && report.committed.is_some(),
                // One that was never heard of is taken for what it is meant to be.
                None => !is_heard && record.role() == ReplicaRole::Voter,
            },
        caught_up: applied.is_some_and(|applied| applied + LAG_MAX >= committed),
        missing_ms: observed.missing_ms.get(&(group, record.replica())).copied().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DIRECTORY,
        directory::records::{NodeRecord, ShardRecord},
        placement::{RoleChange, Rules, Step, plan},
    };

    const GROUP: GroupId = GroupId(1);

    /// Of one replica on each node, with ten times its id.
    fn view(roles: &[(u64, NodeState, ReplicaRole)]) -> DirectoryView {
        let mut view = DirectoryView::default();
        for (id, state, _) in roles {
            let record = NodeRecord { state: (*state).into(), ..NodeRecord::default() };
            view.nodes.insert(NodeId(*id), record);
        }
        let replicas = roles.iter().map(|(node, _, role)| ReplicaRecord {
            id: 10 * node,
            node: *node,
            role: (*role).into(),
        });
        let shard = ShardRecord {
            replicas: replicas.collect(),
            generation: 7,
            formed: true,
            ..ShardRecord::default()
        };
        view.shards.insert(GROUP, shard);
        view
    }

    fn report(node: u64, leader: u64, voters: &[u64]) -> StatusResponse {
        let replica = ReplicaReport {
            group: GROUP.0,
            replica: 10 * node,
            leads: node == leader,
            applied: Some(9),
            committed: Some(9),
            voters: voters.to_vec(),
            ..ReplicaReport::default()
        };
        StatusResponse { node, replicas: vec![replica], ..StatusResponse::default() }
    }

    /// Found by simulation, seed 113: a voter was to be replaced by one on a node that was
    /// lost just then, and the observer had never heard of that node: it took the new one
    /// for a voter, and waited without end for the old one to leave.
    #[test]
    fn a_voter_to_be_on_a_node_never_heard_of_is_given_up_if_the_leader_has_it_not() {
        let (live, going) = (NodeState::Live, NodeState::Decommissioning);
        let (votes, leaves) = (ReplicaRole::Voter, ReplicaRole::Leaving);
        let view =
            view(&[(1, live, votes), (2, live, leaves), (3, going, votes), (4, live, votes)]);
        let mut observed = Observed { observing_ms: 600_000, ..Observed::default() };
        for node in [1, 2, 4] {
            observed.silent_ms.insert(NodeId(node), 0);
            observed.reports.insert(NodeId(node), report(node, 1, &[10, 20, 40]));
        }
        let change = RoleChange { replica: ReplicaId(30), role: leaves };
        // The other stays, for it votes.
        let back = RoleChange { replica: ReplicaId(20), role: votes };
        let gives_up = Step::SetRoles { group: GROUP, generation: 7, changes: vec![change, back] };
        assert_eq!(plan(&picture(&view, &observed), &Rules::default()), [gives_up]);

        // While the leader's membership changes, nobody knows, and all is waited for.
        for node in [1, 2, 4] {
            observed.reports.insert(NodeId(node), report(node, 1, &[]));
        }
        assert_eq!(plan(&picture(&view, &observed), &Rules::default()), []);
    }

    /// A node that came to a cluster older than [`Rules::dead_after_ms`] was taken for one that
    /// had been silent all that time: it lost its replica of the directory as it got it, and
    /// stayed on the threshold for good.
    #[test]
    fn a_node_that_has_just_come_to_an_old_cluster_is_waited_for() {
        let (live, joins) = (NodeState::Live, NodeState::Joining);
        let (votes, follows) = (ReplicaRole::Voter, ReplicaRole::Learner);
        let mut view =
            view(&[(1, live, votes), (2, live, votes), (3, live, votes), (4, joins, follows)]);
        let shard = view.shards.remove(&GROUP).unwrap();
        view.shards.insert(DIRECTORY, shard);
        let mut observed = Observed { observing_ms: 600_000, ..Observed::default() };
        for node in [1, 2, 3] {
            let mut report = report(node, 1, &[10, 20, 30]);
            report.replicas[0].group = DIRECTORY.0;
            observed.reports.insert(NodeId(node), report);
            observed.silent_ms.insert(NodeId(node), 0);
        }
        let steps = |observed: &Observed| plan(&picture(&view, observed), &Rules::default());
        observed.known_ms.insert(NodeId(4), 20);
        assert_eq!(steps(&observed), []);

        // One that never answers does not stay for good.
        observed.known_ms.insert(NodeId(4), 600_000);
        let change = RoleChange { replica: ReplicaId(40), role: ReplicaRole::Leaving };
        let gives_up = Step::SetRoles { group: DIRECTORY, generation: 7, changes: vec![change] };
        assert_eq!(steps(&observed), [gives_up]);
    }

    #[test]
    fn what_a_node_says_of_its_disk_is_seen() {
        let view = view(&[(1, NodeState::Live, ReplicaRole::Voter)]);
        for (disk_full, disk_hangs) in [(false, false), (true, false), (false, true)] {
            let said = StatusResponse { disk_full, disk_hangs, ..report(1, 1, &[10]) };
            let reports = BTreeMap::from([(NodeId(1), said)]);
            let seen = picture(&view, &Observed { reports, ..Observed::default() });
            let node = &seen.nodes[&NodeId(1)];
            assert_eq!((node.disk_full, node.disk_hangs), (disk_full, disk_hangs));
        }
    }

    /// For as long as a node had not heard of a new leader, it took a shard for one without,
    /// or the one before for its leader, though its own replica knew better.
    #[test]
    fn a_leader_that_was_not_heard_of_since_it_leads_is_named_by_who_follows_it() {
        let said = |node, term, leader_node| {
            let leads = leader_node == Some(node);
            let replica =
                ReplicaReport { group: 1, term, leads, leader_node, ..ReplicaReport::default() };
            (NodeId(node), replica)
        };
        let leader = |own| {
            let said = [said(1, 7, Some(1)), own, said(3, 7, Some(1))];
            leader(said.iter().map(|(node, replica)| (*node, replica)))
        };
        assert_eq!(leader(said(2, 7, Some(1))), Some(NodeId(1)));
        assert_eq!(leader(said(2, 8, Some(3))), Some(NodeId(3)));
        assert_eq!(leader(said(2, 8, Some(2))), Some(NodeId(2)));
        // They vote, and the leader of before has lost its office.
        assert_eq!(leader(said(2, 8, None)), None);
    }
}
