//! What the machines of a world show to somebody who sees them all at once.

use std::{collections::BTreeMap, sync::Arc};

use cardea_cluster::{Member, NodeId, directory::records::NodeState, runtime::VERSION_MAX};
use cardea_raft::{Position, ReplicaId};

use super::{invariant::Seen, machine::Machine, parameters::Parameters, time::EPOCH_MS};
use crate::history::Violation;

/// Entries of a log that are shown.
const LOG_SHOWN: u64 = 24;

/// The processes that are members.
pub fn members(machines: &[Machine]) -> Vec<Arc<Member>> {
    machines.iter().filter_map(|machine| machine.node()?.member()).collect()
}

/// What all running replicas show.
///
/// # Errors
/// If a log cannot be read on a disk that is well.
pub fn look(machines: &[Machine], now: u64) -> Result<Vec<Seen>, Violation> {
    let mut all = Vec::new();
    for machine in machines {
        let Some(process) = machine.process.as_ref().map(|process| process.number) else {
            continue;
        };
        let Some(member) = machine.node().and_then(|node| node.member()) else { continue };
        for replica in member.replicas() {
            let group = replica.group();
            let Some(status) = member.host().status(group) else { continue };
            let log_from = status.last_log.unwrap_or(0).saturating_sub(LOG_SHOWN);
            let log = match member.host().log_positions(group, log_from) {
                Ok(Some(log)) => log,
                Ok(None) => continue,
                Err(_) if machine.doomed => continue,
                Err(fault) => {
                    return Err(Violation(format!("no fault of its own: {}", chain(&fault))));
                }
            };
            let state = replica.machine().state();
            all.push(Seen {
                machine: machine.number,
                process,
                group,
                replica: replica.id(),
                status,
                applied: state.position.map(|at| Position {
                    term: at.term,
                    replica: ReplicaId(at.replica),
                    index: at.index,
                }),
                now: state.now,
                true_now: EPOCH_MS + now,
                digest: state.digest.to_vec(),
                log,
                log_from,
            });
        }
    }
    Ok(all)
}

/// Whether a node has left for good, as all members know.
pub fn has_left(machines: &[Machine], node: NodeId) -> bool {
    members(machines).iter().all(|member| {
        let view = member.directory().view();
        view.nodes.get(&node).is_some_and(|row| row.state() == NodeState::Decommissioned)
    })
}

/// Whether every machine's own row says that it is live.
pub fn are_live(machines: &[Machine]) -> bool {
    let members = members(machines);
    members.len() == machines.len() && members.iter().all(|member| is_live(member))
}

/// Whether a node's own row says that it is live.
pub fn is_live(member: &Member) -> bool {
    let view = member.directory().view();
    view.nodes.get(&member.node()).is_some_and(|row| row.state() == NodeState::Live)
}

/// Whether all machines are members and every shard has a leader and three voters.
pub fn is_formed(machines: &[Machine], parameters: &Parameters) -> bool {
    let members = members(machines);
    let has_leader = |group| {
        members.iter().any(|member| {
            member.host().status(group).is_some_and(|status| {
                // Not committed, three voters may still be one, who may be lost.
                let votes = status.voters.len() >= 3 && !status.joint;
                status.leads() && votes && status.membership_committed
            })
        })
    };
    members.len() == machines.len()
        && members.iter().all(|member| {
            let view = member.directory().view();
            view.nodes.len() >= machines.len()
                && view.shards.len() == usize::from(parameters.home_shards) + 3
                && view
                    .shards
                    .iter()
                    .all(|(group, shard)| shard.replicas.len() >= 3 && has_leader(*group))
        })
}

/// Whether the cluster is of the newest version, and all its indexes are whole, as all
/// members know.
pub fn is_indexed(machines: &[Machine]) -> bool {
    members(machines).iter().all(|member| {
        let view = member.directory().view();
        view.version() == VERSION_MAX && view.lacking().is_empty()
    })
}

/// Whether all replicas of each group have applied the same, and know the same members.
pub fn is_in_step(machines: &[Machine]) -> bool {
    let mut states: BTreeMap<u64, Vec<_>> = BTreeMap::new();
    for member in members(machines) {
        for replica in member.replicas() {
            let state = replica.machine().state();
            let members = member.host().status(replica.group()).unwrap_or_default();
            let members = (members.voters, members.learners, members.joint);
            let of_group = states.entry(replica.group().0).or_default();
            of_group.push((state.position, state.digest, members));
        }
    }
    states.values().all(|states| states.windows(2).all(|pair| pair[0] == pair[1]))
}

/// What stands in the way of health, for a message.
pub fn describe(machines: &[Machine]) -> String {
    let mut words = Vec::new();
    for machine in machines {
        let Some(member) = machine.node().and_then(|node| node.member()) else {
            words.push(format!("n{} is no member", machine.number));
            continue;
        };
        for replica in member.replicas() {
            let group = replica.group();
            let status = member.host().status(group).unwrap_or_default();
            words.push(format!(
                "n{} {group} {:?} term {} leader {:?} last {:?} applied {:?} of {} voters",
                machine.number,
                status.role,
                status.term,
                status.leader.map(|(_, node)| node.0),
                status.last_log,
                status.applied,
                status.voters.len()
            ));
        }
    }
    words.join("; ")
}

/// An error and what is behind it.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
