//! Tables of cases: a cluster, and the steps that follow.

use super::*;
use crate::{DIRECTORY, directory::records::Survive};

mod joining;
mod leaders;

const GROUP: GroupId = GroupId(1);

fn node(region: &str) -> NodePicture {
    NodePicture {
        region: region.to_owned(),
        zone: String::new(),
        state: NodeState::Live,
        silent_ms: 0,
        draining: false,
        disk_hangs: false,
        disk_full: false,
        deposed_ms: None,
    }
}

fn voter(node: u64) -> ReplicaPicture {
    replica(node, ReplicaRole::Voter, true)
}

fn learner(node: u64) -> ReplicaPicture {
    replica(node, ReplicaRole::Learner, false)
}

/// A replica with ten times the id of its node.
fn replica(node: u64, role: ReplicaRole, votes: bool) -> ReplicaPicture {
    ReplicaPicture {
        id: ReplicaId(10 * node),
        node: NodeId(node),
        role,
        votes,
        caught_up: true,
        missing_ms: 0,
    }
}

fn shard(leader: u64, replicas: Vec<ReplicaPicture>) -> ShardPicture {
    ShardPicture {
        placement: PlacementRecord {
            survive: Survive::Node.into(),
            within_region: String::new(),
            voters: 3,
        },
        home_region: String::new(),
        replicas,
        leader: Some(NodeId(leader)),
        led_ms: 60_000,
        generation: 7,
        formed: true,
    }
}

fn picture_of(nodes: &[(u64, &str)], shards: Vec<ShardPicture>) -> Picture {
    Picture {
        nodes: nodes.iter().map(|(id, region)| (NodeId(*id), node(region))).collect(),
        shards: (1..).map(GroupId).zip(shards).collect(),
    }
}

fn three(shards: Vec<ShardPicture>) -> Picture {
    picture_of(&[(1, "a"), (2, "b"), (3, "c")], shards)
}

fn steps(picture: &Picture) -> Vec<Step> {
    plan(picture, &Rules::default())
}

fn add(node: u64) -> Step {
    Step::AddReplica { group: GROUP, generation: 7, node: NodeId(node) }
}

fn roles(changes: &[(u64, ReplicaRole)]) -> Step {
    roles_of(GROUP, changes)
}

fn roles_of(group: GroupId, changes: &[(u64, ReplicaRole)]) -> Step {
    let of = |(node, role): &(u64, ReplicaRole)| RoleChange {
        replica: ReplicaId(10 * node),
        role: *role,
    };
    Step::SetRoles { group, generation: 7, changes: changes.iter().map(of).collect() }
}

fn lead(group: u64, from: u64, to: u64) -> Step {
    Step::MoveLeader { group: GroupId(group), from: NodeId(from), to: NodeId(to) }
}

use ReplicaRole::{Learner, Leaving, Voter};

#[test]
fn as_many_voters_as_make_sense() {
    for (group, placed, nodes, wanted) in [
        (GROUP, 3, 1, 1),
        (GROUP, 3, 2, 1),
        (GROUP, 3, 3, 3),
        (GROUP, 3, 9, 3),
        (GROUP, 5, 4, 3),
        (GROUP, 1, 9, 1),
        (GROUP, 0, 9, 1),
        (DIRECTORY, 3, 3, 3),
        (DIRECTORY, 3, 4, 3),
        (DIRECTORY, 3, 5, 5),
        (DIRECTORY, 3, 9, 5),
        (DIRECTORY, 1, 9, 1),
    ] {
        assert_eq!(voters_wanted(group, placed, nodes), wanted, "{group} {placed} {nodes}");
    }
}

#[test]
fn a_shard_grows_to_three_by_learners_who_are_promoted_together() {
    assert_eq!(steps(&three(vec![shard(1, vec![voter(1)])])), [add(2)]);
    assert_eq!(steps(&three(vec![shard(1, vec![voter(1), learner(2)])])), [add(3)]);
    let mut late = learner(3);
    late.caught_up = false;
    assert_eq!(steps(&three(vec![shard(1, vec![voter(1), learner(2), late])])), []);
    let all = three(vec![shard(1, vec![voter(1), learner(2), learner(3)])]);
    assert_eq!(steps(&all), [roles(&[(2, Voter), (3, Voter)])]);
}

