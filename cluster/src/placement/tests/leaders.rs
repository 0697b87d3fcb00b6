//! Who is to lead.

use super::*;

#[test]
fn leaders_leave_nodes_that_drain_all_at_once() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let mut picture = three((0..4).map(|_| shard(3, all())).collect());
    picture.nodes.get_mut(&NodeId(3)).unwrap().draining = true;
    picture.shards.values_mut().for_each(|shard| shard.led_ms = 0);
    assert_eq!(steps(&picture), [lead(1, 3, 1), lead(2, 3, 2), lead(3, 3, 1), lead(4, 3, 2)]);
}

#[test]
fn leaders_go_home_and_stay_there() {
    let mut home = shard(1, vec![voter(1), voter(2), voter(3)]);
    home.home_region = "b".to_owned();
    let mut picture = three(vec![home]);
    assert_eq!(steps(&picture), [lead(1, 1, 2)]);
    picture.shards.get_mut(&GROUP).unwrap().leader = Some(NodeId(2));
    assert_eq!(steps(&picture), []);
    // Home is dead: anybody leads meanwhile, and nobody is moved about.
    picture.shards.get_mut(&GROUP).unwrap().leader = Some(NodeId(1));
    picture.nodes.get_mut(&NodeId(2)).unwrap().silent_ms = 10_000;
    assert_eq!(steps(&picture), []);
}

#[test]
fn leaders_are_spread_evenly_and_do_not_flap() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let mut picture = three((0..6).map(|_| shard(1, all())).collect());
    let mut rounds = 0;
    loop {
        let taken = steps(&picture);
        assert!(taken.len() <= Rules::default().leader_moves_max);
        if taken.is_empty() {
            break;
        }
        for step in taken {
            let Step::MoveLeader { group, to, .. } = step else { panic!("{step:?}") };
            picture.shards.get_mut(&group).unwrap().leader = Some(to);
        }
        rounds += 1;
        assert!(rounds < 10, "leaders flap");
    }
    for node in 1..=3 {
        let leads = picture.shards.values().filter(|s| s.leader == Some(NodeId(node))).count();
        assert_eq!(leads, 2, "node {node}");
    }
    // One that has just come is not sent on.
    let mut fresh = three((0..6).map(|_| shard(1, all())).collect());
    fresh.shards.values_mut().for_each(|shard| shard.led_ms = 1_000);
    assert_eq!(steps(&fresh), []);
}

#[test]
fn a_node_that_has_just_lost_a_leadership_is_given_none_for_balance() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let trust_ms = Rules::default().leader_trust_ms;
    // Of six groups node 3 leads none; its links come and go.
    let mut picture = three((0..6).map(|at| shard(1 + at % 2, all())).collect());
    let deposed = |picture: &mut Picture, node: u64, ms| {
        picture.nodes.get_mut(&NodeId(node)).unwrap().deposed_ms = Some(ms);
    };
    deposed(&mut picture, 3, trust_ms - 1);
    assert_eq!(steps(&picture), []);
    // Nor because it is where a shard's home is.
    let at_home = picture.shards.get_mut(&GROUP).unwrap();
    at_home.home_region = "c".to_owned();
    assert_eq!(steps(&picture), []);
    // What it leads stays, and where somebody must, it leads.
    at_home_of_none(&mut picture);
    deposed(&mut picture, 1, 0);
    deposed(&mut picture, 2, 0);
    assert_eq!(steps(&picture), []);
    for node in [1, 2] {
        picture.nodes.get_mut(&NodeId(node)).unwrap().draining = true;
    }
    assert_eq!(steps(&picture).len(), 6);
    for node in [1, 2] {
        picture.nodes.get_mut(&NodeId(node)).unwrap().draining = false;
    }
    deposed(&mut picture, 3, trust_ms);
    assert_eq!(steps(&picture).len(), Rules::default().leader_moves_max);
}

fn at_home_of_none(picture: &mut Picture) {
    picture.shards.values_mut().for_each(|shard| shard.home_region.clear());
}

/// A shard that had just been handed over rested, and another was handed to an old node in its
/// stead; when it had rested, it was moved, too.
#[test]
fn a_shard_that_rests_is_waited_for_where_it_has_the_better_place() {
    let at = |leader: u64, nodes: [u64; 3]| shard(leader, nodes.map(voter).into());
    let shards = [[1, 2, 3], [2, 3, 4], [3, 4, 1], [4, 1, 2]].repeat(2).into_iter();
    let leaders = [2, 2, 1, 2, 2, 3, 3, 1];
    let shards = shards.zip(leaders).map(|(nodes, leader)| at(leader, nodes));
    let mut picture = three(shards.collect());
    picture.nodes.insert(NodeId(4), node("d"));
    let rest = |picture: &mut Picture, led_ms: u64| {
        let shards = picture.shards.values_mut();
        shards.filter(|shard| shard.replicas.contains(&voter(4))).for_each(|s| s.led_ms = led_ms);
    };
    rest(&mut picture, 1_000);
    assert_eq!(steps(&picture), []);
    rest(&mut picture, 60_000);
    assert_eq!(steps(&picture), [lead(2, 2, 4), lead(4, 2, 4)]);
}
