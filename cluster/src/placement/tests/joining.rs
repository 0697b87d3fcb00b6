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