#[test]
fn what_is_as_it_should_be_is_left_alone() {
    let settled = vec![
        shard(1, vec![voter(1), voter(2), voter(3)]),
        shard(2, vec![voter(1), voter(2), voter(3)]),
        shard(3, vec![voter(1), voter(2), voter(3)]),
    ];
    assert_eq!(steps(&three(settled)), []);
}

#[test]
fn a_change_that_is_under_way_is_waited_for() {
    let coming = replica(3, Voter, false);
    let leaving = replica(3, Leaving, true);
    for third in [coming, leaving] {
        let mut picture = three(vec![shard(1, vec![voter(1), voter(2), third])]);
        picture.nodes.insert(NodeId(4), node("d"));
        assert_eq!(steps(&picture), []);
    }
}

/// Whoever is filled may well be too slow for it, and would else begin anew for ever.
#[test]
fn a_node_whose_disk_hangs_goes_on_with_what_it_was_given_and_gets_no_more() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let nodes = [(1, "a"), (2, "b"), (3, "c"), (4, "a")];
    let mut picture = picture_of(&nodes, (0..4).map(|_| shard(2, all())).collect());
    assert!(steps(&picture).contains(&add(4)));
    picture.nodes.get_mut(&NodeId(4)).unwrap().disk_hangs = true;
    let adds = |picture: &Picture| {
        steps(picture).iter().any(|step| matches!(step, Step::AddReplica { .. }))
    };
    assert!(!adds(&picture));

    let shards = &mut picture.shards;
    shards
        .get_mut(&GROUP)
        .unwrap()
        .replicas
        .push(ReplicaPicture { caught_up: false, ..learner(4) });
    let of_the_shard = |picture: &Picture| {
        let mut steps = steps(picture);
        steps.retain(|step| matches!(step, Step::SetRoles { .. }));
        steps
    };
    assert_eq!(of_the_shard(&picture), []);
    assert!(!adds(&picture));
    picture.shards.get_mut(&GROUP).unwrap().replicas[3].caught_up = true;
    assert_eq!(of_the_shard(&picture), [roles(&[(4, Voter), (1, Leaving)])]);
    // Who drains gives it back.
    picture.nodes.get_mut(&NodeId(4)).unwrap().draining = true;
    assert_eq!(of_the_shard(&picture), [roles(&[(4, Leaving)])]);
}

#[test]
fn voters_are_spread_over_regions_first() {
    let nodes = [(1, "a"), (2, "a"), (3, "a"), (4, "b"), (5, "c")];
    let picture = picture_of(&nodes, vec![shard(1, vec![voter(1), voter(2), voter(3)])]);
    assert_eq!(steps(&picture), [add(4)]);
    let mut half = vec![voter(1), voter(2), voter(3), learner(4)];
    let picture = picture_of(&nodes, vec![shard(1, half.clone())]);
    assert_eq!(steps(&picture), [roles(&[(4, Voter), (2, Leaving)])]);
    half.remove(1);
    half[2] = voter(4);
    let picture = picture_of(&nodes, vec![shard(1, half)]);
    assert_eq!(steps(&picture), [add(5)]);
}

#[test]
fn zones_count_where_zones_are_to_be_survived() {
    let mut picture = picture_of(
        &[(1, "a"), (2, "a"), (3, "a"), (4, "a")],
        vec![shard(1, vec![voter(1), voter(2), voter(3)])],
    );
    for (id, zone) in [(1, "x"), (2, "x"), (3, "y"), (4, "z")] {
        zone.clone_into(&mut picture.nodes.get_mut(&NodeId(id)).unwrap().zone);
    }
    picture.shards.get_mut(&GROUP).unwrap().placement.survive = Survive::Zone.into();
    assert_eq!(steps(&picture), [add(4)]);
    picture.shards.get_mut(&GROUP).unwrap().replicas.push(learner(4));
    assert_eq!(steps(&picture), [roles(&[(4, Voter), (2, Leaving)])]);
}

