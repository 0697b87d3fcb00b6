//! A node comes.

use super::*;

/// A replica that was being filled counted on its new node, but the one it was to replace still
/// counted, too: of five shards, all five left the old node, and some were filled there again.
#[test]
fn a_node_that_comes_is_given_no_more_than_it_keeps() {
    let all = || vec![voter(1), voter(2), voter(3)];
    for shards in [1, 2, 3, 4, 5, 6, 12, 40] {
        for leader in 1..=3 {
            let mut picture = three((0..shards).map(|_| shard(leader, all())).collect());
            picture.shards.insert(DIRECTORY, shard(leader, all()));
            picture.nodes.insert(NodeId(4), node("a"));
            let (mut next_id, mut filled) = (1_000, Vec::new());
            for round in 0.. {
                assert!(round < 500, "replicas flap");
                let taken = steps(&picture);
                if taken.is_empty() {
                    // Everything is filled at the same time, when nothing else begins.
                    let replicas =
                        picture.shards.values_mut().flat_map(|shard| &mut shard.replicas);
                    let late: Vec<_> = replicas.filter(|replica| !replica.caught_up).collect();
                    if late.is_empty() {
                        break;
                    }
                    late.into_iter().for_each(|replica| replica.caught_up = true);
                    continue;
                }
                for step in &taken {
                    if let Step::AddReplica { group, node, .. } = step
                        && *group != DIRECTORY
                    {
                        filled.push(*node);
                    }
                }
                let known = next_id;
                take(&mut picture, taken, &mut next_id);
                for replica in picture.shards.values_mut().flat_map(|shard| &mut shard.replicas) {
                    replica.caught_up &= replica.id.0 <= known;
                }
            }
            let wanted = shards / 2;
            assert!((wanted..=wanted + 1).contains(&filled.len()), "{shards}: {filled:?}");
            assert!(filled.iter().all(|node| *node == NodeId(4)), "{shards}: {filled:?}");
        }
    }
}

/// Old nodes evened their leaderships among each other while the new one was being filled, and
/// handed them on to it afterwards: each time, clients wait for a new leader.
#[test]
fn leaders_are_not_moved_among_old_nodes_while_one_comes() {
    let all = || vec![voter(1), voter(2), voter(3)];
    for shards in 1..24 {
        let leads = |at: u64| 1 + at % 3;
        let mut picture = three((0..shards).map(|at| shard(leads(at), all())).collect());
        picture.shards.insert(DIRECTORY, shard(leads(shards), all()));
        picture.nodes.insert(NodeId(4), node("a"));
        let (mut next_id, mut moved) = (1_000, Vec::new());
        for round in 0.. {
            assert!(round < 500, "replicas or leaders flap");
            let taken = steps(&picture);
            let adds = taken.iter().any(|step| matches!(step, Step::AddReplica { .. }));
            let shards = picture.shards.iter().filter(|(group, _)| **group != DIRECTORY);
            let mut replicas = shards.flat_map(|(_, shard)| &shard.replicas);
            let comes = adds || replicas.any(|replica| replica.role == Learner);
            for step in &taken {
                if let Step::MoveLeader { group, from, to } = step
                    && comes
                {
                    moved.push((*group, *from, *to));
                }
            }
            let is_idle = taken.is_empty();
            let known = next_id;
            take(&mut picture, taken, &mut next_id);
            let replicas = picture.shards.values_mut().flat_map(|shard| &mut shard.replicas);
            let late: Vec<_> = replicas.filter(|replica| !replica.caught_up).collect();
            if is_idle && late.is_empty() {
                break;
            }
            late.into_iter()
                .for_each(|replica| replica.caught_up = is_idle && replica.id.0 <= known);
        }
        for (group, from, to) in &moved {
            // Where there is one shard only, it is what can be moved.
            assert!(*to == NodeId(4) || shards == 1, "{shards}: {group} {from} to {to}: {moved:?}");
        }
        let mut leads: Vec<usize> = (1..=4)
            .map(|node| picture.shards.values().filter(|s| s.leader == Some(NodeId(node))).count())
            .collect();
        leads.sort_unstable();
        assert!(leads[3] <= leads[0] + 2, "{shards}: {leads:?}");
    }
}

/// The planner moved replicas to a node whose disk was full, where they filled what was kept in
/// reserve.
#[test]
fn a_node_whose_disk_is_full_keeps_what_it_has_and_gets_no_more() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let nodes = [(1, "a"), (2, "b"), (3, "c"), (4, "a")];
    let mut picture = picture_of(&nodes, (0..4).map(|_| shard(2, all())).collect());
    let adds = |picture: &Picture| {
        steps(picture).into_iter().filter(|step| matches!(step, Step::AddReplica { .. })).count()
    };
    assert!(adds(&picture) > 0);
    picture.nodes.get_mut(&NodeId(4)).unwrap().disk_full = true;
    assert_eq!(adds(&picture), 0);
    // Nor where a voter is lost: better two than a third that cannot come.
    picture.nodes.get_mut(&NodeId(3)).unwrap().silent_ms = 600_000;
    assert_eq!(adds(&picture), 0);
    picture.nodes.get_mut(&NodeId(4)).unwrap().disk_full = false;
    assert!(adds(&picture) > 0);

    // What was under way goes on, and voters stay.
    let coming = vec![voter(1), voter(2), voter(3), learner(4)];
    let mut picture = picture_of(&nodes, vec![shard(1, coming)]);
    picture.nodes.get_mut(&NodeId(4)).unwrap().disk_full = true;
    picture.shards.get_mut(&GROUP).unwrap().replicas[3].caught_up = false;
    assert_eq!(steps(&picture), []);
    let mut settled = three(vec![shard(1, all())]);
    settled.nodes.get_mut(&NodeId(2)).unwrap().disk_full = true;
    assert_eq!(steps(&settled), []);
}

/// A node whose disk is full refused to write the shards that it led, though a majority of
/// their voters had room.
#[test]
fn leaders_leave_a_node_whose_disk_is_full_while_another_has_room() {
    let all = || vec![voter(1), voter(2), voter(3)];
    let mut picture = three(vec![shard(1, all()), shard(2, all()), shard(3, all())]);
    let mut fill = |node: u64| {
        picture.nodes.get_mut(&NodeId(node)).unwrap().disk_full = true;
        steps(&picture)
    };
    assert_eq!(fill(1), [lead(1, 1, 2)]);
    assert_eq!(fill(2), [lead(1, 1, 3), lead(2, 2, 3)]);
    // Nobody has room: nothing is gained by moving.
    assert_eq!(fill(3), []);
}