#[test]
fn data_that_stays_in_a_region_never_leaves_it() {
    let nodes = [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "a")];
    let mut kept = shard(1, vec![voter(1), voter(2)]);
    kept.placement.within_region = "a".to_owned();
    assert_eq!(steps(&picture_of(&nodes, vec![kept.clone()])), [add(5)]);
    let mut picture = picture_of(&nodes, vec![kept]);
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 600_000;
    // No third node there: nobody from elsewhere takes the place.
    picture.nodes.remove(&NodeId(5));
    assert_eq!(steps(&picture), []);
}

#[test]
fn a_dead_node_is_replaced_after_its_time_and_not_before() {
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), voter(3)])]);
    picture.nodes.insert(NodeId(4), node("d"));
    let silent = |picture: &mut Picture, ms| {
        picture.nodes.get_mut(&NodeId(3)).unwrap().silent_ms = ms;
        picture.shards.get_mut(&GROUP).unwrap().replicas[2].caught_up = false;
    };
    silent(&mut picture, 299_000);
    assert_eq!(steps(&picture), []);
    silent(&mut picture, 301_000);
    assert_eq!(steps(&picture), [add(4)]);
    picture.shards.get_mut(&GROUP).unwrap().replicas.push(learner(4));
    assert_eq!(steps(&picture), [roles(&[(4, Voter), (3, Leaving)])]);
}

#[test]
fn without_a_node_to_take_its_place_a_dead_voter_stays() {
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), voter(3)])]);
    picture.nodes.get_mut(&NodeId(3)).unwrap().silent_ms = 600_000;
    assert_eq!(steps(&picture), []);
}

#[test]
fn no_change_is_begun_that_the_living_could_not_carry() {
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), voter(3), learner(4)])]);
    picture.nodes.insert(NodeId(4), node("d"));
    picture.nodes.get_mut(&NodeId(3)).unwrap().silent_ms = 600_000;
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 10_000;
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 0;
    assert_eq!(steps(&picture), [roles(&[(4, Voter), (3, Leaving)])]);
}

#[test]
fn a_learner_on_a_node_that_died_is_given_up() {
    let mut late = learner(4);
    late.caught_up = false;
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), voter(3), late])]);
    picture.nodes.insert(NodeId(4), node("d"));
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(4)).unwrap().silent_ms = 600_000;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving)])]);
}

/// Found by simulation: a learner had caught up and was to vote when its machine was
/// lost. It counted as caught up for ever, so it was waited for, for ever.
#[test]
fn who_had_caught_up_and_was_to_vote_on_a_node_that_is_lost_is_given_up() {
    let replicas = vec![voter(1), voter(2), voter(3), replica(4, Voter, false)];
    let mut picture = three(vec![shard(1, replicas)]);
    picture.nodes.insert(NodeId(4), node("d"));
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(4)).unwrap().state = NodeState::Decommissioning;
    // It answers: it is about to vote, and then another takes its place.
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(4)).unwrap().silent_ms = 10_000;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving)])]);
}

/// Two voters were left, and none of them to spare, where three were well.
#[test]
fn who_was_to_make_room_for_a_voter_that_is_lost_stays() {
    let mut coming = replica(4, Voter, false);
    coming.caught_up = false;
    let replicas = vec![voter(1), voter(2), replica(3, Leaving, true), coming];
    let mut picture = three(vec![shard(1, replicas)]);
    picture.nodes.insert(NodeId(4), node("d"));
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(4)).unwrap().silent_ms = 600_000;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving), (3, Voter)])]);
    // Not one whose node goes, or that does not vote any more.
    picture.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Decommissioning;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving)])]);
    picture.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Live;
    picture.shards.get_mut(&GROUP).unwrap().replicas[2].votes = false;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving)])]);
    // Nor for a learner: nobody was to make room for it.
    picture.shards.get_mut(&GROUP).unwrap().replicas[2].votes = true;
    picture.shards.get_mut(&GROUP).unwrap().replicas[3].role = Learner;
    assert_eq!(steps(&picture), [roles(&[(4, Leaving)])]);
}

#[test]
fn a_voter_whose_state_was_lost_makes_room_for_a_new_one_on_the_same_node() {
    let mut lost = replica(3, Voter, false);
    lost.caught_up = false;
    lost.missing_ms = 299_000;
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), lost])]);
    assert_eq!(steps(&picture), []);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas[2].missing_ms = 301_000;
    assert_eq!(steps(&picture), [roles(&[(3, Leaving)])]);
    // Not while the others are no majority.
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 10_000;
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 0;
    picture.shards.get_mut(&GROUP).unwrap().replicas.pop();
    assert_eq!(steps(&picture), [add(3)]);
}

#[test]
fn a_node_that_is_to_go_is_emptied_and_then_has_left() {
    let mut picture = three(vec![shard(3, vec![voter(1), voter(2), voter(3)])]);
    picture.nodes.insert(NodeId(4), node("d"));
    picture.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Decommissioning;
    // A learner comes; the lead goes at once.
    assert_eq!(steps(&picture), [add(4), lead(1, 3, 1)]);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas.push(learner(4));
    assert_eq!(steps(&picture), [lead(1, 3, 1)]);
    picture.shards.get_mut(&GROUP).unwrap().leader = Some(NodeId(1));
    assert_eq!(steps(&picture), [roles(&[(4, Voter), (3, Leaving)])]);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas = vec![voter(1), voter(2), voter(4)];
    assert_eq!(steps(&picture), [Step::Leave { node: NodeId(3) }]);
}

#[test]
fn a_node_that_goes_by_force_leaves_fewer_voters() {
    let mut picture = three(vec![shard(1, vec![voter(1), voter(2), voter(3)])]);
    picture.nodes.get_mut(&NodeId(3)).unwrap().state = NodeState::Decommissioning;
    // Two places are left, for which one voter is wanted; two are kept.
    assert_eq!(steps(&picture), [roles(&[(3, Leaving)])]);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas.pop();
    assert_eq!(steps(&picture), [Step::Leave { node: NodeId(3) }]);
    picture.nodes.remove(&NodeId(3));
    assert_eq!(steps(&picture), []);
}

#[test]
fn the_only_voter_of_a_node_that_goes_leads_until_another_votes() {
    let mut picture = picture_of(&[(1, "a"), (2, "a")], vec![shard(1, vec![voter(1)])]);
    picture.nodes.get_mut(&NodeId(1)).unwrap().state = NodeState::Decommissioning;
    assert_eq!(steps(&picture), [add(2)]);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas.push(learner(2));
    assert_eq!(steps(&picture), [roles(&[(2, Voter)])]);
    let group = picture.shards.get_mut(&GROUP).unwrap();
    group.replicas[1] = voter(2);
    assert_eq!(steps(&picture), [lead(1, 1, 2)]);
    picture.shards.get_mut(&GROUP).unwrap().leader = Some(NodeId(2));
    assert_eq!(steps(&picture), [roles(&[(1, Leaving)])]);
}

#[test]
fn every_node_keeps_the_directory_and_five_vote_on_it() {
    let nodes = [(1, "a"), (2, "b"), (3, "c"), (4, "a"), (5, "b"), (6, "c")];
    let mut directory =
        shard(1, vec![voter(1), voter(2), voter(3), learner(4), learner(5), learner(6)]);
    let mut picture = picture_of(&nodes, Vec::new());
    picture.shards.insert(DIRECTORY, directory.clone());
    assert_eq!(steps(&picture), [roles_of(DIRECTORY, &[(4, Voter), (5, Voter)])]);
    directory.replicas[3] = voter(4);
    directory.replicas[4] = voter(5);
    picture.shards.insert(DIRECTORY, directory.clone());
    assert_eq!(steps(&picture), []);
    // One of the voters goes: the sixth takes its vote.
    picture.nodes.get_mut(&NodeId(2)).unwrap().state = NodeState::Decommissioning;
    assert_eq!(steps(&picture), [roles_of(DIRECTORY, &[(6, Voter), (2, Leaving)])]);
}

/// Its replica of the directory was given up like all others. A node that came back from a
/// long repair then heard of nothing any more: it served nobody, and was given replicas, again
/// and again, that it did not know of.
#[test]
fn a_node_that_is_silent_for_long_keeps_the_directory() {
    let nodes = [(1, "a"), (2, "b"), (3, "c"), (4, "d")];
    let mut late = learner(4);
    late.caught_up = false;
    let mut picture = picture_of(&nodes, Vec::new());
    picture.shards.insert(DIRECTORY, shard(1, vec![voter(1), voter(2), voter(3), late]));
    picture.nodes.get_mut(&NodeId(4)).unwrap().silent_ms = 600_000;
    assert_eq!(steps(&picture), []);
    picture.nodes.get_mut(&NodeId(4)).unwrap().state = NodeState::Decommissioning;
    assert_eq!(steps(&picture), [roles_of(DIRECTORY, &[(4, Leaving)])]);
    // Its vote is another's.
    let mut picture = picture_of(&nodes, Vec::new());
    picture.shards.insert(DIRECTORY, shard(1, vec![voter(1), voter(2), voter(3), learner(4)]));
    picture.nodes.get_mut(&NodeId(3)).unwrap().silent_ms = 600_000;
    assert_eq!(steps(&picture), [roles_of(DIRECTORY, &[(4, Voter), (3, Learner)])]);
    let mut promoted = replica(3, Voter, false);
    promoted.caught_up = false;
    let voters = vec![voter(1), voter(2), voter(4), promoted];
    picture.shards.insert(DIRECTORY, shard(1, voters));
    assert_eq!(steps(&picture), [roles_of(DIRECTORY, &[(3, Learner)])]);
}

#[test]
fn a_fourth_node_takes_its_share_a_few_at_a_time_and_then_it_ends() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let mut picture = three((0..8).map(|_| shard(1, all())).collect());
    picture.nodes.insert(NodeId(4), node("d"));
    let first = steps(&picture);
    let added = first.iter().filter(|step| matches!(step, Step::AddReplica { .. })).count();
    assert!(added >= 1 && added <= Rules::default().changes_max, "{first:?}");
    let mut next_id = 1_000;
    for round in 0.. {
        assert!(round < 200, "replicas flap");
        let taken = steps(&picture);
        if taken.is_empty() {
            break;
        }
        take(&mut picture, taken, &mut next_id);
    }
    let load = |node: u64| {
        let shards = picture.shards.values().flat_map(|shard| &shard.replicas);
        shards.filter(|replica| replica.node == NodeId(node)).count()
    };
    assert_eq!((1..=4).map(load).sum::<usize>(), 24);
    assert!(
        (1..=4).all(|node| (5..=7).contains(&load(node))),
        "{:?}",
        (1..=4).map(load).collect::<Vec<_>>()
    );
    assert!(picture.shards.values().all(|shard| shard.replicas.iter().all(|r| r.role == Voter)));
}

/// Carries steps out as a cluster in which everything works would.
fn take(picture: &mut Picture, steps: Vec<Step>, next_id: &mut u64) {
    for step in steps {
        match step {
            Step::AddReplica { group, node, .. } => {
                *next_id += 1;
                let shard = picture.shards.get_mut(&group).unwrap();
                shard.replicas.push(ReplicaPicture {
                    id: ReplicaId(*next_id),
                    ..replica(node.0, Learner, false)
                });
            }
            Step::SetRoles { group, changes, .. } => {
                let shard = picture.shards.get_mut(&group).unwrap();
                for change in changes {
                    let found =
                        shard.replicas.iter_mut().find(|replica| replica.id == change.replica);
                    let found = found.unwrap();
                    found.role = change.role;
                    found.votes = change.role == Voter;
                }
                shard.replicas.retain(|replica| replica.role != Leaving);
                let voters = shard.replicas.iter().filter(|replica| replica.votes).count();
                assert_eq!(voters, 3);
            }
            Step::MoveLeader { group, to, .. } => {
                picture.shards.get_mut(&group).unwrap().leader = Some(to);
            }
            Step::Leave { node } => drop(picture.nodes.remove(&node)),
        }
    }
}
